"""A call of one endpoint: what is sent and how the answer is read, without sending anything.

`Endpoint` binds a function that builds a `Call` to a client as a method, which blocks or is awaited
as the client does. So an endpoint is written once, and both clients have it.
"""

import json
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from functools import wraps
from typing import Any, BinaryIO, Generic, ParamSpec, Protocol, Self, TypeVar, overload

import httpx
from pydantic import BaseModel, ValidationError

from service.client.errors import ProblemError, UnexpectedAnswer, problem_error
from service.client.uploads import Upload
from service.schemas import ProblemDetails

T = TypeVar("T")
P = ParamSpec("P")
ModelT = TypeVar("ModelT", bound=BaseModel)

SHOWN_CHARACTERS = 200

FormValue = str | list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Call(Generic[T]):
    """One request, and how to read its answer.

    Attributes:
        read: makes the result of the answer's body.
        repeatable: whether sending it twice does no more than sending it once.
        patient: whether a 503 is worth another attempt; where it is the answer, it is not.
        sink: where the body of a success goes as it arrives; `read` then gets no bytes.
    """

    method: str
    path: str
    read: Callable[[bytes], T]
    params: Mapping[str, FormValue] = field(default_factory=dict)
    json: Mapping[str, Any] | None = None
    form: Mapping[str, FormValue] = field(default_factory=dict)
    upload: Upload | None = None
    repeatable: bool = True
    patient: bool = True
    sink: BinaryIO | None = None


class Answer(Generic[T]):
    """The answer of a call, fed piece by piece as it arrives."""

    def __init__(self, call: Call[T], response: httpx.Response) -> None:
        self._call = call
        self._response = response
        self._body = bytearray()

    def feed(self, piece: bytes) -> None:
        """Take the next bytes of the body."""
        if self._call.sink is not None and self._response.is_success:
            self._call.sink.write(piece)
        else:
            self._body += piece

    def result(self) -> T:
        """Return what the whole body says. Raises ProblemError, UnexpectedAnswer."""
        if not self._response.is_success:
            raise self._problem()
        try:
            return self._call.read(bytes(self._body))
        except ValidationError as error:
            raise self._unexpected() from error

    def _problem(self) -> ProblemError | UnexpectedAnswer:
        try:
            return problem_error(ProblemDetails.model_validate_json(bytes(self._body)))
        except ValidationError:
            return self._unexpected()

    def _unexpected(self) -> UnexpectedAnswer:
        text = self._body[:SHOWN_CHARACTERS].decode("utf-8", "replace")
        return UnexpectedAnswer(
            f"{self._response.request.method} {self._response.request.url} answered "
            f"{self._response.status_code} with {text!r}, which is no answer of avgzsl; check the "
            "URL, and that client and service are of the same version."
        )


def answered_by(schema: type[ModelT]) -> Callable[[bytes], ModelT]:
    """Return the reader of a JSON answer."""
    return schema.model_validate_json


def nothing(body: bytes) -> None:
    """Read an answer that has no body."""


def compact_json(value: object) -> str:
    """Return JSON for a form's field; moments are written by ISO 8601."""
    return json.dumps(value, default=lambda moment: moment.isoformat())


class SyncSender(Protocol):
    """What sends a call and waits for its result."""

    def send(self, call: Call[T]) -> T:
        """Send a call."""
        ...


class AsyncSender(Protocol):
    """What sends a call and can be awaited."""

    async def send(self, call: Call[T]) -> T:
        """Send a call."""
        ...


class Endpoint(Generic[P, T]):
    """A method of both clients, made of the function that builds its call."""

    def __init__(self, build: Callable[P, Call[T]]) -> None:
        self.build = build

    @overload
    def __get__(self, client: None, owner: type) -> Self: ...
    @overload
    def __get__(self, client: SyncSender, owner: type) -> Callable[P, T]: ...
    @overload
    def __get__(self, client: AsyncSender, owner: type) -> Callable[P, Coroutine[Any, Any, T]]: ...
    def __get__(self, client: Any, owner: type) -> Any:
        """Bind the endpoint to a client."""
        if client is None:
            return self

        @wraps(self.build)
        def method(*args: P.args, **kwargs: P.kwargs) -> Any:
            return client.send(self.build(*args, **kwargs))

        return method

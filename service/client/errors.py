"""Every exception that the client raises on purpose, and which answer becomes which.

ClientError
├── ServiceUnreachable     no connection, or it broke before the whole answer was there
│   └── AnswerTimeout      the service took longer than the client's timeout
├── UnexpectedAnswer       not an answer of this API: another server, or a proxy's page
└── ProblemError           the service refused; carries status, code, detail and request_id
    ├── InvalidRequest     400, 422: a value or the clip cannot be used
    ├── NotAuthenticated   401: no API key, or one that the service does not know
    ├── NotPermitted       403: the API key may not do this
    ├── NotFound           404: there is nothing under this id
    ├── Conflict           409: it is in conflict with what is stored
    ├── TooLarge           413: the file or the body is larger than a limit
    ├── UnsupportedMedia   415: the file is of a kind that the service does not read
    ├── TooManyRequests    429: it was tried again in vain
    └── ServiceFailed      5xx: the fault is the service's
        └── Unavailable    503: the service cannot answer now
"""

from collections.abc import Mapping
from types import MappingProxyType

from service.schemas import ProblemDetails


class ClientError(Exception):
    """Base of everything that the client raises on purpose."""


class ServiceUnreachable(ClientError):
    """There is no connection to the service, or it broke before the whole answer was there."""


class AnswerTimeout(ServiceUnreachable):
    """The service took longer to answer than the client waits."""


class UnexpectedAnswer(ClientError):
    """What answered does not speak this API."""


class ProblemError(ClientError):
    """The service refused a request.

    Attributes:
        status: the HTTP status.
        code: the stable name of the cause, such as `clip_not_found`.
        detail: what is wrong, the offending value, the limit and what to do.
        request_id: what the service's log calls the request.
        problem: the whole answer.
    """

    def __init__(self, problem: ProblemDetails) -> None:
        super().__init__(problem.detail)
        self.problem = problem
        self.status = problem.status
        self.code = problem.code
        self.detail = problem.detail
        self.request_id = problem.request_id


class InvalidRequest(ProblemError):
    """A value or the clip cannot be used."""


class NotAuthenticated(ProblemError):
    """The request has no API key, or one that the service does not know."""


class NotPermitted(ProblemError):
    """The API key may not do this."""


class NotFound(ProblemError):
    """There is nothing under this id."""


class Conflict(ProblemError):
    """The request is in conflict with what is stored."""


class TooLarge(ProblemError):
    """The file or the body is larger than a limit."""


class UnsupportedMedia(ProblemError):
    """The file is of a kind that the service does not read."""


class TooManyRequests(ProblemError):
    """The service takes no more requests for now."""


class ServiceFailed(ProblemError):
    """The service failed on the request."""


class Unavailable(ServiceFailed):
    """The service cannot answer now."""


BY_STATUS: Mapping[int, type[ProblemError]] = MappingProxyType(
    {
        400: InvalidRequest,
        401: NotAuthenticated,
        403: NotPermitted,
        404: NotFound,
        409: Conflict,
        413: TooLarge,
        415: UnsupportedMedia,
        422: InvalidRequest,
        429: TooManyRequests,
        503: Unavailable,
    }
)


def problem_error(problem: ProblemDetails) -> ProblemError:
    """Return the exception that a problem is raised as."""
    default = ServiceFailed if problem.status >= 500 else ProblemError
    return BY_STATUS.get(problem.status, default)(problem)

"""A client of the service for Python programs, blocking and awaiting.

    with Client("http://127.0.0.1:8000") as client:
        answer = client.classify("samples/clock.mp4")
        print(answer.labels[0].name)

Importing it brings httpx and pydantic, and nothing that the service computes with.
"""

from service.client.client import AsyncClient, Client
from service.client.endpoints import ClipFilter
from service.client.errors import (
    AnswerTimeout,
    ClientError,
    Conflict,
    InvalidRequest,
    NotAuthenticated,
    NotFound,
    NotPermitted,
    ProblemError,
    ServiceFailed,
    ServiceUnreachable,
    TooLarge,
    TooManyRequests,
    Unavailable,
    UnexpectedAnswer,
    UnsupportedMedia,
)
from service.client.uploads import FileInput

__all__ = [
    "AnswerTimeout",
    "AsyncClient",
    "Client",
    "ClientError",
    "ClipFilter",
    "Conflict",
    "FileInput",
    "InvalidRequest",
    "NotAuthenticated",
    "NotFound",
    "NotPermitted",
    "ProblemError",
    "ServiceFailed",
    "ServiceUnreachable",
    "TooLarge",
    "TooManyRequests",
    "Unavailable",
    "UnexpectedAnswer",
    "UnsupportedMedia",
]

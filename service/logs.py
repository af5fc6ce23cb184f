"""How log lines look: one line a record, as text for people or as JSON for machines.

A line says which request or job it belongs to, whatever wrote it, and holds no secret.
"""

import json
import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType
from typing import Any, Literal

from service.redaction import redacted

LogFormat = Literal["text", "json"]


_CONTEXT: ContextVar[Mapping[str, str]] = ContextVar("log_context", default=MappingProxyType({}))


@contextmanager
def log_context(**fields: str) -> Iterator[None]:
    """Have every line that is written meanwhile say these too, such as `request_id`.

    Threads say them as well where they run in a copy of this context, as `run_in_threadpool` and
    `service.pool` see to.
    """
    token = _CONTEXT.set({**_CONTEXT.get(), **fields})
    try:
        yield
    finally:
        _CONTEXT.reset(token)


def configure_logging(log_format: LogFormat, level: str) -> None:
    """Send log records to standard error; other packages' only from warnings on."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter() if log_format == "json" else TextFormatter())
    logging.captureWarnings(True)
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    for ours in ("service", "model", "index", "uvicorn"):
        logging.getLogger(ours).setLevel(level.upper())
    # What the form's parser warns of is answered to the client.
    logging.getLogger("python_multipart").setLevel(logging.ERROR)


class JsonFormatter(logging.Formatter):
    """One JSON object a line; what a record carries in `fields` becomes keys of it."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        entry: dict[str, Any] = {
            "time": _timestamp(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_fields(record),
        }
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        # A number that is not finite is no JSON.
        line = json.dumps(json.loads(json.dumps(entry, default=str), parse_constant=str))
        return redacted(line)


class TextFormatter(logging.Formatter):
    """`time level logger: message key=value ...`, values quoted where they hold odd characters."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        pairs = "".join(f" {key}={_quoted(value)}" for key, value in _fields(record).items())
        head = f"{_timestamp(record)} {record.levelname.lower()} {record.name}"
        line = f"{head}: {record.getMessage()}{pairs}"
        if record.exc_info:
            line += f"\n{self.formatException(record.exc_info)}"
        return redacted(line)


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    return {**_CONTEXT.get(), **getattr(record, "fields", {})}


def _timestamp(record: logging.LogRecord) -> str:
    seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
    return f"{seconds}.{int(record.msecs):03d}Z"


def _quoted(value: object) -> str:
    # A request's path may hold spaces and line breaks: quoted, it cannot forge a log line.
    text = str(value)
    plain = text.isascii() and text.isprintable() and not set(text) & set(' "=')
    return text if plain and text else json.dumps(text)

"""What each route asks of an API key: one table, and how a path finds its line in it.

Whoever adds a route adds it here; a test walks the application's routes and fails where one is
missing. It is decided by this table, before the body is read, whether a request gets any further.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from types import MappingProxyType

from starlette.routing import compile_path


class Access(IntEnum):
    """What a key must be allowed to; a higher scope holds the lower ones."""

    OPEN = 0
    READ = 1
    WRITE = 2
    ADMIN = 3

    @property
    def scope(self) -> str:
        """The scope's name."""
        return self.name.lower()


_OPEN, _READ, _WRITE, _ADMIN = Access.OPEN, Access.READ, Access.WRITE, Access.ADMIN

ROUTES: Mapping[str, Mapping[str, Access]] = MappingProxyType(
    {
        "/classify": {"POST": _READ},
        "/retrieve": {"POST": _READ},
        "/retrieve/by-file": {"POST": _READ},
        "/embed": {"POST": _READ},
        "/classes": {"GET": _READ, "POST": _WRITE},
        "/classes/{class_id}": {"GET": _READ, "PATCH": _WRITE, "DELETE": _WRITE},
        "/clips": {"GET": _READ, "POST": _WRITE},
        "/clips/{clip_id}": {"GET": _READ, "PATCH": _WRITE, "DELETE": _WRITE},
        "/clips/{clip_id}/media": {"GET": _READ, "HEAD": _READ},
        "/clips/{clip_id}/thumbnail": {"GET": _READ},
        "/clips/{clip_id}/waveform": {"GET": _READ},
        "/clips/{clip_id}/spectrogram": {"GET": _READ},
        "/jobs": {"GET": _READ},
        "/jobs/import": {"POST": _ADMIN},
        "/jobs/{job_id}": {"GET": _READ, "DELETE": _WRITE},
        "/jobs/{job_id}/items": {"GET": _READ},
        "/jobs/{job_id}/events": {"GET": _READ},
        "/jobs/{job_id}/retry": {"POST": _WRITE},
        "/model": {"GET": _READ, "POST": _ADMIN},
        "/model/swap": {"DELETE": _ADMIN},
        "/samples": {"GET": _READ},
        "/samples/{name}": {"GET": _READ},
        "/session": {"GET": _OPEN, "POST": _OPEN, "DELETE": _OPEN},
        "/healthz": {"GET": _OPEN},
        "/readyz": {"GET": _OPEN},
        "/metrics": {"GET": _READ},
        "/openapi.json": {"GET": _OPEN, "HEAD": _OPEN},
        "/docs": {"GET": _OPEN},
        "/docs/{asset}": {"GET": _OPEN},
        "/": {"GET": _OPEN, "HEAD": _OPEN},
        "/assets/{asset}": {"GET": _OPEN, "HEAD": _OPEN},
    }
)

PROBES = frozenset({"/healthz", "/readyz"})
"""Asked by whoever runs the service, under whatever name it has for this machine."""

UNKNOWN = "unknown"
"""The template of paths that are no route's."""

_PATTERNS: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (compile_path(template)[0], template) for template in ROUTES
)


@dataclass(frozen=True, slots=True)
class Target:
    """The route that a request is for: the template of its path, and what it asks of a key."""

    template: str
    access: Access


def target_of(method: str, path: str) -> Target:
    """Return the route that a request is for.

    What is no route needs a key all the same: whoever has none learns nothing of what there is.
    """
    for pattern, template in _PATTERNS:
        if pattern.match(path):
            return Target(template, ROUTES[template].get(method, _READ))
    return Target(UNKNOWN, _READ)

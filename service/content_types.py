"""The content types under which a clip's file may be sent back: sound and pictures only."""

from collections.abc import Mapping
from pathlib import PurePath
from types import MappingProxyType

FALLBACK = "application/octet-stream"

BY_SUFFIX: Mapping[str, str] = MappingProxyType(
    {
        ".3gp": "video/3gpp",
        ".aac": "audio/aac",
        ".aif": "audio/aiff",
        ".aiff": "audio/aiff",
        ".avi": "video/x-msvideo",
        ".flac": "audio/flac",
        ".flv": "video/x-flv",
        ".gif": "image/gif",
        ".m4a": "audio/mp4",
        ".m4v": "video/mp4",
        ".mkv": "video/x-matroska",
        ".mov": "video/quicktime",
        ".mp3": "audio/mpeg",
        ".mp4": "video/mp4",
        ".mpeg": "video/mpeg",
        ".mpg": "video/mpeg",
        ".oga": "audio/ogg",
        ".ogg": "audio/ogg",
        ".ogv": "video/ogg",
        ".opus": "audio/ogg",
        ".ts": "video/mp2t",
        ".wav": "audio/wav",
        ".weba": "audio/webm",
        ".webm": "video/webm",
        ".wma": "audio/x-ms-wma",
        ".wmv": "video/x-ms-wmv",
    }
)

ALLOWED = frozenset(BY_SUFFIX.values())


def safe_content_type(declared: str, filename: str) -> str:
    """Return the type that a client declared if it is harmless, else the one that its name implies.

    A client's word is kept only from the list above: under `text/html` a browser would run what
    somebody uploaded.
    """
    kind = declared.partition(";")[0].strip().lower()
    if kind in ALLOWED:
        return kind
    return BY_SUFFIX.get(PurePath(filename).suffix.lower(), FALLBACK)

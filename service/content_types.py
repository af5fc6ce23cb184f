"""What a media file's name tells: that it is one, and the content type to send it back under.

Those are of sound and pictures only.
"""

from collections.abc import Mapping
from pathlib import PurePath
from types import MappingProxyType

FALLBACK = "application/octet-stream"

BY_SUFFIX: Mapping[str, str] = MappingProxyType(
    {
        ".3g2": "video/3gpp2",
        ".3gp": "video/3gpp",
        ".aac": "audio/aac",
        ".ac3": "audio/ac3",
        ".aif": "audio/aiff",
        ".aifc": "audio/aiff",
        ".aiff": "audio/aiff",
        ".amr": "audio/amr",
        ".asf": "video/x-ms-asf",
        ".au": "audio/basic",
        ".avi": "video/x-msvideo",
        ".caf": "audio/x-caf",
        ".flac": "audio/flac",
        ".flv": "video/x-flv",
        ".gif": "image/gif",
        ".m2ts": "video/mp2t",
        ".m4a": "audio/mp4",
        ".m4b": "audio/mp4",
        ".m4v": "video/mp4",
        ".mka": "audio/x-matroska",
        ".mkv": "video/x-matroska",
        ".mov": "video/quicktime",
        ".mp2": "audio/mpeg",
        ".mp3": "audio/mpeg",
        ".mp4": "video/mp4",
        ".mpeg": "video/mpeg",
        ".mpg": "video/mpeg",
        ".mts": "video/mp2t",
        ".mxf": "application/mxf",
        ".oga": "audio/ogg",
        ".ogg": "audio/ogg",
        ".ogv": "video/ogg",
        ".opus": "audio/ogg",
        ".ts": "video/mp2t",
        ".vob": "video/mpeg",
        ".wav": "audio/wav",
        ".weba": "audio/webm",
        ".webm": "video/webm",
        ".wma": "audio/x-ms-wma",
        ".wmv": "video/x-ms-wmv",
    }
)

ALLOWED = frozenset(BY_SUFFIX.values())


def is_media(name: str) -> bool:
    """Whether a file of this name is taken for media: by its suffix, and unless it is hidden.

    To look into every file of a large disk would take hours.
    """
    return not name.startswith(".") and PurePath(name).suffix.lower() in BY_SUFFIX


def safe_content_type(declared: str, filename: str) -> str:
    """Return the type that a client declared if it is harmless, else the one that its name implies.

    A client's word is kept only from the list above: under `text/html` a browser would run what
    somebody uploaded.
    """
    kind = declared.partition(";")[0].strip().lower()
    if kind in ALLOWED:
        return kind
    return BY_SUFFIX.get(PurePath(filename).suffix.lower(), FALLBACK)

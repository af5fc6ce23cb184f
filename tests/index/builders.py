"""Small libraries and what goes into them, alike in every test."""

import zlib
from pathlib import Path
from typing import Any

import numpy as np

from index.library import Library
from index.media_store import MediaFolder
from index.types import ModalityRecord, NewClass, NewClip, Segment, Vector

DIM = 8
MODEL = "model-a"


def open_library(directory: Path, **options: Any) -> Library:
    """Open a library whose files were looked through already."""
    library = Library.open(directory, **{"model_id": MODEL, "dim": DIM, **options})
    library.wait_for_sweep()
    return library


def unit(seed: int, dim: int = DIM) -> Vector:
    """Return a vector (dim,) of length 1 that depends on the seed only."""
    vector = np.random.default_rng(seed).standard_normal(dim)
    unit_vector: Vector = (vector / np.linalg.norm(vector)).astype(np.float32)
    return unit_vector


def axis(number: int, dim: int = DIM) -> Vector:
    """Return the unit vector (dim,) along an axis."""
    vector = np.zeros(dim, np.float32)
    vector[number] = 1
    return vector


def new_class(name: str, vector: Vector | None = None, **options: object) -> NewClass:
    """Return a class whose vector depends on its name, unless told otherwise."""
    seed = zlib.crc32(name.encode("utf-8", "replace"))
    return NewClass(name, unit(seed) if vector is None else vector, **options)  # type: ignore[arg-type]


def new_clip(
    audio: Vector | None = None,
    video: Vector | None = None,
    *,
    segments: tuple[Segment, ...] | None = None,
    tags: tuple[str, ...] = (),
    thumbnail: bytes | None = None,
    filename: str = "clip.mp4",
    source: str | None = None,
) -> NewClip:
    """Return a clip of one window that has the clip's own vectors, unless told otherwise."""
    return NewClip(
        filename=filename,
        content_type="video/mp4",
        duration_seconds=2.0,
        segments=(Segment(0.0, 2.0, audio, video),) if segments is None else segments,
        audio=audio,
        video=video,
        modalities={
            "audio": ModalityRecord(audio is not None),
            "video": ModalityRecord(video is not None, None if video is not None else "no video"),
        },
        tags=tags,
        thumbnail=thumbnail,
        source=source,
    )


def media_file(directory: Path, content: bytes = b"media") -> Path:
    """Write a file as it comes from an upload."""
    path = directory / "upload.mp4"
    path.write_bytes(content)
    return path


def media_path(library: Library, clip_id: str) -> Path:
    """Return where the media file of a library without a media URL lies."""
    return library._directory / MediaFolder(Path("media")).path(
        library.get_clip(clip_id).content_hash
    )


def abandon(library: Library) -> None:
    """Let a library go as a crash does: unlocked, and nothing saved."""
    library._current._closed = True
    library._resources.close()


def stored_files(directory: Path) -> set[str]:
    """Return the relative paths of the library's media and thumbnail files."""
    return {
        str(path.relative_to(directory))
        for part in ("media", "thumbnails")
        for path in (directory / part).rglob("*")
        if path.is_file()
    }

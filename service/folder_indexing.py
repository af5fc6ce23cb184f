"""Bringing the files of folders into a library: found, hashed, stored where they are not yet.

Nothing is remembered here: the library knows the hash of each file that it has, so the same files
given again are passed over, wherever the last time was interrupted.
"""

import hashlib
import os
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal, TypeVar

from index.names import checked_source
from service import schemas
from service.client import (
    AnswerTimeout,
    Client,
    ClientError,
    InvalidRequest,
    ProblemError,
    TooLarge,
    TooManyRequests,
    UnsupportedMedia,
)
from service.content_types import is_media

ItemT = TypeVar("ItemT")

State = Literal["stored", "known", "moved", "failed"]

OF_ONE_FILE = (InvalidRequest, TooLarge, UnsupportedMedia, TooManyRequests, AnswerTimeout)
"""Errors that say nothing about the files after; any other would befall them too."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a file.

    Attributes:
        path: the file.
        state: `stored` now; `known`, its bytes were there; `moved`, they were there under a path
            where nothing is any more; `failed`.
        clip_id: the clip that is made of it; None where it failed.
        code, detail: why it failed.
    """

    path: str
    state: State
    clip_id: str | None = None
    code: str | None = None
    detail: str | None = None

    def record(self) -> dict[str, Any]:
        """Return what is known of it, for JSON."""
        return {name: value for name, value in asdict(self).items() if value is not None}


def media_files(places: Iterable[Path]) -> Iterator[Path]:
    """Yield the media files below folders, in the order of their names, and files as they are.

    Media are told by their suffix. What is hidden is passed over, and links to folders are not
    followed: they may lead round in circles. A folder that cannot be looked into comes as if it
    were a file, so that it is one that fails.
    """
    for place in places:
        if not place.is_dir():
            yield place
            continue
        closed: list[OSError] = []
        for folder, folders, names in os.walk(place, onerror=closed.append):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            yield from (Path(folder, name) for name in sorted(names) if is_media(name))
        yield from (Path(str(error.filename)) for error in closed)


def reason_of(error: OSError) -> str:
    """Say in a few words why a file of `media_files` cannot be read."""
    if isinstance(error, IsADirectoryError):
        return "it is a folder that cannot be looked into"
    return error.strerror or str(error)


def index_files(
    client: Client, files: Iterable[Path], *, tags: Sequence[str] = (), workers: int
) -> Generator[Outcome, None, None]:
    """Store files, `workers` at a time, and yield what became of each, in the order of their ends.

    Closed before its end, it waits for the files that are under way and begins no other.

    Raises:
        ClientError: one that would befall the other files too.
    """
    return in_threads(lambda file: _index_file(client, file, tags), files, workers=workers)


def in_threads(
    store: Callable[[ItemT], Outcome], items: Iterable[ItemT], *, workers: int
) -> Generator[Outcome, None, None]:
    """Call `store` for each item, `workers` at a time, and yield as `index_files` does.

    Raises what it, or what brings the items, raises.
    """
    waiting = iter(items)
    pool = ThreadPoolExecutor(workers, "indexing")
    try:
        under_way = {pool.submit(store, item) for item in islice(waiting, workers)}
        while under_way:
            done, under_way = wait(under_way, return_when=FIRST_COMPLETED)
            # Told before more is begun: it may be long before there is more.
            yield from map(Future.result, done)
            under_way |= {pool.submit(store, item) for item in islice(waiting, len(done))}
    finally:
        pool.shutdown(cancel_futures=True)


def _index_file(client: Client, file: Path, tags: Sequence[str]) -> Outcome:
    path = str(file)
    try:
        with file.open("rb") as content:
            sha256 = hashlib.file_digest(content, "sha256").hexdigest()
        present = client.list_clips(sha256=sha256, limit=1).items
        if present:
            return _known(client, file, present[0])
        stored = client.add_clip(file, tags=tags, source=_source(file), if_duplicate="skip")
    except OSError as error:
        return Outcome(path, "failed", code="unreadable_file", detail=reason_of(error))
    except OF_ONE_FILE as error:
        code = error.code if isinstance(error, ProblemError) else "timeout"
        return Outcome(path, "failed", code=code, detail=str(error))
    except ClientError as error:
        error.add_note(f"While indexing {path}.")
        raise
    return Outcome(path, "stored", stored.clip_id)


def known_outcome(
    path: str,
    *,
    source: str | None,
    clip_id: str,
    clip_source: str | None,
    update_source: Callable[[str], object],
) -> Outcome:
    """Tell of a file that is stored already; where it was is forgotten if it is there no more.

    `source` is where the file is, `clip_source` where the library has it from.
    """
    if source is not None and (clip_source is None or _is_gone(clip_source)):
        update_source(source)
        if clip_source is not None:
            return Outcome(path, "moved", clip_id)
    return Outcome(path, "known", clip_id)


def _known(client: Client, file: Path, clip: schemas.Clip) -> Outcome:
    return known_outcome(
        str(file),
        source=_source(file),
        clip_id=clip.clip_id,
        clip_source=clip.source,
        update_source=lambda source: client.update_clip(clip.clip_id, source=source),
    )


def _is_gone(source: str) -> bool:
    return os.path.isabs(source) and not os.path.exists(source)


def kept_source(source: str) -> str | None:
    """Return a path or URL if it can be kept: names on a disk may be no text at all."""
    try:
        return checked_source(source)
    except ValueError:
        return None


def _source(file: Path) -> str | None:
    return kept_source(os.path.abspath(file))

"""Where files to be indexed lie: folders, or places that a URL names and fsspec reaches."""

import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from model.media.limits import MediaLimits
from model.media.probe import check_size
from service.content_types import is_media
from service.folder_indexing import media_files


def is_url(place: str) -> bool:
    """Whether a place is an address such as `s3://bucket/prefix`, and no path."""
    return "://" in place


def media_sources(places: Iterable[str]) -> Iterator[str]:
    """Yield the absolute paths and URLs of the media files below folders and prefixes.

    Which of them are media, and in which order, is as `media_files` says. Raises FileNotFoundError
    where there is nothing at a URL, and OSError.
    """
    for place in places:
        if is_url(place):
            with _storage_errors(place):
                yield from _below_url(place)
        else:
            yield from map(str, media_files([Path(os.path.abspath(place))]))


@contextmanager
def local_file(source: str, limits: MediaLimits) -> Iterator[Path]:
    """Give a path to read a source by, for a while: its own, or a temporary copy of what is away.

    Raises as `fetch` does.
    """
    if not is_url(source):
        yield Path(source)
        return
    with tempfile.TemporaryDirectory(prefix="avgzsl-") as folder:
        path = Path(folder, "media")
        fetch(source, path, limits)
        yield path


def fetch(source: str, target: Path, limits: MediaLimits) -> None:
    """Copy a source to a new file.

    Raises EmptyFile, FileTooLarge before anything is copied, and OSError.
    """
    if not is_url(source):
        check_size(os.stat(source).st_size, limits)
        shutil.copyfile(source, target)
        return
    with _storage_errors(source):
        files, name = _file_system(source)
        size = files.size(name)
    check_size(size, limits)
    with _storage_errors(source):
        files.get_file(name, str(target))


def name_of(source: str) -> str:
    """Return the file name of a path or a URL."""
    return PurePosixPath(source).name


def _below_url(url: str) -> Iterator[str]:
    files, root = _file_system(url)
    if files.isfile(root):
        yield files.unstrip_protocol(root)
        return
    for directory, folders, names in files.walk(root, on_error="raise"):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if is_media(name):
                yield files.unstrip_protocol(f"{directory}/{name}")


@contextmanager
def _storage_errors(url: str) -> Iterator[None]:
    """Raise OSError for whatever a file system raises: some errors have types of their own.

    ImportError, where the package for such URLs is not installed, stays what it is.
    """
    try:
        yield
    except (OSError, ImportError, GeneratorExit):
        raise
    except Exception as error:
        raise OSError(f"{url} cannot be read: {type(error).__name__}: {error}") from error


def _file_system(url: str) -> tuple[Any, str]:
    import fsspec  # noqa: PLC0415 - an extra, and needed for URLs only

    # Others write meanwhile; and of millions of files nobody wants to remember the listing.
    files, name = fsspec.core.url_to_fs(url, use_listings_cache=False)
    return files, name

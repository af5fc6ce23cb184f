"""What nobody needs and an interruption left, files without a clip and a former model's rows."""

import logging
import threading
from collections.abc import Callable
from pathlib import Path

from index.catalogue import Catalogue
from index.errors import LibraryError, StorageError
from index.media import MediaPlace
from index.media_hold import sweep_holds
from index.reindexing import Exclusive, delete_leftovers

logger = logging.getLogger(__name__)


def delete_unneeded(
    catalogue: Catalogue, place: MediaPlace, media_hash: str | None, thumbnail_hash: str | None
) -> None:
    """Do as `delete_if_unneeded`, but log a failure: the next start deletes them."""
    try:
        delete_if_unneeded(catalogue, place, media_hash, thumbnail_hash)
    except StorageError as error:
        _log_left(error)


def sweep_files(
    catalogue: Catalogue, place: MediaPlace, is_unwanted: Callable[[], bool] = lambda: False
) -> None:
    """Delete all files that no clip needs, a few at a time; end soon where it `is_unwanted`.

    Raises StorageError.
    """
    deleted = 0
    # By the first digits of their hashes: one folder, or one listing, at a time.
    for prefix in sorted({*place.media.prefixes(), *place.thumbnails.prefixes()}):
        if is_unwanted():
            break
        with catalogue.read() as reader:
            media, thumbnails = reader.needed_files(prefix)
        stray_media = place.media.unneeded(media, prefix=prefix)
        stray_thumbnails = place.thumbnails.unneeded(thumbnails, prefix=prefix)
        for content_hash in stray_media:
            delete_if_unneeded(catalogue, place, content_hash, None)
        for content_hash in stray_thumbnails:
            delete_if_unneeded(catalogue, place, None, content_hash)
        deleted += len(stray_media) + len(stray_thumbnails)
    if deleted:
        logger.info("Deleted %d files left over from an interrupted write.", deleted)


class Sweep:
    """Sweeps a library once in a thread of its own, however much there is.

    A start need not wait for it: what nobody needs is in nobody's way. What fails is logged.
    """

    def __init__(
        self, catalogue: Catalogue, place: MediaPlace, directory: Path, *, exclusive: Exclusive
    ) -> None:
        """Start the thread, which is the one writer now and then."""
        self._catalogue = catalogue
        self._place = place
        self._directory = directory
        self._exclusive = exclusive
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sweep", daemon=True)
        self._thread.start()

    def wait(self) -> None:
        """Return once all was looked at, or that has failed."""
        self._thread.join()

    def stop(self) -> None:
        """Stop after some rows, or the files of one prefix. Allowed more than once."""
        self._stopped.set()
        self.wait()

    def _run(self) -> None:
        for sweep in (self._sweep_files, self._sweep_rows):
            try:
                sweep()
            except LibraryError as error:
                _log_left(error)

    def _sweep_files(self) -> None:
        sweep_holds(self._directory)
        sweep_files(self._catalogue, self._place, self._stopped.is_set)

    def _sweep_rows(self) -> None:
        delete_leftovers(self._catalogue, self._exclusive, self._stopped.is_set)


def delete_if_unneeded(
    catalogue: Catalogue, place: MediaPlace, media_hash: str | None, thumbnail_hash: str | None
) -> None:
    """Delete files unless a clip needs them. Raises StorageError."""
    # Nobody writes meanwhile, so a file that has no row by now is not about to get one.
    with catalogue.read_alone() as reader:
        if media_hash is not None and not reader.needs_media(media_hash):
            place.media.remove(media_hash)
        if thumbnail_hash is not None and not reader.needs_thumbnail(thumbnail_hash):
            place.thumbnails.remove(thumbnail_hash)


def _log_left(error: LibraryError) -> None:
    logger.warning("Files or rows that nobody needs are left until the next start: %s", error)

"""The change to another model: every clip and class embedded anew while the former one serves.

What the new model makes of a clip is written as soon as it is known, beside the former model's
rows, so whatever ends the work, the next run goes on from there. Once nothing is missing, one
transaction puts the new model's rows in the place of the former's, which are deleted afterwards.
"""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import URL

from index.catalogue import Catalogue
from index.catalogue_reader import GREATEST_OFFSET
from index.checks import check_unit_vector, checked_class, checked_clip
from index.database import sqlite_url
from index.directory_lock import DirectoryLock
from index.errors import (
    ClipUnusable,
    LibraryNotFound,
    ModelMismatch,
    ReindexRefused,
)
from index.media import ReadableMedia, open_media
from index.media_store import file_digest
from index.ownership import check_directory
from index.reindex_rows import (
    LEFTOVER_ROWS,
    MODEL_ROWS,
    ClassTurn,
    ClipTurn,
    ReindexWriter,
    StillMissing,
)
from index.types import (
    ClassName,
    Clip,
    ModalityWeights,
    NewClass,
    NewClip,
    ReindexFailure,
    ReindexProgress,
)
from index.vector_cache import clear_saved_vectors

CLIPS_PER_THREAD = 4
"""Clips asked for at a time."""
LAST_CLIPS = 1
"""So many are embedded while writers wait: who keeps adding clips must not put off the end."""
CLASSES = 256
"""Classes embedded at a time."""
LEFTOVER_CLIPS = 64
"""Clips or classes whose old rows are deleted in one transaction; writers wait so long."""
SECONDS_BETWEEN_REPORTS = 0.5
PAUSE_PER_REPORT = 20
"""Progress is counted anew for each report, and nothing is embedded meanwhile: so many times as
long as that took passes until the next."""
TOLERATED_FAILURES = 0.5
"""More failures than this part of the clips are rather a fault of the disk than of the clips."""


Exclusive = Callable[[], AbstractContextManager[None]]
"""Makes whoever is in the context the one writer."""

Swap = Callable[[], None]
"""Puts the new model in use. Raises StillMissing where another process has added something."""


class NewModel(Protocol):
    """The model to come: what it is, and how it embeds what is stored."""

    model_id: str
    dim: int
    weights: ModalityWeights
    vocabulary: Sequence[NewClass]
    """The classes that it was trained on."""

    def embed_clip(self, media: Path, clip: Clip) -> NewClip:
        """Make of a media file what adding it would store; several threads may call.

        Raises ClipUnusable with a sentence where the model can make nothing of it.
        """
        ...

    def embed_classes(self, classes: Sequence[ClassName]) -> NDArray[np.float32]:
        """Embed classes by all their words: (len(classes), dim)."""
        ...


@dataclass(frozen=True, slots=True)
class ReindexSummary:
    """What a run came to; `finished` unless it was stopped or cancelled.

    `clips` is how many the new model embedded, this run's and earlier ones', `failures` which it
    could not.
    """

    former_model_id: str
    model_id: str
    finished: bool
    clips: int
    classes: int
    failures: tuple[ReindexFailure, ...]


def ignore(progress: ReindexProgress) -> None:
    """Tell nobody."""


class Reindexing:
    """One change of model. Searches and writes go on; any thread may call any method."""

    def __init__(
        self,
        catalogue: Catalogue,
        media: ReadableMedia,
        model: NewModel,
        *,
        exclusive: Exclusive,
        prepare: Callable[[NewModel], AbstractContextManager[Swap]],
    ) -> None:
        """Use `Library.reindexing` or `reindex_library`.

        `exclusive` makes the caller the one writer; `prepare` does what can be done before, and
        gives what that one calls.
        """
        if model.model_id == catalogue.model_id:
            raise ModelMismatch(
                f"The library is of the model {model.model_id} already; there is nothing to "
                "re-index."
            )
        self._former = catalogue
        self._catalogue = catalogue.for_model(model.model_id)
        self._media = media
        self._model = model
        self._exclusive = exclusive
        self._prepare = prepare
        self._stopped = threading.Event()
        self._next_report = 0.0

    def run(
        self,
        progress: Callable[[ReindexProgress], None] = ignore,
        *,
        threads: int = 1,
        accept_failures: bool = False,
    ) -> ReindexSummary:
        """Embed whatever the new model has not embedded yet, then let it take over.

        What it could not embed in an earlier run is tried again. `progress` is called now and
        then. Raises ReindexRefused where more clips than a half fail, unless that is accepted;
        ModelMismatch where the model is in use by now, StorageError, and whatever the model raises.
        Then the former model is still in use, and the next run goes on from there.
        """
        # First what this very model left when it was in use before: from then on its rows count.
        delete_leftovers(self._catalogue, self._exclusive)
        with self._writing() as writer:
            writer.target(self._model.dim)
        delete_leftovers(self._catalogue, self._exclusive)
        with ExitStack() as prepared:
            swap: Swap | None = None
            while not self._interrupted():
                self._embed_clips(progress, threads)
                self._embed_classes()
                if self._interrupted():
                    break
                if not accept_failures:
                    _refuse_failures(self._summary(finished=False))
                swap = swap or prepared.enter_context(self._prepare(self._model))
                if (summary := self._finish(swap, accept_failures=accept_failures)) is not None:
                    delete_leftovers(self._catalogue, self._exclusive)
                    return summary
        return self._summary(finished=False)

    def stop(self) -> None:
        """Let `run` return soon; what is done stays for the next one."""
        self._stopped.set()

    def _interrupted(self) -> bool:
        if self._stopped.is_set():
            return True
        with self._catalogue.read_reindex() as reader:
            return not reader.is_target()

    # Clips

    def _embed_clips(self, progress: Callable[[ReindexProgress], None], threads: int) -> None:
        """Embed the clips that are missing now, in order of arrival."""
        after = 0
        pool = ThreadPoolExecutor(threads, thread_name_prefix="reindex")
        try:
            while not self._interrupted():
                self._tell(progress)
                turns = self._missing_clips(after, CLIPS_PER_THREAD * threads)
                if not turns:
                    return
                for turn, outcome in zip(turns, pool.map(self._outcome, turns), strict=True):
                    with self._writing() as writer:
                        _store(writer, turn, outcome)
                    if self._stopped.is_set():
                        return
                after = turns[-1].row_id
        finally:
            pool.shutdown(cancel_futures=True)

    def _missing_clips(self, after: int, limit: int) -> list[ClipTurn]:
        with self._catalogue.read_reindex() as reader:
            return reader.missing_clips(after=after, limit=limit)

    def _outcome(self, turn: ClipTurn) -> NewClip | str:
        """Return what the new model makes of a clip, or a sentence saying why it can do nothing."""
        content_hash = turn.clip.content_hash
        with self._media.local(content_hash) as path:
            if not path.exists():
                return "Its media file is missing; restore it from a backup."
            try:
                if file_digest(path) != content_hash:
                    return "Its media file is damaged; restore it from a backup."
            except OSError as error:
                return f"Its media file is unreadable ({error.strerror}); restore it from a backup."
            return self._embedded(turn.clip, path)

    def _embedded(self, clip: Clip, path: Path) -> NewClip | str:
        try:
            embedded = self._model.embed_clip(path, clip)
        except ClipUnusable as error:
            return str(error)
        except Exception as error:
            if not path.exists():
                # The clip was removed meanwhile, and then this is told to nobody.
                return "Its media file was removed; restore it from a backup."
            error.add_note(f"While embedding the clip {clip.clip_id} ({clip.filename}).")
            raise
        try:
            return checked_clip(embedded, self._model.dim)
        except ValueError as error:
            return f"The model made a vector of it that cannot be kept: {error}"

    def _tell(self, progress: Callable[[ReindexProgress], None]) -> None:
        began = time.monotonic()
        if progress is ignore or began < self._next_report:
            return
        with self._catalogue.read() as reader:
            current = reader.reindex_progress()
        if current is not None:
            progress(current)
        ended = time.monotonic()
        pause = max(SECONDS_BETWEEN_REPORTS, PAUSE_PER_REPORT * (ended - began))
        self._next_report = ended + pause

    # Classes

    def _embed_classes(self) -> None:
        """Embed the user's classes that are missing now."""
        while not self._interrupted():
            with self._catalogue.read_reindex() as reader:
                turns = reader.missing_classes(limit=CLASSES)
            if not turns:
                return
            vectors = self._class_vectors(turns)
            with self._writing() as writer:
                writer.store_class_vectors(turns, vectors)

    def _class_vectors(self, turns: Sequence[ClassTurn]) -> NDArray[np.float32]:
        vectors = self._model.embed_classes([turn.of_class for turn in turns])
        for vector in vectors:
            check_unit_vector(vector, self._model.dim)
        return vectors

    # The end

    def _finish(self, swap: Swap, *, accept_failures: bool) -> ReindexSummary | None:
        """Let the new model take over if nothing is missing, or hardly anything; else None."""
        with self._exclusive():
            if self._interrupted():
                return None
            turns = self._missing_clips(0, LAST_CLIPS + 1)
            if len(turns) > LAST_CLIPS:
                return None
            for turn in turns:
                outcome = self._outcome(turn)
                with self._catalogue.reindex() as writer:
                    _store(writer, turn, outcome)
            self._embed_last_classes()
            summary = self._summary(finished=True)
            if not accept_failures:
                _refuse_failures(summary)
            try:
                swap()
            except StillMissing:
                return None
            return summary

    def _embed_last_classes(self) -> None:
        with self._catalogue.read_reindex() as reader:
            turns = reader.missing_classes(limit=GREATEST_OFFSET)
        if turns:
            vectors = self._class_vectors(turns)
            with self._catalogue.reindex() as writer:
                writer.store_class_vectors(turns, vectors)

    def _summary(self, *, finished: bool) -> ReindexSummary:
        with self._catalogue.read() as reader:
            progress = reader.reindex_progress()
            return ReindexSummary(
                former_model_id=self._former.model_id,
                model_id=self._model.model_id,
                finished=finished,
                clips=progress.done if progress is not None else 0,
                classes=reader.count_user_classes(),
                failures=tuple(reader.reindex_failures(self._model.model_id)),
            )

    @contextmanager
    def _writing(self) -> Iterator[ReindexWriter]:
        with self._exclusive(), self._catalogue.reindex() as writer:
            yield writer


def cancel(catalogue: Catalogue, exclusive: Exclusive = nullcontext) -> bool:
    """Give a change of model up and delete what the new one embedded; return if there was one.

    A run under way ends soon. Raises StorageError.
    """
    with exclusive(), catalogue.reindex() as writer:
        begun = writer.reindex_progress() is not None
        writer.abandon()
    delete_leftovers(catalogue, exclusive)
    return begun


def adopt(writer: ReindexWriter, model: NewModel) -> None:
    """Put the new model in the place of the one in use, by its whole vocabulary."""
    writer.adopt(model.dim, [checked_class(new, model.dim) for new in model.vocabulary])


def delete_leftovers(
    catalogue: Catalogue,
    exclusive: Exclusive = nullcontext,
    is_unwanted: Callable[[], bool] = lambda: False,
) -> None:
    """Delete the rows of models that are neither in use nor to come; end soon if it `is_unwanted`.

    Raises StorageError, and what `exclusive` does.
    """
    while (since := _leftovers_since(catalogue)) is not None:
        for kind in range(len(MODEL_ROWS)):
            after: int | None = 0
            while after is not None:
                if is_unwanted():
                    return
                with exclusive(), catalogue.reindex() as writer:
                    after = writer.delete_leftover_rows(kind, after=after, limit=LEFTOVER_CLIPS)
        with exclusive(), catalogue.reindex() as writer:
            writer.end_leftovers(since)


def _leftovers_since(catalogue: Catalogue) -> str | None:
    with catalogue.read() as reader:
        return reader.fact(LEFTOVER_ROWS)


def reindex_library(
    directory: Path,
    model: NewModel,
    *,
    catalogue_url: URL | str | None = None,
    media_url: str | None = None,
    progress: Callable[[ReindexProgress], None] = ignore,
    threads: int = 1,
    accept_failures: bool = False,
) -> ReindexSummary:
    """Change the model of a directory's library that nobody has open; the former is not needed.

    Where the library is of this model already, there is nothing to do. Raises LibraryNotFound,
    LibraryLocked, and what `Reindexing.run` raises; KeyboardInterrupt too loses nothing.
    """
    with former_catalogue(directory, catalogue_url) as catalogue:
        if catalogue.model_id == model.model_id:
            delete_leftovers(catalogue)
            return _nothing_to_do(catalogue)
        # Each write makes them older than the catalogue.
        clear_saved_vectors(directory / "vectors")
        reindexing = Reindexing(
            catalogue,
            _media(catalogue, directory, media_url),
            model,
            exclusive=nullcontext,
            prepare=partial(_succession_of_rows, catalogue),
        )
        return reindexing.run(progress, threads=threads, accept_failures=accept_failures)


def cancel_reindexing(directory: Path, *, catalogue_url: URL | str | None = None) -> bool:
    """Do as `cancel` does in a directory that nobody has open.

    Raises LibraryNotFound, LibraryLocked, StorageError.
    """
    with former_catalogue(directory, catalogue_url) as catalogue:
        clear_saved_vectors(directory / "vectors")
        return cancel(catalogue)


@contextmanager
def former_catalogue(directory: Path, url: URL | str | None) -> Iterator[Catalogue]:
    """Open the catalogue of a directory that nobody has open, whichever model its rows are of.

    Raises LibraryNotFound, LibraryLocked, StorageError.
    """
    # Opening a catalogue makes it where it is absent.
    if not (directory / "library_id").is_file():
        raise LibraryNotFound(f"There is no library in {directory}.")
    with ExitStack() as resources:
        lock = DirectoryLock(directory)
        resources.callback(lock.release)
        catalogue = Catalogue.open(url or sqlite_url(directory / "catalogue.sqlite"), model_id="")
        resources.callback(catalogue.close)
        check_directory(catalogue, directory)
        with catalogue.read() as reader:
            model_id = reader.fact("model_id")
        if model_id is None:
            raise LibraryNotFound(f"The library in {directory} is of no model yet.")
        yield catalogue.for_model(model_id)


def _media(catalogue: Catalogue, directory: Path, url: str | None) -> ReadableMedia:
    _, library_id = check_directory(catalogue, directory)
    with catalogue.read() as reader:
        has_clips = reader.count_clips() > 0
    return open_media(directory, url, library_id=library_id or "", has_clips=has_clips).media


@contextmanager
def _succession_of_rows(former: Catalogue, model: NewModel) -> Iterator[Swap]:
    def swap() -> None:
        with former.for_model(model.model_id).reindex() as writer:
            adopt(writer, model)

    yield swap


def _nothing_to_do(catalogue: Catalogue) -> ReindexSummary:
    return ReindexSummary(
        former_model_id=catalogue.model_id,
        model_id=catalogue.model_id,
        finished=True,
        clips=0,
        classes=0,
        failures=(),
    )


def _store(writer: ReindexWriter, turn: ClipTurn, outcome: NewClip | str) -> None:
    if isinstance(outcome, str):
        writer.store_failure(turn, outcome)
    else:
        writer.store_reindexed(turn.row_id, outcome)


def _refuse_failures(summary: ReindexSummary) -> None:
    failed = len(summary.failures)
    if failed > TOLERATED_FAILURES * (summary.clips + failed):
        first = summary.failures[0]
        raise ReindexRefused(
            f"The model {summary.model_id} could embed {summary.clips} clips but not {failed}, "
            f"which searches would no longer find; the first is {first.clip_id} "
            f"({first.filename}): {first.reason} Mend the cause and re-index again, which goes on "
            "from here, or accept the failures."
        )

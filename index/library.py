"""The library: clips and classes that are remembered, searched and never lost.

The only writer. A write goes media file -> catalogue -> vectors, a deletion catalogue -> vectors ->
media file, so a crash at any point leaves at most a file that nobody names, which a thread deletes
after the next `open`.
"""

import socket
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import numpy as np
from numpy.typing import NDArray

from index.backup import BackupSummary, write_archive
from index.catalogue import Catalogue
from index.catalogue_reader import CatalogueReader
from index.catalogue_records import class_record, clip_record
from index.checks import check_unit_vector, checked_class, checked_clip
from index.clip_filter import matching_clips
from index.current_space import CurrentSpace
from index.database import sqlite_url
from index.directory_lock import DirectoryLock
from index.durable import make_directory, storage_errors
from index.errors import DuplicateClip, StorageError
from index.follower import Follower
from index.fusion import check_weights, unit_length, weighted_mean
from index.job_types import Claim
from index.jobs import JobStore
from index.media import MediaPlace, ReadableMediaPlace, open_media
from index.media_store import StagedFile
from index.names import (
    checked_description,
    checked_name,
    checked_source,
    checked_synonyms,
    checked_tags,
    printable,
)
from index.ownership import adopt_model, claim_directory
from index.progress import Progress, silent
from index.registry import kind_of
from index.reindexing import NewModel, Reindexing, Swap, adopt, cancel
from index.space import Space
from index.sweep import Sweep, delete_unneeded
from index.types import (
    ClassName,
    Clip,
    Hit,
    LabelScores,
    LibraryStatus,
    ModalityWeights,
    NewClass,
    NewClip,
    Page,
    SearchFilter,
    SearchModality,
    Vector,
)
from index.vector_cache import VectorCache
from index.vector_store import check_vectors

MINUS_WEIGHT = 0.5
"""How much the mean similarity to unwanted vectors counts against a result."""


class Library:
    """One directory's clips and classes, by one model. Any thread may call any method.

    Reads see what every write that has returned did. Writes wait for each other; a write that has
    returned is on disk.
    """

    def __init__(
        self,
        directory: Path,
        *,
        space: Space,
        media: MediaPlace,
        vector_store: str,
        shared: bool,
    ) -> None:
        """Use `Library.open`."""
        self._directory = directory
        self._vector_store = vector_store
        self._files = media
        self._closing = threading.Lock()
        self._resources = ExitStack()
        space.load()
        self._current = CurrentSpace(space, directory, shared=shared)
        self._sweep = Sweep(space.catalogue, media, directory, exclusive=self._current.exclusive)
        self.jobs = JobStore(
            space.catalogue.engine,
            media.media,
            owner=f"{socket.gethostname()}:{directory.resolve()}",
            alone=not shared,
            exclusive=self._current.exclusive,
            delete_unneeded=lambda content_hash: delete_unneeded(
                self._catalogue, media, content_hash, None
            ),
        )
        """What is to be done later; its work ends before the library is closed."""
        self._follower = Follower(self._current.follow_others) if shared else None

    @classmethod
    def open(
        cls,
        directory: Path,
        *,
        model_id: str,
        dim: int,
        weights: ModalityWeights = ModalityWeights(),  # noqa: B008 - frozen
        vector_store: str = "faiss",
        catalogue_url: str | None = None,
        media_url: str | None = None,
    ) -> "Library":
        """Open a directory's library, made where absent, for a model whose vectors are (dim,).

        Several processes, each with a directory of its own, may share a catalogue by its URL: what
        one of them writes, the others know within a second. So that all of them can serve the
        clips' files, these then lie in a place that they share, too: `media_url`.

        Raises LibraryLocked while another process has the directory open, ModelMismatch where it
        holds clips or classes by another model, StorageError where disk or database refuse,
        ValueError for bad weights or an unknown vector store.
        """
        check_weights(weights)
        with storage_errors(f"create {directory}"):
            make_directory(directory)
        with ExitStack() as resources:
            lock = DirectoryLock(directory)
            resources.callback(lock.release)
            catalogue = Catalogue.open(
                catalogue_url or sqlite_url(directory / "catalogue.sqlite"), model_id=model_id
            )
            resources.callback(catalogue.close)
            library_id = claim_directory(catalogue, directory)
            adopt_model(catalogue, model_id=model_id, dim=dim)
            with catalogue.read() as reader:
                has_clips = reader.count_clips() > 0
            media = open_media(directory, media_url, library_id=library_id, has_clips=has_clips)
            cache = _open_cache(directory, vector_store, dim=dim, model_id=model_id)
            resources.callback(cache.close)
            space = Space(catalogue, cache, dim=dim, weights=weights)
            library = cls(
                directory,
                space=space,
                media=media,
                vector_store=vector_store,
                shared=catalogue_url is not None,
            )
            library._resources = resources.pop_all()
            return library

    def close(self) -> None:
        """Save the vectors, so that the next `open` need not rebuild them, and let others in."""
        if self._follower is not None:
            self._follower.stop()
        self._sweep.stop()
        with self._closing, self._resources:
            self._current.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def model_id(self) -> str:
        """The model in use: whose vectors are held."""
        return self._space.model_id

    def wait_for_sweep(self) -> None:
        """Return once what a crash left is deleted: files without a clip, a former model's rows."""
        self._sweep.wait()

    def status(self) -> LibraryStatus:
        """Count what is held."""
        with self._current.reading() as reader:
            stores = self._space.stores()
            return LibraryStatus(
                model_id=self._space.model_id,
                vector_store=kind_of(self._vector_store),
                clips=reader.count_clips(),
                segments=len(self._space.segments.windows),
                classes=reader.count_classes(),
                vectors={name: store.count() for name, store in stores.items()},
                indexes={name: store.describe() for name, store in stores.items()},
                reindex=reader.reindex_progress(),
            )

    # Classes

    def seed_classes(self, vocabulary_id: str, classes: Sequence[NewClass]) -> int:
        """Add a vocabulary's classes, once for ever; return how many were new.

        A name that is taken keeps its class, which becomes `seen` if the vocabulary's is. A second
        call for the same vocabulary does nothing, whatever was deleted since. Raises
        InvalidClassName, ValueError for a bad vector, StorageError; then none is added.
        """
        with self._current.exclusive():
            with self._current.reading() as reader:
                if reader.is_seeded(vocabulary_id):
                    return 0
            checked = [checked_class(new, self._space.dim) for new in classes]
            with self._current.write() as writer:
                # Another process that shares the catalogue may have been first.
                added = 0
                if not writer.is_seeded(vocabulary_id):
                    added = writer.seed_classes(vocabulary_id, checked)
            self._current.follow()
            return added

    def add_class(self, new: NewClass, *, model_id: str | None = None) -> ClassName:
        """Add a class, known to the next question.

        `model_id` is whose vector it is. Raises ClassExists, InvalidClassName, ModelMismatch,
        ValueError for a bad vector, StorageError.
        """
        with self._current.exclusive():
            self._current.refuse_other_model(model_id)
            new = checked_class(new, self._space.dim)
            with self._current.write() as writer:
                row = writer.add_class(new)
            self._current.follow()
            return class_record(row)

    def update_class(
        self,
        class_id: str,
        *,
        name: str | None = None,
        synonyms: Sequence[str] | None = None,
        description: str | None = None,
        enabled: bool | None = None,
        vector: Vector | None = None,
        model_id: str | None = None,
    ) -> ClassName:
        """Change what is given. A seeded class that a user changes is from then on the user's.

        New words need a new `vector` (D,), which the caller makes by the model `model_id`. Raises
        ClassNotFound, ClassExists, InvalidClassName, ModelMismatch, ValueError for a bad vector,
        StorageError.
        """
        with self._current.exclusive():
            self._current.refuse_other_model(model_id)
            if vector is not None:
                check_unit_vector(vector, self._space.dim)
            with self._current.write() as writer:
                row = writer.class_row(class_id)
                row.vocabulary_id = None
                if name is not None or synonyms is not None:
                    new_name = row.name if name is None else checked_name(name)
                    words = row.synonyms if synonyms is None else synonyms
                    writer.rename_class(row, new_name, checked_synonyms(new_name, words))
                if description is not None:
                    row.description = checked_description(description)
                writer.forget_other_class_vectors(row)
                if enabled is not None:
                    row.enabled = enabled
                if vector is not None:
                    writer.set_class_vector(row, vector)
                writer.class_changed(row)
            self._current.follow()
            return class_record(row)

    def remove_class(self, class_id: str) -> None:
        """Forget a class. Raises ClassNotFound, StorageError."""
        with self._current.exclusive():
            with self._current.write() as writer:
                row = writer.class_row(class_id)
                writer.remove_class(row)
            self._current.follow()

    def get_class(self, class_id: str) -> ClassName:
        """Return a class. Raises ClassNotFound."""
        with self._current.reading() as reader:
            return class_record(reader.class_row(class_id))

    def list_classes(
        self,
        *,
        offset: int = 0,
        limit: int = 100,
        query: str | None = None,
        seen: bool | None = None,
    ) -> Page[ClassName]:
        """Return classes in order of arrival; `query` is part of a name or synonym, in any case.

        Raises ValueError for a negative offset or a limit below 1.
        """
        _check_slice(offset, limit)
        with self._current.reading() as reader:
            return reader.class_page(offset=offset, limit=limit, query=query, seen=seen)

    def label_similarities(
        self, queries: NDArray[np.float32], *, model_id: str | None = None
    ) -> LabelScores:
        """Return the similarity of queries (Q, D) float32 to all C enabled classes; C may be 0.

        `model_id` is whose vectors they are. Raises ModelMismatch, ValueError for a wrong shape,
        dtype or a value not finite.
        """
        self._current.catch_up()
        with self._current.staying() as space:
            self._current.refuse_other_model(model_id)
            return space.labels.similarities(queries)

    # Clips

    def add_clip(
        self,
        new: NewClip,
        media: Path,
        *,
        model_id: str | None = None,
        refuse_duplicate: bool = False,
        claim: Claim | None = None,
    ) -> Clip:
        """Store a clip and a copy of its media file; the next search finds it.

        File name and content type are cleaned of unprintable characters. `model_id` is whose
        vectors it has. Raises InvalidTag, ModelMismatch, ValueError for a bad vector or window,
        StorageError, and DuplicateClip where that is asked for and a clip of the same bytes is
        there; then nothing is stored. The item of a job that it becomes ends with it, or neither
        happens: JobItemLost where the `claim` on it is no longer good.
        """
        with ExitStack() as staging:
            media_file = staging.enter_context(self._files.media.staging(media))
            thumbnail = None
            if new.thumbnail is not None:
                thumbnail = staging.enter_context(self._files.thumbnails.staging(new.thumbnail))
            staging.enter_context(self._current.exclusive())
            try:
                self._current.refuse_other_model(model_id)
                new = checked_clip(new, self._space.dim)
                clip = self._record_clip(
                    new, media_file, thumbnail, refuse_duplicate=refuse_duplicate, claim=claim
                )
            except BaseException:
                delete_unneeded(
                    self._catalogue, self._files, media_file.content_hash, _hash(thumbnail)
                )
                raise
            self._current.follow()
            return clip

    def get_clip(self, clip_id: str) -> Clip:
        """Return a clip. Raises ClipNotFound."""
        with self._current.reading() as reader:
            return clip_record(reader.clip_row(clip_id))

    def clip_of(self, content_hash: str) -> Clip | None:
        """Return the first clip whose media have this SHA-256 (lower-case hexadecimal), or None."""
        with self._current.reading() as reader:
            row = reader.clip_of(content_hash)
            return None if row is None else clip_record(row)

    def content_hashes(self) -> set[str]:
        """Return the SHA-256 of all clips' media, lower-case hexadecimal."""
        with self._current.reading() as reader:
            media, _ = reader.files_of_clips()
            return media

    def list_clips(
        self, *, filter: SearchFilter | None = None, offset: int = 0, limit: int = 50
    ) -> Page[Clip]:
        """Return clips, newest first.

        Raises ValueError for a negative offset or a limit below 1.
        """
        _check_slice(offset, limit)
        self._current.catch_up()
        with self._current.reading() as reader:
            wanted = filter or SearchFilter()
            if wanted == SearchFilter():
                total, shown = reader.count_clips(), reader.newest_clips(offset, limit)
            else:
                matching = self._matching(reader, wanted)
                total, shown = len(matching), matching[offset : offset + limit]
            clips = reader.clips(shown)
            return Page(tuple(clips[row_id] for row_id in shown), total, offset)

    def update_clip(
        self,
        clip_id: str,
        *,
        tags: Sequence[str] | None = None,
        filename: str | None = None,
        source: str | None = None,
    ) -> Clip:
        """Change what is given.

        Raises ClipNotFound, InvalidTag, StorageError, ValueError for a bad source.
        """
        with self._current.exclusive(), self._current.write() as writer:
            row = writer.clip_row(clip_id)
            if tags is not None:
                writer.set_tags(row, checked_tags(tags))
            if filename is not None:
                row.filename = printable(filename)
            if source is not None:
                row.source = checked_source(source)
            return clip_record(row)

    def remove_clip(self, clip_id: str) -> None:
        """Forget a clip, and delete its files unless another clip is made of them.

        Raises ClipNotFound, StorageError.
        """
        with self._current.exclusive():
            with self._current.write() as writer:
                row = writer.clip_row(clip_id)
                writer.remove_clip(row)
            self._current.follow()
            delete_unneeded(self._catalogue, self._files, row.content_hash, row.thumbnail_hash)

    def clip_vector(self, clip_id: str, modality: SearchModality = "both") -> Vector | None:
        """Return a clip's embedding (D,), unit length; None where it lacks the modality.

        `both` is the weighted mean of the modalities present. Raises ClipNotFound.
        """
        with self._current.reading() as reader:
            row = reader.clip_row(clip_id)
            ((pair,),) = reader.clip_vectors([row.id])
        if modality == "both":
            mean = weighted_mean(pair.audio, pair.video, self._space.weights)
            return None if mean is None else unit_length(mean)
        return pair.audio if modality == "audio" else pair.video

    def open_media(self, clip_id: str) -> BinaryIO:
        """Open a clip's media file, to read it from any place in it; the caller closes it.

        Raises ClipNotFound, StorageError where the file is gone or cannot be reached.
        """
        with self._current.reading() as reader:
            content_hash = reader.clip_row(clip_id).content_hash
        try:
            return self._files.media.open(content_hash)
        except FileNotFoundError as error:
            raise _missing_media(clip_id, content_hash) from error
        except OSError as error:
            raise StorageError(
                f"The media file of the clip {clip_id} cannot be read: {error}."
            ) from error

    @contextmanager
    def local_media(self, clip_id: str) -> Iterator[Path]:
        """Give a path to read a clip's media file by, for a while.

        Raises ClipNotFound, StorageError where the file is gone or cannot be reached.
        """
        with self._current.reading() as reader:
            content_hash = reader.clip_row(clip_id).content_hash
        with self._files.media.local(content_hash) as path:
            if not path.exists():
                raise _missing_media(clip_id, content_hash)
            yield path

    def thumbnail(self, clip_id: str) -> bytes | None:
        """Return a clip's thumbnail, None where it has none. Raises ClipNotFound, StorageError."""
        with self._current.reading() as reader:
            content_hash = reader.clip_row(clip_id).thumbnail_hash
        if content_hash is None:
            return None
        with (
            storage_errors(f"read the thumbnail of the clip {clip_id}"),
            self._files.thumbnails.open(content_hash) as file,
        ):
            return file.read()

    # Backup

    def export(
        self,
        archive: Path,
        *,
        overwrite: bool = False,
        allow_missing: bool = False,
        progress: Progress = silent,
    ) -> BackupSummary:
        """Write all that is held at one moment to an archive, while others read and write.

        Raises StorageError as `write_archive` does.
        """
        self._current.refuse_closed()
        return write_archive(
            self._catalogue,
            self._directory,
            archive,
            media=ReadableMediaPlace(*self._files),
            overwrite=overwrite,
            allow_missing=allow_missing,
            progress=progress,
        )

    # The change to another model

    def reindexing(
        self, model: NewModel, *, on_swap: Callable[[], None] = lambda: None
    ) -> Reindexing:
        """Return the change to another model, which begins with its `run`, or goes on.

        Meanwhile searches and writes go on by the model in use; at the end of `run` the other one
        is in use. `on_swap` is called at that moment, while nobody reads or writes; it must be
        quick and must not raise. Raises ModelMismatch where the model is in use already.
        """
        self._current.refuse_closed()
        return Reindexing(
            self._catalogue,
            self._files.media,
            model,
            exclusive=self._current.exclusive,
            prepare=partial(self._succession, on_swap=on_swap),
        )

    def cancel_reindexing(self) -> bool:
        """Give a change of model up, under way or interrupted; return whether there was one.

        Raises StorageError.
        """
        return cancel(self._catalogue, self._current.exclusive)

    def reweigh(self, weights: ModalityWeights, on_swap: Callable[[], None]) -> None:
        """Put a clip's two modalities together by other weights, from now on and in what is there.

        Writes wait meanwhile. `on_swap` is called as by `reindexing`. Raises ValueError for bad
        weights, StorageError.
        """
        check_weights(weights)
        with self._current.exclusive():
            with self._catalogue.read() as reader:
                take_over = self._space.reweighing(reader, weights)
            with self._current.nobody_reading():
                former = take_over()
                on_swap()
            if former is not None:
                former.close()

    @contextmanager
    def _succession(self, model: NewModel, *, on_swap: Callable[[], None]) -> Iterator[Swap]:
        """Make another model's indexes while all goes on; yield what then puts it in use.

        That is called by the one writer, once the rows are complete.
        """
        catalogue = self._catalogue.for_model(model.model_id)
        cache = _open_cache(
            self._directory, self._vector_store, dim=model.dim, model_id=model.model_id
        )
        space = Space(catalogue, cache, dim=model.dim, weights=model.weights)
        with ExitStack() as abandoning:
            abandoning.callback(cache.close)
            space.prepare()

            def swap() -> None:
                with ExitStack() as swapping:
                    with catalogue.reindex() as writer:
                        adopt(writer, model)
                        space.complete(writer)
                        # Readers wait for the commit only: none may see one model's rows with
                        # another's vectors.
                        swapping.enter_context(self._current.nobody_reading())
                    abandoning.pop_all()
                    former = self._current.replace(space)
                    self._resources.callback(cache.close)
                    on_swap()
                former.close()

            yield swap

    # Search

    def search(
        self,
        query: Vector,
        *,
        modality: SearchModality = "both",
        top_k: int = 5,
        filter: SearchFilter | None = None,
        minus: Sequence[Vector] = (),
        exclude: Collection[str] = (),
        model_id: str | None = None,
    ) -> list[Hit]:
        """Return the top_k clips whose best window is most similar to query (D,), best first.

        With `minus` vectors (D,), half their mean similarity to a window is taken off its score.
        `exclude` are clip ids to leave out; `model_id` is whose vectors these are. Raises
        ModelMismatch, ValueError for top_k < 1 or a bad vector.
        """
        if top_k < 1:
            raise ValueError(f"top_k must be at least 1; got {top_k}.")
        self._current.catch_up()
        with self._current.reading() as reader:
            self._current.refuse_other_model(model_id)
            combined = self._combined(query, minus)
            segments = self._space.segments
            allowed = None
            if filter is not None:
                allowed = segments.windows.of_clips(self._matching(reader, filter))
            excluded = set(reader.clip_rows(clip_ids=exclude)) if exclude else set()
            while True:
                found = segments.search(
                    combined,
                    modality,
                    top_k,
                    allowed=allowed,
                    excluded=excluded,
                    whole=reader.vectors_of_segments,
                )
                clips = reader.clips([window.clip_row for _, window in found])
                others = {window.clip_row for _, window in found} - clips.keys()
                if not others:
                    break
                # Deleted by this moment or added since: the vectors are of another one.
                excluded |= others
        return [
            Hit(clips[window.clip_row], score, window.start_seconds, window.end_seconds)
            for score, window in found
        ]

    def _combined(self, query: Vector, minus: Sequence[Vector]) -> Vector:
        """Return the vector (D,) whose inner product is the score."""
        vectors = np.stack([query, *minus])
        check_vectors(vectors, self._space.dim)
        if not minus:
            return query
        combined: Vector = vectors[0] - np.float32(MINUS_WEIGHT) * vectors[1:].mean(axis=0)
        return combined

    # Parts of the above

    @property
    def _space(self) -> Space:
        return self._current.space

    @property
    def _catalogue(self) -> Catalogue:
        return self._current.catalogue

    def _record_clip(
        self,
        new: NewClip,
        media_file: StagedFile,
        thumbnail: StagedFile | None,
        *,
        refuse_duplicate: bool,
        claim: Claim | None,
    ) -> Clip:
        """Make the files and then the rows of a clip durable."""
        with self._current.write() as writer:
            if refuse_duplicate:
                present = writer.clip_of(media_file.content_hash)
                if present is not None:
                    raise DuplicateClip(present.clip_id)
            # Nobody deletes a file meanwhile because it had no row yet: that, too, waits.
            self._files.media.keep(media_file)
            if thumbnail is not None:
                self._files.thumbnails.keep(thumbnail)
            clip = writer.add_clip(
                new,
                content_hash=media_file.content_hash,
                size_bytes=media_file.size_bytes,
                thumbnail_hash=_hash(thumbnail),
            )
            if claim is not None:
                writer.jobs.end_done(claim, clip_id=clip.clip_id)
            return clip

    def _matching(self, reader: CatalogueReader, filter: SearchFilter) -> list[int]:
        return matching_clips(reader, filter, self._space.clip_labels)


def _open_cache(directory: Path, vector_store: str, *, dim: int, model_id: str) -> VectorCache:
    return VectorCache(directory / "vectors", kind=vector_store, dim=dim, model_id=model_id)


def _hash(staged: StagedFile | None) -> str | None:
    return None if staged is None else staged.content_hash


def _check_slice(offset: int, limit: int) -> None:
    if offset < 0 or limit < 1:
        raise ValueError(
            f"A page needs offset >= 0 and limit >= 1; got offset {offset}, limit {limit}."
        )


def _missing_media(clip_id: str, content_hash: str) -> StorageError:
    return StorageError(
        f"The media file of the clip {clip_id} is missing ({content_hash}); restore it from a "
        "backup or delete the clip."
    )

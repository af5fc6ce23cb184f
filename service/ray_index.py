"""Indexing on Ray: workers decode and embed, and this process alone writes to the library."""

import logging
import uuid
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import ray

from index.errors import DuplicateClip
from index.media_store import file_digest
from index.names import checked_tags
from index.types import Clip
from model.errors import MediaError
from service.content_types import safe_content_type
from service.folder_indexing import Outcome, in_threads, kept_source, known_outcome, reason_of
from service.media_source import fetch, name_of
from service.multipart_form import safe_filename
from service.pipeline import new_clip
from service.ray_cluster import connected_cluster, shortage
from service.ray_indexing import (
    EmbeddedFile,
    FailedFile,
    FileResult,
    describe_model,
    embedded_files,
)
from service.ray_model import LoadEmbedder, ModelDescription
from service.resources import job_limits, load_embedder, open_library, with_model_in_use
from service.settings import Settings

if TYPE_CHECKING:
    from index.library import Library

logger = logging.getLogger(__name__)


class IndexStopped(Exception):
    """The cluster could not go on; what is stored stays."""


@dataclass(frozen=True, slots=True)
class IndexRun:
    """A library that is open for a model, which the cluster is to load with `load`."""

    settings: Settings
    library: "Library"
    model: ModelDescription
    load: LoadEmbedder

    def outcomes(
        self, sources: Sequence[str], *, tags: Sequence[str], workers: int
    ) -> Generator[Outcome, None, None]:
        """Store sources, each once, and yield what became of each, in the order of their ends.

        `workers` files are written at a time. Raises InvalidTag, StorageError, IndexStopped.
        """
        writer = LibraryWriter(
            self.library,
            self.settings,
            tags=checked_tags(tags),
            model_id=self.model.card.space_id,
        )
        results = embedded_files(
            sources,
            known=self.library.content_hashes(),
            settings=self.settings,
            spec=self.model.decode_spec,
            load=self.load,
        )
        try:
            with closing(results):
                yield from in_threads(writer.store, results, workers=workers)
        except ray.exceptions.RayError as error:
            raise IndexStopped(_root_cause(error)) from error


@contextmanager
def index_run(settings: Settings, load: LoadEmbedder = load_embedder) -> Iterator[IndexRun]:
    """Connect to the cluster and open the library of the settings.

    What the cluster lacks is told, and waited for.

    Raises ConnectionError, ModelError, LibraryError.
    """
    settings = with_model_in_use(settings)
    with connected_cluster():
        if (warning := shortage(needed_to_index(settings), ray.available_resources())) is not None:
            logger.warning(warning)
        model = describe_model(settings, load)
        with open_library(settings, model) as library:
            yield IndexRun(settings, library, model, load)


def needed_to_index(settings: Settings) -> dict[str, float]:
    """Return the CPUs and GPUs that one decoder and the fewest copies of the model take."""
    return {
        "CPU": 1 + settings.ray_min_models * settings.ray_model_cpus,
        "GPU": settings.ray_min_models * settings.ray_model_gpus,
    }


class LibraryWriter:
    """Stores each file once, whatever was stored before and meanwhile; from any thread.

    Args:
        library: of the embeddings' model.
        settings: where files lie while they are received, and how large they may be.
        tags: of what is stored.
        model_id: whose vectors the embeddings are.
    """

    def __init__(
        self, library: "Library", settings: Settings, *, tags: Sequence[str], model_id: str
    ) -> None:
        self._library = library
        self._limits = job_limits(settings)
        # A service that has the library next clears it of what a crash has left.
        self._folder = settings.uploads_dir
        self._folder.mkdir(parents=True, exist_ok=True)
        self._tags = tags
        self._model_id = model_id

    def store(self, result: FileResult) -> Outcome:
        """Store what was embedded, and say what became of the file.

        Raises StorageError, and what the source's file system raises.
        """
        if isinstance(result, FailedFile):
            return Outcome(result.source, "failed", code=result.code, detail=result.detail)
        present = self._library.clip_of(result.sha256)
        if present is not None:
            return self._known(result.source, present)
        if isinstance(result, EmbeddedFile):
            return self._store_new(result)
        detail = "The clip of this file was removed meanwhile; run the command again."
        return Outcome(result.source, "failed", code="clip_not_found", detail=detail)

    def _store_new(self, embedded: EmbeddedFile) -> Outcome:
        source, path = embedded.source, self._folder / uuid.uuid4().hex
        try:
            fetch(source, path, self._limits)
            clip_id = self._add(embedded, path)
        except DuplicateClip as error:
            return self._known(source, self._library.get_clip(error.clip_id))
        except OSError as error:
            code, detail = "unreadable_file", reason_of(error)
        except MediaError as error:
            code, detail = error.code, str(error)
        else:
            if clip_id is not None:
                return Outcome(source, "stored", clip_id)
            code = "file_changed"
            detail = "The file changed after it was embedded; run the command again."
        finally:
            path.unlink(missing_ok=True)
        return Outcome(source, "failed", code=code, detail=detail)

    def _add(self, embedded: EmbeddedFile, path: Path) -> str | None:
        """Return the new clip's id; None where these are not the bytes that were embedded."""
        if file_digest(path) != embedded.sha256:
            return None
        filename = safe_filename(name_of(embedded.source))
        new = new_clip(
            embedded.embedding,
            filename=filename,
            content_type=safe_content_type("", filename),
            tags=self._tags,
            thumbnail=embedded.thumbnail,
            source=kept_source(embedded.source),
        )
        clip = self._library.add_clip(new, path, model_id=self._model_id, refuse_duplicate=True)
        return clip.clip_id

    def _known(self, source: str, clip: Clip) -> Outcome:
        return known_outcome(
            source,
            source=kept_source(source),
            clip_id=clip.clip_id,
            clip_source=clip.source,
            update_source=lambda new: self._library.update_clip(clip.clip_id, source=new),
        )


def _root_cause(error: BaseException) -> str:
    """Say what was raised first: Ray adds the traceback of each worker that it came through."""
    while (cause := getattr(error, "cause", None) or error.__cause__) is not None:
        error = cause
    message = str(error).partition("\n")[0]
    return f"The cluster stopped: {type(error).__name__}: {message}"

"""Whether a library is whole: its catalogue, its files and its saved vectors.

The catalogue and the files can be verified while another process has the library open. That
process's vectors are in its memory, and files that no row names yet may be on their way in.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from sqlalchemy import URL

from index.catalogue import Catalogue
from index.catalogue_auditor import ClipFiles, StoredVector
from index.checks import check_unit_vector
from index.database import sqlite_url
from index.directory_lock import DirectoryLock
from index.errors import LibraryLocked, StorageError
from index.media import ReadableMedia, read_media
from index.media_hold import abandoned_holds
from index.media_store import MediaFolder, file_digest
from index.ownership import check_directory
from index.progress import Progress, counted, silent
from index.vector_cache import VectorCache
from index.vector_indexes import store_contents, weights_of_names, window_content
from index.window_file import WINDOWS

FindingKind = Literal[
    "database_damaged",
    "orphan_rows",
    "other_model",
    "incomplete",
    "bad_vector",
    "media_missing",
    "media_damaged",
    "thumbnail_missing",
    "thumbnail_damaged",
    "stray_file",
    "saved_vectors",
]


@dataclass(frozen=True, slots=True)
class Finding:
    """Something wrong: of what kind, with what (an id, a path, a table), and what to do."""

    kind: FindingKind
    subject: str
    detail: str


@dataclass(frozen=True, slots=True)
class Verification:
    """What was found; `skipped` says what could not be looked at, and why."""

    model_id: str
    classes: int
    clips: int
    segments: int
    files: int
    findings: tuple[Finding, ...]
    skipped: tuple[str, ...]


def verify_library(
    directory: Path,
    *,
    catalogue_url: URL | str | None = None,
    media_url: str | None = None,
    vector_store: str = "faiss",
    progress: Progress = silent,
) -> Verification:
    """Look for everything that is wrong with a library, and change nothing.

    Raises LibraryNotFound, StorageError where the directory is another library's or cannot be
    read, ValueError for an unknown vector store.
    """
    with ExitStack() as resources:
        catalogue = open_catalogue(directory, catalogue_url, resources)
        held_by = None
        try:
            resources.callback(DirectoryLock(directory).release)
        except LibraryLocked as error:
            held_by = error.holder
        return Inspection(
            catalogue,
            directory,
            media_url=media_url,
            vector_store=vector_store,
            progress=progress,
            held_by=held_by,
        ).run()


def open_catalogue(
    directory: Path, catalogue_url: URL | str | None, resources: ExitStack
) -> Catalogue:
    """Open the catalogue of a directory until `resources` are closed.

    Raises LibraryNotFound, StorageError.
    """
    catalogue = Catalogue.open_existing(catalogue_url or sqlite_url(directory / "catalogue.sqlite"))
    resources.callback(catalogue.close)
    check_directory(catalogue, directory)
    return catalogue


class Inspection:
    """One verification under way; `held_by` is the pid of who has the library open, if anyone."""

    def __init__(
        self,
        catalogue: Catalogue,
        directory: Path,
        *,
        media_url: str | None,
        vector_store: str,
        progress: Progress,
        held_by: str | None,
    ) -> None:
        self._catalogue = catalogue
        self._directory = directory
        self._vector_store = vector_store
        self._progress = progress
        self._held_by = held_by
        self._media = read_media(directory, media_url)
        self._media_url = media_url
        self._files = 0
        self._skipped: list[str] = []

    def run(self) -> Verification:
        """Look everywhere."""
        findings = list(self._database())
        counts = (0, 0, 0)
        if findings:
            self._skipped.append(
                "Rows, files and vectors were not checked: the database is damaged."
            )
        else:
            with self._catalogue.audit() as auditor:
                counts = (
                    auditor.count_classes(),
                    auditor.count_clips(),
                    auditor.count_segments(),
                )
                clips = list(auditor.clip_files())
            findings += self._rows()
            findings += self._clip_files(clips)
            if self._held_by is None:
                findings += self._strays(clips)
                findings += self._saved_vectors(findings)
            else:
                self._skipped.append(
                    "Stray files and saved vectors were not checked, as the library is open: the "
                    f"process with pid {self._held_by} may change them at any moment. Stop it and "
                    "verify again to check these too."
                )
        classes, clip_count, segments = counts
        return Verification(
            model_id=self._catalogue.model_id,
            classes=classes,
            clips=clip_count,
            segments=segments,
            files=self._files,
            findings=tuple(findings),
            skipped=tuple(self._skipped),
        )

    # The catalogue

    def _database(self) -> Iterator[Finding]:
        self._progress("Checking the database", 0, 1)
        try:
            problems = self._catalogue.integrity_problems()
        except StorageError as error:
            problems = [str(error)]
        for problem in problems:
            yield Finding("database_damaged", "catalogue", f"{problem}; restore a backup.")

    def _rows(self) -> Iterator[Finding]:
        with self._catalogue.audit() as auditor:
            for table, count in auditor.orphans().items():
                yield Finding(
                    "orphan_rows", table, f"{count} rows belong to nothing; repair deletes them."
                )
            for table, count in auditor.rows_of_other_models().items():
                yield Finding(
                    "other_model",
                    table,
                    f"{count} rows are by another model than {auditor.fact('model_id')}; index "
                    "them anew.",
                )
            for clip_id in auditor.clips_without_windows():
                yield Finding("incomplete", f"clip {clip_id}", "It has no windows; store it anew.")
            for clip_id in auditor.clips_without_vectors():
                yield Finding("incomplete", f"clip {clip_id}", "It has no vectors; store it anew.")
            for class_id in auditor.classes_without_vector():
                yield Finding("incomplete", f"class {class_id}", "It has no vector; add it anew.")
            for class_id in auditor.classes_of_no_vocabulary():
                yield Finding(
                    "incomplete", f"class {class_id}", "Its vocabulary is unknown; add it anew."
                )
            dim = int(auditor.fact("dim") or 0)
            rows = counted(
                auditor.vectors(), auditor.count_vectors(), "Checking vectors", self._progress
            )
            for vectors in rows:
                for vector in vectors:
                    problem = _vector_problem(vector, dim)
                    if problem is not None:
                        yield Finding("bad_vector", vector.subject, problem)

    # Files

    def _clip_files(self, clips: Sequence[ClipFiles]) -> Iterator[Finding]:
        known: dict[tuple[str, str], str | None] = {}
        for clip in counted(clips, len(clips), "Checking files", self._progress):
            wanted: list[tuple[Literal["media", "thumbnail"], ReadableMedia, str | None]] = [
                ("media", self._media.media, clip.content_hash),
                ("thumbnail", self._media.thumbnails, clip.thumbnail_hash),
            ]
            for kind, media, content_hash in wanted:
                if content_hash is None:
                    continue
                if (kind, content_hash) not in known:
                    known[kind, content_hash] = _file_state(media, content_hash)
                    self._files += 1
                state = known[kind, content_hash]
                if state is not None and not self._removed_meanwhile(clip):
                    yield _file_finding(kind, state, clip, content_hash)

    def _removed_meanwhile(self, clip: ClipFiles) -> bool:
        with self._catalogue.audit() as auditor:
            return not auditor.clip_rows(clip_ids=[clip.clip_id])

    def _strays(self, clips: Sequence[ClipFiles]) -> Iterator[Finding]:
        strays = abandoned_holds(self._directory)
        if self._media_url is None:
            with self._catalogue.read() as reader:
                needed = {clip.content_hash for clip in clips} | reader.waiting_uploads()
            thumbnails = {clip.thumbnail_hash for clip in clips if clip.thumbnail_hash}
            strays += MediaFolder(self._directory / "media").strays(needed)
            strays += MediaFolder(self._directory / "thumbnails").strays(thumbnails)
        else:
            self._skipped.append(
                "Stray files were not checked: other processes may write to the shared place."
            )
        for path in strays:
            shown = str(path.relative_to(self._directory))
            yield Finding("stray_file", shown, "No clip needs it; repair deletes it.")

    # Saved vectors

    def _saved_vectors(self, findings: Sequence[Finding]) -> Iterator[Finding]:
        if any(finding.kind == "bad_vector" for finding in findings):
            self._skipped.append(
                "Saved vectors were not checked: the catalogue's own are not all sound."
            )
            return
        cache = open_cache(self._catalogue, self._directory, self._vector_store)
        saved = cache.saved()
        with self._catalogue.audit() as auditor:
            contents = store_contents(auditor, weights_of_names(saved))
            wanted = [content for content in contents if content.name in saved]
            moment = auditor.moment()
            for content in counted(wanted, len(wanted), "Checking saved vectors", self._progress):
                if (problem := cache.problem(content, moment=moment)) is not None:
                    yield _saved_finding(content.name, problem)
            if WINDOWS in saved:
                problem = cache.windows_problem(window_content(auditor), moment=moment)
                if problem is not None:
                    yield _saved_finding(WINDOWS, problem)


def open_cache(catalogue: Catalogue, directory: Path, vector_store: str) -> VectorCache:
    """Return the saved vectors of a catalogue's model."""
    with catalogue.read() as reader:
        dim = int(reader.fact("dim") or 0)
    return VectorCache(
        directory / "vectors", kind=vector_store, dim=dim, model_id=catalogue.model_id
    )


def _vector_problem(vector: StoredVector, dim: int) -> str | None:
    if len(vector.content) != 4 * dim:
        return f"Its vector has {len(vector.content)} bytes; {dim} numbers have {4 * dim}."
    try:
        check_unit_vector(np.frombuffer(vector.content, "<f4").astype(np.float32), dim)
    except ValueError as error:
        return str(error)
    return None


def _saved_finding(name: str, problem: str) -> Finding:
    advice = "repair or the next start makes them anew"
    return Finding("saved_vectors", name, f"{problem.rstrip('.')}; {advice}.")


def _file_state(media: ReadableMedia, content_hash: str) -> str | None:
    """Return "missing", "damaged", or None where a file is as it should be."""
    with media.local(content_hash) as path:
        try:
            return None if file_digest(path) == content_hash else "damaged"
        except FileNotFoundError:
            return "missing"
        except OSError:
            return "damaged"


def _file_finding(
    kind: Literal["media", "thumbnail"], state: str, clip: ClipFiles, content_hash: str
) -> Finding:
    advice = (
        "restore it from a backup, or delete the clip"
        if kind == "media"
        else "restore it from a backup, or store the clip anew"
    )
    kinds: dict[tuple[str, str], FindingKind] = {
        ("media", "missing"): "media_missing",
        ("media", "damaged"): "media_damaged",
        ("thumbnail", "missing"): "thumbnail_missing",
        ("thumbnail", "damaged"): "thumbnail_damaged",
    }
    return Finding(kinds[kind, state], clip.clip_id, f"File {content_hash} is {state}; {advice}.")

"""Mending a library: what `index.verification` finds and what nobody misses is put right."""

from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import URL

from index.catalogue import Catalogue
from index.directory_lock import DirectoryLock
from index.errors import ClipNotFound, StorageError
from index.media import MediaPlace
from index.media_hold import sweep_holds
from index.media_store import MediaStore
from index.progress import Progress, silent
from index.sweep import sweep_files
from index.vector_indexes import store_contents, weights_of_names, window_content
from index.verification import (
    Finding,
    FindingKind,
    Inspection,
    Verification,
    open_cache,
    open_catalogue,
)

MENDED: frozenset[FindingKind] = frozenset({"orphan_rows", "stray_file", "saved_vectors"})
"""What a repair mends unasked: nothing of it is a user's."""

FORGOTTEN: frozenset[FindingKind] = frozenset({"media_missing", "thumbnail_missing"})
"""What a repair mends by forgetting, if it may."""


@dataclass(frozen=True, slots=True)
class Repair:
    """What was wrong and was mended, and what was left as it is."""

    mended: tuple[Finding, ...]
    left: tuple[Finding, ...]
    skipped: tuple[str, ...]


def repair_library(
    directory: Path,
    *,
    catalogue_url: URL | str | None = None,
    media_url: str | None = None,
    vector_store: str = "faiss",
    forget_missing: bool = False,
    progress: Progress = silent,
) -> Repair:
    """Mend what can be mended without loss: stray files, rows of nothing, saved vectors.

    With `forget_missing`, clips whose media file is missing are removed, and thumbnails that are
    missing are forgotten. Raises LibraryLocked, StorageError where that cannot be told from files
    that are elsewhere or out of reach, and what `verify_library` raises.
    """
    if forget_missing and media_url is not None:
        raise StorageError(
            "Files that lie by a URL may be out of reach for a while only, so their clips are not "
            "forgotten for it. Delete the clips that `avgzsl library verify` lists, each by its id."
        )
    with ExitStack() as resources:
        catalogue = open_catalogue(directory, catalogue_url, resources)
        resources.callback(DirectoryLock(directory).release)
        found = Inspection(
            catalogue,
            directory,
            media_url=media_url,
            vector_store=vector_store,
            progress=progress,
            held_by=None,
        ).run()
        mendable = MENDED | FORGOTTEN if forget_missing else MENDED
        # A damaged database is not written to.
        if any(finding.kind == "database_damaged" for finding in found.findings):
            mendable = frozenset()
        if forget_missing:
            _refuse_to_forget_all(found)
        mended = tuple(finding for finding in found.findings if finding.kind in mendable)
        _mend(
            mended,
            catalogue,
            directory,
            media_url=media_url,
            vector_store=vector_store,
            progress=progress,
        )
        left = tuple(finding for finding in found.findings if finding.kind not in mendable)
        return Repair(mended, left, found.skipped)


def _refuse_to_forget_all(found: Verification) -> None:
    missing = sum(finding.kind == "media_missing" for finding in found.findings)
    if missing > 1 and missing == found.clips:
        raise StorageError(
            f"The media files of all {missing} clips are missing, so this is hardly the place that "
            "they are in. Nothing was changed; name the right directory or media URL."
        )


def _mend(
    findings: Sequence[Finding],
    catalogue: Catalogue,
    directory: Path,
    *,
    media_url: str | None,
    vector_store: str,
    progress: Progress,
) -> None:
    kinds = {finding.kind for finding in findings}
    if kinds - {"stray_file", "saved_vectors"}:
        _mend_rows(findings, catalogue)
    if not kinds:
        return
    if media_url is None:
        place = MediaPlace(MediaStore(directory / "media"), MediaStore(directory / "thumbnails"))
        sweep_files(catalogue, place)
    sweep_holds(directory)
    _mend_saved_vectors(findings, catalogue, directory, vector_store, progress)


def _mend_rows(findings: Sequence[Finding], catalogue: Catalogue) -> None:
    with catalogue.write() as writer:
        writer.delete_orphans()
        for finding in findings:
            # Another process that shares the catalogue may have removed the clip by now.
            with suppress(ClipNotFound):
                if finding.kind == "thumbnail_missing":
                    writer.forget_thumbnail(writer.clip_row(finding.subject))
        for finding in findings:
            with suppress(ClipNotFound):
                if finding.kind == "media_missing":
                    writer.remove_clip(writer.clip_row(finding.subject))


def _mend_saved_vectors(
    findings: Sequence[Finding],
    catalogue: Catalogue,
    directory: Path,
    vector_store: str,
    progress: Progress,
) -> None:
    """Make the saved vectors anew that are wrong, and save all, for a store may share its files."""
    cache = open_cache(catalogue, directory, vector_store)
    saved = cache.saved()
    for finding in findings:
        if finding.kind == "saved_vectors":
            cache.forget(finding.subject)
    if not saved:
        return
    with catalogue.read() as reader:
        moment = reader.moment()
        contents = store_contents(reader, weights_of_names(saved))
        try:
            progress("Making vectors anew", 0, 1)
            stores = cache.open(contents, moment=moment)
            windows = cache.open_windows(window_content(reader), moment=moment)
            cache.save(stores, windows, moment=moment)
            progress("Making vectors anew", 1, 1)
        finally:
            cache.close()

"""Export of a library into one archive, while it serves, and its restoration into an empty one."""

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import URL

from index.archive import (
    FORMAT,
    HEADER,
    VERSION,
    VOCABULARIES,
    ArchiveHeader,
    ArchiveReader,
    ArchiveWriter,
    Member,
)
from index.archive_rows import Part, packed_classes, packed_clips, unpacked_classes, unpacked_clips
from index.catalogue import Catalogue
from index.catalogue_reader import CatalogueReader
from index.catalogue_records import StoredClass
from index.catalogue_writer import CatalogueWriter
from index.database import sqlite_url
from index.directory_lock import DirectoryLock
from index.durable import make_directory, replace_file, storage_errors
from index.errors import InvalidArchive, LibraryNotEmpty, StorageError
from index.media import MediaPlace, ReadableMediaPlace, open_media, read_media
from index.media_hold import MediaHold
from index.media_store import file_digest
from index.ownership import check_directory, claim_directory
from index.progress import Progress, counted, silent
from index.sweep import delete_if_unneeded
from index.vector_cache import clear_saved_vectors

FOLDERS = ("media", "thumbnails")
SNAPSHOTS = 100
"""How often a moment is taken anew because clips were removed before their files were held."""


@dataclass(frozen=True, slots=True)
class BackupSummary:
    """What went into an archive or came out of one. `missing` are hashes of files left out."""

    library_id: str
    model_id: str
    dim: int
    classes: int
    clips: int
    segments: int
    files: int
    size_bytes: int
    missing: tuple[str, ...]


# Export


def export_library(
    directory: Path,
    archive: Path,
    *,
    catalogue_url: URL | str | None = None,
    media_url: str | None = None,
    overwrite: bool = False,
    allow_missing: bool = False,
    progress: Progress = silent,
) -> BackupSummary:
    """Export the library of a directory that another process may have open.

    Raises LibraryNotFound, and StorageError as `write_archive` does.
    """
    catalogue = Catalogue.open_existing(catalogue_url or sqlite_url(directory / "catalogue.sqlite"))
    try:
        check_directory(catalogue, directory)
        return write_archive(
            catalogue,
            directory,
            archive,
            media=read_media(directory, media_url),
            overwrite=overwrite,
            allow_missing=allow_missing,
            progress=progress,
        )
    finally:
        catalogue.close()


def write_archive(
    catalogue: Catalogue,
    directory: Path,
    archive: Path,
    *,
    media: ReadableMediaPlace,
    overwrite: bool,
    allow_missing: bool,
    progress: Progress,
) -> BackupSummary:
    """Write what a library holds at one moment to an archive, which appears whole or not at all.

    Raises StorageError where the archive exists and may not be overwritten, where disk or database
    refuse, and where files of clips are missing or damaged, unless these may be left out.
    """
    if archive.exists() and not overwrite:
        raise StorageError(f"{archive} exists; choose another name, or overwrite it (--force).")
    with MediaHold(directory) as hold, storage_errors(f"write {archive}"):
        export = _Export(catalogue, media, hold, allow_missing=allow_missing, progress=progress)
        replace_file(archive, export.chunks())
        return export.summary(archive.stat().st_size)


class _Export:
    """One export under way."""

    def __init__(
        self,
        catalogue: Catalogue,
        media: ReadableMediaPlace,
        hold: MediaHold,
        *,
        allow_missing: bool,
        progress: Progress,
    ) -> None:
        self._catalogue = catalogue
        self._folders = dict(zip(FOLDERS, media, strict=True))
        self._hold = hold
        self._allow_missing = allow_missing
        self._progress = progress
        self._writer = ArchiveWriter()
        self._header: ArchiveHeader
        self._held: list[tuple[str, str]] = []
        self._missing: set[str] = set()

    def chunks(self) -> Iterator[bytes]:
        """Yield the archive's bytes."""
        for _ in range(SNAPSHOTS):
            # Rows are read before the transaction ends, files after it: the database need not keep
            # its old pages for hours.
            with self._catalogue.read() as reader:
                if self._hold_files(reader):
                    yield from self._rows(reader)
                    break
        else:
            raise StorageError(
                f"Clips were removed faster than their files could be held, {SNAPSHOTS} times; "
                "export the library when less is removed."
            )
        yield from self._files()
        yield from self._writer.end()

    def summary(self, size_bytes: int) -> BackupSummary:
        """Say what went into the archive, which is finished."""
        return _summary(
            self._header,
            library_id=self._header.library_id,
            files=len(self._held) - len(self._missing),
            size_bytes=size_bytes,
            missing=tuple(sorted(self._missing)),
        )

    def _hold_files(self, reader: CatalogueReader) -> bool:
        """Hold the files of the reader's moment.

        Returns False where a clip was removed meanwhile, so that not all of them are there.
        """
        needed = dict(zip(FOLDERS, reader.files_of_clips(), strict=True))
        self._held = [(name, h) for name, hashes in needed.items() for h in sorted(hashes)]
        absent = [
            (name, content_hash)
            for name, content_hash in self._held
            if not self._hold.take(self._folders[name], content_hash)
        ]
        if absent:
            with self._catalogue.read() as later:
                still = dict(zip(FOLDERS, later.files_of_clips(), strict=True))
            if any(content_hash not in still[name] for name, content_hash in absent):
                return False
            for _, content_hash in absent:
                self._leave_out(content_hash)
        return True

    def _rows(self, reader: CatalogueReader) -> Iterator[bytes]:
        header = self._header = _header(reader)
        yield from self._writer.whole(HEADER, json.dumps(asdict(header), indent=1).encode())
        seeded = [[name, moment.isoformat()] for name, moment in reader.vocabularies()]
        yield from self._writer.whole(VOCABULARIES, json.dumps(seeded).encode())
        classes = counted(
            _whole_classes(reader, header), header.classes, "Reading classes", self._progress
        )
        yield from self._parts("classes", packed_classes(classes, header.dim))
        clips = counted(reader.stored_clips(), header.clips, "Reading clips", self._progress)
        yield from self._parts("clips", packed_clips(clips, header.dim))

    def _parts(self, name: str, parts: Iterable[Part]) -> Iterator[bytes]:
        for number, part in enumerate(parts):
            yield from self._writer.whole(f"{name}/{number:06}.jsonl", part.records)
            yield from self._writer.whole(f"{name}/{number:06}.f32", part.vectors)

    def _files(self) -> Iterator[bytes]:
        total = len(self._held)
        for name, content_hash in counted(self._held, total, "Writing files", self._progress):
            if content_hash in self._missing:
                continue
            path = self._hold.path(content_hash)
            if file_digest(path) == content_hash:
                yield from self._writer.file(f"{name}/{content_hash}", path)
            else:
                self._leave_out(content_hash)

    def _leave_out(self, content_hash: str) -> None:
        if not self._allow_missing:
            raise StorageError(
                f"The file {content_hash} of a clip is missing or damaged; `avgzsl library verify` "
                "lists all such. Restore it from a backup, delete the clip, or allow files to be "
                "missing."
            )
        self._missing.add(content_hash)


def _whole_classes(reader: CatalogueReader, header: ArchiveHeader) -> Iterator[StoredClass]:
    """Yield the classes. Raises StorageError where some have no vector, so do not come."""
    count = 0
    for row in reader.stored_classes():
        count += 1
        yield row
    if count != header.classes:
        raise StorageError(
            f"{header.classes - count} classes have no vector; `avgzsl library verify` lists them. "
            "Delete them, or add them anew, and export again."
        )


def _header(reader: CatalogueReader) -> ArchiveHeader:
    return ArchiveHeader(
        format=FORMAT,
        version=VERSION,
        library_id=reader.fact("library_id") or "",
        model_id=reader.fact("model_id") or "",
        dim=int(reader.fact("dim") or 0),
        classes=reader.count_classes(),
        clips=reader.count_clips(),
        segments=reader.count_segments(),
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _summary(
    header: ArchiveHeader, *, library_id: str, files: int, size_bytes: int, missing: tuple[str, ...]
) -> BackupSummary:
    return BackupSummary(
        library_id=library_id,
        model_id=header.model_id,
        dim=header.dim,
        classes=header.classes,
        clips=header.clips,
        segments=header.segments,
        files=files,
        size_bytes=size_bytes,
        missing=missing,
    )


# Import


def import_library(
    archive: Path,
    directory: Path,
    *,
    catalogue_url: URL | str | None = None,
    media_url: str | None = None,
    allow_missing: bool = False,
    progress: Progress = silent,
) -> BackupSummary:
    """Restore an archive into an empty library, made where absent; its catalogue may be any kind.

    Every checksum is compared before anything is committed, all of it at once; what is killed
    halfway leaves an empty library, into which it can be tried again. Seeded classes do not count
    as something. Raises InvalidArchive, LibraryNotEmpty, LibraryLocked, StorageError.
    """
    with ExitStack() as resources:
        reader = resources.enter_context(ArchiveReader(archive))
        members = iter(reader)
        header = _read_header(members)
        with storage_errors(f"create {directory}"):
            make_directory(directory)
        lock = DirectoryLock(directory)
        resources.callback(lock.release)
        catalogue = Catalogue.open(
            catalogue_url or sqlite_url(directory / "catalogue.sqlite"), model_id=header.model_id
        )
        resources.callback(catalogue.close)
        _refuse_content(catalogue, directory)
        library_id = claim_directory(catalogue, directory)
        # Those of an empty library; they would not be the restored one's.
        clear_saved_vectors(directory / "vectors")
        media = open_media(directory, media_url, library_id=library_id, has_clips=False)
        kept: list[tuple[str, str]] = []
        try:
            with catalogue.write() as writer:
                restoration = _Restoration(writer, header, media, kept)
                for member in members:
                    progress("Restoring", reader.position, reader.size)
                    restoration.take(member)
                missing = restoration.finish(allow_missing=allow_missing)
        except BaseException:
            _remove_unneeded(catalogue, media, kept)
            raise
        progress("Restoring", reader.size, reader.size)
        return _summary(
            header,
            library_id=library_id,
            files=len(kept),
            size_bytes=reader.size,
            missing=missing,
        )


class _Restoration:
    """One import under way: puts each member where it belongs."""

    def __init__(
        self,
        writer: CatalogueWriter,
        header: ArchiveHeader,
        media: MediaPlace,
        kept: list[tuple[str, str]],
    ) -> None:
        self._writer = writer
        self._header = header
        self._stores = dict(zip(FOLDERS, media, strict=True))
        self._kept = kept
        self._records: tuple[str, bytes] | None = None
        self._wanted: dict[str, set[str]] = {name: set() for name in FOLDERS}
        writer.forget_vocabularies()
        writer.set_fact("model_id", header.model_id)
        writer.set_fact("dim", str(header.dim))

    def take(self, member: Member) -> None:
        """Store a member. Raises InvalidArchive, StorageError."""
        folder, _, name = member.name.partition("/")
        if folder in self._stores:
            self._take_file(member, folder, name)
        elif folder == VOCABULARIES:
            self._writer.restore_vocabularies(_vocabularies(member.whole()))
        elif name.endswith(".jsonl") and self._records is None:
            self._records = (member.name.removesuffix(".jsonl"), member.whole())
        elif self._records and member.name == f"{self._records[0]}.f32":
            self._take_part(folder, Part(self._records[1], member.whole()))
            self._records = None
        else:
            raise InvalidArchive(f"The archive's {member.name} comes out of turn; export it again.")

    def finish(self, *, allow_missing: bool) -> tuple[str, ...]:
        """Return the hashes of the files that are missing. Raises InvalidArchive."""
        found = (
            self._writer.count_classes(),
            self._writer.count_clips(),
            self._writer.count_segments(),
        )
        told = (self._header.classes, self._header.clips, self._header.segments)
        if found != told or self._records is not None:
            raise InvalidArchive(
                f"The archive holds {found} classes, clips and windows, its header says {told}; "
                "export the library again."
            )
        missing = sorted(set().union(*self._wanted.values()))
        if missing and not allow_missing:
            raise InvalidArchive(
                f"The archive lacks {len(missing)} files of its clips, {missing[0]} among them. "
                "Use another archive, or allow files to be missing."
            )
        return tuple(missing)

    def _take_part(self, kind: str, part: Part) -> None:
        if kind == "classes":
            self._writer.restore_classes(unpacked_classes(part, self._header.dim))
            return
        clips = unpacked_clips(part, self._header.dim)
        self._writer.restore_clips(clips)
        for clip in clips:
            self._wanted["media"].add(clip.content_hash)
            if clip.thumbnail_hash is not None:
                self._wanted["thumbnails"].add(clip.thumbnail_hash)

    def _take_file(self, member: Member, folder: str, name: str) -> None:
        if name not in self._wanted[folder]:
            raise InvalidArchive(f"No clip of the archive has the file {member.name}.")
        store = self._stores[folder]
        with store.staging(member.chunks()) as staged:
            if staged.content_hash != name:
                raise InvalidArchive(
                    f"The archive's {member.name} is damaged: the SHA-256 of its content is "
                    f"{staged.content_hash}. Nothing was restored; copy the archive again."
                )
            self._kept.append((folder, name))
            store.keep(staged)
        self._wanted[folder].remove(name)


def _read_header(members: Iterator[Member]) -> ArchiveHeader:
    first = next(members, None)
    try:
        if first is None or first.name != HEADER:
            raise ValueError(f"{HEADER} should come first")
        fields = json.loads(first.whole())
        if (fields["format"], fields["version"]) != (FORMAT, VERSION):
            raise ValueError(
                f"it is of the format {fields['format']!r}, version {fields['version']!r}, and "
                f"this program reads {FORMAT!r}, version {VERSION}"
            )
        header = ArchiveHeader(**fields)
        if not isinstance(header.dim, int) or not 1 <= header.dim <= 2**16:
            raise ValueError(f"vectors have {header.dim!r} dimensions")
        if not isinstance(header.model_id, str) or not header.model_id:
            raise ValueError(f"the model id is {header.model_id!r}")
    except (ValueError, TypeError, KeyError) as error:
        raise InvalidArchive(f"The file is no archive that can be restored: {error}.") from error
    return header


def _vocabularies(content: bytes) -> list[tuple[str, datetime]]:
    try:
        return [(str(name), datetime.fromisoformat(moment)) for name, moment in json.loads(content)]
    except (ValueError, TypeError) as error:
        raise InvalidArchive(f"The archive's {VOCABULARIES} cannot be used: {error}.") from error


def _refuse_content(catalogue: Catalogue, directory: Path) -> None:
    with catalogue.read() as reader:
        clips, classes = reader.count_clips(), reader.count_user_classes()
    if clips or classes:
        raise LibraryNotEmpty(
            f"The library in {directory} holds {clips} clips and {classes} own classes; restore "
            "into an empty directory and an empty catalogue."
        )


def _remove_unneeded(
    catalogue: Catalogue, media: MediaPlace, kept: Sequence[tuple[str, str]]
) -> None:
    """Delete the files that came without rows; what cannot be deleted now, the next start does."""
    media_folder, _ = FOLDERS
    with suppress(StorageError):
        for folder, content_hash in kept:
            is_media = folder == media_folder
            hashes = (content_hash, None) if is_media else (None, content_hash)
            delete_if_unneeded(catalogue, media, *hashes)

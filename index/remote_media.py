"""Files by content in an object store or another file system that fsspec reaches."""

import shutil
import tempfile
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, TypeVar, cast

import fsspec

from index.durable import make_directory, storage_errors
from index.errors import StorageError
from index.media_store import StagedFile, file_digest

READ_BYTES = 4 << 20
"""Asked for at a time; the default of some stores would hold 50 MB for each reader."""

OPTIONS: dict[str, dict[str, Any]] = {
    # A write waits for the store while it holds the catalogue's write lock.
    "s3": {
        "config_kwargs": {
            "connect_timeout": 5,
            "read_timeout": 20,
            "retries": {"max_attempts": 3, "mode": "standard"},
        }
    }
}
"""What file systems are told besides."""

T = TypeVar("T")


class RemoteFolder:
    """A place that a URL names, `s3://bucket/prefix` or another that fsspec knows.

    Who may enter is told by that store's own means, for S3 the environment or `~/.aws`.
    """

    def __init__(self, url: str) -> None:
        """Connect. Raises StorageError."""
        protocol = url.partition("://")[0]
        try:
            self.file_system, root = fsspec.core.url_to_fs(
                url,
                # Others write too.
                use_listings_cache=False,
                **OPTIONS.get(protocol, {}),
            )
        except (ImportError, ValueError) as error:
            raise StorageError(
                f"The media URL of the kind {protocol!r} cannot be used: {error}. Install what it "
                "needs (`pip install 'avgzsl[s3]'` for S3), or leave it out to use a folder."
            ) from error
        self.root = root.rstrip("/")

    def read(self, name: str) -> bytes | None:
        """Return a small file, None where it is absent. Raises StorageError."""

        def read() -> bytes | None:
            try:
                return cast(bytes, self.file_system.cat_file(f"{self.root}/{name}"))
            except FileNotFoundError:
                return None

        return self.tried("read the place of the media", read)

    def write(self, name: str, content: bytes) -> None:
        """Write a small file. Raises StorageError."""
        path = f"{self.root}/{name}"
        self.tried(
            "write to the place of the media", lambda: self.file_system.pipe_file(path, content)
        )

    def tried(self, action: str, attempt: Callable[[], T]) -> T:
        """Do it, and turn whatever the store refuses with into StorageError."""
        try:
            with storage_errors(action):
                return attempt()
        except StorageError:
            raise
        except Exception as error:
            # Each store's client has exceptions of its own.
            raise StorageError(
                f"Could not {action}: {type(error).__name__}: {error}. What was stored before is "
                "intact; check the address, the access rights and whether the store answers."
            ) from error


class RemoteMedia:
    """The files of one folder of a place, `NAME/ab/abcd...`, as one of several writers has them."""

    def __init__(
        self, folder: RemoteFolder, name: str, spool: Path, *, grace_seconds: float
    ) -> None:
        """Files that come as bytes wait in `spool`, a local folder. Raises StorageError."""
        self._folder = folder
        self._files = folder.file_system
        self._root = f"{folder.root}/{name}"
        self._spool = spool
        self._grace_seconds = grace_seconds
        with storage_errors(f"prepare {spool}"):
            make_directory(spool)

    @contextmanager
    def staging(self, content: Path | bytes | Iterator[bytes]) -> Iterator[StagedFile]:
        """Upload a file or bytes, for `keep`; one that is not kept is deleted by `unneeded`'s user.

        Raises StorageError.
        """
        with self._on_disk(content) as path:
            with storage_errors("store the media file"):
                staged = StagedFile(path, file_digest(path), path.stat().st_size)
            self.keep(staged)
            yield staged

    def keep(self, staged: StagedFile) -> None:
        """Make sure that a staged file is there, and whole. Raises StorageError."""
        target = self._path(staged.content_hash)

        def upload_unless_there() -> None:
            if self._size(target) != staged.size_bytes:
                self._files.put_file(str(staged.path), target)

        self._folder.tried("store the media file", upload_unless_there)

    def open(self, content_hash: str) -> BinaryIO:
        """Open a file for reading, some megabytes at a time. Raises OSError."""
        path = self._path(content_hash)
        try:
            file = self._files.open(path, "rb", block_size=READ_BYTES, cache_type="readahead")
        except OSError:
            raise
        except Exception as error:
            raise OSError(f"{type(error).__name__}: {error}") from error
        return cast(BinaryIO, file)

    @contextmanager
    def local(self, content_hash: str) -> Iterator[Path]:
        """Download a file for a while; the path does not exist where it is absent.

        Raises StorageError where it is away.
        """
        with tempfile.TemporaryDirectory(dir=self._spool) as folder:
            path = Path(folder) / content_hash
            self._folder.tried(
                f"fetch the media file {content_hash}", lambda: self._download(content_hash, path)
            )
            yield path

    def remove(self, content_hash: str) -> None:
        """Delete a file; an absent one is no error. Raises StorageError."""

        def remove() -> None:
            with suppress(FileNotFoundError):
                self._files.rm_file(self._path(content_hash))

        self._folder.tried(f"delete the media file {content_hash}", remove)

    def prefixes(self) -> list[str]:
        """Return the first digits of the files' hashes, as `Media` says. Raises StorageError."""

        def prefixes() -> list[str]:
            with suppress(FileNotFoundError):
                folders = self._files.ls(self._root, detail=False)
                names = [folder.rstrip("/").rpartition("/")[2] for folder in folders]
                return [name for name in names if len(name) == 2]
            return []

        return self._folder.tried("list the media files", prefixes)

    def unneeded(self, needed: Collection[str], *, prefix: str) -> list[str]:
        """Return the hashes of old files that are not needed, as `Media` says.

        Raises StorageError.
        """

        def unneeded() -> list[str]:
            paths = self._files.find(f"{self._root}/{prefix}")
            names = [path.rpartition("/")[2] for path in paths]
            return [
                name
                for name in names
                if len(name) == 64 and name not in needed and self._is_old(self._path(name))
            ]

        return self._folder.tried("list the media files", unneeded)

    def _download(self, content_hash: str, target: Path) -> None:
        with (
            suppress(FileNotFoundError),
            self.open(content_hash) as source,
            target.open("xb") as file,
        ):
            shutil.copyfileobj(source, file, READ_BYTES)

    def _path(self, content_hash: str) -> str:
        return f"{self._root}/{content_hash[:2]}/{content_hash}"

    def _size(self, path: str) -> int | None:
        try:
            return int(self._files.info(path)["size"])
        except FileNotFoundError:
            return None

    def _is_old(self, path: str) -> bool:
        try:
            modified: datetime = self._files.modified(path)
        except FileNotFoundError:
            return False
        if modified.tzinfo is None:
            modified = modified.replace(tzinfo=UTC)
        return (datetime.now(UTC) - modified).total_seconds() > self._grace_seconds

    @contextmanager
    def _on_disk(self, content: Path | bytes | Iterator[bytes]) -> Iterator[Path]:
        if isinstance(content, Path):
            yield content
            return
        with tempfile.NamedTemporaryFile(dir=self._spool) as file:
            with storage_errors("store the media file"):
                for chunk in (content,) if isinstance(content, bytes) else content:
                    file.write(chunk)
                file.flush()
            yield Path(file.name)

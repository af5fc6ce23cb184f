"""Every exception that `index` raises on purpose.

IndexError_ is not used as a name because Python owns `IndexError`.

LibraryError
├── ApiKeyExists       a key that is in use has this name
├── ApiKeyNotFound     no key that is in use has this id or name
├── ClassExists        the name is taken
├── ClassNotFound      no class has this id
├── InvalidClassName   empty, too long or unprintable
├── InvalidTag         empty, too long or unprintable
├── ClipNotFound       no clip has this id
├── DuplicateClip      a clip of the same bytes is there
├── JobNotFound        no job has this id
├── JobItemLost        a job's item was cancelled or taken over meanwhile
├── NothingToRetry     the job has no failed item
├── ClipUnusable       a model can make no vectors of the clip's media
├── InvalidArchive     the file is no archive of a library, or is damaged
├── LibraryLocked      another process holds the directory; the message names its pid
├── LibraryNotEmpty    an archive is restored into an empty library only
├── LibraryNotFound    there is no library here
├── ModelMismatch      the rows were made by another model
├── ReindexRefused     too many clips would be left out of the search
└── StorageError       the disk or the database refused a write; nothing acknowledged was lost
    └── VectorStoreUnavailable  the server that holds the vectors is out of reach or refuses

Each message says what was wrong, the offending value, the limit where there is one, and what to do.
"""


class LibraryError(Exception):
    """Base of everything that `index` raises on purpose."""


class ApiKeyExists(LibraryError):
    """A key of the HTTP API that is in use has this name."""


class ApiKeyNotFound(LibraryError):
    """No key of the HTTP API that is in use has this id or name."""


class ClassExists(LibraryError):
    """The class name, compared case-insensitively after Unicode normalisation, is taken."""


class ClassNotFound(LibraryError):
    """No class has this id."""


class InvalidClassName(LibraryError):
    """The class name, a synonym or the description is empty, too long or unprintable."""


class InvalidTag(LibraryError):
    """The clip's tag is empty, too long or holds control characters."""


class ClipNotFound(LibraryError):
    """No clip has this id."""


class DuplicateClip(LibraryError):
    """A clip of the same bytes is there, and the caller wanted no second one."""

    def __init__(self, clip_id: str) -> None:
        super().__init__(
            f"The clip {clip_id} is of the same file; use that one, or store another of it with "
            "if_duplicate=store."
        )
        self.clip_id = clip_id


class JobNotFound(LibraryError):
    """No job has this id."""


class JobItemLost(LibraryError):
    """An item of a job was cancelled, or taken over by another worker; nothing is written."""


class NothingToRetry(LibraryError):
    """The job has no failed item that could be tried again."""


class ClipUnusable(LibraryError):
    """A model can make no vectors of the clip's media; the message says why."""


class InvalidArchive(LibraryError):
    """The file is no archive of a library, or is damaged."""


class LibraryLocked(LibraryError):
    """Another process holds the library's directory: `holder` is its pid, or `unknown`."""

    def __init__(self, message: str, *, holder: str) -> None:
        super().__init__(message)
        self.holder = holder


class LibraryNotEmpty(LibraryError):
    """The library that an archive should be restored into holds something."""


class LibraryNotFound(LibraryError):
    """There is no library in the directory or behind the URL."""


class ModelMismatch(LibraryError):
    """The library's rows were made by another model than the one that opens it."""


class ReindexRefused(LibraryError):
    """The new model could embed too few of the clips to take over unasked."""


class StorageError(LibraryError):
    """The disk or the database refused a write."""


class VectorStoreUnavailable(StorageError):
    """The server that holds the vectors is out of reach or refuses; the catalogue has them all."""

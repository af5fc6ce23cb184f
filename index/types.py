"""The nouns of the library, as its callers see them: plain frozen records and NumPy arrays.

Every vector is (D,) float32 of unit length, in the space that the model's text, audio and video
share; a similarity is an inner product of two of them, so it lies in [-1, 1], higher is closer.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Generic, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float32]
Modality = Literal["audio", "video"]
SearchModality = Literal["both", "audio", "video"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ModalityWeights:
    """How much each modality counts where a clip has both; only the ratio matters."""

    audio: float = 0.5
    video: float = 0.5


@dataclass(frozen=True, slots=True)
class Segment:
    """One window of a clip, [start_seconds, end_seconds), and an embedding per modality present."""

    start_seconds: float
    end_seconds: float
    audio: Vector | None
    video: Vector | None


@dataclass(frozen=True, slots=True)
class ModalityRecord:
    """Whether a clip's modality was used, and a sentence saying why not (None if it was)."""

    used: bool
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class NewClip:
    """A clip on its way into the library; `audio` and `video` are its clip-level embeddings."""

    filename: str
    content_type: str
    duration_seconds: float
    segments: tuple[Segment, ...]
    audio: Vector | None
    video: Vector | None
    modalities: Mapping[str, ModalityRecord]
    tags: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    thumbnail: bytes | None = None
    source: str | None = None
    """Where the file came from, in the words of whoever stored it: a path or a URL."""


@dataclass(frozen=True, slots=True)
class Clip:
    """A stored clip. Times are UTC."""

    clip_id: str
    filename: str
    content_type: str
    content_hash: str
    """SHA-256 of the media, lower-case hexadecimal."""
    size_bytes: int
    duration_seconds: float
    modalities: Mapping[str, ModalityRecord]
    tags: tuple[str, ...]
    warnings: tuple[str, ...]
    has_thumbnail: bool
    segment_count: int
    created_at: datetime
    model_id: str
    source: str | None


@dataclass(frozen=True, slots=True)
class NewClass:
    """A class name on its way into the library, with its embedding (D,)."""

    name: str
    vector: Vector
    synonyms: tuple[str, ...] = ()
    description: str = ""
    seen: bool = False


@dataclass(frozen=True, slots=True)
class ClassName:
    """A stored class: `seen` if the model was trained on it, `enabled` if answers may name it."""

    class_id: str
    name: str
    synonyms: tuple[str, ...]
    description: str
    seen: bool
    enabled: bool
    created_at: datetime


@dataclass(frozen=True, slots=True)
class LabelScores:
    """Similarity of Q query vectors to all C enabled classes, all read from one moment.

    Attributes:
        names: C class names, in the catalogue's order.
        seen: (C,) bool, whether the model was trained on the class.
        similarity: (Q, C) float32 in [-1, 1].
    """

    names: tuple[str, ...]
    seen: NDArray[np.bool_]
    similarity: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class SearchFilter:
    """Which clips a search or a listing may return; an absent part restricts nothing.

    Attributes:
        tags: every one of these is on the clip.
        class_name: the enabled class nearest to the clip's embedding is this one.
        modality: the clip has usable sound ("audio") or pictures ("video").
        created_after: stored strictly later than this (UTC).
        created_before: stored strictly earlier than this (UTC).
        clip_ids: the clip is one of these.
        content_hash: the clip's media have this SHA-256, lower-case hexadecimal.
    """

    tags: tuple[str, ...] = ()
    class_name: str | None = None
    modality: Modality | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None
    clip_ids: tuple[str, ...] | None = None
    content_hash: str | None = None


@dataclass(frozen=True, slots=True)
class Hit:
    """A clip found, with its best window and that window's similarity to the query."""

    clip: Clip
    score: float
    start_seconds: float
    end_seconds: float


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """A slice of a listing: `items` from `offset`, and how many there are in all."""

    items: tuple[T, ...]
    total: int
    offset: int


@dataclass(frozen=True, slots=True)
class StoreStatus:
    """How a vector store answers.

    Attributes:
        kind: `exact`, or the approximate index in use: `ivf`, ...
        vectors: how many are held.
        recall: the part of the 10 nearest that searches find, measured on its own vectors; 1 where
            exact.
        training: whether an index is being trained that will take this one's place.
    """

    kind: str
    vectors: int
    recall: float
    training: bool


@dataclass(frozen=True, slots=True)
class ReindexFailure:
    """A clip that the new model could make nothing of, and a sentence saying why."""

    clip_id: str
    filename: str
    reason: str


@dataclass(frozen=True, slots=True)
class ReindexProgress:
    """How far the change to another model is; it may be under way or have been interrupted.

    Attributes:
        model_id: the model that will take over.
        clips: how many clips there are.
        done: how many of them it has embedded.
        failed: how many it can make nothing of; they will be left out of searches.
        failures: the first of these.
    """

    model_id: str
    clips: int
    done: int
    failed: int
    failures: tuple[ReindexFailure, ...]


@dataclass(frozen=True, slots=True)
class LibraryStatus:
    """Counts for `/model` and the command line."""

    model_id: str
    vector_store: str
    clips: int
    segments: int
    classes: int
    vectors: Mapping[str, int] = field(default_factory=dict)
    """Vectors held per store: `labels`, `audio`, `video`, `both`."""
    indexes: Mapping[str, StoreStatus] = field(default_factory=dict)
    """How each of these stores answers."""
    reindex: ReindexProgress | None = None
    """The change to another model, None where none was begun."""

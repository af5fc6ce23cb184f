"""What may enter the library: new classes and clips, checked and brought into one form."""

import math
from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from index.names import (
    checked_description,
    checked_name,
    checked_source,
    checked_synonyms,
    checked_tags,
    printable,
)
from index.types import NewClass, NewClip, Segment, Vector
from index.vector_store import check_vectors

LENGTH_TOLERANCE = 1e-3


def checked_class(new: NewClass, dim: int) -> NewClass:
    """Return a class fit to store. Raises InvalidClassName, ValueError for a bad vector."""
    check_unit_vector(new.vector, dim)
    name = checked_name(new.name)
    return replace(
        new,
        name=name,
        synonyms=checked_synonyms(name, new.synonyms),
        description=checked_description(new.description),
    )


def checked_clip(new: NewClip, dim: int) -> NewClip:
    """Return a clip fit to store. Raises InvalidTag, ValueError for a bad vector or window."""
    for vector in _vectors(new):
        check_unit_vector(vector, dim)
    for segment in new.segments:
        _check_window(segment)
    return replace(
        new,
        filename=printable(new.filename),
        content_type=printable(new.content_type),
        tags=checked_tags(new.tags),
        source=None if new.source is None else checked_source(new.source),
    )


def check_unit_vector(vector: Vector, dim: int) -> None:
    """Raise ValueError unless `vector` is (dim,) float32, finite, of unit length."""
    check_vectors(vector[None], dim)
    length = float(np.linalg.norm(vector))
    if abs(length - 1) > LENGTH_TOLERANCE:
        raise ValueError(f"A stored vector must have length 1; got {length:.6g}. Normalise it.")


def _vectors(new: NewClip) -> Iterable[Vector]:
    pairs = [(new.audio, new.video), *((part.audio, part.video) for part in new.segments)]
    return [vector for pair in pairs for vector in pair if vector is not None]


def _check_window(segment: Segment) -> None:
    start, end = segment.start_seconds, segment.end_seconds
    if not 0 <= start < end < math.inf:
        raise ValueError(f"A window must have 0 <= start < end, in seconds; got [{start}, {end}).")

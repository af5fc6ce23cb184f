"""How long work tells how far it is."""

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")

Progress = Callable[[str, int, int], None]
"""Told what is being done, how much of it is behind and how much there is in all."""


def silent(stage: str, done: int, total: int) -> None:
    """Tell nobody."""


def counted(items: Iterable[T], total: int, stage: str, progress: Progress) -> Iterator[T]:
    """Yield the items and tell of each."""
    for done, item in enumerate(items):
        progress(stage, done, total)
        yield item
    progress(stage, total, total)

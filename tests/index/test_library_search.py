"""Search: grouped by clip, exact, filtered."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from index.library import Library
from index.types import ModalityWeights, SearchFilter, SearchModality, Segment, Vector
from tests.index.builders import axis, new_class, new_clip, open_library, unit


def windows(*vectors: Vector) -> tuple[Segment, ...]:
    return tuple(Segment(n, n + 1, vector, None) for n, vector in enumerate(vectors))


def test_an_empty_library_finds_nothing(library: Library) -> None:
    assert library.search(unit(1), top_k=1000) == []


def test_a_clip_is_found_once_at_its_best_window(library: Library, upload: Path) -> None:
    mixed = (axis(0) + axis(1)) / np.float32(np.sqrt(2))
    clip = library.add_clip(
        new_clip(axis(0), segments=windows(axis(1), mixed, axis(0), mixed)), upload
    )
    (hit,) = library.search(axis(0), top_k=10)
    assert (hit.clip, hit.start_seconds, hit.end_seconds) == (clip, 2.0, 3.0)
    assert hit.score == pytest.approx(1)


def test_one_clip_of_many_close_windows_does_not_crowd_out_the_others(
    library: Library, upload: Path
) -> None:
    crowd = library.add_clip(new_clip(axis(0), segments=windows(*[axis(0)] * 500)), upload)
    others = [
        library.add_clip(new_clip(axis(0), segments=windows(axis(n))), upload) for n in (1, 2)
    ]
    found = [hit.clip for hit in library.search(axis(0), top_k=3)]
    assert found == [crowd, *others]


@pytest.mark.parametrize("modality", ["both", "audio", "video"])
def test_search_ranks_clips_as_brute_force_does(
    directory: Path, upload: Path, modality: SearchModality
) -> None:
    random = np.random.default_rng(5)
    weights = ModalityWeights(audio=2, video=1)
    best: dict[str, float] = {}
    query = unit(999)
    with open_library(directory, weights=weights) as library:
        for number in range(40):
            pairs = [
                (
                    unit(number * 100 + n) if random.random() < 0.7 else None,
                    unit(number * 100 + 50 + n) if random.random() < 0.7 else None,
                )
                for n in range(int(random.integers(0, 6)))
            ]
            segments = tuple(Segment(n, n + 1, *pair) for n, pair in enumerate(pairs))
            clip = library.add_clip(new_clip(segments=segments), upload)
            scores = [_similarity(query, *pair, modality) for pair in pairs]
            present = [score for score in scores if score is not None]
            if present:
                best[clip.clip_id] = max(present)
        expected = sorted(best.items(), key=lambda item: -item[1])
        for top_k in (1, 5, 100):
            hits = library.search(query, modality=modality, top_k=top_k)
            assert [hit.clip.clip_id for hit in hits] == [name for name, _ in expected[:top_k]]
            np.testing.assert_allclose(
                [hit.score for hit in hits], [score for _, score in expected[:top_k]], atol=1e-6
            )


def _similarity(
    query: Vector, audio: Vector | None, video: Vector | None, modality: SearchModality
) -> float | None:
    """Return a segment's similarity with weights 2 and 1, None where it lacks the modality."""
    heard = None if audio is None else float(query @ audio)
    seen = None if video is None else float(query @ video)
    if modality == "audio" or seen is None:
        return None if modality == "video" else heard
    if modality == "video" or heard is None:
        return seen
    return (2 * heard + seen) / 3


def test_minus_takes_half_the_mean_similarity_off(library: Library, upload: Path) -> None:
    library.add_clip(new_clip(axis(0)), upload)
    mixed = library.add_clip(new_clip((axis(0) + axis(1)) / np.float32(np.sqrt(2))), upload)
    hits = library.search(axis(0), minus=[axis(1), axis(2)])
    assert hits[0].score == pytest.approx(1)
    assert hits[1].clip == mixed
    assert hits[1].score == pytest.approx(np.sqrt(0.5) - 0.5 * (np.sqrt(0.5) + 0) / 2)


def test_excluded_clips_are_replaced_by_the_next_best(library: Library, upload: Path) -> None:
    clips = [library.add_clip(new_clip(unit(n)), upload) for n in range(6)]
    ranked = [hit.clip for hit in library.search(unit(3), top_k=6)]
    assert ranked[0] == clips[3]
    excluded = {ranked[0].clip_id, ranked[2].clip_id, "nobody"}
    found = [hit.clip for hit in library.search(unit(3), top_k=2, exclude=excluded)]
    assert found == [ranked[1], ranked[3]]


def test_filters_leave_the_best_of_what_passes(library: Library, upload: Path) -> None:
    clips = [
        library.add_clip(new_clip(unit(n), tags=("even",) if n % 2 == 0 else ("odd",)), upload)
        for n in range(20)
    ]
    everything = [hit.clip for hit in library.search(unit(7), top_k=20)]

    def found(**parts: object) -> list[str]:
        hits = library.search(unit(7), top_k=3, filter=SearchFilter(**parts))  # type: ignore[arg-type]
        return [hit.clip.clip_id for hit in hits]

    def best(passes: Callable[[object], bool]) -> list[str]:
        return [clip.clip_id for clip in everything if passes(clip)][:3]

    some = (clips[2].clip_id, clips[3].clip_id)
    assert found() == best(lambda clip: True)
    assert found(tags=("even",)) == best(lambda clip: "even" in clip.tags)  # type: ignore[attr-defined]
    assert found(clip_ids=some) == best(lambda clip: clip.clip_id in some)  # type: ignore[attr-defined]
    moment = clips[10].created_at + timedelta(0)
    assert found(created_after=moment) == best(lambda clip: clip.created_at > moment)  # type: ignore[attr-defined]
    assert found(tags=("nothing",)) == []


def test_the_class_filter_uses_the_nearest_enabled_class(library: Library, upload: Path) -> None:
    for n in (0, 1):
        library.add_class(new_class(f"class {n}", axis(n)))
    near = [library.add_clip(new_clip(axis(n)), upload) for n in (0, 1)]
    hits = library.search(axis(0), top_k=5, filter=SearchFilter(class_name="class 1"))
    assert [hit.clip for hit in hits] == [near[1]]
    assert library.search(axis(0), filter=SearchFilter(class_name="no such class")) == []


@pytest.mark.parametrize("top_k", [0, -3])
def test_fewer_than_one_result_is_no_question(library: Library, top_k: int) -> None:
    with pytest.raises(ValueError, match=f"top_k must be at least 1; got {top_k}"):
        library.search(unit(1), top_k=top_k)


def test_more_results_than_clips_gives_all(library: Library, upload: Path) -> None:
    library.add_clip(new_clip(unit(1)), upload)
    assert len(library.search(unit(1), top_k=10**12)) == 1


def test_a_query_of_the_wrong_kind_is_refused(library: Library) -> None:
    queries: list[Any] = [unit(1, 9), unit(1).astype(np.float64), np.full(8, np.nan, np.float32)]
    for query in queries:
        with pytest.raises(ValueError, match="got"):
            library.search(query)

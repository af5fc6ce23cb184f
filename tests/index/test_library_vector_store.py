"""A library whose vectors lie outside of its process, and may be out of reach."""

import logging
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from index import space
from index.errors import VectorStoreUnavailable
from index.exact_store import ExactStore
from index.library import Library
from index.types import SearchFilter
from tests.index.builders import abandon, axis, new_class, new_clip, open_library
from tests.index.stores import needs_packages_of


def names(library: Library, **options: object) -> list[str]:
    return [hit.clip.filename for hit in library.search(axis(0), **options)]  # type: ignore[arg-type]


@needs_packages_of("milvus")
def test_a_library_in_milvus_is_opened_again_without_rebuilding(
    directory: Path, upload: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with open_library(directory, vector_store="milvus") as library:
        assert library.status().vector_store == "milvus"
        library.add_class(new_class("dog", axis(0)))
        for number in range(3):
            clip = new_clip(axis(number), tags=(f"tag{number}",), filename=f"{number}.mp4")
            added = library.add_clip(clip, upload)
        assert names(library) == ["0.mp4", "1.mp4", "2.mp4"]
        assert names(library, filter=SearchFilter(tags=("tag1",))) == ["1.mp4"]
        library.remove_clip(added.clip_id)
        assert names(library) == ["0.mp4", "1.mp4"]
    caplog.clear()
    with open_library(directory, vector_store="milvus") as library:
        assert "Rebuilding" not in caplog.text
        assert names(library) == ["0.mp4", "1.mp4"]
        assert library.label_similarities(axis(0)[None]).similarity.tolist() == [[1]]
        assert library.status().vectors["audio"] == 2


@needs_packages_of("milvus")
def test_damage_to_what_was_saved_of_milvus_rebuilds_it(
    directory: Path, upload: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with open_library(directory, vector_store="milvus") as library:
        library.add_clip(new_clip(axis(0), filename="0.mp4"), upload)
    (directory / "vectors" / "audio.vectors").write_bytes(b"damaged")
    with open_library(directory, vector_store="milvus") as library:
        assert "Rebuilding the 'audio' vectors" in caplog.text
        assert names(library, modality="audio") == ["0.mp4"]


@needs_packages_of("milvus")
def test_milvus_is_filled_anew_after_a_crash_as_nobody_knows_what_it_holds(
    directory: Path, upload: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with open_library(directory, vector_store="milvus") as library:
        library.add_clip(new_clip(axis(0), filename="0.mp4"), upload)
    crashed = open_library(directory, vector_store="milvus")
    assert [path.name for path in (directory / "vectors").glob("*.vectors")] == ["windows.vectors"]
    crashed.add_clip(new_clip(axis(1), filename="1.mp4"), upload)
    abandon(crashed)
    caplog.clear()
    with open_library(directory, vector_store="milvus") as library:
        assert "Rebuilding the 'audio' vectors" in caplog.text
        assert names(library) == ["0.mp4", "1.mp4"]


@pytest.fixture
def out_of_reach(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """Undo it and the store can be reached again."""

    def refuse(*arguments: object) -> None:
        raise VectorStoreUnavailable("Could not write to the vector store.")

    with monkeypatch.context() as patch:
        patch.setattr(ExactStore, "add", refuse)
        yield patch


@pytest.fixture
def before(directory: Path, upload: Path) -> Library:
    library = open_library(directory, vector_store="exact")
    library.add_clip(new_clip(axis(1), filename="old.mp4"), upload)
    return library


def test_a_clip_is_kept_while_the_store_is_out_of_reach_and_found_once_it_is_back(
    before: Library, upload: Path, out_of_reach: pytest.MonkeyPatch
) -> None:
    with before as library:
        clip = library.add_clip(new_clip(axis(0), filename="new.mp4"), upload)
        assert library.get_clip(clip.clip_id) == clip
        with pytest.raises(VectorStoreUnavailable, match="vector store"):
            library.search(axis(0))
        with pytest.raises(VectorStoreUnavailable, match="vector store"):
            library.add_clip(new_clip(axis(2)), upload)
        out_of_reach.undo()
        time.sleep(space.REFUSED_SECONDS)
        assert names(library) == ["new.mp4", "old.mp4"]


def test_those_who_wait_for_a_store_out_of_reach_are_refused_together(
    before: Library, upload: Path, out_of_reach: pytest.MonkeyPatch
) -> None:
    asked: list[float] = []

    def hang(*arguments: object) -> None:
        asked.append(time.monotonic())
        time.sleep(0.5)
        raise VectorStoreUnavailable("The vector store did not answer.")

    with before as library, ThreadPoolExecutor(8) as pool:
        library.add_clip(new_clip(axis(0), filename="new.mp4"), upload)
        time.sleep(space.REFUSED_SECONDS)
        out_of_reach.setattr(ExactStore, "add", hang)
        for search in [pool.submit(library.search, axis(0)) for _ in range(8)]:
            with pytest.raises(VectorStoreUnavailable, match="did not answer"):
                search.result()
        assert len(asked) == 1
        out_of_reach.undo()


def test_what_a_store_out_of_reach_lacks_is_all_that_it_is_given_later(
    before: Library, upload: Path, out_of_reach: pytest.MonkeyPatch
) -> None:
    with before as library:
        library.add_clip(new_clip(axis(0), filename="new.mp4"), upload)
        out_of_reach.undo()
        time.sleep(space.REFUSED_SECONDS)
        out_of_reach.setattr(space, "build_segments", None)
        assert names(library) == ["new.mp4", "old.mp4"]


def test_vectors_that_lack_a_change_are_not_saved(
    before: Library, directory: Path, upload: Path, out_of_reach: pytest.MonkeyPatch
) -> None:
    with before as library:
        library.add_clip(new_clip(axis(0), filename="new.mp4"), upload)
    out_of_reach.undo()
    with open_library(directory, vector_store="exact") as library:
        assert names(library) == ["new.mp4", "old.mp4"]

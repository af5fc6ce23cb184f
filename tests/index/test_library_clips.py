"""Clips: stored, listed, changed, removed."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from index.catalogue_reader import CatalogueReader
from index.catalogue_records import VectorPair
from index.errors import ClassNotFound, ClipNotFound, InvalidTag, StorageError
from index.library import Library
from index.types import ModalityRecord, ModalityWeights, SearchFilter, Segment
from tests.index.builders import (
    axis,
    media_file,
    media_path,
    new_class,
    new_clip,
    open_library,
    stored_files,
    unit,
)

Reopen = Callable[[], Library]
Restarted = Iterator[Library]


def test_a_stored_clip_is_given_back_after_a_restart(
    library: Library, upload: Path, before_and_after_restart: Restarted
) -> None:
    before = datetime.now(UTC)
    clip = library.add_clip(
        new_clip(unit(1), None, tags=("b", "a", "b"), thumbnail=b"jpeg", filename="é.mp4"), upload
    )
    assert before <= clip.created_at <= datetime.now(UTC)
    assert clip.content_hash == hashlib.sha256(b"media").hexdigest()
    assert (clip.size_bytes, clip.tags, clip.segment_count) == (5, ("b", "a"), 1)
    assert clip.modalities["video"] == ModalityRecord(False, "no video")
    for now in before_and_after_restart:
        assert now.get_clip(clip.clip_id) == clip
        assert media_path(now, clip.clip_id).read_bytes() == b"media"
        assert now.thumbnail(clip.clip_id) == b"jpeg"
        assert now.search(unit(1))[0].clip == clip


def test_the_callers_file_is_copied_not_moved(library: Library, upload: Path) -> None:
    clip = library.add_clip(new_clip(unit(1)), upload)
    upload.write_bytes(b"overwritten")
    assert media_path(library, clip.clip_id).read_bytes() == b"media"


def test_two_clips_of_one_content_share_a_file_until_the_last_goes(
    library: Library, upload: Path, directory: Path
) -> None:
    first = library.add_clip(new_clip(unit(1), thumbnail=b"jpeg"), upload)
    second = library.add_clip(new_clip(unit(2), thumbnail=b"jpeg"), upload)
    assert first.clip_id != second.clip_id
    assert len(stored_files(directory)) == 2
    library.remove_clip(first.clip_id)
    assert media_path(library, second.clip_id).read_bytes() == b"media"
    library.remove_clip(second.clip_id)
    assert stored_files(directory) == set()


def test_a_removed_clip_is_gone_everywhere(
    library: Library, upload: Path, before_and_after_restart: Restarted
) -> None:
    clip = library.add_clip(new_clip(unit(1), unit(2), tags=("a",)), upload)
    library.remove_clip(clip.clip_id)
    for now in before_and_after_restart:
        assert now.list_clips().total == 0
        assert now.search(unit(1)) == []
        assert set(now.status().vectors.values()) == {0}
        assert now.status().segments == 0
        for call in (now.get_clip, now.remove_clip, now.update_clip, now.open_media):
            with pytest.raises(ClipNotFound, match=clip.clip_id):
                call(clip.clip_id)
        with pytest.raises(ClipNotFound):
            now.clip_vector(clip.clip_id)
        with pytest.raises(ClipNotFound):
            now.thumbnail(clip.clip_id)


def test_a_clip_without_thumbnail_has_none(library: Library, upload: Path) -> None:
    clip = library.add_clip(new_clip(unit(1)), upload)
    assert not clip.has_thumbnail
    assert library.thumbnail(clip.clip_id) is None


def test_a_lost_media_file_is_reported_not_hidden(library: Library, upload: Path) -> None:
    clip = library.add_clip(new_clip(unit(1), thumbnail=b"jpeg"), upload)
    media_path(library, clip.clip_id).unlink()
    with pytest.raises(StorageError, match="restore it from a backup"):
        library.open_media(clip.clip_id)


def test_clips_are_listed_newest_first_by_page(library: Library, upload: Path) -> None:
    added = [library.add_clip(new_clip(unit(n)), upload) for n in range(5)]
    page = library.list_clips(offset=1, limit=2)
    assert page.items == (added[3], added[2])
    assert (page.total, page.offset) == (5, 1)
    assert library.list_clips(offset=99).items == ()
    assert library.list_clips(offset=10**30, limit=10**30).total == 5


def test_a_page_of_all_clips_reads_no_more_than_its_own(
    library: Library, upload: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    added = [library.add_clip(new_clip(unit(n)), upload) for n in range(3)]

    def read_all(*_: object, **__: object) -> None:
        pytest.fail("the rows of all clips were read")

    monkeypatch.setattr(CatalogueReader, "clip_rows", read_all)

    assert library.list_clips(limit=2).items == (added[2], added[1])


def test_clips_are_filtered_by_tags_time_and_id(library: Library, upload: Path) -> None:
    one = library.add_clip(new_clip(unit(1), tags=("x", "y")), upload)
    two = library.add_clip(new_clip(unit(2), tags=("x",)), upload)

    def found(**parts: object) -> list[str]:
        page = library.list_clips(filter=SearchFilter(**parts))  # type: ignore[arg-type]
        return [clip.clip_id for clip in page.items]

    assert found() == [two.clip_id, one.clip_id]
    assert found(tags=("x",)) == [two.clip_id, one.clip_id]
    assert found(tags=("x", "y")) == [one.clip_id]
    assert found(tags=(" y ",)) == [one.clip_id]
    assert found(tags=("X",)) == []
    assert found(created_after=one.created_at) == [two.clip_id]
    assert found(created_after=two.created_at) == []
    assert found(created_after=one.created_at - timedelta(microseconds=1))[-1] == one.clip_id
    assert found(created_before=two.created_at) == [one.clip_id]
    assert found(created_before=one.created_at) == []
    assert found(created_after=one.created_at, created_before=two.created_at) == []
    assert found(clip_ids=(one.clip_id, "nobody", one.clip_id)) == [one.clip_id]
    assert found(clip_ids=()) == []
    assert found(clip_ids=tuple(map(str, range(40_000)))) == []
    assert found(clip_ids=(two.clip_id,), tags=("y",)) == []


def test_clips_are_filtered_by_the_modality_that_they_have(library: Library, upload: Path) -> None:
    sound, picture, both = (
        library.add_clip(new_clip(*vectors), upload).clip_id
        for vectors in ((unit(1), None), (None, unit(2)), (unit(3), unit(4)))
    )

    def found(**parts: object) -> list[str]:
        page = library.list_clips(filter=SearchFilter(**parts))  # type: ignore[arg-type]
        return [clip.clip_id for clip in page.items]

    assert found(modality="audio") == [both, sound]
    assert found(modality="video") == [both, picture]
    assert found(modality="video", clip_ids=(sound, picture)) == [picture]
    hits = library.search(unit(1), filter=SearchFilter(modality="video"))
    assert {hit.clip.clip_id for hit in hits} == {both, picture}


def test_a_question_that_has_no_utf8_finds_nothing(library: Library, upload: Path) -> None:
    library.add_clip(new_clip(unit(1), tags=("x",)), upload)
    library.add_class(new_class("dog", axis(0)))
    wild = "\ud800"
    for parts in ({"tags": (wild,)}, {"clip_ids": (wild,)}, {"class_name": wild}):
        assert library.list_clips(filter=SearchFilter(**parts)).total == 0
    assert len(library.search(unit(1), exclude=[wild])) == 1
    assert library.list_classes(query=wild).total == 0
    with pytest.raises(ClipNotFound):
        library.get_clip(wild)
    with pytest.raises(ClassNotFound):
        library.get_class(wild)


def test_the_class_filter_follows_the_classes_of_the_moment(library: Library, upload: Path) -> None:
    low = library.add_clip(new_clip(axis(0), axis(1)), upload)
    library.add_clip(new_clip(), upload)

    def of(name: str) -> list[str]:
        page = library.list_clips(filter=SearchFilter(class_name=name))
        return [clip.clip_id for clip in page.items]

    assert of("dog") == []
    library.add_class(new_class("dog", axis(2)))
    assert of("DOG ") == [low.clip_id]
    cat = library.add_class(new_class("cat", axis(1)))
    assert (of("dog"), of("cat")) == ([], [low.clip_id])
    library.update_class(cat.class_id, enabled=False)
    assert (of("dog"), of("cat")) == ([low.clip_id], [])


def test_tags_and_filename_can_be_changed(library: Library, upload: Path, reopened: Reopen) -> None:
    clip = library.add_clip(new_clip(unit(1), tags=("a", "b")), upload)
    changed = library.update_clip(clip.clip_id, tags=["c", "b"], filename="new.mp4")
    assert (changed.tags, changed.filename) == (("c", "b"), "new.mp4")
    assert library.update_clip(clip.clip_id) == changed
    assert reopened().get_clip(clip.clip_id) == changed
    assert reopened().update_clip(clip.clip_id, tags=()).tags == ()


def test_it_keeps_where_a_file_came_from(library: Library, upload: Path, reopened: Reopen) -> None:
    clip = library.add_clip(new_clip(unit(1), source=" /films/a  b.mp4 "), upload)
    assert clip.source == " /films/a  b.mp4 "
    assert library.update_clip(clip.clip_id, tags=["x"]).source == clip.source
    moved = library.update_clip(clip.clip_id, source="/films/c.mp4")
    assert reopened().get_clip(clip.clip_id) == moved
    assert moved.source == "/films/c.mp4"


@pytest.mark.parametrize("source", ["", "x" * 4097, "a\nb", "\udfff"])
def test_an_unfit_source_is_refused_and_nothing_is_stored(
    library: Library, upload: Path, source: str
) -> None:
    with pytest.raises(ValueError, match="The source"):
        library.add_clip(new_clip(unit(1), source=source), upload)
    assert library.list_clips().total == 0


@pytest.mark.parametrize("tag", ["", " ", "x" * 101, "a\x00", "\udfff"])
def test_an_unfit_tag_is_refused_and_nothing_is_stored(
    library: Library, upload: Path, directory: Path, tag: str
) -> None:
    with pytest.raises(InvalidTag, match="The tag"):
        library.add_clip(new_clip(unit(1), tags=("fine", tag)), upload)
    assert stored_files(directory) == set()
    clip = library.add_clip(new_clip(unit(1), tags=("fine",)), upload)
    with pytest.raises(InvalidTag):
        library.update_clip(clip.clip_id, tags=[tag])
    assert library.get_clip(clip.clip_id).tags == ("fine",)


def test_a_wild_filename_is_shown_harmlessly(library: Library, upload: Path) -> None:
    for wild, shown in {
        "a\x00\ud800.mp4": "a__.mp4",
        "  ": "",
        "x" * 500 + ".mp4": "x" * 251 + ".mp4",
        "../../etc/passwd": "../../etc/passwd",
    }.items():
        assert library.add_clip(new_clip(unit(1), filename=wild), upload).filename == shown


@pytest.mark.parametrize(
    "clip",
    [
        new_clip(unit(1, 9)),
        new_clip(unit(1) * 1.1),
        new_clip(unit(1), segments=(Segment(0, 1, unit(1), unit(1, 9)),)),
        new_clip(unit(1), segments=(Segment(1, 1, unit(1), None),)),
        new_clip(unit(1), segments=(Segment(-1, 1, unit(1), None),)),
        new_clip(unit(1), segments=(Segment(0, float("nan"), unit(1), None),)),
    ],
)
def test_a_bad_vector_or_window_is_refused_and_nothing_is_stored(
    library: Library, upload: Path, directory: Path, clip: object
) -> None:
    with pytest.raises(ValueError, match="got"):
        library.add_clip(clip, upload)  # type: ignore[arg-type]
    assert stored_files(directory) == set()
    assert library.list_clips().total == 0


def test_a_missing_upload_is_a_storage_error(library: Library, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="No such file"):
        library.add_clip(new_clip(unit(1)), tmp_path / "absent")


def test_a_clip_without_segments_or_vectors_is_kept_but_not_found(
    library: Library, upload: Path, before_and_after_restart: Restarted
) -> None:
    bare = library.add_clip(new_clip(segments=()), upload)
    silent = library.add_clip(new_clip(segments=(Segment(0, 1, None, None),)), upload)
    for now in before_and_after_restart:
        assert (bare.segment_count, silent.segment_count) == (0, 1)
        assert now.list_clips().items == (silent, bare)
        assert now.search(unit(1)) == []
        assert now.clip_vector(silent.clip_id) is None


def test_clip_vectors_have_unit_length_and_weigh_the_modalities(
    directory: Path, upload: Path
) -> None:
    with open_library(directory, weights=ModalityWeights(audio=3, video=1)) as library:
        clip = library.add_clip(new_clip(axis(0), axis(1)), upload)
        deaf = library.add_clip(new_clip(None, axis(1)), upload)
        opposed = library.add_clip(new_clip(axis(0), -axis(0)), upload)
        mixed = (3 * axis(0) + axis(1)) / np.float32(np.sqrt(10))
        for clip_id, modality, expected in (
            (clip.clip_id, "both", mixed),
            (clip.clip_id, "audio", axis(0)),
            (clip.clip_id, "video", axis(1)),
            (deaf.clip_id, "both", axis(1)),
        ):
            vector = library.clip_vector(clip_id, modality)  # type: ignore[arg-type]
            assert vector is not None
            np.testing.assert_allclose(vector, expected, atol=1e-6)
        assert library.clip_vector(deaf.clip_id, "audio") is None
        assert library.clip_vector(opposed.clip_id) is not None
    with open_library(directory) as library:
        assert library.clip_vector(opposed.clip_id) is None


def test_large_media_is_copied_whole(library: Library, tmp_path: Path) -> None:
    content = bytes(range(256)) * (3 * 4096 + 1)
    clip = library.add_clip(new_clip(unit(1)), media_file(tmp_path, content))
    assert clip.size_bytes == len(content)
    assert media_path(library, clip.clip_id).read_bytes() == content


def test_a_clips_class_is_computed_once_until_the_classes_change(
    library: Library, upload: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    clip_vectors = CatalogueReader.clip_vectors

    def counted(reader: CatalogueReader, row_ids: Sequence[int]) -> Iterator[list[VectorPair]]:
        asked.extend(row_ids)
        return clip_vectors(reader, row_ids)

    monkeypatch.setattr(CatalogueReader, "clip_vectors", counted)
    dog = SearchFilter(class_name="dog")
    library.add_class(new_class("dog", axis(0)))
    first = [library.add_clip(new_clip(axis(0)), upload) for _ in range(3)]
    for _ in range(2):
        assert library.list_clips(filter=dog).total == 3
    assert len(asked) == 3
    library.add_clip(new_clip(axis(0)), upload)
    library.remove_clip(first[1].clip_id)
    assert library.list_clips(filter=dog).total == 3
    assert len(asked) == 4
    library.add_class(new_class("cat", axis(1)))
    assert library.list_clips(filter=dog).total == 3
    assert len(asked) == 7

"""Clips' files elsewhere than in the library's directory: in a shared folder or in a store."""

import os
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

import index.remote_media
from index.backup import export_library, import_library
from index.errors import StorageError
from index.library import Library
from index.media import Media, open_media
from index.verification import verify_library
from tests.index.builders import media_file, new_class, new_clip, open_library, unit

PLACES = ["file", "memory", "s3"]


@pytest.fixture(params=PLACES)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty place."""
    match request.param:
        case "file":
            return f"file://{tmp_path / 'shared'}"
        case "memory":
            return f"memory://{uuid.uuid4().hex}"
        case _:
            return f"{request.getfixturevalue('s3')}/{uuid.uuid4().hex}"


@pytest.fixture
def media(place: str, tmp_path: Path) -> Media:
    return open_media(tmp_path / "own", place, library_id="me", has_clips=False).media


def stored(place: str) -> set[str]:
    files, root = fsspec.core.url_to_fs(place)
    files.invalidate_cache()
    names = {path.removeprefix(root.rstrip("/") + "/") for path in files.find(root)}
    return names - {"library_id"}


def put(media: Media, content: bytes | Path | Iterator[bytes]) -> str:
    with media.staging(content) as staged:
        media.keep(staged)
        return staged.content_hash


# The files


def test_a_kept_file_is_read_from_anywhere_in_it(media: Media, tmp_path: Path) -> None:
    content = bytes(range(256)) * 20_000
    upload = media_file(tmp_path, content)
    hashes = {put(media, content), put(media, upload), put(media, iter([content[:9], content[9:]]))}
    assert len(hashes) == 1
    with media.open(hashes.pop()) as file:
        file.seek(4_000_001)
        assert file.read(5) == content[4_000_001:4_000_006]
        file.seek(3)
        assert file.read() == content[3:]


def test_a_file_is_lent_under_a_local_path(media: Media) -> None:
    content_hash = put(media, b"abc")
    with media.local(content_hash) as path:
        assert path.read_bytes() == b"abc"
    with media.local("0" * 64) as path:
        assert not path.exists()


def test_an_absent_file_is_told_and_removing_it_is_no_error(media: Media) -> None:
    content_hash = put(media, b"abc")
    media.remove(content_hash)
    media.remove(content_hash)
    with pytest.raises(FileNotFoundError):
        media.open(content_hash)


def test_a_file_that_another_removed_after_staging_is_stored_again(media: Media) -> None:
    with media.staging(b"abc") as staged:
        media.remove(staged.content_hash)
        media.keep(staged)
    with media.open(staged.content_hash) as file:
        assert file.read() == b"abc"


def test_half_an_upload_is_not_taken_for_the_file(place: str, media: Media) -> None:
    content_hash = put(media, b"abc")
    (path,) = stored(place)
    files, root = fsspec.core.url_to_fs(place)
    files.pipe_file(f"{root}/{path}", b"a")
    assert put(media, b"abc") == content_hash
    with media.open(content_hash) as file:
        assert file.read() == b"abc"


def test_what_is_young_may_be_another_processes_and_is_left_alone(
    place: str, media: Media, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    needed, stray = put(media, b"abc"), put(media, b"def")
    prefix = stray[:2]
    assert set(media.prefixes()) == {needed[:2], prefix}
    assert media.unneeded({needed}, prefix=prefix) == []
    monkeypatch.setattr("index.media.GRACE_SECONDS", -1.0)
    later = open_media(tmp_path / "own", place, library_id="me", has_clips=True).media
    assert later.unneeded({needed}, prefix=prefix) == [stray]
    assert later.unneeded({stray}, prefix=prefix) == []


def test_a_shared_folder_keeps_what_another_process_is_receiving(tmp_path: Path) -> None:
    url = f"file://{tmp_path / 'shared'}"
    first = open_media(tmp_path / "one", url, library_id="me", has_clips=False).media
    with first.staging(b"abc") as staged:
        abandoned = staged.path.with_name("abandoned")
        abandoned.write_bytes(b"ab")
        os.utime(abandoned, (time.time() - 7200,) * 2)
        open_media(tmp_path / "two", url, library_id="me", has_clips=False)
        assert not abandoned.exists()
        first.keep(staged)


# Whose they are


def test_another_librarys_place_is_refused(place: str, media: Media, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"another library.*of me, not of you"):
        open_media(tmp_path / "other", place, library_id="you", has_clips=False)


def test_a_place_without_the_clips_files_is_refused(place: str, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="Copy `media`, `thumbnails` and `library_id`"):
        open_media(tmp_path / "own", place, library_id="me", has_clips=True)
    assert stored(place) == set()


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("nosuch://me:secret@host/path", "cannot be used"),
        ("s3://no-such-bucket-at-all/path", "Could not"),
    ],
)
def test_a_place_that_cannot_be_used_is_told(s3: str, tmp_path: Path, url: str, said: str) -> None:
    with pytest.raises(StorageError, match=said) as refusal:
        open_media(tmp_path, url, library_id="me", has_clips=False)
    assert "secret" not in str(refusal.value)


# A library


def test_a_library_keeps_its_clips_there_and_removes_them(
    place: str, directory: Path, upload: Path
) -> None:
    with open_library(directory, media_url=place) as library:
        clip = library.add_clip(new_clip(unit(1), thumbnail=b"jpeg"), upload)
        twin = library.add_clip(new_clip(unit(2)), upload)
        assert len(stored(place)) == 2
        library.remove_clip(twin.clip_id)
    with open_library(directory, media_url=place) as library:
        with library.open_media(clip.clip_id) as file:
            assert file.read() == b"media"
        assert library.thumbnail(clip.clip_id) == b"jpeg"
        library.remove_clip(clip.clip_id)
    assert stored(place) == set()
    assert not (directory / "media").exists()


def test_a_clip_that_is_refused_leaves_no_file(place: str, directory: Path, upload: Path) -> None:
    with open_library(directory, media_url=place) as library:
        with pytest.raises(ValueError, match="got"):
            library.add_clip(new_clip(unit(1, 9), thumbnail=b"jpeg"), upload)
        assert stored(place) == set()


def test_a_clip_is_acknowledged_only_once_its_file_is_stored(
    directory: Path, upload: Path, s3: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = f"{s3}/{uuid.uuid4().hex}"
    with open_library(directory, media_url=place) as library:

        def refuse(*_: object, **__: object) -> None:
            raise ConnectionError("the store is away")

        with monkeypatch.context() as patch:
            patch.setattr(library._files.media._files, "put_file", refuse)  # type: ignore[attr-defined]
            with pytest.raises(StorageError, match="the store is away"):
                library.add_clip(new_clip(unit(1)), upload)
        assert library.list_clips().total == 0
        library.add_clip(new_clip(unit(1)), upload)


def test_replicas_serve_and_remove_each_others_files(
    place: str, tmp_path: Path, upload: Path
) -> None:
    url = f"sqlite:///{tmp_path / 'shared.sqlite'}"

    def opened(name: str) -> Library:
        return open_library(tmp_path / name, catalogue_url=url, media_url=place)

    with opened("one") as one, opened("two") as two:
        clip = one.add_clip(new_clip(unit(1), thumbnail=b"jpeg"), upload)
        with two.open_media(clip.clip_id) as file:
            assert file.read() == b"media"
        assert two.thumbnail(clip.clip_id) == b"jpeg"
        two.add_class(new_class("dog"))
        two.remove_clip(clip.clip_id)
        assert stored(place) == set()


def test_a_large_file_comes_back_whole(
    directory: Path, tmp_path: Path, s3: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = f"{s3}/{uuid.uuid4().hex}"
    content = os.urandom(12 << 20)
    with open_library(directory, media_url=place) as library:
        monkeypatch.setattr(index.remote_media, "READ_BYTES", 1 << 20)
        clip = library.add_clip(new_clip(unit(1)), media_file(tmp_path, content))
        with library.open_media(clip.clip_id) as file:
            assert file.read() == content


# Its keeping


def test_a_library_is_verified_and_moved_with_its_clips_there(
    place: str, directory: Path, tmp_path: Path
) -> None:
    with open_library(directory, media_url=place) as library:
        clips = [
            library.add_clip(new_clip(unit(n), thumbnail=b"jpeg"), media_file(tmp_path, b"%d" % n))
            for n in range(3)
        ]
        library.export(tmp_path / "while-open.tar")
    assert verify_library(directory, media_url=place).findings == ()

    summary = export_library(directory, tmp_path / "archive.tar", media_url=place)
    assert (summary.files, summary.missing) == (4, ())
    restored = place.replace(place.rpartition("/")[2], uuid.uuid4().hex)
    for archive, target in (("archive.tar", restored), ("while-open.tar", None)):
        other = tmp_path / archive.removesuffix(".tar")
        import_library(tmp_path / archive, other, media_url=target)
        with open_library(other, media_url=target) as library:
            for number, clip in enumerate(clips):
                with library.open_media(clip.clip_id) as file:
                    assert file.read() == b"%d" % number


def test_a_store_that_is_away_is_not_taken_for_one_that_lacks_a_file(
    directory: Path, upload: Path, s3: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = f"{s3}/{uuid.uuid4().hex}"
    with open_library(directory, media_url=place) as library:
        library.add_clip(new_clip(unit(1)), upload)

        def refuse(*_: object, **__: object) -> None:
            raise ConnectionError("the store is away")

        monkeypatch.setattr(library._files.media._files, "open", refuse)  # type: ignore[attr-defined]
        with pytest.raises(StorageError, match="the store is away"):
            library.export(directory.parent / "archive.tar", allow_missing=True)


def test_what_a_dead_process_has_fetched_is_cleared(directory: Path, s3: str) -> None:
    place = f"{s3}/{uuid.uuid4().hex}"
    open_library(directory, media_url=place).close()
    spool = directory / "incoming"
    (spool / "old").mkdir()
    (spool / "old" / "half").write_bytes(b"half")
    os.utime(spool / "old", (time.time() - 7200,) * 2)
    (spool / "young").write_bytes(b"half")
    open_library(directory, media_url=place).close()
    assert [path.name for path in spool.iterdir()] == ["young"]

"""Files by content."""

import hashlib
from pathlib import Path

import pytest

from index.errors import StorageError
from index.media_store import MediaStore


def store_bytes(store: MediaStore, content: bytes) -> str:
    with store.staging(content) as staged:
        store.keep(staged)
        return staged.content_hash


def files(directory: Path) -> list[Path]:
    return [path for path in directory.rglob("*") if path.is_file()]


def test_a_kept_file_lies_under_the_hash_of_its_bytes(tmp_path: Path) -> None:
    store = MediaStore(tmp_path)
    content_hash = store_bytes(store, b"abc")
    assert content_hash == hashlib.sha256(b"abc").hexdigest()
    assert store.path(content_hash).read_bytes() == b"abc"


def test_a_file_is_the_same_whether_it_came_as_path_or_bytes(tmp_path: Path) -> None:
    store = MediaStore(tmp_path / "store")
    (tmp_path / "upload").write_bytes(b"abc")
    with store.staging(tmp_path / "upload") as from_path, store.staging(b"abc") as from_bytes:
        assert from_path.content_hash == from_bytes.content_hash
        assert from_path.size_bytes == from_bytes.size_bytes == 3
        assert from_path.path != from_bytes.path


def test_what_is_not_kept_leaves_no_file(tmp_path: Path) -> None:
    store = MediaStore(tmp_path)
    with pytest.raises(ZeroDivisionError), store.staging(b"abc"):
        1 / 0  # noqa: B018
    with pytest.raises(StorageError), store.staging(tmp_path / "absent"):
        pass
    assert files(tmp_path) == []


def test_keeping_again_mends_a_damaged_file(tmp_path: Path) -> None:
    store = MediaStore(tmp_path)
    content_hash = store_bytes(store, b"abc")
    store.path(content_hash).write_bytes(b"damaged")
    store_bytes(store, b"abc")
    assert store.path(content_hash).read_bytes() == b"abc"


def test_removing_an_absent_file_is_no_error(tmp_path: Path) -> None:
    store = MediaStore(tmp_path)
    content_hash = store_bytes(store, b"abc")
    store.remove(content_hash)
    store.remove(content_hash)
    assert files(tmp_path) == []


def test_what_is_not_needed_is_told_by_the_first_digits_of_its_hash(tmp_path: Path) -> None:
    store = MediaStore(tmp_path)
    hashes = [store_bytes(store, b"%d" % number) for number in range(600)]
    told = [
        stray for prefix in store.prefixes() for stray in store.unneeded({hashes[7]}, prefix=prefix)
    ]
    assert sorted(told) == sorted(set(hashes) - {hashes[7]})


def test_an_interrupted_copy_is_cleared_on_opening(tmp_path: Path) -> None:
    store = MediaStore(tmp_path)
    (tmp_path / "incoming" / "half").write_bytes(b"half")
    kept = store_bytes(store, b"abc")
    assert files(MediaStore(tmp_path)._directory) == [store.path(kept)]

"""Keys of the HTTP API, beside a library that is open, on every kind of database."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from index.api_keys import ApiKeyStore, NewApiKey
from index.errors import ApiKeyExists, ApiKeyNotFound, LibraryNotFound
from index.verification import verify_library
from tests.index.builders import axis, new_clip, open_library


@pytest.fixture
def keys(directory: Path, catalogue_url: str | None) -> Iterator[ApiKeyStore]:
    store = ApiKeyStore.open(directory, catalogue_url=catalogue_url)
    yield store
    store.close()


def new_key(name: str = "phone", key_id: str = "k1") -> NewApiKey:
    return NewApiKey(key_id, name, "write", bytes(32), rate="60/minute", concurrency=4)


def test_a_key_is_remembered_with_what_it_may_do(keys: ApiKeyStore) -> None:
    keys.add(new_key())

    (key,) = keys.all()
    assert (key.key_id, key.name, key.scope, key.secret_hash) == ("k1", "phone", "write", bytes(32))
    assert (key.rate, key.concurrency) == ("60/minute", 4)
    assert (key.last_used_at, key.revoked_at) == (None, None)
    assert abs((datetime.now(UTC) - key.created_at).total_seconds()) < 60


@pytest.mark.parametrize("by", ["k1", "phone"])
def test_a_revoked_key_stays_known_and_frees_its_name(keys: ApiKeyStore, by: str) -> None:
    keys.add(new_key())
    assert keys.revoke(by).revoked_at is not None
    keys.add(new_key(key_id="k2"))

    assert [key.revoked_at is None for key in keys.all()] == [False, True]


def test_a_name_that_is_in_use_is_refused(keys: ApiKeyStore) -> None:
    keys.add(new_key())
    with pytest.raises(ApiKeyExists, match="'phone'"):
        keys.add(new_key(key_id="k2"))


def test_what_is_not_there_cannot_be_revoked(keys: ApiKeyStore) -> None:
    keys.add(new_key())
    keys.revoke("phone")
    for key in ("phone", "k1", "nobody"):
        with pytest.raises(ApiKeyNotFound, match=key):
            keys.revoke(key)


def test_their_last_use_is_remembered(keys: ApiKeyStore) -> None:
    keys.add(new_key())
    moment = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    keys.note_use({"k1": moment, "gone": moment})

    (key,) = keys.all()
    assert key.last_used_at == moment


def test_they_are_changed_beside_an_open_library_and_are_no_change_of_it(
    directory: Path, catalogue_url: str | None, upload: Path
) -> None:
    with open_library(directory, catalogue_url=catalogue_url) as library:
        library.add_clip(new_clip(axis(0)), upload)
        with library._catalogue.read() as reader:
            generation = reader.generation()
        store = ApiKeyStore.open(directory, catalogue_url=catalogue_url)
        store.add(new_key())
        store.revoke("phone")
        store.close()
        with library._catalogue.read() as reader:
            assert reader.generation() == generation
        assert library.list_clips().total == 1


def test_a_key_made_before_the_first_start_does_not_hinder_it(
    directory: Path, catalogue_url: str | None, upload: Path
) -> None:
    store = ApiKeyStore.open(directory, catalogue_url=catalogue_url)
    store.add(new_key())
    store.close()
    with pytest.raises(LibraryNotFound):
        verify_library(directory, catalogue_url=catalogue_url)
    with open_library(directory, catalogue_url=catalogue_url) as library:
        library.add_clip(new_clip(axis(0)), upload)
    assert verify_library(directory, catalogue_url=catalogue_url).findings == ()


def test_an_archive_holds_no_key_and_leaves_those_that_are_there(
    directory: Path, catalogue_url: str | None, upload: Path, tmp_path: Path
) -> None:
    from index.backup import import_library

    with open_library(directory, catalogue_url=catalogue_url) as library:
        library.add_clip(new_clip(axis(0)), upload)
        store = ApiKeyStore.open(directory, catalogue_url=catalogue_url)
        store.add(NewApiKey("k1", "phone-of-somebody", "admin", b"h" * 32))
        store.close()
        library.export(tmp_path / "a.tar")
    assert b"phone-of-somebody" not in (tmp_path / "a.tar").read_bytes()
    other = ApiKeyStore.open(tmp_path / "other")
    other.add(new_key("tablet"))
    import_library(tmp_path / "a.tar", tmp_path / "other")
    assert [key.name for key in other.all()] == ["tablet"]
    other.close()

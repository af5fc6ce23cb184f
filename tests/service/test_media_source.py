"""Files to be indexed, in folders and in object stores."""

from collections.abc import Callable
from pathlib import Path

import pytest

from model.errors import EmptyFile, FileTooLarge
from model.media.limits import MediaLimits
from service.media_source import fetch, local_file, media_sources, name_of

LIMITS = MediaLimits(max_bytes=10)


def fetch_nothing(url: str) -> None:
    fetch(url, Path("nowhere"), LIMITS)


@pytest.fixture
def bucket(s3: str) -> str:
    """A prefix with clips at two depths and with what is none."""
    import fsspec

    files = fsspec.filesystem("s3")
    for name in ("b.wav", "a.MP4", "sea/c.flac", ".hidden/d.wav", ".e.wav", "notes.txt"):
        files.pipe_file(f"{s3}/films/{name}", name.encode())
    return f"{s3}/films"


def test_it_finds_the_media_below_a_prefix(bucket: str) -> None:
    found = [f"{bucket}/a.MP4", f"{bucket}/b.wav", f"{bucket}/sea/c.flac"]
    assert list(media_sources([bucket])) == found
    assert list(media_sources([f"{bucket}/"])) == found
    assert list(media_sources([f"{bucket}/b.wav"])) == [f"{bucket}/b.wav"]


def test_a_prefix_where_nothing_is_is_an_error(bucket: str) -> None:
    with pytest.raises(FileNotFoundError):
        list(media_sources([f"{bucket}/nowhere"]))


@pytest.mark.parametrize("read", [lambda url: list(media_sources([url])), fetch_nothing])
def test_whatever_a_file_system_raises_is_an_oserror_that_names_the_place(
    read: Callable[[str], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    class NoCredentials(Exception):
        """As botocore's: of no common type with other failures of files."""

    def refuse(*_: object, **__: object) -> None:
        raise NoCredentials("no credentials were found")

    monkeypatch.setattr("fsspec.core.url_to_fs", refuse)

    with pytest.raises(OSError, match=r"s3://films/a.wav cannot be read: NoCredentials: no cred"):
        read("s3://films/a.wav")


def test_it_gives_what_is_away_a_path_for_a_while(bucket: str) -> None:
    with local_file(f"{bucket}/sea/c.flac", MediaLimits()) as path:
        assert path.read_bytes() == b"sea/c.flac"
    assert not path.exists()


def test_paths_are_absolute_and_stay_where_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.wav").write_bytes(b"a")
    monkeypatch.chdir(tmp_path)

    (source,) = media_sources(["."])

    assert source == str(tmp_path / "a.wav")
    with local_file(source, LIMITS) as path:
        assert path == tmp_path / "a.wav"
    assert path.exists()


@pytest.mark.parametrize("remote", [False, True])
def test_what_is_empty_or_too_large_is_not_copied(tmp_path: Path, s3: str, remote: bool) -> None:
    import fsspec

    place = f"{s3}/sizes" if remote else str(tmp_path)
    for name, content in (("empty.wav", b""), ("large.wav", b"x" * 11)):
        with fsspec.open(f"{place}/{name}", "wb") as file:
            file.write(content)
    target = tmp_path / "target"

    with pytest.raises(EmptyFile):
        fetch(f"{place}/empty.wav", target, LIMITS)
    with pytest.raises(FileTooLarge):
        fetch(f"{place}/large.wav", target, LIMITS)

    assert not target.exists()


def test_the_name_is_the_last_part() -> None:
    assert name_of("s3://bucket/films/a.wav") == name_of("/films/a.wav") == "a.wav"

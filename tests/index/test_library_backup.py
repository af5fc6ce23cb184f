"""A library as one file, and back."""

import hashlib
import io
import json
import sqlite3
import subprocess
import tarfile
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from index.backup import export_library, import_library
from index.errors import (
    InvalidArchive,
    LibraryError,
    LibraryLocked,
    LibraryNotEmpty,
    LibraryNotFound,
    StorageError,
)
from index.library import Library
from index.types import Segment
from index.verification import verify_library
from tests.index.builders import (
    DIM,
    media_file,
    media_path,
    new_class,
    new_clip,
    open_library,
    unit,
)
from tests.postgresql import PostgresqlServer


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    return tmp_path / "library.tar"


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The bytes of a good archive."""
    folder = tmp_path_factory.mktemp("exported")
    with open_library(folder / "library") as library:
        fill(library, folder)
        library.export(folder / "library.tar")
    return (folder / "library.tar").read_bytes()


def fill(library: Library, folder: Path) -> None:
    """Store classes and clips of every kind."""
    library.seed_classes("v", [new_class("dog", seen=True), new_class("cat", seen=True)])
    library.add_class(new_class("Zürich tram", synonyms=("Straßenbahn",), description="rails"))
    changed = library.list_classes(query="cat").items[0]
    library.update_class(changed.class_id, enabled=False)
    windows = tuple(Segment(n, n + 2.0, unit(n), unit(n + 9) if n % 2 else None) for n in range(5))
    for number, clip in enumerate(
        [
            new_clip(unit(1), unit(2), tags=("sea", "a"), thumbnail=b"jpeg", segments=windows),
            new_clip(unit(3), thumbnail=b"jpeg"),
            new_clip(None, unit(4), filename="ü.mp4", source="/films/ü.mp4"),
            new_clip(unit(5)),
        ]
    ):
        # The last two are made of one file.
        library.add_clip(clip, media_file(folder, b"media %d" % min(number, 2)))
    library.remove_clip(library.add_clip(new_clip(unit(6)), media_file(folder, b"gone")).clip_id)


def content(library: Library) -> dict[str, Any]:
    """Return all that a library answers, but for its own row ids."""
    clips = library.list_clips(limit=1000).items
    return {
        "clips": clips,
        "classes": library.list_classes(limit=1000).items,
        "media": [media_path(library, clip.clip_id).read_bytes() for clip in clips],
        "thumbnails": [library.thumbnail(clip.clip_id) for clip in clips],
        "hits": {
            modality: [
                (hit.clip, round(hit.score, 5), hit.start_seconds)
                for hit in library.search(unit(7), modality=modality, top_k=10)
            ]
            for modality in ("both", "audio", "video")
        },
        "labels": library.label_similarities(unit(7)[None]).names,
        "similarity": np.round(library.label_similarities(unit(7)[None]).similarity, 5).tolist(),
    }


def test_a_library_comes_back_whole_behind_another_store_and_catalogue(
    library: Library, directory: Path, tmp_path: Path, archive: Path
) -> None:
    fill(library, tmp_path)
    exported = export_library(directory, archive)
    before = content(library)
    url = f"sqlite:///{tmp_path / 'elsewhere.sqlite'}"
    imported = import_library(archive, tmp_path / "other", catalogue_url=url)
    with open_library(tmp_path / "other", catalogue_url=url, vector_store="exact") as other:
        assert content(other) == before
        assert other.seed_classes("v", [new_class("dog")]) == 0
        later = other.add_clip(new_clip(unit(8)), media_file(tmp_path))
        assert other.list_clips().items[0] == later
    assert (exported.clips, exported.classes, exported.segments, exported.files) == (4, 3, 8, 4)
    assert (imported.clips, imported.files, imported.missing) == (4, 4, ())
    assert imported.library_id != exported.library_id
    assert not (tmp_path / "other" / "catalogue.sqlite").exists()
    assert list((directory / "holds").iterdir()) == []


def test_a_library_goes_to_postgresql_and_comes_back(
    library: Library,
    directory: Path,
    tmp_path: Path,
    archive: Path,
    *,
    postgresql: PostgresqlServer,
) -> None:
    fill(library, tmp_path)
    before, url = content(library), postgresql.blank_database()
    export_library(directory, archive)
    import_library(archive, tmp_path / "other", catalogue_url=url)
    with open_library(tmp_path / "other", catalogue_url=url) as other:
        assert content(other) == before
        export_library(tmp_path / "other", tmp_path / "back.tar", catalogue_url=url)
    assert verify_library(tmp_path / "other", catalogue_url=url).findings == ()
    import_library(tmp_path / "back.tar", tmp_path / "back")
    with open_library(tmp_path / "back") as back:
        assert content(back) == before


@pytest.mark.parametrize("kind", ["file", "memory"])
def test_files_go_to_a_place_by_url_and_come_back(
    library: Library, directory: Path, tmp_path: Path, archive: Path, kind: str
) -> None:
    fill(library, tmp_path)
    before = content(library)
    export_library(directory, archive)
    url = f"{kind}://{tmp_path / 'shared'}"
    import_library(archive, tmp_path / "other", media_url=url)
    assert list((tmp_path / "other").glob("media/??/*")) == []
    with open_library(tmp_path / "other", media_url=url) as other:
        assert [other.open_media(clip.clip_id).read() for clip in before["clips"]] == before[
            "media"
        ]
        export_library(tmp_path / "other", tmp_path / "back.tar", media_url=url)
    assert verify_library(tmp_path / "other", media_url=url).findings == ()
    import_library(tmp_path / "back.tar", tmp_path / "back")
    with open_library(tmp_path / "back") as back:
        assert content(back) == before
    damaged = bytearray(archive.read_bytes())
    damaged[-3000] ^= 1
    archive.write_bytes(damaged)
    with pytest.raises(InvalidArchive):
        import_library(archive, tmp_path / "third", media_url=f"{kind}://{tmp_path / 'third'}")
    assert list((tmp_path / "third").rglob("?" * 64)) == []


def test_a_second_export_of_a_restored_library_holds_the_same(
    library: Library, tmp_path: Path, archive: Path
) -> None:
    fill(library, tmp_path)
    library.export(archive)
    import_library(archive, tmp_path / "other")
    again = tmp_path / "again.tar"
    export_library(tmp_path / "other", again)
    assert members(archive).keys() == members(again).keys()
    differing = {
        name for name in members(archive) if members(archive)[name] != members(again)[name]
    }
    assert differing == {"library.json", "SHA256SUMS"}


def test_an_empty_library_can_be_exported_and_restored(
    library: Library, tmp_path: Path, archive: Path
) -> None:
    library.export(archive)
    import_library(archive, tmp_path / "other")
    with open_library(tmp_path / "other") as other:
        assert content(other) == content(library)


def test_many_rows_are_cut_into_parts(
    library: Library, tmp_path: Path, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("index.archive_rows.PART_BYTES", 700)
    monkeypatch.setattr("index.catalogue_reader.BATCH_CLIPS", 2)
    fill(library, tmp_path)
    before = content(library)
    library.export(archive)
    assert len([name for name in members(archive) if name.startswith("clips/")]) > 2
    import_library(archive, tmp_path / "other")
    with open_library(tmp_path / "other") as other:
        assert content(other) == before


def test_ordinary_tools_open_and_check_an_archive(
    library: Library, tmp_path: Path, archive: Path
) -> None:
    fill(library, tmp_path)
    library.export(archive)
    unpacked = tmp_path / "unpacked"
    unpacked.mkdir()
    subprocess.run(["tar", "-xf", archive, "-C", unpacked], check=True)
    subprocess.run(["sha256sum", "--check", "--strict", "SHA256SUMS"], check=True, cwd=unpacked)


def test_an_export_while_others_write_is_one_moment(
    library: Library, directory: Path, tmp_path: Path, archive: Path
) -> None:
    done = threading.Event()

    def write() -> None:
        for number in range(10**6):
            if done.is_set():
                return
            clip = new_clip(unit(number), thumbnail=b"%d" % number)
            added = library.add_clip(clip, media_file(tmp_path, b"media %d" % number))
            if number % 4:
                library.remove_clip(added.clip_id)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        counts = []
        for turn in range(6):
            counts.append(export_library(directory, archive, overwrite=True).clips)
            import_library(archive, tmp_path / f"copy {turn}")
            assert verify_library(tmp_path / f"copy {turn}").findings == ()
    finally:
        done.set()
        writer.join()
    assert counts == sorted(counts)
    assert list((directory / "holds").iterdir()) == []


def test_a_clip_removed_between_the_moment_and_its_file_is_no_loss(
    library: Library,
    directory: Path,
    tmp_path: Path,
    archive: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    doomed = library.add_clip(new_clip(unit(1)), media_file(tmp_path, b"doomed"))
    kept = library.add_clip(new_clip(unit(2)), media_file(tmp_path, b"kept"))
    from index.media_hold import MediaHold

    take, removed = MediaHold.take, []

    def remove_first(self: MediaHold, *arguments: Any) -> bool:
        if not removed:
            removed.append(doomed.clip_id)
            library.remove_clip(doomed.clip_id)
        return take(self, *arguments)

    monkeypatch.setattr(MediaHold, "take", remove_first)
    assert library.export(archive).clips == 1
    import_library(archive, tmp_path / "other")
    with open_library(tmp_path / "other") as other:
        assert other.list_clips().items == (kept,)


def test_files_of_clips_removed_during_the_export_are_in_it(
    library: Library, tmp_path: Path, archive: Path
) -> None:
    fill(library, tmp_path)
    before = content(library)

    def remove_all(stage: str, done: int, total: int) -> None:
        if stage == "Writing files":
            for clip in library.list_clips().items:
                library.remove_clip(clip.clip_id)

    library.export(archive, progress=remove_all)
    import_library(archive, tmp_path / "other")
    with open_library(tmp_path / "other") as other:
        assert content(other) == before


@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_bytes(b"rotten")])
def test_a_lost_file_stops_an_export_unless_it_may_be_missing(
    library: Library, tmp_path: Path, archive: Path, damage: Callable[[Path], object]
) -> None:
    fill(library, tmp_path)
    clip = library.list_clips().items[-1]
    damage(media_path(library, clip.clip_id))
    with pytest.raises(StorageError, match=clip.content_hash):
        library.export(archive)
    assert not archive.exists()
    assert library.export(archive, allow_missing=True).missing == (clip.content_hash,)
    with pytest.raises(InvalidArchive, match="lacks 1 files"):
        import_library(archive, tmp_path / "other")
    imported = import_library(archive, tmp_path / "other", allow_missing=True)
    assert imported.missing == (clip.content_hash,)
    assert imported.clips == 4


def test_an_archive_is_not_overwritten_unasked(library: Library, archive: Path) -> None:
    archive.write_bytes(b"precious")
    with pytest.raises(StorageError, match="exists; choose another name"):
        library.export(archive)
    assert archive.read_bytes() == b"precious"


def test_there_must_be_a_library_to_export(directory: Path, archive: Path) -> None:
    with pytest.raises(LibraryNotFound, match=r"catalogue\.sqlite does not exist"):
        export_library(directory, archive)
    assert not directory.exists()


def test_the_hold_of_a_process_that_died_is_deleted_on_opening(directory: Path) -> None:
    open_library(directory).close()
    (directory / "holds" / "dead").mkdir(parents=True)
    (directory / "holds" / "dead" / "file").write_bytes(b"held")
    open_library(directory).close()
    assert list((directory / "holds").iterdir()) == []


# Into what an archive may be restored


def test_a_library_that_holds_something_is_not_restored_into(
    library: Library, directory: Path, tmp_path: Path, archive: Path
) -> None:
    library.export(archive)
    with pytest.raises(LibraryLocked):
        import_library(archive, directory)
    for number, add in enumerate(
        [
            lambda other: other.add_clip(new_clip(unit(1)), media_file(tmp_path)),
            lambda other: other.add_class(new_class("dog")),
        ]
    ):
        with open_library(tmp_path / str(number)) as other:
            add(other)
        with pytest.raises(LibraryNotEmpty, match="restore into an empty directory"):
            import_library(archive, tmp_path / str(number))


def test_seeded_classes_give_way_to_the_archives(
    library: Library, tmp_path: Path, archive: Path
) -> None:
    fill(library, tmp_path)
    library.export(archive)
    with Library.open(tmp_path / "other", model_id="model-b", dim=4) as other:
        other.seed_classes("w", [new_class("cow", unit(1, 4))])
    import_library(archive, tmp_path / "other")
    with open_library(tmp_path / "other") as other:
        assert content(other) == content(library)


# What is no archive


def members(archive: Path) -> dict[str, bytes]:
    with tarfile.open(archive) as tar:
        return {info.name: tar.extractfile(info).read() for info in tar}  # type: ignore[union-attr]


def write_tar(archive: Path, entries: dict[str, bytes], **attributes: Any) -> None:
    with tarfile.open(archive, "w") as tar:
        for name, content in entries.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            for key, value in attributes.items():
                setattr(info, key, value)
            tar.addfile(info, io.BytesIO(content))


def sums(entries: dict[str, bytes]) -> bytes:
    return "".join(
        f"{hashlib.sha256(content).hexdigest()}  {name}\n"
        for name, content in entries.items()
        if name != "SHA256SUMS"
    ).encode()


def refused(archive: Path, target: Path) -> str:
    """Import in vain, see that nothing was left, and return what was said."""
    with pytest.raises(InvalidArchive) as refusal:
        import_library(archive, target)
    if target.exists():
        assert [
            path for part in ("media", "thumbnails") for path in (target / part).rglob("?" * 64)
        ] == []
    return str(refusal.value)


def test_an_archive_cut_short_anywhere_is_refused(
    exported: bytes, tmp_path: Path, archive: Path
) -> None:
    archive.write_bytes(exported)
    with tarfile.open(archive) as tar:
        last = tar.getmembers()[-1]
    end = last.offset_data + last.size
    for size in [0, 1, 512, 700, *range(1500, end, end // 8), end - 1]:
        archive.write_bytes(exported[:size])
        refused(archive, tmp_path / "other")
    archive.write_bytes(exported)
    assert import_library(archive, tmp_path / "other").clips == 4


def test_a_flipped_bit_in_any_member_is_refused(
    exported: bytes, tmp_path: Path, archive: Path
) -> None:
    archive.write_bytes(exported)
    with tarfile.open(archive) as tar:
        places = [(info.name, info.offset_data + info.size // 2) for info in tar]
    for name, place in places:
        damaged = bytearray(exported)
        damaged[place] ^= 1
        archive.write_bytes(damaged)
        assert refused(archive, tmp_path / "other"), name


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda e: e.update({"../../etc/passwd": b"x"}), "has no place in it"),
        (lambda e: e.update({"/etc/passwd": b"x"}), "has no place in it"),
        (lambda e: e.update({"media/../x": b"x"}), "has no place in it"),
        (lambda e: e.update({f"media/{'0' * 64}": b"x"}), "No clip of the archive"),
        (lambda e: e.pop("vocabularies.json"), "could not|cannot|lacks|FOREIGN"),
        (lambda e: e.pop("clips/000000.f32"), "No clip of the archive has the file"),
        (lambda e: e.pop("clips/000000.jsonl"), "out of turn"),
        (lambda e: e.update({"clips/000000.f32": e["clips/000000.f32"][:-4]}), "cannot be used"),
        (lambda e: e.update({"clips/000000.f32": e["clips/000000.f32"] + b"1234"}), "no record"),
        (lambda e: e.update({"clips/000000.f32": b"\xff" * len(e["clips/000000.f32"])}), "finite"),
        (lambda e: replace_json(e, "library.json", version=2), "version 2, and this program"),
        (lambda e: replace_json(e, "library.json", format="zip"), "'zip'"),
        (lambda e: replace_json(e, "library.json", clips=5), "its header says"),
        (lambda e: replace_json(e, "library.json", dim=0), "0 dimensions"),
        (lambda e: replace_hash(e, "../../../../etc/passwd"), "should match"),
    ],
)
def test_an_archive_made_up_or_changed_is_refused(
    exported: bytes,
    tmp_path: Path,
    archive: Path,
    change: Callable[[dict[str, bytes]], object],
    said: str,
) -> None:
    archive.write_bytes(exported)
    entries = members(archive)
    listing = entries.pop("SHA256SUMS")
    assert sums(entries) == listing
    change(entries)
    write_tar(archive, {**entries, "SHA256SUMS": sums(entries)})
    with pytest.raises(LibraryError, match=said):
        import_library(archive, tmp_path / "other")
    if (tmp_path / "other").exists():
        assert count_rows(tmp_path / "other") == 0


def count_rows(directory: Path) -> int:
    with closing(sqlite3.connect(directory / "catalogue.sqlite")) as catalogue:
        tables = ("clips", "classes", "segments", "vocabularies")
        return sum(catalogue.execute(f"SELECT count(*) FROM {t}").fetchone()[0] for t in tables)


def replace_json(entries: dict[str, bytes], name: str, **fields: object) -> None:
    entries[name] = json.dumps({**json.loads(entries[name]), **fields}).encode()


def replace_hash(entries: dict[str, bytes], content_hash: str) -> None:
    first, *rest = entries["clips/000000.jsonl"].splitlines()
    changed = json.dumps({**json.loads(first), "content_hash": content_hash}).encode()
    entries["clips/000000.jsonl"] = b"\n".join([changed, *rest])


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE])
def test_links_and_folders_in_an_archive_are_refused(
    exported: bytes, tmp_path: Path, archive: Path, kind: bytes
) -> None:
    archive.write_bytes(exported)
    entries = dict.fromkeys(members(archive), b"")
    write_tar(archive, entries, type=kind, linkname="/etc/passwd", size=0)
    assert "has no place in it" in refused(archive, tmp_path / "other")


def test_a_file_that_is_no_tar_is_refused(tmp_path: Path, archive: Path) -> None:
    for content in (b"", b"x" * 5000, b"\x1f\x8b" + b"x" * 100):
        archive.write_bytes(content)
        assert "no archive of a library" in refused(archive, tmp_path / "other")
    assert not (tmp_path / "other").exists()
    with pytest.raises(StorageError, match="Could not read"):
        import_library(tmp_path / "absent.tar", tmp_path / "other")


def test_a_restored_model_keeps_another_out(exported: bytes, tmp_path: Path, archive: Path) -> None:
    archive.write_bytes(exported)
    summary = import_library(archive, tmp_path / "other")
    assert (summary.model_id, summary.dim) == ("model-a", DIM)
    with pytest.raises(LibraryError, match="Use the former model"):
        Library.open(tmp_path / "other", model_id="model-b", dim=DIM)

"""What is wrong with a library is found, and what can be mended is."""

import os
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from index.errors import LibraryLocked, LibraryNotFound, StorageError
from index.exact_store import ExactStore
from index.library import Library
from index.repair import Repair, repair_library
from index.types import ModalityWeights
from index.verification import Verification, verify_library
from tests.index.builders import (
    DIM,
    MODEL,
    media_file,
    media_path,
    new_class,
    new_clip,
    open_library,
    stored_files,
    unit,
)


@pytest.fixture
def clips(directory: Path, tmp_path: Path) -> list[str]:
    """The ids of three clips in a closed library, two of one file."""
    with open_library(directory) as library:
        library.seed_classes("v", [new_class("dog"), new_class("cat")])
        return [
            library.add_clip(
                new_clip(unit(n), unit(n + 9), thumbnail=b"t%d" % n),
                media_file(tmp_path, b"media %d" % (n // 2)),
            ).clip_id
            for n in range(3)
        ]


def kinds(found: Verification | Repair) -> list[tuple[str, str]]:
    findings = found.findings if isinstance(found, Verification) else found.left
    return [(finding.kind, finding.subject) for finding in findings]


def execute(directory: Path, statement: str, *values: object) -> None:
    with closing(sqlite3.connect(directory / "catalogue.sqlite")) as catalogue:
        catalogue.execute(statement, values)
        catalogue.commit()


def only(directory: Path, pattern: str) -> Path:
    (path,) = directory.glob(pattern)
    return path


def files_of(directory: Path, clip_id: str) -> tuple[Path, Path]:
    with closing(sqlite3.connect(directory / "catalogue.sqlite")) as catalogue:
        media, thumbnail = catalogue.execute(
            "SELECT content_hash, thumbnail_hash FROM clips WHERE clip_id = ?", (clip_id,)
        ).fetchone()
    return only(directory, f"media/*/{media}"), only(directory, f"thumbnails/*/{thumbnail}")


def test_a_sound_library_has_nothing_wrong_and_is_left_as_it_is(
    directory: Path, clips: list[str]
) -> None:
    before = {path: path.read_bytes() for path in directory.rglob("*.*") if path.is_file()}
    found = verify_library(directory)
    assert (found.findings, found.skipped) == ((), ())
    assert (found.classes, found.clips, found.segments, found.files) == (2, 3, 3, 5)
    assert found.model_id == MODEL
    assert repair_library(directory) == Repair((), (), ())
    after = {path: path.read_bytes() for path in directory.rglob("*.*") if path.is_file()}
    assert {path.name for path in before} == {path.name for path in after}
    assert all(after[path] == before[path] for path in before if path.suffix == ".vectors")


def test_a_library_in_use_is_verified_but_not_repaired(
    library: Library, directory: Path, upload: Path
) -> None:
    clip = library.add_clip(new_clip(unit(1)), upload)
    found = verify_library(directory)
    assert found.findings == ()
    (skipped,) = found.skipped
    assert f"the process with pid {os.getpid()} may change them" in skipped
    assert "verify again" in skipped
    media_path(library, clip.clip_id).unlink()
    assert kinds(verify_library(directory)) == [("media_missing", clip.clip_id)]
    with pytest.raises(LibraryLocked, match="in use by the process with pid"):
        repair_library(directory)


def test_a_clip_removed_while_its_file_is_looked_for_is_no_finding(
    library: Library, directory: Path, upload: Path
) -> None:
    clip = library.add_clip(new_clip(unit(1)), upload)

    def remove(stage: str, done: int, total: int) -> None:
        if (stage, done) == ("Checking files", 0):
            library.remove_clip(clip.clip_id)

    assert verify_library(directory, progress=remove).findings == ()


def test_there_must_be_a_library(directory: Path, tmp_path: Path) -> None:
    for call in (verify_library, repair_library):
        with pytest.raises(LibraryNotFound):
            call(directory)
    assert not directory.exists()


def test_another_librarys_catalogue_is_refused(
    directory: Path, clips: list[str], tmp_path: Path
) -> None:
    open_library(tmp_path / "other").close()
    url = f"sqlite:///{tmp_path / 'other' / 'catalogue.sqlite'}"
    for call in (verify_library, repair_library):
        with pytest.raises(StorageError, match="not the one"):
            call(directory, catalogue_url=url)
    assert len(stored_files(directory)) == 5


# Files


@pytest.mark.parametrize("damaged", [False, True])
def test_lost_files_are_found_and_their_clips_kept(
    directory: Path, clips: list[str], damaged: bool
) -> None:
    lost = [*files_of(directory, clips[0]), files_of(directory, clips[2])[1]]
    for path in lost:
        path.write_bytes(b"rotten") if damaged else path.unlink()
    state = "damaged" if damaged else "missing"
    expected = [
        (f"media_{state}", clips[0]),
        (f"thumbnail_{state}", clips[0]),
        (f"media_{state}", clips[1]),
        (f"thumbnail_{state}", clips[2]),
    ]
    assert sorted(kinds(verify_library(directory))) == sorted(expected)
    assert sorted(kinds(repair_library(directory))) == sorted(expected)
    with open_library(directory) as library:
        assert library.list_clips().total == 3


def test_missing_files_are_forgotten_when_told_to(directory: Path, clips: list[str]) -> None:
    media, _ = files_of(directory, clips[0])
    media.unlink()
    files_of(directory, clips[2])[1].unlink()
    repaired = repair_library(directory, forget_missing=True)
    assert {finding.kind for finding in repaired.mended} == {"media_missing", "thumbnail_missing"}
    assert repaired.left == ()
    assert verify_library(directory).findings == ()
    with open_library(directory) as library:
        (left,) = library.list_clips().items
        assert (left.clip_id, left.has_thumbnail) == (clips[2], False)
        assert library.status().vectors["both"] == 1


def test_all_files_missing_are_taken_for_files_elsewhere(directory: Path, clips: list[str]) -> None:
    for path in directory.glob("media/??/*"):
        path.unlink()
    with pytest.raises(StorageError, match="all 3 clips are missing"):
        repair_library(directory, forget_missing=True)
    with pytest.raises(StorageError, match="out of reach for a while only"):
        repair_library(directory, forget_missing=True, media_url="memory://nowhere")
    with open_library(directory) as library:
        assert library.list_clips().total == 3


def test_a_damaged_file_is_not_forgotten(directory: Path, clips: list[str]) -> None:
    files_of(directory, clips[2])[0].write_bytes(b"rotten")
    repaired = repair_library(directory, forget_missing=True)
    assert kinds(repaired) == [("media_damaged", clips[2])]
    with open_library(directory) as library:
        assert library.list_clips().total == 3


def test_stray_files_are_found_and_deleted(directory: Path, clips: list[str]) -> None:
    files = stored_files(directory)
    stray = directory / "media" / "ab" / ("ab" * 32)
    stray.parent.mkdir(exist_ok=True)
    for path in (stray, directory / "thumbnails" / "incoming" / "half"):
        path.write_bytes(b"stray")
    (directory / "holds" / "dead").mkdir(parents=True)
    mine = directory / "media" / "notes.txt"
    mine.write_bytes(b"mine")
    assert sorted(kinds(verify_library(directory))) == [
        ("stray_file", "holds/dead"),
        ("stray_file", f"media/ab/{'ab' * 32}"),
        ("stray_file", "thumbnails/incoming/half"),
    ]
    assert len(repair_library(directory).mended) == 3
    assert verify_library(directory).findings == ()
    assert stored_files(directory) == files | {"media/notes.txt"}


# Rows


@pytest.mark.parametrize(
    ("blob", "said"),
    [
        (unit(1, 5).tobytes(), "has 20 bytes; 8 numbers have 32"),
        (b"abc", "has 3 bytes"),
        ((2 * unit(1)).tobytes(), "length 1; got 2"),
        (np.full(DIM, np.nan, np.float32).tobytes(), "must be finite"),
    ],
)
@pytest.mark.parametrize(
    ("place", "subject"),
    [(("segments", "audio"), "a window of clip"), (("clip_vectors", "video"), "clip")],
)
def test_a_bad_vector_is_found_and_left(
    directory: Path,
    clips: list[str],
    *,
    place: tuple[str, str],
    subject: str,
    blob: bytes,
    said: str,
) -> None:
    table, column = place
    execute(directory, f"UPDATE {table} SET {column} = ? WHERE clip_row = 2", blob)
    found = verify_library(directory)
    assert kinds(found) == [("bad_vector", f"{subject} {clips[1]}")]
    assert said in found.findings[0].detail
    assert kinds(repair_library(directory)) == kinds(found)
    assert kinds(verify_library(directory)) == kinds(found)


def test_incomplete_rows_are_found(directory: Path, clips: list[str]) -> None:
    execute(directory, "DELETE FROM segments WHERE clip_row = 1")
    execute(directory, "DELETE FROM clip_vectors WHERE clip_row = 2")
    execute(directory, "DELETE FROM class_vectors WHERE class_row = 1")
    execute(directory, "UPDATE classes SET vocabulary_id = 'lost' WHERE id = 2")
    found = [(kind, subject.split()[0]) for kind, subject in kinds(verify_library(directory))]
    assert found[:4] == [("incomplete", noun) for noun in ("clip", "clip", "class", "class")]


def test_rows_of_another_model_are_found_and_left(directory: Path, clips: list[str]) -> None:
    execute(
        directory,
        "INSERT INTO segments (clip_row, model_id, start_seconds, end_seconds, audio) "
        "VALUES (1, 'model-b', 0, 1, x'00')",
    )
    assert kinds(verify_library(directory)) == [("other_model", "segments")]
    assert kinds(repair_library(directory)) == [("other_model", "segments")]


def test_rows_that_belong_to_nothing_are_deleted(directory: Path, clips: list[str]) -> None:
    # Without foreign keys, as a foreign program may write.
    execute(directory, "DELETE FROM clips WHERE id = 3")
    found = verify_library(directory)
    assert ("orphan_rows", "segments") in kinds(found)
    assert repair_library(directory).left == ()
    assert verify_library(directory).findings == ()
    with open_library(directory) as library:
        assert {hit.clip.clip_id for hit in library.search(unit(1))} == set(clips[:2])


def test_a_damaged_database_is_said_and_nothing_is_written(
    directory: Path, clips: list[str]
) -> None:
    path = directory / "catalogue.sqlite"
    with closing(sqlite3.connect(path)) as catalogue:
        catalogue.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        (page,) = catalogue.execute(
            "SELECT rootpage FROM sqlite_master WHERE name = 'ix_clips_content_hash'"
        ).fetchone()
        (size,) = catalogue.execute("PRAGMA page_size").fetchone()
    damaged = bytearray(path.read_bytes())
    damaged[(page - 1) * size : page * size] = bytes([0xA5]) * size
    path.write_bytes(damaged)
    (directory / "media" / "incoming" / "half").write_bytes(b"half")
    found = verify_library(directory)
    assert {finding.kind for finding in found.findings} == {"database_damaged"}
    assert "the database is damaged" in found.skipped[0]
    assert repair_library(directory).left == found.findings
    assert path.read_bytes() == bytes(damaged)


# Saved vectors


def test_saved_vectors_that_are_not_the_catalogues_are_made_anew(
    directory: Path, clips: list[str]
) -> None:
    generation = ExactStore(dim=DIM, model_id=MODEL, name="audio").load(
        directory / "vectors" / "audio.vectors"
    )
    good = np.stack([unit(n) for n in range(3)])
    bad = good.copy()
    bad[1] = unit(77)
    for ids, vectors, said in (
        ([1, 2, 3], bad, "vector of the id 2 is another"),
        ([1, 2], good[:2], "hold no id 3"),
        ([1, 2, 3, 4], np.vstack([good, unit(5)[None]]), "they are 4, the catalogue has 3"),
    ):
        store = ExactStore(dim=DIM, model_id=MODEL, name="audio")
        store.add(np.array(ids), vectors)
        store.save(directory / "vectors" / "audio.vectors", generation=generation)
        found = verify_library(directory)
        assert kinds(found) == [("saved_vectors", "audio")]
        assert said in found.findings[0].detail
        assert repair_library(directory).left == ()
        assert verify_library(directory).findings == ()


@pytest.mark.parametrize("weights", [ModalityWeights(), ModalityWeights(1, 2)])
def test_damaged_vectors_are_made_anew_by_the_same_weights_and_outdated_ones_are_no_fault(
    directory: Path, upload: Path, weights: ModalityWeights, caplog: pytest.LogCaptureFixture
) -> None:
    with open_library(directory, weights=weights) as library:
        library.add_clip(new_clip(unit(1), unit(2)), upload)
    (both,) = (directory / "vectors").glob("both-*")
    old = both.read_bytes()
    with open_library(directory, weights=weights) as library:
        library.add_clip(new_clip(unit(3), unit(4)), upload)
    both.write_bytes(old)
    (directory / "vectors" / "video.vectors").write_bytes(b"rotten")
    assert kinds(verify_library(directory)) == [("saved_vectors", "video")]
    repair_library(directory)
    assert verify_library(directory).findings == ()
    caplog.clear()
    with open_library(directory, weights=weights) as library:
        assert library.status().vectors["both"] == 2
    assert not [line for line in caplog.messages if line.startswith("Rebuilding")]


def test_no_saved_vectors_are_nothing_wrong(directory: Path, clips: list[str]) -> None:
    for path in (directory / "vectors").iterdir():
        path.unlink()
    assert verify_library(directory).findings == ()
    repair_library(directory)
    assert list((directory / "vectors").iterdir()) == []

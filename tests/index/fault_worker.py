"""What runs under `faults.c`: every operation, with every one of its writes failing in turn.

Run as `python -m tests.index.fault_worker FOLDER ERRNO LASTING STRIDE OPERATION...`: a fault is the
error, at one write or lasting from there on; with a stride beyond 1, only some writes take turns.
"""

import ctypes
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from index.backup import export_library, import_library
from index.errors import LibraryError, StorageError
from index.library import Library
from index.repair import repair_library
from index.verification import verify_library
from tests.index.builders import media_file, media_path, new_class, new_clip, open_library, unit

FAULTS = ctypes.CDLL(None)
LIMIT = 1000
"""No operation makes so many writes; a count that never ends should not go on for ever."""


@dataclass(frozen=True)
class Faults:
    """Which writes fail, and how."""

    error: int
    lasting: int
    stride: int

    def turns(self) -> range:
        """Return the numbers of the writes that take turns."""
        return range(1, LIMIT, self.stride)

    def arm(self, nth: int) -> None:
        """Let the nth write from now on fail."""
        FAULTS.faults_arm(nth, self.error, self.lasting)


def fill(directory: Path) -> None:
    """Make the library that each operation begins with."""
    upload = directory.parent
    with open_library(directory) as library:
        library.seed_classes("v", [new_class("dog", seen=True)])
        library.add_class(new_class("cat"))
        for number in range(3):
            clip = new_clip(unit(number), unit(number + 9), thumbnail=b"t%d" % number, tags=("a",))
            library.add_clip(clip, media_file(upload, b"media %d" % (number // 2)))


def last_class(library: Library) -> str:
    return library.list_classes().items[-1].class_id


def clip(library: Library, place: int) -> str:
    return library.list_clips().items[place].clip_id


def add_clip(library: Library, upload: Path) -> None:
    library.add_clip(new_clip(unit(50), unit(51), thumbnail=b"t50"), upload)


WRITES: dict[str, Callable[[Library, Path], object]] = {
    "add_clip": lambda library, uploads: add_clip(library, uploads / "new"),
    "add_clip_of_a_known_file": lambda library, uploads: add_clip(library, uploads / "known"),
    "remove_clip": lambda library, _: library.remove_clip(clip(library, 0)),
    "remove_clip_of_a_shared_file": lambda library, _: library.remove_clip(clip(library, 1)),
    "update_clip": lambda library, _: library.update_clip(clip(library, 0), tags=["b", "c"]),
    "add_class": lambda library, _: library.add_class(new_class("cow")),
    "update_class": lambda library, _: library.update_class(
        last_class(library), name="lynx", vector=unit(60)
    ),
    "remove_class": lambda library, _: library.remove_class(last_class(library)),
    "close": lambda library, _: library.close(),
}


def state(library: Library) -> Any:
    """Return what a library answers, but for ids and times that it makes up."""
    clips = library.list_clips().items
    names = {stored.clip_id: media_path(library, stored.clip_id).read_bytes() for stored in clips}
    return (
        [
            (names[stored.clip_id], stored.tags, library.thumbnail(stored.clip_id))
            for stored in clips
        ],
        [(row.name, row.seen) for row in library.list_classes().items],
        [
            (names[hit.clip.clip_id], round(hit.score, 5))
            for modality in ("both", "audio", "video")
            for hit in library.search(unit(7), modality=modality, top_k=9)  # type: ignore[arg-type]
        ],
        library.label_similarities(unit(7)[None]).similarity.round(5).tolist(),
    )


def reopened_state(directory: Path) -> Any:
    """Return what a library answers after a restart, which must find it sound."""
    with open_library(directory) as library:
        answer = state(library)
    findings = verify_library(directory).findings
    assert not findings, findings
    return answer


def try_write(template: Path, folder: Path, name: str, faults: Faults) -> int:
    """Let each write of an operation fail; return how many there are."""
    write = WRITES[name]
    shutil.copytree(template, folder / "sound" / "library")
    with open_library(folder / "sound" / "library") as library:
        before = state(library)
        write(library, template.parent)
        after = before if name == "close" else state(library)
    for nth in faults.turns():
        directory = folder / str(nth) / "library"
        shutil.copytree(template, directory)
        library = open_library(directory)
        faults.arm(nth)
        refused = False
        try:
            write(library, template.parent)
        except StorageError:
            refused = True
        reached = FAULTS.faults_disarm() >= nth
        if name != "close":
            # What was refused did not happen, and what was not did.
            assert state(library) == (before if refused else after), (name, nth)
            library.close()
        # A commit whose last sync was refused may be on disk all the same.
        expected = [before, after] if refused else [after]
        assert reopened_state(directory) in expected, (name, nth)
        shutil.rmtree(directory.parent)
        if not reached:
            assert not refused
            return nth - 1
    raise AssertionError(f"{name} never came to its end")


def try_whole(template: Path, folder: Path, faults: Faults, call: Callable[[Path], object]) -> int:
    """Let each write of something done to a closed library fail; return how many there are."""
    before = reopened_state(shutil.copytree(template, folder / "sound"))
    for nth in faults.turns():
        directory = folder / str(nth) / "library"
        shutil.copytree(template, directory)
        faults.arm(nth)
        refused = False
        try:
            call(directory)
        except LibraryError:
            refused = True
        reached = FAULTS.faults_disarm() >= nth
        assert reopened_state(directory) == before, nth
        shutil.rmtree(directory.parent)
        if not reached:
            assert not refused
            return nth - 1
    raise AssertionError("it never came to its end")


def try_open(template: Path, folder: Path, faults: Faults) -> int:
    def call(directory: Path) -> None:
        for path in (directory / "vectors").iterdir():
            path.unlink()
        open_library(directory).close()

    return try_whole(template, folder, faults, call)


def try_repair(template: Path, folder: Path, faults: Faults) -> int:
    def call(directory: Path) -> None:
        repair_library(directory)

    damaged = shutil.copytree(template, folder / "damaged" / "library")
    (damaged / "vectors" / "audio.vectors").write_bytes(b"rotten")
    (damaged / "media" / "incoming" / "half").write_bytes(b"half")
    return try_whole(damaged, folder, faults, call)


def try_export(template: Path, folder: Path, faults: Faults) -> int:
    archives: list[Path] = []

    def call(directory: Path) -> None:
        archives.append(folder / f"{directory.parent.name}.tar")
        export_library(directory, archives[-1])

    writes = try_whole(template, folder, faults, call)
    for archive in archives:
        # Whole or not there; the last one met no fault.
        if archive.exists() or archive is archives[-1]:
            import_library(archive, folder / "copies" / archive.stem)
    return writes


def try_import(template: Path, folder: Path, faults: Faults) -> int:
    archive = folder / "library.tar"
    export_library(template, archive)
    with open_library(folder / "sound") as library:
        nothing = state(library)
    everything = reopened_state(shutil.copytree(template, folder / "whole"))
    for nth in faults.turns():
        target = folder / str(nth)
        faults.arm(nth)
        refused = False
        try:
            import_library(archive, target)
        except LibraryError:
            refused = True
        reached = FAULTS.faults_disarm() >= nth
        expected = [nothing, everything] if refused else [everything]
        assert reopened_state(target) in expected, nth
        shutil.rmtree(target)
        if not reached:
            assert not refused
            return nth - 1
    raise AssertionError("the import never came to its end")


WHOLE = {"open": try_open, "repair": try_repair, "export": try_export, "import": try_import}


def main(folder: Path, faults: Faults, operations: list[str]) -> None:
    template = folder / "template" / "library"
    template.parent.mkdir(parents=True)
    fill(template)
    (template.parent / "new").write_bytes(b"new media" * 1000)
    (template.parent / "known").write_bytes(b"media 0")

    for name in operations:
        place = folder / name
        place.mkdir()
        if name in WHOLE:
            writes = WHOLE[name](template, place, faults)
        else:
            writes = try_write(template, place, name, faults)
        print(name, writes, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Faults(*map(int, sys.argv[2:5])), sys.argv[5:])

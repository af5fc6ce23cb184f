"""What the process does that the crash test kills: add and remove, and say so line by line."""

import random
from collections.abc import Callable
from pathlib import Path

from index.library import Library
from tests.index.builders import new_class, new_clip, open_library, unit


def work(directory: Path, journal: Path, seed: int) -> None:
    """Write to a library until killed.

    Each line of the journal is a promise kept ("added clip ID SEED") or an intent ("removing clip
    ID"), written unbuffered, so that the last line is the last thing that happened.
    """
    choose = random.Random(seed)
    upload = directory.parent / f"upload-{seed}"
    with open_library(directory) as library, journal.open("ab", buffering=0) as lines:
        while True:
            number = choose.randrange(10**9)
            if choose.random() < 0.35:
                remove_one(library, lines, choose)
            elif choose.random() < 0.5:
                added = library.add_class(new_class(f"class {number}", unit(number)))
                lines.write(f"added class {added.class_id} {number}\n".encode())
            else:
                upload.write_bytes(b"shared" if number % 3 == 0 else str(number).encode())
                clip = new_clip(unit(number), unit(number + 1), thumbnail=b"t%d" % number)
                added_clip = library.add_clip(clip, upload)
                lines.write(f"added clip {added_clip.clip_id} {number}\n".encode())


def announced(started: Path, function: Callable[..., object], *arguments: object) -> None:
    """Make a file, so that the killer knows that it began, and call a function."""
    started.touch()
    function(*arguments)


def remove_one(library: Library, lines, choose: random.Random) -> None:  # type: ignore[no-untyped-def]
    clips, classes = library.list_clips(limit=100).items, library.list_classes().items
    if clips and choose.random() < 0.5:
        clip_id = choose.choice(clips).clip_id
        lines.write(f"removing clip {clip_id}\n".encode())
        library.remove_clip(clip_id)
        lines.write(f"removed clip {clip_id}\n".encode())
    elif classes:
        class_id = choose.choice(classes).class_id
        lines.write(f"removing class {class_id}\n".encode())
        library.remove_class(class_id)
        lines.write(f"removed class {class_id}\n".encode())

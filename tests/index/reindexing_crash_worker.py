"""What the process does that the crash test kills: change the model again and again, and write."""

import random
import sqlite3
import threading
import time
from pathlib import Path
from typing import BinaryIO

from index.errors import ModelMismatch
from index.library import Library
from index.types import NewClass
from tests.index.builders import media_file
from tests.index.models import HashedModel

MODELS = {
    model.model_id: model
    for model in (HashedModel("model-a", 8, ["dog", "cat"]), HashedModel("model-b", 5, ["owl"]))
}
MOST_CLIPS = 10


def model_in_use(directory: Path) -> HashedModel:
    """Return the model that a directory's library is of; the first where there is none."""
    if not (directory / "catalogue.sqlite").exists():
        return MODELS["model-a"]
    connection = sqlite3.connect(directory / "catalogue.sqlite")
    try:
        row = connection.execute("SELECT value FROM meta WHERE key = 'model_id'").fetchone()
    finally:
        connection.close()
    return MODELS[row[0]]


def open_in_use(directory: Path) -> Library:
    model = model_in_use(directory)
    return Library.open(directory, model_id=model.model_id, dim=model.dim)


def work(directory: Path, journal: Path, seed: int) -> None:
    """Write to a library whose model changes meanwhile, until killed.

    A line of the journal is a promise kept ("added clip ID NUMBER", "swapped MODEL") or an intent
    ("removing clip ID"), written unbuffered.
    """
    choose = random.Random(seed)
    folder = directory.parent / f"uploads-{seed}"
    folder.mkdir()
    with open_in_use(directory) as library, journal.open("ab", buffering=0) as lines:
        threading.Thread(target=change_models, args=(library, lines), daemon=True).start()
        while True:
            # Python's locks are not fair: a writer that never rests keeps the other thread waiting.
            time.sleep(0.02)
            model = MODELS[library.status().model_id]
            try:
                write(library, model, lines, choose, folder)
            except ModelMismatch:
                # Changed between the two lines.
                continue


def change_models(library: Library, lines: BinaryIO) -> None:
    while True:
        (other,) = [m for m in MODELS.values() if m.model_id != library.status().model_id]
        assert library.reindexing(other).run(accept_failures=True).finished
        lines.write(f"swapped {other.model_id}\n".encode())


def write(
    library: Library, model: HashedModel, lines: BinaryIO, choose: random.Random, folder: Path
) -> None:
    number = choose.randrange(10**9)
    clips = library.list_clips(limit=100).items
    if len(clips) >= MOST_CLIPS:
        clip_id = choose.choice(clips).clip_id
        lines.write(f"removing clip {clip_id}\n".encode())
        library.remove_clip(clip_id)
        lines.write(f"removed clip {clip_id}\n".encode())
    elif choose.random() < 0.3:
        name = f"class {number}"
        new = NewClass(name, model.class_vector(name))
        added = library.add_class(new, model_id=model.model_id)
        lines.write(f"added class {added.class_id} {number}\n".encode())
    else:
        media = b"%d" % number
        clip = library.add_clip(
            model.new_clip(media), media_file(folder, media), model_id=model.model_id
        )
        lines.write(f"added clip {clip.clip_id} {number}\n".encode())

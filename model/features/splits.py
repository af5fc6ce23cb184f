"""Which stage of the protocol a clip is in: by a file that says so, or by chance with a seed."""

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from model.errors import FeatureSetError
from model.features.feature_set import STAGES

_FILE_COLUMNS = ("file", "filename")
_CLASS_COLUMNS = ("class", "label")

SPLIT_FILE = "split.json"
"""In a checkpoint's folder: the stage of each clip that it was trained on or measured by."""

UNSEEN_SHARE = 0.25
"""Share of the classes unseen in validation, and again in the test, as in VGGSound-GZSL."""

HELD_OUT_SHARE = 0.2
"""Share of a seen class's clips that are held back, first for the test, then for validation. The
benchmark's tenth leaves too few of a small folder to measure anything."""

_LEAST_CLASSES = 4
_LEAST_CLIPS = 3  # of a class that is trained on, validated and tested
_LEAST_CLIPS_UNSEEN = 2  # of a class that is unseen in validation and a seen one in the test


def read_split(path: Path) -> dict[str, str]:
    """Read a split: name of a class or of a file ("dog/1.ogg") -> stage.

    A .json file is one such object. A .csv file has a column `stage` and a column `class` or
    `file`, or both: then an empty `file` speaks of the whole class.

    Raises:
        FeatureSetError: the file is not that, is empty, names an unknown stage, or puts one name in
            two stages.
    """
    entries = _read_json(path) if path.suffix == ".json" else _read_csv(path)
    if not entries:
        raise FeatureSetError(f"{path} puts nothing in a stage")
    split: dict[str, str] = {}
    for name, stage in entries:
        if stage not in STAGES:
            raise FeatureSetError(
                f"{path} puts {name!r} in the unknown stage {stage!r}; stages are "
                f"{', '.join(STAGES)}"
            )
        if split.setdefault(name, stage) != stage:
            raise FeatureSetError(f"{path} puts {name!r} in {split[name]} and in {stage}")
    return split


def stages_by_split(
    split: Mapping[str, str], files: Sequence[str], classes: Sequence[str]
) -> list[str | None]:
    """Stage of each file, given with its class; an entry for the file beats one for its class.

    A file of which the split says nothing has None.

    Raises:
        FeatureSetError: an entry is neither a class nor a file that is there.
    """
    unknown = sorted(set(split) - set(files) - set(classes))
    if unknown:
        raise FeatureSetError(
            f"the split names {unknown[0]!r}, which is neither a class nor a file; classes are "
            f"{', '.join(sorted(set(classes)))}; a file is named with its folder, as {files[0]!r}"
        )
    return [split.get(file, split.get(c)) for file, c in zip(files, classes, strict=True)]


def stages_by_chance(classes: Sequence[str], seed: int) -> list[str]:
    """Stage of each clip, given its class; the same for the same clips in order and seed.

    A quarter of the classes is unseen in validation and another in the test. Of the classes that
    are trained on, in either stage of the training, a fifth of the clips is kept for the test, and
    in stage 1 a fifth of the others for validation.

    Raises:
        FeatureSetError: there are too few classes, or clips of a class.
    """
    rng = np.random.default_rng(seed)
    names = sorted(set(classes))
    if len(names) < _LEAST_CLASSES:
        raise FeatureSetError(
            f"there are clips of {len(names)} classes; a split into seen and unseen classes needs "
            f"{_LEAST_CLASSES}: two to train on, one to validate and one to test"
        )
    of_class = {name: [i for i, c in enumerate(classes) if c == name] for name in names}
    shuffled = [names[i] for i in rng.permutation(len(names))]
    # Classes with few clips go where the fewest are needed; among the others chance decides.
    shuffled.sort(key=lambda name: min(len(of_class[name]), _LEAST_CLIPS), reverse=True)
    unseen = max(1, round(UNSEEN_SHARE * len(names)))
    seen = len(names) - 2 * unseen
    stages = [""] * len(classes)
    for place, name in enumerate(shuffled):
        rows = [of_class[name][i] for i in rng.permutation(len(of_class[name]))]
        if place < seen:
            _require_clips(name, rows, _LEAST_CLIPS)
            held_out = _held_out(len(rows))
            validation = _held_out(len(rows) - held_out)
            parts = {
                "stage_2_test_seen": rows[:held_out],
                "stage_1_val_seen": rows[held_out : held_out + validation],
                "stage_1_train": rows[held_out + validation :],
            }
        elif place < seen + unseen:
            _require_clips(name, rows, _LEAST_CLIPS_UNSEEN)
            held_out = _held_out(len(rows))
            parts = {"stage_2_test_seen": rows[:held_out], "stage_1_val_unseen": rows[held_out:]}
        else:
            parts = {"stage_2_test_unseen": rows}
        for stage, of_stage in parts.items():
            for row in of_stage:
                stages[row] = stage
    return stages


def _held_out(count: int) -> int:
    return max(1, round(HELD_OUT_SHARE * count))


def _require_clips(name: str, rows: Sequence[int], least: int) -> None:
    if len(rows) < least:
        raise FeatureSetError(
            f"the class {name!r} has {len(rows)} clips that can be read; a split by chance needs "
            f"{least}: add clips, or write a split.csv with columns class and stage"
        )


def _read_json(path: Path) -> list[tuple[str, Any]]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise FeatureSetError(f"{path} is not readable JSON: {error}") from error
    if not isinstance(content, dict):
        raise FeatureSetError(
            f"{path} holds {type(content).__name__}; an object class or file -> stage was expected"
        )
    return list(content.items())


def _read_csv(path: Path) -> list[tuple[str, str]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, csv.Error, UnicodeDecodeError) as error:
        raise FeatureSetError(f"{path} is not a readable table: {error}") from error
    header = list(rows[0]) if rows else []
    named = [c for c in (*_FILE_COLUMNS, *_CLASS_COLUMNS) if c in header]
    if rows and ("stage" not in header or not named):
        raise FeatureSetError(
            f"{path} has columns {', '.join(map(str, header))}; `stage` and `class` or `file` are "
            "needed"
        )
    return [
        (next((row[c].strip() for c in named if row[c]), ""), (row["stage"] or "").strip())
        for row in rows
    ]

"""Reading the layout of the AVCA-GZSL benchmark: one folder a dataset (UCF, VGGSound, ActivityNet).

class-split/all_class.txt                       every class of the benchmark, a line each
class-split/*_w2v_class_names.csv               original name, name that the label vectors go by
class-split/<split>/stage_*.txt                 classes of a stage; stage_*.csv lists its samples
features/<name>/<modality>/<stage>/<Class>.h5   `data` (n, D) and `video_urls` (n,)
features/<name>/text/word_embeddings_*.npy      label vectors: `model.features.word_vectors`

Source: ExplainableML/AVCA-GZSL, README and src/dataset.py. As in its loaders, stage 2 is trained on
the rows of stage 1, which files of `stage_2_train` repeat, and the .txt of a stage decides over its
.csv, which for three unseen splits names classes that have no usable sound.
"""

import csv
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model.embedding import ClassText
from model.errors import FeatureSetError
from model.features.feature_set import STAGES, TRAINING_STAGES, FeatureSet, class_key
from model.features.hdf5 import SampleFile, read_sample_file, read_sample_ids
from model.features.word_vectors import Alignment, align, loose_key, read_word_vectors

log = logging.getLogger(__name__)

STAGE_2_TRAIN = "stage_2_train"

# Headers of the three datasets' .csv files and of the description in the README.
_LABEL_COLUMNS = ("label", "class_name", "class")


@dataclass(frozen=True)
class _Naming:
    """One class: its original name, the name of its label vector, and further words."""

    original: str
    words: str
    synonyms: tuple[str, ...] = ()
    description: str = ""


@dataclass(frozen=True)
class _ClassRows:
    """Rows of one class in one stage, the same samples in both modalities."""

    stage: str
    original: str
    audio: SampleFile
    video: SampleFile


def is_avca_dataset(folder: Path) -> bool:
    """Whether a folder has the benchmark's layout."""
    return (folder / "class-split").is_dir() and (folder / "features").is_dir()


def read_avca(
    folder: Path,
    *,
    alignment: Alignment = "by-name",
    features_name: str | None = None,
    split: str | None = None,
) -> FeatureSet:
    """Read a dataset of the benchmark.

    Classes go by the name of their label vector ("Apply Eye Makeup" for ApplyEyeMakeup); an
    original name of other words is a synonym. A stage without a folder of features is left out; in
    one with it every class of the split must have samples, and other classes' are not read.

    Args:
        folder: the dataset's folder.
        alignment: which label vector a class gets; see `model.features.word_vectors.align`.
        features_name: folder in `features`; where there are several, `cls_features` by default.
        split: folder in `class-split`; where there are several, the one named as the features are.

    Raises:
        FeatureSetError: a file is missing or corrupt, a class of the split is unknown or has no
            samples, the modalities' rows do not agree, or a class has no label vector.
    """
    features_folder = _choose(folder / "features", features_name, "features_name", "cls_features")
    of_features = features_folder.name.removesuffix("_features") + "_split"
    split_folder = _choose(folder / "class-split", split, "split", of_features)
    namings = _read_namings(folder / "class-split", split_folder)
    parts = [
        part
        for stage in _stages_with_features(features_folder, split_folder)
        for part in _read_stage(features_folder, split_folder, stage, namings)
    ]
    _require_one_width(features_folder, parts)
    _compare_stage_2(features_folder, parts)
    used = [namings[key] for key in sorted({class_key(part.original) for part in parts})]
    index = {naming.original: i for i, naming in enumerate(used)}
    sizes = [len(part.audio.ids) for part in parts]
    return FeatureSet(
        name=f"{folder.resolve().name}/{features_folder.name}"
        + (f" ({alignment})" if alignment != "by-name" else ""),
        audio=np.concatenate([part.audio.data for part in parts]),
        video=np.concatenate([part.video.data for part in parts]),
        has_audio=np.concatenate([part.audio.present for part in parts]),
        has_video=np.concatenate([part.video.present for part in parts]),
        labels=np.repeat(np.array([index[p.original] for p in parts], np.int64), sizes),
        stages=np.repeat(np.array([p.stage for p in parts], np.str_), sizes),
        ids=tuple(i for part in parts for i in part.audio.ids),
        classes=tuple(ClassText(n.words, n.synonyms, n.description) for n in used),
        text_vectors=_read_text_vectors(features_folder / "text", namings, used, alignment),
        backbones=None,
    )


def _choose(parent: Path, wanted: str | None, parameter: str, preferred: str) -> Path:
    found = sorted(path.name for path in parent.iterdir() if path.is_dir())
    if wanted is not None:
        choice = wanted if wanted in found else None
    elif len(found) == 1:
        choice = found[0]
    else:
        choice = preferred if preferred in found else None
    if choice is None:
        raise FeatureSetError(
            f"{parent} has no folder {wanted or preferred!r}; {parameter} may be "
            f"{', '.join(found) or 'nothing: it is empty'}"
        )
    return parent / choice


# --- names of classes -----------------------------------------------------------------------------


def _read_namings(class_split: Path, split_folder: Path) -> dict[str, _Naming]:
    """Every class of the benchmark by its key; `all_class.txt` decides which there are."""
    table = _read_naming_table(class_split)
    all_classes = class_split / "all_class.txt"
    if all_classes.is_file():
        names = _read_lines(all_classes)
    else:
        listed = [c for s in STAGES for c in _read_stage_classes(split_folder, s) or []]
        names = [*(naming.original for naming in table.values()), *listed]
    namings: dict[str, _Naming] = {}
    for name in names:
        naming = table.get(class_key(name), _Naming(name, name))
        namings.setdefault(
            class_key(name), _Naming(name, naming.words, naming.synonyms, naming.description)
        )
    return namings


def _read_naming_table(class_split: Path) -> dict[str, _Naming]:
    paths = sorted(class_split.glob("*_w2v_class_names.csv"))
    if len(paths) > 1:
        raise FeatureSetError(
            f"{class_split} has {len(paths)} files of names; keep {paths[0].name}"
        )
    table = {}
    for row in _read_csv(paths[0], ("original",), ("manual",)) if paths else []:
        original, words = row["original"].strip(), row["manual"].strip()
        if row.get("synonyms") is not None:
            synonyms = tuple(filter(None, row["synonyms"].split("\n")))
        elif loose_key(original) != loose_key(words):
            # UCF's `CleanAndJerk` has the vector of "Weight Lifting": both say what it is.
            synonyms = (re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", original),)
        else:
            synonyms = ()
        table[class_key(original)] = _Naming(
            original, words, synonyms, row.get("description") or ""
        )
    return table


def _read_stage_classes(split_folder: Path, stage: str) -> list[str] | None:
    """Classes of a stage, by its .txt or else its .csv; None where there is neither."""
    text, table = split_folder / f"{stage}.txt", split_folder / f"{stage}.csv"
    if text.is_file():
        return _read_lines(text)
    if not table.is_file():
        return None
    rows = _read_csv(table, _LABEL_COLUMNS)
    return [next(row[c] for c in _LABEL_COLUMNS if c in row).strip() for row in rows]


def _read_csv(path: Path, *needed: Sequence[str]) -> list[dict[str, str]]:
    """Rows by header; of each of `needed`, one column must be there and filled."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        try:
            reader = csv.DictReader(file)
            header = [column.strip() for column in reader.fieldnames or []]
            reader.fieldnames = header
            rows = list(reader)
        except (csv.Error, UnicodeDecodeError) as error:
            raise FeatureSetError(f"{path} is not a readable table: {error}") from error
    for columns in needed:
        column = next((c for c in columns if c in header), None)
        if column is None:
            raise FeatureSetError(
                f"{path} has columns {', '.join(header) or 'none'}; {' or '.join(columns)} is "
                "needed"
            )
        for line, row in enumerate(rows, start=2):
            if not row[column]:
                raise FeatureSetError(f"{path}, row {line}: the column {column} is empty")
    return rows


def _read_lines(path: Path) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise FeatureSetError(f"{path} is not text in UTF-8: {error}") from error
    return [line.strip() for line in lines if line.strip()]


# --- features -------------------------------------------------------------------------------------


def _stages_with_features(features_folder: Path, split_folder: Path) -> list[str]:
    stages = [
        stage
        for stage in STAGES
        if any((features_folder / modality / stage).is_dir() for modality in ("audio", "video"))
    ]
    if not stages:
        raise FeatureSetError(
            f"{features_folder} has no folder audio/<stage>; stages are {', '.join(STAGES)}"
        )
    for stage in stages:
        if not _read_stage_classes(split_folder, stage):
            raise FeatureSetError(
                f"{features_folder} has features of {stage}, but {split_folder} lists no class of "
                f"it; {stage}.txt is needed, with a class a line"
            )
    return stages


def _read_stage(
    features_folder: Path, split_folder: Path, stage: str, namings: Mapping[str, _Naming]
) -> Iterator[_ClassRows]:
    files = {
        modality: {
            class_key(path.stem): path for path in (features_folder / modality / stage).glob("*.h5")
        }
        for modality in ("audio", "video")
    }
    names = {class_key(name): name for name in _read_stage_classes(split_folder, stage) or []}
    for key in sorted(names):
        if key not in namings:
            raise FeatureSetError(
                f"{split_folder} names the class {names[key]!r} for {stage}, which all_class.txt "
                "lacks"
            )
        original = namings[key].original
        missing = [modality for modality in files if key not in files[modality]]
        if missing:
            raise FeatureSetError(
                f"the class {original!r} of {stage} has no samples: there is no "
                f"{features_folder / missing[0] / stage}/{original}.h5; add it, or take the class "
                f"out of {split_folder.name}/{stage}.txt"
            )
        yield _join(stage, original, files["audio"][key], files["video"][key])


def _join(stage: str, original: str, audio_path: Path, video_path: Path) -> _ClassRows:
    """Read one class of a stage; video rows are put in the order of the audio rows."""
    audio, video = read_sample_file(audio_path), read_sample_file(video_path)
    if not audio.ids and not video.ids:
        raise FeatureSetError(f"the class {original!r} of {stage} has no samples: see {audio_path}")
    if audio.ids == video.ids:
        return _ClassRows(stage, original, audio, video)
    position = {url: i for i, url in enumerate(video.ids)}
    if len(position) == len(video.ids) and sorted(audio.ids) == sorted(video.ids):
        order = np.array([position[url] for url in audio.ids], np.intp)
        return _ClassRows(stage, original, audio, video.take(order))
    raise FeatureSetError(
        f"the class {original!r} of {stage} has {len(audio.ids)} samples of audio and "
        f"{len(video.ids)} of video that do not agree; the first that differs is "
        f"{_first_difference(audio.ids, video.ids)}; both modalities must have the same video_urls"
    )


def _first_difference(audio: Sequence[str], video: Sequence[str]) -> str:
    for url in audio:
        if url not in video:
            return f"{url!r}, which has no video"
    for url in video:
        if url not in audio:
            return f"{url!r}, which has no audio"
    repeated = next(url for url in audio if audio.count(url) != video.count(url))
    return (
        f"{repeated!r}, {audio.count(repeated)} times in audio and {video.count(repeated)} in video"
    )


def _require_one_width(features_folder: Path, parts: Sequence[_ClassRows]) -> None:
    first = parts[0]
    for part in parts:
        for modality in ("audio", "video"):
            width = getattr(part, modality).data.shape[1]
            expected = getattr(first, modality).data.shape[1]
            if width != expected:
                raise FeatureSetError(
                    f"{features_folder / modality / part.stage}/{part.original}.h5 has features of "
                    f"{width} numbers, {first.stage}/{first.original}.h5 of {expected}"
                )


def _compare_stage_2(features_folder: Path, parts: Sequence[_ClassRows]) -> None:
    """Warn where the layout's own files of stage 2 training are not the rows of stage 1."""
    files = sorted((features_folder / "audio" / STAGE_2_TRAIN).glob("*.h5"))
    own = {url for path in files for url in read_sample_ids(path)}
    rows = {url for part in parts if part.stage in TRAINING_STAGES for url in part.audio.ids}
    if own and own != rows:
        log.warning(
            "%s has %d samples in %s that stage 1 has not, and lacks %d that it has; as in the "
            "published loaders, stage 2 is trained on the rows of stage 1",
            features_folder,
            len(own - rows),
            STAGE_2_TRAIN,
            len(rows - own),
        )


def _read_text_vectors(
    folder: Path, namings: Mapping[str, _Naming], used: Sequence[_Naming], alignment: Alignment
) -> NDArray[np.float32] | None:
    paths = sorted(folder.glob("word_embeddings*.npy"))
    if not paths and alignment == "by-name":
        return None
    if len(paths) != 1:
        raise FeatureSetError(
            f"{folder} has {len(paths)} files word_embeddings*.npy; one is needed"
        )
    vectors = read_word_vectors(paths[0])
    # A class without samples needs no vector, but counts in the published order.
    wanted = list(used if alignment == "by-name" else namings.values())
    aligned = align(vectors, [(n.original, n.words) for n in wanted], alignment)
    by_original = {n.original: vector for n, vector in zip(wanted, aligned, strict=True)}
    return np.stack([by_original[n.original] for n in used])

"""Writing a feature set in the layout of the AVCA-GZSL benchmark (`model.features.avca`)."""

import csv
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from model.errors import FeatureSetError
from model.features.avca import STAGE_2_TRAIN
from model.features.feature_set import STAGES, TRAINING_STAGES, FeatureSet
from model.features.hdf5 import SampleFile, write_sample_file

FEATURES_NAME = "cls_features"
SPLIT_NAME = "cls_split"

# Left as they are in a file's name; all else, `/` above all, is written as %XX.
_SAFE_IN_NAMES = " !#$&'()+,;=@[]{}~"


def write_avca(features: FeatureSet, folder: Path) -> None:
    """Write a feature set as a dataset of the benchmark, which the published loaders read too.

    Beyond the layout, the table of names has columns for synonyms and descriptions, and an .h5 file
    with missing samples has a dataset `present`; those loaders look at neither, and take the zeros
    of a missing sample for features. Classes without a row and names of backbones are not kept.

    Raises:
        FeatureSetError: `folder` holds something already.
    """
    if folder.exists() and any(folder.iterdir()):
        raise FeatureSetError(f"{folder} is not empty; give a new folder for the dataset")
    originals = {
        int(label): quote(features.classes[label].name, safe=_SAFE_IN_NAMES)
        for label in features.classes_of()
    }
    class_split = folder / "class-split"
    _write_names(features, originals, class_split)
    for stage in STAGES:
        _write_split(features, originals, features.rows(stage), class_split / SPLIT_NAME / stage)
        _write_samples(features, originals, stage, folder / "features" / FEATURES_NAME)
    training = features.rows(*TRAINING_STAGES)
    _write_split(features, originals, training, class_split / SPLIT_NAME / STAGE_2_TRAIN)
    _write_text_vectors(features, originals, folder)


def _write_names(features: FeatureSet, originals: Mapping[int, str], class_split: Path) -> None:
    class_split.mkdir(parents=True)
    _write_lines(class_split / "all_class.txt", sorted(originals.values()))
    table = class_split / f"{class_split.parent.name.lower()}_w2v_class_names.csv"
    with table.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["original", "manual", "synonyms", "description"])
        for label, original in originals.items():
            c = features.classes[label]
            writer.writerow([original, c.name, "\n".join(c.synonyms), c.description])


def _write_split(
    features: FeatureSet, originals: Mapping[int, str], rows: NDArray[np.intp], stem: Path
) -> None:
    """Write the classes and the samples of a stage; nothing for one without rows."""
    if not rows.size:
        return
    stem.parent.mkdir(parents=True, exist_ok=True)
    names = sorted({originals[int(label)] for label in features.labels[rows]})
    _write_lines(stem.with_suffix(".txt"), names)
    codes = {original: code for code, original in enumerate(sorted(originals.values()))}
    with stem.with_suffix(".csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["filename", "label", "label_code"])
        for row in rows:
            original = originals[int(features.labels[row])]
            writer.writerow([features.ids[row], original, codes[original]])


def _write_samples(
    features: FeatureSet, originals: Mapping[int, str], stage: str, folder: Path
) -> None:
    of_stage = features.rows(stage)
    for label in features.classes_of(stage):
        rows = of_stage[features.labels[of_stage] == label]
        ids = [features.ids[row] for row in rows]
        name = f"{originals[int(label)]}.h5"
        audio = SampleFile(features.audio[rows], ids, features.has_audio[rows])
        write_sample_file(folder / "audio" / stage / name, audio)
        video = SampleFile(features.video[rows], ids, features.has_video[rows])
        write_sample_file(folder / "video" / stage / name, video)


def _write_text_vectors(features: FeatureSet, originals: Mapping[int, str], folder: Path) -> None:
    if features.text_vectors is None:
        return
    vectors = {features.classes[label].name: features.text_vectors[label] for label in originals}
    text = folder / "features" / FEATURES_NAME / "text"
    text.mkdir(parents=True, exist_ok=True)
    content = np.array(vectors, dtype=object)
    path = text / f"word_embeddings_{folder.name.lower()}_normed.npy"
    np.save(path, content, allow_pickle=True)


def _write_lines(path: Path, lines: list[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")

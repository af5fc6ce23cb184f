"""Command-line options that say what to read of a path, the same for every command that reads."""

import argparse
from pathlib import Path

from model.features.feature_set import FeatureSet
from model.features.reading import read_features
from model.features.word_vectors import ALIGNMENTS


def add_reading_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of a dataset in the AVCA-GZSL layout, and of a folder of clips."""
    layout = parser.add_argument_group("a PATH in the layout of AVCA-GZSL, or of clips")
    layout.add_argument("--dataset", help="which dataset, where PATH holds several")
    layout.add_argument("--features-name", help="which of the dataset's features")
    layout.add_argument(
        "--split", help="which of the dataset's splits; of clips, a split.csv or .json"
    )
    layout.add_argument(
        "--alignment",
        choices=ALIGNMENTS,
        default="by-name",
        help="of label vectors and classes; as-published repeats a defect of the public loaders",
    )


def read_chosen(
    path: Path,
    options: argparse.Namespace,
    *,
    former_split: Path | None = None,
    seed: int = 0,
    audio_backbone: str | None = None,
    video_backbone: str | None = None,
    backbone_folder: Path | None = None,
    device: str = "auto",
    cache: Path | None = None,
) -> FeatureSet:
    """Read a path by `add_reading_arguments`' options; raises as `read_features`."""
    return read_features(
        path,
        alignment=options.alignment,
        dataset=options.dataset,
        features_name=options.features_name,
        split=options.split,
        former_split=former_split,
        seed=seed,
        audio_backbone=audio_backbone,
        video_backbone=video_backbone,
        backbone_folder=backbone_folder,
        device=device,
        cache=cache,
    )

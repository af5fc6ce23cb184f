"""Evaluate a checkpoint on a feature set by the AVCA-GZSL protocol.

    python -m model.evaluate DIR --features PATH --json OUT [--plots FOLDER]

DIR is a checkpoint folder made by `python -m model.train`, or `bundled`; PATH anything that
`model.features.reading` reads, and it may hold the test stages only. The candidates are the classes
that the checkpoint was trained on, which are the seen ones, and the other classes of PATH's rows.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

from rich.console import Console

from model.backbones.registry import kind_of
from model.candidates import Phase, candidate_classes, evaluated_rows, require_fitting, stage_notes
from model.checkpoint import (
    BUNDLED,
    PRECOMPUTED,
    Checkpoint,
    CheckpointConfig,
    checkpoint_folder,
    load_checkpoint,
)
from model.embedded_samples import EmbeddedSamples, LabelEmbeddings
from model.errors import ConfigError, FeatureSetError, ModelError
from model.evaluation import Report, evaluate
from model.features import FeatureSet
from model.features.options import add_reading_arguments, read_chosen
from model.features.splits import SPLIT_FILE
from model.files import write_json
from model.projection import GIVEN_VECTORS, embed_features
from model.report import print_report, to_json
from model.stacking import betas_of, choose_betas


@dataclass(frozen=True)
class Evaluation:
    """A report, and the embeddings that it was made from."""

    report: Report
    samples: EmbeddedSamples
    labels: LabelEmbeddings


def evaluate_checkpoint(
    checkpoint: Checkpoint, features: FeatureSet, phase: Phase | None = None
) -> Evaluation:
    """Evaluate on the test stages where there are rows of them, else on the validation stages.

    Raises:
        FeatureSetError: there are no such rows, or the features do not fit the checkpoint.
    """
    rows = evaluated_rows(features, phase)
    config = checkpoint.config
    _require_same_backbones(rows, config)
    require_fitting(rows, config.network, given_text=config.text_encoder == GIVEN_VECTORS)
    samples, labels = embed_features(checkpoint, rows)
    candidates = candidate_classes(checkpoint.classes, rows)
    report = evaluate(
        samples,
        labels,
        class_names=[c.name for c in candidates.classes],
        betas=betas_of(config.calibration),
        calibration=config.calibration,
    )
    report = replace(
        report,
        model_id=checkpoint.model_id,
        feature_set=rows.name,
        stages=tuple(sorted(set(rows.stages.tolist()))),
        notes=(*report.notes, *stage_notes(rows, candidates)),
    )
    return Evaluation(report, samples, labels)


def _backbones(config: CheckpointConfig) -> tuple[str, str]:
    return config.audio_backbone, config.video_backbone


def _require_same_backbones(features: FeatureSet, config: CheckpointConfig) -> None:
    """Check that the checkpoint's own backbones made the features, as far as it is known.

    Raises:
        FeatureSetError: others did; features as wide as theirs would only give wrong figures.
    """
    if features.backbones is None or PRECOMPUTED in _backbones(config):
        return
    names = zip(("audio", "video"), features.backbones, _backbones(config), strict=True)
    for modality, made, trained in names:
        if kind_of(made) != kind_of(trained):
            raise FeatureSetError(
                f"the {modality} features of {features.name} were made by {made!r}, the checkpoint "
                f"was trained on those of {trained!r}; extract them with that, or train anew"
            )


def draw(evaluation: Evaluation, checkpoint: Checkpoint, folder: Path) -> tuple[Path, ...]:
    """Write the pictures of `model.plots` into a folder.

    Raises:
        ConfigError: the packages that draw are not installed.
    """
    try:
        from model.plots import save_plots  # noqa: PLC0415 - an extra, and seconds
    except ImportError as error:
        raise ConfigError(
            f"plots need a package that is not installed ({error}); install it with "
            "`pip install 'avgzsl[train]'`, or leave --plots out"
        ) from error
    samples, labels = evaluation.samples, evaluation.labels
    curves = choose_betas(samples, labels, checkpoint.config.calibration).curves
    return save_plots(evaluation.report, samples, labels, curves.get("both"), folder)


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse, evaluate, print, and write what was asked for; returns the exit code."""
    options = _parser().parse_args(arguments)
    console = Console()
    try:
        checkpoint = load_checkpoint(checkpoint_folder(options.checkpoint))
        config = checkpoint.config
        split = checkpoint.folder / SPLIT_FILE
        features = read_chosen(
            options.features,
            options,
            former_split=split if split.is_file() else None,
            seed=options.seed,
            audio_backbone=_backbone(config.audio_backbone),
            video_backbone=_backbone(config.video_backbone),
            backbone_folder=None if PRECOMPUTED in _backbones(config) else checkpoint.folder,
        )
        evaluation = evaluate_checkpoint(checkpoint, features, options.stage)
        print_report(evaluation.report, console)
        if options.json is not None:
            options.json.parent.mkdir(parents=True, exist_ok=True)
            write_json(options.json, to_json(evaluation.report))
        if options.plots is not None:
            for path in draw(evaluation, checkpoint, options.plots):
                console.print(f"wrote {path}", highlight=False, soft_wrap=True)
    except ModelError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _backbone(trained_on: str) -> str | None:
    """Name of the backbone for clips; None, the bundled one, where the checkpoint tells none."""
    return None if trained_on == PRECOMPUTED else trained_on


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m model.evaluate", description="Evaluate a checkpoint on a feature set."
    )
    parser.add_argument("checkpoint", metavar="DIR", help=f"checkpoint folder, or `{BUNDLED}`")
    parser.add_argument(
        "--features", type=Path, required=True, metavar="PATH", help=".npz file or folder"
    )
    parser.add_argument("--json", type=Path, metavar="OUT", help="write the report there")
    parser.add_argument("--plots", type=Path, metavar="FOLDER", help="write pictures there")
    parser.add_argument(
        "--stage",
        choices=get_args(Phase),
        help="which stages; by default the test stages where PATH has them, else validation",
    )
    parser.add_argument(
        "--seed",
        type=int,
        default=0,
        help="of the split by chance of a folder of clips that DIR was not trained on",
    )
    add_reading_arguments(parser)
    return parser


if __name__ == "__main__":
    sys.exit(main())

"""Train AVGZSLNet on a feature set by a recipe.

    python -m model.train --features PATH --recipe paper|avca|strong --seed N --out DIR

PATH is anything that `model.features.reading` reads. DIR receives the checkpoint of stage 2,
`stage-1/` with that of stage 1, `split.json` with the stage of each clip where PATH is of clips,
`results.json` and the states from which the same command goes on after a kill.
"""

import argparse
import dataclasses
import json
import logging
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from model import protocol
from model.backbones.registry import DEFAULT_TEXT_ENCODER, load_text_encoder
from model.candidates import STAGES_OF, Phase
from model.checkpoint import (
    BUNDLED,
    PRECOMPUTED,
    CheckpointConfig,
    checkpoint_folder,
    load_checkpoint,
    save_checkpoint,
)
from model.config import from_mapping
from model.device import resolve_device
from model.embedding import ClassText
from model.errors import ConfigError, ModelError
from model.evaluate import evaluate_checkpoint
from model.features import FeatureSet
from model.features.checks import check_trainable
from model.features.feature_set import TRAINING_STAGES
from model.features.options import add_reading_arguments, read_chosen
from model.features.splits import SPLIT_FILE
from model.files import write_json
from model.network import AVGZSLNet
from model.projection import GIVEN_VECTORS, label_text
from model.recipes import RECIPES, Recipe
from model.report import print_report, to_json

log = logging.getLogger(__name__)

STAGE_1_FOLDER = "stage-1"
RESULTS_FILE = "results.json"


@dataclass(frozen=True)
class Text:
    """Text vectors (C, Dt) of all classes of a set, and the name of what made them."""

    vectors: NDArray[np.float32]
    encoder: str


def text_of(features: FeatureSet, recipe: Recipe, encoder: str | None) -> Text:
    """Take the set's own label vectors, or encode its classes where it has none or one is named.

    Raises:
        BackboneError: the text encoder cannot be had.
    """
    every = range(len(features.classes))
    if encoder is None and features.text_vectors is not None:
        return Text(label_text(features, every, None, descriptions=False), GIVEN_VECTORS)
    name = encoder or DEFAULT_TEXT_ENCODER
    vectors = label_text(features, every, load_text_encoder(name), descriptions=recipe.descriptions)
    return Text(vectors, name)


def train(
    features: FeatureSet,
    recipe: Recipe,
    *,
    seed: int,
    out: Path,
    text: Text,
    device: str,
    report: protocol.Report,
) -> protocol.Choice:
    """Run both stages and write both checkpoints.

    Raises:
        FeatureSetError: the set lacks a stage that training needs.
    """
    check_trainable(features)
    _warn_of_untrained(features)
    out.mkdir(parents=True, exist_ok=True)
    run = protocol.Run(features, text.vectors, text.encoder, recipe, seed, device, out, report)
    choice = protocol.select(run)
    network, trained = protocol.retrain(run, choice.epochs)
    for folder, net, classes in (
        (out / STAGE_1_FOLDER, choice.network, choice.trained),
        (out, network, trained),
    ):
        _save(
            folder,
            run,
            net,
            trained=classes,
            choice=choice,
        )
    return choice


def _warn_of_untrained(features: FeatureSet) -> None:
    rows = features.rows(*TRAINING_STAGES)
    for modality, has in (("audio", features.has_audio), ("video", features.has_video)):
        if not has[rows].any():
            log.warning(
                "no sample has %s, so the model learns nothing of it: what it answers to it is "
                "chance; classify and search with the other modality only",
                modality,
            )


def _save(
    folder: Path,
    run: protocol.Run,
    network: AVGZSLNet,
    *,
    trained: NDArray[np.int64],
    choice: protocol.Choice,
) -> None:
    audio, video = run.features.backbones or (PRECOMPUTED, PRECOMPUTED)
    config = CheckpointConfig(
        audio_backbone=audio,
        video_backbone=video,
        text_encoder=run.encoder,
        network=network.config,
        calibration=choice.calibration,
        unit_calibration=choice.unit_calibration,
        descriptions=run.recipe.descriptions,
    )
    classes = [run.features.classes[i] for i in trained]
    if not run.recipe.descriptions:
        classes = [ClassText(c.name, c.synonyms) for c in classes]
    save_checkpoint(folder, config, network, classes, run.text[trained])
    if run.features.backbones is not None:
        # Of clips; by chance, a folder that has changed since would be split in another way.
        stages = map(str, run.features.stages)
        write_json(folder / SPLIT_FILE, dict(zip(run.features.ids, stages, strict=True)))
    # A backbone of ours lies in the checkpoint's folder, so that one folder serves clips.
    for name, prefix in ((audio, "audio"), (video, "video")):
        if name.startswith("compact-"):
            for path in checkpoint_folder(BUNDLED).glob(f"{prefix}.*"):
                shutil.copy(path, folder / path.name)


def write_results(
    features: FeatureSet, choice: protocol.Choice, recipe: Recipe, seed: int, out: Path
) -> dict[str, Any]:
    """Evaluate stage 1 on validation, and stage 2 on the test stages where there are any."""
    results: dict[str, Any] = {
        "recipe": dataclasses.asdict(recipe),
        "seed": seed,
        "epochs": choice.epochs,
        "history": {str(epoch): 100 * value for epoch, value in choice.history.items()},
    }
    console = Console()
    folders: dict[Phase, Path] = {"validation": out / STAGE_1_FOLDER, "test": out}
    for phase, folder in folders.items():
        if features.rows(*STAGES_OF[phase]).size:
            checkpoint = load_checkpoint(folder)
            evaluation = evaluate_checkpoint(checkpoint, features, phase)
            print_report(evaluation.report, console)
            results[phase] = to_json(evaluation.report)
    write_json(out / RESULTS_FILE, results)
    return results


@contextmanager
def progress_bars() -> Iterator[protocol.Report]:
    """Show a bar for each network that is trained."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[figures]}"),
    )
    with Progress(*columns, console=Console(stderr=True)) as bars:
        tasks: dict[str, Any] = {}

        def show(state: protocol.Progress) -> None:
            name = f"stage {state.stage}, network {state.member} of {state.members}"
            if name not in tasks:
                tasks[name] = bars.add_task(name, total=state.epochs, figures="")
            figures = f"loss {sum(state.losses.values()):.3f}"
            if state.harmonic_mean is not None:
                figures += f", validation HM {100 * state.harmonic_mean:.1f}"
            bars.update(tasks[name], completed=state.epoch, figures=figures)

        yield show


def changed(recipe: Recipe, changes: Sequence[str]) -> Recipe:
    """Return a recipe with `key=value` changes.

    Raises:
        ConfigError: a change is no `key=value`, or its key is unknown.
    """
    values = dataclasses.asdict(recipe)
    for change in changes:
        key, equals, value = change.partition("=")
        if not equals or key not in values:
            raise ConfigError(
                f"--set {change!r} is not NAME=VALUE with a name among {', '.join(values)}"
            )
        try:
            new = json.loads(value)
        except ValueError:
            new = value
        kind = type(values[key])
        new = float(new) if kind is float and type(new) is int else new
        if kind is tuple and isinstance(new, list):
            new = tuple(new)
        if type(new) is not kind:
            raise ConfigError(
                f"--set {change!r}: {key} must be of the kind of {values[key]!r}, its value now"
            )
        values[key] = new
    return from_mapping(Recipe, values)


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse, train, evaluate and write; returns the exit code."""
    options = _parser().parse_args(arguments)
    try:
        recipe = changed(RECIPES[options.recipe], options.set)
        device = resolve_device(options.device)
        options.out.mkdir(parents=True, exist_ok=True)
        features = read_chosen(
            options.features,
            options,
            seed=options.seed,
            audio_backbone=options.audio_backbone,
            video_backbone=options.video_backbone,
            device=device,
            cache=options.out / "features.npz",
        )
        text = text_of(features, recipe, options.text_encoder)
        with progress_bars() as report:
            choice = train(
                features,
                recipe,
                seed=options.seed,
                out=options.out,
                text=text,
                device=device,
                report=report,
            )
        write_results(features, choice, recipe, options.seed, options.out)
    except ModelError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m model.train", description="Train AVGZSLNet on a feature set."
    )
    parser.add_argument(
        "--features", type=Path, required=True, metavar="PATH", help=".npz file or folder"
    )
    parser.add_argument("--recipe", choices=tuple(RECIPES), default="strong")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="change one entry of the recipe, such as epochs=50; may be given again",
    )
    parser.add_argument(
        "--text-encoder",
        help=f"encodes class names; by default the set's own vectors, else {DEFAULT_TEXT_ENCODER}",
    )
    clips = parser.add_argument_group("a PATH with a folder of clips for each class")
    clips.add_argument("--audio-backbone", help="extracts features of sound")
    clips.add_argument("--video-backbone", help="extracts features of pictures")
    add_reading_arguments(parser)
    return parser


if __name__ == "__main__":
    sys.exit(main())

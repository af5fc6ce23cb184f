"""`python -m model.features convert IN OUT`: feature sets from one form into another."""

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from model.errors import ModelError
from model.features import STAGES, FeatureSet, write_avca, write_npz
from model.features.options import add_reading_arguments, read_chosen


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    logging.basicConfig(format="%(levelname)s: %(message)s")
    options = _parser().parse_args(arguments)
    try:
        _convert(options)
    except ModelError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def summary(features: FeatureSet) -> str:
    """Sizes of a feature set and of its stages, a line each."""
    lines = [
        f"{features.name}: {len(features)} samples, audio {features.audio.shape[1]}, "
        f"video {features.video.shape[1]} numbers"
    ]
    for stage in STAGES:
        rows, classes = features.rows(stage), features.classes_of(stage)
        lines.append(f"  {stage:<20}{rows.size:>8} samples{classes.size:>6} classes")
    return "\n".join(lines)


def _convert(options: argparse.Namespace) -> None:
    out: Path = options.out
    features = read_chosen(
        options.source,
        options,
        seed=options.seed,
        audio_backbone=options.audio_backbone,
        video_backbone=options.video_backbone,
        device=options.device,
        cache=out.with_name(f"{out.stem}.clips.npz"),
    )
    if out.suffix == ".npz":
        write_npz(features, out)
    else:
        write_avca(features, out)
    print(summary(features))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m model.features", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="convert")
    convert = commands.add_parser(
        "convert", help="read features of any kind, write them as .npz or in the AVCA-GZSL layout"
    )
    convert.add_argument(
        "source",
        type=Path,
        metavar="IN",
        help=".npz file, dataset in the AVCA-GZSL layout, or folder of clips with a sub-folder a "
        "class",
    )
    convert.add_argument(
        "out", type=Path, metavar="OUT", help="a name in .npz, or a new folder for a dataset"
    )
    add_reading_arguments(convert)
    convert.add_argument("--seed", type=int, default=0, help="of a split of clips by chance")
    convert.add_argument("--audio-backbone", help="for clips; the bundled one by default")
    convert.add_argument("--video-backbone", help="for clips; the bundled one by default")
    convert.add_argument("--device", default="auto", help="auto, cpu or cuda (default: auto)")
    return parser


if __name__ == "__main__":
    sys.exit(main())

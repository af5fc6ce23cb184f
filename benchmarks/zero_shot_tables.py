"""Tables of zero-shot classification and retrieval: methods and ablations by the same two stages.

    python benchmarks/zero_shot_tables.py --features PATH --out FOLDER [--methods ridge strong]
    python benchmarks/zero_shot_tables.py --features PATH --out FOLDER --ablations

PATH is anything that `python -m model.train` takes. Every method is trained with every seed; what
it leaves open is chosen on the validation stages, and the test stages, where PATH has some, are
answered once. Each result is a file in FOLDER, so that the same command goes on after a kill;
FOLDER/tables.md has the tables. For a file without test stages, `--own-split SEED` takes some away.
"""

import argparse
import dataclasses
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from model.baselines import CONSE, RIDGE, ConseSetting
from model.candidates import STAGES_OF, Phase
from model.cjme import RECIPE as CJME_RECIPE
from model.cjme import CJMEMethod
from model.device import resolve_device
from model.embedded_samples import EVIDENCE, Evidence
from model.errors import FeatureSetError, ModelError
from model.features import TRAINING_STAGES, FeatureSet, check_trainable
from model.features.options import add_reading_arguments, read_chosen
from model.files import read_json_object, write_json, write_whole
from model.methods import AvgzslnetMethod, Method, evaluate_stage
from model.protocol import Run
from model.recipes import RECIPES, Recipe
from model.report import to_json
from model.train import Text, changed, progress_bars, text_of

TABLES_FILE = "tables.md"
PHASES: tuple[Phase, ...] = ("validation", "test")
COLUMNS = ("S", "U", "HM", "ZSL", "mAP")
KEPT_OF_REPORT = (*EVIDENCE, "mAP", "mAP_by_queries", "chance", "betas", "counts")

OWN_UNSEEN_SHARE = 0.16
"""Share of the classes that a split of one's own holds out: about that of YT8M-GZSL's own test."""
OWN_HELD_OUT_SHARE = 0.2
"""Share of the other classes' rows, of each stage, that it takes as the test of seen classes."""

# --- what is compared ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Entry:
    """A line of the tables.

    Attributes:
        name: unique; the result's file is named by it.
        method: trained by `recipe`, of which ridge and ConSE read only `descriptions`.
        seeded: whether another seed gives another result.
    """

    name: str
    method: Method
    recipe: Recipe
    seeded: bool = True


METHODS: Mapping[str, Entry] = {
    entry.name: entry
    for entry in (
        Entry("ridge", RIDGE, Recipe(), seeded=False),
        Entry("conse", CONSE, Recipe(), seeded=False),
        Entry("cjme", CJMEMethod(), CJME_RECIPE),
        *(Entry(name, AvgzslnetMethod(), RECIPES[name]) for name in ("avca", "paper", "strong")),
    )
}

ABLATIONS: Mapping[str, Mapping[str, Any]] = {
    "names only": {"descriptions": False},
    "triplets in place of cross-entropy": {"cross_entropy": 0.0, "triplet": 1.0},
    "without triplets and decoder": {"triplet": 0.0, "decoder": 0.0},
    "with KL term": {"kl": 1.0},
    "without mixup": {"mixup": 0.0},
    "without modality dropout": {"modality_dropout": 0.0},
    "neighbours 0.2": {"neighbours": 0.2},
    "without whitening": {"whiten": False},
    "standardised features": {"standardise": True},
    "modalities weigh alike": {"weigh_modalities": False},
    "one beta for all samples": {"relative_penalty": False},
    "one network": {"members": 1},
}
"""What is changed of the recipe `strong`, one thing at a time."""


def entries_of(methods: Sequence[str], changes: Sequence[str], *, ablations: bool) -> list[Entry]:
    """Lines of the tables: the named methods, or the strong recipe and its ablations.

    An ablation that the changes leave nothing to change of, such as "one network" after
    `members=1`, is left out.

    Args:
        methods: names in `METHODS`.
        changes: `NAME=VALUE` changes of every recipe; an ablation's own come after them.
        ablations: whether the ablations take the methods' place.

    Raises:
        ConfigError: a change does not fit.
    """
    names = ["strong"] if ablations else dict.fromkeys(methods)
    entries = [
        replace(METHODS[name], recipe=changed(METHODS[name].recipe, changes)) for name in names
    ]
    if ablations:
        (strong,) = entries
        entries += [
            replace(strong, name=f"strong, {name}", recipe=recipe)
            for name, change in ABLATIONS.items()
            if (recipe := replace(strong.recipe, **change)) != strong.recipe
        ]
    return entries


def own_split(features: FeatureSet, seed: int) -> FeatureSet:
    """Make test stages of a part of the stages of training; the other rows keep theirs.

    Of the trained classes and of those unseen in validation a share becomes unseen in the test, and
    of every other class's rows a share becomes its test as a seen one.

    Raises:
        FeatureSetError: there are test stages already.
    """
    if features.rows(*STAGES_OF["test"]).size:
        raise FeatureSetError(
            f"{features.name} has test stages of its own; leave --own-split out, or leave those "
            "rows out of the file"
        )
    rng = np.random.default_rng(seed)
    stages = features.stages.astype(object)
    for stage in ("stage_1_train", "stage_1_val_unseen"):
        classes = rng.permutation(features.classes_of(stage))
        held_out = classes[: max(1, round(OWN_UNSEEN_SHARE * len(classes)))]
        stages[np.isin(features.labels, held_out)] = "stage_2_test_unseen"
    for stage in TRAINING_STAGES:
        for label in features.classes_of(stage):
            rows = rng.permutation(np.flatnonzero((stages == stage) & (features.labels == label)))
            # Rounded down, so that a class that is trained on keeps a row.
            stages[rows[: int(OWN_HELD_OUT_SHARE * len(rows))]] = "stage_2_test_seen"
    return replace(features, stages=stages.astype(str))


# --- one result ----------------------------------------------------------------------------------

Result = Mapping[str, Any]


@dataclass(frozen=True)
class Setup:
    """What all results share.

    Attributes:
        features: with the stages of training, and perhaps of the test.
        text: recipe -> the text vectors of the set's classes.
        device: `cpu` or `cuda`.
        out: folder of the results.
    """

    features: FeatureSet
    text: Callable[[Recipe], Text]
    device: str
    out: Path

    def run(self, entry: Entry, seed: int) -> Run:
        """What a method is given; its states are kept in a folder of its own."""
        text = self.text(entry.recipe)
        return Run(
            self.features,
            text.vectors,
            text.encoder,
            entry.recipe,
            seed,
            self.device,
            self.out / f"states-{file_stem(entry, seed)}",
            lambda _: None,
        )


def file_stem(entry: Entry, seed: int) -> str:
    """Name of a result's file, such as "strong-without-mixup-seed0"."""
    return f"{entry.name.replace(',', '').replace(' ', '-')}-seed{seed}"


def result_of(entry: Entry, seed: int, setup: Setup) -> tuple[Result, bool]:
    """Read the finished result of this very run, or make and write it; and whether it was made.

    A training that diverged is a result too: it has an `error` and no figures.
    """
    path = setup.out / f"{file_stem(entry, seed)}.json"
    run = setup.run(entry, seed)
    key = run.fingerprint()
    if path.is_file():
        result = read_json_object(path)
        if result.get("key") == key:
            return result, False
    started = time.monotonic()
    result = {"key": key, "method": entry.name, "seed": seed}
    result["recipe"] = dataclasses.asdict(entry.recipe)
    try:
        with progress_bars() as report:
            result |= figures_of(entry.method, replace(run, report=report))
    except FeatureSetError as error:
        result["error"] = str(error)
    result["seconds"] = round(time.monotonic() - started, 1)
    write_json(path, result)
    shutil.rmtree(run.folder, ignore_errors=True)
    return result, True


def figures_of(method: Method, run: Run) -> dict[str, Any]:
    """Train both stages; stage 2 only where there is a test."""
    choice = method.select(run)
    figures: dict[str, Any] = {
        "chosen": {
            name: dataclasses.asdict(value) if isinstance(value, ConseSetting) else value
            for name, value in choice.chosen.items()
        },
        "validation": _kept(to_json(evaluate_stage(choice, run, "validation"))),
    }
    if run.features.rows(*STAGES_OF["test"]).size:
        final = method.retrain(run, choice)
        figures["test"] = _kept(to_json(evaluate_stage(final, run, "test")))
    return figures


def _kept(report: Mapping[str, Any]) -> dict[str, Any]:
    return {name: report[name] for name in KEPT_OF_REPORT}


# --- tables --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Figure:
    """Mean of a figure over seeds, in percent, and its sample standard deviation (n - 1).

    None: no seed has the figure; of the deviation, fewer than two have it.
    """

    mean: float | None
    deviation: float | None

    @classmethod
    def of(cls, values: Sequence[float | None]) -> "Figure":
        """Take the values of all seeds; those that lack it do not count."""
        present = [value for value in values if value is not None]
        return cls(
            float(np.mean(present)) if present else None,
            float(np.std(present, ddof=1)) if len(present) > 1 else None,
        )

    def __str__(self) -> str:
        if self.mean is None:
            return "-"
        return f"{self.mean:.1f}" + ("" if self.deviation is None else f" ± {self.deviation:.1f}")


def figure(results: Sequence[Result], phase: Phase, evidence: Evidence, column: str) -> Figure:
    """One cell over the results of all seeds; mAP is that of class names to samples."""
    return Figure.of([_value(r[phase], evidence, column) for r in results if phase in r])


def _value(report: Mapping[str, Any], evidence: Evidence, column: str) -> float | None:
    if column == "mAP":
        value: float | None = report["mAP"][f"text_to_{evidence}"]
        return value
    return report[evidence][column]  # type: ignore[no-any-return]


def table_rows(results: Mapping[str, Sequence[Result]], phase: Phase) -> list[list[str]]:
    """Cells of a table: a name, an evidence and a figure for each column; chance comes first."""
    rows = []
    any_result = next((r for of in results.values() for r in of if phase in r), None)
    if any_result is not None:
        chance = any_result[phase]["chance"]
        for evidence in EVIDENCE:
            values = [chance[c] for c in COLUMNS[:4]] + [chance["mAP"][f"text_to_{evidence}"]]
            rows.append(["chance", evidence, *(str(Figure.of([v])) for v in values)])
    for name, of_entry in results.items():
        for evidence in EVIDENCE:
            cells = [str(figure(of_entry, phase, evidence, column)) for column in COLUMNS]
            rows.append([name, evidence, *cells])
    return rows


def notes(results: Mapping[str, Sequence[Result]]) -> list[str]:
    """Sentences on seeds without figures."""
    return [
        f"{name}, seed {result['seed']}: no figures, {result['error']}."
        for name, of_entry in results.items()
        for result in of_entry
        if "error" in result
    ]


HEADINGS = ("method", "from", *COLUMNS)


def markdown(results: Mapping[str, Sequence[Result]], about: str) -> str:
    """Both tables in Markdown, in percent."""
    lines = [about, ""]
    for phase in PHASES:
        rows = table_rows(results, phase)
        if any(phase in r for of_entry in results.values() for r in of_entry):
            lines += [f"## {phase}", "", "| " + " | ".join(HEADINGS) + " |"]
            lines.append("| --- | --- |" + " ---: |" * len(COLUMNS))
            lines += ["| " + " | ".join(row) + " |" for row in rows]
            lines.append("")
    return "\n".join([*lines, *(f"- {note}" for note in notes(results))]).rstrip() + "\n"


def show(results: Mapping[str, Sequence[Result]], console: Console) -> None:
    """Print both tables, in percent."""
    for phase in PHASES:
        if any(phase in r for of_entry in results.values() for r in of_entry):
            table = Table(title=f"{phase}, %", title_justify="left")
            for heading in HEADINGS:
                table.add_column(heading, justify="right" if heading in COLUMNS else "left")
            for row in table_rows(results, phase):
                table.add_row(*row, end_section=row[1] == EVIDENCE[-1])
            console.print(table)
    for note in notes(results):
        console.print(note, highlight=False)


# --- the command ---------------------------------------------------------------------------------


def compare(
    entries: Sequence[Entry], seeds: int, setup: Setup, about: str, console: Console
) -> dict[str, list[Result]]:
    """Make all results that are not there yet, by seed and then by entry; tables grow with them."""
    results: dict[str, list[Result]] = {entry.name: [] for entry in entries}
    for seed in range(seeds):
        for entry in entries:
            if seed and not entry.seeded:
                continue
            result, made = result_of(entry, seed, setup)
            results[entry.name].append(result)
            write_whole(setup.out / TABLES_FILE, markdown(results, about).encode())
            console.print(_progress_line(result, made=made), highlight=False)
    return results


def _progress_line(result: Result, *, made: bool) -> str:
    start = f"{result['method']}, seed {result['seed']}: "
    if "error" in result:
        return f"{start}{result['error']}"
    figures = (f"{p} HM {figure([result], p, 'both', 'HM')}" for p in PHASES if p in result)
    took = f" ({result['seconds']} s)" if made else " (already there)"
    return start + ", ".join(figures) + took


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    console = Console()
    try:
        entries = entries_of(options.methods, options.set, ablations=options.ablations)
        features = read_chosen(options.features, options)
        if options.own_split is not None:
            features = own_split(features, options.own_split)
        check_trainable(features)
        options.out.mkdir(parents=True, exist_ok=True)
        setup = Setup(
            features,
            _text_by_recipe(features, options.text_encoder),
            resolve_device(options.device),
            options.out,
        )
        results = compare(entries, options.seeds, setup, _about(features, options), console)
    except ModelError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    show(results, console)
    return 0


def _text_by_recipe(features: FeatureSet, encoder: str | None) -> Callable[[Recipe], Text]:
    """Text vectors by recipe; names, and names with descriptions, are encoded once."""
    known: dict[bool, Text] = {}

    def text(recipe: Recipe) -> Text:
        if recipe.descriptions not in known:
            known[recipe.descriptions] = text_of(features, recipe, encoder)
        return known[recipe.descriptions]

    return text


def _about(features: FeatureSet, options: argparse.Namespace) -> str:
    parts = [f"{features.name}, mean ± sample standard deviation over {options.seeds} seeds, in %"]
    if options.own_split is not None:
        parts.append(f"test stages taken from the training file with seed {options.own_split}")
    if options.set:
        parts.append(f"all recipes with {', '.join(options.set)}")
    return "; ".join(parts) + ". mAP: class names as queries. Ridge and ConSE know no seed."


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Tables of zero-shot methods and ablations.")
    parser.add_argument(
        "--features", type=Path, required=True, metavar="PATH", help=".npz file or folder"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="of the results")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--seeds", type=int, default=5, help="how many, from 0 (default: 5)")
    parser.add_argument(
        "--ablations", action="store_true", help="the strong recipe and its ablations instead"
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="change one entry of all recipes, such as epochs=50; may be given again",
    )
    parser.add_argument(
        "--own-split", type=int, metavar="SEED", help="take test stages from those of training"
    )
    parser.add_argument("--text-encoder", help="of class names; by default the set's own vectors")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    add_reading_arguments(parser)
    return parser


if __name__ == "__main__":
    sys.exit(main())

"""The zero-shot report as JSON and as tables, in percent."""

import dataclasses
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from model.embedded_samples import EVIDENCE
from model.evaluation import Report
from model.metrics import SeenUnseen


def to_json(report: Report) -> dict[str, Any]:
    """Give the report as plain JSON values; all figures are in percent, absent ones are null."""
    return {
        **{e: _four_figures(report.figures[e]) for e in EVIDENCE},
        "mAP": {name: _percent(f.mean) for name, f in report.retrieval.items()},
        "mAP_by_queries": {
            name: _four_figures(f.by_queries) for name, f in report.retrieval.items()
        },
        "chance": {
            **_four_figures(report.chance),
            "mAP": {name: _percent(f.chance) for name, f in report.retrieval.items()},
        },
        "betas": dict(report.betas),
        "expected_calibration_error": _percent(report.calibration_error),
        "unseen_auroc": _percent(report.unseen_auroc),
        "counts": dict(report.counts),
        "per_class": [
            {
                "name": name,
                "seen": bool(report.seen[i]),
                "samples": int(report.samples_per_class[i]),
                **{e: _percent(report.accuracy_per_class[e][i]) for e in EVIDENCE},
            }
            for i, name in enumerate(report.class_names)
            if report.samples_per_class[i]
        ],
        "confusions": [
            {
                "true": report.class_names[c.true],
                "predicted": report.class_names[c.predicted],
                "count": c.count,
                "share": _percent(c.share),
            }
            for c in report.confusions
        ],
        "notes": list(report.notes),
        "model_id": report.model_id,
        "feature_set": report.feature_set,
        "stages": list(report.stages),
    }


def _four_figures(figures: SeenUnseen) -> dict[str, float | None]:
    return {
        "S": _percent(figures.seen),
        "U": _percent(figures.unseen),
        "HM": _percent(figures.harmonic_mean),
        "ZSL": _percent(figures.zero_shot),
    }


def _percent(fraction: float | None) -> float | None:
    return None if fraction is None or np.isnan(fraction) else round(100 * float(fraction), 4)


def print_report(report: Report, console: Console) -> None:
    """Print the figures in percent as two tables, with the notes below."""
    counts = report.counts
    console.print(
        f"model {report.model_id or '?'} on {report.feature_set or '?'} "
        f"({', '.join(report.stages) or 'all rows'}): {counts['samples']} samples, "
        f"{counts['seen_candidates']} seen and {counts['unseen_candidates']} unseen candidates",
        highlight=False,
    )
    accuracy = Table("accuracy, %", title="Zero-shot classification", title_justify="left")
    for column in ("S", "U", "HM", "ZSL", "beta"):
        accuracy.add_column(column, justify="right")
    for evidence in EVIDENCE:
        accuracy.add_row(
            evidence, *_cells(report.figures[evidence]), f"{report.betas[evidence]:.3f}"
        )
    accuracy.add_row("chance", *_cells(report.chance), "", style="dim")
    console.print(accuracy)
    retrieval = Table("mAP, %", title="Retrieval", title_justify="left")
    for column in ("all", "S", "U", "HM", "ZSL", "chance"):
        retrieval.add_column(column, justify="right")
    for name, figures in report.retrieval.items():
        retrieval.add_row(
            name.replace("_", " "),
            _cell(figures.mean),
            *_cells(figures.by_queries),
            _cell(figures.chance),
        )
    console.print(retrieval)
    for note in report.notes:
        console.print(note, highlight=False)


def _cells(figures: SeenUnseen) -> list[str]:
    return [_cell(value) for value in dataclasses.astuple(figures)]


def _cell(fraction: float | None) -> str:
    return "-" if fraction is None else f"{100 * fraction:.2f}"

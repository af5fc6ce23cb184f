"""`avgzsl classify`: what is in files."""

import sys
from collections.abc import Callable
from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from service.connection import DataDir, Place, Url, connected
from service.library_commands import AsJson
from service.terminal import bar, complain, new_table, print_json, show

if TYPE_CHECKING:
    from service import schemas
    from service.client import FileInput

STDIN = "-"


class UsedModality(StrEnum):
    """What of a file is used."""

    AUTO = "auto"
    AUDIO = "audio"
    VIDEO = "video"


Modality = Annotated[
    UsedModality, typer.Option(help="What to use; auto takes whatever a file has.")
]
Files = Annotated[list[str], typer.Argument(help="Videos or sounds; - is the standard input.")]


def classify(
    files: Files,
    *,
    label: Annotated[
        list[str] | None,
        typer.Option(help="Rank only these names, and store nothing; repeat it for each."),
    ] = None,
    top: Annotated[int, typer.Option(help="How many labels of each file, best first.")] = 5,
    modality: Modality = UsedModality.AUTO,
    windows: Annotated[bool, typer.Option("--windows", help="Rank each window too.")] = False,
    url: Url = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Name what is in files; exit 1 if one cannot be read. --json prints a line for each."""
    with connected(Place(url, data_dir)) as client:
        for_each_file(
            files,
            lambda file, name: client.classify(
                file,
                candidate_labels=label or (),
                top_k=top,
                modality=modality.value,
                windows=windows,
                filename=name,
            ),
            None if as_json else partial(print_answer, with_name=len(files) > 1),
        )


def for_each_file(
    files: list[str],
    ask: "Callable[[FileInput, str | None], Any]",
    tell: Callable[[str, Any], None] | None = None,
) -> None:
    """Ask about each file and print what came back, by `tell`, or as a line of JSON without it.

    A file that is refused stops none of the others; the exit status is 1 in the end.
    """
    from service.client import ProblemError  # noqa: PLC0415

    failed = False
    for name in files:
        file = (sys.stdin.buffer, "stdin") if name == STDIN else (name, None)
        try:
            answer = ask(*file)
        except ProblemError as error:
            failed = True
            complain(f"{name}: {error.detail}")
            if tell is None:
                print_json(error.problem, file=name)
        except OSError as error:
            failed = True
            complain(f"{name}: {error.strerror or error}")
        else:
            if tell is None:
                print_json(answer, file=name)
            else:
                tell(name, answer)
    if failed:
        raise typer.Exit(1)


def print_answer(name: str, answer: "schemas.Classification", *, with_name: bool) -> None:
    """Print an answer for people, with the name of its file above it or without."""
    from rich.markup import escape  # noqa: PLC0415

    if with_name:
        show(f"[bold]{escape(name)}[/]")
    show(_labels(answer.labels))
    for window in answer.windows:
        show(f"[bold]{window.start_seconds:.1f} to {window.end_seconds:.1f} s[/]")
        show(_labels(window.labels))
    show(f"Probably none of these: {answer.unknown_probability:.0%}")
    for what, use in (("Sound", answer.modalities.audio), ("Pictures", answer.modalities.video)):
        if not use.used:
            show(f"{what} not used: {escape(use.reason or 'no reason is known')}")
    for warning in answer.warnings:
        complain(f"{name}: {warning}")


def _labels(labels: "list[schemas.Label]") -> Any:
    from rich.markup import escape  # noqa: PLC0415

    table = new_table("probability", "", "label", "by sound", "by sight", "")
    for label in labels:
        table.add_row(
            f"{label.probability:.3f}",
            bar(label.probability),
            escape(label.name),
            _share(label.by_modality.audio),
            _share(label.by_modality.video),
            "" if label.seen else "new",
        )
    return table


def _share(probability: float | None) -> str:
    return "-" if probability is None else f"{probability:.3f}"

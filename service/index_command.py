"""`avgzsl index`: the clips of folders stored, as far as they are not yet."""

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from service.connection import DataDir, Place, Url, connected
from service.library_commands import AsJson
from service.terminal import console, fail

if TYPE_CHECKING:
    from rich.progress import Progress

    from service.client import Client
    from service.folder_indexing import Outcome

STYLES = {"stored": "green", "known": "dim", "moved": "cyan", "failed": "red"}


def index(
    places: Annotated[
        list[Path],
        typer.Argument(
            metavar="FOLDER", exists=True, help="Folders, with all below them, or single files."
        ),
    ],
    *,
    tag: Annotated[
        list[str] | None, typer.Option(help="A tag for what is stored; repeat it for more.")
    ] = None,
    workers: Annotated[
        int, typer.Option(min=1, max=64, help="How many files are under way at a time.")
    ] = 4,
    url: Url = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Store the clips of folders; a file that is stored already is passed over.

    Exit 1 if some failed. Whatever interrupts it, the same command goes on from there.
    """
    counts: Counter[str] = Counter()
    with connected(Place(url, data_dir)) as client:
        try:
            _index(client, places, tag or [], workers, counts, as_json=as_json)
        except KeyboardInterrupt:
            typer.echo(
                f"avgzsl: interrupted after {counts.total()} files; what is stored stays, and the "
                "same command goes on from here",
                err=True,
            )
            raise typer.Exit(130) from None
    if as_json:
        typer.echo(json.dumps({"summary": {state: counts[state] for state in STYLES}}))
    else:
        typer.echo(", ".join(f"{counts[state]} {state}" for state in STYLES))
    if counts["failed"]:
        raise typer.Exit(1)


def _index(
    client: "Client",
    places: list[Path],
    tags: list[str],
    workers: int,
    counts: Counter[str],
    *,
    as_json: bool,
) -> None:
    from service.client import ClientError  # noqa: PLC0415
    from service.folder_indexing import index_files, media_files  # noqa: PLC0415

    files = list(media_files(places))
    with _progress(as_json) as progress:
        task = progress.add_task("Indexing", total=len(files))
        try:
            with closing(index_files(client, files, tags=tags, workers=workers)) as outcomes:
                for outcome in outcomes:
                    counts[outcome.state] += 1
                    if as_json:
                        typer.echo(json.dumps(outcome.record()))
                    else:
                        _tell(outcome, progress)
                    progress.advance(task)
        except ClientError as error:
            fail(
                f"{error} Stopped after {counts.total()} of {len(files)} files; the same command "
                "goes on from here."
            )


@contextmanager
def _progress(as_json: bool) -> "Iterator[Progress]":
    """Draw a bar on the error stream, if that is a terminal."""
    from rich.progress import (  # noqa: PLC0415
        BarColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        Task,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text  # noqa: PLC0415

    class RateColumn(ProgressColumn):
        """Files a second."""

        def render(self, task: Task) -> Text:
            return Text("" if task.speed is None else f"{task.speed:.1f}/s")

    screen = console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        RateColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    disable = as_json or not screen.is_terminal
    with Progress(*columns, console=screen, transient=True, disable=disable) as progress:
        yield progress


def _tell(outcome: "Outcome", progress: "Progress") -> None:
    from rich.text import Text  # noqa: PLC0415

    line = Text.assemble((f"{outcome.state:6}", STYLES[outcome.state]), " ", outcome.path)
    if outcome.detail is not None:
        line.append(f": {outcome.detail}")
    # Above the bar, which is on the error stream; a line of a pipe must not be folded.
    progress.console.print(line, soft_wrap=True)

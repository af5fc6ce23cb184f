"""What the commands have in common: settings from options, errors in one line, tables and JSON.

Data goes to the output, everything else to the error stream, so that a pipe gets data alone.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn

import typer

if TYPE_CHECKING:
    from pydantic import BaseModel
    from rich.console import Console, RenderableType
    from rich.progress import Progress as FileProgress
    from rich.table import Table

    from index.progress import Progress
    from service.settings import Settings

BAR_CELLS = 16


def settings_of(options: Mapping[str, Any]) -> "Settings":
    """Return the settings; where an option is None, the environment's. Exit if they are bad."""
    from service.settings import SettingsError, load_settings  # noqa: PLC0415

    try:
        return load_settings({name: value for name, value in options.items() if value is not None})
    except SettingsError as error:
        fail(str(error))


def fail(message: str) -> NoReturn:
    """Print an error and exit with 1."""
    complain(message)
    raise typer.Exit(1)


def misused(message: str) -> NoReturn:
    """Print what is wrong with a command's arguments and exit with 2."""
    complain(message)
    raise typer.Exit(2)


def complain(message: str) -> None:
    """Print an error and go on."""
    typer.echo(f"avgzsl: {message}", err=True)


def print_json(answer: "BaseModel", **more: Any) -> None:
    """Print an answer as one line of JSON, with `more` in front of it."""
    typer.echo(json.dumps({**more, **answer.model_dump(mode="json", by_alias=True)}))


def show(table: "RenderableType") -> None:
    """Print something of rich's; in colour and as wide as it is where a terminal shows it."""
    console().print(table)


def console(*, stderr: bool = False) -> "Console":
    """Return a console on the output or the error stream."""
    from rich.console import Console  # noqa: PLC0415

    return Console(stderr=stderr, highlight=False)


def new_table(*columns: str) -> "Table":
    """Return a table without rules between its cells."""
    from rich import box  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    return Table(*columns, box=box.SIMPLE_HEAD, pad_edge=False)


def bar(share: float) -> "RenderableType":
    """Return a bar for a number between 0 and 1."""
    from rich.progress_bar import ProgressBar  # noqa: PLC0415

    return ProgressBar(total=1.0, completed=max(0.0, share), width=BAR_CELLS)


@contextmanager
def working(message: str) -> Iterator[None]:
    """Show what takes a while, if somebody looks at a terminal."""
    screen = console(stderr=True)
    if not screen.is_terminal:
        yield
        return
    with screen.status(message):
        yield


@contextmanager
def bars(as_json: bool) -> Iterator["Progress"]:
    """Draw a bar a stage on the error stream, if that is a terminal and no program reads along."""
    from rich.progress import Progress as Bars  # noqa: PLC0415

    screen = console(stderr=True)
    with Bars(console=screen, transient=True, disable=as_json or not screen.is_terminal) as drawn:
        yield _drawing(drawn.add_task, drawn.update)


def _drawing(add_task: Callable[..., Any], update: Callable[..., None]) -> "Progress":
    tasks: dict[str, Any] = {}

    def draw(stage: str, done: int, total: int) -> None:
        if stage not in tasks:
            tasks[stage] = add_task(stage)
        update(tasks[stage], completed=done, total=total)

    return draw


@contextmanager
def file_progress(*, hidden: bool) -> "Iterator[FileProgress]":
    """Draw a bar of files that are done on the error stream, if that is a terminal."""
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
    disable = hidden or not screen.is_terminal
    with Progress(*columns, console=screen, transient=True, disable=disable) as progress:
        yield progress

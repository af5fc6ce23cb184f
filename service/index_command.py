"""`avgzsl index`: the clips of folders stored, as far as they are not yet."""

import json
from collections import Counter
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from service.connection import DataDir, Place, Url, connected
from service.library_commands import AsJson
from service.terminal import fail, file_progress, misused, settings_of, working

if TYPE_CHECKING:
    from collections.abc import Generator

    from rich.progress import Progress

    from service.client import Client
    from service.folder_indexing import Outcome

STYLES = {"stored": "green", "known": "dim", "moved": "cyan", "failed": "red"}


def index(
    places: Annotated[
        list[str],
        typer.Argument(
            metavar="FOLDER",
            help="Folders, with all below them, or single files; with --ray also addresses such "
            "as s3://BUCKET/PREFIX.",
        ),
    ],
    *,
    tag: Annotated[
        list[str] | None, typer.Option(help="A tag for what is stored; repeat it for more.")
    ] = None,
    workers: Annotated[
        int, typer.Option(min=1, max=64, help="How many files are under way at a time.")
    ] = 4,
    ray: Annotated[
        bool,
        typer.Option(
            "--ray",
            help="Decode and embed on a Ray cluster: RAY_ADDRESS, or this machine as one.",
        ),
    ] = False,
    url: Url = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Store the clips of folders; a file that is stored already is passed over.

    Exit 1 if some failed. Whatever interrupts it, the same command goes on from there.
    """
    _check_places(places, on_ray=ray)
    counts: Counter[str] = Counter()
    try:
        if ray:
            _index_on_ray(places, tag or [], workers, counts, Place(url, data_dir), as_json=as_json)
        else:
            with connected(Place(url, data_dir)) as client:
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


def _check_places(places: list[str], *, on_ray: bool) -> None:
    for place in places:
        if "://" in place:
            if not on_ray:
                misused(f"{place!r} is an address, which only --ray reads; give a folder.")
        elif not Path(place).exists():
            misused(f"There is no file or folder at {place!r}.")


def _index(
    client: "Client",
    places: list[str],
    tags: list[str],
    workers: int,
    counts: Counter[str],
    *,
    as_json: bool,
) -> None:
    from service.client import ClientError  # noqa: PLC0415
    from service.folder_indexing import index_files, media_files  # noqa: PLC0415

    files = list(media_files(map(Path, places)))
    try:
        outcomes = index_files(client, files, tags=tags, workers=workers)
        _report(outcomes, len(files), counts, as_json=as_json)
    except ClientError as error:
        fail(f"{error} {_how_far(counts, len(files))}")


def _index_on_ray(
    places: list[str],
    tags: list[str],
    workers: int,
    counts: Counter[str],
    place: Place,
    *,
    as_json: bool,
) -> None:
    from index.errors import LibraryError, LibraryLocked  # noqa: PLC0415
    from model.errors import ModelError  # noqa: PLC0415
    from service.media_source import media_sources  # noqa: PLC0415

    if place.remote_url is not None:
        misused(
            f"--ray writes to a library itself, and {place.remote_url} is a service; name the "
            "library's folder with --data-dir, or leave --ray out: a service embeds what it is "
            "sent, on Ray too if it runs there."
        )
    try:
        from service.ray_index import IndexStopped, index_run  # noqa: PLC0415
    except ImportError as error:
        fail(f"--ray needs Ray ({error}); install it with `pip install 'avgzsl[ray]'`.")
    settings = settings_of({"data_dir": place.data_dir})
    with ExitStack() as stack:
        try:
            with working("Looking for files ..."):
                sources = list(dict.fromkeys(media_sources(places)))
            with working("Loading the model on the cluster and opening the library ..."):
                run = stack.enter_context(index_run(settings))
        except LibraryLocked as error:
            fail(f"{error} To use the service that runs there, leave --ray out and give its --url.")
        except (ImportError, LibraryError, ModelError, OSError) as error:
            fail(str(error))
        try:
            outcomes = run.outcomes(sources, tags=tags, workers=workers)
            _report(outcomes, len(sources), counts, as_json=as_json)
        except (IndexStopped, LibraryError) as error:
            fail(f"{error} {_how_far(counts, len(sources))}")


def _report(
    outcomes: "Generator[Outcome, None, None]",
    total: int,
    counts: Counter[str],
    *,
    as_json: bool,
) -> None:
    """Tell what becomes of each file, and count it."""
    with file_progress(hidden=as_json) as progress, closing(outcomes):
        task = progress.add_task("Indexing", total=total)
        for outcome in outcomes:
            counts[outcome.state] += 1
            if as_json:
                typer.echo(json.dumps(outcome.record()))
            else:
                _tell(outcome, progress)
            progress.advance(task)


def _how_far(counts: Counter[str], total: int) -> str:
    return f"Stopped after {counts.total()} of {total} files; the same command goes on from here."


def _tell(outcome: "Outcome", progress: "Progress") -> None:
    from rich.text import Text  # noqa: PLC0415

    line = Text.assemble((f"{outcome.state:6}", STYLES[outcome.state]), " ", outcome.path)
    if outcome.detail is not None:
        line.append(f": {outcome.detail}")
    # Above the bar, which is on the error stream; a line of a pipe must not be folded.
    progress.console.print(line, soft_wrap=True)

"""`avgzsl search`: clips found by words, by a stored clip or by a file."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from service.connection import DataDir, Place, Url, connected
from service.library_commands import AsJson
from service.terminal import complain, misused, new_table, print_json, show

if TYPE_CHECKING:
    from service import schemas
    from service.client import ClipFilter


class SearchModality(StrEnum):
    """What is compared."""

    BOTH = "both"
    AUDIO = "audio"
    VIDEO = "video"


def search(
    words: Annotated[list[str] | None, typer.Argument(help="What to search for.")] = None,
    *,
    like: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Search by a file instead of words.")
    ] = None,
    like_clip: Annotated[
        str | None, typer.Option(metavar="ID", help="Search by a stored clip.")
    ] = None,
    minus: Annotated[
        list[str] | None, typer.Option(help="Not like these words; repeat it for more.")
    ] = None,
    top: Annotated[int, typer.Option(help="How many clips, best first.")] = 5,
    modality: Annotated[
        SearchModality, typer.Option(help="What is compared of the clips.")
    ] = SearchModality.BOTH,
    query_modality: Annotated[
        SearchModality | None,
        typer.Option(
            help="What is compared of the file or clip; the modality by default. `--like bark.wav "
            "--query-modality audio --modality video` finds pictures that go with a sound."
        ),
    ] = None,
    tag: Annotated[
        list[str] | None, typer.Option(help="Only clips with this tag; repeat it for more.")
    ] = None,
    class_name: Annotated[
        str | None, typer.Option("--class", help="Only clips that are nearest to this class.")
    ] = None,
    paths_only: Annotated[
        bool,
        typer.Option(
            "--paths-only", help="Print only where `avgzsl index` found the files, one a line."
        ),
    ] = False,
    null: Annotated[
        bool, typer.Option("-0", help="End paths with a zero byte, for `xargs -0`.")
    ] = False,
    url: Url = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Find stored clips; each is shown with its best window."""
    query = " ".join(words or ())
    if sum((bool(query), like is not None, like_clip is not None)) != 1:
        misused("search by WORDS, by --like FILE or by --like-clip ID: one of them")
    options: dict[str, Any] = {
        "minus": minus or (),
        "top_k": top,
        "modality": modality.value,
        "query_modality": query_modality and query_modality.value,
        "filter": clip_filter(tags=tag, class_name=class_name),
    }
    with connected(Place(url, data_dir)) as client:
        if like is not None:
            found = client.retrieve_by_file(like, **options)
        else:
            found = client.retrieve(query or None, clip_id=like_clip, **options)
    if paths_only:
        _print_paths(found, end="\0" if null else "\n")
    elif as_json:
        print_json(found)
    else:
        _print_results(found)


def clip_filter(
    *, tags: list[str] | None, class_name: str | None, modality: str | None = None
) -> "ClipFilter":
    """Return the conditions on clips that a command's options say."""
    given = {"tags": tags, "class": class_name, "modality": modality}
    return {name: value for name, value in given.items() if value}  # type: ignore[return-value]


def _print_paths(found: "schemas.Results", *, end: str) -> None:
    for result in found.results:
        if result.source is None:
            complain(f"no path of clip {result.clip_id} ({result.filename}) is known")
        else:
            typer.echo(result.source + end, nl=False)


def _print_results(found: "schemas.Results") -> None:
    from rich.markup import escape  # noqa: PLC0415

    if not found.results:
        typer.echo("No clip was found.", err=True)
        return
    table = new_table("score", "clip", "window", "tags", "id")
    for result in found.results:
        table.add_row(
            f"{result.score:.3f}",
            escape(result.filename),
            f"{result.start_seconds:.1f} to {result.end_seconds:.1f} s",
            escape(", ".join(result.tags)),
            result.clip_id,
        )
    show(table)

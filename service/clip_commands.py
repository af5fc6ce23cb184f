"""`avgzsl clips`: the stored clips."""

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from service.connection import DataDir, Place, Url, connected
from service.library_commands import AsJson
from service.search_command import clip_filter
from service.terminal import new_table, print_json, show

if TYPE_CHECKING:
    from rich.table import Table

    from service import schemas

app = typer.Typer(help="List, show and remove stored clips.", no_args_is_help=True)


class UsableModality(StrEnum):
    """What a clip has."""

    AUDIO = "audio"
    VIDEO = "video"


@app.command("list")
def list_(
    *,
    tag: Annotated[
        list[str] | None, typer.Option(help="Only clips with this tag; repeat it for more.")
    ] = None,
    class_name: Annotated[
        str | None, typer.Option("--class", help="Only clips that are nearest to this class.")
    ] = None,
    modality: Annotated[
        UsableModality | None, typer.Option(help="Only clips with usable sound or pictures.")
    ] = None,
    limit: Annotated[int, typer.Option(help="How many at most.")] = 100,
    offset: Annotated[int, typer.Option(help="How many to pass over.")] = 0,
    url: Url = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """List clips, newest first. --json prints a line for each."""
    conditions = clip_filter(tags=tag, class_name=class_name, modality=modality and modality.value)
    with connected(Place(url, data_dir)) as client:
        page = client.list_clips(filter=conditions, offset=offset, limit=limit)
    if as_json:
        for clip in page.items:
            print_json(clip)
        return
    show(_listing(page.items))
    if page.total > offset + len(page.items):
        typer.echo(
            f"{len(page.items)} of {page.total}; --offset {offset + len(page.items)} shows more",
            err=True,
        )


@app.command("show")
def show_(
    clip_id: Annotated[str, typer.Argument(metavar="ID")],
    *,
    url: Url = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Show all that is known of a clip."""
    from rich.markup import escape  # noqa: PLC0415

    with connected(Place(url, data_dir)) as client:
        clip = client.get_clip(clip_id)
    if as_json:
        print_json(clip)
        return
    table = new_table("part", "value")
    for part, value in clip.model_dump(mode="json", exclude={"modalities"}).items():
        text = ", ".join(value) if isinstance(value, list) else "" if value is None else str(value)
        table.add_row(part, escape(text))
    for part, use in (("audio", clip.modalities.audio), ("video", clip.modalities.video)):
        table.add_row(part, "used" if use.used else escape(f"not used: {use.reason}"))
    show(table)


@app.command()
def rm(
    clip_ids: Annotated[list[str], typer.Argument(metavar="ID")],
    *,
    url: Url = None,
    data_dir: DataDir = None,
) -> None:
    """Remove clips and their files; searches stop finding them at once."""
    with connected(Place(url, data_dir)) as client:
        for clip_id in clip_ids:
            client.remove_clip(clip_id)
            typer.echo(f"removed {clip_id}", err=True)


def _listing(clips: "list[schemas.Clip]") -> "Table":
    from rich.markup import escape  # noqa: PLC0415

    table = new_table("clip", "seconds", "has", "tags", "stored", "id")
    for clip in clips:
        used = {"sound": clip.modalities.audio.used, "pictures": clip.modalities.video.used}
        table.add_row(
            escape(clip.filename),
            f"{clip.duration_seconds:.1f}",
            " + ".join(name for name, is_used in used.items() if is_used),
            escape(", ".join(clip.tags)),
            clip.created_at.strftime("%Y-%m-%d %H:%M"),
            clip.clip_id,
        )
    return table

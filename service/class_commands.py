"""`avgzsl classes`: the names that answers are made of."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from service.connection import DataDir, Place, Url, connected
from service.library_commands import AsJson
from service.terminal import fail, misused, new_table, print_json, show

if TYPE_CHECKING:
    from service import schemas
    from service.client import Client

PAGE = 1000

app = typer.Typer(help="Add, list, change and remove classes.", no_args_is_help=True)

Which = Annotated[str, typer.Argument(metavar="CLASS", help="A class's name or id.")]
Synonyms = Annotated[
    list[str] | None, typer.Option("--synonym", help="Another name; repeat it for more.")
]


@app.command()
def add(
    names: Annotated[list[str], typer.Argument(metavar="NAME", help="One class each.")],
    *,
    synonym: Synonyms = None,
    description: Annotated[str, typer.Option(help="What it looks and sounds like.")] = "",
    url: Url = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Add classes, without any training; the next answer may name them."""
    if len(names) > 1 and (synonym or description):
        misused("synonyms and a description are of one NAME; give one at a time")
    with connected(Place(url, data_dir)) as client:
        for name in names:
            added = client.add_class(name, synonyms=synonym or (), description=description)
            if as_json:
                print_json(added)
            else:
                typer.echo(f"added {added.name!r}, {added.class_id}")


@app.command("list")
def list_(
    query: Annotated[str | None, typer.Argument(help="Part of a name or synonym.")] = None,
    *,
    seen: Annotated[
        bool | None, typer.Option("--seen/--new", help="Only those trained on, or not.")
    ] = None,
    url: Url = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """List classes in the order in which they were added."""
    from rich.markup import escape  # noqa: PLC0415

    with connected(Place(url, data_dir)) as client:
        found = list(_all_classes(client, query=query, seen=seen))
    if as_json:
        for one in found:
            print_json(one)
        return
    table = new_table("name", "synonyms", "", "id")
    for one in found:
        states = ([] if one.seen else ["new"]) + ([] if one.enabled else ["disabled"])
        table.add_row(
            escape(one.name), escape(", ".join(one.synonyms)), ", ".join(states), one.class_id
        )
    show(table)


@app.command()
def edit(
    which: Which,
    *,
    name: Annotated[str | None, typer.Option(help="Its new name.")] = None,
    synonym: Synonyms = None,
    no_synonyms: Annotated[
        bool, typer.Option("--no-synonyms", help="Remove all its synonyms.")
    ] = False,
    description: Annotated[str | None, typer.Option(help="Its new description.")] = None,
    enabled: Annotated[
        bool | None, typer.Option("--enable/--disable", help="Whether answers may name it.")
    ] = None,
    url: Url = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Change what is given of a class; synonyms replace all that it has."""
    synonyms = [] if no_synonyms else synonym
    if all(value is None for value in (name, synonyms, description, enabled)):
        misused("there is nothing to change; `edit --help` lists what can be")
    with connected(Place(url, data_dir)) as client:
        changed = client.update_class(
            _found(client, which).class_id,
            name=name,
            synonyms=synonyms,
            description=description,
            enabled=enabled,
        )
    if as_json:
        print_json(changed)
    else:
        typer.echo(f"changed {changed.name!r}, {changed.class_id}")


@app.command()
def rm(
    which: Annotated[list[str], typer.Argument(metavar="CLASS", help="Names or ids.")],
    *,
    url: Url = None,
    data_dir: DataDir = None,
) -> None:
    """Remove classes; answers stop naming them at once."""
    with connected(Place(url, data_dir)) as client:
        for one in which:
            found = _found(client, one)
            client.remove_class(found.class_id)
            typer.echo(f"removed {found.name!r}", err=True)


def _found(client: "Client", which: str) -> "schemas.Class":
    """Return a class by its id, else by its name in any case."""
    from service.client import NotFound  # noqa: PLC0415

    try:
        return client.get_class(which)
    except NotFound:
        pass
    for one in _all_classes(client, query=which):
        if one.name.casefold() == which.casefold():
            return one
    fail(f"no class has the name or the id {which!r}; `avgzsl classes list` shows all")


def _all_classes(
    client: "Client", *, query: str | None, seen: bool | None = None
) -> "Iterator[schemas.Class]":
    offset = 0
    while True:
        page = client.list_classes(query=query, seen=seen, offset=offset, limit=PAGE)
        yield from page.items
        offset += len(page.items)
        if not page.items or offset >= page.total:
            return

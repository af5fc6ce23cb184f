"""`avgzsl keys ...`: keys of the HTTP API made, listed and revoked, while the service runs or not.

Nothing heavy is imported at the top, as in `service.cli`.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from service.library_commands import AsJson, CatalogueUrl, DataDir
from service.terminal import fail, settings_of

if TYPE_CHECKING:
    from pathlib import Path

    from index.api_keys import ApiKey, ApiKeyStore

app = typer.Typer(help="Make, list and revoke keys of the HTTP API.", no_args_is_help=True)


class ScopeName(StrEnum):
    """What a key may do; each includes those before it."""

    READ = "read"
    WRITE = "write"
    ADMIN = "admin"


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="Whose key it is, such as a program's name.")],
    *,
    scope: Annotated[
        ScopeName,
        typer.Option(help="read: ask; write: also change clips and classes; admin: everything."),
    ] = ScopeName.READ,
    rate: Annotated[
        str | None, typer.Option(help="Requests in a span, as 600/minute; the service's own else.")
    ] = None,
    concurrency: Annotated[
        int | None, typer.Option(min=1, help="Requests at once; the service's own else.")
    ] = None,
    data_dir: DataDir = None,
    catalogue_url: CatalogueUrl = None,
    as_json: AsJson = False,
) -> None:
    """Make a key and print it, this once. A service that runs knows it at once."""
    from service.keyring import new_key  # noqa: PLC0415
    from service.settings import check_rate  # noqa: PLC0415

    if not name.strip():
        fail("the key's name is blank; name who uses it")
    if rate is not None:
        try:
            check_rate(rate)
        except ValueError as error:
            fail(str(error))
    new, token = new_key(name.strip(), scope.value, rate=rate, concurrency=concurrency)
    with _store(data_dir, catalogue_url) as store:
        key = store.add(new)
    if as_json:
        typer.echo(json.dumps({**_record(key), "key": token}))
        return
    typer.echo(token)
    typer.echo(
        f"This is the key {key.key_id} of {key.name!r} with the scope {key.scope!r}. It is shown "
        "this once: only a hash of it is kept.",
        err=True,
    )


@app.command("list")
def list_(
    *, data_dir: DataDir = None, catalogue_url: CatalogueUrl = None, as_json: AsJson = False
) -> None:
    """List all keys, revoked ones too."""
    with _store(data_dir, catalogue_url) as store:
        keys = store.all()
    if as_json:
        typer.echo(json.dumps([_record(key) for key in keys]))
        return
    from rich.console import Console  # noqa: PLC0415
    from rich.markup import escape  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    table = Table("id", "name", "scope", "rate", "at once", "created", "last used", "state")
    for key in keys:
        table.add_row(
            key.key_id,
            escape(key.name),
            key.scope,
            key.rate or "-",
            str(key.concurrency or "-"),
            _minute(key.created_at),
            "never" if key.last_used_at is None else _minute(key.last_used_at),
            "in use" if key.revoked_at is None else f"revoked {_minute(key.revoked_at)}",
        )
    Console().print(table)


@app.command()
def revoke(
    key: Annotated[str, typer.Argument(help="The key's id, or its name.")],
    *,
    data_dir: DataDir = None,
    catalogue_url: CatalogueUrl = None,
    as_json: AsJson = False,
) -> None:
    """Put a key out of use; services that run refuse it within a second."""
    with _store(data_dir, catalogue_url) as store:
        revoked = store.revoke(key)
    if as_json:
        typer.echo(json.dumps(_record(revoked)))
    else:
        typer.echo(f"revoked the key {revoked.key_id} of {revoked.name!r}")


@contextmanager
def _store(data_dir: "Path | None", catalogue_url: str | None) -> "Iterator[ApiKeyStore]":
    from index.api_keys import ApiKeyStore  # noqa: PLC0415
    from index.errors import LibraryError  # noqa: PLC0415

    settings = settings_of({"data_dir": data_dir, "catalogue_url": catalogue_url})
    try:
        store = ApiKeyStore.open(settings.library_dir, catalogue_url=settings.catalogue_url)
        try:
            yield store
        finally:
            store.close()
    except LibraryError as error:
        fail(str(error))


def _record(key: "ApiKey") -> dict[str, Any]:
    return {
        "key_id": key.key_id,
        "name": key.name,
        "scope": key.scope,
        "rate": key.rate,
        "concurrency": key.concurrency,
        "created_at": key.created_at.isoformat(),
        "last_used_at": key.last_used_at and key.last_used_at.isoformat(),
        "revoked_at": key.revoked_at and key.revoked_at.isoformat(),
    }


def _minute(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d %H:%M")

"""What the commands have in common: settings from options, and errors told in one line."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NoReturn

import typer

if TYPE_CHECKING:
    from service.settings import Settings


def settings_of(options: Mapping[str, Any]) -> "Settings":
    """Return the settings; where an option is None, the environment's. Exit if they are bad."""
    from service.settings import SettingsError, load_settings  # noqa: PLC0415

    try:
        return load_settings({name: value for name, value in options.items() if value is not None})
    except SettingsError as error:
        fail(str(error))


def fail(message: str) -> NoReturn:
    """Print an error and exit with 1."""
    typer.echo(f"avgzsl: {message}", err=True)
    raise typer.Exit(1)

"""The client that a command uses: of a service that runs, or of the library itself, opened for it.

Nothing heavy is imported at the top, as in `service.cli`.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from service.terminal import fail, settings_of, working

if TYPE_CHECKING:
    from service.client import Client

Url = Annotated[
    str | None,
    typer.Option(
        help="A service that runs; AVGZSL_URL by default. Without it the command opens the "
        "library itself, with the settings of `serve`."
    ),
]
DataDir = Annotated[
    Path | None,
    typer.Option(help="Folder of the library that is opened; AVGZSL_DATA_DIR by default."),
]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a command finds its clips and classes: what its options say."""

    url: str | None
    data_dir: Path | None

    @property
    def remote_url(self) -> str | None:
        """The service that is meant, None where a library is to be opened."""
        from service.settings import ClientSettings  # noqa: PLC0415

        # A folder that is named says which library is meant, whatever the environment says.
        return self.url or (None if self.data_dir else ClientSettings().url) or None


@contextmanager
def connected(place: Place) -> Iterator["Client"]:
    """Yield a client; tell what it raises in one line, and exit with 1."""
    from service.client import Client, ClientError  # noqa: PLC0415

    url = place.remote_url
    try:
        with ExitStack() as stack:
            client = Client(url) if url else _opened(place.data_dir)
            yield stack.enter_context(client)
    except (ClientError, OSError) as error:
        fail(str(error))


def _opened(data_dir: Path | None) -> "Client":
    """Load the model and open the library in this process."""
    from index.errors import LibraryError, LibraryLocked  # noqa: PLC0415
    from model.errors import ModelError  # noqa: PLC0415
    from service.app import create_app  # noqa: PLC0415
    from service.client import Client  # noqa: PLC0415

    # Whoever may open the folder may do everything: keys and limits are for those who ask by HTTP.
    open_to_all = {"require_api_keys": False, "rate_limit": "", "concurrency_limit": ""}
    settings = settings_of({"data_dir": data_dir, "allowed_hosts": "*", **open_to_all})
    try:
        with working("Loading the model and opening the library ..."):
            return Client(app=create_app(settings))
    except LibraryLocked as error:
        fail(f"{error} To use the service that runs there, give its address with --url.")
    except (LibraryError, ModelError) as error:
        fail(str(error))

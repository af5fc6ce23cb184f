"""The command line, `avgzsl`.

Nothing heavy is imported at the top: `avgzsl --help` should answer at once.
"""

import gc
import os
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from service import (
    class_commands,
    classify_command,
    clip_commands,
    index_command,
    job_commands,
    key_commands,
    library_commands,
    model_commands,
    search_command,
)
from service.terminal import fail, settings_of
from service.version import package_version

if TYPE_CHECKING:
    from service.settings import Settings

app = typer.Typer(
    name="avgzsl",
    help="Zero-shot audio-video classification and retrieval.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"avgzsl {package_version()}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """Zero-shot audio-video classification and retrieval."""


@app.command()
def serve(
    *,
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on.")] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Folder of the library.")] = None,
    model: Annotated[str | None, typer.Option(help="`bundled` or a checkpoint's folder.")] = None,
    head: Annotated[str | None, typer.Option(help="avgzslnet (trained) or frozen.")] = None,
    audio_backbone: Annotated[str | None, typer.Option(help="clap, clap:FOLDER, ...")] = None,
    video_backbone: Annotated[str | None, typer.Option(help="clip, clip:FOLDER, ...")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda, ...")] = None,
    log_format: Annotated[str | None, typer.Option(help="text or json.")] = None,
    ray: Annotated[
        bool,
        typer.Option("--ray", help="On a Ray cluster: RAY_ADDRESS, or this machine as one."),
    ] = False,
) -> None:
    """Serve the HTTP API. Options come before the environment variables AVGZSL_*."""
    options = {
        "host": host,
        "port": port,
        "data_dir": data_dir,
        "model": model,
        "head": head,
        "audio_backbone": audio_backbone,
        "video_backbone": video_backbone,
        "device": device,
        "log_format": log_format,
    }
    settings = settings_of(options)
    if ray:
        _serve_on_ray(settings)
        return
    with listening_socket(settings) as listener:
        _serve(settings, listener)


def _serve_on_ray(settings: "Settings") -> None:
    from service.logs import configure_logging  # noqa: PLC0415
    from service.server import ServerFailed  # noqa: PLC0415
    from service.settings import SettingsError  # noqa: PLC0415

    configure_logging(settings.log_format, settings.log_level)
    try:
        from service.ray_server import run_on_ray  # noqa: PLC0415

        run_on_ray(settings, on_ready=lambda: _greet(settings, settings.host, settings.port))
    except ImportError as error:
        fail(f"--ray needs Ray ({error}); install it with `pip install 'avgzsl[ray]'`.")
    except (ServerFailed, SettingsError) as error:
        fail(str(error))


def _serve(settings: "Settings", listener: socket.socket) -> None:
    # What the start makes, a million objects of modules above all, stays: looking through it for
    # garbage takes a fifth of the start, and later a third of a second of some requests.
    gc.disable()
    from service.logs import configure_logging  # noqa: PLC0415
    from service.server import ServerFailed, run_server  # noqa: PLC0415

    def on_ready() -> None:
        gc.freeze()
        gc.enable()
        _greet(settings, *listener.getsockname()[:2])

    configure_logging(settings.log_format, settings.log_level)
    try:
        run_server(settings, listener, on_ready=on_ready)
    except ServerFailed as error:
        try:
            fail(str(error))
        finally:
            # A device that hangs would keep the interpreter from ending.
            sys.stdout.flush()
            os._exit(1)


def _greet(settings: "Settings", host: str, port: int) -> None:
    from service.server import exposure_warning  # noqa: PLC0415

    greet(host, port)
    # The log has it too, but above all that the start has written since.
    if (warning := exposure_warning(settings)) is not None:
        typer.secho(f"Warning: {warning}\n", fg=typer.colors.YELLOW)


def listening_socket(settings: "Settings") -> socket.socket:
    """Bind before the model is loaded: a port that is taken should be told at once."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    # Said to be TCP, for only then does asyncio turn Nagle's algorithm off: an answer in two parts
    # would otherwise wait 40 ms for the client to acknowledge the first.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.host, settings.port))
    except OSError as error:
        listener.close()
        fail(
            f"cannot listen on {settings.host}:{settings.port}: {error.strerror or error}; "
            "choose another with --port or AVGZSL_PORT"
        )
    return listener


def greet(host: str, port: int) -> None:
    """Print where the service is and what to try first."""
    name = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
    url = f"http://{name}:{port}"
    typer.echo(
        f"""
Ready at {url} (documentation: {url}/docs). Try:

  curl -F file=@samples/dog_bark.wav {url}/classify
  curl --json '{{"name": "kettle whistling"}}' {url}/classes
  curl --json '{{"query": "a dog barking"}}' {url}/retrieve
"""
    )


app.command()(classify_command.classify)
app.command()(index_command.index)
app.command()(search_command.search)
app.add_typer(class_commands.app, name="classes")
app.add_typer(clip_commands.app, name="clips")
app.add_typer(job_commands.app, name="jobs")
app.add_typer(model_commands.app, name="model")
app.command()(model_commands.embed)
for handed_over in (model_commands.train, model_commands.evaluate):
    app.command(context_settings=model_commands.HANDED_OVER)(handed_over)
app.add_typer(key_commands.app, name="keys")
app.add_typer(library_commands.app, name="library")

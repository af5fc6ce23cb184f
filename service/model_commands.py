"""`avgzsl model`, `embed`, `train` and `evaluate`: the model shown, used for vectors, made anew.

Training and evaluation have arguments of their own; they are handed over as they are.
"""

import time
from typing import TYPE_CHECKING, Annotated

import typer

from service.classify_command import Modality, UsedModality, for_each_file
from service.connection import DataDir, Place, Url, connected
from service.library_commands import AsJson
from service.terminal import bars, fail, misused, new_table, print_json, show

if TYPE_CHECKING:
    from service import schemas
    from service.client import Client

POLL_SECONDS = 0.5

HANDED_OVER = {
    "allow_extra_args": True,
    "ignore_unknown_options": True,
    "help_option_names": [],
}


app = typer.Typer(help="Show the model, or change it.", invoke_without_command=True)


@app.callback()
def model(
    context: typer.Context,
    *,
    url: Url = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Show which model answers and how much it knows; or change it, by one of the commands."""
    if context.invoked_subcommand is not None:
        if url is not None or data_dir is not None or as_json:
            misused(
                f"options go behind the command: avgzsl model {context.invoked_subcommand} ... "
                "--url URL"
            )
        return
    with connected(Place(url, data_dir)) as client:
        info = client.get_model()
    if as_json:
        print_json(info)
    else:
        _show_model(info)


@app.command()
def swap(
    model: Annotated[
        str, typer.Argument(help="`bundled`, or a checkpoint's folder on the service's machine.")
    ],
    *,
    accept_failures: Annotated[
        bool, typer.Option(help="Change even if most clips cannot be embedded.")
    ] = False,
    wait: Annotated[bool, typer.Option(help="Return when it has ended.")] = True,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Let another model answer, while the service runs; until it is ready, the former one does.

    Interrupted while it waits, the change goes on; `avgzsl model cancel` gives it up.
    """
    with connected(Place(url, None)) as client:
        change = client.swap_model(model, accept_failures=accept_failures)
        if wait:
            change = _waited_for(client, change, as_json)
    if as_json:
        print_json(change)
    elif change.error is None:
        typer.echo(f"{change.model}: {change.state}")
    if change.error is not None:
        fail(f"{change.error.detail} The former model answers.")
    if wait and change.state != "done":
        raise typer.Exit(1)


@app.command()
def cancel(*, url: Url = None) -> None:
    """Give a change of model up that is under way."""
    with connected(Place(url, None)) as client:
        client.cancel_model_swap()
    typer.echo("it is being given up; the former model answers")


def _waited_for(
    client: "Client", change: "schemas.ModelSwap", as_json: bool
) -> "schemas.ModelSwap":
    with bars(as_json) as progress:
        while change.finished_at is None:
            time.sleep(POLL_SECONDS)
            info = client.get_model()
            assert info.swap is not None, "it was begun"
            change = info.swap
            if info.reindex is not None:
                done = info.reindex.done + info.reindex.failed
                progress("Embedding clips", done, info.reindex.clips)
    return change


def _show_model(info: "schemas.ModelInfo") -> None:
    from rich.markup import escape  # noqa: PLC0415

    table = new_table("part", "value")
    hidden = {"indexes", "reindex", "swap", "vectors"}
    for part, value in info.model_dump(mode="json", exclude=hidden).items():
        table.add_row(part, escape(str(value)))
    for name, index in info.indexes.items():
        described = f"{info.vectors.get(name, 0)} vectors, {index.kind}, recall {index.recall:.3f}"
        table.add_row(f"index {name}", described + (", training" if index.training else ""))
    if info.swap is not None:
        reason = "" if info.swap.error is None else f": {info.swap.error.detail}"
        table.add_row("change of model", escape(f"{info.swap.model}, {info.swap.state}{reason}"))
    if info.reindex is not None:
        done = f"{info.reindex.done} of {info.reindex.clips} clips, {info.reindex.failed} failed"
        table.add_row(f"to come: {info.reindex.model_id}", done)
    show(table)


def embed(
    files: Annotated[
        list[str] | None, typer.Argument(help="Videos or sounds; - is the standard input.")
    ] = None,
    *,
    text: Annotated[
        list[str] | None, typer.Option(help="Words instead of files; repeat it for each.")
    ] = None,
    modality: Modality = UsedModality.AUTO,
    url: Url = None,
    data_dir: DataDir = None,
) -> None:
    """Print the vectors of files or of texts, for a store of your own: a line of JSON for each."""
    if bool(files) == bool(text):
        misused("give FILES or --text WORDS: one of them")
    with connected(Place(url, data_dir)) as client:
        if text:
            print_json(client.embed_texts(text), texts=text)
            return
        for_each_file(
            files or [],
            lambda file, name: client.embed_file(file, modality=modality.value, filename=name),
        )


def train(context: typer.Context) -> None:
    """Train AVGZSLNet on a feature set or a folder of clips; --help shows its options."""
    from model.train import main  # noqa: PLC0415

    raise typer.Exit(main(context.args))


def evaluate(context: typer.Context) -> None:
    """Measure a trained model on a feature set; --help shows its options."""
    from model.evaluate import main  # noqa: PLC0415

    raise typer.Exit(main(context.args))

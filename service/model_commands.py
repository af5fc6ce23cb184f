"""`avgzsl model`, `embed`, `train` and `evaluate`: the model shown, used for vectors, made anew.

Training and evaluation have arguments of their own; they are handed over as they are.
"""

from typing import TYPE_CHECKING, Annotated

import typer

from service.classify_command import Modality, UsedModality, for_each_file
from service.connection import DataDir, Place, Url, connected
from service.library_commands import AsJson
from service.terminal import misused, new_table, print_json, show

if TYPE_CHECKING:
    pass

HANDED_OVER = {
    "allow_extra_args": True,
    "ignore_unknown_options": True,
    "help_option_names": [],
}


def model(*, url: Url = None, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Show which model answers and how much it knows."""
    from rich.markup import escape  # noqa: PLC0415

    with connected(Place(url, data_dir)) as client:
        info = client.get_model()
    if as_json:
        print_json(info)
        return
    table = new_table("part", "value")
    for part, value in info.model_dump(mode="json", exclude={"indexes", "reindex"}).items():
        if part == "vectors":
            continue
        table.add_row(part, escape(str(value)))
    for name, index in info.indexes.items():
        described = f"{info.vectors.get(name, 0)} vectors, {index.kind}, recall {index.recall:.3f}"
        table.add_row(f"index {name}", described + (", training" if index.training else ""))
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

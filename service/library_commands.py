"""`avgzsl library ...`: a library verified, repaired, exported and restored without its model, and
given another one.

Nothing heavy is imported at the top, as in `service.cli`.
"""

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from service.terminal import bars, fail, settings_of

if TYPE_CHECKING:
    from index.progress import Progress
    from index.reindexing import ReindexSummary
    from index.verification import Finding
    from service.settings import Settings

app = typer.Typer(
    help="Verify, repair, export and restore the library, or change its model.",
    no_args_is_help=True,
)

SHOWN_FINDINGS = 50

DataDir = Annotated[
    Path | None, typer.Option(help="Folder of the library; AVGZSL_DATA_DIR by default.")
]
CatalogueUrl = Annotated[
    str | None,
    typer.Option(help="SQLAlchemy URL of the catalogue; AVGZSL_CATALOGUE_URL by default."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, and no progress.")]
AllowMissing = Annotated[
    bool, typer.Option(help="Go on where files of clips are missing or damaged, without them.")
]


@app.command()
def verify(
    *,
    data_dir: DataDir = None,
    catalogue_url: CatalogueUrl = None,
    as_json: AsJson = False,
) -> None:
    """Look for what is wrong, and change nothing; exit 1 if anything is. The service may run."""
    from index.verification import verify_library  # noqa: PLC0415

    settings = settings_of({"data_dir": data_dir, "catalogue_url": catalogue_url})
    with _refusals(), bars(as_json) as progress:
        found = verify_library(
            settings.library_dir,
            catalogue_url=settings.catalogue_url,
            media_url=settings.media_url,
            vector_store=settings.vector_store,
            progress=progress,
        )
    if as_json:
        _print_json(found)
    else:
        typer.echo(
            f"{found.clips} clips, {found.segments} windows, {found.classes} classes, "
            f"{found.files} files, by the model {found.model_id}"
        )
        _print_skipped(found.skipped)
        _print_findings("wrong", found.findings)
        if not found.findings:
            typer.echo("nothing is wrong")
    raise typer.Exit(1 if found.findings else 0)


@app.command()
def repair(
    *,
    data_dir: DataDir = None,
    catalogue_url: CatalogueUrl = None,
    forget_missing: Annotated[
        bool, typer.Option(help="Remove the clips whose media file is missing.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Mend what can be without loss; exit 1 if something is left. The service must not run."""
    from index.repair import repair_library  # noqa: PLC0415

    settings = settings_of({"data_dir": data_dir, "catalogue_url": catalogue_url})
    with _refusals(), bars(as_json) as progress:
        done = repair_library(
            settings.library_dir,
            catalogue_url=settings.catalogue_url,
            media_url=settings.media_url,
            vector_store=settings.vector_store,
            forget_missing=forget_missing,
            progress=progress,
        )
    if as_json:
        _print_json(done)
    else:
        _print_skipped(done.skipped)
        _print_findings("mended", done.mended)
        _print_findings("left", done.left)
        if not done.mended and not done.left:
            typer.echo("nothing was wrong")
    raise typer.Exit(1 if done.left else 0)


@app.command("export")
def export_(
    archive: Annotated[Path, typer.Argument(help="The file to write, a tar.")],
    *,
    data_dir: DataDir = None,
    catalogue_url: CatalogueUrl = None,
    force: Annotated[bool, typer.Option(help="Overwrite the file if it exists.")] = False,
    allow_missing: AllowMissing = False,
    as_json: AsJson = False,
) -> None:
    """Write the whole library, media included, to one file. The service may run."""
    from index.backup import export_library  # noqa: PLC0415

    settings = settings_of({"data_dir": data_dir, "catalogue_url": catalogue_url})
    with _refusals(), bars(as_json) as progress:
        summary = export_library(
            settings.library_dir,
            archive,
            catalogue_url=settings.catalogue_url,
            media_url=settings.media_url,
            overwrite=force,
            allow_missing=allow_missing,
            progress=progress,
        )
    _report_backup(f"wrote {archive}", summary, as_json)


@app.command("import")
def import_(
    archive: Annotated[Path, typer.Argument(help="A file that `library export` wrote.")],
    *,
    data_dir: DataDir = None,
    catalogue_url: CatalogueUrl = None,
    allow_missing: AllowMissing = False,
    as_json: AsJson = False,
) -> None:
    """Restore an archive into an empty library, behind any catalogue. The service must not run."""
    from index.backup import import_library  # noqa: PLC0415

    settings = settings_of({"data_dir": data_dir, "catalogue_url": catalogue_url})
    with _refusals(), bars(as_json) as progress:
        summary = import_library(
            archive,
            settings.library_dir,
            catalogue_url=settings.catalogue_url,
            media_url=settings.media_url,
            allow_missing=allow_missing,
            progress=progress,
        )
    _report_backup(f"restored into {settings.library_dir}", summary, as_json)


@app.command()
def reindex(
    *,
    data_dir: DataDir = None,
    catalogue_url: CatalogueUrl = None,
    model: Annotated[str | None, typer.Option(help="`bundled` or a checkpoint's folder.")] = None,
    head: Annotated[str | None, typer.Option(help="avgzslnet (trained) or frozen.")] = None,
    audio_backbone: Annotated[str | None, typer.Option(help="clap, clap:FOLDER, ...")] = None,
    video_backbone: Annotated[str | None, typer.Option(help="clip, clip:FOLDER, ...")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda, ...")] = None,
    accept_failures: Annotated[
        bool, typer.Option(help="Change the model even if most clips cannot be embedded.")
    ] = False,
    cancel: Annotated[
        bool, typer.Option("--cancel", help="Give up a change of model that was interrupted.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Embed all clips and classes anew by the model of the settings. The service must not run.

    The former model is not needed. Whatever interrupts it, the former model still serves, and the
    same command goes on where it was.
    """
    settings = settings_of(
        {
            "data_dir": data_dir,
            "catalogue_url": catalogue_url,
            "model": model,
            "head": head,
            "audio_backbone": audio_backbone,
            "video_backbone": video_backbone,
            "device": device,
        }
    )
    if cancel:
        _cancel_reindexing(settings, as_json)
        return
    try:
        with _refusals(), bars(as_json) as progress:
            summary = _reindexed(settings, progress, accept_failures=accept_failures)
    except KeyboardInterrupt:
        typer.echo(
            "avgzsl: interrupted; the former model is still in use, and the same command goes on "
            "from here",
            err=True,
        )
        raise typer.Exit(130) from None
    _report_reindexing(summary, as_json)


def _reindexed(
    settings: "Settings", progress: "Progress", *, accept_failures: bool
) -> "ReindexSummary":
    from index.reindexing import reindex_library  # noqa: PLC0415
    from model.errors import ModelError  # noqa: PLC0415
    from service.reindexing import EmbedderAsNewModel  # noqa: PLC0415
    from service.resources import open_pipeline  # noqa: PLC0415

    with ExitStack() as stack:
        try:
            pipeline = stack.enter_context(open_pipeline(settings))
        except ModelError as error:
            fail(str(error))
        return reindex_library(
            settings.library_dir,
            EmbedderAsNewModel(pipeline),
            catalogue_url=settings.catalogue_url,
            media_url=settings.media_url,
            progress=lambda now: progress("Embedding clips", now.done + now.failed, now.clips),
            threads=2 * settings.decode_workers,
            accept_failures=accept_failures,
        )


def _cancel_reindexing(settings: "Settings", as_json: bool) -> None:
    from index.reindexing import cancel_reindexing  # noqa: PLC0415

    with _refusals():
        cancelled = cancel_reindexing(settings.library_dir, catalogue_url=settings.catalogue_url)
    if as_json:
        typer.echo(json.dumps({"cancelled": cancelled}))
    elif cancelled:
        typer.echo("gave the change of model up; the former model is in use")
    else:
        typer.echo("no change of model was begun")


def _report_reindexing(summary: "ReindexSummary", as_json: bool) -> None:
    if as_json:
        _print_json(summary)
        return
    if summary.former_model_id == summary.model_id:
        typer.echo(f"the library is of the model {summary.model_id} already")
        return
    typer.echo(
        f"embedded {summary.clips} clips and {summary.classes} own classes by the model "
        f"{summary.model_id}, which takes the place of {summary.former_model_id}"
    )
    for failure in summary.failures[:SHOWN_FINDINGS]:
        typer.echo(f"left out: clip {failure.clip_id} {failure.filename}: {failure.reason}")
    if len(summary.failures) > SHOWN_FINDINGS:
        typer.echo(f"... and {len(summary.failures) - SHOWN_FINDINGS} more; --json prints all")


@contextmanager
def _refusals() -> Iterator[None]:
    """Tell an error that was raised on purpose in one line."""
    from index.errors import LibraryError  # noqa: PLC0415

    try:
        yield
    except (LibraryError, ImportError) as error:
        fail(str(error))


def _report_backup(done: str, summary: Any, as_json: bool) -> None:
    if as_json:
        _print_json(summary)
        return
    typer.echo(
        f"{done}: {summary.clips} clips, {summary.segments} windows, {summary.classes} classes, "
        f"{summary.files} files, by the model {summary.model_id}; {summary.size_bytes:,} bytes"
    )
    if summary.missing:
        typer.echo(f"without {len(summary.missing)} files that are missing or damaged", err=True)


def _print_json(record: Any) -> None:
    from dataclasses import asdict  # noqa: PLC0415

    typer.echo(json.dumps(asdict(record)))


def _print_findings(heading: str, findings: "tuple[Finding, ...]") -> None:
    for finding in findings[:SHOWN_FINDINGS]:
        typer.echo(f"{heading}: {finding.kind} {finding.subject}: {finding.detail}")
    if len(findings) > SHOWN_FINDINGS:
        typer.echo(f"... and {len(findings) - SHOWN_FINDINGS} more; --json prints all")


def _print_skipped(skipped: tuple[str, ...]) -> None:
    for reason in skipped:
        typer.echo(reason, err=True)

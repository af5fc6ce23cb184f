"""`avgzsl jobs`: work that the service does later, begun, listed, followed and stopped."""

import time
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from index.job_types import UNFINISHED, JobState
from service.connection import DataDir, Place, Url, connected
from service.library_commands import AsJson
from service.terminal import complain, fail, file_progress, new_table, print_json, show

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from rich.progress import Progress, TaskID

    from service import schemas
    from service.client import Client

POLL_SECONDS = 0.5
PAGE = 1000

app = typer.Typer(
    help="Import folders of the server; list, follow, cancel and retry what is done later.",
    no_args_is_help=True,
)


JobId = Annotated[str, typer.Argument(metavar="ID", help="A job's id.")]
JobIds = Annotated[list[str], typer.Argument(metavar="ID", help="Ids of jobs.")]
OnlyState = Annotated[JobState | None, typer.Option("--state", help="Only those in this state.")]
Limit = Annotated[int, typer.Option(help="How many at most.")]
Offset = Annotated[int, typer.Option(help="How many to pass over.")]
Follow = Annotated[bool, typer.Option("--follow", help="Follow it to its end, as `follow` does.")]


@app.command("list")
def list_(
    *,
    state: OnlyState = None,
    limit: Limit = 100,
    offset: Offset = 0,
    url: Url = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """List jobs, newest first. --json prints a line for each."""
    from rich.markup import escape  # noqa: PLC0415

    with connected(Place(url, data_dir)) as client:
        page = client.list_jobs(state=state, offset=offset, limit=limit)
    if as_json:
        for job in page.items:
            print_json(job)
        return
    table = new_table("job", "kind", "state", "files", "created", "id")
    for job in page.items:
        created = job.created_at.strftime("%Y-%m-%d %H:%M")
        table.add_row(escape(job.name), job.kind, job.state, _files(job), created, job.job_id)
    show(table)
    _tell_of_more(len(page.items), offset, page.total)


@app.command("show")
def show_(
    job_id: JobId, *, url: Url = None, data_dir: DataDir = None, as_json: AsJson = False
) -> None:
    """Show how far a job is, and what came of it."""
    with connected(Place(url, data_dir)) as client:
        job = client.get_job(job_id)
    if as_json:
        print_json(job)
    else:
        _show(job)


@app.command()
def items(
    job_id: JobId,
    *,
    state: OnlyState = None,
    limit: Limit = 100,
    offset: Offset = 0,
    url: Url = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """List a job's files, and what became of each. --json prints a line for each."""
    from rich.markup import escape  # noqa: PLC0415

    with connected(Place(url, data_dir)) as client:
        page = client.list_job_items(job_id, state=state, offset=offset, limit=limit)
    if as_json:
        for item in page.items:
            print_json(item)
        return
    table = new_table("file", "state", "what became of it")
    for item in page.items:
        table.add_row(escape(item.name), item.state, escape(_outcome(item)))
    show(table)
    _tell_of_more(len(page.items), offset, page.total)


@app.command()
def follow(
    job_id: JobId, *, url: Url = None, data_dir: DataDir = None, as_json: AsJson = False
) -> None:
    """Follow a job to its end: a bar, each file that fails, and what came of it.

    --json prints the job as a line with each change. Exit 1 if anything failed or it was cancelled.
    """
    with connected(Place(url, data_dir)) as client:
        _follow(client, job_id, as_json=as_json)


@app.command()
def cancel(job_ids: JobIds, *, url: Url = None, data_dir: DataDir = None) -> None:
    """Cancel jobs that have not ended. Clips that they stored stay."""
    with connected(Place(url, data_dir)) as client:
        for job_id in job_ids:
            job = client.get_job(job_id)
            # What cancels a job removes it once it has ended.
            if job.state not in UNFINISHED:
                fail(f"the job {job_id} has ended: it is {job.state}; `avgzsl jobs rm` removes it")
            client.remove_job(job_id)
            typer.echo(f"cancelled {job_id}", err=True)


@app.command()
def rm(job_ids: JobIds, *, url: Url = None, data_dir: DataDir = None) -> None:
    """Remove jobs that have ended from the list. Clips that they stored stay."""
    with connected(Place(url, data_dir)) as client:
        for job_id in job_ids:
            job = client.get_job(job_id)
            if job.state in UNFINISHED:
                fail(f"the job {job_id} is {job.state}; `avgzsl jobs cancel` stops it first")
            client.remove_job(job_id)
            typer.echo(f"removed {job_id}", err=True)


@app.command()
def retry(
    job_id: JobId,
    *,
    follow: Follow = False,
    url: Url = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Queue a job's failed files again; the others stay as they are."""
    with connected(Place(url, data_dir)) as client:
        job = client.retry_job(job_id)
        if follow:
            _follow(client, job_id, as_json=as_json)
        elif as_json:
            print_json(job)
        else:
            typer.echo(f"queued again {job_id}")


@app.command("import")
def import_(
    folder: Annotated[
        str, typer.Argument(metavar="FOLDER", help="Its whole path on the server's machine.")
    ],
    *,
    tag: Annotated[
        list[str] | None, typer.Option(help="A tag for what is stored; repeat it for more.")
    ] = None,
    recursive: Annotated[
        bool, typer.Option("--recursive/--flat", help="Also what is in the folders below it.")
    ] = True,
    if_duplicate: Annotated[
        Literal["skip", "store"],
        typer.Option(help="What to do with a file whose bytes are stored already."),
    ] = "skip",
    follow: Follow = False,
    url: Url = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Have the server store the media files of one of its folders, below AVGZSL_IMPORT_ROOTS.

    Prints the job's id. To send files from this machine, use `avgzsl index`.
    """
    with connected(Place(url, data_dir)) as client:
        accepted = client.begin_import(
            folder, tags=tag or [], recursive=recursive, if_duplicate=if_duplicate
        )
        if follow:
            _follow(client, accepted.job_id, as_json=as_json)
        elif as_json:
            print_json(accepted)
        else:
            typer.echo(accepted.job_id)


def _follow(client: "Client", job_id: str, *, as_json: bool) -> None:
    from service.client import ServiceUnreachable  # noqa: PLC0415

    comes_back = f"the job stays, and `avgzsl jobs follow {job_id}` comes back to it"
    try:
        if as_json:
            for job in _changes(client, job_id):
                print_json(job)
        else:
            job = _drawn(client, job_id)
            _show(job)
    except ServiceUnreachable as error:
        fail(f"{error} Meanwhile {comes_back}.")
    except KeyboardInterrupt:
        complain(f"interrupted; {comes_back}")
        raise typer.Exit(130) from None
    if job.counts.failed or job.state != "done":
        raise typer.Exit(1)


def _drawn(client: "Client", job_id: str) -> "schemas.Job":
    """Draw a job's progress to its end; print each file that fails as a line."""
    told: set[str] = set()
    with file_progress(hidden=False) as progress:
        task = progress.add_task("Waiting", total=None)
        for job in _changes(client, job_id):
            _draw(job, progress, task)
            if job.counts.failed > len(told):
                _tell_failures(_failures(client, job_id), told, progress)
    return job


def _changes(client: "Client", job_id: str) -> "Iterator[schemas.Job]":
    """Yield a job as it is, and again with each change, until it has ended.

    By asking again and again: a stream of events would not come through to a library that is
    opened in this process, and would have to be taken up again after a restart of the service.
    """
    revision = None
    while True:
        job = client.get_job(job_id)
        if job.revision != revision or job.state not in UNFINISHED:
            yield job
            revision = job.revision
        if job.state not in UNFINISHED:
            return
        time.sleep(POLL_SECONDS)


def _draw(job: "schemas.Job", progress: "Progress", task: "TaskID") -> None:
    from rich.markup import escape  # noqa: PLC0415

    name = job.current[0].name if job.current else job.name
    counts = job.counts
    ended = counts.done + counts.failed + counts.cancelled
    progress.update(task, description=escape(name), total=counts.total or None, completed=ended)


def _failures(client: "Client", job_id: str) -> "Iterator[schemas.JobItem]":
    offset = 0
    while True:
        page = client.list_job_items(job_id, state="failed", offset=offset, limit=PAGE)
        yield from page.items
        offset += len(page.items)
        if not page.items or offset >= page.total:
            return


def _tell_failures(
    failures: "Iterable[schemas.JobItem]", told: set[str], progress: "Progress"
) -> None:
    from rich.text import Text  # noqa: PLC0415

    for item in failures:
        if item.name not in told:
            told.add(item.name)
            line = Text.assemble(("failed", "red"), f" {item.name}: {_outcome(item)}")
            # Above the bar; a line of a pipe must not be folded.
            progress.console.print(line, soft_wrap=True)


def _show(job: "schemas.Job") -> None:
    from service.classify_command import print_answer  # noqa: PLC0415

    typer.echo(f"{job.name}: {job.state}, {_files(job)}")
    for item in job.current:
        declared = "" if item.declared_seconds is None else f" of {item.declared_seconds:.0f}"
        typer.echo(f"at work on {item.name}: {item.decoded_seconds:.0f}{declared} s decoded")
    if job.error is not None:
        typer.echo(job.error.detail)
    if job.result is not None:
        print_answer(job.name, job.result, with_name=False)


def _files(job: "schemas.Job") -> str:
    counts = job.counts
    parts = [f"{counts.done} of {counts.total} done"]
    for count, what in (
        (counts.failed, "failed"),
        (counts.cancelled, "cancelled"),
        (counts.skipped, "no media"),
    ):
        if count:
            parts.append(f"{count} {what}")
    return ", ".join(parts)


def _outcome(item: "schemas.JobItem") -> str:
    if item.error is not None:
        return item.error.detail
    if item.duplicate_of is not None:
        return f"stored already as {item.duplicate_of}"
    if item.clip_id is not None:
        return f"stored as {item.clip_id}"
    return ""


def _tell_of_more(shown: int, offset: int, total: int) -> None:
    if total > offset + shown:
        typer.echo(f"{shown} of {total}; --offset {offset + shown} shows more", err=True)

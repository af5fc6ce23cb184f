"""The endpoints of the service: for each a function that builds its call.

Arguments are named as the fields of the HTTP API, and are checked by the service alone, so that
there is one place that says what is wrong with them. Every method may raise `ClientError`.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, BinaryIO, Literal, TypedDict, TypeVar
from urllib.parse import quote

from service import schemas
from service.client.calls import Call, Endpoint, FormValue, answered_by, compact_json, nothing
from service.client.uploads import FileInput, Upload

AnswerT = TypeVar("AnswerT", bound=schemas.Answer)

ClassifiedBy = Literal["auto", "audio", "video"]
SearchedBy = Literal["both", "audio", "video"]
IfDuplicate = Literal["store", "skip"]
JobState = Literal["queued", "running", "done", "failed", "cancelled"]


ClipFilter = TypedDict(
    "ClipFilter",
    {
        "tags": Sequence[str],
        "class": str,
        "modality": Literal["audio", "video"],
        "created_after": datetime | str,
        "created_before": datetime | str,
        "clip_ids": Sequence[str],
    },
    total=False,
)
"""What a clip found must meet; an absent key restricts nothing."""


def classify(
    file: FileInput,
    *,
    candidate_labels: Sequence[str] = (),
    top_k: int = 5,
    modality: ClassifiedBy = "auto",
    windows: bool = False,
    filename: str | None = None,
) -> Call[schemas.Classification]:
    """Rank all enabled classes, or the candidate labels, by how well they fit a file."""
    form = _form(candidate_labels=candidate_labels, top_k=top_k, modality=modality, windows=windows)
    return _post_file("/classify", Upload(file, filename), form, schemas.Classification)


def retrieve(
    query: str | None = None,
    *,
    clip_id: str | None = None,
    minus: Sequence[str] = (),
    top_k: int = 5,
    modality: SearchedBy = "both",
    query_modality: SearchedBy | None = None,
    filter: ClipFilter | None = None,
) -> Call[schemas.Results]:
    """Find stored clips by words or by a stored clip; exactly one of the two."""
    body = _given(
        query=query,
        clip_id=clip_id,
        minus=list(minus),
        top_k=top_k,
        modality=modality,
        query_modality=query_modality,
        filter=filter,
    )
    return Call(method="POST", path="/retrieve", json=body, read=answered_by(schemas.Results))


def retrieve_by_file(
    file: FileInput,
    *,
    minus: Sequence[str] = (),
    top_k: int = 5,
    modality: SearchedBy = "both",
    query_modality: SearchedBy | None = None,
    filter: ClipFilter | None = None,
    filename: str | None = None,
) -> Call[schemas.Results]:
    """Find stored clips that are like a file, which is not stored."""
    form = _form(
        minus=minus,
        top_k=top_k,
        modality=modality,
        query_modality=query_modality,
        filter=None if filter is None else compact_json(filter),
    )
    return _post_file("/retrieve/by-file", Upload(file, filename), form, schemas.Results)


def add_class(
    name: str, *, synonyms: Sequence[str] = (), description: str = ""
) -> Call[schemas.Class]:
    """Add a class, without any training; the next answer may name it."""
    body = {"name": name, "synonyms": list(synonyms), "description": description}
    return Call(
        method="POST",
        path="/classes",
        json=body,
        read=answered_by(schemas.Class),
        repeatable=False,
    )


def list_classes(
    *,
    query: str | None = None,
    seen: bool | None = None,
    offset: int = 0,
    limit: int = 100,
) -> Call[schemas.Classes]:
    """List classes in the order in which they were added, one page of them."""
    params = _form(query=query, seen=seen, offset=offset, limit=limit)
    return _get("/classes", schemas.Classes, params)


def get_class(class_id: str) -> Call[schemas.Class]:
    """Show one class."""
    return _get(_under("classes", class_id), schemas.Class)


def update_class(
    class_id: str,
    *,
    name: str | None = None,
    synonyms: Sequence[str] | None = None,
    description: str | None = None,
    enabled: bool | None = None,
) -> Call[schemas.Class]:
    """Change what is given of a class; None leaves it as it is."""
    body = _given(
        name=name,
        synonyms=None if synonyms is None else list(synonyms),
        description=description,
        enabled=enabled,
    )
    return _patch(_under("classes", class_id), body, schemas.Class)


def remove_class(class_id: str) -> Call[None]:
    """Remove a class; answers stop naming it at once."""
    return _delete(_under("classes", class_id))


def add_clip(
    file: FileInput,
    *,
    tags: Sequence[str] = (),
    source: str | None = None,
    if_duplicate: IfDuplicate = "store",
    filename: str | None = None,
) -> Call[schemas.Clip]:
    """Store a clip; the next search finds it.

    With `skip`, a file whose bytes are stored already is answered with the clip that is there.
    """
    form = _form(tags=tags, source=source, if_duplicate=if_duplicate)
    return _post_file(
        "/clips", Upload(file, filename), form, schemas.Clip, repeatable=if_duplicate == "skip"
    )


def list_clips(
    *,
    filter: ClipFilter | None = None,
    sha256: str | None = None,
    offset: int = 0,
    limit: int = 100,
) -> Call[schemas.Clips]:
    """List clips, newest first, one page of them; with `sha256` those of a file with this hash."""
    params = _form(**(filter or {}), sha256=sha256, offset=offset, limit=limit)
    return _get("/clips", schemas.Clips, params)


def get_clip(clip_id: str) -> Call[schemas.Clip]:
    """Show one clip."""
    return _get(_under("clips", clip_id), schemas.Clip)


def update_clip(
    clip_id: str,
    *,
    tags: Sequence[str] | None = None,
    filename: str | None = None,
    source: str | None = None,
) -> Call[schemas.Clip]:
    """Change what is given of a clip; None leaves it as it is, and tags replace all tags."""
    body = _given(tags=None if tags is None else list(tags), filename=filename, source=source)
    return _patch(_under("clips", clip_id), body, schemas.Clip)


def remove_clip(clip_id: str) -> Call[None]:
    """Remove a clip and its files; searches stop finding it at once."""
    return _delete(_under("clips", clip_id))


def get_media(clip_id: str, to: BinaryIO) -> Call[None]:
    """Write a clip's file, as it was uploaded, to a file object as it arrives."""
    path = _under("clips", clip_id, "media")
    # Of an attempt that broke off, a part has been written already.
    return Call(method="GET", path=path, read=nothing, sink=to, repeatable=False)


def get_thumbnail(clip_id: str) -> Call[bytes]:
    """Return a small picture of a clip, a JPEG."""
    return Call(method="GET", path=_under("clips", clip_id, "thumbnail"), read=bytes)


def get_waveform(clip_id: str, *, buckets: int = 1000) -> Call[schemas.Waveform]:
    """Return the lowest and highest samples of equal parts of a clip's sound, at most 4000."""
    params = _form(buckets=buckets)
    return _get(_under("clips", clip_id, "waveform"), schemas.Waveform, params)


def get_spectrogram(clip_id: str, *, width: int = 800, height: int = 128) -> Call[bytes]:
    """Return a picture of a clip's sound, a PNG of so many pixels."""
    path = _under("clips", clip_id, "spectrogram")
    return Call(method="GET", path=path, params=_form(width=width, height=height), read=bytes)


def begin_clip(
    file: FileInput,
    *,
    tags: Sequence[str] = (),
    source: str | None = None,
    if_duplicate: IfDuplicate = "store",
    filename: str | None = None,
) -> Call[schemas.JobAccepted]:
    """Have a clip stored later, which may be longer than one of `add_clip`."""
    form = _form(tags=tags, source=source, if_duplicate=if_duplicate)
    return _begin("/clips", Upload(file, filename), form)


def begin_classification(
    file: FileInput,
    *,
    candidate_labels: Sequence[str] = (),
    top_k: int = 5,
    modality: ClassifiedBy = "auto",
    windows: bool = False,
    filename: str | None = None,
) -> Call[schemas.JobAccepted]:
    """Have a file classified later, which may be longer than one of `classify`."""
    form = _form(
        candidate_labels=candidate_labels,
        top_k=top_k,
        modality=modality,
        windows=windows,
    )
    return _begin("/classify", Upload(file, filename), form)


def begin_import(
    path: str,
    *,
    tags: Sequence[str] = (),
    recursive: bool = True,
    if_duplicate: IfDuplicate = "store",
) -> Call[schemas.JobAccepted]:
    """Have the media files of a folder on the service's machine stored later."""
    body = {
        "path": path,
        "tags": list(tags),
        "recursive": recursive,
        "if_duplicate": if_duplicate,
    }
    read = answered_by(schemas.JobAccepted)
    return Call(method="POST", path="/jobs/import", json=body, read=read, repeatable=False)


def list_jobs(
    *, state: JobState | None = None, offset: int = 0, limit: int = 100
) -> Call[schemas.Jobs]:
    """List jobs, newest first, one page of them."""
    return _get("/jobs", schemas.Jobs, _form(state=state, offset=offset, limit=limit))


def get_job(job_id: str) -> Call[schemas.Job]:
    """Show how far a job is, and what came of it."""
    return _get(_under("jobs", job_id), schemas.Job)


def list_job_items(
    job_id: str, *, state: JobState | None = None, offset: int = 0, limit: int = 100
) -> Call[schemas.JobItems]:
    """List the files of a job, one page of them, and what became of each."""
    params = _form(state=state, offset=offset, limit=limit)
    return _get(_under("jobs", job_id, "items"), schemas.JobItems, params)


def wait_for_job(job_id: str) -> Call[schemas.Job]:
    """Wait until a job has ended, however long that takes, and return it."""
    return Call(method="GET", path=_under("jobs", job_id, "events"), read=_last_job)


def retry_job(job_id: str) -> Call[schemas.Job]:
    """Queue the failed files of a job again."""
    path = _under("jobs", job_id, "retry")
    return Call(method="POST", path=path, read=answered_by(schemas.Job), repeatable=False)


def remove_job(job_id: str) -> Call[None]:
    """Cancel a job that has not ended; remove one that has. Clips that it stored stay."""
    return _delete(_under("jobs", job_id))


def embed_file(
    file: FileInput, *, modality: ClassifiedBy = "auto", filename: str | None = None
) -> Call[schemas.ClipVectors]:
    """Return unit vectors of a file's sound and pictures, as a whole and for each window."""
    form = _form(modality=modality)
    return _post_file("/embed", Upload(file, filename), form, schemas.ClipVectors)


def embed_texts(texts: Sequence[str]) -> Call[schemas.TextVectors]:
    """Return a unit vector for each text, in the space of the clips' vectors."""
    body = {"texts": list(texts)}
    return Call(method="POST", path="/embed", json=body, read=answered_by(schemas.TextVectors))


def get_model() -> Call[schemas.ModelInfo]:
    """Show which model answers, and how many classes and clips there are."""
    return _get("/model", schemas.ModelInfo)


def swap_model(model: str, *, accept_failures: bool = False) -> Call[schemas.ModelSwap]:
    """Let another model answer, `bundled` or a folder of the service's machine.

    It goes on after the answer; `get_model` tells how far it is.
    """
    body = {"model": model, "accept_failures": accept_failures}
    return Call(
        method="POST",
        path="/model",
        json=body,
        read=answered_by(schemas.ModelSwap),
        repeatable=False,
    )


def cancel_model_swap() -> Call[None]:
    """Give the change to another model up that is under way."""
    return Call(method="DELETE", path="/model/swap", read=nothing)


def is_alive() -> Call[schemas.Health]:
    """Ask whether the process answers at all."""
    return Call(method="GET", path="/healthz", read=answered_by(schemas.Health), patient=False)


def is_ready() -> Call[schemas.Health]:
    """Ask whether the model answers. Raises Unavailable where it does not."""
    return Call(method="GET", path="/readyz", read=answered_by(schemas.Health), patient=False)


class Endpoints:
    """All endpoints, as methods of a client."""

    classify = Endpoint(classify)
    retrieve = Endpoint(retrieve)
    retrieve_by_file = Endpoint(retrieve_by_file)
    add_class = Endpoint(add_class)
    list_classes = Endpoint(list_classes)
    get_class = Endpoint(get_class)
    update_class = Endpoint(update_class)
    remove_class = Endpoint(remove_class)
    add_clip = Endpoint(add_clip)
    list_clips = Endpoint(list_clips)
    get_clip = Endpoint(get_clip)
    update_clip = Endpoint(update_clip)
    remove_clip = Endpoint(remove_clip)
    get_media = Endpoint(get_media)
    get_thumbnail = Endpoint(get_thumbnail)
    get_waveform = Endpoint(get_waveform)
    get_spectrogram = Endpoint(get_spectrogram)
    begin_clip = Endpoint(begin_clip)
    begin_classification = Endpoint(begin_classification)
    begin_import = Endpoint(begin_import)
    list_jobs = Endpoint(list_jobs)
    get_job = Endpoint(get_job)
    list_job_items = Endpoint(list_job_items)
    wait_for_job = Endpoint(wait_for_job)
    retry_job = Endpoint(retry_job)
    remove_job = Endpoint(remove_job)
    embed_file = Endpoint(embed_file)
    embed_texts = Endpoint(embed_texts)
    get_model = Endpoint(get_model)
    swap_model = Endpoint(swap_model)
    cancel_model_swap = Endpoint(cancel_model_swap)
    is_alive = Endpoint(is_alive)
    is_ready = Endpoint(is_ready)


def _last_job(body: bytes) -> schemas.Job:
    """Read the last event of a stream that has come to its end, which is the job."""
    last = body.replace(b"\r\n", b"\n").rpartition(b"event: job\n")[2]
    data = next((line for line in last.split(b"\n") if line.startswith(b"data: ")), b"")
    return schemas.Job.model_validate_json(data.removeprefix(b"data: "))


def _get(
    path: str, schema: type[AnswerT], params: Mapping[str, FormValue] | None = None
) -> Call[AnswerT]:
    return Call(method="GET", path=path, params=params or {}, read=answered_by(schema))


def _post_file(
    path: str,
    upload: Upload,
    form: Mapping[str, FormValue],
    schema: type[AnswerT],
    *,
    repeatable: bool = True,
) -> Call[AnswerT]:
    return Call(
        method="POST",
        path=path,
        form=form,
        upload=upload,
        read=answered_by(schema),
        repeatable=repeatable,
    )


def _begin(path: str, upload: Upload, form: Mapping[str, FormValue]) -> Call[schemas.JobAccepted]:
    # In the query, so that a service whose queue is full takes it in all the same.
    return Call(
        method="POST",
        path=path,
        params={"mode": "async"},
        form=form,
        upload=upload,
        read=answered_by(schemas.JobAccepted),
        repeatable=False,
    )


def _patch(path: str, body: Mapping[str, Any], schema: type[AnswerT]) -> Call[AnswerT]:
    return Call(method="PATCH", path=path, json=body, read=answered_by(schema))


def _delete(path: str) -> Call[None]:
    # Sent again after its answer was lost, it would say that nothing is there.
    return Call(method="DELETE", path=path, read=nothing, repeatable=False)


def _under(*parts: str) -> str:
    return "".join(f"/{quote(part, safe='')}" for part in parts)


def _given(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _form(**values: Any) -> dict[str, FormValue]:
    """Write values as a form or a query string does; None is left out."""
    return {name: _written(value) for name, value in _given(**values).items()}


def _written(value: Any) -> FormValue:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [str(part) for part in value]
    return str(value)

"""Every endpoint through both clients, in process and by HTTP, against the real application."""

import io
import os
import subprocess
import sys
import threading
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from index.api_keys import ApiKeyStore
from service import schemas
from service.app import create_app
from service.client import (
    Conflict,
    InvalidRequest,
    NotAuthenticated,
    NotFound,
    NotPermitted,
    ServiceUnreachable,
    TooLarge,
    UnsupportedMedia,
)
from service.client.calls import Endpoint
from service.client.endpoints import Endpoints
from service.keyring import new_key
from service.settings import Settings
from tests.service.client.conftest import opened, unique
from tests.service.conftest import MAX_UPLOAD_BYTES, make_app
from tests.service.media import mp4, wav


def test_it_classifies_a_path_bytes_a_file_and_a_pipe_alike(avgzsl: Any, tmp_path: Path) -> None:
    path = tmp_path / "tone.wav"
    path.write_bytes(wav())
    reader, writer = os.pipe()
    feeding = threading.Thread(target=lambda: _fill(writer, wav()))
    feeding.start()
    with path.open("rb") as file, os.fdopen(reader, "rb") as pipe:
        answers = [
            avgzsl.classify(source, candidate_labels=["a", "b"])
            for source in (path, str(path), wav(), io.BytesIO(wav()), file, pipe)
        ]
    feeding.join()

    assert all(isinstance(answer, schemas.Classification) for answer in answers)
    assert all(answer == answers[0] for answer in answers)
    assert {label.name for label in answers[0].labels} == {"a", "b"}


def _fill(descriptor: int, content: bytes) -> None:
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)


def test_it_sends_what_classify_is_asked(avgzsl: Any) -> None:
    answer = avgzsl.classify(mp4(), top_k=2, modality="audio", windows=True)

    assert len(answer.labels) == 2
    assert not answer.modalities.video.used
    assert answer.windows


def test_it_adds_changes_lists_and_removes_a_class(avgzsl: Any) -> None:
    name = f"kettle {unique()}"

    added = avgzsl.add_class(name, synonyms=["boiling"], description="It whistles.")

    assert avgzsl.get_class(added.class_id) == added
    assert avgzsl.list_classes(query=name, seen=False).items == [added]
    assert avgzsl.list_classes(query=name, seen=True).total == 0
    changed = avgzsl.update_class(added.class_id, synonyms=[], enabled=False)
    assert (changed.name, changed.synonyms, changed.enabled) == (name, [], False)
    assert avgzsl.remove_class(added.class_id) is None
    with pytest.raises(NotFound) as refused:
        avgzsl.get_class(added.class_id)
    assert refused.value.code == "class_not_found"


def test_it_stores_finds_changes_and_removes_a_clip(avgzsl: Any) -> None:
    mine, before = unique(), datetime.now(UTC)
    clip = avgzsl.add_clip(mp4(), tags=[mine, "x"], filename="beach.mp4")
    other = avgzsl.add_clip(wav(hertz=300.0), tags=[mine])

    assert clip.filename == "beach.mp4"
    assert avgzsl.get_clip(clip.clip_id) == clip
    ours = avgzsl.list_clips(filter={"tags": [mine], "created_after": before})
    assert ours.items == [other, clip]
    assert avgzsl.list_clips(filter={"tags": [mine]}, offset=1, limit=1).items == [clip]
    found = avgzsl.retrieve("the sea", filter={"tags": [mine, "x"]}, minus=["rain"])
    assert [result.clip_id for result in found.results] == [clip.clip_id]
    alike = avgzsl.retrieve(clip_id=clip.clip_id, modality="audio", filter={"tags": [mine]})
    assert [result.clip_id for result in alike.results] == [other.clip_id]
    by_file = avgzsl.retrieve_by_file(
        mp4(), top_k=1, filter={"tags": [mine], "created_after": before}
    )
    assert [result.clip_id for result in by_file.results] == [clip.clip_id]
    assert avgzsl.update_clip(clip.clip_id, tags=[]).tags == []
    assert avgzsl.update_clip(clip.clip_id, filename="sea.mp4").filename == "sea.mp4"
    assert avgzsl.remove_clip(clip.clip_id) is None
    with pytest.raises(NotFound, match=clip.clip_id):
        avgzsl.remove_clip(clip.clip_id)


def test_it_fetches_media_and_thumbnail(avgzsl: Any, tmp_path: Path) -> None:
    clip = avgzsl.add_clip(mp4())
    with (tmp_path / "copy.mp4").open("wb") as copy:
        avgzsl.get_media(clip.clip_id, copy)

    assert (tmp_path / "copy.mp4").read_bytes() == mp4()
    assert avgzsl.get_thumbnail(clip.clip_id).startswith(b"\xff\xd8")
    waveform = avgzsl.get_waveform(clip.clip_id, buckets=10)
    assert len(waveform.lowest) == len(waveform.highest) == 10
    assert avgzsl.get_spectrogram(clip.clip_id, width=50).startswith(b"\x89PNG")
    nothing = io.BytesIO()
    with pytest.raises(NotFound):
        avgzsl.get_media("nobody", nothing)
    assert nothing.getvalue() == b""


def test_it_has_work_done_later(avgzsl: Any) -> None:
    at_once = avgzsl.classify(mp4(), top_k=2, windows=True)
    begun = avgzsl.begin_classification(mp4(), top_k=2, windows=True)
    assert avgzsl.wait_for_job(begun.job_id).result == at_once
    assert avgzsl.get_job(begun.job_id).state == "done"
    assert begun.job_id in [job.job_id for job in avgzsl.list_jobs(state="done").items]

    mine = unique()
    stored = avgzsl.begin_clip(wav(), tags=[mine], source="/somewhere/tone.wav")
    avgzsl.wait_for_job(stored.job_id)
    (item,) = avgzsl.list_job_items(stored.job_id).items
    (clip,) = avgzsl.list_clips(filter={"tags": [mine]}).items
    assert (item.clip_id, clip.source) == (clip.clip_id, "/somewhere/tone.wav")

    broken = avgzsl.begin_clip(b"no media" * 100)
    assert avgzsl.wait_for_job(broken.job_id).error.code == "unsupported_media"
    assert avgzsl.retry_job(broken.job_id).state == "queued"
    assert avgzsl.wait_for_job(broken.job_id).state == "failed"
    avgzsl.remove_job(broken.job_id)
    with pytest.raises(NotFound):
        avgzsl.wait_for_job(broken.job_id)
    with pytest.raises(NotPermitted):
        avgzsl.begin_import("/")


def test_it_embeds_files_and_texts(avgzsl: Any) -> None:
    texts = avgzsl.embed_texts(["a dog", "rain"])
    clip = avgzsl.embed_file(wav(), modality="audio")

    assert len(texts.vectors) == 2
    assert len(clip.audio) == len(texts.vectors[0])
    assert clip.video is None


def test_it_asks_for_the_model_and_its_health(avgzsl: Any) -> None:
    assert avgzsl.get_model().classes > 0
    assert avgzsl.is_alive().status == "alive"
    assert avgzsl.is_ready().status == "ready"


def test_a_refusal_carries_what_the_service_said(avgzsl: Any) -> None:
    with pytest.raises(InvalidRequest) as refused:
        avgzsl.classify(b"", filename="empty.mp4")
    assert (refused.value.status, refused.value.code) == (422, "empty_file")
    assert str(refused.value) == refused.value.detail != ""
    assert refused.value.request_id
    with pytest.raises(InvalidRequest) as refused:
        avgzsl.retrieve("rain", top_k=0)
    assert refused.value.problem.errors[0].pointer == "/top_k"
    with pytest.raises(UnsupportedMedia):
        avgzsl.classify(b"no media" * 100)
    with pytest.raises(TooLarge):
        avgzsl.add_clip(b"x" * (MAX_UPLOAD_BYTES + 1))
    name = unique()
    avgzsl.add_class(name)
    with pytest.raises(Conflict):
        avgzsl.add_class(name.upper())


def test_an_id_cannot_reach_another_path(avgzsl: Any) -> None:
    with pytest.raises(NotFound):
        avgzsl.get_clip("../model")


def test_a_file_that_is_missing_is_told_as_python_does(avgzsl: Any) -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere\.wav"):
        avgzsl.classify("nowhere.wav")


def test_every_route_of_the_service_is_a_method(tmp_path: Path) -> None:
    calls = [e.build for e in vars(Endpoints).values() if isinstance(e, Endpoint)]
    reached = {_reached(build) for build in calls}
    document = create_app(Settings(data_dir=tmp_path)).openapi()

    offered = {
        (method.upper(), path)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
        # For the page: a session, as programs send the key itself, and samples, as programs bring
        # files of their own. For Prometheus: metrics.
        if operation["tags"] not in (["session"], ["samples"], ["metrics"])
    }
    assert reached >= offered


def _reached(build: Any) -> tuple[str, str]:
    """Return the method and the path's template of an endpoint."""
    code = build.__code__
    names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    defaults = build.__kwdefaults__ or {}
    required = {
        name: f"{{{name}}}" if name.endswith("_id") else "x"
        for name in names
        if name not in defaults
    }
    call = build(**{n: b"x" if n in ("file", "to") else v for n, v in required.items()})
    return call.method, call.path.replace("%7B", "{").replace("%7D", "}")


def test_a_service_that_is_not_there_is_told(kind: str) -> None:
    with ExitStack() as stack:
        client = opened(stack, kind, "http://127.0.0.1:9", retries=0)
        with pytest.raises(ServiceUnreachable, match="is the service running"):
            client.get_model()


def test_it_shows_its_key_to_a_service_that_asks_for_one(kind: str, tmp_path: Path) -> None:
    new, token = new_key("a program", "read")
    app = make_app(tmp_path, require_api_keys=True)
    with ExitStack() as stack:
        stranger = opened(stack, kind, app=app)
        store = ApiKeyStore.open(tmp_path / "library")
        stack.callback(store.close)
        store.add(new)
        with pytest.raises(NotAuthenticated) as refused:
            stranger.get_model()
        assert refused.value.code == "missing_api_key"
    with ExitStack() as stack:
        reader = opened(stack, kind, app=make_app(tmp_path, require_api_keys=True), api_key=token)
        assert reader.get_model().clips == 0
        with pytest.raises(NotPermitted, match="write"):
            reader.add_class("kettle")


def test_importing_the_client_brings_nothing_that_computes() -> None:
    code = (
        "import service.client, sys\n"
        "heavy = {'torch', 'faiss', 'fastapi', 'starlette', 'av', 'numpy', 'limits'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"

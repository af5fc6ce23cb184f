"""What Prometheus is told."""

import time
from pathlib import Path

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient

from index.errors import StorageError
from index.library import Library
from tests.service.conftest import file_part, make_app, store
from tests.service.media import mp4

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def samples(client: TestClient) -> Samples:
    reply = client.get("/metrics")
    assert reply.status_code == 200
    assert reply.headers["content-type"].startswith("text/plain")
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(reply.text)
        for sample in family.samples
    }


def value(found: Samples, name: str, **labels: str) -> float:
    return found.get((name, frozenset(labels.items())), 0.0)


def requests(found: Samples, method: str, route: str, status: int) -> float:
    return value(
        found, "avgzsl_http_requests_total", method=method, route=route, status=str(status)
    )


def test_requests_count_under_their_routes_template(client: TestClient) -> None:
    for clip_id in ("a", "b", "c%2fd"):
        client.get(f"/clips/{clip_id}")
    client.get("/nowhere/at/all")
    client.request("BREW", "/clips")
    client.post("/retrieve", json={"query": "rain"})

    found = samples(client)
    assert requests(found, "GET", "/clips/{clip_id}", 404) == 2
    assert requests(found, "GET", "unknown", 404) == 2
    assert requests(found, "OTHER", "/clips", 405) == 1
    assert requests(found, "POST", "/retrieve", 200) == 1
    seconds = "avgzsl_http_request_duration_seconds"
    assert value(found, f"{seconds}_count", method="POST", route="/retrieve") == 1
    assert value(found, f"{seconds}_sum", method="POST", route="/retrieve") > 0
    assert value(found, "avgzsl_http_requests_in_progress") == 1


def test_what_was_refused_at_the_door_is_counted_too(tmp_path: Path) -> None:
    with TestClient(make_app(tmp_path, rate_limit="2/day")) as client:
        client.get("/model")
        before = samples(client)
        client.get("/model")
        client.get("/clips/x", headers={"host": "evil.example"})
        text = client.app.state.resources.metrics.exposition("")[0].decode()  # type: ignore[attr-defined]

    assert requests(before, "GET", "/model", 200) == 1
    assert 'route="/model",status="429"} 1.0' in text
    assert 'route="/clips/{clip_id}",status="421"} 1.0' in text


def test_it_counts_jobs_by_their_state(client: TestClient) -> None:
    assert value(samples(client), "avgzsl_jobs", state="done") == 0

    job = client.post("/clips", files=file_part(), data={"mode": "async"}).json()
    deadline = time.monotonic() + 60
    while client.get(f"/jobs/{job['job_id']}").json()["state"] != "done":
        assert time.monotonic() < deadline
        time.sleep(0.05)

    found = samples(client)
    assert value(found, "avgzsl_jobs", state="done") == 1
    assert value(found, "avgzsl_jobs", state="queued") == 0


def test_it_tells_what_is_held_and_by_which_model(client: TestClient) -> None:
    store(client)
    store(client, mp4(), name="a.mp4")
    client.post("/classes", json={"name": "cat"})

    found = samples(client)
    assert value(found, "avgzsl_library_clips") == 2
    assert value(found, "avgzsl_library_classes") == 4
    assert value(found, "avgzsl_library_windows") >= 2
    assert value(found, "avgzsl_index_vectors", index="labels") == 4
    assert value(found, "avgzsl_index_vectors", index="video") == 1
    assert value(found, "avgzsl_index_recall", index="both") == 1
    assert value(found, "avgzsl_catalogue_up") == 1
    (model,) = [dict(labels) for name, labels in found if name == "avgzsl_model_info"]
    assert (model["model_id"], model["device"]) == ("fake", "cpu")
    assert value(found, "process_resident_memory_bytes") > 0


def test_the_parts_of_an_answer_are_timed_and_batches_counted(client: TestClient) -> None:
    def counts() -> dict[str, float]:
        found = samples(client)
        stages = {
            stage: value(found, "avgzsl_stage_duration_seconds_count", stage=stage)
            for stage in ("embed", "decode", "forward", "embed_texts", "search")
        }
        rows = {
            kind: value(found, "avgzsl_batch_rows_sum", kind=kind) for kind in ("windows", "texts")
        }
        return {**stages, **rows}

    before = counts()
    client.post("/retrieve", json={"query": "rain", "minus": ["snow"]})
    client.post("/classify", files=file_part())
    after = counts()

    assert {name: after[name] - before[name] for name in after} == {
        "embed": 1, "decode": 1, "forward": 1, "embed_texts": 1, "search": 2,
        "windows": 1, "texts": 2,
    }  # fmt: skip


def test_it_tells_what_waits_and_who_decodes(client: TestClient) -> None:
    found = samples(client)

    for queue in ("clips", "chunks", "texts", "names"):
        assert ("avgzsl_queue_depth", frozenset({("queue", queue)})) in found
    assert value(found, "avgzsl_queue_depth", queue="clips") == 0
    assert value(found, "avgzsl_decoders_alive") >= 1


def test_it_answers_while_the_catalogue_is_away(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(_: Library) -> None:
        raise StorageError("The database is away.")

    monkeypatch.setattr(Library, "status", away)

    found = samples(client)
    assert value(found, "avgzsl_catalogue_up") == 0
    assert not any(name.startswith("avgzsl_library") for name, _ in found)
    assert requests(samples(client), "GET", "/metrics", 200) == 1


def test_applications_in_one_process_count_apart_and_so_do_their_lives(tmp_path: Path) -> None:
    first, second = make_app(tmp_path / "a"), make_app(tmp_path / "b")
    with TestClient(first) as one, TestClient(second) as two:
        store(one)
        assert value(samples(one), "avgzsl_library_clips") == 1
        assert value(samples(two), "avgzsl_library_clips") == 0
        assert requests(samples(two), "POST", "/clips", 201) == 0
    with TestClient(first) as again:
        assert value(samples(again), "avgzsl_library_clips") == 1


def test_openmetrics_is_spoken_to_those_who_prefer_it(client: TestClient) -> None:
    reply = client.get("/metrics", headers={"accept": "application/openmetrics-text"})

    assert reply.headers["content-type"].startswith("application/openmetrics-text")
    assert "avgzsl_model" in {family.name for family in openmetrics(reply.text)}

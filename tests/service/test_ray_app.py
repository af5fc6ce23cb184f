"""The service on Ray Serve: the same answers, whichever node is lost; one writer to a folder."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("ray", reason="Ray is not installed: pip install 'avgzsl[ray]'")

import ray
from ray import serve
from ray.exceptions import RayActorError
from starlette.testclient import TestClient

from model.embedding import blank_chunk
from model.fake import FakeEmbedder
from service.client import Client, Conflict, UnsupportedMedia
from service.errors import NotReady
from service.ray_app import build, check_ingress, is_shared, settings_of_replica
from service.ray_cluster import shortage
from service.ray_index import needed_to_index
from service.ray_model import LoadEmbedder, described
from service.ray_server import needed_to_serve, run_on_ray
from service.remote_embedder import RemoteEmbedder
from service.resources import open_library
from service.server import ServerFailed
from service.settings import Settings, SettingsError
from tests.postgresql import NoServer, PostgresqlServer, postgresql_server
from tests.service.conftest import make_app
from tests.service.media import mp4, wav
from tests.service.ray_clusters import add, kill, one_node, several_nodes
from tests.service.ray_workers import load_fake, load_nothing, load_slow

ROOT = Path(__file__).parents[2]
SECONDS = 120
FOLLOWED_SECONDS = 3.0
"""What one process writes another knows within one, where there is a processor for it."""
SHARED: dict[str, Any] = {
    "catalogue_url": "postgresql://host/database",
    "media_url": "s3://bucket/prefix",
}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def on_ray(settings: Settings, load: LoadEmbedder) -> Iterator[str]:
    """Serve on the cluster that this process is connected to; yield the URL."""
    serve.start(http_options={"host": settings.host, "port": settings.port})
    serve.run(build(settings, load), name="avgzsl")
    try:
        yield f"http://127.0.0.1:{settings.port}"
    finally:
        serve.shutdown()


# What needs no cluster.


@pytest.mark.parametrize(
    ("changes", "advice"),
    [
        ({}, "AVGZSL_CATALOGUE_URL=postgresql"),
        ({"catalogue_url": SHARED["catalogue_url"]}, "AVGZSL_MEDIA_URL=s3"),
        ({**SHARED, "catalogue_url": "sqlite:////shared/catalogue.sqlite"}, "postgresql"),
        ({**SHARED, "vector_store": "milvus:/shared/vectors.db"}, "a Milvus server"),
    ],
)
def test_several_http_processes_are_refused_what_they_cannot_share(
    changes: dict[str, Any], advice: str
) -> None:
    settings = Settings(ray_ingress_replicas=3, **changes)

    with pytest.raises(SettingsError, match=f"AVGZSL_RAY_INGRESS_REPLICAS is 3.*{advice}"):
        check_ingress(settings)

    check_ingress(settings.model_copy(update={"ray_ingress_replicas": 1}))


@pytest.mark.parametrize("store", ["faiss", "milvus", "milvus:http://milvus:19530"])
def test_each_of_several_has_a_folder_of_its_own(store: str, tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, ray_ingress_replicas=2, vector_store=store, **SHARED)
    check_ingress(settings)
    assert is_shared(settings)

    folders = [settings_of_replica(settings, rank).data_dir for rank in (0, 1)]

    assert folders == [tmp_path / "replica-0", tmp_path / "replica-1"]


def test_one_alone_keeps_its_folder(tmp_path: Path) -> None:
    settings = Settings(
        data_dir=tmp_path,
        batch_rows=100,
        ray_min_models=2,
        ray_max_models=3,
        ray_call_seconds=600,
        model_timeout_seconds=60,
    )

    own = settings_of_replica(settings, 0)

    assert own.data_dir == tmp_path
    assert own.batch_rows == 300
    assert own.model_timeout_seconds > own.ray_call_seconds


def test_fewer_copies_at_most_than_at_least_are_refused() -> None:
    with pytest.raises(ValueError, match="AVGZSL_RAY_MIN_MODELS, 4"):
        Settings(ray_min_models=4, ray_max_models=3)


@pytest.mark.parametrize("needed", [needed_to_serve, needed_to_index])
@pytest.mark.parametrize(
    ("free", "told"),
    [
        ({"CPU": 7.0, "GPU": 0.5}, None),
        ({"CPU": 6.5, "GPU": 0.5}, "has 6.5 CPUs to spare and 7 are needed"),
        ({"CPU": 9.0}, "has 0 GPUs to spare and 0.5 are needed"),
    ],
)
def test_what_the_cluster_lacks_is_told(
    needed: Callable[[Settings], dict[str, float]], free: dict[str, float], told: str | None
) -> None:
    settings = Settings(ray_min_models=2, ray_model_cpus=3, ray_model_gpus=0.25, ray_max_models=9)
    warning = shortage(needed(settings), free)

    assert warning is None if told is None else told in str(warning)


def test_the_folder_is_named_from_the_root_as_processes_run_elsewhere(tmp_path: Path) -> None:
    with contextlib.chdir(tmp_path):
        application = build(Settings(data_dir="films"), load_fake)

    bound = application._bound_deployment
    (settings, _) = bound.init_args
    assert settings.data_dir == tmp_path / "films"


class Calls:
    """In the place of a deployment's method: each call answers or raises what is next."""

    def __init__(self, *outcomes: object) -> None:
        self._outcomes = list(outcomes)
        self.cancelled = 0

    def remote(self, *_: object) -> "Calls":
        return self

    def result(self, *, timeout_s: float | None = None) -> object:
        outcome = self._outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def cancel(self) -> None:
        self.cancelled += 1


class Handle:
    def __init__(self, **methods: Calls) -> None:
        self.describe = Calls(described(FakeEmbedder()))
        vars(self).update(methods)


def test_a_call_whose_copy_is_lost_is_made_again() -> None:
    vectors = np.ones((1, 16), np.float32)
    calls = Calls(RayActorError(), RayActorError(), vectors)
    embedder: Any = RemoteEmbedder(Handle(embed_texts=calls), call_seconds=60)

    assert embedder.embed_texts(["a dog"]) is vectors


def test_a_copy_that_does_not_answer_is_not_waited_for_without_end() -> None:
    calls = Calls(TimeoutError())
    embedder: Any = RemoteEmbedder(Handle(embed_chunk=calls), call_seconds=7)
    prepared = embedder.prepare(blank_chunk(embedder.decode_spec))

    with pytest.raises(NotReady, match="within 7 seconds"):
        embedder.forward([prepared])

    assert calls.cancelled == 1


def test_those_who_have_gone_leave_no_work_to_copies_that_are_behind() -> None:
    calls = Calls(TimeoutError())
    embedder: Any = RemoteEmbedder(Handle(embed_chunk=calls), call_seconds=7)
    prepared = embedder.prepare(blank_chunk(embedder.decode_spec))

    with pytest.raises(NotReady):
        embedder.forward([prepared] * 3)

    assert calls.cancelled == 3


# What needs one.


@pytest.fixture(scope="module")
def database() -> Iterator[PostgresqlServer]:
    try:
        with postgresql_server() as server:
            yield server
    except NoServer as error:
        pytest.skip(f"no PostgreSQL server: {error}")


@pytest.mark.slow
def test_it_answers_as_one_process_does(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path / "ray", port=free_port(), decode_workers=1)
    # One of several chunks, one with pictures.
    files = {"tone.wav": wav(70.0), "film.mp4": mp4()}
    with TestClient(make_app(tmp_path / "one", max_upload_bytes=2**24)) as one:
        expected = {
            name: one.post("/classify", files={"file": (name, content)}).json()["labels"]
            for name, content in files.items()
        }

    with one_node(num_cpus=2), on_ray(settings, load_fake) as url, Client(url) as client:
        assert client.is_ready().status == "ready"
        for name, content in files.items():
            labels = client.classify(content, filename=name).labels
            assert [label.name for label in labels] == [label["name"] for label in expected[name]]
            assert [label.score for label in labels] == pytest.approx(
                [label["score"] for label in expected[name]], abs=1e-5
            )
        with pytest.raises(UnsupportedMedia):
            client.classify(b"no media" * 99, filename="broken.mp4")
        with pytest.raises(Conflict, match="processes of their own on Ray"):
            client.swap_model("bundled")


@pytest.mark.slow
def test_a_model_that_cannot_be_loaded_is_told(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, port=free_port())

    with one_node(num_cpus=2), pytest.raises(ServerFailed, match="no checkpoint bundled"):
        run_on_ray(settings, on_ready=pytest.fail, load=load_nothing)


@pytest.mark.slow
def test_a_node_that_is_lost_costs_no_answer(tmp_path: Path) -> None:
    settings = Settings(
        data_dir=tmp_path / "data",
        port=free_port(),
        decode_workers=1,
        ray_min_models=2,
        ray_ingress_cpus=0,
    )
    # HTTP is on the head, and has it for itself.
    with several_nodes(head_cpus=0) as nodes:
        doomed, _ = add(nodes, num_cpus=1), add(nodes, num_cpus=1)
        with on_ray(settings, load_slow) as url, Client(url, retries=10) as client:
            answered = threading.Semaphore(0)
            killing = threading.Thread(
                target=lambda: (
                    [answered.acquire(timeout=SECONDS) for _ in range(20)],
                    kill(nodes, doomed),
                )
            )
            killing.start()

            def stored(number: int) -> str:
                content = wav(0.3, hertz=200.0 + number)
                clip = client.add_clip(content, filename="x.wav", if_duplicate="skip")
                answered.release()
                return clip.clip_id

            with ThreadPoolExecutor(8) as pool:
                clip_ids = list(pool.map(stored, range(150)))
            killing.join()

            assert len(set(clip_ids)) == 150
            assert client.list_clips(limit=1).total == 150
            assert client.is_ready().status == "ready"
    used = {path.name for path in (settings.data_dir / "nodes").iterdir()}
    assert doomed.node_id in used


@pytest.mark.slow
def test_several_http_processes_answer_as_one(tmp_path: Path, database: PostgresqlServer) -> None:
    settings = Settings(
        data_dir=tmp_path / "data",
        port=free_port(),
        decode_workers=1,
        catalogue_url=database.blank_database(),
        media_url=f"file://{tmp_path / 'media'}",
        ray_ingress_replicas=2,
    )
    with one_node(num_cpus=3), on_ray(settings, load_fake) as url, Client(url) as client:
        contents = [wav(0.3, hertz=200.0 + number) for number in range(10)] * 2
        with ThreadPoolExecutor(4) as pool:
            clips = list(
                pool.map(
                    lambda content: client.add_clip(content, filename="x.wav", if_duplicate="skip"),
                    contents,
                )
            )
        client.add_class("kettle")
        time.sleep(FOLLOWED_SECONDS)

        # Serve chooses one of the two each time.
        for _ in range(20):
            assert client.list_clips(limit=1).total == 10
            assert [found.name for found in client.list_classes(query="kettle").items] == ["kettle"]
            assert len(client.classify(contents[0], filename="x.wav").labels) == 4
    assert len({clip.clip_id for clip in clips}) == 10
    assert {path.name for path in settings.data_dir.iterdir()} == {"replica-0", "replica-1"}


@pytest.mark.slow
def test_a_stop_answers_what_it_has_begun(tmp_path: Path) -> None:
    port, data_dir = free_port(), tmp_path / "data"
    long = wav(240.0)
    with one_node(num_cpus=2):
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.service.ray_serve_worker", data_dir, str(port)],
            cwd=ROOT,
            env={**os.environ, "RAY_ADDRESS": ray.get_runtime_context().gcs_address},
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        begun = threading.Barrier(7)

        def classified(_: int) -> int:
            with Client(f"http://127.0.0.1:{port}", retries=0) as client:
                begun.wait()
                return len(client.classify(long, filename="x.wav").labels)

        with ThreadPoolExecutor(6) as pool:
            answers = [pool.submit(classified, number) for number in range(6)]
            begun.wait()
            done, _ = wait(answers, return_when=FIRST_COMPLETED)
            assert len(done) < 6
            process.send_signal(signal.SIGTERM)

            assert [answer.result(SECONDS) for answer in answers] == [3] * 6
        assert process.wait(SECONDS) == 0
        process.stdout.close()
    # It was closed, so another may open it.
    with open_library(Settings(data_dir=data_dir), FakeEmbedder()) as library:
        assert library.list_classes().total == 3

"""`avgzsl index --ray`: each file once, whatever happens on the way and whichever node is lost."""

import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

pytest.importorskip("ray", reason="Ray is not installed: pip install 'avgzsl[ray]'")

import ray

from index.library import Library
from index.media_store import file_digest
from model.embedding import embed_file
from model.errors import CheckpointError
from model.fake import FakeEmbedder
from service.folder_indexing import Outcome
from service.media_source import media_sources
from service.ray_index import IndexStopped, LibraryWriter, index_run
from service.ray_indexing import EmbeddedFile
from service.ray_model import LoadEmbedder
from service.resources import media_limits, open_library
from service.settings import Settings
from tests.service.media import mp4, wav
from tests.service.ray_clusters import add, kill, one_node, several_nodes
from tests.service.ray_workers import load_broken, load_fake, load_nothing, load_slow

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    with one_node(num_cpus=2):
        yield


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path / "data", ray_model_cpus=1)


def tones(folder: Path, count: int) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        (folder / f"{number:03}.wav").write_bytes(wav(0.3, hertz=200.0 + number))
    return folder


def indexed(settings: Settings, folder: str, load: LoadEmbedder) -> dict[str, Outcome]:
    """Index a folder and return the outcomes by file name."""
    with index_run(settings, load) as run:
        outcomes = list(run.outcomes(list(media_sources([folder])), tags=["ray"], workers=2))
    assert len({outcome.path for outcome in outcomes}) == len(outcomes)
    return {Path(outcome.path).name: outcome for outcome in outcomes}


def stored_once(library: Library, folder: Path) -> None:
    """Check that the library has a clip of each file's bytes, and no second one."""
    stored = Counter(clip.content_hash for clip in library.list_clips(limit=10_000).items)
    assert stored == dict.fromkeys({file_digest(path) for path in folder.rglob("*.wav")}, 1)


def embedded(path: Path, settings: Settings) -> EmbeddedFile:
    embedding = embed_file(FakeEmbedder(), path, limits=media_limits(settings))
    return EmbeddedFile(str(path), file_digest(path), embedding, None)


def writer_of(library: Library, settings: Settings) -> LibraryWriter:
    return LibraryWriter(library, settings, tags=["here"], model_id="fake")


@pytest.mark.usefixtures("cluster")
def test_it_stores_what_is_not_there_and_says_what_failed(
    settings: Settings, tmp_path: Path
) -> None:
    folder = tones(tmp_path / "films", 20)
    (folder / "film.mp4").write_bytes(mp4())
    (folder / "copy.wav").write_bytes((folder / "001.wav").read_bytes())
    (folder / "broken.wav").write_bytes(b"no media" * 99)
    (folder / "empty.wav").write_bytes(b"")
    (folder / "gone.wav").symlink_to(folder / "nowhere")
    with open_library(settings, FakeEmbedder()) as library:
        writer_of(library, settings).store(embedded(folder / "000.wav", settings))

    outcomes = indexed(settings, str(folder), load_fake)

    assert outcomes["000.wav"].state == "known"
    assert {outcomes["001.wav"].state, outcomes["copy.wav"].state} == {"stored", "known"}
    assert Counter(outcome.state for outcome in outcomes.values()) == {
        "stored": 20,
        "known": 2,
        "failed": 3,
    }
    failed = {name: outcome.code for name, outcome in outcomes.items() if outcome.code}
    assert failed == {
        "broken.wav": "unsupported_media",
        "empty.wav": "empty_file",
        "gone.wav": "unreadable_file",
    }
    with open_library(settings, FakeEmbedder()) as library:
        here = library.get_clip(str(outcomes["film.mp4"].clip_id))
        assert (here.tags, here.source) == (("ray",), str(folder / "film.mp4"))
        assert library.thumbnail(here.clip_id) is not None
        # The same vectors as if it had been embedded here.
        own = embedded(folder / "film.mp4", settings).embedding
        assert own.video is not None
        (best, *_) = library.search(own.video, modality="video", top_k=1)
        assert best.clip.clip_id == here.clip_id
        assert best.score == pytest.approx(1.0, abs=1e-5)
        assert library.list_clips().total == 21
    assert not list(settings.uploads_dir.iterdir())


@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
def test_a_model_that_cannot_be_loaded_is_told_in_its_own_words(settings: Settings) -> None:
    with pytest.raises(CheckpointError, match=r"^there is no checkpoint bundled$"):
        indexed(settings, "unused", load_nothing)


def test_a_file_that_changed_meanwhile_is_not_stored(settings: Settings, tmp_path: Path) -> None:
    (path,) = tones(tmp_path / "films", 1).iterdir()
    result = embedded(path, settings)
    path.write_bytes(wav(0.5))

    with open_library(settings, FakeEmbedder()) as library:
        outcome = writer_of(library, settings).store(result)

        assert (outcome.state, outcome.code) == ("failed", "file_changed")
        assert library.list_clips().total == 0


def test_a_file_that_moved_gives_its_clip_the_new_place(settings: Settings, tmp_path: Path) -> None:
    (path,) = tones(tmp_path / "films", 1).iterdir()
    with open_library(settings, FakeEmbedder()) as library:
        writer = writer_of(library, settings)
        assert writer.store(embedded(path, settings)).state == "stored"
        moved = path.rename(tmp_path / "elsewhere.wav")

        assert writer.store(embedded(moved, settings)).state == "moved"

        assert [clip.source for clip in library.list_clips().items] == [str(moved)]


@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
def test_a_broken_model_stops_it(settings: Settings, tmp_path: Path) -> None:
    folder = tones(tmp_path / "films", 20)

    with pytest.raises(IndexStopped, match=r"The model failed 5 times in a row .* device is gone"):
        indexed(settings, str(folder), load_broken)


@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
def test_killed_it_goes_on_from_there(settings: Settings, tmp_path: Path) -> None:
    folder = tones(tmp_path / "films", 120)
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.service.ray_index_worker", settings.data_dir, folder],
        cwd=ROOT,
        env={**os.environ, "RAY_ADDRESS": ray.get_runtime_context().gcs_address},
        stdout=subprocess.PIPE,
        text=True,
    )
    with closing(process.stdout):
        told = [process.stdout.readline() for _ in range(5)]
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert all(line.endswith("stored\n") for line in told)

    outcomes = indexed(settings, str(folder), load_fake)

    states = Counter(outcome.state for outcome in outcomes.values())
    assert states["known"] >= 5
    assert states["known"] + states["stored"] == 120
    with open_library(settings, FakeEmbedder()) as library:
        stored_once(library, folder)


# These have clusters of their own, so they come last.


@pytest.mark.slow
def test_files_of_an_object_store_are_stored_with_their_addresses(
    settings: Settings, tmp_path: Path, s3: str
) -> None:
    import fsspec

    folder = tones(tmp_path / "films", 3)
    fsspec.filesystem("s3").put(str(folder), f"{s3}/films", recursive=True)
    endpoint = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
    ray.shutdown()

    with one_node(num_cpus=2, environment=endpoint):
        outcomes = indexed(settings, f"{s3}/films", load_fake)

    assert {outcome.state for outcome in outcomes.values()} == {"stored"}
    with open_library(settings, FakeEmbedder()) as library:
        sources = {clip.source for clip in library.list_clips().items}
        assert sources == {f"{s3}/films/{number:03}.wav" for number in range(3)}
        stored_once(library, folder)


@pytest.mark.slow
def test_a_node_that_is_lost_costs_no_file_and_doubles_none(
    settings: Settings, tmp_path: Path
) -> None:
    settings = settings.model_copy(update={"ray_min_models": 2})
    folder = tones(tmp_path / "films", 240)
    ray.shutdown()
    with several_nodes(head_cpus=1) as nodes:
        # On the head is room for one actor of three.
        doomed = add(nodes, num_cpus=2)
        with index_run(settings, load_slow) as run:
            sources = list(media_sources([str(folder)]))
            outcomes: list[Outcome] = []
            for outcome in run.outcomes(sources, tags=[], workers=2):
                outcomes.append(outcome)
                if len(outcomes) == 20:
                    kill(nodes, doomed)
                    add(nodes, num_cpus=2)

    assert Counter(outcome.state for outcome in outcomes) == {"stored": 240}
    used = {path.name for path in (settings.data_dir / "nodes").iterdir()}
    assert doomed.node_id in used
    assert len(used) > 1
    with open_library(settings, FakeEmbedder()) as library:
        stored_once(library, folder)

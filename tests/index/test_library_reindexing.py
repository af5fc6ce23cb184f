"""The change to another model: the former one serves until the swap, and nothing is lost."""

import itertools
import shutil
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from index.backup import import_library
from index.database import sqlite_url
from index.errors import (
    LibraryLocked,
    LibraryNotFound,
    ModelMismatch,
    ReindexRefused,
    StorageError,
)
from index.library import Library
from index.reindex_rows import ReindexWriter
from index.reindexing import (
    NewModel,
    Reindexing,
    ReindexSummary,
    Swap,
    cancel_reindexing,
    reindex_library,
)
from index.types import ClassName, Clip, NewClass, ReindexProgress, SearchFilter
from index.vector_cache import StoreContent, VectorCache
from index.vector_store import VectorStore
from index.verification import verify_library
from tests.index.builders import (
    DIM,
    MODEL,
    media_file,
    media_path,
    open_library,
    stored_files,
    unit,
)
from tests.index.models import UNUSABLE, HashedModel
from tests.postgresql import PostgresqlServer

OLD = HashedModel(MODEL, DIM, ["dog", "cat"])
NEW_DIM = 5


def new_model(before_clip: Callable[[Clip], None] = lambda clip: None) -> HashedModel:
    return HashedModel("model-b", NEW_DIM, ["dog", "rain"], before_clip=before_clip)


def open_new(directory: Path) -> Library:
    return Library.open(directory, model_id="model-b", dim=NEW_DIM)


def add(library: Library, tmp_path: Path, media: bytes, model: HashedModel = OLD) -> Clip:
    path = tmp_path / f"upload-{media.decode()[:20]}"
    path.write_bytes(media)
    return library.add_clip(model.new_clip(media), path)


def media_of(library: Library, clip: Clip) -> bytes:
    return media_path(library, clip.clip_id).read_bytes()


@pytest.fixture
def clips(library: Library, tmp_path: Path) -> list[Clip]:
    """Three clips in a library that knows its model's vocabulary."""
    library.seed_classes(MODEL, OLD.vocabulary)
    return [add(library, tmp_path, b"media %d" % number) for number in range(3)]


def assert_by_model(library: Library, model: HashedModel, clips: list[Clip]) -> None:
    """Every clip is found by its vector by this model, and nothing but clips by this model is."""
    assert library.status().model_id == model.model_id
    for clip in clips:
        vector = model.clip_vector(media_of(library, clip))
        hits = library.search(vector, modality="audio", top_k=100)
        assert hits[0].clip.clip_id == clip.clip_id
        assert hits[0].score == pytest.approx(1, abs=1e-5)
        assert {hit.clip.model_id for hit in hits} == {model.model_id}
        np.testing.assert_array_equal(library.clip_vector(clip.clip_id, "audio"), vector)
    assert library.status().segments == 2 * len(clips)
    assert library.status().vectors["audio"] == 2 * len(clips)


# What comes of it


def test_the_new_models_answers_take_the_place_of_the_former_ones(
    library: Library, clips: list[Clip], directory: Path
) -> None:
    model = new_model()

    summary = library.reindexing(model).run()

    assert summary == ReindexSummary(MODEL, "model-b", True, 3, 0, ())
    assert_answers(library, model, clips)
    library.close()
    with open_new(directory) as reopened:
        assert_answers(reopened, model, clips)


def assert_answers(library: Library, model: HashedModel, clips: list[Clip]) -> None:
    assert_by_model(library, model, clips)
    scores = library.label_similarities(model.class_vector("rain")[None])
    assert set(scores.names) == {"dog", "rain"}
    assert scores.names[int(scores.similarity[0].argmax())] == "rain"


def test_a_clip_is_as_if_it_were_uploaded_to_the_new_model(
    library: Library, clips: list[Clip], tmp_path: Path
) -> None:
    model = new_model()
    library.update_clip(clips[0].clip_id, tags=["kept"], filename="kept.mp4")

    library.reindexing(model).run()

    after = library.get_clip(clips[0].clip_id)
    fresh = add(library, tmp_path, b"media 0", model)
    for name in ("duration_seconds", "modalities", "warnings", "segment_count", "model_id"):
        assert getattr(after, name) == getattr(fresh, name), name
    assert (after.tags, after.filename) == (("kept",), "kept.mp4")
    assert after.created_at == clips[0].created_at
    hits = library.search(model.clip_vector(b"media 0"), modality="audio", top_k=2)
    assert [hit.score for hit in hits] == [hits[0].score] * 2
    assert library.list_clips(filter=SearchFilter(modality="video")).total == 0


def test_a_users_classes_keep_all_but_their_vectors(library: Library, clips: list[Clip]) -> None:
    model = new_model()
    dog, cat = library.list_classes().items
    library.update_class(cat.class_id, description="purrs")
    library.update_class(dog.class_id, enabled=False)
    kettle = library.add_class(new_class("kettle", ["pot"]))
    library.update_class(kettle.class_id, description="whistles")
    before = {c.class_id: c for c in library.list_classes().items}

    summary = library.reindexing(model).run()

    after = {c.class_id: c for c in library.list_classes().items}
    assert summary.classes == 3
    # `seen` says what the model was trained on: that is the dog, and not the cat any more.
    assert after[dog.class_id] == before[dog.class_id]
    assert after[dog.class_id].seen
    assert not after[cat.class_id].seen
    assert after[cat.class_id].description == "purrs"
    assert after[kettle.class_id] == before[kettle.class_id]
    assert {c.name for c in after.values()} == {"dog", "cat", "kettle", "rain"}
    scores = library.label_similarities(model.class_vector("kettle", ["pot"], "whistles")[None])
    assert set(scores.names) == {"cat", "kettle", "rain"}
    assert scores.similarity[0, scores.names.index("kettle")] == pytest.approx(1, abs=1e-5)


def new_class(name: str, synonyms: list[str]) -> NewClass:
    return NewClass(name, OLD.class_vector(name, synonyms), tuple(synonyms))


def test_a_library_without_clips_changes_its_model_too(library: Library) -> None:
    library.seed_classes(MODEL, OLD.vocabulary)

    library.reindexing(new_model()).run()

    assert [c.name for c in library.list_classes().items] == ["dog", "rain"]


def test_nothing_of_the_former_model_is_left(
    library: Library, clips: list[Clip], directory: Path
) -> None:
    library.add_class(new_class("kettle", []))

    library.reindexing(new_model()).run()

    assert models_of_rows(directory) == {"model-b"}
    assert library.status().reindex is None
    assert verify_library(directory).findings == ()


def models_of_rows(directory: Path) -> set[str]:
    connection = sqlite3.connect(directory / "catalogue.sqlite")
    found = {
        model_id
        for table in ("segments", "clip_vectors", "class_vectors", "clips", "reindexed_clips")
        for (model_id,) in connection.execute(f"SELECT DISTINCT model_id FROM {table}")
    }
    connection.close()
    return found


def test_the_model_can_be_changed_back(library: Library, clips: list[Clip]) -> None:
    library.reindexing(new_model()).run()
    library.reindexing(OLD).run()

    assert_by_model(library, OLD, clips)
    assert {c.name for c in library.list_classes().items} == {"dog", "cat"}


def test_a_model_that_is_in_use_is_not_changed_to(library: Library) -> None:
    with pytest.raises(ModelMismatch, match="already"):
        library.reindexing(OLD)


# While it runs


def test_the_former_model_answers_until_the_swap(library: Library, clips: list[Clip]) -> None:
    seen: list[str] = []

    def look(_: Clip) -> None:
        assert_by_model(library, OLD, clips)
        seen.append(library.status().reindex.model_id)  # type: ignore[union-attr]

    library.reindexing(new_model(look)).run()

    assert seen == ["model-b"] * 3


def test_progress_is_told_and_can_be_asked_for(
    library: Library, clips: list[Clip], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("index.reindexing.CLIPS_PER_THREAD", 1)
    monkeypatch.setattr("index.reindexing.SECONDS_BETWEEN_REPORTS", 0)
    monkeypatch.setattr("index.reindexing.PAUSE_PER_REPORT", 0)
    told: list[ReindexProgress] = []
    assert library.status().reindex is None

    def remember(progress: ReindexProgress) -> None:
        assert library.status().reindex == progress
        told.append(progress)

    library.reindexing(new_model()).run(remember)

    assert [progress.done for progress in told] == [0, 1, 2, 3]
    assert {(progress.clips, progress.failed) for progress in told} == {(3, 0)}


@contextmanager
def running(library: Library, model: HashedModel) -> Iterator[Reindexing]:
    """Re-index in a thread; wait for its end, and raise what it raised."""
    reindexing = library.reindexing(model)
    raised: list[BaseException] = []

    def run() -> None:
        try:
            reindexing.run()
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield reindexing
    finally:
        thread.join()
    if raised:
        raise raised[0]


def test_clips_and_classes_that_change_meanwhile_are_the_new_models_too(
    library: Library, clips: list[Clip], tmp_path: Path
) -> None:
    waiting, go_on = threading.Event(), threading.Event()

    def pause(clip: Clip) -> None:
        if clip.clip_id == clips[1].clip_id:
            waiting.set()
            assert go_on.wait(10)

    model = new_model(pause)
    kettle = library.add_class(new_class("kettle", []))
    dog, _ = library.list_classes().items[:2]
    with running(library, model):
        assert waiting.wait(10)
        added = add(library, tmp_path, b"late")
        library.remove_clip(clips[0].clip_id)
        library.remove_clip(clips[1].clip_id)
        owl = library.add_class(new_class("owl", []))
        library.update_class(
            kettle.class_id, name="pot", vector=OLD.class_vector("pot"), model_id=MODEL
        )
        library.update_class(dog.class_id, description="barks")
        library.update_clip(clips[2].clip_id, tags=["new"])
        go_on.set()

    assert_by_model(library, model, [clips[2], added])
    assert library.get_clip(clips[2].clip_id).tags == ("new",)
    names = ["dog", "pot", "owl", "rain"]
    scores = library.label_similarities(
        np.stack([model.class_vector(n, (), "barks" if n == "dog" else "") for n in names])
    )
    assert scores.names == ("dog", "pot", "owl", "rain")
    np.testing.assert_allclose(np.diag(scores.similarity), 1, atol=1e-5)
    assert library.get_class(owl.class_id).name == "owl"


def test_words_changed_after_a_class_was_embedded_are_embedded_again(
    library: Library, clips: list[Clip]
) -> None:
    kettle = library.add_class(new_class("kettle", []))
    model = new_model()
    reindexing = library.reindexing(model)
    finish = reindexing._finish

    def change_first(*arguments: Any, **options: bool) -> ReindexSummary | None:
        if library.get_class(kettle.class_id).name == "kettle":
            library.update_class(kettle.class_id, name="pot", vector=OLD.class_vector("pot"))
        return finish(*arguments, **options)

    reindexing._finish = change_first  # type: ignore[method-assign]
    reindexing.run()

    scores = library.label_similarities(model.class_vector("pot")[None])
    assert scores.names[int(scores.similarity[0].argmax())] == "pot"
    assert scores.similarity.max() == pytest.approx(1, abs=1e-5)


def test_writes_go_on_while_the_new_models_indexes_are_made(
    library: Library, clips: list[Clip], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build = VectorCache.build
    late: list[Clip] = []

    def change() -> None:
        library.remove_clip(clips[0].clip_id)
        late.extend(add(library, tmp_path, b"late %d" % number) for number in range(3))

    def build_later(cache: VectorCache, contents: Sequence[StoreContent]) -> list[VectorStore]:
        made = build(cache, contents)
        if len(contents) > 1 and not late:
            writer = threading.Thread(target=change, daemon=True)
            writer.start()
            writer.join(60)
            assert not writer.is_alive()
        return made

    monkeypatch.setattr(VectorCache, "build", build_later)
    model = new_model()
    assert library.reindexing(model).run().finished

    assert len(late) == 3
    assert_by_model(library, model, [*clips[1:], *late])


def test_readers_never_see_a_mixture_and_writers_lose_nothing(
    library: Library, clips: list[Clip], tmp_path: Path
) -> None:
    models = {MODEL: OLD, "model-b": new_model()}
    done = threading.Event()
    failures: list[BaseException] = []
    answered: set[str] = set()
    added: list[Clip] = []
    numbers = itertools.count()

    def by_whom(ask: Callable[[HashedModel], object]) -> str:
        """Ask by the model in use, which may change meanwhile: then the question is refused."""
        while True:
            model = models[library.status().model_id]
            try:
                ask(model)
            except ModelMismatch:
                continue
            return model.model_id

    def search(model: HashedModel) -> None:
        hits = library.search(
            model.clip_vector(b"media 1"), modality="audio", top_k=2, model_id=model.model_id
        )
        assert (hits[0].clip.clip_id, round(hits[0].score, 4)) == (clips[1].clip_id, 1)
        assert len(hits) == 2
        assert {hit.clip.model_id for hit in hits} == {model.model_id}

    def label(model: HashedModel) -> None:
        query = np.stack([model.class_vector("dog")])
        scores = library.label_similarities(query, model_id=model.model_id)
        assert set(scores.names) == {c.name for c in model.vocabulary}
        assert scores.similarity[0, scores.names.index("dog")] == pytest.approx(1, abs=1e-5)

    def write(model: HashedModel) -> None:
        media = b"more %d" % next(numbers)
        path = media_file(tmp_path / threading.current_thread().name, media)
        added.append(library.add_clip(model.new_clip(media), path, model_id=model.model_id))

    def repeat(ask: Callable[[HashedModel], object]) -> None:
        try:
            while not done.is_set():
                answered.add(by_whom(ask))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=repeat, args=(ask,)) for ask in (search, label, write)]
    for thread in (*threads, threading.current_thread()):
        (tmp_path / thread.name).mkdir()
    for thread in threads:
        thread.start()
    try:
        library.reindexing(models["model-b"]).run(threads=2)
        by_whom(write)
    finally:
        done.set()
        for thread in threads:
            thread.join()

    assert failures == []
    assert answered == {MODEL, "model-b"}
    assert_by_model(library, models["model-b"], [*clips, *added])


def test_vectors_of_the_former_model_are_refused_after_the_swap(
    library: Library, clips: list[Clip], upload: Path
) -> None:
    library.reindexing(new_model()).run()
    dog = library.list_classes().items[0]

    calls: list[Callable[[], object]] = [
        lambda: library.search(unit(1), model_id=MODEL),
        lambda: library.label_similarities(unit(1)[None], model_id=MODEL),
        lambda: library.add_clip(OLD.new_clip(b"x"), upload, model_id=MODEL),
        lambda: library.add_class(new_class("x", []), model_id=MODEL),
        lambda: library.update_class(dog.class_id, vector=unit(1), model_id=MODEL),
    ]
    for call in calls:
        with pytest.raises(ModelMismatch, match="Embed again"):
            call()
    assert library.list_clips().total == 3


# Interrupted, given up, changed to a third


def stopped_halfway(library: Library, clips: list[Clip]) -> None:
    """Re-index until the second clip is embedded, and perhaps not written yet."""
    reindexing = library.reindexing(
        new_model(lambda clip: reindexing.stop() if clip.clip_id == clips[1].clip_id else None)
    )
    assert not reindexing.run().finished


def test_a_stopped_run_goes_on_where_it_was(
    library: Library, clips: list[Clip], directory: Path
) -> None:
    stopped_halfway(library, clips)
    assert_by_model(library, OLD, clips)
    library.close()
    model = new_model()
    with open_library(directory) as reopened:
        done = reopened.status().reindex.done  # type: ignore[union-attr]
        summary = reopened.reindexing(model).run()
        assert done in (1, 2)
        assert (summary.finished, summary.clips, model.clips_embedded) == (True, 3, 3 - done)
        assert_by_model(reopened, model, clips)


def test_a_model_that_fails_leaves_the_former_one_in_use_and_names_the_clip(
    library: Library, clips: list[Clip]
) -> None:
    def fail(clip: Clip) -> None:
        if clip.clip_id == clips[2].clip_id:
            raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory") as failure:
        library.reindexing(new_model(fail)).run()

    assert clips[2].clip_id in failure.value.__notes__[0]
    assert_by_model(library, OLD, clips)
    assert library.reindexing(new_model()).run().finished


def test_a_cancelled_change_leaves_the_former_model_and_no_rows(
    library: Library, clips: list[Clip], directory: Path
) -> None:
    stopped_halfway(library, clips)

    assert library.cancel_reindexing()

    assert not library.cancel_reindexing()
    assert models_of_rows(directory) == {MODEL}
    assert library.status().reindex is None
    assert_by_model(library, OLD, clips)


def test_a_run_under_way_ends_when_it_is_cancelled(
    library: Library, clips: list[Clip], directory: Path
) -> None:
    cancelled = library.reindexing(new_model(lambda _: cancel_once()))

    def cancel_once() -> None:
        library.cancel_reindexing()

    summary = cancelled.run()

    assert (summary.finished, summary.clips) == (False, 0)
    assert models_of_rows(directory) == {MODEL}
    assert_by_model(library, OLD, clips)


def test_a_backup_and_a_verification_halfway_see_the_former_model_only(
    library: Library, clips: list[Clip], directory: Path, tmp_path: Path
) -> None:
    stopped_halfway(library, clips)

    library.export(tmp_path / "archive.tar")

    assert verify_library(directory).findings == ()
    import_library(tmp_path / "archive.tar", tmp_path / "restored")
    with open_library(tmp_path / "restored") as restored:
        assert restored.status().reindex is None
        assert_by_model(restored, OLD, clips)


def test_a_change_that_was_made_cannot_be_run_again(library: Library, clips: list[Clip]) -> None:
    twin, reindexing = library.reindexing(new_model()), library.reindexing(new_model())
    reindexing.run()

    for again in (reindexing, twin):
        with pytest.raises(ModelMismatch, match="already"):
            again.run()

    assert library.status().reindex is None
    assert_by_model(library, new_model(), clips)


def test_a_third_model_drops_what_the_second_did(
    library: Library, clips: list[Clip], directory: Path
) -> None:
    stopped_halfway(library, clips)
    third = HashedModel("model-c", 3, ["owl"])

    library.reindexing(third).run()

    assert models_of_rows(directory) == {"model-c"}
    assert_by_model(library, third, clips)


def test_old_rows_that_a_crash_left_are_deleted_on_opening(
    library: Library, clips: list[Clip], directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("index.reindexing.delete_leftovers", lambda *_: None)
        library.reindexing(new_model()).run()
    assert models_of_rows(directory) == {MODEL, "model-b"}
    assert_by_model(library, new_model(), clips)
    library.close()
    with open_new(directory) as opened:
        opened.wait_for_sweep()
        assert models_of_rows(directory) == {"model-b"}
        assert_by_model(opened, new_model(), clips)


def test_a_model_comes_back_whose_old_rows_are_still_there(
    library: Library, clips: list[Clip], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("index.reindexing.delete_leftovers", lambda *_: None)
        library.reindexing(new_model()).run()

    assert library.reindexing(OLD).run().finished
    assert_by_model(library, OLD, clips)


def test_old_rows_hold_up_neither_an_opening_nor_a_close(
    library: Library, clips: list[Clip], directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("index.reindexing.LEFTOVER_CLIPS", 1)
    with monkeypatch.context() as patch:
        patch.setattr("index.reindexing.delete_leftovers", lambda *_: None)
        library.reindexing(new_model()).run()
    library.close()
    begun, go_on = threading.Event(), threading.Event()
    whole = ReindexWriter.delete_leftover_rows

    def slow(*arguments: Any, **options: Any) -> int | None:
        begun.set()
        assert go_on.wait(60)
        return whole(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(ReindexWriter, "delete_leftover_rows", slow)
        opened = open_new(directory)
        assert begun.wait(60)
        assert_by_model(opened, new_model(), clips)
        closing = threading.Thread(target=opened.close)
        closing.start()
        assert opened._sweep._stopped.wait(60)
        go_on.set()
        closing.join(60)
        assert not closing.is_alive()
    assert models_of_rows(directory) == {MODEL, "model-b"}
    with open_new(directory) as again:
        again.wait_for_sweep()
        assert models_of_rows(directory) == {"model-b"}
        assert_by_model(again, new_model(), clips)


def test_a_disk_that_is_full_at_the_swap_leaves_the_former_model_whole(
    library: Library, clips: list[Clip], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("index.library.adopt", refuse)
        with pytest.raises(StorageError):
            library.reindexing(new_model()).run()
    assert_by_model(library, OLD, clips)
    assert library.reindexing(new_model()).run().finished
    assert_by_model(library, new_model(), clips)


def refuse(*_: object) -> None:
    raise StorageError("Could not write to the catalogue: the disk is full.")


# Clips that the new model can make nothing of


def test_clips_that_fail_are_told_and_kept_but_left_out_of_searches(
    library: Library, clips: list[Clip], tmp_path: Path, directory: Path
) -> None:
    unusable = add(library, tmp_path, UNUSABLE)
    missing = add(library, tmp_path, b"missing")
    damaged = add(library, tmp_path, b"damaged")
    media_path(library, missing.clip_id).unlink()
    media_path(library, damaged.clip_id).write_bytes(b"other bytes")
    model = new_model()

    summary = library.reindexing(model).run()

    reasons = {failure.clip_id: failure.reason for failure in summary.failures}
    assert summary.clips == 3
    assert reasons.keys() == {unusable.clip_id, missing.clip_id, damaged.clip_id}
    assert reasons[unusable.clip_id] == "It is no film."
    assert "restore it from a backup" in reasons[missing.clip_id]
    assert "damaged" in reasons[damaged.clip_id]
    assert_by_model(library, model, clips)
    for clip_id, reason in reasons.items():
        clip = library.get_clip(clip_id)
        assert clip.warnings == (f"It is left out of searches: {reason}",)
        assert {record.reason for record in clip.modalities.values()} == {reason}
        assert library.clip_vector(clip_id) is None
    assert library.list_clips().total == 6
    assert media_of(library, unusable) == UNUSABLE
    library.export(tmp_path / "archive.tar", allow_missing=True)
    import_library(tmp_path / "archive.tar", tmp_path / "restored", allow_missing=True)
    with open_new(tmp_path / "restored") as restored:
        assert restored.get_clip(unusable.clip_id).warnings
    library.remove_clip(unusable.clip_id)
    assert library.list_clips(filter=SearchFilter(class_name="dog")).total <= 3


def test_what_failed_is_tried_again_by_the_next_run(
    library: Library, clips: list[Clip], tmp_path: Path
) -> None:
    path = media_path(library, clips[0].clip_id)
    shutil.move(path, tmp_path / "away")
    stopped_halfway(library, clips)
    assert library.status().reindex.failures[0].clip_id == clips[0].clip_id  # type: ignore[union-attr]
    shutil.move(tmp_path / "away", path)

    summary = library.reindexing(new_model()).run()

    assert summary.failures == ()
    assert_by_model(library, new_model(), clips)


def test_a_change_that_would_leave_out_most_clips_is_refused_unless_accepted(
    library: Library, clips: list[Clip], directory: Path
) -> None:
    away = directory / "media.away"
    (directory / "media").rename(away)
    with pytest.raises(ReindexRefused, match="0 clips but not 3"):
        library.reindexing(new_model()).run()
    away.rename(directory / "media")
    assert_by_model(library, OLD, clips)
    for clip in clips[:2]:
        media_path(library, clip.clip_id).unlink()
    with pytest.raises(ReindexRefused, match="accept the failures"):
        library.reindexing(new_model()).run()

    summary = library.reindexing(new_model()).run(accept_failures=True)

    assert (summary.clips, len(summary.failures)) == (1, 2)
    assert library.status().model_id == "model-b"


# A directory that nobody has open


def test_a_directory_is_re_indexed_without_the_former_model(
    library: Library, clips: list[Clip], directory: Path
) -> None:
    def refuse_others(_: Clip) -> None:
        with pytest.raises(LibraryLocked):
            open_library(directory)

    model = new_model(refuse_others)
    library.close()
    files = stored_files(directory)
    with pytest.raises(ModelMismatch) as mismatch:
        open_new(directory)
    assert "avgzsl library reindex" in str(mismatch.value)
    assert "3 clips" in str(mismatch.value)

    summary = reindex_library(directory, model, threads=2)

    assert (summary.finished, summary.clips) == (True, 3)
    assert verify_library(directory).findings == ()

    with open_new(directory) as reopened:
        assert_by_model(reopened, model, clips)
    assert stored_files(directory) == files


def test_a_mismatch_says_how_far_a_change_is(
    library: Library, clips: list[Clip], directory: Path
) -> None:
    stopped_halfway(library, clips)
    library.close()
    with pytest.raises(ModelMismatch, match=r"[12] of them are done"):
        open_new(directory)


def test_only_a_library_that_is_free_is_re_indexed(directory: Path, tmp_path: Path) -> None:
    with pytest.raises(LibraryNotFound):
        reindex_library(directory, new_model())
    assert not directory.exists()
    with open_library(directory), pytest.raises(LibraryLocked):
        reindex_library(directory, new_model())


def test_a_second_run_after_the_end_finds_nothing_to_do(
    library: Library, clips: list[Clip], directory: Path
) -> None:
    library.close()
    reindex_library(directory, new_model())

    summary = reindex_library(directory, new_model())

    assert summary == ReindexSummary("model-b", "model-b", True, 0, 0, ())


def test_a_change_is_given_up_in_a_directory_too(
    library: Library, clips: list[Clip], directory: Path
) -> None:
    stopped_halfway(library, clips)
    library.close()

    assert cancel_reindexing(directory)

    assert verify_library(directory).findings == ()
    assert not cancel_reindexing(directory)
    assert models_of_rows(directory) == {MODEL}


# Libraries that share a catalogue


def test_what_another_process_adds_at_the_last_moment_is_embedded_too(
    directory: Path, tmp_path: Path
) -> None:
    url = str(sqlite_url(tmp_path / "shared.sqlite"))
    model = new_model()
    with (
        open_library(directory, catalogue_url=url) as library,
        open_library(tmp_path / "other", catalogue_url=url) as other,
    ):
        clips = [add(library, tmp_path, b"first")]
        kettle: list[ClassName] = []
        reindexing = library.reindexing(model)
        prepare = reindexing._prepare

        @contextmanager
        def add_first(model: NewModel) -> Iterator[Swap]:
            with prepare(model) as swap:

                def swap_later() -> None:
                    if not kettle:
                        kettle.append(other.add_class(new_class("kettle", [])))
                    swap()

                yield swap_later

        reindexing._prepare = add_first
        assert reindexing.run().finished

        assert_by_model(library, model, clips)
        assert library.label_similarities(model.class_vector("kettle")[None]).similarity.max() > 0.9
        for ask in (other.status, lambda: other.search(unit(1)), other.list_clips):
            with pytest.raises(ModelMismatch, match="start it with the other model"):
                ask()


def test_the_model_is_changed_behind_postgresql_too(
    directory: Path, tmp_path: Path, postgresql: PostgresqlServer
) -> None:
    url, model = postgresql.blank_database(), new_model()
    with open_library(directory, catalogue_url=url) as library:
        clips = [add(library, tmp_path, b"media %d" % number) for number in range(3)]
        library.add_class(new_class("kettle", []))
        stopped_halfway(library, clips)
        assert library.cancel_reindexing()
        stopped_halfway(library, clips)
        assert_by_model(library, OLD, clips)

    summary = reindex_library(directory, model, catalogue_url=url)

    assert (summary.finished, summary.clips, summary.classes) == (True, 3, 1)
    with Library.open(directory, model_id="model-b", dim=NEW_DIM, catalogue_url=url) as library:
        assert_by_model(library, model, clips)
        assert library.status().reindex is None
    assert verify_library(directory, catalogue_url=url).findings == ()


# Media elsewhere


def test_media_in_a_shared_folder_are_embedded_too(directory: Path, tmp_path: Path) -> None:
    media_url, model = f"file://{tmp_path / 'shared'}", new_model()
    with open_library(directory, media_url=media_url) as library:
        clips = [add(library, tmp_path, b"media %d" % number) for number in range(3)]

    assert reindex_library(directory, model, media_url=media_url).clips == 3

    with Library.open(directory, model_id="model-b", dim=NEW_DIM, media_url=media_url) as library:
        assert {clip.model_id for clip in library.list_clips().items} == {"model-b"}
        assert library.list_clips().total == len(clips)


def test_media_out_of_reach_end_the_run_and_leave_no_clip_out(
    library: Library, clips: list[Clip], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = new_model()
    reindexing = library.reindexing(model)
    with monkeypatch.context() as patch:
        patch.setattr(reindexing, "_media", Away())
        with pytest.raises(StorageError, match="does not answer"):
            reindexing.run()
    assert library.status().reindex.failed == 0  # type: ignore[union-attr]
    assert_by_model(library, OLD, clips)
    assert library.reindexing(model).run().failures == ()


class Away:
    """An object store that does not answer."""

    def local(self, content_hash: str) -> AbstractContextManager[Path]:
        raise StorageError(f"Could not fetch {content_hash}: the store does not answer.")

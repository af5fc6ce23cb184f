"""A folder of clips becomes a feature set: stages, missing modalities, broken files, kills."""

import json
import logging
import os
import shutil
import subprocess
import sys
import textwrap
import wave
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from model.embedding import ClassText
from model.errors import FeatureSetError
from model.features import STAGES, FeatureSet, check_trainable, read_features
from model.features import __main__ as command
from model.features.clips import read_clips
from model.features.extraction import FRAMES_PER_SECOND, HOP_SECONDS, WINDOW_SECONDS, ClipExtractor
from model.features.splits import stages_by_chance
from model.media.clip import ClipReader
from model.media.limits import MediaLimits
from model.media.types import ClipSummary, DecodeSpec
from tests.model.conftest import SAMPLE_RATE, ColourBackbone, LoudnessBackbone

ROOT = Path(__file__).parents[2]
SAMPLES = ROOT / "samples"


class CountingLoudness(LoudnessBackbone):
    """Counts the windows that it prepares."""

    def __init__(self) -> None:
        self.prepared = 0

    def prepare(self, waveform: NDArray[np.float32]) -> NDArray[np.float32]:
        self.prepared += 1
        return waveform


def extractor(audio: LoudnessBackbone | None = None) -> ClipExtractor:
    return ClipExtractor(audio or LoudnessBackbone(), ColourBackbone(), "cpu")


def write_wav(path: Path, *levels: float, seconds_each: float = 0.5) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = np.repeat(levels, round(seconds_each * SAMPLE_RATE))
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes((samples * 32767).astype("<i2").tobytes())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four classes of three to five clips, each of its own loudness."""
    level = 0.1
    for name, count in (("big_dog", 5), ("cat", 4), ("hen", 3), ("owl", 3)):
        for i in range(count):
            write_wav(tmp_path / "pets" / name / f"{i}.wav", level)
            level += 0.05
    return tmp_path / "pets"


def loudness_of(features: FeatureSet) -> dict[str, float]:
    """Level of each clip's sound, which lasts half a second of its window of four."""
    levels = features.audio[:, 0] * np.sqrt(WINDOW_SECONDS / 0.5)
    return dict(zip(features.ids, levels.tolist(), strict=True))


def test_a_clip_is_a_row_with_its_class_and_features(folder: Path) -> None:
    features = read_clips(folder, extractor())

    assert features.name == "pets"
    assert features.ids[:2] == ("big_dog/0.wav", "big_dog/1.wav")
    assert features.classes == tuple(map(ClassText, ("big dog", "cat", "hen", "owl")))
    assert features.labels.tolist() == [0] * 5 + [1] * 4 + [2] * 3 + [3] * 3
    assert (features.audio.shape, features.video.shape) == ((15, 2), (15, 6))
    expected = {i: 0.1 + 0.05 * n for n, i in enumerate(features.ids)}
    assert loudness_of(features) == pytest.approx(expected, abs=1e-3)
    assert features.has_audio.all()
    assert not features.has_video.any()
    assert not features.video.any()
    assert features.backbones == ("loudness", "colour")
    check_trainable(features)


def test_a_clips_features_are_the_means_over_its_windows(tmp_path: Path) -> None:
    write_wav(tmp_path / "long.wav", 0.1, 0.2, 0.9, seconds_each=2.0)

    features = extractor().extract(tmp_path / "long.wav")

    # Windows [0, 4) and [2, 6), the root of the mean square of each.
    windows = np.sqrt([(0.1**2 + 0.2**2) / 2, (0.2**2 + 0.9**2) / 2])
    assert features.audio is not None
    np.testing.assert_allclose(features.audio, [windows.mean(), 1], atol=1e-3)


def test_pictures_are_mean_and_spread_within_windows_averaged_over_them() -> None:
    path = SAMPLES / "bell_then_rain.mp4"
    spec = DecodeSpec(SAMPLE_RATE, WINDOW_SECONDS, HOP_SECONDS, FRAMES_PER_SECOND, frame_size=16)
    windows = []
    for chunk in ClipReader(path, spec, MediaLimits()).chunks():
        assert chunk.frames is not None
        for start, end in chunk.windows:
            inside = (chunk.frame_times >= start) & (chunk.frame_times < end)
            colours = chunk.frames[inside].mean(axis=(1, 2)) / 255
            windows.append(np.concatenate([colours.mean(axis=0), colours.std(axis=0)]))
    assert len(windows) > 1

    features = extractor().extract(path)

    assert features.audio is not None
    np.testing.assert_allclose(features.video, np.mean(windows, axis=0), atol=1e-5)


def test_clips_without_a_modality_stay_and_unreadable_ones_are_listed(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copy(SAMPLES / "siren.mp4", folder / "cat" / "with pictures.mp4")
    (folder / "cat" / "nested").mkdir()
    shutil.copy(SAMPLES / "balloon.mp4", folder / "cat" / "nested" / "pictures only.mp4")
    (folder / "hen" / "notes.txt").write_text("not a clip")
    (folder / "hen" / "empty.wav").touch()
    (folder / "hen" / ".hidden").write_text("left out")
    write_wav(folder / "owl" / "silent.wav", 0.0)

    with caplog.at_level(logging.WARNING):
        features = read_clips(folder, extractor())

    has = {
        i: (bool(a), bool(v))
        for i, a, v in zip(features.ids, features.has_audio, features.has_video, strict=True)
    }
    assert len(features) == 17
    assert has["cat/with pictures.mp4"] == (True, True)
    assert has["cat/nested/pictures only.mp4"] == (False, True)
    assert not features.audio[features.ids.index("cat/nested/pictures only.mp4")].any()
    (message,) = caplog.messages
    assert message.startswith("3 of 20 files could not be read and are left out:")
    for line in ("hen/notes.txt: ", "hen/empty.wav: ", "owl/silent.wav: the sound is silent and"):
        assert f"\n  {line}" in message


def test_what_of_a_clip_could_not_be_used_is_told(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    whole = ClipReader.summary

    def damaged(reader: ClipReader) -> ClipSummary:
        return replace(whole(reader), warnings=("3 of 9 packets of the sound are damaged",))

    monkeypatch.setattr(ClipReader, "summary", damaged)

    features = read_clips(folder, extractor())

    assert len(features) > 4
    assert caplog.text.count("3 of 9 packets of the sound are damaged") == len(features)
    assert "files that were read in part:\n  big_dog/0.wav: 3 of 9" in caplog.text


def test_a_folder_without_clips_is_told(tmp_path: Path) -> None:
    (tmp_path / "dog").mkdir()
    (tmp_path / "stray.wav").touch()

    with pytest.raises(FeatureSetError, match="holds no clips; a sub-folder for each class"):
        read_clips(tmp_path, extractor())


# --- stages ---------------------------------------------------------------------------------------


def stage_of(features: FeatureSet) -> dict[str, str]:
    return {i: str(stage) for i, stage in zip(features.ids, features.stages, strict=True)}


def test_a_table_puts_classes_and_single_files_in_stages(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (folder / "split.csv").write_text(
        "class,file,stage\n"
        "big_dog,,stage_1_train\n"
        "cat,,stage_1_train\n"
        "big_dog,big_dog/0.wav,stage_1_val_seen\n"
        "owl,,stage_1_val_unseen\n"
    )

    stages = stage_of(read_clips(folder, extractor()))

    assert Counter(stages.values()) == {
        "stage_1_train": 8,
        "stage_1_val_seen": 1,
        "stage_1_val_unseen": 3,
    }
    assert stages["big_dog/0.wav"] == "stage_1_val_seen"
    assert "split.csv puts 3 files in no stage" in caplog.text
    assert not any(i.startswith("hen/") for i in stages)


def test_a_split_may_be_json_and_lie_elsewhere(folder: Path, tmp_path: Path) -> None:
    (folder / "split.csv").write_text("class,stage\nhen,stage_1_train\n")
    path = tmp_path / "other.json"
    path.write_text(json.dumps({"cat": "stage_1_train", "hen/1.wav": "stage_2_test_unseen"}))

    stages = stage_of(read_clips(folder, extractor(), split=path))

    assert stages == {f"cat/{i}.wav": "stage_1_train" for i in range(4)} | {
        "hen/1.wav": "stage_2_test_unseen"
    }


def test_a_folder_that_has_grown_is_split_as_it_was_trained_on(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trained = read_clips(folder, extractor())
    former = tmp_path / "split.json"
    former.write_text(json.dumps(stage_of(trained)))
    (folder / "cat" / "1.wav").unlink()
    write_wav(folder / "big_dog" / "new.wav", 0.5)

    stages = stage_of(read_clips(folder, extractor(), former_split=former))

    assert stages == {i: s for i, s in stage_of(trained).items() if i != "cat/1.wav"}
    assert "split.json puts 1 files in no stage" in caplog.text


def test_a_training_says_nothing_of_another_folder(folder: Path, tmp_path: Path) -> None:
    former = tmp_path / "split.json"
    former.write_text(json.dumps({"wolf/0.wav": "stage_1_train"}))

    stages = stage_of(read_clips(folder, extractor(), former_split=former))

    assert stages == stage_of(read_clips(folder, extractor()))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "split.csv",
            "class,stage\nwolf,stage_1_train\n",
            "'wolf', which is neither a class nor a",
        ),
        (
            "split.csv",
            "class,stage\ncat,train\n",
            "puts 'cat' in the unknown stage 'train'; stages",
        ),
        ("split.csv", "class,stage\ncat\n", "puts 'cat' in the unknown stage ''"),
        (
            "split.csv",
            "class,stage\ncat,stage_1_train\ncat,stage_1_val_seen\n",
            "puts 'cat' in stage_1_train and in stage_1_val_seen",
        ),
        (
            "split.csv",
            "name,stage\ncat,stage_1_train\n",
            "columns name, stage; `stage` and `class`",
        ),
        ("split.csv", "class,stage\n", "puts nothing in a stage"),
        ("split.json", '["cat"]', "holds list; an object"),
        ("split.json", '{"cat": ["stage_1_train"]}', "unknown stage"),
        ("split.json", "{", "is not readable JSON"),
    ],
)
def test_a_split_that_does_not_fit_is_told_before_any_clip_is_read(
    folder: Path, name: str, content: str, message: str
) -> None:
    (folder / name).write_text(content)
    audio = CountingLoudness()

    with pytest.raises(FeatureSetError, match=message):
        read_clips(folder, extractor(audio))
    assert audio.prepared == 0


def test_a_class_of_the_split_without_a_readable_clip_is_told(folder: Path) -> None:
    (folder / "fox").mkdir()
    (folder / "fox" / "broken.wav").write_text("broken")
    (folder / "split.csv").write_text("class,stage\ncat,stage_1_train\nfox,stage_1_train\n")

    with pytest.raises(FeatureSetError, match="the class 'fox' has no clip that can be read"):
        read_clips(folder, extractor())


def test_an_unreadable_file_of_the_split_is_left_out_like_any_other(folder: Path) -> None:
    (folder / "cat" / "broken.wav").write_text("broken")
    (folder / "split.json").write_text(
        json.dumps({"cat": "stage_1_train", "cat/broken.wav": "stage_1_val_seen"})
    )

    assert stage_of(read_clips(folder, extractor())) == {
        f"cat/{i}.wav": "stage_1_train" for i in range(4)
    }


CLIPS_OF_CLASS = {"a": 10, "b": 10, "c": 20, "d": 5, "e": 1, "f": 2, "g": 7, "h": 30}


def clips(counts: dict[str, int]) -> list[str]:
    return [name for name, count in counts.items() for _ in range(count)]


@pytest.mark.parametrize("seed", range(20))
def test_chance_splits_by_the_protocol(seed: int) -> None:
    classes = clips(CLIPS_OF_CLASS)

    stages = stages_by_chance(classes, seed)

    of_stage = {
        s: Counter(c for c, t in zip(classes, stages, strict=True) if t == s) for s in STAGES
    }
    trained = set(of_stage["stage_1_train"])
    val_unseen = set(of_stage["stage_1_val_unseen"])
    test_unseen = set(of_stage["stage_2_test_unseen"])
    assert (len(trained), len(val_unseen), len(test_unseen)) == (4, 2, 2)
    assert trained | val_unseen | test_unseen == set(CLIPS_OF_CLASS)
    assert set(of_stage["stage_1_val_seen"]) == trained
    assert set(of_stage["stage_2_test_seen"]) == trained | val_unseen
    assert sum(map(Counter.total, of_stage.values())) == len(classes)
    assert test_unseen >= {"e"}, "one clip is enough only for a class that is unseen in the test"
    for name in trained:
        count = CLIPS_OF_CLASS[name]
        assert of_stage["stage_2_test_seen"][name] == max(1, round(count / 5))
        assert of_stage["stage_1_val_seen"][name] == max(
            1, round((count - of_stage["stage_2_test_seen"][name]) / 5)
        )


def test_the_same_seed_splits_alike_and_another_one_differently() -> None:
    classes = clips(CLIPS_OF_CLASS)

    assert stages_by_chance(classes, 3) == stages_by_chance(classes, 3)
    assert len({tuple(stages_by_chance(classes, seed)) for seed in range(5)}) == 5


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ({"a": 9, "b": 9, "c": 9}, "clips of 3 classes; a split .* needs 4"),
        ({"a": 9, "b": 2, "c": 2, "d": 2}, r"has 2 clips that can be read; .* needs 3"),
    ],
)
def test_too_little_to_split_by_chance_is_told(counts: dict[str, int], message: str) -> None:
    with pytest.raises(FeatureSetError, match=message):
        stages_by_chance(clips(counts), 0)


# --- cache ----------------------------------------------------------------------------------------


def assert_equal(got: FeatureSet, expected: FeatureSet) -> None:
    for name in ("audio", "video", "has_audio", "has_video", "labels", "stages"):
        np.testing.assert_array_equal(getattr(got, name), getattr(expected, name), name)
    assert (got.ids, got.classes, got.name) == (expected.ids, expected.classes, expected.name)
    assert got.backbones == expected.backbones


def test_a_finished_extraction_is_not_repeated_and_is_a_feature_set_itself(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache = tmp_path / "out" / "pets.npz"
    (folder / "cat" / "broken.wav").write_text("broken")
    first, again = CountingLoudness(), CountingLoudness()
    features = read_clips(folder, extractor(first), cache=cache)

    repeated = read_clips(folder, extractor(again), cache=cache)

    assert first.prepared == 15 + 1, "a window a clip, and one of noise that tells the backbone"
    assert again.prepared == 1
    assert caplog.text.count("cat/broken.wav: ") == 2, "what was left out is told each time"
    assert_equal(repeated, features)
    assert_equal(read_features(cache), features)
    assert sorted(path.name for path in cache.parent.iterdir()) == ["pets.npz"]


def test_only_new_and_changed_clips_are_read_again(folder: Path, tmp_path: Path) -> None:
    cache = tmp_path / "pets.npz"
    read_clips(folder, extractor(), cache=cache)
    write_wav(folder / "cat" / "1.wav", 0.95)
    write_wav(folder / "hen" / "new.wav", 0.85)
    audio = CountingLoudness()

    features = read_clips(folder, extractor(audio), cache=cache)

    assert audio.prepared == 2 + 1
    assert loudness_of(features)["cat/1.wav"] == pytest.approx(0.95, abs=1e-3)
    assert loudness_of(features)["hen/new.wav"] == pytest.approx(0.85, abs=1e-3)


class DoubledLoudness(CountingLoudness):
    """Other weights under the same name."""

    def features(self, batch: torch.Tensor) -> torch.Tensor:
        return 2 * super().features(batch)


def test_other_weights_do_not_answer_from_the_cache(folder: Path, tmp_path: Path) -> None:
    cache = tmp_path / "pets.npz"
    read_clips(folder, extractor(), cache=cache)
    audio = DoubledLoudness()

    features = read_clips(folder, extractor(audio), cache=cache)

    assert audio.prepared == 15 + 1
    assert loudness_of(features)["big_dog/0.wav"] == pytest.approx(0.2, abs=1e-3)


def test_a_torn_cache_is_made_anew(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache = tmp_path / "pets.npz"
    features = read_clips(folder, extractor(), cache=cache)
    cache.write_bytes(cache.read_bytes()[:500])

    assert_equal(read_clips(folder, extractor(), cache=cache), features)
    assert "the cache is not used" in caplog.text


class Interrupted(LoudnessBackbone):
    """Ends the run, as a kill does, at the window of this number."""

    def __init__(self, at: int) -> None:
        self.left = at

    def prepare(self, waveform: NDArray[np.float32]) -> NDArray[np.float32]:
        self.left -= 1
        if not self.left:
            raise KeyboardInterrupt
        return waveform


def test_an_interrupted_extraction_goes_on_where_it_was(folder: Path, tmp_path: Path) -> None:
    cache = tmp_path / "pets.npz"
    with pytest.raises(KeyboardInterrupt):
        read_clips(folder, extractor(Interrupted(at=12)), cache=cache)
    assert not cache.exists()
    audio = CountingLoudness()

    features = read_clips(folder, extractor(audio), cache=cache)

    assert audio.prepared == 15 - 10 + 1, "ten clips were done"
    assert_equal(features, read_clips(folder, extractor()))
    assert not cache.with_name("pets.npz.parts").exists()


def test_a_killed_process_leaves_what_it_had_finished(folder: Path, tmp_path: Path) -> None:
    cache = tmp_path / "pets.npz"
    script = textwrap.dedent(f"""
        import os, signal
        from pathlib import Path
        from tests.model import test_features_clips as t

        class Killed(t.Interrupted):
            def prepare(self, waveform):
                self.left -= 1
                if not self.left:
                    os.kill(os.getpid(), signal.SIGKILL)
                return waveform

        t.read_clips(Path({str(folder)!r}), t.extractor(Killed(8)), cache=Path({str(cache)!r}))
    """)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    killed = subprocess.run([sys.executable, "-c", script], cwd=ROOT, env=environment, check=False)
    assert killed.returncode == -9
    audio = CountingLoudness()

    features = read_clips(folder, extractor(audio), cache=cache)

    assert audio.prepared == 15 - 6 + 1
    assert_equal(features, read_clips(folder, extractor()))


# --- by path and by command -----------------------------------------------------------------------


@pytest.fixture
def stub_backbones(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Path]]:
    """Put the stand-ins where backbones are loaded; returns what was asked for."""
    asked: list[tuple[str, Path]] = []

    def load_audio(name: str, weights: Path) -> LoudnessBackbone:
        asked.append((name, weights))
        return LoudnessBackbone()

    def load_video(name: str, weights: Path) -> ColourBackbone:
        asked.append((name, weights))
        return ColourBackbone()

    monkeypatch.setattr("model.features.clips.load_audio_backbone", load_audio)
    monkeypatch.setattr("model.features.clips.load_video_backbone", load_video)
    return asked


def test_a_folder_of_clips_is_read_by_the_backbones_of_these_names(
    folder: Path, stub_backbones: list[tuple[str, Path]]
) -> None:
    features = read_features(folder, device="cpu", seed=5, audio_backbone="ears")

    assert_equal(features, read_clips(folder, extractor(), seed=5))
    assert [name for name, _ in stub_backbones] == ["ears", "compact-video"]


def test_the_command_converts_clips_to_a_dataset_and_back_to_a_file(
    folder: Path,
    tmp_path: Path,
    stub_backbones: list[tuple[str, Path]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    dataset, file = tmp_path / "out" / "Pets", tmp_path / "out" / "pets.npz"

    assert command.main(["convert", str(folder), str(dataset), "--device", "cpu"]) == 0
    assert command.main(["convert", str(dataset), str(file)]) == 0

    expected = read_clips(folder, extractor())
    got = read_features(file)
    position = {sample: i for i, sample in enumerate(got.ids)}
    rows = [position[sample] for sample in expected.ids]
    np.testing.assert_array_equal(got.audio[rows], expected.audio)
    np.testing.assert_array_equal(got.stages[rows], expected.stages)
    np.testing.assert_array_equal(got.has_video[rows], expected.has_video)
    assert (tmp_path / "out" / "Pets.clips.npz").exists(), "the cache, beside what was asked for"
    assert "pets: 15 samples, audio 2, video 6 numbers" in capsys.readouterr().out


def test_the_command_tells_an_error_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main(["convert", str(tmp_path / "none"), str(tmp_path / "a.npz")]) == 1

    assert capsys.readouterr().err == (
        f"error: {tmp_path / 'none'} is missing; give an .npz file, or a folder\n"
    )


def test_every_option_of_reading_has_its_option_of_the_command() -> None:
    options: Sequence[str] = command._parser().parse_args(["convert", "a", "b"]).__dict__
    # Whose backbones and split are meant is for a checkpoint to say, not for this command.
    of_checkpoint = {"backbone_folder", "former_split"}
    asked = set(read_features.__annotations__) - {"return", "path", "cache"} - of_checkpoint

    assert set(options) - {"source", "out"} == asked

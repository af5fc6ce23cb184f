"""What the audio backbone is trained with: clips, labels, mixtures, teachers' answers, losses."""

import wave
from pathlib import Path

import numpy as np
import pytest
import torch

from model.backbones.compact_audio import CompactAudioConfig, CompactAudioNetwork
from model.distillation.audio import (
    TeacherStatistics,
    correct,
    distillation_losses,
    interpolate,
    learning_rate,
    mean_class_accuracy,
)
from model.distillation.mixtures import Mixer, change_speed, degrade, keep_part
from model.distillation.mn04 import read_class_names
from model.distillation.sounds import (
    AUDIOSET_NAMES,
    STREET_NAMES,
    ClassFinder,
    Clip,
    decode_mono,
    list_recordings,
    load_clips,
    street_name,
)

DATA = Path(__file__).parents[2] / ".." / "shared" / "data"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="../shared/data is absent")

CLASSES = ["Speech", "Thunder", "Drum"]
CLASSES += sorted(
    {name for group in AUDIOSET_NAMES.values() for row in group.values() for name in row}
    | {name for _, row in STREET_NAMES.values() for name in row}
)
CLASSES += [f"Other {number}" for number in range(40)]


@pytest.fixture
def finder() -> ClassFinder:
    return ClassFinder(CLASSES)


def clip(group: str, label: str) -> Clip:
    return Clip(group, label, False, np.zeros(8, np.int16))


def named(columns: list[int]) -> set[str]:
    return {CLASSES[column] for column in columns}


# --- clips and what their names say --------------------------------------------------------------


@needs_data
def test_the_fourth_fold_and_the_agreed_shares_are_held_out() -> None:
    recordings = list_recordings(DATA)
    esc10 = [
        (held_out, path.name[0]) for group, _, held_out, path in recordings if group == "esc10"
    ]
    assert {fold for held_out, fold in esc10 if held_out} == {"4"}
    assert "4" not in {fold for held_out, fold in esc10 if not held_out}
    animals = [held_out for group, _, held_out, _ in recordings if group == "animals"]
    assert np.mean(animals) == pytest.approx(0.2, abs=0.02)
    berklee = [(label, held_out) for group, label, held_out, _ in recordings if group == "berklee"]
    assert np.mean([held_out for _, held_out in berklee]) == pytest.approx(0.12, abs=0.02)
    assert all(held_out for label, held_out in berklee if street_name(label))


def test_clips_come_back_from_the_cache_unchanged(tmp_path: Path) -> None:
    write_recordings(tmp_path)
    decoded = load_clips(tmp_path, tmp_path / "clips.npz")
    cached = load_clips(tmp_path, tmp_path / "clips.npz")
    assert [clip.samples.size for clip in decoded] == [32_000, 16_000]
    for first, second in zip(decoded, cached, strict=True):
        assert (first.group, first.label, first.held_out) == (
            second.group,
            second.label,
            second.held_out,
        )
        np.testing.assert_array_equal(first.samples, second.samples)


def write_recordings(data: Path) -> None:
    (data / "animals").mkdir()
    (data / "speech_digits").mkdir()
    for name, frames in (("0.wav", 8000), ("1.wav", 4000)):
        with wave.open(str(data / "speech_digits" / name), "wb") as file:
            file.setparams((1, 2, 8000, frames, "NONE", ""))
            file.writeframes((np.sin(np.arange(frames)) * 9000).astype("<i2").tobytes())


@pytest.mark.parametrize(
    ("stem", "name"),
    [
        ("Engine_noise", "engine"),
        ("powerdrill2", "drill"),
        ("dog_bark_2", "dog"),
        ("children_and_fountain", "crowd"),
        ("walking_in_trainstation", None),
        ("drill_engine", None),
        ("glass_tone2", None),
    ],
)
def test_a_street_name_is_found_where_only_one_fits(stem: str, name: str | None) -> None:
    assert street_name(stem) == name


def test_a_folder_means_its_own_classes_and_denies_its_neighbours(finder: ClassFinder) -> None:
    rooster = clip("esc10", "rooster")
    assert named(finder.true(rooster)) == {"Chicken, rooster", "Crowing, cock-a-doodle-doo"}
    assert {"Rain", "Bark"} <= named(finder.untrue(rooster))
    assert not set(finder.true(rooster)) & set(finder.untrue(rooster))


def test_a_class_that_two_folders_share_is_not_denied(finder: ClassFinder) -> None:
    for label in AUDIOSET_NAMES["animals"]:
        animal = clip("animals", label)
        assert not set(finder.true(animal)) & set(finder.untrue(animal))


def test_a_folder_without_a_name_in_audioset_teaches_no_neighbours_name(
    finder: ClassFinder,
) -> None:
    assert finder.true(clip("animals", "donkey")) == []
    assert finder.untrue(clip("animals", "donkey")) == []


def test_spoken_digits_are_speech(finder: ClassFinder) -> None:
    assert named(finder.true(clip("speech_digits", ""))) == {"Speech"}


def test_words_of_a_file_name_hint_at_classes(finder: ClassFinder) -> None:
    assert named(finder.hinted(clip("berklee", "Thunder_drum_1"))) == {"Thunder", "Drum"}
    assert finder.hinted(clip("berklee", "thunderous_2")) == []
    assert finder.hinted(clip("animals", "thunder")) == []


# --- teachers' answers and labels ----------------------------------------------------------------


def test_a_label_raises_its_classes_and_lowers_its_neighbours(finder: ClassFinder) -> None:
    teachers = torch.zeros(len(CLASSES))
    rain = clip("esc10", "rain")
    probability = correct(teachers, finder, rain, alone=True).sigmoid()
    assert float(probability[CLASSES.index("Rain")]) == pytest.approx(0.8)
    assert float(probability[CLASSES.index("Chainsaw")]) == pytest.approx(0.05)
    assert float(probability[CLASSES.index("Thunder")]) == pytest.approx(0.5)
    assert not teachers.any()


def test_a_mixture_may_hold_the_neighbours_of_its_main_sound(finder: ClassFinder) -> None:
    corrected = correct(torch.zeros(len(CLASSES)), finder, clip("esc10", "rain"), alone=False)
    assert float(corrected[CLASSES.index("Chainsaw")]) == 0.0


def test_a_label_never_weakens_a_surer_teacher(finder: ClassFinder) -> None:
    teachers = torch.full((len(CLASSES),), 5.0)
    corrected = correct(teachers, finder, clip("esc10", "rain"), alone=False)
    torch.testing.assert_close(corrected, teachers)


def test_a_file_name_is_believed_only_where_the_teachers_half_hear_it(finder: ClassFinder) -> None:
    teachers = torch.linspace(-3.0, -9.0, len(CLASSES))  # "Thunder" second, "Drum" third
    thunder = correct(teachers, finder, clip("berklee", "thunder_1"), alone=True)
    assert float(thunder[CLASSES.index("Thunder")]) == pytest.approx(0.0)
    assert float(thunder[0]) == -3.0
    unheard = correct(teachers.flip(0), finder, clip("berklee", "thunder_1"), alone=True)
    torch.testing.assert_close(unheard, teachers.flip(0))


@needs_data
def test_yamnet_hears_speech_on_the_scale_of_the_other_teacher() -> None:
    pytest.importorskip("ai_edge_litert", reason="YAMNet runs with ai-edge-litert")
    from model.distillation.yamnet import Yamnet

    yamnet = Yamnet(DATA / "teachers")
    spoken = decode_mono(next((DATA / "speech_digits").glob("*.wav"))).astype(np.float32) / 32768
    names = read_class_names(DATA / "teachers" / "mn04_class_labels.csv")
    logits = yamnet.logits(spoken)
    assert logits.shape == (527,)
    assert logits.dtype == np.float32
    assert int(yamnet.known.sum()) == 521
    assert not logits[~yamnet.known].any()
    assert "peech" in names[int(np.where(yamnet.known, logits, -99).argmax())]


# --- mixtures ------------------------------------------------------------------------------------


@pytest.fixture
def mixer() -> Mixer:
    rng = np.random.default_rng(0)
    clips = [
        Clip(group, str(size), False, rng.integers(-9000, 9000, size, dtype=np.int16))
        for group in ("berklee", "esc10", "animals", "speech_digits")
        for size in (2, 500, 40_000)
    ]
    return Mixer(clips, 16_000, seed=3)


def test_mixtures_are_finite_windows_within_full_scale(mixer: Mixer) -> None:
    for _ in range(100):
        mixture = mixer.draw()
        assert mixture.shape == (16_000,)
        assert mixture.dtype == np.float32
        assert np.abs(mixture).max() <= 1.0


def test_clean_mixtures_say_what_is_loudest_in_them(mixer: Mixer) -> None:
    mixtures = [mixer.mix() for _ in range(60)]
    assert all(mixture.waveform.dtype == np.float32 for mixture in mixtures)
    assert {mixture.main.group for mixture in mixtures if mixture.main} >= {"berklee", "esc10"}
    assert {mixture.main is None for mixture in mixtures} == {True, False}
    assert {mixture.alone for mixture in mixtures} == {True, False}


def test_degrading_changes_what_is_heard_and_not_its_shape() -> None:
    rng = np.random.default_rng(5)
    clean = np.sin(np.arange(16_000, dtype=np.float32) / 9)
    copy = clean.copy()
    degraded = [degrade(rng, clean) for _ in range(40)]
    for heard in degraded:
        assert heard.shape == clean.shape
        assert heard.dtype == np.float32
        assert np.isfinite(heard).all()
        assert np.abs(heard).max() <= 1.0
    np.testing.assert_array_equal(clean, copy)
    alike = [np.corrcoef(heard, clean)[0, 1] for heard in degraded]
    assert max(alike) == pytest.approx(1.0, abs=1e-4)
    assert min(alike) < 0.5


def test_silence_stays_silence_when_it_is_not_made_noisy() -> None:
    heard = [degrade(np.random.default_rng(seed), np.zeros(4000, np.float32)) for seed in range(9)]
    assert any(not window.any() for window in heard)
    assert all(np.isfinite(window).all() for window in heard)


def test_a_part_is_kept_only_with_most_of_the_sound_in_it() -> None:
    steady = np.ones(1000, np.float32)
    click = np.zeros(1000, np.float32)
    click[500] = 1.0
    for seed in range(20):
        part = keep_part(np.random.default_rng(seed), click)
        assert part.shape == (1000,)
        assert part.sum() == 1.0
        length = int(keep_part(np.random.default_rng(seed), steady).sum())
        assert 500 <= length <= 1000


def test_playing_faster_shortens_and_raises() -> None:
    tone = np.sin(np.arange(8000, dtype=np.float32) * 0.1)
    faster = change_speed(tone, 2.0)
    assert faster.size == pytest.approx(4000, abs=1)
    np.testing.assert_allclose(faster[:100], np.sin(np.arange(100) * 0.2), atol=1e-3)


# --- loss, figures, schedule ---------------------------------------------------------------------


def test_a_student_that_answers_as_its_teacher_has_no_loss() -> None:
    generator = torch.Generator().manual_seed(2)
    answers = (torch.randn(4, 384, generator=generator), torch.randn(4, 527, generator=generator))
    statistics = TeacherStatistics(torch.ones(527), torch.ones(384))
    same = distillation_losses(answers, answers, statistics)
    other = distillation_losses((answers[0] + 1, answers[1].flip(0)), answers, statistics)
    for name in same:
        assert float(same[name]) == pytest.approx(0.0, abs=1e-5)
        assert float(other[name]) > 0.1


def test_accuracy_is_averaged_over_classes_and_each_scores_its_best_column() -> None:
    logits = np.array([[0, 0, 3], [2, 0, 1], [0, 1, 2], [0, 5, 0]], np.float32)
    labels = np.array(["b", "b", "b", "a"])
    # "b" is right in two of three, "a" in one of one.
    assert mean_class_accuracy(logits, labels, {"a": [1], "b": [0, 2]}) == 1.0
    assert mean_class_accuracy(logits, labels, {"a": [0, 1], "b": [2]}) == pytest.approx(5 / 6)


def test_the_learning_rate_rises_then_falls_to_a_hundredth() -> None:
    rates = [learning_rate(progress, 1.0) for progress in np.linspace(0, 1, 101)]
    assert max(rates) == pytest.approx(1.0)
    assert rates.index(max(rates)) == 4
    assert rates[-1] == pytest.approx(0.01)
    assert rates[4:] == sorted(rates[4:], reverse=True)


def test_the_kept_weights_lie_between_the_start_and_the_trained_ones() -> None:
    config = CompactAudioConfig(blocks=((8, 8, 3, 1, True, True),), dim=16, classes=5)
    start, trained = CompactAudioNetwork(config), CompactAudioNetwork(config)
    before = start.head[0].weight.clone()
    between = interpolate(start, trained, 0.25)
    expected = 0.75 * start.head[0].weight + 0.25 * trained.head[0].weight
    torch.testing.assert_close(between.head[0].weight, expected)
    assert torch.equal(start.head[0].weight, before)
    assert all(
        torch.equal(one, other)
        for one, other in zip(between.buffers(), start.buffers(), strict=True)
    )

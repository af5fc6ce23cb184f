"""The report on toy spaces whose answers are known, and what it says where figures are absent."""

import io
import json
import math
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from rich.console import Console

from model import metrics
from model.candidates import candidate_classes, evaluated_rows, require_fitting, stage_notes
from model.config import Calibration, NetworkConfig
from model.embedded_samples import EVIDENCE, EmbeddedSamples, LabelEmbeddings
from model.embedding import ClassText
from model.errors import FeatureSetError
from model.evaluation import Report, evaluate
from model.features import FeatureSet
from model.report import print_report, to_json
from model.stacking import betas_of, choose_betas, euclidean_distances, label_distances

NO_BETA = betas_of(Calibration())
SEEN = np.array([True, True, False, False])
NAMES = ("cat", "dog", "owl", "emu")
CORNERS = np.eye(4, dtype=np.float32)
LABELS = LabelEmbeddings(CORNERS, SEEN)
RETRIEVALS = ["text_to_both", "text_to_audio", "text_to_video", "audio_to_video", "video_to_audio"]


def samples_at(
    audio: NDArray[np.float32] | None,
    video: NDArray[np.float32] | None,
    labels: list[int],
    **changes: NDArray[np.bool_] | NDArray[np.float32],
) -> EmbeddedSamples:
    every = np.ones(len(labels), bool)
    samples = EmbeddedSamples(audio, video, None, every, every, np.array(labels))
    return replace(samples, **changes)  # type: ignore[arg-type]


def noisy_samples(spread: float = 0.6, per_class: int = 12, seed: int = 0) -> EmbeddedSamples:
    """Samples around their labels, those of unseen classes drawn towards a seen one."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(4), per_class)
    centres = CORNERS[labels] + 0.9 * (~SEEN[labels])[:, None] * CORNERS[labels % 2]
    audio, video = (
        (centres + spread * rng.standard_normal((len(labels), 4))).astype(np.float32)
        for _ in range(2)
    )
    every = np.ones(len(labels), bool)
    return EmbeddedSamples(audio, video, None, every, every, labels)


def report_on(samples: EmbeddedSamples, labels: LabelEmbeddings = LABELS) -> Report:
    return evaluate(samples, labels, class_names=NAMES, betas=NO_BETA, calibration=Calibration())


def feature_set(stages: list[str], labels: list[int], names: tuple[str, ...] = NAMES) -> FeatureSet:
    n = len(labels)
    return FeatureSet(
        name="toys",
        audio=np.ones((n, 2), np.float32),
        video=np.ones((n, 3), np.float32),
        has_audio=np.ones(n, bool),
        has_video=np.ones(n, bool),
        labels=np.array(labels),
        stages=np.array(stages, dtype=np.str_),
        ids=tuple(map(str, range(n))),
        classes=tuple(map(ClassText, names)),
        text_vectors=None,
        backbones=None,
    )


# --- distances -----------------------------------------------------------------------------------


def test_distances_are_euclidean() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((5, 3)), rng.standard_normal((4, 3))

    expected = [[math.dist(x, y) for y in b] for x in a]

    np.testing.assert_allclose(euclidean_distances(a, b), expected)
    np.testing.assert_allclose(np.diag(euclidean_distances(a, a)), 0, atol=1e-7)


def test_both_is_the_weighted_mean_of_the_modalities_distances() -> None:
    samples = noisy_samples()
    audio, video = (euclidean_distances(x, CORNERS) for x in (samples.audio, samples.video))

    equal = label_distances(samples, LABELS, Calibration())["both"]
    weighted = label_distances(samples, LABELS, Calibration(audio_weight=3.0, video_weight=1.0))[
        "both"
    ]

    np.testing.assert_allclose(equal, (audio + video) / 2)
    assert equal.argsort().tolist() == (audio + video).argsort().tolist()  # the paper's sum
    np.testing.assert_allclose(weighted, (3 * audio + video) / 4)


def test_a_sample_without_one_modality_goes_by_the_other_alone() -> None:
    has_audio = np.array([True, True, False, False])
    has_video = np.array([True, False, True, False])
    rng = np.random.default_rng(0)
    audio, video = rng.random((2, 4, 4), dtype=np.float32)
    samples = samples_at(audio, video, [0, 1, 2, 3], has_audio=has_audio, has_video=has_video)
    by_audio, by_video = (euclidean_distances(x, CORNERS) for x in (audio, video))

    distances = label_distances(samples, LABELS, Calibration())

    expected = [(by_audio[0] + by_video[0]) / 2, by_audio[1], by_video[2], np.full(4, np.nan)]
    np.testing.assert_allclose(distances["both"], np.array(expected))
    assert np.isnan(distances["audio"]).all(axis=1).tolist() == [False, False, True, True]
    assert np.isnan(distances["video"]).all(axis=1).tolist() == [False, True, False, True]
    assert samples.present("both").tolist() == [True, True, True, False]


def test_a_joint_embedding_answers_where_both_modalities_are_there() -> None:
    rng = np.random.default_rng(0)
    audio, video, joint = rng.random((3, 3, 4), dtype=np.float32)
    samples = samples_at(
        audio, video, [0, 1, 2], both=joint, has_video=np.array([True, False, True])
    )

    distances = label_distances(samples, LABELS, Calibration())["both"]

    np.testing.assert_allclose(distances[[0, 2]], euclidean_distances(joint[[0, 2]], CORNERS))
    np.testing.assert_allclose(distances[[1]], euclidean_distances(audio[[1]], CORNERS))


def test_a_method_with_a_joint_embedding_only_has_no_figures_of_one_modality() -> None:
    joint = noisy_samples().audio
    samples = replace(noisy_samples(), audio=None, video=None, both=joint)

    report = report_on(samples)

    assert report.figures["both"].harmonic_mean is not None
    for evidence in ("audio", "video"):
        assert report.figures[evidence] == metrics.SeenUnseen(None, None, None, None)
    assert report.retrieval["audio_to_video"].mean is None
    assert report.retrieval["text_to_both"].mean is not None
    assert [n.split(":")[0] for n in report.notes] == [
        "The figures of audio are absent",
        "The figures of video are absent",
    ]


def test_embeddings_that_diverged_are_refused_and_named() -> None:
    video = CORNERS.copy()
    video[2, 1] = np.nan

    with pytest.raises(FeatureSetError, match="embeddings of video hold NaN"):
        report_on(samples_at(CORNERS, video, [0, 1, 2, 3]))
    with pytest.raises(FeatureSetError, match="labels hold NaN"):
        report_on(samples_at(CORNERS, CORNERS, [0, 1, 2, 3]), LabelEmbeddings(video, SEEN))


def test_what_lies_in_the_rows_of_a_missing_modality_does_not_matter() -> None:
    samples = replace(noisy_samples(), has_video=np.arange(48) % 3 > 0)
    assert samples.video is not None
    rubbish = samples.video.copy()
    rubbish[~samples.has_video] = np.nan

    assert to_json(report_on(replace(samples, video=rubbish))) == to_json(report_on(samples))


# --- figures -------------------------------------------------------------------------------------


def test_samples_on_their_labels_are_all_right() -> None:
    report = report_on(samples_at(CORNERS, CORNERS, [0, 1, 2, 3]))

    for evidence in EVIDENCE:
        assert report.figures[evidence] == metrics.SeenUnseen(1.0, 1.0, 1.0, 1.0)
    assert {name: f.mean for name, f in report.retrieval.items()} == dict.fromkeys(RETRIEVALS, 1.0)
    assert report.confusions == ()
    assert report.notes == ()


def test_each_evidence_is_reported_with_its_own_beta() -> None:
    samples = noisy_samples()
    betas = {"both": 0.1, "audio": 0.3, "video": -0.2}

    report = evaluate(samples, LABELS, class_names=NAMES, betas=betas, calibration=Calibration())

    for evidence, distances in label_distances(samples, LABELS, Calibration()).items():
        assert report.figures[evidence] == metrics.seen_unseen_report(
            distances, samples.labels, SEEN, betas[evidence]
        )
    assert report.betas == betas


def test_a_sample_with_one_modality_is_answered_with_that_modality_s_beta() -> None:
    # Each sample lies between the seen class 0 and the unseen class 2, a little nearer to 0.
    at = np.tile(0.55 * CORNERS[0] + 0.45 * CORNERS[2], (3, 1))
    samples = samples_at(
        at,
        at,
        [2, 3, 0],
        has_audio=np.array([True, True, False]),
        has_video=np.array([True, False, True]),
    )
    far = {"both": 1.0, "audio": 0.0, "video": 0.0}

    report = evaluate(samples, LABELS, class_names=NAMES, betas=far, calibration=Calibration())

    # Only the first sample, which has both, moves to class 2.
    np.testing.assert_array_equal(report.accuracy_per_class["both"], [1.0, np.nan, 1.0, 0.0])
    assert [(c.true, c.predicted) for c in report.confusions] == [(3, 0)]


def test_the_beta_of_both_is_chosen_on_samples_with_both() -> None:
    samples = noisy_samples(per_class=40)
    has_video = np.arange(160) % 2 == 0
    half_blind = replace(samples, has_video=has_video)
    assert samples.audio is not None
    assert samples.video is not None
    paired = EmbeddedSamples(
        samples.audio[has_video], samples.video[has_video], None,
        has_video[has_video], has_video[has_video], samples.labels[has_video],
    )  # fmt: skip

    chosen = choose_betas(half_blind, LABELS, Calibration())

    assert chosen.betas["both"] == choose_betas(paired, LABELS, Calibration()).betas["both"]
    assert chosen.betas["audio"] == choose_betas(samples, LABELS, Calibration()).betas["audio"]


def test_betas_of_a_checkpoint_are_those_of_its_calibration() -> None:
    calibration = Calibration(seen_penalty=0.1, audio_seen_penalty=0.2, video_seen_penalty=0.3)

    assert betas_of(calibration) == {"both": 0.1, "audio": 0.2, "video": 0.3}


def test_betas_chosen_on_validation_raise_the_harmonic_mean_of_each_evidence() -> None:
    selection = choose_betas(noisy_samples(per_class=100, seed=1), LABELS, Calibration())

    test = noisy_samples(per_class=100, seed=2)
    plain = report_on(test)
    calibrated = evaluate(
        test, LABELS, class_names=NAMES, betas=selection.betas, calibration=Calibration()
    )

    for evidence in EVIDENCE:
        assert selection.betas[evidence] > 0  # unseen samples lean to seen classes
        before, after = plain.figures[evidence], calibrated.figures[evidence]
        assert before.harmonic_mean is not None
        assert after.harmonic_mean is not None
        assert after.harmonic_mean > before.harmonic_mean
        assert after.zero_shot == before.zero_shot


def test_the_relative_penalty_that_is_chosen_is_the_one_that_is_applied() -> None:
    calibration = Calibration(relative_penalty=True)
    samples = noisy_samples(per_class=100, seed=1)
    selection = choose_betas(samples, LABELS, calibration)

    report = evaluate(
        samples, LABELS, class_names=NAMES, betas=selection.betas, calibration=calibration
    )

    for evidence in EVIDENCE:
        assert report.figures[evidence].harmonic_mean == pytest.approx(
            np.nanmax(selection.curves[evidence].harmonic_mean)
        )


def test_without_unseen_validation_samples_beta_stays_zero() -> None:
    selection = choose_betas(samples_at(CORNERS[:2], CORNERS[:2], [0, 1]), LABELS, Calibration())

    assert selection.betas == {"both": 0.0, "audio": 0.0, "video": 0.0}
    assert selection.curves == {}


def test_accuracy_and_confusions_are_given_by_class() -> None:
    at = CORNERS[[0, 0, 1, 2, 0, 0]]
    report = report_on(samples_at(at, at, [0, 0, 0, 2, 3, 3]))

    np.testing.assert_allclose(report.accuracy_per_class["both"], [2 / 3, np.nan, 1.0, 0.0])
    assert report.samples_per_class.tolist() == [3, 0, 1, 2]
    assert [(c.true, c.predicted, c.count) for c in report.confusions] == [(3, 0, 2), (0, 1, 1)]


def test_chance_is_that_of_guessing_among_the_candidates() -> None:
    labels = LabelEmbeddings(
        np.eye(5, dtype=np.float32), np.array([True, True, True, False, False])
    )
    at = np.eye(5, dtype=np.float32)[[0, 3]]

    report = evaluate(
        samples_at(at, at, [0, 3]),
        labels,
        class_names="abcde",
        betas=NO_BETA,
        calibration=Calibration(),
    )

    assert report.chance == metrics.SeenUnseen(0.2, 0.2, 0.2, 0.5)


def test_unseen_samples_are_told_by_their_distance_to_seen_classes() -> None:
    report = report_on(samples_at(CORNERS, CORNERS, [0, 1, 2, 3]))

    assert report.unseen_auroc == 1.0


def test_calibration_error_is_of_the_probabilities_that_the_service_shows() -> None:
    at = CORNERS[[0, 2]]  # one right, one wrong, both at distance 0 from an answer
    distances = np.array([0.0, *[math.sqrt(2)] * 3])
    probability = np.exp(-distances / 0.5)[0] / np.exp(-distances / 0.5).sum()

    report = evaluate(
        samples_at(at, at, [0, 3]),
        LABELS,
        class_names=NAMES,
        betas=NO_BETA,
        calibration=Calibration(temperature=0.5),
    )

    assert report.calibration_error == pytest.approx(abs(probability - 0.5), abs=1e-6)


def test_more_names_than_labels_are_a_mistake() -> None:
    with pytest.raises(ValueError, match="3 class names for 4"):
        evaluate(
            samples_at(CORNERS, CORNERS, [0, 1, 2, 3]),
            LABELS,
            class_names=NAMES[:3],
            betas=NO_BETA,
            calibration=Calibration(),
        )


def test_no_sample_is_an_error_and_no_report() -> None:
    nothing = np.zeros((0, 4), np.float32)

    with pytest.raises(FeatureSetError, match="no sample"):
        report_on(samples_at(nothing, nothing, []))


# --- retrieval -----------------------------------------------------------------------------------


def slow_class_mean(precisions: list[tuple[int, float | None]]) -> float | None:
    by_class: dict[int, list[float]] = {}
    for label, precision in precisions:
        if precision is not None:
            by_class.setdefault(label, []).append(precision)
    means = [sum(values) / len(values) for values in by_class.values()]
    return sum(means) / len(means) if means else None


def test_retrieval_by_text_is_that_of_a_loop_over_classes() -> None:
    samples = replace(noisy_samples(per_class=7), has_audio=np.arange(28) % 4 > 0)
    distances = label_distances(samples, LABELS, Calibration())

    figures = report_on(samples).retrieval

    for evidence in EVIDENCE:
        items = samples.present(evidence)
        labels = samples.labels[items]

        def precision(
            c: int,
            among: NDArray[np.bool_],
            of_items: NDArray[np.float64] = distances[evidence][items],
            labels: NDArray[np.int64] = labels,
        ) -> tuple[int, float | None]:
            return c, metrics.average_precision(of_items[among, c], labels[among] == c)

        everything = np.ones(len(labels), bool)
        found = figures[f"text_to_{evidence}"]
        by = found.by_queries
        assert found.mean == pytest.approx(
            slow_class_mean([precision(c, everything) for c in range(4)])
        )
        assert by.seen == pytest.approx(slow_class_mean([precision(c, everything) for c in (0, 1)]))
        assert by.unseen == pytest.approx(
            slow_class_mean([precision(c, everything) for c in (2, 3)])
        )
        assert by.zero_shot == pytest.approx(
            slow_class_mean([precision(c, ~SEEN[labels]) for c in (2, 3)])
        )


@pytest.mark.parametrize("block_numbers", [1, 100, 2**23])
def test_retrieval_across_modalities_is_that_of_a_loop_over_samples(
    monkeypatch: pytest.MonkeyPatch, block_numbers: int
) -> None:
    monkeypatch.setattr("model.retrieval.BLOCK_NUMBERS", block_numbers)
    rng = np.random.default_rng(0)
    samples = replace(
        noisy_samples(per_class=6), has_audio=rng.random(24) < 0.8, has_video=rng.random(24) < 0.8
    )
    assert samples.audio is not None
    assert samples.video is not None

    found = report_on(samples).retrieval["audio_to_video"]

    everything, among_unseen = [], []
    for query in np.flatnonzero(samples.has_audio):
        label = samples.labels[query]
        items = np.flatnonzero(samples.has_video)  # the query's own video among them
        for results, among in (
            (everything, items),
            (among_unseen, items[~SEEN[samples.labels[items]]]),
        ):
            distances = np.linalg.norm(samples.video[among] - samples.audio[query], axis=1)
            precision = metrics.average_precision(distances, samples.labels[among] == label)
            results.append((int(label), precision))
    assert found.mean == pytest.approx(slow_class_mean(everything))
    assert found.by_queries.seen == pytest.approx(
        slow_class_mean([r for r in everything if SEEN[r[0]]])
    )
    assert found.by_queries.zero_shot == pytest.approx(
        slow_class_mean([r for r in among_unseen if not SEEN[r[0]]])
    )


def test_random_embeddings_retrieve_at_chance() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, 2_000)
    audio, video = rng.standard_normal((2, 2_000, 4)).astype(np.float32)
    samples = samples_at(audio, video, labels.tolist())

    for figures in report_on(samples).retrieval.values():
        assert figures.chance is not None
        assert figures.mean == pytest.approx(figures.chance, abs=0.02)


# --- what the report says where something is absent ----------------------------------------------


def test_without_seen_samples_s_and_hm_are_null_and_a_note_says_why() -> None:
    values = to_json(report_on(samples_at(CORNERS[2:], CORNERS[2:], [2, 3])))

    assert values["both"] == {"S": None, "U": 100.0, "HM": None, "ZSL": 100.0}
    assert values["mAP_by_queries"]["text_to_audio"]["S"] is None
    assert values["notes"] == [
        "S and HM are absent: no sample here is of a class that the model was trained on."
    ]


def test_without_unseen_samples_u_hm_and_zsl_are_null_and_a_note_says_why() -> None:
    values = to_json(report_on(samples_at(CORNERS[:2], CORNERS[:2], [0, 1])))

    assert values["video"] == {"S": 100.0, "U": None, "HM": None, "ZSL": None}
    assert values["unseen_auroc"] is None
    assert len(values["notes"]) == 1
    assert values["notes"][0].startswith("U, HM and ZSL are absent")


def test_a_model_without_unseen_candidates_has_no_zero_shot_chance() -> None:
    every = LabelEmbeddings(CORNERS, np.ones(4, bool))

    values = to_json(report_on(samples_at(CORNERS, CORNERS, [0, 1, 2, 3]), every))

    assert values["both"] == {"S": 100.0, "U": None, "HM": None, "ZSL": None}
    assert values["chance"]["ZSL"] is None


def test_samples_with_neither_modality_are_counted_in_a_note() -> None:
    present = np.array([True, True, True, False])
    samples = samples_at(CORNERS, CORNERS, [0, 1, 2, 3], has_audio=present, has_video=present)

    report = report_on(samples)

    assert report.notes == ("1 of 4 samples have neither modality and count in no figure.",)
    assert report.counts["with_neither"] == 1
    assert report.figures["both"].unseen == 1.0


# --- JSON and table ------------------------------------------------------------------------------


def test_json_has_the_figures_in_percent_at_the_promised_places() -> None:
    report = replace(
        report_on(noisy_samples()), model_id="abc", feature_set="toys", stages=("x", "y")
    )

    values = json.loads(json.dumps(to_json(report), allow_nan=False))

    assert list(values)[:4] == ["both", "audio", "video", "mAP"]
    for evidence in EVIDENCE:
        figures = report.figures[evidence]
        assert list(values[evidence]) == ["S", "U", "HM", "ZSL"]
        assert values[evidence]["HM"] == pytest.approx(100 * (figures.harmonic_mean or 0), abs=1e-4)
    assert list(values["mAP"]) == RETRIEVALS
    assert all(0 < value <= 100 for value in values["mAP"].values())
    assert values["chance"]["S"] == 25.0
    assert values["chance"]["mAP"].keys() == values["mAP"].keys()
    assert values["betas"] == {"both": 0.0, "audio": 0.0, "video": 0.0}
    assert (values["model_id"], values["feature_set"], values["stages"]) == (
        "abc",
        "toys",
        ["x", "y"],
    )
    assert values["counts"] == {
        "samples": 48,
        "seen_samples": 24,
        "unseen_samples": 24,
        "with_audio": 48,
        "with_video": 48,
        "with_both": 48,
        "with_neither": 0,
        "candidate_classes": 4,
        "seen_candidates": 2,
        "unseen_candidates": 2,
        "seen_classes_tested": 2,
        "unseen_classes_tested": 2,
    }
    assert [c["name"] for c in values["per_class"]] == list(NAMES)
    mean = np.mean([c["both"] for c in values["per_class"] if c["seen"]])
    assert mean == pytest.approx(values["both"]["S"], abs=1e-3)
    assert values["confusions"][0]["count"] >= values["confusions"][-1]["count"]
    assert {c["true"] for c in values["confusions"]} <= set(NAMES)


def test_the_table_shows_the_figures_and_a_dash_for_absent_ones() -> None:
    report = report_on(samples_at(CORNERS[2:], CORNERS[2:], [2, 3]))
    out = io.StringIO()

    print_report(report, Console(file=out, width=120))

    lines = out.getvalue().splitlines()
    both = next(line for line in lines if line.startswith("│ both"))
    assert [cell.strip() for cell in both.strip("│").split("│")] == [
        "both", "-", "100.00", "-", "100.00", "0.000"
    ]  # fmt: skip
    assert sum(line.startswith("│ text to") for line in lines) == 3
    assert lines[-1].startswith("S and HM are absent")


# --- which rows, which candidates ----------------------------------------------------------------


def test_test_rows_are_evaluated_where_there_are_any_else_validation_rows() -> None:
    stages = ["stage_1_train", "stage_1_val_seen", "stage_1_val_unseen"]
    validation = feature_set(stages, [0, 1, 2])
    both = feature_set([*stages, "stage_2_test_unseen"], [0, 1, 2, 3])

    assert evaluated_rows(validation).ids == ("1", "2")
    assert evaluated_rows(both).ids == ("3",)
    assert evaluated_rows(both, "validation").ids == ("1", "2")


def test_rows_to_evaluate_on_are_missed_by_name() -> None:
    features = feature_set(["stage_1_train"], [0])

    with pytest.raises(
        FeatureSetError, match=r"stages are stage_1_train; one of stage_2_test_seen"
    ):
        evaluated_rows(features)
    with pytest.raises(FeatureSetError, match="one of stage_1_val_seen, stage_1_val_unseen is"):
        evaluated_rows(features, "validation")


def test_candidates_are_the_trained_classes_and_those_of_the_rows() -> None:
    trained = (ClassText("Dog"), ClassText("yak"), ClassText("CAT "))
    rows = feature_set(["stage_2_test_seen"] * 3, [0, 2, 2])  # cat, owl, owl

    candidates = candidate_classes(trained, rows)

    assert [c.name for c in candidates.classes] == ["Dog", "yak", "CAT ", "owl"]
    assert candidates.seen.tolist() == [True, True, True, False]
    assert candidates.added == (2,)
    # cat, dog, owl, emu: no row is of the emu, so it is no candidate
    assert candidates.of_features.tolist() == [2, 0, 3, -1]


def test_stages_that_disagree_with_the_training_are_noted() -> None:
    trained = (ClassText("cat"), ClassText("owl"))
    rows = feature_set(["stage_2_test_seen", "stage_2_test_seen", "stage_2_test_unseen"], [0, 1, 2])

    notes = stage_notes(rows, candidate_classes(trained, rows))

    assert notes == (
        "1 of 2 samples of a stage called seen are of classes that the model was not trained on; "
        "they count as unseen.",
        "1 of 1 samples of a stage called unseen are of classes that the model was trained on, "
        "perhaps on these very samples; they count as seen.",
    )
    assert stage_notes(rows.take(np.array([0])), candidate_classes(trained, rows)) == ()


def test_features_of_another_width_than_the_network_takes_are_refused() -> None:
    features = feature_set(["stage_2_test_seen"], [0])

    require_fitting(features, NetworkConfig(audio_dim=2, video_dim=3))
    with pytest.raises(
        FeatureSetError, match="audio features of 2 numbers, the checkpoint takes 7"
    ):
        require_fitting(features, NetworkConfig(audio_dim=7, video_dim=3))
    with pytest.raises(
        FeatureSetError, match="video features of 3 numbers, the checkpoint takes 9"
    ):
        require_fitting(features, NetworkConfig(audio_dim=2, video_dim=9))


def test_label_vectors_are_checked_where_they_are_used() -> None:
    features = replace(
        feature_set(["stage_2_test_seen"], [0]), text_vectors=np.ones((4, 5), np.float32)
    )
    network = NetworkConfig(audio_dim=2, video_dim=3, text_dim=300)

    require_fitting(features, network)
    with pytest.raises(
        FeatureSetError, match="text vectors of 5 numbers, the checkpoint takes 300"
    ):
        require_fitting(features, network, given_text=True)

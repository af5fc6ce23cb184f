"""The tables: figures over seeds, results that are kept, and a split of one's own."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from benchmarks.zero_shot_tables import (
    ABLATIONS,
    METHODS,
    Entry,
    Figure,
    Setup,
    compare,
    entries_of,
    figure,
    main,
    markdown,
    own_split,
    result_of,
)
from model.errors import ConfigError, FeatureSetError
from model.features import TRAINING_STAGES, FeatureSet, check_trainable, write_npz
from model.methods import Method, Stage
from model.projection import GIVEN_VECTORS
from model.protocol import Run
from model.recipes import RECIPES, Recipe
from model.train import Text
from tests.model.separable import ROWS_OF_STAGE, separable_features

EVIDENCE = ("both", "audio", "video")


class Counted:
    """A method that counts its trainings; like another one in the rest."""

    def __init__(self, method: Method) -> None:
        self.method = method
        self.selected = self.retrained = 0

    def select(self, run: Run) -> Stage:
        self.selected += 1
        return self.method.select(run)

    def retrain(self, run: Run, choice: Stage) -> Stage:
        self.retrained += 1
        return self.method.retrain(run, choice)


class Diverged:
    """A method whose training fails."""

    def select(self, run: Run) -> Stage:
        raise FeatureSetError("the training diverged")

    def retrain(self, run: Run, choice: Stage) -> Stage:
        raise AssertionError("there is nothing to train again")


def setup_of(features: FeatureSet, out: Path) -> Setup:
    assert features.text_vectors is not None
    text = Text(features.text_vectors, GIVEN_VECTORS)
    return Setup(features, lambda _: text, "cpu", out)


def counted_ridge() -> tuple[Counted, Entry]:
    method = Counted(METHODS["ridge"].method)
    return method, Entry("ridge", method, Recipe())


def fake_result(seed: int, harmonic_mean: float | None) -> dict[str, Any]:
    four = {"S": 50.0, "U": 25.0, "HM": harmonic_mean, "ZSL": 40.0}
    report = dict.fromkeys(EVIDENCE, four)
    retrieval = {f"text_to_{e}": 10.0 * (seed + 1) for e in EVIDENCE}
    chance = {"S": 1.0, "U": 1.0, "HM": 1.0, "ZSL": 5.0, "mAP": dict.fromkeys(retrieval, 2.0)}
    return {"method": "m", "seed": seed, "test": {**report, "mAP": retrieval, "chance": chance}}


# --- figures over seeds --------------------------------------------------------------------------


def test_a_figure_is_the_mean_and_the_sample_deviation_of_the_seeds() -> None:
    of_three = Figure.of([1.0, 2.0, 6.0])

    assert of_three.mean == pytest.approx(3.0)
    assert of_three.deviation == pytest.approx(7**0.5)  # (4 + 1 + 9) / 2
    assert str(of_three) == "3.0 ± 2.6"


@pytest.mark.parametrize(
    ("values", "text"),
    [([4.25], "4.2"), ([None, 4.0, None, 6.0], "5.0 ± 1.4"), ([None], "-"), ([], "-")],
)
def test_seeds_without_a_figure_do_not_count(values: list[float | None], text: str) -> None:
    assert str(Figure.of(values)) == text


def test_a_cell_takes_its_evidence_and_column_of_all_seeds() -> None:
    results = [fake_result(0, 30.0), fake_result(1, 36.0)]

    assert figure(results, "test", "audio", "HM").mean == pytest.approx(33.0)
    assert figure(results, "test", "both", "mAP").mean == pytest.approx(15.0)
    assert figure(results, "validation", "both", "HM").mean is None


def test_markdown_has_a_line_for_each_method_and_evidence_and_tells_what_failed() -> None:
    failed = {"method": "n", "seed": 3, "error": "the training diverged"}
    lines = markdown(
        {"m": [fake_result(0, 30.0), fake_result(1, 36.0)], "n": [failed]}, "about"
    ).splitlines()

    assert "## test" in lines
    assert "## validation" not in lines
    assert "| chance | audio | 1.0 | 1.0 | 1.0 | 5.0 | 2.0 |" in lines
    assert "| m | video | 50.0 ± 0.0 | 25.0 ± 0.0 | 33.0 ± 4.2 | 40.0 ± 0.0 | 15.0 ± 7.1 |" in lines
    assert "| n | both | - | - | - | - | - |" in lines
    assert lines[-1] == "- n, seed 3: no figures, the training diverged."


# --- results that are kept -----------------------------------------------------------------------


def test_a_finished_result_is_not_made_again(tmp_path: Path) -> None:
    setup = setup_of(separable_features(), tmp_path)
    method, entry = counted_ridge()

    first, made = result_of(entry, 0, setup)
    again, made_again = result_of(entry, 0, setup)

    assert (made, made_again) == (True, False)
    assert (method.selected, method.retrained) == (1, 1)
    assert {**again, "recipe": None} == {**first, "recipe": None}  # tuples come back as lists
    assert set(first) >= {"validation", "test", "chosen", "recipe", "seconds"}


def test_a_result_of_another_split_seed_or_recipe_is_made_anew(tmp_path: Path) -> None:
    features = separable_features(TRAINING_STAGES)
    setup = setup_of(features, tmp_path)
    method, entry = counted_ridge()
    result_of(entry, 0, setup)

    for changed_setup, changed_entry in (
        (replace(setup, features=own_split(features, 0)), entry),
        (replace(setup, features=own_split(features, 1)), entry),
        (setup, replace(entry, recipe=replace(entry.recipe, descriptions=True))),
    ):
        assert result_of(changed_entry, 0, changed_setup)[1]
    assert result_of(entry, 1, setup)[1]
    assert method.selected == 5


def test_no_test_stages_cost_no_second_training(tmp_path: Path) -> None:
    method, entry = counted_ridge()

    result, _ = result_of(entry, 0, setup_of(separable_features(TRAINING_STAGES), tmp_path))

    assert method.retrained == 0
    assert "test" not in result


def test_a_training_that_diverges_is_told_and_the_others_go_on(tmp_path: Path) -> None:
    _, ridge = counted_ridge()
    entries = [Entry("bad", Diverged(), Recipe()), replace(ridge, seeded=False)]

    results = compare(
        entries, 2, setup_of(separable_features(), tmp_path), "about", Console(quiet=True)
    )

    assert [r["error"] for r in results["bad"]] == ["the training diverged"] * 2
    assert [r["seed"] for r in results["ridge"]] == [0]
    assert "bad, seed 1: no figures" in (tmp_path / "tables.md").read_text()


def test_the_command_makes_both_tables(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    path, out = tmp_path / "set.npz", tmp_path / "out"
    write_npz(separable_features(TRAINING_STAGES), path)
    command = ["--features", str(path), "--out", str(out), "--methods", "ridge", "conse"]

    assert main([*command, "--seeds", "2", "--own-split", "3"]) == 0

    printed = capsys.readouterr().out
    assert "ridge, seed 0: validation HM" in printed
    assert "test, %" in printed
    assert sorted(p.name for p in out.iterdir()) == [
        "conse-seed0.json",
        "ridge-seed0.json",
        "tables.md",
    ]
    tables = (out / "tables.md").read_text()
    assert "seed 3" in tables
    assert tables.count("| conse | both |") == 2


# --- what is compared ----------------------------------------------------------------------------


def test_every_ablation_changes_the_strong_recipe() -> None:
    strong, *others = entries_of([], [], ablations=True)

    assert strong.recipe == RECIPES["strong"]
    assert len(others) == len(ABLATIONS)
    for entry, change in zip(others, ABLATIONS.values(), strict=True):
        assert entry.recipe != strong.recipe, entry.name
        assert entry.recipe == replace(strong.recipe, **change)


def test_an_ablation_of_what_is_changed_for_all_is_left_out() -> None:
    names = {entry.name for entry in entries_of([], ["members=1"], ablations=True)}

    assert names == {"strong", *(f"strong, {name}" for name in ABLATIONS)} - {"strong, one network"}


def test_changes_reach_every_recipe_and_unknown_ones_are_refused() -> None:
    entries = entries_of(["ridge", "avca", "avca"], ["epochs=3"], ablations=False)

    assert [(e.name, e.recipe.epochs) for e in entries] == [("ridge", 3), ("avca", 3)]
    with pytest.raises(ConfigError, match="wings"):
        entries_of(["avca"], ["wings=2"], ablations=False)


# --- a split of one's own ------------------------------------------------------------------------


def test_a_split_of_ones_own_can_be_trained_on_and_tested() -> None:
    features = separable_features(TRAINING_STAGES)
    split = own_split(features, 0)

    check_trainable(split)
    unseen = split.classes_of("stage_2_test_unseen")
    trained = features.classes_of("stage_1_train")
    assert len(unseen) == 7  # 16 % of 30 and of 10, rounded
    assert len(np.intersect1d(unseen, trained)) == 5
    # Those classes have no row anywhere else, every other class is tested as a seen one.
    others = np.setdiff1d(split.classes_of(), unseen)
    np.testing.assert_array_equal(split.classes_of(*TRAINING_STAGES), others)
    np.testing.assert_array_equal(
        split.classes_of("stage_2_test_seen"),
        np.setdiff1d(others, features.classes_of("stage_1_val_unseen")),
    )


def test_a_split_of_ones_own_leaves_the_other_rows_in_their_stages() -> None:
    features = separable_features(TRAINING_STAGES)
    split = own_split(features, 0)
    kept = ~np.char.startswith(split.stages, "stage_2")

    np.testing.assert_array_equal(split.stages[kept], features.stages[kept])
    np.testing.assert_array_equal(split.audio, features.audio)
    assert split.ids == features.ids
    rows_of_class = ROWS_OF_STAGE["stage_1_train"][1]
    taken = np.count_nonzero(
        (features.stages == "stage_1_train") & (split.stages == "stage_2_test_seen")
    )
    assert taken == 25 * int(0.2 * rows_of_class)


def test_splits_follow_their_seed() -> None:
    features = separable_features(TRAINING_STAGES)

    assert own_split(features, 0).stages.tolist() == own_split(features, 0).stages.tolist()
    assert own_split(features, 0).stages.tolist() != own_split(features, 1).stages.tolist()


def test_a_set_with_a_test_of_its_own_is_not_split() -> None:
    with pytest.raises(FeatureSetError, match="leave --own-split out"):
        own_split(separable_features(), 0)

"""Feature sets in .npz files: what is written comes back, what is broken is told."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from model.embedding import ClassText
from model.errors import FeatureSetError
from model.features import STAGES, read_features, write_npz
from tests.model.feature_sets import make_features

DATA = Path(__file__).parents[3] / "shared" / "data"

FILE: dict[str, Any] = {
    "audio": np.array([[0, 255], [51, 102], [0, 0]], np.uint8),
    "video": np.array([[255], [0], [204]], np.uint8),
    "scale": np.array([-2.0, 3.0], np.float32),
    "label": np.array(["dog", "cat", "dog"]),
    "stage": np.array(["stage_1_train", "stage_1_train", "stage_1_val_seen"]),
}


def save(path: Path, **changes: Any) -> Path:
    """Write FILE with changes; None takes an array out."""
    arrays = {k: v for k, v in {**FILE, **changes}.items() if v is not None}
    np.savez(path, **arrays)
    return path


def test_a_set_comes_back_from_its_file_whole(tmp_path: Path) -> None:
    features = make_features()
    write_npz(features, tmp_path / "new folder" / "set.npz")

    got = read_features(tmp_path / "new folder" / "set.npz")

    for name in ("audio", "video", "has_audio", "has_video", "labels", "stages", "text_vectors"):
        wanted: NDArray[Any] = getattr(features, name)
        np.testing.assert_array_equal(getattr(got, name), wanted, name)
        assert getattr(got, name).dtype == wanted.dtype
    assert (got.name, got.ids, got.classes) == (features.name, features.ids, features.classes)
    assert got.backbones == ("ears", "eyes")


def test_bytes_become_real_values_by_their_scale(tmp_path: Path) -> None:
    features = read_features(save(tmp_path / "a.npz"))

    np.testing.assert_allclose(features.audio, [[-2, 3], [-1, 0], [-2, -2]], atol=1e-6)
    np.testing.assert_allclose(features.video, [[3], [-2], [2]], atol=1e-6)
    assert features.audio.dtype == features.video.dtype == np.float32
    assert features.name == f"{tmp_path.name}/a"
    assert features.ids == ("0", "1", "2")
    assert features.classes == (ClassText("cat"), ClassText("dog"))
    assert features.labels.tolist() == [1, 0, 1]
    assert features.has_audio.all()
    assert features.has_video.all()
    assert features.text_vectors is None
    assert features.backbones is None


def test_floats_need_no_scale_and_rows_without_a_modality_are_zero(tmp_path: Path) -> None:
    path = save(
        tmp_path / "a.npz",
        audio=np.array([[1, np.nan], [3, 4], [5, 6]]),
        video=np.array([[1], [2], [3]], np.float16),
        scale=None,
        has_audio=np.array([False, True, True]),
        has_video=np.array([1, 1, 0]),
    )

    features = read_features(path)

    assert features.audio.tolist() == [[0, 0], [3, 4], [5, 6]]
    assert features.video.tolist() == [[1], [2], [0]]
    assert features.has_audio.tolist() == [False, True, True]
    assert features.has_video.tolist() == [True, True, False]


def test_class_names_may_be_more_or_fewer_than_the_rows_have(tmp_path: Path) -> None:
    names = np.array(["zebra", "Dog"])
    path = save(tmp_path / "a.npz", class_names=names, class_descriptions=np.array(["z", "d"]))

    features = read_features(path)

    assert features.classes == (
        ClassText("zebra", (), "z"),
        ClassText("Dog", (), "d"),
        ClassText("cat"),
    )
    assert features.labels.tolist() == [1, 2, 1]
    assert features.classes_of().tolist() == [1, 2]


def test_labels_may_be_numbers_of_class_names(tmp_path: Path) -> None:
    path = save(tmp_path / "a.npz", label=None, labels=np.array([1, 0, 1]))

    with pytest.raises(FeatureSetError, match="labels are numbers and there are no class_names"):
        read_features(path)
    save(path, label=np.array([1, 0, 1], np.uint8), class_names=np.array(["a", "b", "c"]))
    features = read_features(path)

    assert [features.classes[i].name for i in features.labels] == ["b", "a", "b"]


def test_a_file_may_hold_test_stages_only(tmp_path: Path) -> None:
    stages = ["stage_2_test_seen", "stage_2_test_unseen", "stage_2_test_seen"]
    features = read_features(save(tmp_path / "a.npz", stage=np.array(stages)))

    assert features.rows(*STAGES[:3]).size == 0
    assert features.rows("stage_2_test_seen").tolist() == [0, 2]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"stage": None, "video": None},
            "lacks video, stage; it has audio, label, scale and needs",
        ),
        ({"scale": None}, "audio is uint8 and there is no `scale`"),
        ({"scale": np.array([3.0, -2.0])}, r"scale is \[3.0, -2.0\]"),
        ({"audio": np.ones((3, 2), np.int32)}, "audio is of int32"),
        ({"video": np.ones((2, 1), np.uint8)}, r"video has shape \(2, 1\), audio has 3 rows"),
        ({"label": np.array(["a", "b"])}, r"label has shape \(2,\), audio has 3 rows"),
        ({"label": np.ones((3, 2), np.int64)}, r"label has shape \(3, 2\), not \(3,\)"),
        ({"label": np.ones(3)}, "label is of float64"),
        ({"audio": np.ones(3, np.uint8)}, r"audio has shape \(3,\)"),
        ({"audio": np.ones((3, 2)) * 1e39}, "audio holds NaN or infinity in 3 of 3 rows"),
        ({"stage": np.array(["train"] * 3)}, "unknown stage 'train'"),
        ({"has_audio": np.array([1.0, 1, 0])}, "has_audio is of float64"),
        (
            {"has_audio": np.array([1, 0, 0]), "has_video": np.array([0, 1, 0])},
            "1 rows have neither audio nor video, first row 2",
        ),
        (
            {"class_descriptions": np.array(["x"])},
            "class_descriptions has 1 entries, class_names 0",
        ),
        (
            {"class_names": np.array(["dog"]), "text_vectors": np.ones((1, 4))},
            "'cat' is not in class_names, so it has no text vector",
        ),
        (
            {"class_names": np.array(["dog", "cat"]), "text_vectors": np.ones((1, 4))},
            r"of shape \(1, 4\); floats of shape \(2, numbers\)",
        ),
        (
            {"label": np.array([{"a": 1}] * 3, dtype=object)},
            "not a readable .npz file of plain arr",
        ),
    ],
)
def test_what_a_file_lacks_or_has_wrong_is_told(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    path = save(tmp_path / "a.npz", **changes)

    with pytest.raises(FeatureSetError, match=message) as error:
        read_features(path)
    assert "/a" in str(error.value), "the file is named"


def test_a_damaged_file_is_told(tmp_path: Path) -> None:
    content = save(tmp_path / "whole.npz").read_bytes()
    damaged = {"empty.npz": b"", "text.npz": b"not an archive", "cut.npz": content[:-300]}
    for name, data in damaged.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(FeatureSetError, match=f"{name} is not a readable .npz file"):
            read_features(tmp_path / name)


def test_damage_anywhere_is_told_or_does_no_harm(tmp_path: Path) -> None:
    path = save(tmp_path / "a.npz")
    content, whole = path.read_bytes(), read_features(path)
    told = 0
    for at in range(0, len(content), 13):
        path.write_bytes(
            content[:at] + bytes(255 - b for b in content[at : at + 4]) + content[at + 4 :]
        )
        try:
            got = read_features(path)
        except FeatureSetError:
            told += 1
        else:
            np.testing.assert_array_equal(got.audio, whole.audio)
            np.testing.assert_array_equal(got.labels, whole.labels)
    assert told > len(content) / 13 / 2


def test_a_file_of_something_else_says_what_it_has(tmp_path: Path) -> None:
    np.savez(tmp_path / "other.npz", weights=np.ones(3), bias=np.ones(1))

    with pytest.raises(
        FeatureSetError, match=r"none of the arrays audio, .*; it has weights, bias"
    ):
        read_features(tmp_path / "other.npz")


def test_a_path_that_is_missing_is_told(tmp_path: Path) -> None:
    with pytest.raises(FeatureSetError, match=r"gone\.npz is missing"):
        read_features(tmp_path / "gone.npz")


def test_only_the_benchmarks_layout_has_a_published_alignment(tmp_path: Path) -> None:
    path = save(tmp_path / "a.npz")

    with pytest.raises(FeatureSetError, match="no published alignment to follow"):
        read_features(path, alignment="as-published")
    with pytest.raises(FeatureSetError, match="unknown alignment 'by-chance'"):
        read_features(path, alignment="by-chance")


@pytest.mark.skipif(not DATA.is_dir(), reason="../shared/data is absent")
def test_the_video_features_of_youtube_8m_are_read() -> None:
    features = read_features(DATA / "yt8m-gzsl" / "train_val.npz")

    assert features.name == "yt8m-gzsl/train_val"
    assert (features.audio.shape, features.video.shape) == ((17_345, 128), (17_345, 1024))
    assert len(features.classes) == 246
    assert len(features.classes_of("stage_1_val_unseen")) == 44
    assert all(c.description for c in features.classes)
    assert -2.2 <= features.audio.min() < 0 < features.audio.max() <= 2.2

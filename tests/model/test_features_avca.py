"""The AVCA-GZSL layout: read as published, refused where parts do not agree, written, read back."""

import csv
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

from model.embedding import ClassText
from model.errors import FeatureSetError
from model.features import STAGES, FeatureSet, read_features, write_avca
from model.features.word_vectors import align, read_word_vectors
from tests.model.feature_sets import assert_same_rows, make_features

DATA = Path(__file__).parents[3] / "shared" / "data"

# original name, name of the label vector: sorted by the one and by the other, B and C change places
NAMES = (("AddSalt", "Add Salt"), ("BakeBread", "Make Bread"), ("CutWood", "Cut Wood"))
SAMPLES = {
    "stage_1_train": {"AddSalt": 3, "BakeBread": 2},
    "stage_1_val_seen": {"AddSalt": 1, "BakeBread": 1},
    "stage_1_val_unseen": {"CutWood": 2},
}
COLUMNS = {
    "stage_1_train": ["youtube_id", "start_seconds", "label", "split", "filename", "label_code"],
    "stage_1_val_seen": ["filename", "label", "label_code"],
    "stage_1_val_unseen": ["filename", "label_code", "label"],
}


def value(stage: str, name: str, sample: int) -> float:
    """The number that all of a sample's features are, less one in video."""
    return STAGES.index(stage) * 100 + ord(name[0]) + sample / 8


def write_samples(path: Path, data: NDArray[Any], urls: list[str], dtype: Any = "S80") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        file.create_dataset("data", data=data)
        file.create_dataset("video_urls", data=[url.encode() for url in urls], dtype=dtype)


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """A dataset as the README of the benchmark describes it, made without our own writer."""
    root = tmp_path / "benchmark" / "Kitchen"
    split, features = root / "class-split" / "main_split", root / "features" / "main_features"
    split.mkdir(parents=True)
    (root / "class-split" / "all_class.txt").write_text(
        "".join(f"{original}\n" for original, _ in NAMES)
    )
    with (root / "class-split" / "kitchen_w2v_class_names.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("original", "manual"), *NAMES])
    for stage, samples in SAMPLES.items():
        (split / f"{stage}.txt").write_text("\n".join(samples))  # as theirs: no line end
        with (split / f"{stage}.csv").open("w", newline="") as file:
            table = csv.DictWriter(file, COLUMNS[stage], restval="0")
            table.writeheader()
            for name, count in samples.items():
                urls = [f"{name}_{stage}_{i}" for i in range(count)]
                table.writerows({"filename": url, "label": name} for url in urls)
                values = np.array([value(stage, name, i) for i in range(count)], np.float32)
                audio = np.repeat(values[:, None], 4, axis=1)
                write_samples(features / "audio" / stage / f"{name}.h5", audio, urls)
                write_samples(features / "video" / stage / f"{name}.h5", audio[:, :3] - 1, urls)
    vectors = {words: np.full(5, ord(o[0]), np.float32) for o, words in NAMES}
    (features / "text").mkdir()
    np.save(features / "text" / "word_embeddings_kitchen_normed.npy", vectors)
    return root


def sample_file(dataset: Path, modality: str, stage: str, name: str) -> Path:
    return dataset / "features" / "main_features" / modality / stage / f"{name}.h5"


def text_file(dataset: Path) -> Path:
    return dataset / "features" / "main_features" / "text" / "word_embeddings_kitchen_normed.npy"


def test_every_sample_comes_with_its_stage_class_and_features(dataset: Path) -> None:
    features = read_features(dataset)

    assert features.name == "Kitchen/main_features"
    assert features.classes == (
        ClassText("Add Salt"),
        ClassText("Make Bread", ("Bake Bread",)),
        ClassText("Cut Wood"),
    )
    expected = [
        (stage, words, f"{original}_{stage}_{i}", value(stage, original, i))
        for stage, samples in SAMPLES.items()
        for original, words in NAMES
        for i in range(samples.get(original, 0))
    ]
    got = [
        (str(stage), features.classes[label].name, sample, float(audio[0]))
        for stage, label, sample, audio in zip(
            features.stages, features.labels, features.ids, features.audio, strict=True
        )
    ]
    assert got == expected
    assert (features.audio.shape, features.video.shape) == ((9, 4), (9, 3))
    np.testing.assert_array_equal(features.video[:, 0], features.audio[:, 0] - 1)
    assert features.has_audio.all()
    assert features.has_video.all()
    assert features.backbones is None


def test_video_rows_in_another_order_are_matched_by_their_url(dataset: Path) -> None:
    path = sample_file(dataset, "video", "stage_1_train", "AddSalt")
    with h5py.File(path) as file:
        data, urls = np.asarray(file["data"]), [u.decode() for u in file["video_urls"]]
    write_samples(path, data[[2, 0, 1]], [urls[i] for i in (2, 0, 1)], h5py.string_dtype())

    features = read_features(dataset)

    np.testing.assert_array_equal(features.video[:, 0], features.audio[:, 0] - 1)


# --- label vectors --------------------------------------------------------------------------------


def test_by_name_each_class_has_its_own_vector(dataset: Path) -> None:
    features = read_features(dataset)

    assert features.text_vectors is not None
    assert features.text_vectors.shape == (3, 5)
    assert features.text_vectors[:, 0].tolist() == [ord("A"), ord("B"), ord("C")]


def test_as_published_vectors_sorted_by_one_name_are_indexed_by_the_other(dataset: Path) -> None:
    features = read_features(dataset, alignment="as-published")

    assert features.text_vectors is not None
    assert features.text_vectors[:, 0].tolist() == [ord("A"), ord("C"), ord("B")]
    assert features.name == "Kitchen/main_features (as-published)"
    by_name = read_features(dataset)
    np.testing.assert_array_equal(features.audio, by_name.audio)
    assert features.classes == by_name.classes


def test_the_published_order_counts_classes_without_samples(dataset: Path) -> None:
    all_classes = dataset / "class-split" / "all_class.txt"
    all_classes.write_text(all_classes.read_text() + "Abseil\n")
    vectors = dict(read_word_vectors(text_file(dataset)))
    np.save(text_file(dataset), {**vectors, "Zip Down": np.full(5, 1, np.float32)})

    features = read_features(dataset, alignment="as-published")

    # Abseil, AddSalt, BakeBread, CutWood  <-  Add Salt, Cut Wood, Make Bread, Zip Down
    assert features.text_vectors is not None
    assert features.text_vectors[:, 0].tolist() == [ord("C"), ord("B"), 1]
    assert len(features.classes) == 3


def test_classes_are_found_without_a_table_of_names(dataset: Path) -> None:
    (dataset / "class-split" / "kitchen_w2v_class_names.csv").unlink()

    with pytest.raises(FeatureSetError, match="class 'BakeBread' has no label vector among 3"):
        read_features(dataset)
    text_file(dataset).unlink()
    features = read_features(dataset)

    assert features.text_vectors is None
    assert features.classes[0] == ClassText("AddSalt")


class Payload:
    """Runs a command when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (f"touch '{self.path}'",)


@pytest.mark.parametrize("in_an_array", [True, False])
def test_a_pickle_that_would_run_something_is_refused(
    dataset: Path, tmp_path: Path, in_an_array: bool
) -> None:
    evil: Any = {"Add Salt": Payload(tmp_path / "harm")}
    if in_an_array:
        evil = {"Add Salt": np.array([evil["Add Salt"]], dtype=object)}
    np.save(text_file(dataset), evil)

    with pytest.raises(FeatureSetError, match=r"it calls (posix|os)\.system"):
        read_features(dataset)
    assert not (tmp_path / "harm").exists()


def test_a_bare_pickle_or_another_content_is_no_label_vectors(dataset: Path) -> None:
    path = text_file(dataset)
    path.write_bytes(pickle.dumps({"Add Salt": np.ones(5)}))
    with pytest.raises(FeatureSetError, match="not a dictionary of label vectors"):
        read_features(dataset)
    np.save(path, np.ones((3, 5)))
    with pytest.raises(FeatureSetError, match="it is an array of float64"):
        read_features(dataset)
    np.save(path, np.array([["a", "b"]], dtype=object))
    with pytest.raises(FeatureSetError, match="holds ndarray; a dictionary"):
        read_features(dataset)
    np.save(path, {"Add Salt": np.ones(5), "Cut Wood": np.ones(4)})
    with pytest.raises(FeatureSetError, match="'Cut Wood' is no vector of 5"):
        read_features(dataset)
    np.save(path, {"Add Salt": [1.0, 2.0]})
    with pytest.raises(FeatureSetError, match="'Add Salt' is no vector of 2"):
        read_features(dataset)


@pytest.mark.skipif(not DATA.is_dir(), reason="../shared/data is absent")
@pytest.mark.parametrize(
    ("name", "originals", "others"),
    [
        ("activity", {}, 8),
        (
            "ucf",
            {
                "Bodyweight Squats": "BodyWeightSquats",
                "Weight Lifting": "CleanAndJerk",
                "Cut Kitchen": "CuttingInKitchen",
                "Pullups": "PullUps",
                "Pushups": "PushUps",
                "Taichi": "TaiChi",
                "Walk Dog": "WalkingWithDog",
            },
            79,
        ),
    ],
)
def test_as_many_published_classes_have_anothers_vector_as_was_found(
    name: str, originals: dict[str, str], others: int
) -> None:
    vectors = read_word_vectors(DATA / "word2vec" / f"word_embeddings_{name}_normed.npy")
    names = [(originals.get(words, words.replace(" ", "")), words) for words in vectors]

    by_name = align(vectors, names, "by-name")
    as_published = align(vectors, names, "as-published")

    assert all(
        np.array_equal(v, vectors[words]) for v, (_, words) in zip(by_name, names, strict=True)
    )
    differing = sum(not np.array_equal(a, b) for a, b in zip(by_name, as_published, strict=True))
    assert differing == others


# --- which files are read -------------------------------------------------------------------------


def test_a_folder_of_datasets_asks_which_one(dataset: Path) -> None:
    assert read_features(dataset.parent).name == "Kitchen/main_features"
    for part in ("class-split", "features"):
        (dataset.parent / "Garden" / part).mkdir(parents=True)
    with pytest.raises(FeatureSetError, match="the datasets Garden, Kitchen; say which one"):
        read_features(dataset.parent)
    with pytest.raises(FeatureSetError, match=r"no dataset 'Attic' .* it has Garden, Kitchen"):
        read_features(dataset.parent, dataset="Attic")
    assert read_features(dataset.parent, dataset="Kitchen").name == "Kitchen/main_features"


def test_half_a_dataset_is_not_taken_for_clips(dataset: Path) -> None:
    (dataset / "class-split").rename(dataset / "elsewhere")

    with pytest.raises(FeatureSetError, match="has features only; a dataset in the AVCA-GZSL"):
        read_features(dataset)


def test_among_several_features_and_splits_those_that_belong_together_are_read(
    dataset: Path,
) -> None:
    (dataset / "class-split" / "cls_split").mkdir()
    (dataset / "features" / "other_features").mkdir()

    with pytest.raises(FeatureSetError, match="features_name may be main_features, other_features"):
        read_features(dataset)
    features = read_features(dataset, features_name="main_features")
    with pytest.raises(FeatureSetError, match="cls_split lists no class of it"):
        read_features(dataset, features_name="main_features", split="cls_split")

    assert len(features) == 9


def test_classes_outside_the_split_are_left_out_and_stages_may_be_missing(dataset: Path) -> None:
    split = dataset / "class-split" / "main_split"
    (split / "stage_1_train.txt").write_text("addsalt\n\n")
    (split / "stage_2_test_seen.txt").write_text("AddSalt\n")

    features = read_features(dataset)

    assert set(features.stages) == set(SAMPLES)
    assert features.classes_of("stage_1_train").tolist() == [0]


def test_where_there_is_no_text_the_table_of_a_stage_names_its_classes(dataset: Path) -> None:
    expected = read_features(dataset)
    for stage in SAMPLES:
        (dataset / "class-split" / "main_split" / f"{stage}.txt").unlink()

    assert_same_rows(read_features(dataset), expected)
    table = dataset / "class-split" / "main_split" / "stage_1_train.csv"
    table.write_text("filename,kind\na,b\n")
    with pytest.raises(FeatureSetError, match="columns filename, kind; label or class_name or"):
        read_features(dataset)


def test_own_files_of_stage_2_training_that_differ_are_warned_of(
    dataset: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_samples(
        sample_file(dataset, "audio", "stage_2_train", "AddSalt"), np.ones((1, 4)), ["new one"]
    )

    assert len(read_features(dataset)) == 9
    assert "has 1 samples in stage_2_train that stage 1 has not, and lacks 9" in caplog.text


# --- what does not agree --------------------------------------------------------------------------


def drop_sample(dataset: Path) -> None:
    path = sample_file(dataset, "video", "stage_1_train", "AddSalt")
    write_samples(path, np.ones((2, 3)), ["AddSalt_stage_1_train_0", "AddSalt_stage_1_train_2"])


def add_sample(dataset: Path) -> None:
    path = sample_file(dataset, "video", "stage_1_val_seen", "BakeBread")
    write_samples(path, np.ones((2, 3)), ["BakeBread_stage_1_val_seen_0", "more"])


def repeat_sample(dataset: Path) -> None:
    path = sample_file(dataset, "video", "stage_1_val_unseen", "CutWood")
    write_samples(path, np.ones((3, 3)), [f"CutWood_stage_1_val_unseen_{i}" for i in (0, 1, 1)])


def no_file(dataset: Path) -> None:
    sample_file(dataset, "video", "stage_1_val_unseen", "CutWood").unlink()


def no_samples(dataset: Path) -> None:
    for modality, width in (("audio", 4), ("video", 3)):
        path = sample_file(dataset, modality, "stage_1_val_unseen", "CutWood")
        write_samples(path, np.ones((0, width), np.float32), [])


def unknown_class(dataset: Path) -> None:
    split = dataset / "class-split" / "main_split" / "stage_1_val_unseen.txt"
    split.write_text("CutWood\nEatSoup\n")


def class_of_no_file(dataset: Path) -> None:
    split = dataset / "class-split" / "main_split" / "stage_1_val_unseen.txt"
    split.write_text("CutWood\nAddSalt\n")


def other_width(dataset: Path) -> None:
    path = sample_file(dataset, "video", "stage_1_val_seen", "AddSalt")
    write_samples(path, np.ones((1, 7)), ["AddSalt_stage_1_val_seen_0"])


def not_finite(dataset: Path) -> None:
    path = sample_file(dataset, "audio", "stage_1_val_seen", "AddSalt")
    write_samples(path, np.full((1, 4), np.nan), ["AddSalt_stage_1_val_seen_0"])


def torn(dataset: Path) -> None:
    path = sample_file(dataset, "audio", "stage_1_val_seen", "AddSalt")
    path.write_bytes(path.read_bytes()[:300])


def no_urls(dataset: Path) -> None:
    path = sample_file(dataset, "audio", "stage_1_val_seen", "AddSalt")
    with h5py.File(path, "w") as file:
        file["data"] = np.ones((1, 4))


def fewer_urls(dataset: Path) -> None:
    path = sample_file(dataset, "audio", "stage_1_val_seen", "AddSalt")
    write_samples(path, np.ones((2, 4)), ["AddSalt_stage_1_val_seen_0"])


def no_features(dataset: Path) -> None:
    (dataset / "features" / "main_features" / "audio").rename(dataset / "elsewhere")
    (dataset / "features" / "main_features" / "video").rename(dataset / "nowhere")


def no_vector(dataset: Path) -> None:
    np.save(text_file(dataset), {"Add Salt": np.ones(5), "Cut Wood": np.ones(5)})


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (drop_sample, "'AddSalt' of stage_1_train has 3 samples .* 'AddSalt_stage_1_train_1', whi"),
        (add_sample, "'BakeBread' of stage_1_val_seen .* differs is 'more', which has no audio"),
        (repeat_sample, "'CutWood_stage_1_val_unseen_1', 1 times in audio and 2 in video"),
        (
            no_file,
            "'CutWood' of stage_1_val_unseen has no samples: there is no .*video/stage_1_val",
        ),
        (no_samples, "'CutWood' of stage_1_val_unseen has no samples: see .*CutWood.h5"),
        (
            unknown_class,
            "names the class 'EatSoup' for stage_1_val_unseen, which all_class.txt lacks",
        ),
        (class_of_no_file, "'AddSalt' of stage_1_val_unseen has no samples: there is no .*audio"),
        (other_width, "AddSalt.h5 has features of 7 numbers, stage_1_train/AddSalt.h5 of 3"),
        (not_finite, "audio holds NaN or infinity in 1 of 9 rows, .* class 'Add Salt'"),
        (torn, "AddSalt.h5 is not a readable HDF5 file"),
        (no_urls, "AddSalt.h5 lacks the dataset video_urls; it has data and needs"),
        (fewer_urls, r"data is float64 of shape \(2, 4\) for 1 video_urls"),
        (no_features, r"main_features has no folder audio/<stage>; stages are stage_1_train"),
        (no_vector, "'Make Bread' has no label vector among 2"),
    ],
)
def test_what_does_not_agree_is_told_with_its_class(
    dataset: Path, damage: Callable[[Path], None], message: str
) -> None:
    damage(dataset)

    with pytest.raises(FeatureSetError, match=message):
        read_features(dataset)


def test_the_published_alignment_needs_a_vector_for_every_class(dataset: Path) -> None:
    no_vector(dataset)

    with pytest.raises(FeatureSetError, match="2 label vectors for 3 classes"):
        read_features(dataset, alignment="as-published")
    text_file(dataset).unlink()
    with pytest.raises(FeatureSetError, match=r"text has 0 files word_embeddings\*.npy"):
        read_features(dataset, alignment="as-published")


# --- writing --------------------------------------------------------------------------------------


def test_a_set_comes_back_from_the_layout_but_for_its_names(tmp_path: Path) -> None:
    features = make_features()
    write_avca(features, tmp_path / "Small")

    got = read_features(tmp_path / "Small")

    assert_same_rows(got, features)
    assert got.name == "Small/cls_features"
    assert got.backbones is None


def test_a_set_without_label_vectors_or_some_stages_is_written_without(tmp_path: Path) -> None:
    features = make_features(text_vectors=None)
    features = features.take(features.rows("stage_1_train", "stage_2_test_seen"))
    write_avca(features, tmp_path / "Small")

    assert_same_rows(read_features(tmp_path / "Small"), features)
    split = tmp_path / "Small" / "class-split" / "cls_split"
    assert {path.stem for path in split.iterdir()} == {
        "stage_1_train",
        "stage_2_test_seen",
        "stage_2_train",
    }


def published_loader(root: Path, stages: list[str]) -> dict[str, Any]:
    """What AVCA-GZSL's UCF loader makes of a dataset, line by line after its src/dataset.py."""

    def class_names(path: Path) -> list[str]:
        return sorted(line.strip() for line in path.open())

    split, features = root / "class-split" / "cls_split", root / "features" / "cls_features"
    all_names = class_names(root / "class-split" / "all_class.txt")
    class_to_idx = {name.lower(): i for i, name in enumerate(sorted(all_names))}
    result: dict[str, Any] = {"audio": [], "video": [], "target": [], "url": []}
    for stage in stages:
        for file in sorted((features / "audio" / stage).iterdir()):
            for modality in ("audio", "video"):
                with h5py.File(features / modality / stage / file.name, "r") as opened:
                    result[modality].extend(np.asarray(opened["data"]))
                    urls = [str(u, "utf-8") for u in list(opened["video_urls"])]
            result["target"].extend(class_to_idx[file.stem.lower()] for _ in urls)
            result["url"].extend(urls)
    text = next((features / "text").glob("word_embeddings_*_normed.npy"))
    vectors = np.load(text, allow_pickle=True).item()
    result["text"] = list(dict(sorted(vectors.items())).values())
    result["classes"] = [
        class_to_idx[name.lower()]
        for stage in stages
        for name in class_names(split / f"{stage}.txt")
    ]
    return result


def test_the_published_loaders_read_what_is_written_and_see_what_is_read_as_published(
    tmp_path: Path,
) -> None:
    features = make_features()
    write_avca(features, tmp_path / "Small")
    ours = read_features(tmp_path / "Small", alignment="as-published")

    for stages in (STAGES[:3], STAGES[3:]):
        theirs = published_loader(tmp_path / "Small", list(stages))
        taken: FeatureSet = ours.take(ours.rows(*stages))
        order = [taken.ids.index(url) for url in theirs["url"]]
        np.testing.assert_array_equal(np.array(theirs["audio"]), taken.audio[order])
        np.testing.assert_array_equal(np.array(theirs["video"]), taken.video[order])
        assert set(theirs["target"]) == set(theirs["classes"])
        assert taken.text_vectors is not None
        np.testing.assert_array_equal(
            np.array(theirs["text"])[theirs["target"]], taken.text_vectors[taken.labels[order]]
        )


def test_a_folder_with_something_in_it_is_not_written_over(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")

    with pytest.raises(FeatureSetError, match="is not empty; give a new folder"):
        write_avca(make_features(), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]

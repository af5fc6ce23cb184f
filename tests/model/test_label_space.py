"""The label space: every teacher's output and every folder finds its class, equal names once."""

from pathlib import Path

import pytest

from model.distillation.label_space import (
    ADDED_SOUNDS,
    IMAGENET_HOMONYMS,
    LabelSpace,
    build_label_space,
)


@pytest.fixture
def space(tmp_path: Path) -> LabelSpace:
    (tmp_path / "mn04_class_labels.csv").write_text(
        "index,mid,display_name\n"
        '0,/m/1,"Male speech, man speaking"\n'
        '1,/m/2,"Roaring cats (lions, tigers)"\n'
        '2,/m/3,"Inside, small room"\n'
        '3,/m/4,"Inside, public space"\n'
        "4,/m/5,Accordion\n"
    )
    lines = ["background", "tench, Tinca tinca", "accordion, squeeze box, Accordion"]
    (tmp_path / "imagenet_labels.txt").write_text("\n".join(lines))
    return build_label_space(tmp_path, ["accordion", "Faces", "sea_horse"])


def names(space: LabelSpace) -> list[str]:
    return [c.name for c in space.classes]


def test_the_first_name_of_a_line_is_the_class_and_the_others_are_synonyms(
    space: LabelSpace,
) -> None:
    speech = space.classes[space.audioset[0]]

    assert (speech.name, speech.synonyms) == ("Male speech", ("man speaking",))


def test_commas_in_parentheses_do_not_split_a_name(space: LabelSpace) -> None:
    assert space.classes[space.audioset[1]].name == "Roaring cats (lions, tigers)"


def test_lines_that_share_their_first_part_stay_two_classes(space: LabelSpace) -> None:
    assert [space.classes[i].name for i in space.audioset[2:4]] == [
        "Inside, small room",
        "Inside, public space",
    ]


def test_equal_names_of_three_sources_are_one_class_with_all_synonyms(space: LabelSpace) -> None:
    assert space.audioset[4] == space.imagenet[1] == space.caltech[0]
    assert space.classes[space.caltech[0]].synonyms == ("squeeze box",)
    assert names(space).count("Accordion") == 1


def test_folder_names_become_words(space: LabelSpace) -> None:
    assert space.classes[space.caltech[1]].name == "human face"
    assert space.classes[space.caltech[2]].name == "sea horse"


def test_sounds_that_audioset_has_no_name_for_are_added(space: LabelSpace) -> None:
    assert [space.classes[i].name for i in space.added_sounds] == list(ADDED_SOUNDS)


def test_homonyms_are_told_apart() -> None:
    renamed = [name for name, _ in IMAGENET_HOMONYMS.values()]

    assert len(set(renamed)) == len(renamed)

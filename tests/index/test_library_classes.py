"""Classes: added, seeded, changed and scored."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from index.errors import ClassExists, ClassNotFound, InvalidClassName
from index.library import Library
from index.types import NewClass, Vector
from tests.index.builders import DIM, axis, new_class, open_library, unit

Reopen = Callable[[], Library]
Restarted = Iterator[Library]


def scored_names(library: Library) -> tuple[str, ...]:
    return library.label_similarities(unit(0)[None]).names


def test_without_classes_there_are_no_scores(library: Library) -> None:
    scores = library.label_similarities(np.stack([unit(1), unit(2)]))
    assert scores.names == ()
    assert scores.seen.shape == (0,)
    assert scores.similarity.shape == (2, 0)


def test_a_new_class_is_scored_by_the_next_question(library: Library) -> None:
    added = library.add_class(NewClass("dog", axis(0), ("hound",), "barks"))
    scores = library.label_similarities(np.stack([axis(0), axis(1)]))
    assert scores.names == ("dog",)
    assert scores.similarity.tolist() == [[1], [0]]
    assert library.get_class(added.class_id) == added
    assert (added.synonyms, added.description, added.seen) == (("hound",), "barks", False)


def test_scores_come_in_the_catalogues_order_not_the_best_first(library: Library) -> None:
    for number, name in enumerate("dcab"):
        library.add_class(NewClass(name, unit(number), seen=name == "a"))
    queries = np.stack([unit(number) for number in range(10)])
    scores = library.label_similarities(queries)
    expected = queries @ np.stack([unit(number) for number in range(4)]).T
    assert scores.names == ("d", "c", "a", "b")
    assert scores.seen.tolist() == [False, False, True, False]
    np.testing.assert_allclose(scores.similarity, expected, atol=1e-6)


def test_a_similarity_never_exceeds_one(library: Library) -> None:
    vectors = [unit(number) for number in range(50)]
    library.seed_classes("v", [NewClass(f"class {n}", v) for n, v in enumerate(vectors)])
    assert library.label_similarities(np.stack(vectors)).similarity.max() <= 1


@pytest.mark.parametrize(
    "spelling",
    ["dog barking", "DOG Barking", "  dog \u00a0 barking ", "\uff44\uff4f\uff47 barking"],
)
def test_a_name_is_taken_in_every_spelling(library: Library, spelling: str) -> None:
    library.add_class(new_class("Dog barking"))
    with pytest.raises(ClassExists, match="taken by 'Dog barking'"):
        library.add_class(new_class(spelling))
    assert library.list_classes().total == 1


def test_composed_and_decomposed_accents_are_one_name(library: Library) -> None:
    library.add_class(new_class("Caf\u00e9 Straße"))
    with pytest.raises(ClassExists):
        library.add_class(new_class("cafe\u0301 STRASSE"))


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("", "is blank"),
        ("   ", "is blank"),
        ("\u200b", "is blank"),
        ("a\nb", "control characters"),
        ("a\x00b", "control characters"),
        ("\ud800", "control characters"),
        ("x" * 201, "has 201 characters; the limit is 200"),
        ("x" * 10_000, "has 10000 characters; the limit is 200"),
    ],
)
def test_an_unfit_name_is_refused_with_its_reason(library: Library, name: str, reason: str) -> None:
    with pytest.raises(InvalidClassName, match=reason) as refusal:
        library.add_class(new_class(name, unit(0)))
    assert len(str(refusal.value)) < 300
    str(refusal.value).encode()
    with pytest.raises(InvalidClassName, match=reason):
        library.add_class(new_class("fine", synonyms=("good", name)))
    assert library.list_classes().total == 0


def test_a_name_of_200_characters_and_50_synonyms_are_accepted(library: Library) -> None:
    synonyms = tuple(f"synonym {number}" for number in range(50))
    assert library.add_class(new_class("x" * 200, synonyms=synonyms)).synonyms == synonyms


def test_51_synonyms_are_too_many(library: Library) -> None:
    with pytest.raises(InvalidClassName, match="51 synonyms"):
        library.add_class(new_class("x", synonyms=tuple(map(str, range(51)))))


def test_synonyms_that_repeat_the_name_or_each_other_are_kept_once(library: Library) -> None:
    added = library.add_class(new_class("dog", synonyms=("Dog", "hound", "HOUND", "a  b")))
    assert added.synonyms == ("hound", "a b")


def test_an_unfit_description_is_refused(library: Library) -> None:
    for description in ("x" * 2001, "a\x00b", "\ud800"):
        with pytest.raises(InvalidClassName, match="description"):
            library.add_class(new_class("x", description=description))
    library.add_class(new_class("x", description="two\nlines"))


@pytest.mark.parametrize(
    "vector",
    [unit(0, DIM + 1), unit(0) * 2, unit(0).astype(np.float64), np.full(DIM, np.nan, np.float32)],
)
def test_a_vector_of_the_wrong_kind_is_refused(library: Library, vector: Vector) -> None:
    with pytest.raises(ValueError, match="got"):
        library.add_class(new_class("x", vector))
    assert scored_names(library) == ()


def test_a_removed_class_is_gone_from_answers_and_from_disk(
    library: Library, reopened: Reopen
) -> None:
    kept, gone = library.add_class(new_class("kept")), library.add_class(new_class("gone"))
    library.remove_class(gone.class_id)
    assert scored_names(library) == ("kept",)
    library = reopened()
    assert library.list_classes().items == (kept,)
    with pytest.raises(ClassNotFound, match=gone.class_id):
        library.get_class(gone.class_id)
    with pytest.raises(ClassNotFound):
        library.remove_class(gone.class_id)
    library.add_class(new_class("gone"))


def test_a_disabled_class_is_kept_but_not_scored(library: Library, reopened: Reopen) -> None:
    dog = library.add_class(new_class("dog", axis(0)))
    assert not library.update_class(dog.class_id, enabled=False).enabled
    assert scored_names(library) == ()
    library = reopened()
    assert scored_names(library) == ()
    library.update_class(dog.class_id, enabled=True)
    assert library.label_similarities(axis(0)[None]).similarity.tolist() == [[1]]


def test_new_words_and_their_vector_are_shown_together(
    library: Library, before_and_after_restart: Restarted
) -> None:
    dog = library.add_class(new_class("dog", axis(0)))
    changed = library.update_class(
        dog.class_id, name="cat", synonyms=["kitty"], description="purrs", vector=axis(1)
    )
    assert (changed.name, changed.synonyms, changed.description) == ("cat", ("kitty",), "purrs")
    for now in before_and_after_restart:
        scores = now.label_similarities(axis(1)[None])
        assert (scores.names, scores.similarity.tolist()) == (("cat",), [[1]])
        assert now.get_class(dog.class_id) == changed


def test_a_change_keeps_what_it_does_not_name(library: Library) -> None:
    dog = library.add_class(new_class("dog", axis(0), synonyms=("hound",), description="barks"))
    assert library.update_class(dog.class_id) == dog
    assert library.update_class(dog.class_id, name="Dog").synonyms == ("hound",)
    assert library.update_class(dog.class_id, description="").name == "Dog"
    assert library.label_similarities(axis(0)[None]).similarity.tolist() == [[1]]


def test_a_class_cannot_take_anothers_name(library: Library) -> None:
    dog, _ = library.add_class(new_class("dog")), library.add_class(new_class("cat"))
    with pytest.raises(ClassExists, match="'CAT'"):
        library.update_class(dog.class_id, name="CAT", description="lost")
    assert library.get_class(dog.class_id) == dog


def test_a_refused_change_changes_nothing(library: Library) -> None:
    dog = library.add_class(new_class("dog"))
    with pytest.raises(InvalidClassName):
        library.update_class(dog.class_id, name="fine", description="x" * 9999)
    with pytest.raises(ClassNotFound):
        library.update_class("nobody", name="fine")
    assert library.list_classes().items == (dog,)


def test_classes_are_listed_by_page_words_and_kind(library: Library) -> None:
    library.seed_classes("v", [new_class(f"sound {n}", seen=True) for n in range(5)])
    library.add_class(new_class("100% Noise", synonyms=("Ümlaut",)))
    page = library.list_classes(offset=1, limit=2)
    assert ([c.name for c in page.items], page.total, page.offset) == (["sound 1", "sound 2"], 6, 1)
    assert library.list_classes(seen=False).total == 1
    assert library.list_classes(seen=True, query="SOUND 3").items[0].name == "sound 3"
    assert library.list_classes(query="ümlaut").total == 1
    assert library.list_classes(query="0%").total == 1
    assert library.list_classes(query="_").total == 0
    assert library.list_classes(offset=10**30, limit=10**30).items == ()


@pytest.mark.parametrize(("offset", "limit"), [(-1, 5), (0, 0)])
def test_an_impossible_page_is_refused(library: Library, offset: int, limit: int) -> None:
    with pytest.raises(ValueError, match="offset"):
        library.list_classes(offset=offset, limit=limit)
    with pytest.raises(ValueError, match="offset"):
        library.list_clips(offset=offset, limit=limit)


def test_a_vocabulary_is_seeded_once_even_if_classes_were_deleted(
    library: Library, reopened: Reopen
) -> None:
    vocabulary = [new_class("dog", seen=True), new_class("cat", seen=True)]
    assert library.seed_classes("v1", vocabulary) == 2
    library.remove_class(library.list_classes().items[0].class_id)
    library = reopened()
    assert library.seed_classes("v1", vocabulary) == 0
    assert scored_names(library) == ("cat",)
    assert library.seed_classes("v2", vocabulary) == 1


def test_seeding_keeps_a_users_class_and_marks_it_seen(library: Library) -> None:
    mine = library.add_class(new_class("Dog", axis(0), description="mine"))
    assert library.seed_classes("v", [new_class("dog", axis(1), seen=True)]) == 0
    (kept,) = library.list_classes().items
    assert (kept.class_id, kept.name, kept.description) == (mine.class_id, "Dog", "mine")
    assert kept.seen
    scores = library.label_similarities(axis(0)[None])
    assert (scores.seen.tolist(), scores.similarity.tolist()) == ([True], [[1]])


def test_a_vocabulary_that_has_a_name_twice_seeds_it_once_and_seen_if_either_is(
    library: Library,
) -> None:
    vocabulary = [new_class("dog", axis(0)), new_class("Dog", axis(1), seen=True)]

    assert library.seed_classes("v", vocabulary) == 1

    (kept,) = library.list_classes().items
    assert (kept.name, kept.seen) == ("dog", True)
    assert library.label_similarities(axis(0)[None]).similarity.tolist() == [[1]]


def test_a_vocabulary_with_an_unfit_name_seeds_nothing(library: Library) -> None:
    with pytest.raises(InvalidClassName):
        library.seed_classes("v", [new_class("dog"), new_class("")])
    assert library.list_classes().total == 0
    assert library.seed_classes("v", [new_class("dog")]) == 1


def test_hundreds_of_classes_survive_a_restart_in_order(directory: Path) -> None:
    names = [f"class {number}" for number in range(700)]
    with open_library(directory) as library:
        library.seed_classes("v", [new_class(name) for name in names])
    with open_library(directory) as library:
        assert scored_names(library) == tuple(names)

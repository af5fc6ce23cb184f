"""Each loss against a hand-computed case and a naive loop; gradients where they belong."""

import math

import pytest
import torch
from torch import Tensor

from model import losses


def naive_triplet(anchor: Tensor, positive: Tensor, negative: Tensor, margin: float) -> float:
    total = 0.0
    for x, p, n in zip(anchor.tolist(), positive.tolist(), negative.tolist(), strict=True):
        total += max(0.0, math.dist(x, p) - math.dist(x, n) + margin)
    return total / len(anchor)


@pytest.fixture
def rows() -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(7, 5, generator=generator, dtype=torch.float64) for _ in range(4)]


def test_triplet_loss_of_a_hand_computed_case() -> None:
    anchor = torch.tensor([[0.0, 0.0], [0.0, 0.0]])
    positive = torch.tensor([[3.0, 4.0], [1.0, 0.0]])  # 5 and 1 away
    negative = torch.tensor([[0.0, 2.0], [0.0, 9.0]])  # 2 and 9 away

    # (5 - 2 + 1) and max(0, 1 - 9 + 1), averaged
    assert losses.triplet_loss(anchor, positive, negative).item() == pytest.approx(2.0)


@pytest.mark.parametrize("margin", [0.0, 0.5, 1.0])
def test_triplet_loss_equals_a_naive_loop(rows: list[Tensor], margin: float) -> None:
    loss = losses.triplet_loss(rows[0], rows[1], rows[2], margin)

    assert loss.item() == pytest.approx(naive_triplet(rows[0], rows[1], rows[2], margin))


def test_composite_triplet_loss_is_the_four_triplets_of_the_paper(rows: list[Tensor]) -> None:
    text_p, text_q, modality_p, modality_q = rows
    expected = (
        naive_triplet(text_p, modality_p, modality_q, 1.0)
        + naive_triplet(text_q, modality_q, modality_p, 1.0)
        + naive_triplet(modality_p, text_p, text_q, 1.0)
        + naive_triplet(modality_q, text_q, text_p, 1.0)
    )

    loss = losses.composite_triplet_loss(text_p, text_q, modality_p, modality_q)

    assert loss.item() == pytest.approx(expected)


def test_composite_triplet_loss_without_its_mirror_image_is_that_of_avca(
    rows: list[Tensor],
) -> None:
    text_p, text_q, modality_p, modality_q = rows
    expected = naive_triplet(text_p, modality_p, modality_q, 1.0) + naive_triplet(
        modality_p, text_p, text_q, 1.0
    )

    loss = losses.composite_triplet_loss(text_p, text_q, modality_p, modality_q, mirrored=False)

    assert loss.item() == pytest.approx(expected)


def test_reconstruction_distance_is_the_mean_distance(rows: list[Tensor]) -> None:
    pairs = zip(rows[0].tolist(), rows[1].tolist(), strict=True)
    expected = sum(math.dist(a, b) for a, b in pairs) / len(rows[0])

    assert losses.reconstruction_distance(rows[0], rows[1]).item() == pytest.approx(expected)


def test_reconstruction_loss_is_the_mean_square(rows: list[Tensor]) -> None:
    flat = zip(rows[0].flatten().tolist(), rows[1].flatten().tolist(), strict=True)
    expected = sum((a - b) ** 2 for a, b in flat) / rows[0].numel()

    assert losses.reconstruction_loss(rows[0], rows[1]).item() == pytest.approx(expected)


def test_kl_term_equals_a_naive_loop_and_is_zero_only_for_equal_distributions(
    rows: list[Tensor],
) -> None:
    def softmax(values: list[float]) -> list[float]:
        exponentials = [math.exp(v) for v in values]
        return [e / sum(exponentials) for e in exponentials]

    expected = 0.0
    for a, v in zip(rows[0].tolist(), rows[1].tolist(), strict=True):
        expected += sum(
            p * math.log(p / q) for p, q in zip(softmax(a), softmax(v), strict=True)
        ) / len(rows[0])

    assert losses.kl_term(rows[0], rows[1]).item() == pytest.approx(expected)
    assert expected > 0.1
    # Softmax ignores a constant shift, so the distributions are equal here.
    assert losses.kl_term(rows[0], rows[0] + 3.0).item() == pytest.approx(0.0, abs=1e-12)


def test_label_cross_entropy_of_a_hand_computed_case() -> None:
    embedding = torch.tensor([[1.0, 0.0]])
    labels = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    targets = torch.tensor([[0.75, 0.25]])

    # logits 2 and 0: log-sum is ln(e^2 + 1); cross-entropy = log-sum - 0.75 * 2
    expected = math.log(math.exp(2.0) + 1.0) - 1.5
    loss = losses.label_cross_entropy(embedding, labels, targets, temperature=0.5)
    assert loss.item() == pytest.approx(expected)


def test_cosine_loss_is_zero_along_a_ray_and_two_against_it(rows: list[Tensor]) -> None:
    assert losses.cosine_loss(rows[0], 2 * rows[0]).item() == pytest.approx(0.0)
    assert losses.cosine_loss(rows[0], -rows[0]).item() == pytest.approx(2.0)


def test_triplet_gradient_reaches_anchor_positive_and_negative_alike(rows: list[Tensor]) -> None:
    leaves = [row.clone().requires_grad_() for row in rows[:3]]

    losses.triplet_loss(*leaves, margin=100.0).backward()

    assert all(leaf.grad is not None and leaf.grad.abs().sum() > 0 for leaf in leaves)


def test_distance_of_equal_points_has_a_zero_gradient_and_not_nan() -> None:
    point = torch.ones(1, 3, requires_grad=True)

    losses.triplet_loss(point, torch.ones(1, 3), torch.zeros(1, 3), margin=5.0).backward()

    assert point.grad is not None
    assert torch.isfinite(point.grad).all()


def test_terms_of_an_absent_modality_are_a_constant_zero() -> None:
    nothing = torch.zeros(0, 4)
    terms = [
        losses.triplet_loss(nothing, nothing, nothing),
        losses.composite_triplet_loss(nothing, nothing, nothing, nothing),
        losses.reconstruction_loss(nothing, nothing),
        losses.reconstruction_distance(nothing, nothing),
        losses.decoder_triplet_loss(nothing, nothing, nothing),
        losses.kl_term(nothing, nothing),
        losses.cosine_loss(nothing, nothing),
        losses.label_cross_entropy(nothing, torch.zeros(3, 4), torch.zeros(0, 3), 1.0),
    ]

    assert all(term.item() == 0.0 and not term.requires_grad for term in terms)

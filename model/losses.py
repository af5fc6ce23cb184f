"""Every term of AVGZSLNet's training, each a function of tensors (WACV 2021, section 3.3).

B samples; p marks a sample's own class (the anchor's positive), q another class (the negative).
Euclidean distances are written |x - y|. A batch in which no sample has a modality leaves that
modality's terms out: its tensors have zero rows and the term is a constant 0 without gradient.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def triplet_loss(anchor: Tensor, positive: Tensor, negative: Tensor, margin: float = 1.0) -> Tensor:
    """T(x, p, n) = mean max(0, |x - p| - |x - n| + margin), all (B, E) -> scalar."""
    if anchor.shape[0] == 0:
        return anchor.new_zeros(())
    to_positive = euclidean_distance(anchor, positive)  # (B,)
    to_negative = euclidean_distance(anchor, negative)  # (B,)
    return F.relu(to_positive - to_negative + margin).mean()


def euclidean_distance(x: Tensor, y: Tensor) -> Tensor:
    """Row-wise |x - y|: (B, E), (B, E) -> (B,). The gradient at |x - y| = 0 is 0, not NaN."""
    squared = (x - y).square().sum(dim=-1)  # (B,)
    nonzero = squared > 0
    # sqrt has an infinite slope at 0; the inner where keeps that slope out of the graph.
    return torch.where(nonzero, torch.where(nonzero, squared, 1.0).sqrt(), 0.0)


def composite_triplet_loss(
    text_p: Tensor,
    text_q: Tensor,
    modality_p: Tensor,
    modality_q: Tensor,
    margin: float = 1.0,
    *,
    mirrored: bool = True,
) -> Tensor:
    """Composite triplet loss of one modality m, all (B, E) -> scalar.

    T(t_p, m_p, m_q) + T(t_q, m_q, m_p) + T(m_p, t_p, t_q) + T(m_q, t_q, t_p): labels pull their
    samples and samples pull their labels. Without `mirrored` the second and the fourth, which are
    the others with p and q exchanged, are left out, as in AVCA-GZSL's re-implementation.
    """
    loss = triplet_loss(text_p, modality_p, modality_q, margin)
    loss = loss + triplet_loss(modality_p, text_p, text_q, margin)
    if mirrored:
        loss = loss + triplet_loss(text_q, modality_q, modality_p, margin)
        loss = loss + triplet_loss(modality_q, text_q, text_p, margin)
    return loss


def reconstruction_loss(decoded: Tensor, text_vector: Tensor) -> Tensor:
    """MSE(D(x_p), w_p): decoded embeddings against the label's text vectors, (B, Dt) -> scalar."""
    if decoded.shape[0] == 0:
        return decoded.new_zeros(())
    return F.mse_loss(decoded, text_vector)


def reconstruction_distance(decoded: Tensor, text_vector: Tensor) -> Tensor:
    """Mean |D(x_p) - w_p|, (B, Dt) -> scalar: AVCA-GZSL's in place of the squared error."""
    if decoded.shape[0] == 0:
        return decoded.new_zeros(())
    return euclidean_distance(decoded, text_vector).mean()


def decoder_triplet_loss(
    decoded_text_p: Tensor, decoded_p: Tensor, decoded_q: Tensor, margin: float = 1.0
) -> Tensor:
    """T(D(t_p), D(m_p), D(m_q)): order holds in the decoded text space, (B, Dt) -> scalar."""
    return triplet_loss(decoded_text_p, decoded_p, decoded_q, margin)


def kl_term(audio: Tensor, video: Tensor) -> Tensor:
    """KL(softmax(a) || softmax(v)) over the embedding's dimensions, batch mean, (B, E) -> scalar.

    The paper minimises the divergence between the two embedding distributions without giving its
    form; this one is ours.
    """
    if audio.shape[0] == 0:
        return audio.new_zeros(())
    log_audio = F.log_softmax(audio, dim=-1)
    log_video = F.log_softmax(video, dim=-1)
    return F.kl_div(log_video, log_audio, reduction="batchmean", log_target=True)


def label_cross_entropy(
    embedding: Tensor, labels: Tensor, targets: Tensor, temperature: float
) -> Tensor:
    """Cross-entropy over all labels in the embedding space, soft or hard targets -> scalar.

    Args:
        embedding: (B, E), unit length.
        labels: (C, E) embeddings of the labels, unit length.
        targets: (B, C) probabilities.
        temperature: cosines are divided by it.
    """
    if embedding.shape[0] == 0:
        return embedding.new_zeros(())
    logits = embedding @ labels.T / temperature  # (B, C)
    return F.cross_entropy(logits, targets)


def cosine_loss(embedding: Tensor, target: Tensor) -> Tensor:
    """Mean of 1 - cos(x, y), (B, E), (B, E) -> scalar."""
    if embedding.shape[0] == 0:
        return embedding.new_zeros(())
    return (1.0 - F.cosine_similarity(embedding, target, dim=-1)).mean()

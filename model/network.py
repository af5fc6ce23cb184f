"""AVGZSLNet (Mazumder et al., WACV 2021, arXiv 2005.13402, section 3.2), smallest part first.

Shapes: B samples, C labels; Da, Dv, Dt the widths of audio features, video features and text
vectors; E the width of the shared embedding.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from model.config import NetworkConfig


class ModalityNetwork(nn.Module):
    """Features of one modality -> shared space: Linear, dropout, ReLU, Linear.

    With `batch_norm` the hidden layer is normalised over the batch before dropout.
    """

    def __init__(self, in_dim: int, config: NetworkConfig) -> None:
        super().__init__()
        self.unit_features = config.unit_features
        self.hidden = nn.Linear(in_dim, config.hidden_dim)
        self.hidden_norm = _hidden_norm(config.hidden_dim, config)
        self.dropout = nn.Dropout(config.dropout)
        self.out = nn.Linear(config.hidden_dim, config.embedding_dim)

    def forward(self, features: Tensor) -> Tensor:
        """Map (B, in_dim) to (B, E)."""
        if self.unit_features:
            features = F.normalize(features, dim=-1)
        x = self.hidden_norm(self.hidden(features))  # (B, hidden)
        x = F.relu(self.dropout(x))  # (B, hidden)
        return self.out(x)  # type: ignore[no-any-return]  # (B, E)


class BatchNorm(nn.BatchNorm1d):
    """Normalisation over the batch; by the running statistics where a batch has no spread."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (B, D), also for B < 2: few samples of a batch may have a modality."""
        if len(x) >= 2:
            return super().forward(x)
        return F.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
        )


def _hidden_norm(width: int, config: NetworkConfig) -> nn.Module:
    return BatchNorm(width) if config.batch_norm else nn.Identity()


class TextNetwork(nn.Module):
    """Text vector of a label -> shared space: one Linear, as published.

    With `residual_text` the projection is added to the text vector itself and starts at zero, so
    that training begins from the pretrained geometry and names never trained keep their neighbours.
    With `text_hidden_dim` a hidden layer comes first, as in the modality networks.
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.residual = config.residual_text
        self.hidden: nn.Module = nn.Identity()
        if config.text_hidden_dim:
            self.hidden = nn.Sequential(
                nn.Linear(config.text_dim, config.text_hidden_dim),
                _hidden_norm(config.text_hidden_dim, config),
                nn.Dropout(config.dropout),
                nn.ReLU(),
            )
        self.projection = nn.Linear(config.text_hidden_dim or config.text_dim, config.embedding_dim)
        if self.residual:
            nn.init.zeros_(self.projection.weight)
            nn.init.zeros_(self.projection.bias)

    def forward(self, text: Tensor) -> Tensor:
        """Map (C, Dt) to (C, E)."""
        projected: Tensor = self.projection(self.hidden(text))  # (C, E)
        return text + projected if self.residual else projected


class CrossModalDecoder(nn.Module):
    """Shared space -> text vector, one decoder for all three modalities; no final activation."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.unit = config.unit_decoder
        self.hidden = nn.Linear(config.embedding_dim, config.decoder_dim)
        self.hidden_norm = _hidden_norm(config.decoder_dim, config)
        self.dropout = nn.Dropout(config.decoder_dropout)
        self.out = nn.Linear(config.decoder_dim, config.text_dim)

    def forward(self, embedding: Tensor) -> Tensor:
        """Map (B, E) to (B, Dt)."""
        x = self.hidden_norm(self.hidden(embedding))  # (B, decoder)
        x = F.relu(self.dropout(x))  # (B, decoder)
        decoded: Tensor = self.out(x)  # (B, Dt)
        return F.normalize(decoded, dim=-1) if self.unit else decoded


class AVGZSLNet(nn.Module):
    """Two modality networks and a text network into one space, and the cross-modal decoder."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        self.audio = ModalityNetwork(config.audio_dim, config)
        self.video = ModalityNetwork(config.video_dim, config)
        self.text = TextNetwork(config)
        self.decoder = CrossModalDecoder(config)

    def embed_audio(self, features: Tensor) -> Tensor:
        """Map audio features (B, Da) to embeddings (B, E)."""
        return self.scaled(self.audio(features))

    def embed_video(self, features: Tensor) -> Tensor:
        """Map video features (B, Dv) to embeddings (B, E)."""
        return self.scaled(self.video(features))

    def embed_text(self, text: Tensor) -> Tensor:
        """Map label text vectors (C, Dt) to embeddings (C, E)."""
        return self.scaled(self.text(text))

    def decode(self, embedding: Tensor) -> Tensor:
        """Reconstruct text vectors (B, Dt) from embeddings (B, E) of any modality."""
        return self.decoder(embedding)  # type: ignore[no-any-return]

    def scaled(self, embedding: Tensor) -> Tensor:
        """Give a raw embedding (B, E) unit length where the configuration says so."""
        return F.normalize(embedding, dim=-1) if self.config.normalise else embedding

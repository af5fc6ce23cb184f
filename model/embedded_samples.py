"""Embeddings of samples and labels in the shared space, by what they were made from."""

from dataclasses import dataclass, replace
from typing import Literal, Self, get_args

import numpy as np
from numpy.typing import NDArray

from model.metrics import Labels, Mask
from model.vectors import unit_rows

Evidence = Literal["both", "audio", "video"]
"""What an answer is given from."""
EVIDENCE: tuple[Evidence, ...] = get_args(Evidence)


@dataclass(frozen=True)
class EmbeddedSamples:
    """N samples in the shared space of width E; rows of a missing modality mean nothing.

    Attributes:
        audio, video: (N, E) float32; None where the method has no such embedding.
        both: (N, E) float32 joint embedding where a method has one; None: the modalities'
            distances are fused instead.
        has_audio, has_video: (N,) bool.
        labels: (N,) int64 into the label embeddings.
    """

    audio: NDArray[np.float32] | None
    video: NDArray[np.float32] | None
    both: NDArray[np.float32] | None
    has_audio: Mask
    has_video: Mask
    labels: Labels

    def embedding(self, evidence: Evidence) -> NDArray[np.float32] | None:
        """Embedding (N, E) float32 made from this evidence, where the method has one."""
        return {"both": self.both, "audio": self.audio, "video": self.video}[evidence]

    def of_unit_length(self) -> Self:
        """Scale every embedding to unit length, as the service compares them."""
        audio, video, both = (
            None if rows is None else unit_rows(rows)
            for rows in (self.audio, self.video, self.both)
        )
        return replace(self, audio=audio, video=video, both=both)

    def present(self, evidence: Evidence) -> Mask:
        """Samples that can be answered from this evidence, (N,) bool; "both" needs but one."""
        audio = self.has_audio & (self.audio is not None)
        video = self.has_video & (self.video is not None)
        joint = (self.has_audio | self.has_video) & (self.both is not None)
        return {"both": audio | video | joint, "audio": audio, "video": video}[evidence]

    def alone(self, modality: Evidence) -> Mask:
        """Samples that "both" answers from this modality's own embedding alone, (N,) bool.

        Where there is a joint embedding too, the modality's own beats it for a sample without the
        other modality: the joint one was given nothing in its place.
        """
        if self.both is not None:
            return self.present(modality) & ~(self.has_audio & self.has_video)
        other: Evidence = "video" if modality == "audio" else "audio"
        return self.present(modality) & ~self.present(other)


@dataclass(frozen=True)
class LabelEmbeddings:
    """C candidate classes in the shared space: vectors (C, E) float32, seen (C,) bool."""

    vectors: NDArray[np.float32]
    seen: Mask

    def of_unit_length(self) -> Self:
        """Scale every vector to unit length, as the service compares them."""
        return replace(self, vectors=unit_rows(self.vectors))

"""The service's model, as a library that changes to it sees it."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from index.errors import ClipUnusable
from index.types import ClassName, Clip, NewClass, NewClip
from model.embedding import ClassText
from model.errors import MediaError
from service.pipeline import Pipeline, new_clip, vocabulary_classes
from service.retrieval import modality_weights


class EmbedderAsNewModel:
    """Embeds what is stored exactly as uploads are embedded: an `index.reindexing.NewModel`."""

    def __init__(self, pipeline: Pipeline) -> None:
        embedder = pipeline.engine.embedder
        self._pipeline = pipeline
        self.model_id = embedder.card.space_id
        self.dim = embedder.card.embedding_dim
        self.weights = modality_weights(embedder.calibration)
        self.vocabulary: Sequence[NewClass] = vocabulary_classes(embedder)

    def embed_clip(self, media: Path, clip: Clip) -> NewClip:
        """Decode and embed a stored file. Raises ClipUnusable."""
        limits = self._pipeline.intake.limits_to_embed(clip)
        try:
            embedding = self._pipeline.embed_clip_waiting(media, limits=limits)
        except MediaError as error:
            raise ClipUnusable(str(error)) from error
        return new_clip(
            embedding,
            filename=clip.filename,
            content_type=clip.content_type,
            tags=clip.tags,
            # It is drawn by no model, so it stays.
            thumbnail=None,
            source=clip.source,
        )

    def embed_classes(self, classes: Sequence[ClassName]) -> NDArray[np.float32]:
        """Embed classes by all their words: (len(classes), D) float32."""
        return self._pipeline.engine.embedder.embed_classes(
            [ClassText(c.name, c.synonyms, c.description) for c in classes]
        )

"""`/model`: what answers, and the change to another model."""

from collections.abc import Mapping
from datetime import datetime
from typing import Literal

from pydantic import ConfigDict, Field

from service.schemas.jobs import JobError
from service.schemas.parts import Answer, RequestPart, Words


class VectorIndex(Answer):
    """How one set of vectors is searched."""

    kind: str = Field(description="`exact`, or the approximate index in use.")
    recall: float = Field(
        description="Part of the 10 nearest that a search finds, as measured; 1 where exact."
    )
    training: bool = Field(description="Whether an index is being trained to take its place.")


class ReindexFailure(Answer):
    """A clip that the model to come can make nothing of."""

    clip_id: str
    filename: str
    reason: str


class ReindexProgress(Answer):
    """How far the change to another model is; the former one answers until its end."""

    model_id: str = Field(description="The model to come.")
    clips: int
    done: int
    failed: int = Field(description="How many clips will be left out of searches.")
    failures: list[ReindexFailure] = Field(description="The first of them, and why.")


class ModelRequest(RequestPart):
    """Body of `POST /model`."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"model": "/srv/models/2026-11"}, {"model": "bundled"}]}
    )

    model: Words = Field(
        description="`bundled`, the value of `AVGZSL_MODEL`, or the folder of a checkpoint on the "
        "machine of the service, below one of `AVGZSL_MODEL_ROOTS`."
    )
    accept_failures: bool = Field(
        False, description="Change even if the new model cannot embed most of the stored clips."
    )


SwapState = Literal["loading", "reindexing", "done", "failed", "cancelled"]


class ModelSwap(Answer):
    """The latest change to another model; answer of `POST /model`."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "model": "/srv/models/2026-11",
                    "state": "reindexing",
                    "model_id": "9d41e0b7",
                    "space_id": "51c9a2f4",
                    "error": None,
                    "started_at": "2026-11-20T09:00:00Z",
                    "finished_at": None,
                }
            ]
        }
    )

    model: str = Field(description="What was asked for.")
    state: SwapState = Field(
        description="`loading`, with the warm-up; `reindexing`, where stored clips have to be "
        "embedded anew (`reindex` of `GET /model` counts); `done`, `failed` or `cancelled`."
    )
    model_id: str | None = Field(description="The model to come, once it is loaded.")
    space_id: str | None
    error: JobError | None = Field(
        description="Why it failed; then the former model goes on answering."
    )
    started_at: datetime
    finished_at: datetime | None


class ModelInfo(Answer):
    """Answer of `GET /model`."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "model_id": "3f9c0c5b",
                    "space_id": "3f9c0c5b",
                    "head": "avgzslnet",
                    "audio_backbone": "compact-audio",
                    "video_backbone": "compact-video",
                    "text_encoder": "minilm",
                    "embedding_dim": 384,
                    "device": "cpu",
                    "vector_store": "faiss",
                    "classes": 1200,
                    "clips": 40,
                    "segments": 310,
                    "vectors": {"labels": 1200, "both": 310, "audio": 250, "video": 300},
                    "indexes": {
                        "labels": {"kind": "exact", "recall": 1.0, "training": False},
                        "both": {"kind": "exact", "recall": 1.0, "training": False},
                        "audio": {"kind": "exact", "recall": 1.0, "training": False},
                        "video": {"kind": "exact", "recall": 1.0, "training": False},
                    },
                    "reindex": None,
                    "swap": None,
                }
            ]
        }
    )

    model_id: str = Field(description="Of all that an answer depends on, calibration included.")
    space_id: str = Field(
        description="Of all that a vector depends on; stored clips bear it. While it stays the "
        "same, a new calibration leaves the library as it is."
    )
    head: str
    audio_backbone: str
    video_backbone: str
    text_encoder: str
    embedding_dim: int
    device: str
    vector_store: str
    classes: int
    clips: int
    segments: int
    vectors: Mapping[str, int]
    indexes: Mapping[str, VectorIndex]
    reindex: ReindexProgress | None = Field(
        description="The change to another model that was begun; null where there is none."
    )
    swap: ModelSwap | None = Field(
        description="What came of the latest `POST /model`, or how far it is; null where there "
        "was none since the start."
    )

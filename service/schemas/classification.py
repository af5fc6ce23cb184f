"""`POST /classify`: how a file is to be classified, and its labels."""

from typing import Literal

from pydantic import ConfigDict, Field

from service.schemas.parts import Answer, Modalities, Mode, RequestPart, TopK

WINDOW_LABELS_LIMIT = 20
"""A long clip has hundreds of windows: with `top_k` labels each, the answer would be all theirs."""


class ClassifyOptions(RequestPart):
    """How a file is to be classified."""

    candidate_labels: list[str] = Field(
        default_factory=list,
        description="Rank only these names and store nothing; repeat the field for each. "
        "Without it, all enabled classes are ranked.",
        examples=[["dog barking", "rain"]],
    )
    top_k: TopK = 5
    modality: Literal["auto", "audio", "video"] = Field(
        "auto", description="What to use; `auto` takes whatever the file has."
    )
    windows: bool = Field(
        False,
        description="Also rank the labels for each window of the clip, the best "
        f"{WINDOW_LABELS_LIMIT} at most.",
    )


class ClassifyForm(ClassifyOptions):
    """Fields of `POST /classify` besides the file."""

    mode: Mode = "sync"


class LabelByModality(Answer):
    """Probability of a label by each modality alone; null where it was not used."""

    audio: float | None
    video: float | None


class Label(Answer):
    """A ranked label."""

    name: str
    score: float = Field(description="Calibrated similarity in [-1, 1]; higher is nearer.")
    probability: float = Field(description="Share among the candidates; all together sum to 1.")
    seen: bool = Field(description="Whether the model was trained on this class.")
    by_modality: LabelByModality


class WindowLabels(Answer):
    """The ranking of one window, [start_seconds, end_seconds)."""

    start_seconds: float
    end_seconds: float
    labels: list[Label]


class Classification(Answer):
    """Answer of `POST /classify`."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "labels": [
                        {
                            "name": "dog barking",
                            "score": 0.61,
                            "probability": 0.83,
                            "seen": False,
                            "by_modality": {"audio": 0.79, "video": 0.86},
                        }
                    ],
                    "unknown_probability": 0.04,
                    "modalities": {
                        "audio": {"used": True, "reason": None},
                        "video": {"used": True, "reason": None},
                    },
                    "duration_seconds": 4.0,
                    "windows": [],
                    "warnings": [],
                    "model_id": "3f9c0c5b",
                }
            ]
        }
    )

    labels: list[Label] = Field(description="Best first; empty where nothing could be used.")
    unknown_probability: float = Field(description="Probability that no candidate is right.")
    modalities: Modalities
    duration_seconds: float
    windows: list[WindowLabels] = Field(description="Empty unless asked for.")
    warnings: list[str]
    model_id: str

"""`POST /embed`: the vectors of texts and files."""

from typing import Literal

from pydantic import ConfigDict, Field

from service.schemas.parts import TEXTS_LIMIT, Answer, Modalities, RequestPart, Words


class EmbedForm(RequestPart):
    """Fields of `POST /embed` besides the file."""

    modality: Literal["auto", "audio", "video"] = Field(
        "auto", description="What to use; `auto` takes whatever the file has."
    )


class EmbedTexts(RequestPart):
    """JSON body of `POST /embed`."""

    texts: list[Words] = Field(
        min_length=1, max_length=TEXTS_LIMIT, examples=[["a dog barking", "rain"]]
    )


class TextVectors(Answer):
    """Answer of `POST /embed` for texts: a unit vector for each, in their order."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"vectors": [[0.6, 0.8], [-0.8, 0.6]], "model_id": "3f9c0c5b"}]
        }
    )

    vectors: list[list[float]]
    model_id: str


class WindowVectors(Answer):
    """Unit vectors of one window, [start_seconds, end_seconds)."""

    start_seconds: float
    end_seconds: float
    audio: list[float] | None
    video: list[float] | None


class ClipVectors(Answer):
    """Answer of `POST /embed` for a file: unit vectors, null where a modality was not used."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "audio": [0.6, 0.8],
                    "video": None,
                    "windows": [
                        {
                            "start_seconds": 0.0,
                            "end_seconds": 4.0,
                            "audio": [0.6, 0.8],
                            "video": None,
                        }
                    ],
                    "modalities": {
                        "audio": {"used": True, "reason": None},
                        "video": {"used": False, "reason": "the file has no pictures"},
                    },
                    "duration_seconds": 4.0,
                    "warnings": [],
                    "model_id": "3f9c0c5b",
                }
            ]
        }
    )

    audio: list[float] | None
    video: list[float] | None
    windows: list[WindowVectors]
    modalities: Modalities
    duration_seconds: float
    warnings: list[str]
    model_id: str

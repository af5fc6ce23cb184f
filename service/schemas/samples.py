"""`GET /samples`: clips to try the service with."""

from pydantic import ConfigDict, Field

from service.schemas.parts import Answer


class Sample(Answer):
    """A clip to try the service with."""

    name: str
    content_type: str
    size_bytes: int
    heard: str | None = Field(description="What is heard; null where it has no sound.")
    seen: str | None = Field(description="What is seen; null where it has no pictures.")
    url: str


class Samples(Answer):
    """Answer of `GET /samples`."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "items": [
                        {
                            "name": "clock.mp4",
                            "content_type": "video/mp4",
                            "size_bytes": 105893,
                            "heard": "a clock ticks",
                            "seen": "a wall clock",
                            "url": "/samples/clock.mp4",
                        }
                    ]
                }
            ]
        }
    )

    items: list[Sample]

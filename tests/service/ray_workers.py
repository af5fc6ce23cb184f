"""What Ray's workers load by name in tests: the fake model, and ones that misbehave."""

import time
from collections.abc import Sequence

import ray

from model.embedding import ForwardedChunk, PreparedChunk
from model.errors import CheckpointError
from model.fake import FakeEmbedder
from service.settings import Settings

SLOW_SECONDS = 0.05


class SlowFake(FakeEmbedder):
    """Takes a while for each chunk, as a model does."""

    def forward(self, prepared: Sequence[PreparedChunk]) -> list[ForwardedChunk]:
        time.sleep(SLOW_SECONDS * len(prepared))
        return super().forward(prepared)


class BrokenFake(FakeEmbedder):
    """Loads, and answers nothing but the first check."""

    def __init__(self) -> None:
        super().__init__()
        self._calls = 0

    def forward(self, prepared: Sequence[PreparedChunk]) -> list[ForwardedChunk]:
        self._calls += 1
        if self._calls > 1:
            raise RuntimeError("the device is gone")
        return super().forward(prepared)


def load_fake(_: Settings) -> FakeEmbedder:
    return FakeEmbedder()


def load_slow(settings: Settings) -> FakeEmbedder:
    """Also write down on which node it runs."""
    nodes = settings.data_dir / "nodes"
    nodes.mkdir(parents=True, exist_ok=True)
    (nodes / ray.get_runtime_context().get_node_id()).touch()
    return SlowFake()


def load_broken(_: Settings) -> FakeEmbedder:
    return BrokenFake()


def load_nothing(settings: Settings) -> FakeEmbedder:
    raise CheckpointError(f"there is no checkpoint {settings.model}")

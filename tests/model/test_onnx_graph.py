"""Layers by ONNX Runtime: the features that torch gives, and clear words where there are none."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from model.backbones import compact_audio, compact_video
from model.backbones.compact_audio import CompactAudio, CompactAudioConfig, CompactAudioNetwork
from model.backbones.compact_video import CompactVideo, CompactVideoConfig
from model.distillation.graphs import main
from model.errors import CheckpointError

BUNDLED = Path(__file__).parents[2] / "model" / "bundled"

SMALL_AUDIO = CompactAudioConfig(
    window_seconds=0.5, blocks=((8, 8, 3, 2, False, False), (16, 8, 5, 1, True, True)), dim=24
)
SMALL_VIDEO = CompactVideoConfig(
    frame_size=32, stem_width=4, stages=((1, 4, 1, 1), (2, 6, 2, 2)), dim=6
)

KINDS: list[Any] = [
    pytest.param(compact_audio, CompactAudio, id="audio"),
    pytest.param(compact_video, CompactVideo, id="video"),
]


def copied(module: Any, folder: Path) -> Path:
    """A copy of one of the bundled backbones."""
    for name in (module.CONFIG_FILE, module.WEIGHTS_FILE, module.GRAPH_FILE):
        shutil.copy(BUNDLED / name, folder / name)
    return folder


def batch_for(backbone: CompactAudio | CompactVideo, rows: int) -> Tensor:
    generator = torch.Generator().manual_seed(rows)
    if isinstance(backbone, CompactAudio):
        return 0.1 * torch.randn(rows, backbone.config.window_samples, generator=generator)
    size = backbone.frame_size
    return torch.randint(0, 256, (rows, 3, size, size), dtype=torch.uint8, generator=generator)


def by_torch(module: Any, kind: Any, folder: Path, batch: Tensor) -> Tensor:
    """Features of the same weights without a graph."""
    (folder / module.GRAPH_FILE).unlink()
    features: Tensor = kind.load(folder).features(batch)
    return features


@pytest.mark.parametrize(("module", "kind"), KINDS)
def test_the_bundled_graph_gives_the_features_that_torch_gives(
    tmp_path: Path, module: Any, kind: Any
) -> None:
    backbone = kind.load(copied(module, tmp_path))
    batch = batch_for(backbone, 5)

    features = backbone.features(batch)
    alone = backbone.features(batch[3:4])

    expected = by_torch(module, kind, tmp_path, batch)
    assert not torch.equal(features, expected)  # else ONNX Runtime had no part in it
    torch.testing.assert_close(features, expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(alone[0], expected[3], rtol=1e-4, atol=1e-4)


def test_graphs_are_written_for_other_sizes_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(0)
    CompactAudio(SMALL_AUDIO, CompactAudioNetwork(SMALL_AUDIO)).save(tmp_path)
    CompactVideo(SMALL_VIDEO).save(tmp_path)

    main([str(tmp_path)])

    assert [Path(line.partition(":")[0]).name for line in capsys.readouterr().out.splitlines()] == [
        "audio.onnx",
        "video.onnx",
    ]
    for module, kind in ((compact_audio, CompactAudio), (compact_video, CompactVideo)):
        assert (tmp_path / module.GRAPH_FILE).stat().st_size < 20_000  # weights are not in it
        backbone = kind.load(tmp_path)
        batch = batch_for(backbone, 3)
        features = backbone.features(batch)
        expected = by_torch(module, kind, tmp_path, batch)
        torch.testing.assert_close(features, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("module", "kind", "change"),
    [
        pytest.param(compact_audio, CompactAudio, {"max_frequency": 12_000.0}, id="audio"),
        pytest.param(compact_video, CompactVideo, {"frame_size": 128}, id="video"),
    ],
)
def test_a_graph_of_another_configuration_is_refused(
    tmp_path: Path, module: Any, kind: Any, change: dict[str, Any]
) -> None:
    config = copied(module, tmp_path) / module.CONFIG_FILE
    config.write_text(json.dumps(json.loads(config.read_text("utf-8")) | change), "utf-8")

    with pytest.raises(CheckpointError, match=r"was made for the configuration .*graphs .*torch"):
        kind.load(tmp_path)


@pytest.mark.parametrize(("module", "kind"), KINDS)
def test_a_graph_cut_short_is_named_with_what_to_do(tmp_path: Path, module: Any, kind: Any) -> None:
    path = copied(module, tmp_path) / module.GRAPH_FILE
    path.write_bytes(path.read_bytes()[:5000])

    with pytest.raises(CheckpointError, match=rf"{module.GRAPH_FILE} does not fit .*graphs"):
        kind.load(tmp_path)


TOO_MANY_ROWS = """
import resource, sys
from pathlib import Path
import torch
from model.backbones.compact_video import CompactVideo
from model.device import typed_out_of_memory
from model.errors import OutOfMemory

video = CompactVideo.load(Path(sys.argv[1]))
few = torch.zeros(2, 3, 160, 160, dtype=torch.uint8)
video.features(few)
held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (held + 300_000_000,) * 2)
try:
    with typed_out_of_memory():
        video.features(torch.zeros(1000, 3, 160, 160, dtype=torch.uint8))
except OutOfMemory as error:
    print(error)
print(tuple(video.features(few).shape))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the limit of memory is Linux's")
def test_more_rows_than_memory_holds_are_refused_and_the_next_are_answered() -> None:
    done = subprocess.run(
        [sys.executable, "-c", TOO_MANY_ROWS, BUNDLED],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    refused, answered = done.stdout.splitlines()
    assert "has not enough memory" in refused
    assert answered == "(2, 1280)"
    assert done.stderr == ""  # what goes wrong is raised, not printed

"""Write the graphs by which ONNX Runtime runs the layers of a folder's backbones on a CPU.

    python -m model.distillation.graphs FOLDER

For each of `audio.json` and `video.json` in FOLDER it writes `audio.onnx` and `video.onnx` beside
it. A graph has no weights and stays right for other weights of the same configuration.
"""

import argparse
import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import onnx
import torch
from onnx import ModelProto
from torch import Tensor, nn
from tqdm import tqdm

from model.backbones import compact_audio, compact_video
from model.backbones.compact_audio import CompactAudio, fold_batch_norms
from model.backbones.compact_video import CompactVideo
from model.backbones.onnx_graph import CONFIG_KEY, INPUT, OUTPUT, WEIGHT_PREFIX, config_text
from model.files import write_whole


class Layers(nn.Module):
    """One method of a network as a module, which is what exporters take."""

    def __init__(self, network: nn.Module, method: str) -> None:
        super().__init__()
        self.network = network
        self._method = method

    def forward(self, x: Tensor) -> Tensor:
        """(B, ...) -> (B, D)."""
        y: Tensor = getattr(self.network, self._method)(x)
        return y


def audio_layers(backbone: CompactAudio) -> tuple[Layers, Tensor]:
    """The layers behind the spectrogram, whose complex numbers are left to torch, and an input."""
    folded = fold_batch_norms(backbone.network)
    silence = torch.zeros(2, backbone.config.window_samples)
    return Layers(folded, "embed").eval(), folded.mel(silence).contiguous()


def video_layers(backbone: CompactVideo) -> tuple[Layers, Tensor]:
    """All layers below the scores, and an input."""
    size = backbone.frame_size
    return Layers(backbone.network, "features").eval(), torch.zeros(
        2, 3, size, size, dtype=torch.uint8
    )


def exported(layers: Layers, example: Tensor) -> ModelProto:
    """The layers with their weights as ONNX, for any number of rows."""
    program = torch.onnx.export(
        layers,
        (example,),
        input_names=[INPUT],
        output_names=[OUTPUT],
        dynamic_shapes=({0: torch.export.Dim("rows")},),
        dynamo=True,
        verbose=False,
    )
    assert program is not None  # it is, where the exporter is `dynamo`
    return program.model_proto


@torch.no_grad()
def with_other_weights(layers: Layers) -> Layers:
    """Copy layers with random weights, no two of them alike.

    The exporter's optimiser looks at the weights, and of two equal ones it makes one: a graph of
    these is of the layers alone.
    """
    copied = copy.deepcopy(layers)
    for weight in copied.parameters():
        weight.uniform_()
    return copied


def without_weights(model: ModelProto, config: Mapping[str, Any]) -> ModelProto:
    """Copy a model but for the weights, what the exporter noted of its sources, and its shapes.

    A weight is then said to lie in a file, which nobody opens: whoever runs the graph supplies it.
    """
    graph = ModelProto()
    graph.CopyFrom(model)
    for noted in (graph, graph.graph, *graph.graph.node, *graph.graph.initializer):
        del noted.metadata_props[:]
        noted.doc_string = ""
    del graph.graph.value_info[:]
    for weight in graph.graph.initializer:
        if weight.name.startswith(WEIGHT_PREFIX):
            weight.ClearField("raw_data")
            weight.data_location = onnx.TensorProto.EXTERNAL
            weight.external_data.add(key="location", value="supplied")
    onnx.helper.set_model_props(graph, {CONFIG_KEY: config_text(config)})
    return graph


class Kind(NamedTuple):
    """A kind of backbone: its files, how it is loaded, and its layers with an input of theirs."""

    config_file: str
    graph_file: str
    load: Callable[[Path], Any]
    layers: Callable[[Any], tuple[Layers, Tensor]]


KINDS = (
    Kind(compact_audio.CONFIG_FILE, compact_audio.GRAPH_FILE, CompactAudio.load, audio_layers),
    Kind(compact_video.CONFIG_FILE, compact_video.GRAPH_FILE, CompactVideo.load, video_layers),
)


def write_graphs(folder: Path) -> list[Path]:
    """Write the graph of each backbone in `folder`, whole, and return where.

    Raises:
        CheckpointError, ConfigError: a backbone cannot be loaded.
    """
    written = []
    for kind in KINDS:
        if (folder / kind.config_file).exists():
            path = folder / kind.graph_file
            # One of an older configuration would be in the way of loading.
            path.unlink(missing_ok=True)
            backbone = kind.load(folder)
            layers, example = kind.layers(backbone)
            model = exported(with_other_weights(layers), example)
            graph = without_weights(model, asdict(backbone.config))
            write_whole(path, graph.SerializeToString(deterministic=True))
            written.append(path)
    return written


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line and write the graphs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", type=Path, help="folder of audio.* and video.*")
    options = parser.parse_args(arguments)
    for path in write_graphs(options.folder):
        tqdm.write(f"{path}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()

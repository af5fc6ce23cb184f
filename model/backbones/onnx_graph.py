"""A backbone's layers as ONNX Runtime runs them on a CPU: a graph from a file, and weights.

ONNX Runtime fuses layers and lays out memory for the CPU's vector units, and is faster than
torch for the same features (`benchmarks/hot_path.py`). The file holds no weights:
they are those of the backbone's safetensors file, which has no room for a second copy beside it.
`model.distillation.graphs` writes it.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnxruntime
import torch
from torch import Tensor, nn

from model.errors import CheckpointError

INPUT, OUTPUT = "x", "y"
WEIGHT_PREFIX = "network."
"""Before the name of each weight in the graph: the exporter sees the network as a part."""

CONFIG_KEY = "config"
"""Under it the graph's metadata has the JSON of the configuration that it was made for."""

_NO_MEMORY = ("failed to allocate memory", "bad_alloc")
"""What ONNX Runtime says, in an exception of no type of its own, when there is no more."""


class OnnxGraph:
    """Layers that map a batch to features, on the CPU, in the calling thread (see `model.lanes`).

    Args:
        path: the graph.
        network: whose weights it takes: all of them but those of `head`, which makes scores.
        config: what the backbone's own JSON file holds.

    Raises:
        CheckpointError: the file is not readable, or was made for another network.
    """

    def __init__(self, path: Path, network: nn.Module, config: Mapping[str, Any]) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        # Its errors are raised; written to the standard error as well they would pass by the log.
        options.log_severity_level = 4
        weights = {
            WEIGHT_PREFIX + name: onnxruntime.OrtValue.ortvalue_from_numpy(w.contiguous().numpy())
            for name, w in network.state_dict().items()
            if not name.startswith("head.")
        }
        options.add_external_initializers(list(weights), list(weights.values()))
        self._weights = weights  # the session refers to their memory
        try:
            self._session = onnxruntime.InferenceSession(
                path, options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # its exceptions have no type in common
            raise CheckpointError(
                f"{path} does not fit the weights beside it ({error}); {_remade(path)}"
            ) from error
        made_for = self._session.get_modelmeta().custom_metadata_map.get(CONFIG_KEY)
        if made_for != config_text(config):
            raise CheckpointError(
                f"{path} was made for the configuration {made_for}, and beside it is "
                f"{config_text(config)}; {_remade(path)}"
            )

    def __call__(self, batch: Tensor) -> Tensor:
        """Map a batch (B, ...), of the shape and dtype of the graph's input, to (B, D) float32.

        Raises:
            MemoryError: there is not enough memory for the batch.
        """
        try:
            (features,) = self._session.run([OUTPUT], {INPUT: batch.contiguous().numpy()})
        except Exception as error:
            if any(sign in str(error).lower() for sign in _NO_MEMORY):
                raise MemoryError(str(error)) from error
            raise
        return torch.from_numpy(features)


def config_text(config: Mapping[str, Any]) -> str:
    """A configuration as a graph's metadata holds it."""
    return json.dumps(config, sort_keys=True)


def _remade(path: Path) -> str:
    return (
        f"make it again with `python -m model.distillation.graphs {path.parent}`, which needs "
        "avgzsl[distill], or remove it: torch then runs the layers, more slowly"
    )

"""Files of checkpoints, JSON and safetensors: errors name them, and they are written whole."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from model.errors import CheckpointError


def read_json(path: Path) -> Any:
    """Parse a JSON file. Raises CheckpointError where it is missing or not JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise _missing(path) from error
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} is not readable JSON: {error}") from error


def read_json_object(path: Path) -> dict[str, Any]:
    """Parse a JSON file that holds an object. Raises CheckpointError as `read_json`, and else."""
    values = read_json(path)
    if not isinstance(values, dict):
        raise CheckpointError(f"{path} holds {type(values).__name__}, not a JSON object")
    return values


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file whole."""
    write_whole(path, (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode())


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file. Raises CheckpointError where it is missing or corrupt."""
    try:
        return load_file(path)
    except FileNotFoundError as error:
        raise _missing(path) from error
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{path} is not a readable safetensors file ({error}); copy or train it again"
        ) from error


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write a safetensors file whole; tensors keep their dtypes."""
    # Bytes first: safetensors' own `save_file` makes files that only their owner can read.
    write_whole(path, save({k: v.detach().cpu().contiguous() for k, v in tensors.items()}))


def load_weights(network: nn.Module, path: Path) -> None:
    """Give a network the weights of a safetensors file; float16 becomes float32.

    The network may be on torch's `meta` device, made without the random weights that would only be
    thrown away, where all that it holds is in the file.

    Raises:
        CheckpointError: the file is missing or corrupt, or does not fit the network.
    """
    tensors = read_tensors(path)
    exact = {name: t.float() if t.is_floating_point() else t for name, t in tensors.items()}
    try:
        network.load_state_dict(exact, assign=True)
    except RuntimeError as error:
        raise CheckpointError(
            f"{path} does not fit the configuration beside it: {error}"
        ) from error


def existing(path: Path) -> Path | None:
    """Return the path of a file that may be there, and None where it is not."""
    return path if path.exists() else None


def write_whole(path: Path, content: bytes) -> None:
    """Write beside the file and rename, so that a reader sees the old content or the new."""
    partial = path.with_name(f"{path.name}.partial")
    partial.write_bytes(content)
    os.replace(partial, path)


def _missing(path: Path) -> CheckpointError:
    return CheckpointError(f"{path} is missing; give a folder made by training, or 'bundled'")

"""The picture teacher: MobileNetV2 (TensorFlow Lite, quantised) as a function of one picture.

Also the source of the student's first weights: the same network in torch, dequantised. They are
TensorFlow's, under the Apache License 2.0; what is trained from them has to say so.
Used in training only, with the optional dependency `ai-edge-litert`; the service never imports it.
"""

import warnings
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from model.backbones.compact_video import CompactVideoNetwork
from model.errors import BackboneError, CheckpointError

INPUT_SIZE = 224
CLASS_COUNT = 1000
EMBEDDING_DIM = 1280

_LOGITS_TENSOR = "MobilenetV2/Logits/Squeeze1"
_EMBEDDING_TENSOR = "MobilenetV2/Logits/AvgPool"


class TeacherOutput(NamedTuple):
    """What the teacher says of one picture: `logits` (1000,), `embedding` (1280,), both float32."""

    logits: NDArray[np.float32]
    embedding: NDArray[np.float32]


class MobileNetTeacher:
    """MobileNetV2 on ImageNet-1000 (Sandler et al. 2018), one picture at a time on one thread.

    The logits are read before the softmax: the probabilities are quantised to 1/256, which rounds
    most of what a student can learn from the wrong classes ("dark knowledge") to zero.

    Args:
        folder: holds `mobilenet_v2.tflite` and `imagenet_labels.txt` ("background" first).

    Raises:
        BackboneError: `ai-edge-litert` is not installed.
        CheckpointError: a file is missing, or is not the network that is expected here.
    """

    def __init__(self, folder: Path) -> None:
        try:
            from ai_edge_litert.interpreter import Interpreter  # noqa: PLC0415 (optional)
        except ImportError as error:
            raise BackboneError(
                "The MobileNetV2 teacher needs ai-edge-litert: pip install 'avgzsl[distill]'."
            ) from error
        network, labels = folder / "mobilenet_v2.tflite", folder / "imagenet_labels.txt"
        for path in (network, labels):
            if not path.is_file():
                raise CheckpointError(f"The teacher's file {path} is missing.")
        self.labels = tuple(labels.read_text("utf-8").splitlines()[1:])
        try:
            with warnings.catch_warnings():
                # Intermediate tensors are reused as scratch memory unless they are asked to be
                # kept, which warns of the memory that it takes: a few megabytes here.
                warnings.simplefilter("ignore", UserWarning)
                self._interpreter: Any = Interpreter(
                    model_path=str(network), num_threads=1, experimental_preserve_all_tensors=True
                )
        except ValueError as error:
            raise CheckpointError(f"{network} is not a TensorFlow Lite network: {error}") from error
        self._interpreter.allocate_tensors()
        tensors = {tensor["name"]: tensor for tensor in self._interpreter.get_tensor_details()}
        if not {_LOGITS_TENSOR, _EMBEDDING_TENSOR} <= tensors.keys():
            raise CheckpointError(f"{network} is not the MobileNetV2 that the teacher reads.")
        self._input: int = self._interpreter.get_input_details()[0]["index"]
        self._logits = tensors[_LOGITS_TENSOR]
        self._embedding = tensors[_EMBEDDING_TENSOR]

    def observe(self, picture: NDArray[np.uint8]) -> TeacherOutput:
        """Run the network on one RGB picture (H, W, 3) uint8, stretched to 224 x 224."""
        self._interpreter.set_tensor(self._input, stretch(picture, INPUT_SIZE)[None])
        self._interpreter.invoke()
        # Class 0 of 1001 is "background", which no ImageNet label uses.
        return TeacherOutput(self._read(self._logits)[1:], self._read(self._embedding))

    @torch.no_grad()
    def copy_weights(self, network: CompactVideoNetwork) -> None:
        """Fill a MobileNetV2 1.0 with the teacher's dequantised weights.

        The head's rows beyond ImageNet's 1000 become zero: of those classes the teacher knows
        nothing.

        Raises:
            CheckpointError: the network has another plan.
        """
        self._copy("Conv", network.stem)
        for number, block in enumerate(network.blocks):
            scope = f"expanded_conv_{number}" if number else "expanded_conv"
            for part, convolution in block.named_children():
                self._copy(f"{scope}/{part}", convolution)
        self._copy("Conv_1", network.last)
        weight, bias = self._weights("Logits/Conv2d_1c_1x1")
        network.head.weight.zero_()
        network.head.bias.zero_()
        network.head.weight[:CLASS_COUNT] = weight[1:].flatten(1)  # without "background"
        network.head.bias[:CLASS_COUNT] = bias[1:]

    def _copy(self, scope: str, convolution: nn.Module) -> None:
        weight, bias = self._weights(scope)
        if scope.endswith("depthwise"):
            weight = weight.transpose(0, 1)  # (1, H, 3, 3): the layout has the channels second
        try:
            convolution.load_state_dict({"weight": weight, "bias": bias})
        except RuntimeError as error:
            raise CheckpointError(
                f"The teacher's weights of {scope} do not fit the network; it must have "
                f"MobileNetV2's plan: {error}"
            ) from error

    def _weights(self, scope: str) -> tuple[Tensor, Tensor]:
        """Weight (O, I, H, W) and bias (O,) of a convolution, float32."""
        prefix = f"MobilenetV2/{scope}/"
        found = [
            tensor
            for tensor in self._interpreter.get_tensor_details()
            if f"{prefix}weights_quant" in tensor["name"]
            or (tensor["name"].startswith(prefix) and tensor["dtype"] is np.int32)
        ]
        if len(found) != 2:
            raise CheckpointError(f"The teacher has no convolution {scope}.")
        weight, bias = sorted(found, key=lambda tensor: -len(tensor["shape"]))
        kernel = torch.from_numpy(self._read(weight).reshape(weight["shape"]))
        return kernel.permute(0, 3, 1, 2), torch.from_numpy(self._read(bias))

    def _read(self, tensor: dict[str, Any]) -> NDArray[np.float32]:
        """Undo the affine quantisation of one tensor and flatten it."""
        scale, zero_point = tensor["quantization"]
        quantised: NDArray[Any] = self._interpreter.get_tensor(tensor["index"]).reshape(-1)
        return (quantised.astype(np.float32) - np.float32(zero_point)) * np.float32(scale)


def stretch(picture: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Resize (H, W, 3) uint8 to (size, size, 3) bilinearly, whatever its aspect."""
    if picture.shape[:2] == (size, size):
        return picture
    return np.asarray(Image.fromarray(picture).resize((size, size), Image.Resampling.BILINEAR))

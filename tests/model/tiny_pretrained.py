"""CLAP and CLIP a thousand times too small, with random weights, saved as the hub has them."""

from pathlib import Path

import torch
from tokenizers.pre_tokenizers import ByteLevel
from transformers import (
    ClapConfig,
    ClapFeatureExtractor,
    ClapModel,
    ClapProcessor,
    CLIPConfig,
    CLIPImageProcessorPil,
    CLIPModel,
    CLIPProcessor,
    CLIPTokenizer,
    RobertaTokenizer,
)
from transformers.utils.logging import disable_progress_bar

disable_progress_bar()

DIM = 16
CLAP_SECONDS = 2
FRAME_SIZE = 32
LETTERS = sorted(ByteLevel.alphabet())


def save_clap(folder: Path, *, seed: int = 0, fused: bool = False) -> Path:
    words = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", *LETTERS]
    config = ClapConfig(
        projection_dim=DIM,
        text_config={
            "vocab_size": len(words),
            "hidden_size": 16,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "intermediate_size": 32,
            "max_position_embeddings": 66,
        },
        audio_config={
            "window_size": 4,
            "num_mel_bins": 16,
            "spec_size": 64,
            "hidden_size": 32,
            "patch_embeds_hidden_size": 8,
            "depths": [1, 1, 1],
            "num_attention_heads": [1, 2, 2],
            "enable_fusion": fused,
            "fusion_type": "aff_2d" if fused else None,
        },
    )
    torch.manual_seed(seed)
    model = ClapModel(config)
    _spread(model)
    model.save_pretrained(folder)
    ClapProcessor(
        ClapFeatureExtractor(
            feature_size=16,
            max_length_s=CLAP_SECONDS,
            truncation="fusion" if fused else "rand_trunc",
        ),
        RobertaTokenizer(vocab={word: i for i, word in enumerate(words)}, merges=[]),
    ).save_pretrained(folder)
    return folder


def save_clip(folder: Path, *, seed: int = 0, dtype: torch.dtype = torch.float32) -> Path:
    words = [*LETTERS, *(f"{x}</w>" for x in LETTERS), "<|startoftext|>", "<|endoftext|>"]
    config = CLIPConfig(
        projection_dim=DIM,
        text_config={
            "vocab_size": len(words),
            "hidden_size": 16,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "intermediate_size": 32,
            "max_position_embeddings": 40,
            "bos_token_id": len(words) - 2,
            "eos_token_id": len(words) - 1,
        },
        vision_config={
            "hidden_size": 16,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "intermediate_size": 32,
            "image_size": FRAME_SIZE,
            "patch_size": 8,
        },
    )
    torch.manual_seed(seed)
    model = CLIPModel(config)
    _spread(model)
    model.to(dtype).save_pretrained(folder)
    CLIPProcessor(
        CLIPImageProcessorPil(
            size={"shortest_edge": FRAME_SIZE},
            crop_size={"height": FRAME_SIZE, "width": FRAME_SIZE},
        ),
        CLIPTokenizer(vocab={word: i for i, word in enumerate(words)}, merges=[]),
    ).save_pretrained(folder)
    return folder


def _spread(model: torch.nn.Module) -> None:
    """Make weights large enough that different inputs come out different."""
    for parameter in model.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.4)

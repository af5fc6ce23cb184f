"""Names of backbones -> how to load them. A new backbone is one file here and one line below.

Modules are imported when a backbone is asked for, so that neither `--help` nor a test pays for
packages that it does not use.
"""

import importlib
from pathlib import Path
from typing import Any, cast

from model.backbones.protocol import AudioBackbone, TextEncoder, VideoBackbone
from model.errors import BackboneError

# name -> ("module:loader", what to install when the import fails). A loader takes the folder that
# may hold the backbone's weights; one whose weights live elsewhere ignores it.
AUDIO_BACKBONES = {
    "compact-audio": ("model.backbones.compact_audio:CompactAudio.load", "avgzsl"),
}
VIDEO_BACKBONES = {
    "compact-video": ("model.backbones.compact_video:CompactVideo.load", "avgzsl"),
}
DEFAULT_TEXT_ENCODER = "all-minilm-l6-v2"


def load_audio_backbone(name: str, folder: Path) -> AudioBackbone:
    """Load an audio backbone, weights from `folder`. Raises BackboneError, CheckpointError."""
    return cast(AudioBackbone, _load("audio", AUDIO_BACKBONES, name, folder))


def load_video_backbone(name: str, folder: Path) -> VideoBackbone:
    """Load a video backbone, weights from `folder`. Raises BackboneError, CheckpointError."""
    return cast(VideoBackbone, _load("video", VIDEO_BACKBONES, name, folder))


def load_text_encoder(name: str) -> TextEncoder:
    """Load a text encoder: the packaged MiniLM, or any sentence-transformers name or path.

    Raises:
        BackboneError: the encoder's files cannot be had.
    """
    from model.backbones import sentence_text  # noqa: PLC0415 - takes seconds

    path = sentence_text.packaged_minilm() if name == DEFAULT_TEXT_ENCODER else name
    return sentence_text.SentenceTextEncoder(name, path)


def _load(kind: str, table: dict[str, tuple[str, str]], name: str, folder: Path) -> Any:
    if name not in table:
        raise BackboneError(f"unknown {kind} backbone {name!r}; known: {', '.join(sorted(table))}")
    target, package = table[name]
    module_name, _, path = target.partition(":")
    try:
        loader: Any = importlib.import_module(module_name)
    except ImportError as error:
        raise BackboneError(
            f"the {kind} backbone {name!r} needs a package that is not installed ({error.name}); "
            f"install it with: pip install '{package}'"
        ) from error
    for attribute in path.split("."):
        loader = getattr(loader, attribute)
    return loader(folder)

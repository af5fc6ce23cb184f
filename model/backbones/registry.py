"""Names of backbones -> how to load them. A new backbone is one file here and one line below.

A backbone with weights of its own beside any checkpoint takes a source after a colon: `clap` is
CLAP with its default weights, `clap:SOURCE` with those of a folder or of a repository of the hub.

Modules are imported when a backbone is asked for, so that neither `--help` nor a test pays for
packages that it does not use.
"""

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, cast

from model.backbones.protocol import AudioBackbone, TextEncoder, TextTower, VideoBackbone
from model.errors import BackboneError


class Entry(NamedTuple):
    """How a backbone is loaded.

    Attributes:
        loader: `module:loader`. It is called with the checkpoint's folder, where the weights lie.
        pretrained: whether the weights lie elsewhere; it is then called with the source or None,
            and with the whole name.
        package: what to install when the import fails.
    """

    loader: str
    pretrained: bool = False
    package: str = "avgzsl"


AUDIO_BACKBONES = {
    "compact-audio": Entry("model.backbones.compact_audio:CompactAudio.load"),
    "clap": Entry("model.backbones.clap:ClapAudio.load", pretrained=True),
}
VIDEO_BACKBONES = {
    "compact-video": Entry("model.backbones.compact_video:CompactVideo.load"),
    "clip": Entry("model.backbones.clip:ClipVideo.load", pretrained=True),
}
# Backbones that were trained together with a text encoder.
TEXT_TOWERS = {
    "clap": Entry("model.backbones.clap:load_text_tower", pretrained=True),
    "clip": Entry("model.backbones.clip:load_text_tower", pretrained=True),
}
DEFAULT_TEXT_ENCODER = "all-minilm-l6-v2"


def load_audio_backbone(name: str, folder: Path | None = None) -> AudioBackbone:
    """Load an audio backbone; `folder` is the checkpoint's, which holds some backbones' weights.

    Raises:
        BackboneError, CheckpointError: see `model.errors`.
    """
    return cast(AudioBackbone, _load("audio backbone", AUDIO_BACKBONES, name, folder))


def load_video_backbone(name: str, folder: Path | None = None) -> VideoBackbone:
    """Load a video backbone, as `load_audio_backbone` does an audio backbone. Raises the same."""
    return cast(VideoBackbone, _load("video backbone", VIDEO_BACKBONES, name, folder))


def load_text_tower(name: str) -> TextTower:
    """Load the text encoder that the backbone of this name was trained with. Raises the same."""
    return cast(TextTower, _load("text tower", TEXT_TOWERS, name, None))


def kind_of(name: str) -> str:
    """Name of a backbone without its source: of `clap:SOURCE`, `clap`."""
    return name.partition(":")[0]


def load_text_encoder(name: str) -> TextEncoder:
    """Load a text encoder: the packaged MiniLM, or any sentence-transformers name or path.

    Raises:
        BackboneError, CheckpointError: the encoder's files cannot be had.
    """
    # Each takes seconds to import, and only one of them is used.
    if name == DEFAULT_TEXT_ENCODER:
        from model.backbones.minilm import MiniLMEncoder  # noqa: PLC0415

        return MiniLMEncoder(name)
    from model.backbones.sentence_text import SentenceTextEncoder  # noqa: PLC0415

    return SentenceTextEncoder(name)


def _load(what: str, table: Mapping[str, Entry], name: str, folder: Path | None) -> Any:
    kind, colon, source = name.partition(":")
    if kind not in table:
        raise BackboneError(f"unknown {what} {name!r}; known: {', '.join(sorted(table))}")
    entry = table[kind]
    if entry.pretrained:
        if colon and not source:
            raise BackboneError(
                f"the {what} {name!r} names nothing after the colon; give {kind}:FOLDER, "
                f"{kind}:OWNER/NAME of a repository of the hub, or {kind} alone"
            )
        return _imported(what, name, entry)(source or None, name=name)
    if colon or folder is None:
        raise BackboneError(
            f"the weights of the {what} {kind!r} lie in the folder of the checkpoint that was "
            f"trained on it, and nowhere else; got {name!r}"
        )
    return _imported(what, name, entry)(folder)


def _imported(what: str, name: str, entry: Entry) -> Any:
    module_name, _, path = entry.loader.partition(":")
    try:
        loader: Any = importlib.import_module(module_name)
    except ImportError as error:
        raise BackboneError(
            f"the {what} {name!r} needs a package that is not installed ({error.name}); "
            f"install it with: pip install '{entry.package}'"
        ) from error
    for attribute in path.split("."):
        loader = getattr(loader, attribute)
    return loader

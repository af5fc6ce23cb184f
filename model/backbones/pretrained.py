"""Pretrained models of transformers: where their files lie, and how they are loaded.

A source is a folder, or a repository of the hub: `owner/name` or `owner/name@revision`, which is
fetched into the Hugging Face cache once. Only configurations, tokenizers and safetensors are read:
neither code nor pickles.
"""

import hashlib
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import LocalEntryNotFoundError
from safetensors import SafetensorError
from transformers.utils.logging import disable_progress_bar

from model.errors import BackboneError

logger = logging.getLogger(__name__)

WEIGHTS = ("model.safetensors", "model.safetensors.index.json")
"""One of them is there: the weights, or the list of the files over which they are spread."""

FILES = (
    *WEIGHTS,
    "model-*-of-*.safetensors",
    "config.json",
    "processor_config.json",
    "preprocessor_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
)
"""All that decides what comes out of a model; a repository may hold much besides."""


def pretrained_folder(source: str, *, setting: str) -> Path:
    """Return the folder with a source's files, fetching them where the cache has not got them.

    What the cache has is used as it is: a service that started once starts offline too.

    Args:
        source: see the module.
        setting: how the backbone is set, `VARIABLE=name`, for the advice in an error.

    Raises:
        BackboneError: there is no such folder, or the hub cannot be reached or has no such thing.
    """
    folder = Path(source).expanduser()
    if folder.is_dir():
        if not _has_weights(folder):
            raise BackboneError(
                f"{folder} holds no model.safetensors; transformers' `save_pretrained` makes it of "
                "a model that is stored otherwise"
            )
        return folder
    if folder.is_absolute() or source.startswith((".", "~")) or source.count("/") != 1:
        raise BackboneError(f"there is no folder {source!r}; {_advice(setting)}")
    return _from_hub(source, setting)


def load_pretrained(model_class: Any, folder: Path) -> Any:
    """Load a model of one of transformers' classes: float32, evaluation mode, no gradients.

    (Typed loosely, as are its users: transformers' own annotations are.)

    Raises:
        BackboneError: the folder holds another kind of model, or not all of its weights, or
            files that cannot be read.
    """
    # A service's log is no place for a progress bar.
    disable_progress_bar()  # type: ignore[no-untyped-call]
    wanted = model_class.config_class.model_type
    with _told(folder, "config.json"):
        found = model_class.config_class.get_config_dict(folder)[0].get("model_type")
    if found != wanted:
        raise BackboneError(f"{folder} holds a model of the type {found!r}, not {wanted!r}")
    model, report = load_files(
        model_class, folder, use_safetensors=True, dtype=torch.float32, output_loading_info=True
    )
    # transformers fills in at random what a file lacks, and only logs it. Tables of whole numbers
    # follow from the configuration; older files lack some.
    state = model.state_dict()
    missing = sorted(k for k in report["missing_keys"] if state[k].is_floating_point())
    if missing:
        raise BackboneError(
            f"{folder} lacks {len(missing)} weights of a {wanted!r} model, {missing[0]} among "
            "them; fetch it again"
        )
    return model.eval().requires_grad_(False)


def load_files(what: Any, folder: Path, **options: Any) -> Any:
    """Call `from_pretrained` of one of transformers' classes on a folder, without the hub.

    Raises:
        BackboneError: a file is missing, corrupt or does not fit the others.
    """
    with _told(folder, what.__name__):
        return what.from_pretrained(folder, local_files_only=True, **options)


def weights_digest(folder: Path) -> str:
    """SHA-256 over what decides a model's output, wherever it lies and whatever lies beside it."""
    digest = hashlib.sha256()
    for path in sorted({path for pattern in FILES for path in folder.glob(pattern)}):
        with path.open("rb") as file:
            digest.update(path.name.encode() + hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def _from_hub(source: str, setting: str) -> Path:
    repository, _, revision = source.partition("@")

    def snapshot(*, local_files_only: bool) -> Path:
        return Path(
            snapshot_download(
                repository,
                revision=revision or None,
                allow_patterns=list(FILES),
                local_files_only=local_files_only,
            )
        )

    try:
        cached = snapshot(local_files_only=True)
        if _has_weights(cached):
            return cached
    except LocalEntryNotFoundError:
        pass
    except ValueError as error:
        raise BackboneError(
            f"{source!r} is neither a folder nor the name of a repository ({error}); "
            f"{_advice(setting)}"
        ) from error
    logger.info("fetching %s from the Hugging Face hub", source)
    try:
        fetched = snapshot(local_files_only=False)
    except Exception as error:
        # Its HTTP client, and with it what a broken connection raises, changes between versions.
        raise BackboneError(
            f"the weights {source} are not in the Hugging Face cache and cannot be fetched "
            f"({_first_line(error)}); {_advice(setting)}"
        ) from error
    # Without a network the hub's client answers with the little that the cache has.
    if not _has_weights(fetched):
        raise BackboneError(
            f"the Hugging Face cache has {source} without model.safetensors, and the hub cannot be "
            f"reached or has none either; {_advice(setting)}"
        )
    return fetched


@contextmanager
def _told(folder: Path, what: str) -> Iterator[None]:
    """Turn what transformers raises of bad files into a BackboneError."""
    try:
        yield
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise BackboneError(
            f"{what} cannot be read from {folder} ({_first_line(error)}); fetch the model again"
        ) from error


def _has_weights(folder: Path) -> bool:
    return any((folder / name).is_file() for name in WEIGHTS)


def _advice(setting: str) -> str:
    return (
        "start once while the machine is online, or name a folder that holds the model: "
        f"{setting}:FOLDER"
    )


def _first_line(error: Exception) -> str:
    return (str(error).strip() or repr(error)).splitlines()[0].rstrip(".")

"""Features of clips on disk, so that no clip is read twice, not even after a kill.

`<cache>.npz`          the feature set (`model.features.npz`), and which files it was made of
`<cache>.npz.parts/`   during an extraction: a file for each clip that is done
"""

import hashlib
import logging
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.errors import FeatureSetError
from model.features.extraction import ClipFeatures, Signature
from model.features.feature_set import FeatureSet
from model.features.npz import feature_arrays, load_arrays, pack_arrays
from model.files import write_whole

log = logging.getLogger(__name__)

_SIGNATURE = ("signature_settings", "signature_audio", "signature_video")
_ROWS = ("audio", "video", "has_audio", "has_video", "clip_keys", "failed_keys", "failures")


class ClipCache:
    """Features by clip. What other backbones made, or of a file that has changed, is not in it.

    Args:
        path: .npz file of the feature set, once it is complete.
        signature: what the features depend on besides the clips.
    """

    def __init__(self, path: Path, signature: Signature) -> None:
        self._path = path
        self._parts = path.with_name(f"{path.name}.parts")
        self._signature = signature
        self._finished = self._read_finished()
        self._failures: dict[str, str] = {}
        self._open_parts()

    def get(self, clip: Path) -> ClipFeatures | None:
        """Features of a clip, or why it has none; None where it was not read yet."""
        key = _key(clip)
        features = self._finished.get(key) or self._read_part(key)
        if features is not None and features.failure is not None:
            self._failures[key] = features.failure
        return features

    def put(self, clip: Path, features: ClipFeatures) -> None:
        """Keep a clip's features, or why it has none, whatever happens after."""
        key = _key(clip)
        arrays: dict[str, NDArray[Any]] = {"failure": np.array(features.failure or "")}
        if features.audio is not None:
            arrays["audio"] = features.audio
        if features.video is not None:
            arrays["video"] = features.video
        if features.failure is not None:
            self._failures[key] = features.failure
        write_whole(self._part(key), pack_arrays(arrays))

    def finish(self, features: FeatureSet, clips: Sequence[Path]) -> None:
        """Write the feature set, whose rows are these clips, and clear away the parts."""
        arrays = {
            **feature_arrays(features),
            **_signature_arrays(self._signature),
            "clip_keys": np.array([_key(clip) for clip in clips], np.str_),
            "failed_keys": np.array(list(self._failures), np.str_),
            "failures": np.array(list(self._failures.values()), np.str_),
        }
        write_whole(self._path, pack_arrays(arrays))
        shutil.rmtree(self._parts)

    def _read_finished(self) -> dict[str, ClipFeatures]:
        if not self._path.exists():
            return {}
        arrays = _read(self._path, (*_ROWS, *_SIGNATURE))
        if arrays is None or not self._is_alike(arrays):
            return {}
        finished = {
            key: ClipFeatures(
                arrays["audio"][row] if arrays["has_audio"][row] else None,
                arrays["video"][row] if arrays["has_video"][row] else None,
            )
            for row, key in enumerate(arrays["clip_keys"].tolist())
        }
        failed = zip(arrays["failed_keys"].tolist(), arrays["failures"].tolist(), strict=True)
        return finished | {key: ClipFeatures(None, None, failure) for key, failure in failed}

    def _open_parts(self) -> None:
        """Make the folder of parts; go on with one that is there if the same backbones made it."""
        signature = self._part("signature")
        if signature.exists():
            arrays = _read(signature, _SIGNATURE)
            if arrays is not None and self._is_alike(arrays):
                return
        shutil.rmtree(self._parts, ignore_errors=True)
        self._parts.mkdir(parents=True)
        write_whole(signature, pack_arrays(_signature_arrays(self._signature)))

    def _read_part(self, key: str) -> ClipFeatures | None:
        if not self._part(key).exists():
            return None
        arrays = _read(self._part(key), ("audio", "video", "failure"))
        if arrays is None:
            return None
        failure = str(arrays["failure"]) or None
        return ClipFeatures(arrays.get("audio"), arrays.get("video"), failure)

    def _part(self, key: str) -> Path:
        return self._parts / f"{key}.npz"

    def _is_alike(self, arrays: dict[str, NDArray[Any]]) -> bool:
        if not set(_SIGNATURE) <= set(arrays):  # a feature set that was no extraction of ours
            return False
        settings, audio, video = (arrays[name] for name in _SIGNATURE)
        return self._signature.agrees(Signature(str(settings), audio, video))


def _key(clip: Path) -> str:
    """Names a file's content as well as its path, size and time of change do."""
    stat = clip.stat()
    fact = f"{clip.resolve()}|{stat.st_size}|{stat.st_mtime_ns}"
    return hashlib.sha256(fact.encode()).hexdigest()[:32]


def _signature_arrays(signature: Signature) -> dict[str, NDArray[Any]]:
    values = (np.array(signature.settings), signature.audio, signature.video)
    return dict(zip(_SIGNATURE, values, strict=True))


def _read(path: Path, known: Sequence[str]) -> dict[str, NDArray[Any]] | None:
    """Arrays of a file of the cache; None where it is torn: it is only a cache."""
    try:
        return load_arrays(path, known)
    except FeatureSetError as error:
        log.warning("the cache is not used: %s", error)
        return None

"""Feature sets as one .npz file.

audio, video              (N, D) floats; or uint8 with `scale` (2,), the real values of 0 and of 255
label                     (N,) names of classes, or numbers that index `class_names`
stage                     (N,) stages of the protocol
has_audio, has_video      (N,) bool, all true where missing
ids                       (N,) names of samples, else their row numbers
class_names               (C,) may name classes without rows; rows' labels are added where missing
class_synonyms            (C,) one a line;  class_descriptions (C,)
text_vectors              (C, Dt) floats, where the set brings its own label vectors
name, backbones           what tables call the set; names of the audio and the video backbone
"""

import io
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile

import numpy as np
from numpy.typing import NDArray

from model.embedding import ClassText
from model.errors import FeatureSetError
from model.features.feature_set import FeatureSet, class_key
from model.files import write_whole

Arrays = Mapping[str, NDArray[Any]]

_NEEDED = ("audio", "video", "label", "stage")
_OPTIONAL = (
    "scale",
    "has_audio",
    "has_video",
    "ids",
    "class_names",
    "class_synonyms",
    "class_descriptions",
    "text_vectors",
    "name",
    "backbones",
)
_ALIASES = {"labels": "label", "stages": "stage"}


def read_npz(path: Path) -> FeatureSet:
    """Read a feature set; see above for the arrays. Nothing is unpickled.

    Raises:
        FeatureSetError: the file is corrupt, an array is missing or does not fit the others.
    """
    arrays = load_arrays(path, (*_NEEDED, *_OPTIONAL), aliases=_ALIASES)
    _require_arrays(path, arrays)
    n = len(arrays["label"])
    classes, labels = _read_classes(path, arrays)
    has_audio, has_video = (_read_presence(path, arrays, m) for m in ("audio", "video"))
    _require_something(path, has_audio, has_video)
    backbones = arrays.get("backbones")
    return FeatureSet(
        name=str(arrays["name"])
        if "name" in arrays
        else f"{path.resolve().parent.name}/{path.stem}",
        audio=_read_modality(path, arrays, "audio", has_audio),
        video=_read_modality(path, arrays, "video", has_video),
        has_audio=has_audio,
        has_video=has_video,
        labels=labels,
        stages=np.array(_strings(arrays["stage"]), np.str_),
        ids=tuple(_strings(arrays["ids"])) if "ids" in arrays else tuple(map(str, range(n))),
        classes=classes,
        text_vectors=_read_text_vectors(path, arrays, len(classes)),
        backbones=None if backbones is None else (str(backbones[0]), str(backbones[1])),
    )


def write_npz(features: FeatureSet, path: Path) -> None:
    """Write a feature set whole, as `read_npz` reads it; nothing of it is lost."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, pack_arrays(feature_arrays(features)))


def feature_arrays(features: FeatureSet) -> dict[str, NDArray[Any]]:
    """Arrays of a feature set's file."""
    classes = features.classes
    arrays: dict[str, NDArray[Any]] = {
        "name": np.array(features.name),
        "audio": features.audio,
        "video": features.video,
        "has_audio": features.has_audio,
        "has_video": features.has_video,
        "label": np.array([classes[i].name for i in features.labels], np.str_),
        "stage": features.stages.astype(np.str_),
        "ids": np.array(features.ids, np.str_),
        "class_names": np.array([c.name for c in classes], np.str_),
        "class_synonyms": np.array(["\n".join(c.synonyms) for c in classes], np.str_),
        "class_descriptions": np.array([c.description for c in classes], np.str_),
    }
    if features.text_vectors is not None:
        arrays["text_vectors"] = features.text_vectors
    if features.backbones is not None:
        arrays["backbones"] = np.array(features.backbones, np.str_)
    return arrays


def pack_arrays(arrays: Arrays) -> bytes:
    """Content of an .npz file."""
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type] # the stub takes a name for it
    return buffer.getvalue()


def load_arrays(
    path: Path, known: Sequence[str], *, aliases: Mapping[str, str] | None = None
) -> dict[str, NDArray[Any]]:
    """Those of the `known` arrays that an .npz file has; an alias is read under its proper name.

    Raises:
        FeatureSetError: the file is missing, corrupt, or an array in it holds Python objects.
    """
    proper = {name: name for name in known} | dict(aliases or {})
    if not path.is_file():
        raise FeatureSetError(f"{path} is missing; give a feature file, or a folder")
    try:
        with ZipFile(path) as archive:
            keys = [name.removesuffix(".npy") for name in archive.namelist()]
        with np.load(path, allow_pickle=False) as arrays:
            loaded = {proper[key]: arrays[key] for key in keys if key in proper}
    # RuntimeError is how zipfile refuses encryption and unknown compression.
    except (OSError, ValueError, EOFError, RuntimeError, BadZipFile, zlib.error) as error:
        raise FeatureSetError(
            f"{path} is not a readable .npz file of plain arrays ({error}); copy or write it again"
        ) from error
    if not loaded:
        raise FeatureSetError(
            f"{path} has none of the arrays {', '.join(known)}; it has {', '.join(keys) or 'none'}"
        )
    return loaded


def _require_arrays(path: Path, arrays: Arrays) -> None:
    missing = [name for name in _NEEDED if name not in arrays]
    if missing:
        raise FeatureSetError(
            f"{path} lacks {', '.join(missing)}; it has {', '.join(sorted(arrays))} and needs "
            f"{', '.join(_NEEDED)}"
        )
    for name in ("audio", "video"):
        if arrays[name].ndim != 2:
            raise FeatureSetError(
                f"{path}: {name} has shape {arrays[name].shape}; (samples, numbers) was expected"
            )
    n = len(arrays["audio"])
    for name in ("video", "label", "stage", "has_audio", "has_video", "ids"):
        if name in arrays and arrays[name].shape[:1] != (n,):
            raise FeatureSetError(
                f"{path}: {name} has shape {arrays[name].shape}, audio has {n} rows; all arrays "
                "of samples must be equally long"
            )
    for name in ("label", "stage", "has_audio", "has_video", "ids"):
        if name in arrays and arrays[name].ndim != 1:
            raise FeatureSetError(f"{path}: {name} has shape {arrays[name].shape}, not ({n},)")


def _read_modality(
    path: Path, arrays: Arrays, modality: str, present: NDArray[np.bool_]
) -> NDArray[np.float32]:
    raw = arrays[modality]
    if raw.dtype == np.uint8:
        low, high = _read_scale(path, arrays, modality)
        values = low + raw.astype(np.float32) / np.float32(255) * (high - low)
    elif raw.dtype.kind == "f":
        with np.errstate(over="ignore"):  # what becomes infinite is told with its row
            values = raw.astype(np.float32)
    else:
        raise FeatureSetError(
            f"{path}: {modality} is of {raw.dtype}; floats, or uint8 with `scale`, are read"
        )
    return np.asarray(np.where(present[:, None], values, np.float32(0)), np.float32)


def _read_scale(path: Path, arrays: Arrays, modality: str) -> tuple[np.float32, np.float32]:
    scale = arrays.get("scale")
    if scale is None:
        raise FeatureSetError(
            f"{path}: {modality} is uint8 and there is no `scale` of (lowest, highest) real value"
        )
    if scale.shape != (2,) or not np.isfinite(scale).all() or not scale[0] < scale[1]:
        raise FeatureSetError(
            f"{path}: scale is {scale.tolist()}; (lowest, highest) real value was expected"
        )
    return np.float32(scale[0]), np.float32(scale[1])


def _read_presence(path: Path, arrays: Arrays, modality: str) -> NDArray[np.bool_]:
    present = arrays.get(f"has_{modality}")
    if present is None:
        return np.ones(len(arrays[modality]), np.bool_)
    if present.dtype.kind not in "bui":
        raise FeatureSetError(f"{path}: has_{modality} is of {present.dtype}, not bool")
    return np.asarray(present, np.bool_)


def _require_something(
    path: Path, has_audio: NDArray[np.bool_], has_video: NDArray[np.bool_]
) -> None:
    nothing = np.flatnonzero(~(has_audio | has_video))
    if nothing.size:
        raise FeatureSetError(
            f"{path}: {nothing.size} rows have neither audio nor video, first row {nothing[0]}; "
            "leave them out"
        )


def _read_classes(path: Path, arrays: Arrays) -> tuple[tuple[ClassText, ...], NDArray[np.int64]]:
    """Classes, those of `class_names` first, and each row's index."""
    raw = arrays["label"]
    names = _strings(arrays["class_names"]) if "class_names" in arrays else []
    if raw.dtype.kind in "iu":
        if not names:
            raise FeatureSetError(f"{path}: labels are numbers and there are no class_names")
        return _with_texts(path, arrays, names), raw.astype(np.int64)
    if raw.dtype.kind not in "US":
        raise FeatureSetError(f"{path}: label is of {raw.dtype}; names or numbers are read")
    known = {class_key(name) for name in names}
    of_rows = _strings(raw)
    added = sorted({name for name in set(of_rows) if class_key(name) not in known})
    if added and "text_vectors" in arrays:
        raise FeatureSetError(
            f"{path}: the class {added[0]!r} is not in class_names, so it has no text vector"
        )
    classes = _with_texts(path, arrays, names, added)
    index = {class_key(c.name): i for i, c in enumerate(classes)}
    return classes, np.array([index[class_key(name)] for name in of_rows], np.int64)


def _with_texts(
    path: Path, arrays: Arrays, names: Sequence[str], added: Sequence[str] = ()
) -> tuple[ClassText, ...]:
    texts = {}
    for key in ("class_synonyms", "class_descriptions"):
        texts[key] = _strings(arrays[key]) if key in arrays else [""] * len(names)
        if len(texts[key]) != len(names):
            raise FeatureSetError(
                f"{path}: {key} has {len(texts[key])} entries, class_names {len(names)}"
            )
    described = zip(names, texts["class_synonyms"], texts["class_descriptions"], strict=True)
    return (
        *(ClassText(n, tuple(s.splitlines()), description) for n, s, description in described),
        *(ClassText(name) for name in added),
    )


def _read_text_vectors(path: Path, arrays: Arrays, classes: int) -> NDArray[np.float32] | None:
    vectors = arrays.get("text_vectors")
    if vectors is None:
        return None
    if vectors.dtype.kind != "f" or vectors.ndim != 2 or len(vectors) != classes:
        raise FeatureSetError(
            f"{path}: text_vectors is {vectors.dtype} of shape {vectors.shape}; floats of shape "
            f"({classes}, numbers) were expected, a row for each of class_names"
        )
    return vectors.astype(np.float32)


def _strings(array: NDArray[Any]) -> list[str]:
    if array.dtype.kind == "S":
        return [value.decode("utf-8", "replace") for value in array.tolist()]
    return [str(value) for value in array.tolist()]

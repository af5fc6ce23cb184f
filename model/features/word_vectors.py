"""Label vectors of the AVCA-GZSL benchmark: a pickled dict in an .npy file, unpickled with care."""

import pickle
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
from numpy.typing import NDArray

from model.errors import FeatureSetError

Alignment = Literal["by-name", "as-published"]
ALIGNMENTS: tuple[Alignment, ...] = ("by-name", "as-published")

WordVectors = Mapping[str, NDArray[np.float32]]

# All that a pickled dict of arrays calls, under the names of NumPy 1 and of NumPy 2.
_ALLOWED = {
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy._core.numeric", "_frombuffer"),
    ("numpy.core.numeric", "_frombuffer"),
}


class _ArrayUnpickler(pickle.Unpickler):
    """Unpickles built-in containers and NumPy arrays; a pickle could otherwise run any code."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"it calls {module}.{name}")
        return super().find_class(module, name)


def read_word_vectors(path: Path) -> dict[str, NDArray[np.float32]]:
    """Read an .npy file that holds a pickled dict: name -> vector (Dt,) of numbers.

    Raises:
        FeatureSetError: the file is not that, or its pickle holds anything but arrays.
    """
    try:
        with path.open("rb") as file:
            _skip_header(file)
            content = _ArrayUnpickler(file).load()
    except Exception as error:  # a pickle that is not one raises whatever its bytes spell
        raise FeatureSetError(
            f"{path} is not a dictionary of label vectors ({error}); only names and NumPy arrays "
            "are read from a pickle"
        ) from error
    vectors = content.item() if isinstance(content, np.ndarray) and content.size == 1 else content
    return _checked(path, vectors)


def align(
    vectors: WordVectors, names: Sequence[tuple[str, str]], alignment: Alignment
) -> list[NDArray[np.float32]]:
    """Give each class its label vector.

    `by-name` looks each class up by the name that the vectors are kept under. `as-published` does
    what the benchmark's loaders do (AVCA-GZSL, src/dataset.py: `get_data_by_modality` sorts the
    vectors by that name, `all_data` indexes them with positions in the sorted list of the classes'
    original names), so that the published tables can be reproduced: where the two namings sort
    differently, classes get others' vectors.

    Args:
        vectors: name -> vector.
        names: (original name, name in `vectors`) of every class of the benchmark.
        alignment: see above.

    Returns:
        A vector for each of `names`.

    Raises:
        FeatureSetError: a class has no vector, or there are fewer vectors than classes.
    """
    if alignment == "by-name":
        finder = _Finder(vectors)
        return [finder.find(words, original) for original, words in names]
    if len(vectors) != len(names):
        raise FeatureSetError(
            f"there are {len(vectors)} label vectors for {len(names)} classes; the published "
            "alignment needs one for each class of all_class.txt"
        )
    by_words = [vectors[key] for key in sorted(vectors)]
    position = {original: i for i, original in enumerate(sorted(o for o, _ in names))}
    return [by_words[position[original]] for original, _ in names]


class _Finder:
    """Looks vectors up by name, then by its letters and digits alone."""

    def __init__(self, vectors: WordVectors) -> None:
        self._exact = vectors
        self._loose = {loose_key(name): vector for name, vector in vectors.items()}

    def find(self, *names: str) -> NDArray[np.float32]:
        for name in names:
            if name in self._exact:
                return self._exact[name]
        for name in names:
            if loose_key(name) in self._loose:
                return self._loose[loose_key(name)]
        raise FeatureSetError(
            f"the class {names[0]!r} has no label vector among {len(self._exact)}; map its name in "
            "class-split/*_w2v_class_names.csv (columns original, manual), or remove the text "
            "folder to have a text encoder make the vectors"
        )


def loose_key(name: str) -> str:
    """A name's letters and digits in lower case: `Apply Eye Makeup` is `ApplyEyeMakeup`."""
    return re.sub(r"[\W_]+", "", name.casefold())


def _skip_header(file: IO[bytes]) -> None:
    version = np.lib.format.read_magic(file)
    reader = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }[version]
    _, _, dtype = reader(file)
    if not dtype.hasobject:
        raise ValueError(f"it is an array of {dtype}")


def _checked(path: Path, vectors: Any) -> dict[str, NDArray[np.float32]]:
    if not isinstance(vectors, dict) or not vectors:
        raise FeatureSetError(
            f"{path} holds {type(vectors).__name__}; a dictionary name -> vector was expected"
        )
    width = np.size(next(iter(vectors.values())))
    for name, vector in vectors.items():
        is_vector = isinstance(vector, np.ndarray) and vector.dtype.kind == "f" and vector.ndim == 1
        if not (isinstance(name, str) and is_vector and vector.size == width):
            raise FeatureSetError(
                f"{path}: the entry {name!r} is no vector of {width} floating-point numbers"
            )
    return {name: vector.astype(np.float32) for name, vector in vectors.items()}

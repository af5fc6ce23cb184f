"""The benchmark's .h5 files: the samples of one class in one stage and one modality."""

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.errors import FeatureSetError


@dataclass(frozen=True)
class SampleFile:
    """Samples: `data` (n, D) float32, `ids` the n video_urls, `present` (n,) bool.

    `present` is false where a sample lacks this modality; its row is zero. Files of the benchmark
    do not have it: all are there.
    """

    data: NDArray[np.float32]
    ids: list[str]
    present: NDArray[np.bool_]

    def take(self, rows: NDArray[np.intp]) -> "SampleFile":
        """These rows, in this order."""
        return SampleFile(self.data[rows], [self.ids[i] for i in rows], self.present[rows])


def read_sample_file(path: Path) -> SampleFile:
    """Read the samples of one file.

    Raises:
        FeatureSetError: the file is corrupt, or a dataset is missing or does not fit.
    """
    with _opened(path) as file:
        _require_datasets(path, file, "data", "video_urls")
        data, ids = np.asarray(file["data"]), _decode(file["video_urls"])
        present = np.asarray(file["present"]) if "present" in file else np.ones(len(data), np.bool_)
    is_table = data.ndim == 2 and data.dtype.kind == "f"
    if not is_table or not len(data) == len(ids) == len(present):
        raise FeatureSetError(
            f"{path}: data is {data.dtype} of shape {data.shape} for {len(ids)} video_urls; "
            "floats of shape (samples, numbers) were expected"
        )
    return SampleFile(data.astype(np.float32), ids, present)


def read_sample_ids(path: Path) -> list[str]:
    """Read the names of the samples of one file. Raises FeatureSetError as `read_sample_file`."""
    with _opened(path) as file:
        _require_datasets(path, file, "video_urls")
        return _decode(file["video_urls"])


def write_sample_file(path: Path, samples: SampleFile) -> None:
    """Write the samples of one file, as `read_sample_file` and the published loaders read them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    h5py = _import_h5py()
    with h5py.File(path, "w") as file:
        file["data"] = samples.data
        file.create_dataset("video_urls", data=samples.ids, dtype=h5py.string_dtype())
        if not samples.present.all():
            file["present"] = samples.present


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        with _import_h5py().File(path, "r") as file:
            yield file
    # h5py has no error of its own: damage comes as any of these.
    except (OSError, RuntimeError, KeyError, ValueError, TypeError) as error:
        raise FeatureSetError(
            f"{path} is not a readable HDF5 file ({error}); copy it again"
        ) from error


def _import_h5py() -> Any:
    try:
        return importlib.import_module("h5py")
    except ImportError as error:
        raise FeatureSetError(
            "reading the benchmark's .h5 files needs h5py; install it with: "
            "pip install 'avgzsl[train]'"
        ) from error


def _require_datasets(path: Path, file: Any, *names: str) -> None:
    missing = [name for name in names if not hasattr(file.get(name), "shape")]
    if missing:
        raise FeatureSetError(
            f"{path} lacks the dataset {missing[0]}; it has {', '.join(map(str, file)) or 'none'} "
            f"and needs {', '.join(names)}"
        )


def _decode(urls: Any) -> list[str]:
    # At once: to iterate over a dataset reads the file for every element.
    values = np.asarray(urls).tolist()
    return [u.decode("utf-8", "replace") if isinstance(u, bytes) else str(u) for u in values]

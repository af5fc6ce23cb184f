"""Reading features of any kind: the path says which."""

from pathlib import Path

from model.errors import FeatureSetError
from model.features.avca import is_avca_dataset, read_avca
from model.features.feature_set import FeatureSet
from model.features.npz import read_npz
from model.features.word_vectors import ALIGNMENTS, Alignment


def read_features(
    path: str | Path,
    *,
    alignment: Alignment = "by-name",
    dataset: str | None = None,
    features_name: str | None = None,
    split: str | Path | None = None,
    former_split: Path | None = None,
    seed: int = 0,
    audio_backbone: str | None = None,
    video_backbone: str | None = None,
    backbone_folder: Path | None = None,
    device: str = "auto",
    cache: Path | None = None,
) -> FeatureSet:
    """Read an .npz file, a dataset in the AVCA-GZSL layout, or a folder of clips.

    Args:
        path: an .npz file (`model.features.npz`), a dataset or a folder of datasets
            (`model.features.avca`), or a folder with a sub-folder of clips for each class
            (`model.features.clips`).
        alignment: of a dataset's label vectors and classes (`model.features.word_vectors.align`).
        dataset: sub-folder of `path`, where that holds several datasets.
        features_name: which of a dataset's features.
        split: which of a dataset's splits by name, or the file that splits a folder of clips.
        former_split: by which a training split a folder of clips (`model.features.clips`).
        seed: of the split by chance of a folder of clips.
        audio_backbone, video_backbone: what extracts the features of clips, by the names of
            `model.backbones.registry`; those of the bundled model by default.
        backbone_folder: of the checkpoint whose backbones are meant; by default bundled.
        device: where the backbones run: `auto`, `cpu` or `cuda`.
        cache: .npz file that keeps the features of a folder of clips; without one, an extraction
            that is cut short begins anew.

    Raises:
        FeatureSetError: what is there cannot be read, or does not fit together.
        BackboneError, CheckpointError: a backbone of clips cannot be loaded.
    """
    path = Path(path)
    if alignment not in ALIGNMENTS:
        raise FeatureSetError(
            f"unknown alignment {alignment!r}; it may be {' or '.join(ALIGNMENTS)}"
        )
    if not path.exists():
        raise FeatureSetError(f"{path} is missing; give an .npz file, or a folder")
    folder = _find_dataset(path, dataset) if path.is_dir() else None
    if folder is not None:
        return read_avca(
            folder,
            alignment=alignment,
            features_name=features_name,
            split=None if split is None else str(split),
        )
    if alignment != "by-name":
        raise FeatureSetError(
            f"{path} is not in the AVCA-GZSL layout, so there is no published alignment to follow"
        )
    if path.is_file():
        return read_npz(path)

    from model.features.clips import load_extractor, read_clips  # noqa: PLC0415 - torch, seconds

    return read_clips(
        path,
        load_extractor(audio_backbone, video_backbone, backbone_folder, device),
        split=None if split is None else Path(split),
        former_split=former_split,
        seed=seed,
        cache=cache,
    )


def _find_dataset(folder: Path, name: str | None) -> Path | None:
    """The dataset that a folder is or holds; None where it is a folder of clips."""
    if is_avca_dataset(folder):
        return folder
    halves = [part for part in ("class-split", "features") if (folder / part).is_dir()]
    if halves:
        raise FeatureSetError(
            f"{folder} has {halves[0]} only; a dataset in the AVCA-GZSL layout has class-split and "
            "features side by side"
        )
    found = {path.name: path for path in sorted(folder.iterdir()) if is_avca_dataset(path)}
    if name in found:
        return found[name]
    if name is not None:
        raise FeatureSetError(
            f"{folder} has no dataset {name!r} with the folders class-split and features; it has "
            f"{', '.join(found) or 'none'}"
        )
    if len(found) > 1:
        raise FeatureSetError(
            f"{folder} has the datasets {', '.join(found)}; say which one: dataset"
        )
    return next(iter(found.values()), None)

"""A folder of clips, one sub-folder a class, as a feature set made by the backbones.

A file `split.csv` or `split.json` in the folder says which stage a class or a file is in
(`model.features.splits`); without one, chance and a seed do.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from model.backbones.registry import load_audio_backbone, load_video_backbone
from model.checkpoint import BUNDLED, checkpoint_folder
from model.device import resolve_device
from model.embedding import ClassText
from model.errors import DecodeTimeout, FeatureSetError, MediaError
from model.features.clip_cache import ClipCache
from model.features.extraction import ClipExtractor, ClipFeatures
from model.features.feature_set import FeatureSet
from model.features.splits import read_split, stages_by_chance, stages_by_split
from model.files import read_json_object

log = logging.getLogger(__name__)

SPLIT_FILES = ("split.csv", "split.json")


@dataclass(frozen=True)
class ClipFile:
    """One file: `id` is its path in the folder of clips, with `/`; `class_name` the sub-folder."""

    path: Path
    id: str
    class_name: str


def find_clips(folder: Path) -> list[ClipFile]:
    """All files below the sub-folders, sorted by id; hidden ones are left out.

    Raises:
        FeatureSetError: there are none.
    """
    clips = [
        ClipFile(path, path.relative_to(folder).as_posix(), path.relative_to(folder).parts[0])
        for path in sorted(folder.glob("*/**/*"))
        if path.is_file() and not any(p.startswith(".") for p in path.relative_to(folder).parts)
    ]
    if not clips:
        raise FeatureSetError(
            f"{folder} holds no clips; a sub-folder for each class with its files in it was "
            "expected (or a dataset in the AVCA-GZSL layout, or give an .npz file)"
        )
    return clips


def load_extractor(
    audio_backbone: str | None = None,
    video_backbone: str | None = None,
    folder: Path | None = None,
    device: str = "auto",
) -> ClipExtractor:
    """Load the backbones of these names; those of the bundled model where none is given.

    Args:
        audio_backbone, video_backbone: names in `model.backbones.registry`.
        folder: of the checkpoint that brings their weights, where they are ours.
        device: `auto`, `cpu` or `cuda`.

    Raises:
        BackboneError, CheckpointError: see `model.errors`.
    """
    bundled_folder = checkpoint_folder(BUNDLED)
    bundled = read_json_object(bundled_folder / "checkpoint.json")
    folder = folder or bundled_folder
    return ClipExtractor(
        load_audio_backbone(audio_backbone or bundled["audio_backbone"], folder),
        load_video_backbone(video_backbone or bundled["video_backbone"], folder),
        resolve_device(device),
    )


def read_clips(
    folder: Path,
    extractor: ClipExtractor,
    *,
    split: Path | None = None,
    former_split: Path | None = None,
    seed: int = 0,
    cache: Path | None = None,
) -> FeatureSet:
    """Extract the features of a folder of clips; a row is a clip, the mean over its windows.

    Files that cannot be read are left out with a warning, as are those that the split leaves out.

    Args:
        folder: a sub-folder for each class; `_` in its name is a space in the class's.
        extractor: the backbones.
        split: file that says what is in which stage, instead of the one in the folder.
        former_split: file by which a training split the folder as it was then, for where no other
            file says: chance would divide what is there now in another way.
        seed: of the split by chance, where no file says.
        cache: .npz file of the result. A run that was killed goes on from what lies beside it, and
            clips whose file has not changed since are not read again.

    Raises:
        FeatureSetError: there are no clips, the split does not fit them, or a class that it names
            has no clip that can be read.
    """
    clips = find_clips(folder)
    split = split or next((folder / n for n in SPLIT_FILES if (folder / n).is_file()), None)
    if split is None and former_split is not None:
        entries = _still_named(read_split(former_split), clips)
    else:
        entries = read_split(split) if split else None
    planned = _stages(clips, entries, seed)  # an impossible split is told before hours of work
    clips = [clip for clip, stage in zip(clips, planned, strict=True) if stage is not None]
    if len(clips) < len(planned):
        source = split or former_split
        log.warning("%s puts %d files in no stage", source, len(planned) - len(clips))

    store = ClipCache(cache, extractor.signature()) if cache else None
    features = _extract(clips, extractor, store)
    kept = [clip for clip, f in zip(clips, features, strict=True) if f.failure is None]
    _warn_of_failures(clips, features)
    _require_clips_of(sorted({clip.class_name for clip in clips}), kept, folder)
    stages = _stages(kept, entries and _still_there(entries, clips, kept), seed)
    result = _feature_set(
        folder, kept, [f for f in features if f.failure is None], stages, extractor
    )
    if store:
        store.finish(result, [clip.path for clip in kept])
    return result


def _stages(
    clips: Sequence[ClipFile], entries: dict[str, str] | None, seed: int
) -> Sequence[str | None]:
    classes = [clip.class_name for clip in clips]
    if entries is None:
        return stages_by_chance(classes, seed)
    return stages_by_split(entries, [clip.id for clip in clips], classes)


def _still_named(entries: dict[str, str], clips: Sequence[ClipFile]) -> dict[str, str] | None:
    """Return the entries of clips that are there; None where none is: it was another folder."""
    present = {clip.id for clip in clips}
    return {name: stage for name, stage in entries.items() if name in present} or None


def _still_there(
    entries: dict[str, str], clips: Sequence[ClipFile], kept: Sequence[ClipFile]
) -> dict[str, str]:
    gone = {clip.id for clip in clips} - {clip.id for clip in kept}
    return {name: stage for name, stage in entries.items() if name not in gone}


def _extract(
    clips: Sequence[ClipFile], extractor: ClipExtractor, cache: ClipCache | None
) -> list[ClipFeatures]:
    features = []
    for clip in tqdm(clips, desc="clips", unit="clip"):
        found = cache.get(clip.path) if cache else None
        if found is None:
            found = _extract_one(clip, extractor, cache)
        features.append(found)
    return features


def _extract_one(clip: ClipFile, extractor: ClipExtractor, cache: ClipCache | None) -> ClipFeatures:
    try:
        features = extractor.extract(clip.path)
    except (DecodeTimeout, OSError) as error:  # may go better another time: not remembered
        return ClipFeatures(None, None, str(error))
    except MediaError as error:
        features = ClipFeatures(None, None, str(error))
    if cache:
        cache.put(clip.path, features)
    return features


def _warn_of_failures(clips: Sequence[ClipFile], features: Sequence[ClipFeatures]) -> None:
    told = list(zip(clips, features, strict=True))
    failures = [f"{clip.id}: {f.failure}" for clip, f in told if f.failure is not None]
    damages = [f"{clip.id}: {warning}" for clip, f in told for warning in f.warnings]
    if failures:
        log.warning(
            "%d of %d files could not be read and are left out:\n  %s",
            len(failures),
            len(clips),
            "\n  ".join(failures),
        )
    if damages:
        log.warning("files that were read in part:\n  %s", "\n  ".join(damages))


def _require_clips_of(classes: Sequence[str], kept: Sequence[ClipFile], folder: Path) -> None:
    with_clips = {clip.class_name for clip in kept}
    for name in classes:
        if name not in with_clips:
            raise FeatureSetError(
                f"the class {name!r} has no clip that can be read; add one to {folder / name}, or "
                "take the class out"
            )


def _feature_set(
    folder: Path,
    clips: Sequence[ClipFile],
    features: Sequence[ClipFeatures],
    stages: Sequence[str | None],
    extractor: ClipExtractor,
) -> FeatureSet:
    names = sorted({clip.class_name for clip in clips})
    return FeatureSet(
        name=folder.resolve().name,
        audio=_stack([f.audio for f in features], extractor.audio_dim),
        video=_stack([f.video for f in features], extractor.video_dim),
        has_audio=np.array([f.audio is not None for f in features]),
        has_video=np.array([f.video is not None for f in features]),
        labels=np.array([names.index(clip.class_name) for clip in clips], np.int64),
        stages=np.array(stages, np.str_),
        ids=tuple(clip.id for clip in clips),
        classes=tuple(ClassText(" ".join(name.replace("_", " ").split())) for name in names),
        text_vectors=None,
        backbones=extractor.names,
    )


def _stack(rows: Sequence[NDArray[np.float32] | None], dim: int) -> NDArray[np.float32]:
    return np.stack([np.zeros(dim, np.float32) if row is None else row for row in rows])

"""Whether a directory, a catalogue and a model belong together."""

import uuid
from pathlib import Path

from index.catalogue import Catalogue
from index.durable import replace_file, storage_errors
from index.errors import ModelMismatch, StorageError


def claim_directory(catalogue: Catalogue, directory: Path) -> str:
    """Tie a new catalogue to its directory, or make sure that they were tied; return its id.

    A directory's media files that its catalogue does not know get deleted as left over from a
    crash, so they must not meet an empty catalogue or another library's. Raises StorageError.
    """
    marker = directory / "library_id"
    written, known = check_directory(catalogue, directory)
    if known is None:
        with catalogue.write() as writer:
            # Another process that shares the catalogue may have been first.
            known = writer.fact("library_id") or uuid.uuid4().hex
            writer.set_fact("library_id", known)
    if written is None:
        with storage_errors(f"write {marker}"):
            replace_file(marker, [known.encode()])
    return known


def check_directory(catalogue: Catalogue, directory: Path) -> tuple[str | None, str | None]:
    """Return the library id that is written in a directory, and the one that its catalogue knows.

    Each is None where there is none yet. Raises StorageError where a directory's is another.
    """
    marker = directory / "library_id"
    with storage_errors(f"read {marker}"):
        written = marker.read_text().strip() if marker.exists() else None
    with catalogue.read() as reader:
        known = reader.fact("library_id")
    if written is not None and written != known:
        raise StorageError(
            f"The catalogue is not the one that the media in {directory} belong to (library "
            f"{known or 'new'}, expected {written}). Restore that catalogue, or use an empty "
            "directory for a new library."
        )
    return written, known


def adopt_model(catalogue: Catalogue, *, model_id: str, dim: int) -> None:
    """Make the catalogue the model's, whose vectors are (dim,).

    Seeded vocabularies of a former model are forgotten, as they can be seeded again. Raises
    ModelMismatch where a user's clips or classes are of a former model.
    """
    with catalogue.read() as reader:
        former, former_dim = reader.fact("model_id"), reader.fact("dim")
    if (former, former_dim) == (model_id, str(dim)):
        return
    with catalogue.reindex() as writer:
        if (writer.fact("model_id"), writer.fact("dim")) == (model_id, str(dim)):
            return  # Another process has just done it.
        clips, classes = writer.count_clips(), writer.count_user_classes()
        if clips or classes:
            progress = writer.reindex_progress()
            done = progress.done if progress is not None and progress.model_id == model_id else 0
            raise ModelMismatch(
                f"This library's {clips} clips and {classes} own classes were embedded by the "
                f"model {former} ({former_dim} dimensions); it cannot be opened with {model_id} "
                f"({dim}). Run `avgzsl library reindex` with these settings: it embeds the {clips} "
                f"clips anew from their stored files{f' ({done} of them are done)' if done else ''}"
                ", can be stopped and run again, and changes no answer before its end. Use the "
                "former model, or another directory, to start without it."
            )
        writer.abandon()
        writer.forget_vocabularies()
        writer.set_fact("model_id", model_id)
        writer.set_fact("dim", str(dim))

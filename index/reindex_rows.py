"""The rows of a model that is not in use yet, and the transaction that puts them in use."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import NamedTuple

from sqlalchemy import ColumnElement, delete, exists, select, update

from index.catalogue_reader import CatalogueReader
from index.catalogue_records import class_record, clip_record
from index.catalogue_writer import CatalogueWriter
from index.database import lift_time_limit
from index.errors import ModelMismatch
from index.tables import (
    ClassRow,
    ClassVectorRow,
    ClipRow,
    ClipVectorRow,
    ReindexedClipRow,
    SegmentRow,
)
from index.types import ClassName, Clip, ModalityRecord, NewClass, NewClip
from index.vector_store import Vectors

LEFTOVER_ROWS = "leftover_rows"
MODEL_ROWS = (
    (SegmentRow, SegmentRow.clip_row),
    (ClipVectorRow, ClipVectorRow.clip_row),
    (ClassVectorRow, ClassVectorRow.class_row),
    (ReindexedClipRow, ReindexedClipRow.clip_row),
)
"""The tables whose rows are of a model, and whose they are besides."""


class StillMissing(Exception):
    """Another process that shares the catalogue has added something, or cancelled the change."""


class ClipTurn(NamedTuple):
    """A clip whose turn it is to be embedded."""

    row_id: int
    clip: Clip


class ClassTurn(NamedTuple):
    """A user's class whose turn it is to be embedded."""

    row_id: int
    of_class: ClassName


class ReindexReader(CatalogueReader):
    """Says what the model to come has still to do."""

    def is_target(self) -> bool:
        """Whether this is the model to come."""
        return self.fact("reindex_model_id") == self._model_id

    def missing_clips(self, *, after: int = 0, limit: int) -> list[ClipTurn]:
        """Return the first clips beyond a row that this model has not tried to embed."""
        rows = self._session.scalars(
            select(ClipRow)
            .where(ClipRow.id > after, ~self._tried())
            .order_by(ClipRow.id)
            .limit(limit)
        )
        return [ClipTurn(row.id, clip_record(row)) for row in rows]

    def missing_classes(self, *, limit: int) -> list[ClassTurn]:
        """Return the first of a user's classes that this model has not embedded."""
        rows = self._session.scalars(
            select(ClassRow)
            .where(ClassRow.vocabulary_id.is_(None), ~self._has_vector())
            .order_by(ClassRow.id)
            .limit(limit)
        )
        return [ClassTurn(row.id, class_record(row)) for row in rows]

    def _tried(self) -> ColumnElement[bool]:
        return exists().where(
            ReindexedClipRow.clip_row == ClipRow.id, ReindexedClipRow.model_id == self._model_id
        )

    def _has_vector(self) -> ColumnElement[bool]:
        return exists().where(
            ClassVectorRow.class_row == ClassRow.id, ClassVectorRow.model_id == self._model_id
        )


class ReindexWriter(CatalogueWriter, ReindexReader):
    """Writes rows of the model to come, all of one transaction."""

    # From one model to another

    def target(self, dim: int) -> None:
        """Make this model, whose vectors are (dim,), the one to come.

        What it embedded before is kept, but what it failed at is to be tried again; another
        model's half-done work becomes left over. Raises ModelMismatch where it is in use.
        """
        if self.fact("model_id") == self._model_id:
            raise ModelMismatch(f"The library is of the model {self._model_id} already.")
        known = (self.fact("reindex_model_id"), self.fact("reindex_dim"))
        if known == (self._model_id, str(dim)):
            self._forget_failures()
            return
        self.abandon()
        self.set_fact("reindex_model_id", self._model_id)
        self.set_fact("reindex_dim", str(dim))

    def abandon(self) -> None:
        """Let no model be to come; whatever it embedded is left over."""
        if self.fact("reindex_model_id") is not None:
            self.remove_fact("reindex_model_id")
            self.remove_fact("reindex_dim")
            self._note_leftovers()

    def adopt(self, dim: int, vocabulary: Sequence[NewClass]) -> None:
        """Put this model in the place of the one in use.

        The vocabulary takes the place of all that was seeded. A user's classes stay, `seen` if the
        vocabulary has their names. Raises StillMissing where something lacks this model's vectors.
        """
        if not self.is_target() or self.missing_clips(limit=1) or self.missing_classes(limit=1):
            raise StillMissing
        # The row of each clip is written anew.
        lift_time_limit(self._session.connection())
        self.everything_changed()
        self.forget_vocabularies()
        self._session.execute(update(ClassRow).values(seen=False))
        self._session.expire_all()
        self.seed_classes(self._model_id, vocabulary)
        told = {
            name: select(getattr(ReindexedClipRow, name))
            .where(
                ReindexedClipRow.clip_row == ClipRow.id,
                ReindexedClipRow.model_id == self._model_id,
            )
            .scalar_subquery()
            for name in ("duration_seconds", "modalities", "warnings")
        }
        self._session.execute(
            update(ClipRow)
            .values(model_id=self._model_id, **told)
            .execution_options(synchronize_session=False)
        )
        self._session.execute(delete(ReindexedClipRow))
        self.set_fact("model_id", self._model_id)
        self.set_fact("dim", str(dim))
        self.remove_fact("reindex_model_id")
        self.remove_fact("reindex_dim")
        self._note_leftovers()

    def delete_leftover_rows(self, kind: int, *, after: int, limit: int) -> int | None:
        """Delete rows of models neither in use nor to come, those of some clips or classes.

        `kind` is a place in `MODEL_ROWS`; the clips or classes are the `limit` first ones beyond
        the row `after` that have any. Returns the last one's row, None where there was none.
        """
        table, owner = MODEL_ROWS[kind]
        kept = [self.fact("model_id"), self.fact("reindex_model_id")]
        left_over = table.model_id.not_in([model_id for model_id in kept if model_id])
        owners = self._session.scalars(
            select(owner).where(left_over, owner > after).distinct().order_by(owner).limit(limit)
        ).all()
        if not owners:
            return None
        self._session.execute(
            delete(table)
            .where(left_over, owner.in_(owners))
            .execution_options(synchronize_session=False)
        )
        return owners[-1]

    def end_leftovers(self, since: str) -> None:
        """Say that no row is left over, unless some became so later than `since`."""
        if self.fact(LEFTOVER_ROWS) == since:
            self.remove_fact(LEFTOVER_ROWS)

    def _note_leftovers(self) -> None:
        self.set_fact(LEFTOVER_ROWS, str(self.generation()))

    # Clips

    def store_reindexed(self, row_id: int, new: NewClip) -> None:
        """Insert what this model makes of a clip, unless that is known or the clip was removed."""
        if not self._is_missing(row_id):
            return
        self._session.add_all([self._reindexed(row_id, new, None), self._pair(row_id, new)])
        for segment in new.segments:
            row = self._segment_row(segment)
            row.clip_row = row_id
            self._session.add(row)
        self._session.flush()

    def store_failure(self, turn: ClipTurn, reason: str) -> None:
        """Insert that this model can make nothing of a clip, as `store_reindexed` does."""
        if not self._is_missing(turn.row_id):
            return
        nothing = NewClip(
            filename=turn.clip.filename,
            content_type=turn.clip.content_type,
            duration_seconds=turn.clip.duration_seconds,
            segments=(),
            audio=None,
            video=None,
            modalities={name: ModalityRecord(False, reason) for name in ("audio", "video")},
            warnings=(f"It is left out of searches: {reason}",),
        )
        self._session.add_all(
            [self._reindexed(turn.row_id, nothing, reason), self._pair(turn.row_id, nothing)]
        )
        self._session.flush()

    # Classes

    def store_class_vectors(self, turns: Sequence[ClassTurn], vectors: Vectors) -> None:
        """Set the classes' vectors (N, D), save where words have changed or a class was removed."""
        if not self.is_target():
            return
        for turn, vector in zip(turns, vectors, strict=True):
            row = self._session.get(ClassRow, turn.row_id)
            if row is not None and _words(class_record(row)) == _words(turn.of_class):
                self.set_class_vector(row, vector)

    def _forget_failures(self) -> None:
        failed = select(ReindexedClipRow.clip_row).where(
            ReindexedClipRow.model_id == self._model_id, ReindexedClipRow.failure.is_not(None)
        )
        for table in (ClipVectorRow, ReindexedClipRow):
            self._session.execute(
                delete(table)
                .where(table.model_id == self._model_id, table.clip_row.in_(failed))
                .execution_options(synchronize_session=False)
            )

    def _is_missing(self, row_id: int) -> bool:
        found = select(ClipRow.id).where(ClipRow.id == row_id, ~self._tried())
        return self.is_target() and self._session.scalar(found) is not None

    def _reindexed(self, row_id: int, new: NewClip, failure: str | None) -> ReindexedClipRow:
        return ReindexedClipRow(
            clip_row=row_id,
            model_id=self._model_id,
            duration_seconds=new.duration_seconds,
            modalities={name: asdict(record) for name, record in new.modalities.items()},
            warnings=list(new.warnings),
            failure=failure,
        )

    def _pair(self, row_id: int, new: NewClip) -> ClipVectorRow:
        return ClipVectorRow(
            clip_row=row_id, model_id=self._model_id, audio=new.audio, video=new.video
        )


def _words(of_class: ClassName) -> tuple[str, tuple[str, ...], str]:
    return of_class.name, of_class.synonyms, of_class.description

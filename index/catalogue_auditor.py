"""Questions to the catalogue about rows that should not be there, or lack what they should have."""

from collections.abc import Iterator
from typing import NamedTuple

from sqlalchemy import ColumnElement, LargeBinary, exists, func, or_, select, type_coerce
from sqlalchemy.orm import InstrumentedAttribute

from index.catalogue_reader import BATCH_ROWS, CatalogueReader
from index.tables import (
    ClassRow,
    ClassVectorRow,
    ClipRow,
    ClipTagRow,
    ClipVectorRow,
    ReindexedClipRow,
    SegmentRow,
    VocabularyRow,
)
from index.types import Vector


class StoredVector(NamedTuple):
    """A vector as its bytes, which may be no vector, and what it belongs to."""

    subject: str
    content: bytes


class ClipFiles(NamedTuple):
    """What a clip is made of."""

    clip_id: str
    content_hash: str
    size_bytes: int
    thumbnail_hash: str | None


PARENTS = (
    (ClassVectorRow, ClassVectorRow.class_row, ClassRow),
    (ClipTagRow, ClipTagRow.clip_row, ClipRow),
    (ClipVectorRow, ClipVectorRow.clip_row, ClipRow),
    (SegmentRow, SegmentRow.clip_row, ClipRow),
    (ReindexedClipRow, ReindexedClipRow.clip_row, ClipRow),
)
"""Tables whose rows belong to a row of another, and the column that says to which."""


def has_parent(
    column: InstrumentedAttribute[int], parent: type[ClassRow | ClipRow]
) -> ColumnElement[bool]:
    """Whether the row exists that a column names."""
    return exists().where(parent.id == column)


class CatalogueAuditor(CatalogueReader):
    """Reads what `index.verification` judges, within one transaction."""

    def clip_files(self) -> Iterator[ClipFiles]:
        """Yield what each clip is made of, in order of arrival."""
        rows = self._session.execute(
            select(
                ClipRow.clip_id, ClipRow.content_hash, ClipRow.size_bytes, ClipRow.thumbnail_hash
            )
            .order_by(ClipRow.id)
            .execution_options(yield_per=BATCH_ROWS)
        )
        for row in rows:
            yield ClipFiles(*row)

    def count_vectors(self) -> int:
        """How many rows `vectors` goes through."""
        return (
            self._count(ClassVectorRow.class_row)
            + self._count(ClipVectorRow.clip_row)
            + self._count(SegmentRow.id)
        )

    def vectors(self) -> Iterator[list[StoredVector]]:
        """Yield the vectors of each row that has some, by the model in use."""
        yield from self._vectors("class", ClassRow.class_id, ClassVectorRow, ClassVectorRow.vector)
        yield from self._vectors(
            "clip", ClipRow.clip_id, ClipVectorRow, ClipVectorRow.audio, ClipVectorRow.video
        )
        yield from self._vectors(
            "a window of clip", ClipRow.clip_id, SegmentRow, SegmentRow.audio, SegmentRow.video
        )

    def clips_without_windows(self) -> list[str]:
        """Return the ids of clips that no search finds, though they have sound or pictures.

        Those that have neither are what a change of model could make nothing of.
        """
        usable = or_(
            *(ClipRow.modalities[name, "used"].as_boolean() for name in ("audio", "video"))
        )
        return self._without(ClipRow.clip_id, SegmentRow.clip_row == ClipRow.id, SegmentRow, usable)

    def clips_without_vectors(self) -> list[str]:
        """Return the ids of clips that have no clip-level vectors."""
        return self._without(ClipRow.clip_id, ClipVectorRow.clip_row == ClipRow.id, ClipVectorRow)

    def classes_without_vector(self) -> list[str]:
        """Return the ids of classes that no answer can name."""
        return self._without(
            ClassRow.class_id, ClassVectorRow.class_row == ClassRow.id, ClassVectorRow
        )

    def classes_of_no_vocabulary(self) -> list[str]:
        """Return the ids of classes whose vocabulary does not exist."""
        known = exists().where(VocabularyRow.vocabulary_id == ClassRow.vocabulary_id)
        return list(
            self._session.scalars(
                select(ClassRow.class_id).where(ClassRow.vocabulary_id.is_not(None), ~known)
            )
        )

    def rows_of_other_models(self) -> dict[str, int]:
        """Return how many rows of each table are by a model neither in use nor to come.

        What a change of model is known to have left over is not counted: it goes by and by.
        """
        if self.fact("leftover_rows") is not None:
            return {}
        known = [self._model_id, self.fact("reindex_model_id") or self._model_id]
        tables = (ClipRow, ClassVectorRow, ClipVectorRow, SegmentRow)
        return self._nonzero(
            {table.__tablename__: (table, table.model_id.not_in(known)) for table in tables}
        )

    def orphans(self) -> dict[str, int]:
        """Return how many rows of each table belong to nothing, where there are any."""
        return self._nonzero(
            {
                table.__tablename__: (table, ~has_parent(column, parent))
                for table, column, parent in PARENTS
            }
        )

    def _vectors(
        self,
        kind: str,
        subject: InstrumentedAttribute[str],
        table: type[ClassVectorRow | ClipVectorRow | SegmentRow],
        *columns: InstrumentedAttribute[Vector] | InstrumentedAttribute[Vector | None],
    ) -> Iterator[list[StoredVector]]:
        # As bytes: what is no vector cannot be read as one.
        contents = [type_coerce(column, LargeBinary) for column in columns]
        rows = self._session.execute(
            select(subject, *contents)
            .join(subject.class_)
            .select_from(table)
            .where(table.model_id == self._model_id)
            .execution_options(yield_per=BATCH_ROWS)
        )
        for name, *values in rows:
            yield [StoredVector(f"{kind} {name}", value) for value in values if value is not None]

    def _without(
        self,
        identity: InstrumentedAttribute[str],
        joined: ColumnElement[bool],
        table: type[ClassVectorRow | ClipVectorRow | SegmentRow],
        *conditions: ColumnElement[bool],
    ) -> list[str]:
        found = exists().where(joined, table.model_id == self._model_id)
        return list(self._session.scalars(select(identity).where(~found, *conditions)))

    def _nonzero(self, wanted: dict[str, tuple[type, ColumnElement[bool]]]) -> dict[str, int]:
        counts = {
            name: self._session.scalars(
                select(func.count()).select_from(table).where(condition)
            ).one()
            for name, (table, condition) in wanted.items()
        }
        return {name: count for name, count in counts.items() if count}

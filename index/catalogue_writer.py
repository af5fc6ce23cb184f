"""Changes to the catalogue, all of one transaction."""

import secrets
import uuid
from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import and_, delete, insert, or_, select
from sqlalchemy.orm import Session

from index.catalogue_auditor import PARENTS, has_parent
from index.catalogue_reader import CLASS, SEGMENT, WRITE, CatalogueReader
from index.catalogue_records import StoredClass, StoredClip, clip_record
from index.errors import ClassExists
from index.job_rows import JobRows
from index.names import name_key
from index.tables import (
    ChangeRow,
    ClassRow,
    ClassVectorRow,
    ClipRow,
    ClipTagRow,
    ClipVectorRow,
    MetaRow,
    SegmentRow,
    VocabularyRow,
)
from index.types import Clip, NewClass, NewClip, Segment, Vector

LOGGED_GENERATIONS = 100_000
"""Writes that the log reaches back at least; who is further behind starts from the rows.

Vectors saved before a crash are brought up to date by it, so it is long: a row takes some 30 bytes,
the vectors that it stands for some thousands.
"""

CUTS = 100
"""Of so many parts of the log the oldest is cut at a time, which one write waits for."""


class CatalogueWriter(CatalogueReader):
    """Writes within one transaction, which counts as one generation.

    What others must know to keep vectors in step with the rows goes into the log of changes.
    """

    def __init__(self, session: Session, model_id: str) -> None:
        super().__init__(session, model_id)
        self._generation = self.generation() + 1
        self.set_fact("generation", str(self._generation))
        self._log(WRITE, [secrets.randbits(63)])
        if self._generation % max(1, LOGGED_GENERATIONS // CUTS) == 0:
            self._cut_log(self._generation - LOGGED_GENERATIONS)

    @property
    def jobs(self) -> JobRows:
        """The jobs, of which what ends with this transaction is told in it."""
        return JobRows(self._session)

    # Facts about the whole

    def set_fact(self, key: str, value: str) -> None:
        """Keep a value under a key."""
        self._session.merge(MetaRow(key=key, value=value))
        self._session.flush()

    def remove_fact(self, key: str) -> None:
        """Keep nothing under a key."""
        self._session.execute(delete(MetaRow).where(MetaRow.key == key))

    # What changed

    def class_changed(self, row: ClassRow) -> None:
        """Log that a class has another name or vector, or is enabled or not."""
        self._session.flush()
        self._log(CLASS, [row.id])

    def everything_changed(self) -> None:
        """Empty the log: too much is written for others to take over row by row."""
        self._cut_log(self._generation)

    def _log(self, kind: str, row_ids: Iterable[int]) -> None:
        rows = [
            {"generation": self._generation, "kind": kind, "row_id": row_id} for row_id in row_ids
        ]
        if rows:
            self._session.execute(insert(ChangeRow), rows)

    def _cut_log(self, generation: int) -> None:
        if generation <= int(self.fact("changes_after") or 0):
            return
        # The token of that write stays: what is of its moment can be told to be.
        changes = and_(ChangeRow.generation == generation, ChangeRow.kind != WRITE)
        self._session.execute(
            delete(ChangeRow).where(or_(ChangeRow.generation < generation, changes))
        )
        self.set_fact("changes_after", str(generation))

    # Classes

    def forget_vocabularies(self) -> None:
        """Delete all that was seeded and that it was seeded."""
        self.everything_changed()
        self._session.execute(delete(ClassRow).where(ClassRow.vocabulary_id.is_not(None)))
        self._session.execute(delete(VocabularyRow))

    def seed_classes(self, vocabulary_id: str, classes: Sequence[NewClass]) -> int:
        """Insert the classes whose names are free; the others become `seen` if these are.

        Returns how many are new.
        """
        self._session.add(VocabularyRow(vocabulary_id=vocabulary_id, seeded_at=datetime.now(UTC)))
        self._session.flush()
        rows = {row.key: row for row in self._session.scalars(select(ClassRow))}
        added: dict[str, NewClass] = {}
        found = []
        for new in classes:
            row = rows.get(name_key(new.name))
            if row is None:
                first = added.setdefault(name_key(new.name), new)
                if new.seen and not first.seen:
                    added[name_key(new.name)] = replace(first, seen=True)
            elif new.seen and not row.seen:
                row.seen = True
                found.append(row)
        self._session.flush()
        self._log(
            CLASS,
            [*self._insert_classes(added.values(), vocabulary_id), *(row.id for row in found)],
        )
        return len(added)

    def add_class(self, new: NewClass) -> ClassRow:
        """Insert a user's class, whose text is already checked. Raises ClassExists."""
        self._refuse_taken(new.name, unless=None)
        row = self._class_row(_stored(new, None))
        self._session.add(row)
        self.class_changed(row)
        return row

    def rename_class(self, row: ClassRow, name: str, synonyms: Sequence[str]) -> None:
        """Set a class's name and synonyms. Raises ClassExists where another has the name."""
        self._refuse_taken(name, unless=row)
        for column, value in _words(name, synonyms).items():
            setattr(row, column, value)

    def set_class_vector(self, row: ClassRow, vector: Vector) -> None:
        """Replace a class's vector (D,) by the model in use."""
        self._session.merge(
            ClassVectorRow(class_row=row.id, model_id=self._model_id, vector=vector)
        )

    def forget_other_class_vectors(self, row: ClassRow) -> None:
        """Delete a class's vectors by other models, as its words have changed."""
        self._session.execute(
            delete(ClassVectorRow).where(
                ClassVectorRow.class_row == row.id, ClassVectorRow.model_id != self._model_id
            )
        )

    def remove_class(self, row: ClassRow) -> None:
        """Delete a class and its vectors."""
        self._log(CLASS, [row.id])
        self._session.delete(row)

    # Clips

    def add_clip(
        self, new: NewClip, *, content_hash: str, size_bytes: int, thumbnail_hash: str | None
    ) -> Clip:
        """Insert a clip whose text and vectors are already checked."""
        row = self._clip_row(
            StoredClip(
                uuid.uuid4().hex, datetime.now(UTC), content_hash, size_bytes, thumbnail_hash, new
            )
        )
        self._session.add(row)
        self._session.flush()
        self._log(SEGMENT, [segment.id for segment in row.segments])
        self._session.refresh(row)
        return clip_record(row)

    def set_tags(self, row: ClipRow, tags: Sequence[str]) -> None:
        """Replace a clip's tags."""
        row.tags.clear()
        # The old rows first: a tag that stays would meet itself.
        self._session.flush()
        row.tags.extend(_tag_rows(tags))
        self._session.flush()

    def remove_clip(self, row: ClipRow) -> None:
        """Delete a clip with its segments, vectors and tags."""
        self._log(SEGMENT, self.segment_rows([row.id]))
        self._session.delete(row)

    # A restored library

    def restore_vocabularies(self, vocabularies: Iterable[tuple[str, datetime]]) -> None:
        """Insert the vocabularies that were seeded, and when."""
        self.everything_changed()
        for vocabulary_id, moment in vocabularies:
            self._session.add(VocabularyRow(vocabulary_id=vocabulary_id, seeded_at=moment))
        self._session.flush()

    def restore_classes(self, classes: Iterable[StoredClass]) -> None:
        """Insert classes as they were; their text and vectors are already checked."""
        self._restore(self._class_row(stored) for stored in classes)

    def restore_clips(self, clips: Iterable[StoredClip]) -> None:
        """Insert clips as they were; their text and vectors are already checked."""
        self._restore(self._clip_row(stored) for stored in clips)

    def _restore(self, rows: Iterable[ClassRow | ClipRow]) -> None:
        self.everything_changed()
        self._session.add_all(rows)
        self._session.flush()
        # They are many, and nobody asks for them again.
        self._session.expunge_all()

    # Repair

    def delete_orphans(self) -> None:
        """Delete the rows that belong to a class or clip that does not exist."""
        self.everything_changed()
        for table, column, parent in PARENTS:
            self._session.execute(
                delete(table)
                .where(~has_parent(column, parent))
                .execution_options(synchronize_session=False)
            )

    def forget_thumbnail(self, row: ClipRow) -> None:
        """Say that a clip has no thumbnail."""
        row.thumbnail_hash = None

    def _class_row(self, stored: StoredClass) -> ClassRow:
        vector = ClassVectorRow(model_id=self._model_id, vector=stored.new.vector)
        return ClassRow(**_class_columns(stored), vectors=[vector])

    def _insert_classes(self, classes: Collection[NewClass], vocabulary_id: str) -> list[int]:
        """Insert a vocabulary's classes at once, not object by object; return the rows' ids."""
        columns = [_class_columns(_stored(new, vocabulary_id)) for new in classes]
        if not columns:
            return []
        ids = self._session.scalars(
            insert(ClassRow).returning(ClassRow.id, sort_by_parameter_order=True), columns
        ).all()
        vectors = [
            {"class_row": row_id, "model_id": self._model_id, "vector": new.vector}
            for row_id, new in zip(ids, classes, strict=True)
        ]
        self._session.execute(insert(ClassVectorRow), vectors)
        return list(ids)

    def _clip_row(self, stored: StoredClip) -> ClipRow:
        new = stored.new
        return ClipRow(
            clip_id=stored.clip_id,
            filename=new.filename,
            content_type=new.content_type,
            content_hash=stored.content_hash,
            thumbnail_hash=stored.thumbnail_hash,
            size_bytes=stored.size_bytes,
            duration_seconds=new.duration_seconds,
            modalities={name: asdict(record) for name, record in new.modalities.items()},
            warnings=list(new.warnings),
            created_at=stored.created_at,
            model_id=self._model_id,
            source=new.source,
            tags=_tag_rows(new.tags),
            segments=[self._segment_row(segment) for segment in new.segments],
            vectors=[ClipVectorRow(model_id=self._model_id, audio=new.audio, video=new.video)],
        )

    def _refuse_taken(self, name: str, *, unless: ClassRow | None) -> None:
        other = self._session.scalar(select(ClassRow).where(ClassRow.key == name_key(name)))
        if other is not None and other is not unless:
            raise ClassExists(
                f"The class name {name!r} is taken by {other.name!r} (id {other.class_id}); "
                "change that class or choose another name."
            )

    def _segment_row(self, segment: Segment) -> SegmentRow:
        return SegmentRow(
            model_id=self._model_id,
            start_seconds=segment.start_seconds,
            end_seconds=segment.end_seconds,
            audio=segment.audio,
            video=segment.video,
        )


def _stored(new: NewClass, vocabulary_id: str | None) -> StoredClass:
    return StoredClass(uuid.uuid4().hex, datetime.now(UTC), True, vocabulary_id, new)


def _class_columns(stored: StoredClass) -> dict[str, Any]:
    new = stored.new
    return {
        "class_id": stored.class_id,
        "description": new.description,
        "seen": new.seen,
        "enabled": stored.enabled,
        "vocabulary_id": stored.vocabulary_id,
        "created_at": stored.created_at,
        **_words(new.name, new.synonyms),
    }


def _words(name: str, synonyms: Sequence[str]) -> dict[str, Any]:
    return {
        "name": name,
        "key": name_key(name),
        "synonyms": list(synonyms),
        "search_text": "\n".join(name_key(text) for text in (name, *synonyms)),
    }


def _tag_rows(tags: Sequence[str]) -> list[ClipTagRow]:
    return [ClipTagRow(tag=tag, position=position) for position, tag in enumerate(tags)]

"""Questions to the catalogue, all answered from the moment of one transaction."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from functools import cache
from itertools import groupby
from operator import itemgetter
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import (
    ColumnElement,
    Integer,
    Select,
    TextualSelect,
    column,
    func,
    select,
    text,
)
from sqlalchemy.orm import InstrumentedAttribute, Session, selectinload

from index.catalogue_records import (
    Changes,
    Label,
    Moment,
    StoredClass,
    StoredClip,
    VectorPair,
    WindowRows,
    class_record,
    clip_of_columns,
    stored_clip,
)
from index.errors import ClassNotFound, ClipNotFound, ModelMismatch
from index.job_rows import NEEDING, needs_upload
from index.names import name_key
from index.tables import (
    ChangeRow,
    ClassRow,
    ClassVectorRow,
    ClipRow,
    ClipTagRow,
    ClipVectorRow,
    JobItemRow,
    MetaRow,
    ReindexedClipRow,
    SegmentRow,
    VocabularyRow,
)
from index.types import (
    ClassName,
    Clip,
    Modality,
    NewClass,
    Page,
    ReindexFailure,
    ReindexProgress,
    Vector,
)

BATCH_ROWS = 4096
BATCH_CLIPS = 64
"""Whole clips, with all their windows, in memory at a time."""
IN_LIMIT = 5000
"""Values in one `IN (...)`; SQLite takes at most 32766 variables."""
GREATEST_OFFSET = 2**63 - 1

CLASS, SEGMENT, WRITE = "class", "segment", "write"
"""What a row of the log of changes is of; of each write itself there is one, too."""
SHOWN_FAILURES = 100

CLIPS_AT_ONCE = (16, 64, 256, 1024, 4096)
"""Clips that one statement reads. Of few sizes: a search would take longer to make it anew."""

CLIP_COLUMNS = tuple(
    ClipRow.__table__.c[name]
    for name in (
        "id",
        "clip_id",
        "filename",
        "content_type",
        "content_hash",
        "thumbnail_hash",
        "size_bytes",
        "duration_seconds",
        "modalities",
        "warnings",
        "created_at",
        "model_id",
        "source",
    )
)

WINDOWS = select(
    SegmentRow.id, SegmentRow.clip_row, SegmentRow.start_seconds, SegmentRow.end_seconds
)
WINDOW_DTYPE = np.dtype(
    [("ids", np.int64), ("clip_rows", np.int64), ("starts", np.float64), ("ends", np.float64)]
)

T = TypeVar("T")


class CatalogueReader:
    """Reads within one transaction. Row ids are the database's, which users never see."""

    def __init__(self, session: Session, model_id: str) -> None:
        self._session = session
        self._model_id = model_id

    # Facts about the whole

    def fact(self, key: str) -> str | None:
        """Return a value kept under a key, None where there is none."""
        return self._session.scalar(select(MetaRow.value).where(MetaRow.key == key))

    def generation(self) -> int:
        """How many write transactions there have been."""
        return int(self.fact("generation") or 0)

    def moment(self) -> Moment:
        """Which state this is."""
        generation = self.generation()
        return Moment(generation, self._token(generation))

    def changes_after(self, moment: Moment) -> Changes | None:
        """Return what changed since a moment, None where the log does not say.

        It was cut, or the catalogue is another by now: a backup that was restored.
        """
        if moment.token is None or moment.token != self._token(moment.generation):
            return None
        changes = Changes([], [])
        rows = self._session.execute(
            select(ChangeRow.kind, ChangeRow.row_id)
            .where(ChangeRow.generation > moment.generation, ChangeRow.kind != WRITE)
            .distinct()
        )
        for kind, row_id in rows:
            (changes.classes if kind == CLASS else changes.segments).append(row_id)
        return changes

    def _token(self, generation: int) -> int | None:
        return self._session.scalar(
            select(ChangeRow.row_id).where(
                ChangeRow.generation == generation, ChangeRow.kind == WRITE
            )
        )

    def check_model(self) -> None:
        """Raise ModelMismatch where another process has changed the model."""
        in_use = self.fact("model_id")
        if in_use != self._model_id:
            raise ModelMismatch(
                f"The library is of the model {in_use} by now, and this process serves "
                f"{self._model_id}; start it with the other model."
            )

    def is_seeded(self, vocabulary_id: str) -> bool:
        """Whether a vocabulary was seeded, whatever became of its classes."""
        return self._session.get(VocabularyRow, vocabulary_id) is not None

    def vocabularies(self) -> list[tuple[str, datetime]]:
        """Return the vocabularies that were seeded, and when."""
        rows = self._session.execute(select(VocabularyRow.vocabulary_id, VocabularyRow.seeded_at))
        return [(vocabulary_id, moment) for vocabulary_id, moment in rows]

    def count_clips(self) -> int:
        """How many clips there are."""
        return self._count(ClipRow.id)

    def count_segments(self) -> int:
        """How many segments there are, by the model in use."""
        return self._count(SegmentRow.id, SegmentRow.model_id == self._model_id)

    def count_classes(self) -> int:
        """How many classes there are, enabled or not."""
        return self._count(ClassRow.id)

    def count_user_classes(self) -> int:
        """How many classes a user added or changed."""
        return self._count(ClassRow.id, ClassRow.vocabulary_id.is_(None))

    # The change to another model

    def reindex_progress(self) -> ReindexProgress | None:
        """How far the change to another model is, None where none was begun."""
        model_id = self.fact("reindex_model_id")
        if model_id is None:
            return None
        tried = self._count(ReindexedClipRow.clip_row, ReindexedClipRow.model_id == model_id)
        failed = self._count(
            ReindexedClipRow.clip_row,
            ReindexedClipRow.model_id == model_id,
            ReindexedClipRow.failure.is_not(None),
        )
        return ReindexProgress(
            model_id=model_id,
            clips=self.count_clips(),
            done=tried - failed,
            failed=failed,
            failures=tuple(self.reindex_failures(model_id, limit=SHOWN_FAILURES)),
        )

    def reindex_failures(
        self, model_id: str, *, limit: int = GREATEST_OFFSET
    ) -> list[ReindexFailure]:
        """Return the clips that a model, not in use yet, could make nothing of."""
        rows = self._session.execute(
            select(ClipRow.clip_id, ClipRow.filename, ReindexedClipRow.failure)
            .join(ReindexedClipRow, ReindexedClipRow.clip_row == ClipRow.id)
            .where(ReindexedClipRow.model_id == model_id, ReindexedClipRow.failure.is_not(None))
            .order_by(ClipRow.id)
            .limit(limit)
        )
        return [ReindexFailure(clip_id, name, failure or "") for clip_id, name, failure in rows]

    # Classes

    def class_row(self, class_id: str) -> ClassRow:
        """Return a class. Raises ClassNotFound."""
        row = self._session.scalar(select(ClassRow).where(ClassRow.class_id == class_id))
        if row is None:
            raise ClassNotFound(
                f"No class has the id {class_id!r}; it may have been deleted. List the classes."
            )
        return row

    def class_page(
        self, *, offset: int, limit: int, query: str | None, seen: bool | None
    ) -> Page[ClassName]:
        """Return classes in order of arrival, whose name or a synonym contains `query`."""
        conditions: list[ColumnElement[bool]] = []
        if query is not None:
            conditions.append(ClassRow.search_text.contains(name_key(query), autoescape=True))
        if seen is not None:
            conditions.append(ClassRow.seen.is_(seen))
        total = self._count(ClassRow.id, *conditions)
        rows = self._session.scalars(
            select(ClassRow)
            .where(*conditions)
            .order_by(ClassRow.id)
            .offset(min(offset, GREATEST_OFFSET))
            .limit(min(limit, GREATEST_OFFSET))
        )
        return Page(tuple(class_record(row) for row in rows), total, offset)

    def labels(self) -> list[Label]:
        """Return the enabled classes in order of arrival."""
        rows = self._session.execute(
            select(ClassRow.id, ClassRow.name, ClassRow.seen)
            .where(ClassRow.enabled)
            .order_by(ClassRow.id)
        )
        return [Label(*row) for row in rows]

    def label_vectors(self) -> Iterator[list[tuple[int, Vector]]]:
        """Yield the enabled classes' row ids and vectors (D,), some thousands at a time."""
        rows = self._session.execute(
            select(ClassVectorRow.class_row, ClassVectorRow.vector)
            .join(ClassRow, ClassRow.id == ClassVectorRow.class_row)
            .where(ClassRow.enabled, ClassVectorRow.model_id == self._model_id)
            .execution_options(yield_per=BATCH_ROWS)
        )
        for part in rows.partitions():
            yield [(row_id, vector) for row_id, vector in part]

    def vectors_of_labels(self, row_ids: Sequence[int]) -> dict[int, Vector]:
        """Return the vectors (D,) of those of these classes that exist and are enabled."""
        query = (
            select(ClassVectorRow.class_row, ClassVectorRow.vector)
            .join(ClassRow, ClassRow.id == ClassVectorRow.class_row)
            .where(ClassRow.enabled, ClassVectorRow.model_id == self._model_id)
        )
        found: dict[int, Vector] = {}
        for part in _parts(row_ids):
            rows = self._session.execute(query.where(ClassVectorRow.class_row.in_(part)))
            found.update((row_id, vector) for row_id, vector in rows)
        return found

    def stored_classes(self) -> Iterator[StoredClass]:
        """Yield all classes in order of arrival, in memory a few at a time."""
        rows = self._session.execute(
            select(ClassRow, ClassVectorRow.vector)
            .join(ClassVectorRow, ClassRow.id == ClassVectorRow.class_row)
            .where(ClassVectorRow.model_id == self._model_id)
            .order_by(ClassRow.id)
            .execution_options(yield_per=BATCH_ROWS)
        )
        for row, vector in rows:
            new = NewClass(row.name, vector, tuple(row.synonyms), row.description, row.seen)
            yield StoredClass(row.class_id, row.created_at, row.enabled, row.vocabulary_id, new)

    # Clips

    def stored_clips(self) -> Iterator[StoredClip]:
        """Yield all clips in order of arrival, in memory a few at a time; without thumbnails."""
        rows = self._session.scalars(
            select(ClipRow)
            .options(
                selectinload(ClipRow.segments.and_(SegmentRow.model_id == self._model_id)),
                selectinload(ClipRow.vectors.and_(ClipVectorRow.model_id == self._model_id)),
            )
            .order_by(ClipRow.id)
            .execution_options(yield_per=BATCH_CLIPS)
        )
        for row in rows:
            yield stored_clip(row)

    def clip_row(self, clip_id: str) -> ClipRow:
        """Return a clip. Raises ClipNotFound."""
        row = self._session.scalar(select(ClipRow).where(ClipRow.clip_id == clip_id))
        if row is None:
            raise ClipNotFound(
                f"No clip has the id {clip_id!r}; it may have been deleted. List the clips."
            )
        return row

    def clip_of(self, content_hash: str) -> ClipRow | None:
        """Return the first clip whose media have this SHA-256, None where there is none."""
        return self._session.scalar(
            select(ClipRow)
            .where(ClipRow.content_hash == content_hash)
            .order_by(ClipRow.id)
            .limit(1)
        )

    def clips(self, row_ids: Sequence[int]) -> dict[int, Clip]:
        """Return the clips of these rows, as far as they exist."""
        found: dict[int, Clip] = {}
        # Beside the session, which makes more of a statement than a search has time for.
        connection = self._session.connection()
        for start in range(0, len(row_ids), CLIPS_AT_ONCE[-1]):
            part = row_ids[start : start + CLIPS_AT_ONCE[-1]]
            size = next(size for size in CLIPS_AT_ONCE if size >= len(part))
            padded = [*part, *[part[-1]] * (size - len(part))]
            wanted = {f"row_{place}": row_id for place, row_id in enumerate(padded)}
            rows = connection.execute(_clips_of(size), wanted).all()
            for row_id, of_clip in groupby(rows, key=itemgetter(0)):
                first, *others = of_clip
                tags = [] if first.tag is None else [first.tag, *(row.tag for row in others)]
                found[row_id] = clip_of_columns(first, tags)
        return found

    def clip_rows(
        self,
        *,
        tags: Sequence[str] = (),
        modality: Modality | None = None,
        created_after: datetime | None = None,
        created_before: datetime | None = None,
        clip_ids: Iterable[str] | None = None,
        content_hash: str | None = None,
    ) -> list[int]:
        """Return the rows of the clips that meet every condition, newest first."""
        query = select(ClipRow.id)
        for tag in tags:
            # By the index of tags, not clip by clip.
            query = query.where(ClipRow.id.in_(select(ClipTagRow.clip_row).filter_by(tag=tag)))
        if modality is not None:
            query = query.where(ClipRow.modalities[modality, "used"].as_boolean())
        if created_after is not None:
            query = query.where(ClipRow.created_at > created_after)
        if created_before is not None:
            query = query.where(ClipRow.created_at < created_before)
        if content_hash is not None:
            query = query.where(ClipRow.content_hash == content_hash)
        if clip_ids is None:
            # Asked for in order, SQLite would read all clips in order rather than by an index.
            rows = self._session.scalars(query.execution_options(yield_per=BATCH_ROWS))
            return sorted(rows, reverse=True)
        found: list[int] = []
        for part in _parts(list(set(clip_ids))):
            found += self._session.scalars(query.where(ClipRow.clip_id.in_(part)))
        return sorted(found, reverse=True)

    def newest_clips(self, offset: int, limit: int) -> list[int]:
        """Return the rows of all clips, newest first: `limit` of them after the first `offset`."""
        query = (
            select(ClipRow.id)
            .order_by(ClipRow.id.desc())
            .offset(min(offset, GREATEST_OFFSET))
            .limit(min(limit, GREATEST_OFFSET))
        )
        return list(self._session.scalars(query))

    def clip_vectors(self, row_ids: Sequence[int]) -> Iterator[list[VectorPair]]:
        """Yield the clip-level vectors of these rows, some thousands at a time."""
        query = select(ClipVectorRow.clip_row, ClipVectorRow.audio, ClipVectorRow.video)
        for part in _parts(row_ids):
            rows = self._session.execute(
                query.where(
                    ClipVectorRow.clip_row.in_(part), ClipVectorRow.model_id == self._model_id
                )
            )
            yield [VectorPair(*row) for row in rows]

    def needs_media(self, content_hash: str) -> bool:
        """Whether a clip is made of this file, or a job has still to do with it."""
        waiting = select(JobItemRow.id).where(needs_upload(content_hash)).limit(1)
        return (
            self._any(ClipRow.content_hash == content_hash)
            or self._session.scalar(waiting) is not None
        )

    def needs_thumbnail(self, content_hash: str) -> bool:
        """Whether a clip's thumbnail is this file."""
        return self._any(ClipRow.thumbnail_hash == content_hash)

    def needed_files(self, prefix: str = "") -> tuple[set[str], set[str]]:
        """Return the hashes of all media and of all thumbnails that begin with some digits.

        Media are of clips or of waiting jobs.
        """
        media, thumbnails = self.files_of_clips(prefix)
        return media | self.waiting_uploads(prefix), thumbnails

    def files_of_clips(self, prefix: str = "") -> tuple[set[str], set[str]]:
        """Return the hashes of all clips' media and thumbnails that begin with some digits."""
        # Each by its own index.
        return (
            self._hashes(ClipRow.content_hash, prefix),
            self._hashes(ClipRow.thumbnail_hash, prefix),
        )

    def waiting_uploads(self, prefix: str = "") -> set[str]:
        """Return the hashes of media that a job has still to do with, as `needed_files` does."""
        return self._hashes(JobItemRow.content_hash, prefix, JobItemRow.state.in_(NEEDING))

    def _hashes(
        self, column: InstrumentedAttribute[Any], prefix: str, *conditions: ColumnElement[bool]
    ) -> set[str]:
        wanted = select(column).where(column.is_not(None), *conditions)
        if prefix:
            # No hexadecimal digit is as great as a g.
            wanted = wanted.where(column >= prefix, column < f"{prefix}g")
        return set(self._session.scalars(wanted.execution_options(yield_per=BATCH_ROWS)))

    # Segments

    def segment_vectors(self) -> Iterator[list[VectorPair]]:
        """Yield all segments' row ids and vectors, some thousands at a time."""
        rows = self._session.execute(
            select(SegmentRow.id, SegmentRow.audio, SegmentRow.video)
            .where(SegmentRow.model_id == self._model_id)
            .execution_options(yield_per=BATCH_ROWS)
        )
        for part in rows.partitions():
            yield [VectorPair(*row) for row in part]

    def vectors_of_segments(self, row_ids: Sequence[int]) -> list[VectorPair]:
        """Return the vectors of these segments, as far as they exist."""
        query = select(SegmentRow.id, SegmentRow.audio, SegmentRow.video).where(
            _is_of(self._model_id)
        )
        return [
            VectorPair(*row)
            for part in _parts(row_ids)
            for row in self._session.execute(query.where(SegmentRow.id.in_(part)))
        ]

    def segment_rows(self, clip_rows: Sequence[int]) -> list[int]:
        """Return the rows of these clips' segments."""
        found: list[int] = []
        query = select(SegmentRow.id).where(SegmentRow.model_id == self._model_id)
        for part in _parts(clip_rows):
            found += self._session.scalars(query.where(SegmentRow.clip_row.in_(part)))
        return found

    def segment_ids(self) -> NDArray[np.int64]:
        """Return the rows of all segments (N,), in no order."""
        query = select(SegmentRow.id).where(SegmentRow.model_id == self._model_id)
        rows = self._session.scalars(query.execution_options(yield_per=BATCH_ROWS))
        return np.fromiter(rows, np.int64)

    def windows(self) -> WindowRows:
        """Return where all segments lie."""
        return self._window_rows([WINDOWS.where(SegmentRow.model_id == self._model_id)])

    def windows_of_segments(self, row_ids: Sequence[int]) -> WindowRows:
        """Return where these segments lie, as far as they exist."""
        query = WINDOWS.where(_is_of(self._model_id))
        return self._window_rows(query.where(SegmentRow.id.in_(part)) for part in _parts(row_ids))

    def _window_rows(self, queries: Iterable[Select[int, int, float, float]]) -> WindowRows:
        parts = [np.empty(0, WINDOW_DTYPE)]
        for query in queries:
            rows = self._session.execute(query.execution_options(yield_per=BATCH_ROWS))
            parts += (np.array(list(map(tuple, part)), WINDOW_DTYPE) for part in rows.partitions())
        whole = np.concatenate(parts)
        # Copies: a column within the rows would be slow to search.
        return WindowRows(*(whole[name].copy() for name in WindowRows._fields))

    def _any(self, condition: ColumnElement[bool]) -> bool:
        return self._session.scalar(select(ClipRow.id).where(condition).limit(1)) is not None

    def _count(self, column: InstrumentedAttribute[int], *conditions: ColumnElement[bool]) -> int:
        return self._session.scalars(select(func.count(column)).where(*conditions)).one()


@cache
def _clips_of(count: int) -> TextualSelect:
    """Return what reads `count` clips, a row for each tag; as text, which is not put together."""
    columns = ", ".join(f"clips.{column.name}" for column in CLIP_COLUMNS)
    row_ids = ", ".join(f":row_{place}" for place in range(count))
    statement = text(
        f"SELECT {columns}, (SELECT count(*) FROM segments WHERE segments.clip_row = clips.id "
        "AND segments.model_id = clips.model_id) AS segment_count, clip_tags.tag AS tag "
        "FROM clips LEFT JOIN clip_tags ON clip_tags.clip_row = clips.id "
        f"WHERE clips.id IN ({row_ids}) ORDER BY clips.id, clip_tags.position"
    )
    return statement.columns(
        *CLIP_COLUMNS, column("segment_count", Integer), ClipTagRow.__table__.c.tag
    )


def _is_of(model_id: str) -> ColumnElement[bool]:
    """Tell a model's segments from another's among those that are asked for by their rows.

    Not by the column as it is: beside five rows or more SQLite would rather use the index that
    begins with it, and read that of all segments.
    """
    return SegmentRow.model_id.concat("") == model_id


def _parts(values: Sequence[T]) -> Iterator[Sequence[T]]:
    for start in range(0, len(values), IN_LIMIT):
        yield values[start : start + IN_LIMIT]

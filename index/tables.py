"""The catalogue's tables, as the code sees them; `migrations/` is how a database gets them."""

from datetime import UTC, datetime
from typing import Any

import numpy as np
from sqlalchemy import (
    JSON,
    BigInteger,
    DateTime,
    Dialect,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    Text,
    TypeDecorator,
    func,
    select,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, column_property, mapped_column, relationship

from index.types import Vector

# SQLite numbers rows by itself only where the type reads INTEGER.
RowId = BigInteger().with_variant(Integer, "sqlite")


class VectorBlob(TypeDecorator[Vector]):
    """A vector (D,) as float32 little-endian bytes."""

    impl = LargeBinary
    cache_ok = True

    def process_bind_param(self, value: Vector | None, dialect: Dialect) -> bytes | None:
        """Vector to bytes."""
        return None if value is None else value.astype("<f4").tobytes()

    def process_result_value(self, value: bytes | None, dialect: Dialect) -> Vector | None:
        """Bytes to vector."""
        return None if value is None else np.frombuffer(value, "<f4").astype(np.float32)


class StorableText(TypeDecorator[str]):
    """Text, in which a lone surrogate and NUL become their escapes.

    The one has no UTF-8, the other PostgreSQL refuses. What is stored was checked before; this
    serves the questions, which then find nothing.
    """

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """Escape what cannot be encoded."""
        if value is None:
            return None
        return value.encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")


class UtcTime(TypeDecorator[datetime]):
    """A moment, stored as UTC without saying so, because SQLite forgets time zones."""

    impl = DateTime
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Any zone to UTC; a time without a zone is taken as UTC."""
        if value is None or value.tzinfo is None:
            return value
        return value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Say UTC again."""
        return None if value is None else value.replace(tzinfo=UTC)


class Base(DeclarativeBase):
    """What all tables share: how a Python type is stored."""

    type_annotation_map = {  # noqa: RUF012 - SQLAlchemy declares it without ClassVar
        str: StorableText(),
        float: Double(),
        datetime: UtcTime(),
        Vector: VectorBlob(),
        list[str]: JSON(),
        dict[str, Any]: JSON(),
    }


class MetaRow(Base):
    """Facts about the whole library.

    generation, model_id, dim, library_id; while it is re-indexed reindex_model_id and reindex_dim;
    leftover_rows while there are rows of models that are neither, the generation that left them.
    """

    __tablename__ = "meta"

    key: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[str]


class ApiKeyRow(Base):
    """A key of the HTTP API. What it is compared with is a hash; the key itself is nowhere."""

    __tablename__ = "api_keys"

    key_id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]
    scope: Mapped[str]
    secret_hash: Mapped[bytes] = mapped_column(LargeBinary)
    rate: Mapped[str | None]
    concurrency: Mapped[int | None]
    created_at: Mapped[datetime]
    last_used_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]


class VocabularyRow(Base):
    """A vocabulary that was seeded once, whatever became of its classes."""

    __tablename__ = "vocabularies"

    vocabulary_id: Mapped[str] = mapped_column(primary_key=True)
    seeded_at: Mapped[datetime]


class ChangeRow(Base):
    """A row that a write added, changed or deleted, and whose vectors others must take over.

    The log holds all of them that are later than the generation of the fact `changes_after`. Each
    write from that one on also has a row of the kind `write`, whose `row_id` is a random number.
    """

    __tablename__ = "changes"

    generation: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    kind: Mapped[str] = mapped_column(primary_key=True)
    row_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)


class ClassRow(Base):
    """A class name. `vocabulary_id` is None for what a user added or changed."""

    __tablename__ = "classes"
    # Without it SQLite gives a deleted row's number to the next one.
    __table_args__ = {"sqlite_autoincrement": True}  # noqa: RUF012

    id: Mapped[int] = mapped_column(RowId, primary_key=True)
    class_id: Mapped[str] = mapped_column(unique=True)
    key: Mapped[str] = mapped_column(unique=True)
    name: Mapped[str]
    synonyms: Mapped[list[str]]
    search_text: Mapped[str]
    description: Mapped[str]
    seen: Mapped[bool]
    enabled: Mapped[bool]
    vocabulary_id: Mapped[str | None] = mapped_column(ForeignKey("vocabularies.vocabulary_id"))
    created_at: Mapped[datetime]

    vectors: Mapped[list["ClassVectorRow"]] = relationship(
        cascade="all, delete-orphan", passive_deletes=True
    )


class ClassVectorRow(Base):
    """A class's embedding by one model."""

    __tablename__ = "class_vectors"

    class_row: Mapped[int] = mapped_column(
        RowId, ForeignKey("classes.id", ondelete="CASCADE"), primary_key=True
    )
    model_id: Mapped[str] = mapped_column(primary_key=True)
    vector: Mapped[Vector] = mapped_column(VectorBlob)


class ClipTagRow(Base):
    """A tag on a clip; `position` keeps the user's order."""

    __tablename__ = "clip_tags"

    clip_row: Mapped[int] = mapped_column(
        RowId, ForeignKey("clips.id", ondelete="CASCADE"), primary_key=True
    )
    tag: Mapped[str] = mapped_column(primary_key=True, index=True)
    position: Mapped[int]


class ClipVectorRow(Base):
    """A clip's clip-level embeddings by one model."""

    __tablename__ = "clip_vectors"

    clip_row: Mapped[int] = mapped_column(
        RowId, ForeignKey("clips.id", ondelete="CASCADE"), primary_key=True
    )
    model_id: Mapped[str] = mapped_column(primary_key=True)
    audio: Mapped[Vector | None] = mapped_column(VectorBlob)
    video: Mapped[Vector | None] = mapped_column(VectorBlob)


class SegmentRow(Base):
    """A window of a clip by one model; its id is the vector stores' id."""

    __tablename__ = "segments"
    __table_args__ = (
        # All windows are read at each start; the rows themselves are a hundred times as long.
        Index("ix_segments_windows", "model_id", "clip_row", "start_seconds", "end_seconds"),
        {"sqlite_autoincrement": True},
    )

    id: Mapped[int] = mapped_column(RowId, primary_key=True)
    clip_row: Mapped[int] = mapped_column(
        RowId, ForeignKey("clips.id", ondelete="CASCADE"), index=True
    )
    model_id: Mapped[str]
    start_seconds: Mapped[float]
    end_seconds: Mapped[float]
    audio: Mapped[Vector | None] = mapped_column(VectorBlob)
    video: Mapped[Vector | None] = mapped_column(VectorBlob)


class ReindexedClipRow(Base):
    """What a model that is not in use yet makes of a clip: what the clip will say from the swap on.

    Its vectors are rows of their own. `failure` is a sentence where the model could make none.
    """

    __tablename__ = "reindexed_clips"

    clip_row: Mapped[int] = mapped_column(
        RowId, ForeignKey("clips.id", ondelete="CASCADE"), primary_key=True
    )
    model_id: Mapped[str] = mapped_column(primary_key=True)
    duration_seconds: Mapped[float]
    modalities: Mapped[dict[str, Any]]
    warnings: Mapped[list[str]]
    failure: Mapped[str | None]


class ClipRow(Base):
    """A clip; `model_id` names the model whose vectors and segments are in use."""

    __tablename__ = "clips"
    __table_args__ = {"sqlite_autoincrement": True}  # noqa: RUF012

    id: Mapped[int] = mapped_column(RowId, primary_key=True)
    clip_id: Mapped[str] = mapped_column(unique=True)
    filename: Mapped[str]
    content_type: Mapped[str]
    content_hash: Mapped[str] = mapped_column(index=True)
    thumbnail_hash: Mapped[str | None] = mapped_column(index=True)
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    duration_seconds: Mapped[float]
    modalities: Mapped[dict[str, Any]]
    warnings: Mapped[list[str]]
    created_at: Mapped[datetime] = mapped_column(index=True)
    model_id: Mapped[str] = mapped_column()
    source: Mapped[str | None]

    segment_count: Mapped[int] = column_property(
        select(func.count(SegmentRow.id))
        .where(SegmentRow.clip_row == id, SegmentRow.model_id == model_id)
        .correlate_except(SegmentRow)
        .scalar_subquery()
    )
    tags: Mapped[list[ClipTagRow]] = relationship(
        order_by=ClipTagRow.position,
        lazy="selectin",
        cascade="all, delete-orphan",
        passive_deletes=True,
    )
    # Loaded by queries of their own, a few columns at a time; here for insertion only.
    segments: Mapped[list[SegmentRow]] = relationship(
        lazy="raise", cascade="all, delete-orphan", passive_deletes=True
    )
    vectors: Mapped[list[ClipVectorRow]] = relationship(
        lazy="raise", cascade="all, delete-orphan", passive_deletes=True
    )


class JobRow(Base):
    """Work that is done later; `revision` counts what has changed of it and of its items."""

    __tablename__ = "jobs"
    __table_args__ = (Index("ix_jobs_state", "state", "id"), {"sqlite_autoincrement": True})

    id: Mapped[int] = mapped_column(RowId, primary_key=True)
    job_id: Mapped[str] = mapped_column(unique=True)
    kind: Mapped[str]
    state: Mapped[str]
    revision: Mapped[int] = mapped_column(BigInteger)
    options: Mapped[dict[str, Any]]
    skipped: Mapped[int] = mapped_column(BigInteger)
    result: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    created_at: Mapped[datetime]
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]


class JobItemRow(Base):
    """A file of a job, or a folder whose files are not known yet.

    `content_hash` is of an upload that is kept among the media; `token` of whoever has it now.
    """

    __tablename__ = "job_items"
    __table_args__ = (
        Index("ix_job_items_turns", "state", "priority", "id"),
        Index("ix_job_items_of_job", "job_row", "state", "id"),
        Index("ix_job_items_changes", "job_row", "revision"),
        {"sqlite_autoincrement": True},
    )

    id: Mapped[int] = mapped_column(RowId, primary_key=True)
    job_row: Mapped[int] = mapped_column(RowId, ForeignKey("jobs.id", ondelete="CASCADE"))
    name: Mapped[str]
    path: Mapped[str | None]
    content_type: Mapped[str]
    content_hash: Mapped[str | None] = mapped_column(index=True)
    is_folder: Mapped[bool]
    state: Mapped[str]
    priority: Mapped[int]
    attempts: Mapped[int]
    revision: Mapped[int] = mapped_column(BigInteger)
    due_at: Mapped[datetime]
    owner: Mapped[str | None]
    token: Mapped[str | None]
    leased_until: Mapped[datetime | None]
    decoded_seconds: Mapped[float | None]
    declared_seconds: Mapped[float | None]
    clip_id: Mapped[str | None]
    duplicate_of: Mapped[str | None]
    error_code: Mapped[str | None]
    error_detail: Mapped[str | None]

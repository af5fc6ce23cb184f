"""The first schema."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

ROW_ID = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    op.create_table(
        "meta",
        sa.Column("key", sa.Text, primary_key=True),
        sa.Column("value", sa.Text, nullable=False),
    )
    create_classes()
    create_clips()


def create_classes() -> None:
    op.create_table(
        "vocabularies",
        sa.Column("vocabulary_id", sa.Text, primary_key=True),
        sa.Column("seeded_at", sa.DateTime, nullable=False),
    )
    op.create_table(
        "classes",
        sa.Column("id", ROW_ID, primary_key=True),
        sa.Column("class_id", sa.Text, nullable=False, unique=True),
        sa.Column("key", sa.Text, nullable=False, unique=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("synonyms", sa.JSON, nullable=False),
        sa.Column("search_text", sa.Text, nullable=False),
        sa.Column("description", sa.Text, nullable=False),
        sa.Column("seen", sa.Boolean, nullable=False),
        sa.Column("enabled", sa.Boolean, nullable=False),
        sa.Column("vocabulary_id", sa.Text, sa.ForeignKey("vocabularies.vocabulary_id")),
        sa.Column("created_at", sa.DateTime, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "class_vectors",
        sa.Column(
            "class_row", ROW_ID, sa.ForeignKey("classes.id", ondelete="CASCADE"), primary_key=True
        ),
        sa.Column("model_id", sa.Text, primary_key=True),
        sa.Column("vector", sa.LargeBinary, nullable=False),
    )


def create_clips() -> None:
    op.create_table(
        "clips",
        sa.Column("id", ROW_ID, primary_key=True),
        sa.Column("clip_id", sa.Text, nullable=False, unique=True),
        sa.Column("filename", sa.Text, nullable=False),
        sa.Column("content_type", sa.Text, nullable=False),
        sa.Column("content_hash", sa.Text, nullable=False, index=True),
        sa.Column("thumbnail_hash", sa.Text, index=True),
        sa.Column("size_bytes", sa.BigInteger, nullable=False),
        sa.Column("duration_seconds", sa.Double, nullable=False),
        sa.Column("modalities", sa.JSON, nullable=False),
        sa.Column("warnings", sa.JSON, nullable=False),
        sa.Column("created_at", sa.DateTime, nullable=False, index=True),
        sa.Column("model_id", sa.Text, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "clip_tags",
        sa.Column(
            "clip_row", ROW_ID, sa.ForeignKey("clips.id", ondelete="CASCADE"), primary_key=True
        ),
        sa.Column("tag", sa.Text, primary_key=True, index=True),
        sa.Column("position", sa.Integer, nullable=False),
    )
    op.create_table(
        "clip_vectors",
        sa.Column(
            "clip_row", ROW_ID, sa.ForeignKey("clips.id", ondelete="CASCADE"), primary_key=True
        ),
        sa.Column("model_id", sa.Text, primary_key=True),
        sa.Column("audio", sa.LargeBinary),
        sa.Column("video", sa.LargeBinary),
    )
    op.create_table(
        "segments",
        sa.Column("id", ROW_ID, primary_key=True),
        sa.Column(
            "clip_row",
            ROW_ID,
            sa.ForeignKey("clips.id", ondelete="CASCADE"),
            nullable=False,
            index=True,
        ),
        sa.Column("model_id", sa.Text, nullable=False),
        sa.Column("start_seconds", sa.Double, nullable=False),
        sa.Column("end_seconds", sa.Double, nullable=False),
        sa.Column("audio", sa.LargeBinary),
        sa.Column("video", sa.LargeBinary),
        sqlite_autoincrement=True,
    )

"""Work that is done later: jobs and their items."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"

ROW_ID = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    op.create_table(
        "jobs",
        sa.Column("id", ROW_ID, primary_key=True),
        sa.Column("job_id", sa.Text, nullable=False, unique=True),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.Column("options", sa.JSON, nullable=False),
        sa.Column("skipped", sa.BigInteger, nullable=False),
        sa.Column("result", sa.JSON),
        sa.Column("created_at", sa.DateTime, nullable=False),
        sa.Column("started_at", sa.DateTime),
        sa.Column("finished_at", sa.DateTime),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_jobs_state", "jobs", ["state", "id"])
    op.create_table(
        "job_items",
        sa.Column("id", ROW_ID, primary_key=True),
        sa.Column("job_row", ROW_ID, sa.ForeignKey("jobs.id", ondelete="CASCADE"), nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("path", sa.Text),
        sa.Column("content_type", sa.Text, nullable=False),
        sa.Column("content_hash", sa.Text),
        sa.Column("is_folder", sa.Boolean, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("priority", sa.Integer, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.Column("due_at", sa.DateTime, nullable=False),
        sa.Column("owner", sa.Text),
        sa.Column("token", sa.Text),
        sa.Column("leased_until", sa.DateTime),
        sa.Column("decoded_seconds", sa.Double),
        sa.Column("declared_seconds", sa.Double),
        sa.Column("clip_id", sa.Text),
        sa.Column("duplicate_of", sa.Text),
        sa.Column("error_code", sa.Text),
        sa.Column("error_detail", sa.Text),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_job_items_turns", "job_items", ["state", "priority", "id"])
    op.create_index("ix_job_items_of_job", "job_items", ["job_row", "state", "id"])
    op.create_index("ix_job_items_changes", "job_items", ["job_row", "revision"])
    op.create_index("ix_job_items_content_hash", "job_items", ["content_hash"])

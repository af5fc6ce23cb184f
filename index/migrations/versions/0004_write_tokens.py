"""A random token of each write, by which saved vectors are known; an index of all windows."""

import secrets

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.create_index(
        "ix_segments_windows",
        "segments",
        ["model_id", "clip_row", "start_seconds", "end_seconds"],
    )
    # The last write gets one now: what is saved from here on is of its moment.
    op.execute(
        sa.text(
            "INSERT INTO changes (generation, kind, row_id) "
            "SELECT CAST(value AS BIGINT), 'write', :token FROM meta WHERE key = 'generation'"
        ).bindparams(sa.bindparam("token", secrets.randbits(63), sa.BigInteger))
    )

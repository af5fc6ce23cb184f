"""A log of what each write changed, by which libraries that share a catalogue follow each other."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.create_table(
        "changes",
        sa.Column("generation", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("kind", sa.Text, primary_key=True),
        sa.Column("row_id", sa.BigInteger, primary_key=True, autoincrement=False),
    )
    # What was changed before is in no log.
    op.execute(
        "INSERT INTO meta (key, value) "
        "SELECT 'changes_after', value FROM meta WHERE key = 'generation'"
    )

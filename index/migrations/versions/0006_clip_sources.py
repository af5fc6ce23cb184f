"""Where a clip's file came from."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.add_column("clips", sa.Column("source", sa.Text))

"""What a model that is not in use yet makes of the clips."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

ROW_ID = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    op.create_table(
        "reindexed_clips",
        sa.Column(
            "clip_row", ROW_ID, sa.ForeignKey("clips.id", ondelete="CASCADE"), primary_key=True
        ),
        sa.Column("model_id", sa.Text, primary_key=True),
        sa.Column("duration_seconds", sa.Double, nullable=False),
        sa.Column("modalities", sa.JSON, nullable=False),
        sa.Column("warnings", sa.JSON, nullable=False),
        sa.Column("failure", sa.Text),
    )

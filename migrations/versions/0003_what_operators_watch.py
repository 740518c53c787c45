"""Counters and signs of life, and an index for how many tasks are in which state."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "counters",
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("labels", sa.String(512), nullable=False),
        sa.Column("shard", sa.SmallInteger(), nullable=False),
        sa.Column("value", sa.Float(53), nullable=False),
        sa.PrimaryKeyConstraint("name", "labels", "shard", name="pk_counters"),
    )
    op.create_table(
        "signs",
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("name", sa.String(128), nullable=False),
        sa.Column("version", sa.String(32), nullable=False, server_default=""),
        sa.Column("details", sa.JSON(), nullable=False),
        sa.Column("seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("kind", "name", name="pk_signs"),
    )
    op.create_index("ix_tasks_state_pipeline", "tasks", ["state", "pipeline"])
    op.create_index("ix_uploads_state", "uploads", ["state"])


def downgrade() -> None:
    op.drop_index("ix_uploads_state", table_name="uploads")
    op.drop_index("ix_tasks_state_pipeline", table_name="tasks")
    op.drop_table("signs")
    op.drop_table("counters")

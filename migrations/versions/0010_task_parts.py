"""The parts of a task may be done by several workers: who does which, and what came of it."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "task_parts",
        sa.Column("task_id", sa.Uuid(), nullable=False),
        sa.Column("fence", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("lease_until", sa.DateTime(timezone=True)),
        sa.Column("worker", sa.String(128), nullable=False),
        sa.Column("job", sa.JSON(), nullable=False),
        sa.Column("left", sa.JSON()),
        sa.PrimaryKeyConstraint("task_id", "fence", "number", name="pk_task_parts"),
        sa.ForeignKeyConstraint(["task_id"], ["tasks.id"], name="fk_task_parts_task_id_tasks", ondelete="CASCADE"),
    )


def downgrade() -> None:
    op.drop_table("task_parts")

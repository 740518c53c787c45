"""A pipeline may have several steps: a task is at one of them, and each leaves something for the next."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("tasks") as table:
        table.add_column(sa.Column("step", sa.Integer(), nullable=False, server_default="0"))
        table.add_column(sa.Column("queue", sa.String(64), nullable=False, server_default=""))
    op.create_table(
        "steps",
        sa.Column("task_id", sa.Uuid(), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True)),
        sa.Column("document", sa.JSON()),
        sa.Column("artifacts", sa.JSON()),
        sa.Column("error", sa.JSON()),
        sa.PrimaryKeyConstraint("task_id", "number", name="pk_steps"),
        sa.ForeignKeyConstraint(["task_id"], ["tasks.id"], name="fk_steps_task_id_tasks", ondelete="CASCADE"),
    )


def downgrade() -> None:
    op.drop_table("steps")
    with op.batch_alter_table("tasks") as table:
        table.drop_column("queue")
        table.drop_column("step")

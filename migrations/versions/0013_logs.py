"""What happened to a task can be read line by line, and when its run is expected to be done."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("tasks") as table:
        table.add_column(sa.Column("eta_at", sa.DateTime(timezone=True)))
        table.add_column(sa.Column("log_lines", sa.Integer(), nullable=False, server_default="0"))
        table.add_column(sa.Column("log_bytes", sa.BigInteger(), nullable=False, server_default="0"))
    op.create_table(
        "log_lines",
        sa.Column("task_id", sa.Uuid(), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("level", sa.String(16), nullable=False),
        sa.Column("stage", sa.String(64), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("begins", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("task_id", "number", name="pk_log_lines"),
        sa.ForeignKeyConstraint(["task_id"], ["tasks.id"], name="fk_log_lines_task_id_tasks", ondelete="CASCADE"),
    )


def downgrade() -> None:
    op.drop_table("log_lines")
    with op.batch_alter_table("tasks") as table:
        table.drop_column("log_bytes")
        table.drop_column("log_lines")
        table.drop_column("eta_at")

"""Who asks for the result of a task that was deleted for its age is told so."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "aged_tasks",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("owner", sa.String(64), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_aged_tasks"),
    )
    op.create_index("ix_aged_tasks_at", "aged_tasks", ["at"])


def downgrade() -> None:
    op.drop_table("aged_tasks")

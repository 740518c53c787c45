"""Uploads have a handle: what the upload gateway calls them. Tasks are found by when they ended."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("uploads") as table:
        table.add_column(sa.Column("handle", sa.String(1024), nullable=False, server_default=""))
    op.execute("UPDATE uploads SET handle = id")  # so far all were received by the built-in endpoint
    op.create_index("ix_uploads_handle", "uploads", ["handle"])
    op.create_index("ix_tasks_finished", "tasks", ["finished_at"])


def downgrade() -> None:
    op.drop_index("ix_tasks_finished", table_name="tasks")
    op.drop_index("ix_uploads_handle", table_name="uploads")
    with op.batch_alter_table("uploads") as table:
        table.drop_column("handle")

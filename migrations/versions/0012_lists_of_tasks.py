"""A page of a list, filtered or not, and a place in the queue are read off an index, however many tasks there are."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

_WAITS = sa.text("state = 'pending' AND deleted_at IS NULL")


def upgrade() -> None:
    op.drop_index("ix_tasks_owner_state", "tasks")
    op.create_index("ix_tasks_owner_state", "tasks", ["owner", "state", "created_at", "id"])
    op.create_index("ix_tasks_owner_pipeline", "tasks", ["owner", "pipeline", "created_at", "id"])
    op.create_index("ix_tasks_state_created", "tasks", ["state", "created_at", "id"])
    op.create_index("ix_tasks_line", "tasks", ["queue", "queued_at"], postgresql_where=_WAITS, sqlite_where=_WAITS)


def downgrade() -> None:
    for name in ("ix_tasks_line", "ix_tasks_state_created", "ix_tasks_owner_pipeline", "ix_tasks_owner_state"):
        op.drop_index(name, "tasks")
    op.create_index("ix_tasks_owner_state", "tasks", ["owner", "state"])

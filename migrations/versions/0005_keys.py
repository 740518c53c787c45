"""Keys of the API, and whose each task is; tasks made before belong to nobody, which only an admin's key sees."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "keys",
        sa.Column("prefix", sa.String(16), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("name", sa.String(100), nullable=False),
        sa.Column("owner", sa.String(64), nullable=False),
        sa.Column("scopes", sa.String(64), nullable=False),
        sa.Column("rate", sa.Integer()),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True)),
        sa.Column("revoked_at", sa.DateTime(timezone=True)),
        sa.Column("used_at", sa.DateTime(timezone=True)),
        sa.PrimaryKeyConstraint("prefix", name="pk_keys"),
    )
    op.create_index("ix_keys_owner", "keys", ["owner"])
    with op.batch_alter_table("tasks") as table:
        table.add_column(sa.Column("owner", sa.String(64), nullable=False, server_default=""))
    op.create_index("ix_tasks_owner_created", "tasks", ["owner", "created_at", "id"])
    op.create_index("ix_tasks_owner_state", "tasks", ["owner", "state"])


def downgrade() -> None:
    op.drop_index("ix_tasks_owner_state", table_name="tasks")
    op.drop_index("ix_tasks_owner_created", table_name="tasks")
    with op.batch_alter_table("tasks") as table:
        table.drop_column("owner")
    op.drop_index("ix_keys_owner", table_name="keys")
    op.drop_table("keys")

"""Owners have standing subscriptions to what happens to their tasks; deliveries may belong to one."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "webhooks",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("owner", sa.String(64), nullable=False),
        sa.Column("name", sa.String(100), nullable=False),
        sa.Column("url", sa.String(2048), nullable=False),
        sa.Column("host", sa.String(255), nullable=False),
        sa.Column("events", sa.JSON(), nullable=False),
        sa.Column("pipelines", sa.JSON(), nullable=False),
        sa.Column("salt", sa.String(64), nullable=False),
        sa.Column("mark", sa.String(16), nullable=False),
        sa.Column("old_salt", sa.String(64)),
        sa.Column("old_until", sa.DateTime(timezone=True)),
        sa.Column("failing_since", sa.DateTime(timezone=True)),
        sa.Column("disabled_at", sa.DateTime(timezone=True)),
        sa.Column("disabled_why", sa.String(16), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_webhooks"),
    )
    op.create_index("ix_webhooks_owner", "webhooks", ["owner"])
    with op.batch_alter_table("deliveries") as table:
        table.alter_column("task_id", existing_type=sa.Uuid(), nullable=True)
        table.add_column(sa.Column("webhook_id", sa.Uuid()))
        table.create_foreign_key(
            "fk_deliveries_webhook_id_webhooks", "webhooks", ["webhook_id"], ["id"], ondelete="CASCADE"
        )
        table.create_index("ix_deliveries_webhook_created", ["webhook_id", "created_at", "id"])


def downgrade() -> None:
    op.execute("DELETE FROM deliveries WHERE webhook_id IS NOT NULL OR task_id IS NULL")
    with op.batch_alter_table("deliveries") as table:
        table.drop_index("ix_deliveries_webhook_created")
        table.drop_constraint("fk_deliveries_webhook_id_webhooks", type_="foreignkey")
        table.drop_column("webhook_id")
        table.alter_column("task_id", existing_type=sa.Uuid(), nullable=False)
    op.drop_table("webhooks")

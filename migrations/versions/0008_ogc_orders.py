"""Tasks that were asked for by OGC API - Processes: how the answer is wanted, and receivers of their own."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "ogc_orders",
        sa.Column("task_id", sa.Uuid(), nullable=False),
        sa.Column("response", sa.String(16), nullable=False),
        sa.Column("outputs", sa.JSON(), nullable=False),
        sa.Column("subscriber", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("task_id", name="pk_ogc_orders"),
        sa.ForeignKeyConstraint(["task_id"], ["tasks.id"], name="fk_ogc_orders_task_id_tasks", ondelete="CASCADE"),
    )
    with op.batch_alter_table("deliveries") as table:
        table.add_column(sa.Column("url", sa.String(2048)))


def downgrade() -> None:
    with op.batch_alter_table("deliveries") as table:
        table.drop_column("url")
    op.drop_table("ogc_orders")

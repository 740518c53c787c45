"""A file may be fetched from a URL instead of being sent."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("uploads") as table:
        table.add_column(sa.Column("source", sa.String(255), nullable=False, server_default=""))
        table.add_column(sa.Column("url", sa.String(2048)))
        table.add_column(sa.Column("received", sa.BigInteger(), nullable=False, server_default="0"))
        table.add_column(sa.Column("reached", sa.BigInteger(), nullable=False, server_default="0"))
        table.add_column(sa.Column("length", sa.BigInteger()))
        table.add_column(sa.Column("validator", sa.String(512), nullable=False, server_default=""))
        table.add_column(sa.Column("fence", sa.Integer(), nullable=False, server_default="0"))
        table.add_column(sa.Column("failures", sa.Integer(), nullable=False, server_default="0"))
        table.add_column(sa.Column("due_at", sa.DateTime(timezone=True)))
        table.add_column(sa.Column("moved_at", sa.DateTime(timezone=True)))
        table.create_index("ix_uploads_due", ["due_at"])


def downgrade() -> None:
    with op.batch_alter_table("uploads") as table:
        table.drop_index("ix_uploads_due")
        table.drop_column("moved_at")
        table.drop_column("due_at")
        table.drop_column("failures")
        table.drop_column("fence")
        table.drop_column("validator")
        table.drop_column("length")
        table.drop_column("reached")
        table.drop_column("received")
        table.drop_column("url")
        table.drop_column("source")

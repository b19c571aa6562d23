"""Attachments know their thread, so that they go with it; sessions know when they were last seen."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("attachments", sa.Column("thread_id", sa.String(128)))
    op.create_index("attachments_of_thread", "attachments", ["tenant", "thread_id"])
    op.add_column("sessions", sa.Column("last_seen", sa.DateTime(timezone=True)))


def downgrade() -> None:
    op.drop_column("sessions", "last_seen")
    op.drop_index("attachments_of_thread", "attachments")
    op.drop_column("attachments", "thread_id")

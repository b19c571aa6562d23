"""Runs that wait for a user's consent."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "approvals",
        sa.Column("tenant", sa.String(128), primary_key=True),
        sa.Column("id", sa.String(128), primary_key=True),
        sa.Column("thread_id", sa.String(128), nullable=False),
        sa.Column("user_id", sa.String(128), nullable=False),
        sa.Column("event_id", sa.String(64), nullable=False),
        sa.Column("state", sa.Text),
        sa.Column("asked_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("decided_by", sa.String(64)),
        sa.Column("approved", sa.Integer),
    )
    op.create_index("approvals_of_thread", "approvals", ["tenant", "thread_id"])
    op.create_index("approvals_by_age", "approvals", ["tenant", "asked_at"])


def downgrade() -> None:
    op.drop_index("approvals_by_age", "approvals")
    op.drop_index("approvals_of_thread", "approvals")
    op.drop_table("approvals")

"""The tables of the conversation store. Changing one needs a migration (`migrations/versions/`)."""

from sqlalchemy import BigInteger, Column, DateTime, Index, Integer, MetaData, String, Table, Text, UniqueConstraint

metadata = MetaData()

Sequence = BigInteger().with_variant(Integer(), "sqlite")
"""The store's own order. ChatKit's `created_at` is naive local time, which no order can rest on."""

threads = Table(
    "threads",
    metadata,
    Column("seq", Sequence, primary_key=True, autoincrement=True),
    Column("tenant", String(128), nullable=False),
    Column("id", String(128), nullable=False),
    Column("user_id", String(128), nullable=False),
    Column("title", Text),
    Column("body", Text, nullable=False),  # ThreadMetadata as JSON; its title is the column's
    Column("epoch", BigInteger, nullable=False, default=0),
    UniqueConstraint("tenant", "id"),
)
Index("threads_of_user", threads.c.tenant, threads.c.user_id, threads.c.seq)

items = Table(
    "items",
    metadata,
    Column("seq", Sequence, primary_key=True, autoincrement=True),
    Column("tenant", String(128), nullable=False),
    Column("thread_id", String(128), nullable=False),
    Column("id", String(128), nullable=False),
    Column("event_id", String(64), nullable=False),
    Column("body", Text, nullable=False),  # ThreadItem as JSON
    UniqueConstraint("tenant", "thread_id", "id"),
)
Index("items_of_thread", items.c.tenant, items.c.thread_id, items.c.seq)

attachments = Table(
    "attachments",
    metadata,
    Column("tenant", String(128), primary_key=True),
    Column("id", String(128), primary_key=True),
    Column("user_id", String(128), nullable=False),
    Column("body", Text, nullable=False),
    Column("thread_id", String(128)),
)
Index("attachments_of_thread", attachments.c.tenant, attachments.c.thread_id)

feedback = Table(
    "feedback",
    metadata,
    Column("tenant", String(128), primary_key=True),
    Column("thread_id", String(128), primary_key=True),
    Column("item_id", String(128), primary_key=True),
    Column("user_id", String(128), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("event_id", String(64), nullable=False),
)

turns = Table(
    "turns",
    metadata,
    Column("tenant", String(128), primary_key=True),
    Column("event_id", String(64), primary_key=True),
    Column("thread_id", String(128), nullable=False),
)
"""Events whose final answer is stored: a redelivery of one is not run again."""

approvals = Table(
    "approvals",
    metadata,
    Column("tenant", String(128), primary_key=True),
    Column("id", String(128), primary_key=True),  # of the item that asks, too
    Column("thread_id", String(128), nullable=False),
    Column("user_id", String(128), nullable=False),
    Column("event_id", String(64), nullable=False),
    Column("state", Text),  # the run as JSON, until it has come to its end
    Column("asked_at", DateTime(timezone=True), nullable=False),
    Column("decided_by", String(64)),  # the event that carries the decision out
    Column("approved", Integer),
)
"""Runs that wait for their user's consent, and who decided."""
Index("approvals_of_thread", approvals.c.tenant, approvals.c.thread_id)
Index("approvals_by_age", approvals.c.tenant, approvals.c.asked_at)

sessions = Table(
    "sessions",
    metadata,
    Column("tenant", String(128), primary_key=True),
    Column("id", String(128), primary_key=True),
    Column("user_id", String(128), nullable=False),
    Column("open_thread_id", String(128)),
    Column("ready", Integer, nullable=False, default=0),
    Column("last_event", String(64), nullable=False),
    Column("last_error", String(200)),
    Column("last_seen", DateTime(timezone=True)),
)
"""What the pages of a user last said: no text of theirs."""

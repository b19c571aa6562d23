"""Alembic's entry: migrates over the connection that `Database.upgrade` hands over."""

from alembic import context

from workers.chat.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata, render_as_batch=True)

with context.begin_transaction():
    context.run_migrations()

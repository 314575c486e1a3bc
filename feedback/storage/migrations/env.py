"""Run by Alembic, with the connection of `feedback.storage.database`."""

from alembic import context

from feedback.storage.tables import Base

context.configure(connection=context.config.attributes["connection"], target_metadata=Base.metadata)
with context.begin_transaction():
    context.run_migrations()

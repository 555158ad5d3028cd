"""Run by Alembic: migrates the journal over the connection that ``journal.schema`` hands in."""

from __future__ import annotations

from alembic import context
from journal.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    # The journal begins its transactions itself (BEGIN IMMEDIATE), so SQLite's schema changes are transactional.
    transactional_ddl=True,
    render_as_batch=True,
    compare_type=True,
)
with context.begin_transaction():
    context.run_migrations()

"""The journal's tables, as they are now. ``alembic/versions`` tells how they came about; a test holds both equal."""

from __future__ import annotations

from functools import cache

from sqlalchemy import Boolean, Column, Integer, MetaData, String, Table, Text, UniqueConstraint, text
from sqlalchemy.dialects import sqlite
from sqlalchemy.schema import CreateTable

#: The Alembic revision that these tables are; a journal of another one is older, or from a newer memmig.
REVISION = "0001"

metadata = MetaData()

#: Append-only, bound by the hash chain (``journal.chain``).
events = Table(
    "events",
    metadata,
    Column("seq", Integer, primary_key=True),
    Column("run_id", String, nullable=False),
    Column("version", Integer, nullable=False),
    Column("type", String, nullable=False),
    Column("type_version", Integer, nullable=False),
    Column("recorded_at", String, nullable=False),
    Column("payload", Text, nullable=False),
    Column("hash", String, nullable=False),
    UniqueConstraint("run_id", "version", name="events_run_version"),
)

#: Append-only, one row per id of a batch. No index on the id: scans are fast, keeping random ids in order is not.
entries = Table(
    "entries",
    metadata,
    Column("seq", Integer, primary_key=True),
    Column("run_id", String, nullable=False),
    Column("batch", Integer, nullable=False),
    Column("phase", String, nullable=False),
    Column("kind", String, nullable=False),
    Column("entity_id", Text, nullable=False),
    Column("action", String, nullable=False),
    Column("before_digest", String),
    Column("after_digest", String),
    Column("before_image", Text),
    Column("written", Text),
    Column("reason", Text),
    Column("bumped", Text),
)

#: A projection of events and entries, written in the same transaction; ``Journal.check`` compares it with the fold.
batches = Table(
    "batches",
    metadata,
    Column("run_id", String, primary_key=True),
    Column("batch", Integer, primary_key=True),
    Column("phase", String, nullable=False),
    Column("kind", String, nullable=False),
    Column("operation", String, nullable=False),
    Column("shape", Text, nullable=False),
    Column("rows", Integer, nullable=False),
    Column("digest", String, nullable=False),
    Column("writes", Boolean, nullable=False),
    Column("status", String, nullable=False),
    Column("first_entry", Integer, nullable=False),  # the batch's entries are first_entry … first_entry + rows - 1
    sqlite_with_rowid=False,
)

#: As alembic makes it.
_VERSION_TABLE = """
CREATE TABLE alembic_version (
\tversion_num VARCHAR(32) NOT NULL,
\tCONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
)
"""

#: Triggers and views by name, in the order of creation.
EXTRAS: dict[str, str] = {
    **{
        f"{table}_no_{verb}": (
            f"CREATE TRIGGER {table}_no_{verb} BEFORE {verb.upper()} ON {table} "
            f"BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
        )
        for table in ("events", "entries")
        for verb in ("update", "delete")
    },
    # What a rollback undid, or found undone.
    "taken_back": """CREATE VIEW taken_back AS
SELECT e.run_id, e.kind, e.entity_id
FROM entries e JOIN batches b ON b.run_id = e.run_id AND b.batch = e.batch
WHERE e.phase = 'rollback' AND b.status = 'applied' AND e.action IN ('deleted', 'restored', 'unchanged')""",
    # What stands: rows of plans that were refused, lost or never landed are left out, and so is what was taken back.
    "applied_entries": """CREATE VIEW applied_entries AS
SELECT e.*
FROM entries e JOIN batches b ON b.run_id = e.run_id AND b.batch = e.batch
WHERE e.phase = 'forward' AND b.status = 'applied'
AND (e.run_id, e.kind, e.entity_id) NOT IN (SELECT run_id, kind, entity_id FROM taken_back)""",
}

#: Everything but the tables of ``metadata``, for a new journal.
STATEMENTS = (
    _VERSION_TABLE.strip(),
    *EXTRAS.values(),
    f"INSERT INTO alembic_version (version_num) VALUES ('{REVISION}')",
)


@cache
def objects() -> dict[str, str]:
    """Return the statement of each table, trigger and view, by name; layout is not kept by every way to make them."""
    made = {table.name: str(CreateTable(table).compile(dialect=sqlite.dialect())) for table in metadata.sorted_tables}
    return {**made, "alembic_version": _VERSION_TABLE, **EXTRAS}


#: The names by which a database is known as a journal.
OWN_TABLES = frozenset({"alembic_version", "events", "entries"})

VERSION_QUERY = text("SELECT version_num FROM alembic_version")

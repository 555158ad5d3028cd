"""The two layouts of memorygraph's SQLite file: what its clients make in an empty one, and the columns that follow.

Read from the schemas of stores that memorygraph 0.12.4 and 0.13.0 made themselves. The statements below are the only
place that names the columns; everything else asks :func:`columns`.
"""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from migrator.backends.base import SchemaStep

if TYPE_CHECKING:
    from migrator.model import Kind
    from migrator.models import Layout

#: The tables of each layout: memories, then relationships.
TABLES: dict[Layout, dict[Kind, str]] = {
    "0.12": {"memory": "nodes", "relationship": "relationships"},
    "0.13": {"memory": "memories", "relationship": "relationships"},
}

MARKER_TABLE = "_memmig"
MARKER_COLUMNS = ("journal", "run", "epoch", "batch", "digest", "owner")
CREATE_MARKER = (
    f"CREATE TABLE {MARKER_TABLE} (journal TEXT NOT NULL, run TEXT NOT NULL, epoch INTEGER NOT NULL, "
    "batch INTEGER NOT NULL, digest TEXT NOT NULL, owner TEXT NOT NULL)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column as ``PRAGMA table_info`` tells it."""

    name: str
    affinity: str  #: TEXT, INTEGER, REAL, NUMERIC or BLOB
    required: bool  #: NOT NULL
    key: bool  #: the whole primary key


_NODES_012 = """CREATE TABLE nodes (
    id TEXT PRIMARY KEY,
    label TEXT NOT NULL,
    properties TEXT NOT NULL,
    created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP,
    updated_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP
)"""
_RELATIONSHIPS_012 = """CREATE TABLE relationships (
    id TEXT PRIMARY KEY,
    from_id TEXT NOT NULL,
    to_id TEXT NOT NULL,
    rel_type TEXT NOT NULL,
    properties TEXT NOT NULL,
    created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP,
    valid_from TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP,
    valid_until TIMESTAMP,
    recorded_at TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP,
    invalidated_by TEXT,
    FOREIGN KEY (from_id) REFERENCES nodes(id) ON DELETE CASCADE,
    FOREIGN KEY (to_id) REFERENCES nodes(id) ON DELETE CASCADE,
    FOREIGN KEY (invalidated_by) REFERENCES relationships(id) ON DELETE SET NULL
)"""
_FTS_012 = """CREATE VIRTUAL TABLE nodes_fts USING fts5(
    id, title, content, summary, content='nodes', content_rowid='rowid'
)"""
_MEMORIES_013 = """CREATE TABLE memories (
    id TEXT PRIMARY KEY,
    type TEXT NOT NULL,
    title TEXT NOT NULL,
    content TEXT NOT NULL,
    summary TEXT,
    tags TEXT NOT NULL DEFAULT '[]',
    importance REAL NOT NULL DEFAULT 0.5,
    confidence REAL NOT NULL DEFAULT 0.8,
    effectiveness REAL,
    usage_count INTEGER NOT NULL DEFAULT 0,
    created_at TEXT NOT NULL,
    updated_at TEXT NOT NULL,
    last_accessed TEXT,
    version INTEGER NOT NULL DEFAULT 1,
    updated_by TEXT,
    context TEXT
)"""
_RELATIONSHIPS_013 = """CREATE TABLE relationships (
    id TEXT PRIMARY KEY,
    from_id TEXT NOT NULL,
    to_id TEXT NOT NULL,
    rel_type TEXT NOT NULL,
    strength REAL NOT NULL DEFAULT 0.5,
    confidence REAL NOT NULL DEFAULT 0.8,
    context TEXT,
    evidence_count INTEGER NOT NULL DEFAULT 1,
    success_rate REAL,
    created_at TEXT NOT NULL,
    last_validated TEXT NOT NULL,
    validation_count INTEGER NOT NULL DEFAULT 0,
    counter_evidence_count INTEGER NOT NULL DEFAULT 0,
    valid_from TEXT NOT NULL,
    valid_until TEXT,
    recorded_at TEXT NOT NULL,
    invalidated_by TEXT,
    FOREIGN KEY (from_id) REFERENCES memories(id) ON DELETE CASCADE,
    FOREIGN KEY (to_id) REFERENCES memories(id) ON DELETE CASCADE
)"""
_INDEXES: dict[Layout, dict[str, str]] = {
    "0.12": {
        "idx_nodes_label": "nodes(label)",
        "idx_nodes_created": "nodes(created_at)",
        "idx_rel_from": "relationships(from_id)",
        "idx_rel_to": "relationships(to_id)",
        "idx_rel_type": "relationships(rel_type)",
        "idx_relationships_temporal": "relationships(valid_from, valid_until)",
        "idx_relationships_current": "relationships(valid_until) WHERE valid_until IS NULL",
        "idx_relationships_recorded": "relationships(recorded_at)",
        "idx_nodes_memory": "nodes(label) WHERE label = 'Memory'",
    },
    "0.13": {
        "idx_memories_type": "memories(type)",
        "idx_memories_importance": "memories(importance)",
        "idx_memories_created_at": "memories(created_at)",
        "idx_relationships_from": "relationships(from_id)",
        "idx_relationships_to": "relationships(to_id)",
        "idx_relationships_type": "relationships(rel_type)",
    },
}


def steps(layout: Layout) -> list[SchemaStep]:
    """Return the tables and indexes that the layout's client makes in an empty file, in order of creation."""
    tables = (
        {"nodes": _NODES_012, "relationships": _RELATIONSHIPS_012}
        if layout == "0.12"
        else {"memories": _MEMORIES_013, "relationships": _RELATIONSHIPS_013}
    )
    if layout == "0.12" and _has_fts():
        tables["nodes_fts"] = _FTS_012
    found = [
        SchemaStep(name=name, kind="table", create=create, drop=f"DROP TABLE {name}") for name, create in tables.items()
    ]
    found += [
        SchemaStep(
            name=name, kind="index", create=f"CREATE INDEX {name} ON {on}", drop=f"DROP INDEX {name}", after_load=True
        )
        for name, on in _INDEXES[layout].items()
    ]
    return found


@lru_cache(maxsize=1)
def _has_fts() -> bool:
    # The client goes on without the full-text table where SQLite was built without FTS5.
    with closing(sqlite3.connect(":memory:")) as scratch:
        return bool(scratch.execute("SELECT 1 FROM pragma_module_list WHERE name = 'fts5'").fetchone())


def affinity(declared: str) -> str:
    """Return the affinity of a declared type (https://www.sqlite.org/datatype3.html, section 3.1)."""
    for pattern, name in (("INT", "INTEGER"), ("CHAR|CLOB|TEXT", "TEXT"), ("BLOB|^$", "BLOB")):
        if re.search(pattern, declared.upper()):
            return name
    return "REAL" if re.search("REAL|FLOA|DOUB", declared.upper()) else "NUMERIC"


def table_columns(connection: sqlite3.Connection, table: str) -> tuple[Column, ...]:
    """Return a table's columns in order; empty where there is no such table."""
    rows = connection.execute('SELECT name, type, "notnull", pk FROM pragma_table_info(?)', (table,)).fetchall()
    single = sum(bool(pk) for *_, pk in rows) == 1
    return tuple(
        Column(name=name, affinity=affinity(declared), required=bool(required), key=bool(pk) and single)
        for name, declared, required, pk in rows
    )


@lru_cache
def columns(layout: Layout, kind: Kind) -> tuple[Column, ...]:
    """Return the columns of a layout's table as its client makes it."""
    with closing(sqlite3.connect(":memory:")) as scratch:
        for step in steps(layout):
            if step.kind == "table":
                scratch.execute(step.create)
        return table_columns(scratch, TABLES[layout][kind])


def names(layout: Layout, kind: Kind) -> tuple[str, ...]:
    """Return the column names of a layout's table in order."""
    return tuple(column.name for column in columns(layout, kind))


def misfit(layout: Layout, kind: Kind, found: tuple[Column, ...]) -> str:
    """Say how a table differs from the layout so that it cannot be read or written exactly; "" where it does not."""
    expected = {column.name: (column.affinity, column.key) for column in columns(layout, kind)}
    there = {column.name: (column.affinity, column.key) for column in found}
    if missing := expected.keys() - there.keys():
        return f"lacks {', '.join(sorted(missing))}"
    if extra := there.keys() - expected.keys():
        return f"has unknown {', '.join(sorted(extra))}"
    other = sorted(name for name in expected if expected[name] != there[name])
    return f"has another type or key in {', '.join(other)}" if other else ""

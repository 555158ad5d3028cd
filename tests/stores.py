"""The schemas of both SQLite layouts, taken from the real stores, so that a made store is what a client makes."""

from __future__ import annotations

import sqlite3
from pathlib import Path

DATA = Path(__file__).parent / "data"
STORE_012 = DATA / "memorygraph-0.12.db"
STORE_013 = DATA / "memorygraph-0.13.db"


def _schema(path: Path) -> str:
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?immutable=1", uri=True)
    rows = connection.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY rowid").fetchall()
    connection.close()
    # The full-text table makes its own shadow tables.
    statements = [sql for name, sql in rows if not name.startswith("nodes_fts_")]
    for word in ("TABLE", "INDEX", "VIRTUAL TABLE"):
        statements = [sql.replace(f"CREATE {word} ", f"CREATE {word} IF NOT EXISTS ", 1) for sql in statements]
    return ";\n".join(statements) + ";"


def _columns(path: Path, table: str) -> tuple[str, ...]:
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?immutable=1", uri=True)
    rows = connection.execute(f"PRAGMA table_info({table})").fetchall()
    connection.close()
    return tuple(row[1] for row in rows)


SCHEMA_012 = _schema(STORE_012)
SCHEMA_013 = _schema(STORE_013)
COLUMNS_013 = _columns(STORE_013, "memories")
RELATIONSHIP_COLUMNS_013 = _columns(STORE_013, "relationships")

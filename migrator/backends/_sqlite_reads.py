"""Questions to an open SQLite file: rows by id, what hangs on a memory, the markers, and texts that are no UTF-8."""

from __future__ import annotations

import re
import sqlite3
from itertools import batched
from typing import TYPE_CHECKING

from migrator.backends import _sqlite_schema as schema
from migrator.backends.base import Marker

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from migrator.backends._sqlite_forms import Cells
    from migrator.backends.base import Raw
    from migrator.model import Value

_CHUNK = 500


def _storable(texts: Iterable[str]) -> list[str]:
    """Leave out what no SQLite text can be: lone surrogates cannot be bound."""
    return [text for text in texts if text.isascii() or not re.search("[\ud800-\udfff]", text)]


def select(
    connection: sqlite3.Connection, columns: str, table: str, key: str, values: Iterable[str]
) -> Iterator[tuple[Value, ...]]:
    for chunk in batched(_storable(values), _CHUNK):
        marks = ",".join("?" * len(chunk))
        yield from connection.execute(f"SELECT {columns} FROM {table} WHERE {key} IN ({marks})", chunk)


def cells(connection: sqlite3.Connection, table: str, columns: Sequence[str], ids: Iterable[str]) -> list[Cells]:
    """Return the rows of these ids; a text that is no UTF-8 comes as bytes."""
    wanted = list(ids)
    try:
        return list(select(connection, ", ".join(columns), table, "id", wanted))
    except sqlite3.OperationalError as error:
        if "decode" not in str(error):
            raise
        before = connection.text_factory
        connection.text_factory = _text_or_bytes
        try:
            return list(select(connection, ", ".join(columns), table, "id", wanted))
        finally:
            connection.text_factory = before


def rows(connection: sqlite3.Connection, table: str, columns: Sequence[str], ids: Iterable[str]) -> dict[str, Raw]:
    """Return {id: stored form} of the rows of these ids."""
    found = cells(connection, table, columns, ids)
    return {row[0]: dict(zip(columns, row, strict=True)) for row in found}


def _text_or_bytes(value: bytes) -> str | bytes:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value


def attached(connection: sqlite3.Connection, memory_ids: Sequence[str], shown: int) -> dict[str, list[str]]:
    """Return for each memory with edges up to ``shown`` of their ids."""
    found: dict[str, list[str]] = {}
    for chunk in batched(_storable(memory_ids), _CHUNK):
        wanted = set(chunk)
        marks = ",".join("?" * len(chunk))
        sql = f"SELECT from_id, to_id, id FROM relationships WHERE from_id IN ({marks}) OR to_id IN ({marks})"
        for from_id, to_id, name in connection.execute(sql, chunk + chunk):
            for end in {from_id, to_id} & wanted:
                names = found.setdefault(end, [])
                if len(names) < shown:
                    names.append(name if type(name) is str else "")
    return found


def markers(connection: sqlite3.Connection) -> list[Marker]:
    """Return every row of the marker's table; none where there is no table."""
    if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (schema.MARKER_TABLE,)).fetchone():
        return []
    found = connection.execute(f"SELECT {', '.join(schema.MARKER_COLUMNS)} FROM {schema.MARKER_TABLE}")
    return [Marker(**dict(zip(schema.MARKER_COLUMNS, row, strict=True))) for row in found]


def carefully(
    connection: sqlite3.Connection, columns: Sequence[str], sql: str, arguments: tuple[object, ...]
) -> Iterator[Cells]:
    """Yield rows of which some text is no UTF-8: such a cell is bytes, all others are as usual."""
    kinds = ", ".join(f"typeof(r.{name})" for name in columns)
    values = ", ".join(f"r.{name}" for name in columns)
    before = connection.text_factory
    connection.text_factory = bytes
    try:
        count = len(columns)
        for row in connection.execute(f"SELECT {values}, {kinds}, r.rowid {sql}", arguments):
            pairs = zip(row[:count], row[count:-1], strict=True)
            yield (*(_text_or_bytes(value) if kind == b"text" else value for value, kind in pairs), row[-1])
    finally:
        connection.text_factory = before

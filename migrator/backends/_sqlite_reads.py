"""Questions to an open SQLite file: counts, pages, rows by id, what hangs on a memory, markers, texts not in UTF-8."""

from __future__ import annotations

import re
import sqlite3
from dataclasses import replace
from itertools import batched
from typing import TYPE_CHECKING

from migrator.backends import _sqlite_schema as schema
from migrator.backends.base import Inventory, Marker
from migrator.model import Corrupt

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from migrator.backends._sqlite_forms import Cells, Form012, Form013
    from migrator.backends.base import Raw
    from migrator.model import Kind, Record, Value
    from migrator.models import Layout

_CHUNK = 500
#: A page of ``scan`` ends early at about this many characters, so that memories of 1 MB do not fill the memory.
_PAGE_CHARACTERS = 4_000_000
#: The columns that hold nearly all of a row's bytes, per layout and kind.
_HEAVY: dict[Layout, dict[Kind, str]] = {
    "0.12": {"memory": "properties", "relationship": "properties"},
    "0.13": {"memory": "content", "relationship": "context"},
}


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


def page(form: Form012 | Form013, kind: Kind, rows: Iterator[Cells]) -> tuple[list[Record | Corrupt], int]:
    """Decode rows that end with their ``rowid`` until they make a page; return them and the last one's ``rowid``."""
    read = form.reader(kind)
    heavy = form.columns[kind].index(_HEAVY[form.layout][kind])
    found: list[Record | Corrupt] = []
    rowid, weight = 0, 0
    for row in rows:
        rowid = row[-1]
        record = read(row[:-1])
        if type(record) is Corrupt and type(row[0]) is not str:
            record = replace(record, id=f"rowid:{rowid}", named=False)
        found.append(record)
        weight += row[heavy].__sizeof__()
        if weight > _PAGE_CHARACTERS:
            break
    return found, rowid


def scope(kind: Kind) -> str:
    """Return the condition that leaves out nodes of other labels and edges at them, with the label as parameter."""
    if kind == "memory":
        return "r.label = ?"
    return "NOT EXISTS (SELECT 1 FROM nodes WHERE id IN (r.from_id, r.to_id) AND label IS NOT ?)"


def inventory(connection: sqlite3.Connection, table: str, *, relationships: bool, label: str | None) -> Inventory:
    """Count the rows; ``label``: what has another one, and edges at that, are no records, and counted apart."""
    total = connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
    edges = connection.execute("SELECT count(*) FROM relationships").fetchone()[0] if relationships else 0
    excluded = 0
    others: dict[str, int] = {}
    if label is not None:
        others = _other_labels(connection, label)
        if relationships:
            scoped = f"SELECT count(*) FROM relationships AS r WHERE {scope('relationship')}"
            excluded = edges - connection.execute(scoped, (label,)).fetchone()[0]
    return Inventory(
        memories=total - sum(others.values()),
        relationships=edges - excluded,
        other_nodes=others,
        other_relationships=excluded,
    )


def _other_labels(connection: sqlite3.Connection, label: str) -> dict[str, int]:
    sql = "SELECT CAST(label AS BLOB), count(*) FROM nodes WHERE label IS NOT ? GROUP BY label"
    found: dict[str, int] = {}
    for other, count in connection.execute(sql, (label,)):
        name = "" if other is None else other.decode(errors="replace")
        found[name] = found.get(name, 0) + count
    return found

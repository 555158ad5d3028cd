"""A store as it is, to the last byte of each property, for "exactly as before".

What has no lasting meaning is left out: row ids, internal ids of nodes and edges, the order in which they stand.
"""

from __future__ import annotations

import struct
from collections import Counter
from typing import TYPE_CHECKING, Any

from tests.checker.boltserver import BoltGraph
from tests.checker.graphserver import Graph, Native, command_of
from tests.checker.rawstore import graph_of, path_of, sqlite_copy

if TYPE_CHECKING:
    import sqlite3

    import redis


def snapshot(url: str) -> dict[str, Any]:
    """Return everything that a store holds: two snapshots are equal exactly when nothing but engine numbers differs.

    A file that does not exist gives ``{}``; so does a server or Lite file without graphs and keys.
    """
    if url.startswith("sqlite:"):
        if not path_of(url).exists():
            return {}
        with sqlite_copy(path_of(url)) as connection:
            return _snapshot_sqlite(connection)
    with graph_of(url) as graph:
        if isinstance(graph, BoltGraph):
            return {f"graph {graph.name}": _snapshot_graph(graph)}
        return _snapshot_server(graph.client)


def _typed(value: Any) -> Any:
    if isinstance(value, float):
        return ("float", struct.pack(">d", value).hex())
    if isinstance(value, list):
        return ("list", *map(_typed, value))
    if isinstance(value, dict):
        return ("map", *sorted((key, _typed(item)) for key, item in value.items()))
    if isinstance(value, Native):
        return ("native", value.sort, value.value)
    return (type(value).__name__, value)


def _snapshot_sqlite(connection: sqlite3.Connection) -> dict[str, Any]:
    schema = sorted(connection.execute("SELECT type, name, tbl_name, coalesce(sql, '') FROM sqlite_master").fetchall())
    found: dict[str, Any] = {"schema": schema}
    for pragma in ("user_version", "application_id", "encoding", "journal_mode", "auto_vacuum", "page_size"):
        found[f"pragma {pragma}"] = connection.execute(f"PRAGMA {pragma}").fetchone()[0]
    for sort, name, _, sql in schema:
        if sort != b"table" or sql.upper().startswith(b"CREATE VIRTUAL"):
            continue
        table = name.decode()
        columns = [row[1].decode() for row in connection.execute(f'PRAGMA table_info("{table}")')]
        # TEXT and BLOB both come as bytes here, so their storage class stands beside them.
        wanted = ", ".join(f'typeof("{column}"), "{column}"' for column in columns)
        rows = connection.execute(f'SELECT {wanted} FROM "{table}"').fetchall()
        found[f"table {table}"] = Counter(tuple(map(_typed, row)) for row in rows)
    return found


def _snapshot_server(client: redis.Redis) -> dict[str, Any]:
    names = command_of(client, "GRAPH.LIST")
    found: dict[str, Any] = {f"graph {name.decode()}": _snapshot_graph(Graph(client, name.decode())) for name in names}
    for key in command_of(client, "KEYS", "*"):
        # The engine's own log of slow queries comes and goes with the machine's load.
        if key not in names and not key.startswith(b"telemetry{"):
            found[f"key {key!r}"] = command_of(client, "DUMP", key)
    return found


def _snapshot_graph(graph: Graph | BoltGraph) -> dict[str, Any]:
    nodes = {node.number: (tuple(sorted(node.labels)), _typed(node.properties)) for node in graph.nodes()}
    edges = Counter((e.type, nodes[e.start], nodes[e.end], _typed(e.properties)) for e in graph.edges())
    return {
        "nodes": Counter(nodes.values()),
        "edges": edges,
        "indexes": sorted(repr(row) for row in graph.indexes()),
        "constraints": sorted(repr(row) for row in graph.constraints()),
    }

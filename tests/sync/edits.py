"""What a client does to a store between two nights, by plain drivers."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

from tests.checker.rawstore import path_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.integration.stores_of_all_kinds import Place


def forget(place: Place, *memories: str) -> None:
    """Delete memories with all that hangs on them."""
    if place.kind.startswith("sqlite"):
        marks = ",".join("?" * len(memories))
        statements: Sequence[tuple[str, tuple[Any, ...]]] = (
            (f"DELETE FROM relationships WHERE from_id IN ({marks}) OR to_id IN ({marks})", memories + memories),
            (f"DELETE FROM {_table(place)} WHERE id IN ({marks})", memories),
        )
        _execute(place, statements)
        return
    with place.graph() as graph:
        graph.write("MATCH (m:Memory) WHERE m.id IN $ids DETACH DELETE m", ids=list(memories))


def disconnect(place: Place, *edges: str) -> None:
    """Delete relationships."""
    if place.kind.startswith("sqlite"):
        marks = ",".join("?" * len(edges))
        _execute(place, [(f"DELETE FROM relationships WHERE id IN ({marks})", edges)])
        return
    with place.graph() as graph:
        graph.write("MATCH ()-[r]->() WHERE r.id IN $ids DELETE r", ids=list(edges))


def retitle(place: Place, memory: str, title: str) -> None:
    """Change a memory's title; no time stamp says so."""
    if place.kind == "sqlite-0.12":
        sql = "UPDATE nodes SET properties = json_set(properties, '$.title', ?) WHERE id = ?"
        _execute(place, [(sql, (title, memory))])
    elif place.kind == "sqlite-0.13":
        _execute(place, [("UPDATE memories SET title = ? WHERE id = ?", (title, memory))])
    else:
        with place.graph() as graph:
            graph.write("MATCH (m:Memory {id: $id}) SET m.title = $title", id=memory, title=title)


def without_label(place: Place, memory: str) -> None:
    """Give a memory another label: it is no memory any more, and what hangs on it is out of scope."""
    if place.kind == "sqlite-0.12":
        _execute(place, [("UPDATE nodes SET label = 'Archived' WHERE id = ?", (memory,))])
    else:
        with place.graph() as graph:
            graph.write("MATCH (m:Memory {id: $id}) REMOVE m:Memory SET m:Archived", id=memory)


def _table(place: Place) -> str:
    return "nodes" if place.kind == "sqlite-0.12" else "memories"


def _execute(place: Place, statements: Sequence[tuple[str, tuple[Any, ...]]]) -> None:
    with closing(sqlite3.connect(path_of(place.url))) as connection, connection:
        for sql, values in statements:
            assert connection.execute(sql, values).rowcount >= 0

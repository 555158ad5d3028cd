"""Raw access to Neo4j and Memgraph with the plain driver; the same calls as for FalkorDB's graphs."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import neo4j
import neo4j.spatial
import neo4j.time

from tests.checker.graphserver import Native, RawEdge, RawNode

if TYPE_CHECKING:
    from collections.abc import Iterator

SCHEMES = ("neo4j", "bolt", "memgraph")


class BoltGraph:
    """One database of a server. Every call is one auto-commit query, sent once, its result read to the end."""

    def __init__(self, driver: neo4j.Driver, name: str, *, memgraph: bool = False) -> None:
        self.driver = driver
        self.name = name
        self.memgraph = memgraph

    def write(self, query: str, **parameters: Any) -> list[list[Any]]:
        """Run any query and return its rows."""
        with self.driver.session(database=self.name) as session:
            return [[_value(cell) for cell in row] for row in session.run(query, parameters)]

    read = write

    def exists(self) -> bool:
        """Tell whether the database is there, as it is in a server that lets us in."""
        return True

    def nodes(self) -> list[RawNode]:
        """Return every node. Raises AssertionError where rows and the engine's count differ."""
        rows = self.read("MATCH (n) RETURN id(n), labels(n), properties(n)")
        assert len(rows) == self.read("MATCH (n) RETURN count(n)")[0][0], "a result was truncated"
        return [RawNode(row[0], tuple(row[1]), row[2]) for row in rows]

    def edges(self) -> list[RawEdge]:
        """Return every edge. Raises AssertionError where rows and the engine's count differ."""
        rows = self.read("MATCH (a)-[x]->(b) RETURN id(x), type(x), id(a), id(b), properties(x)")
        assert len(rows) == self.read("MATCH ()-[x]->() RETURN count(x)")[0][0], "a result was truncated"
        return [RawEdge(*row) for row in rows]

    def indexes(self) -> list[list[Any]]:
        """Return what is known of every index, its name included, but for how full it is."""
        if self.memgraph:
            # The last column counts entries.
            return [row[:-1] for row in self.read("SHOW INDEX INFO")]
        columns = "name, type, entityType, labelsOrTypes, properties, owningConstraint, indexProvider, options"
        return self.read(f"SHOW INDEXES YIELD {columns}")

    def constraints(self) -> list[list[Any]]:
        """Return what is known of every constraint, its name included."""
        if self.memgraph:
            return self.read("SHOW CONSTRAINT INFO")
        columns = "name, type, entityType, labelsOrTypes, properties, ownedIndex, propertyType"
        return self.read(f"SHOW CONSTRAINTS YIELD {columns}")

    def ready_for_edges(self) -> None:
        """Do nothing: the small graphs that tests write are searched fast enough."""


def _value(cell: Any) -> Any:
    if isinstance(cell, list):
        return [_value(item) for item in cell]
    if isinstance(cell, dict):
        return {key: _value(item) for key, item in cell.items()}
    if isinstance(cell, bytearray):
        return bytes(cell)
    if isinstance(cell, neo4j.time.DateTime):
        text = _short(cell.iso_format())
        if cell.tzinfo is None:
            return Native("LocalDateTime", text)
        # The driver takes an offset of nothing for the zone UTC.
        zone = getattr(cell.tzinfo, "zone", None) or "UTC"
        return Native("DateTime" if zone == "UTC" else f"DateTime {zone}", text)
    if isinstance(cell, neo4j.time.Date):
        return Native("Date", cell.iso_format())
    if isinstance(cell, neo4j.time.Time):
        return Native("LocalTime" if cell.tzinfo is None else "Time", _short(cell.iso_format()))
    if isinstance(cell, neo4j.time.Duration):
        return Native("Duration", (cell.months, cell.days, cell.seconds, cell.nanoseconds))
    if isinstance(cell, neo4j.spatial.Point):
        return Native("Point", (cell.srid, *cell))
    return cell


def _short(text: str) -> str:
    """Leave out the last digits of a fraction where they are zero: none, six or nine stay."""
    whole, dot, rest = text.partition(".")
    if not dot:
        return text
    digits, zone = rest[:9], rest[9:]
    assert len(digits) == 9, text
    assert digits.isdecimal(), text
    kept = "" if digits == "0" * 9 else digits[:6] if digits.endswith("000") else digits
    return whole + (f".{kept}" if kept else "") + zone


@contextmanager
def bolt_graph(url: str) -> Iterator[BoltGraph]:
    """Open ``neo4j://``, ``bolt://`` or ``memgraph://``, with ``user:password@`` where the server wants one."""
    parts = urlsplit(url)
    memgraph = parts.scheme == "memgraph"
    sign_in = (unquote(parts.username), unquote(parts.password or "")) if parts.username else None
    driver = neo4j.GraphDatabase.driver(
        f"bolt://{parts.hostname}:{parts.port or 7687}",
        auth=sign_in,
        max_transaction_retry_time=0,
        # Neo4j 5 says of each id() that it is deprecated; Memgraph has no other.
        notifications_min_severity=None if memgraph else neo4j.NotificationMinimumSeverity.OFF,
    )
    with driver:
        yield BoltGraph(driver, parts.path.strip("/") or ("memgraph" if memgraph else "neo4j"), memgraph=memgraph)

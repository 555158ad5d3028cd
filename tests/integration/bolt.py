"""What the Neo4j tests share: a backend over a live server, and batches with their markers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from migrator.backends.base import Batch, Marker, Row, WriteOutcome
from migrator.backends.neo4j import Neo4jBackend
from migrator.model import Memory, Relationship
from migrator.models import BackendConfig, BackendType
from tests.contract.holder import sorted_deep

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from migrator.backends.base import Access, Operation, Raw
    from migrator.model import Corrupt, Kind, Record
    from migrator.models import Role
    from tests.neo4j_server import Neo4jServer

START = Marker(journal="j", run="r", epoch=1, batch=0, digest="", owner="test host")


def config(server: Neo4jServer, **more: Any) -> BackendConfig:
    facts: dict[str, Any] = {"host": "127.0.0.1", "port": server.port, "user": server.user, "password": server.password}
    return BackendConfig(backend=BackendType.NEO4J, **(facts | more))


def memory(name: str, /, *labels: str, **properties: Any) -> Memory:
    return Memory(name, labels or ("Memory",), properties)


def edge(name: str, start: str, end: str, shape: str = "SOLVES", /, **properties: Any) -> Relationship:
    return Relationship(name, shape, start, end, properties)


@dataclass(slots=True)
class Opened:
    """Makes backends over a server and closes them in the end."""

    server: Neo4jServer
    made: list[Neo4jBackend]

    def __call__(self, role: Role = "to", access: Access | None = None, **more: Any) -> Neo4jBackend:
        backend = Neo4jBackend(config(self.server, **more), role=role)
        self.made.append(backend)
        backend.open(access or ("read" if role == "from" else "write"))
        return backend

    def target(self, **more: Any) -> Target:
        """Return a target with its schema and our marker."""
        backend = self(**more)
        backend.apply_schema(backend.missing_schema())
        assert backend.swap_marker(None, START)
        return Target(backend)


def opened_on(server: Neo4jServer) -> Iterator[Opened]:
    """Yield what opens backends; close them afterwards."""
    found = Opened(server, [])
    yield found
    for backend in found.made:
        backend.close()


@dataclass(slots=True)
class Target:
    """A store with a marker, and writes that go on from it."""

    backend: Neo4jBackend
    marker: Marker = START

    def batch(self, kind: Kind, operation: Operation, rows: Iterable[Row]) -> Batch:
        rows = list(rows)
        raw = rows[0].expected if operation == "delete" else rows[0].new
        assert raw is not None
        number = self.marker.batch + 1
        shape = self.backend.form.shape(kind, raw)
        return Batch(number=number, digest=f"digest {number}", kind=kind, operation=operation, shape=shape, rows=rows)

    def send(self, kind: Kind, operation: Operation, rows: Iterable[Row]) -> WriteOutcome:
        batch = self.batch(kind, operation, rows)
        outcome = self.backend.write(batch, self.marker)
        if outcome is WriteOutcome.APPLIED:
            self.marker = replace(self.marker, batch=batch.number, digest=batch.digest)
        assert self.backend.markers() == [self.marker]
        return outcome

    def create(self, *records: Record) -> WriteOutcome:
        kind: Kind = "memory" if isinstance(records[0], Memory) else "relationship"
        encode = self.backend.form.encode
        return self.send(kind, "create", [Row(record.id, None, encode(record)) for record in records])

    def raw(self, kind: Kind, name: str) -> Raw:
        return self.backend.lookup(kind, {name: None})[name]

    def update(self, kind: Kind, name: str, **changes: Any) -> WriteOutcome:
        """Change properties of what stands there now; None takes one away."""
        before = self.raw(kind, name)
        properties = {key: value for key, value in (before["properties"] | changes).items() if value is not None}
        return self.send(kind, "update", [Row(name, before, {**before, "properties": properties})])

    def delete(self, kind: Kind, *names: str) -> WriteOutcome:
        return self.send(kind, "delete", [Row(name, self.raw(kind, name), None) for name in names])


def scanned(backend: Neo4jBackend, kind: Kind, size: int = 1000) -> list[Record | Corrupt]:
    return [record for page in backend.scan(kind, size) for record in page]


def contents(server: Neo4jServer) -> tuple[Any, ...]:
    """Return everything but our marker, as a foreign program reads it; reprs, so that 1 is not 1.0.

    Neo4j gives the properties of a record in any order, and in another one after any write to it.
    """
    nodes = server.run("MATCH (n) WHERE NOT n:_Memmig RETURN labels(n), properties(n) ORDER BY elementId(n)")
    edges = server.run("MATCH (a)-[r]->(b) RETURN type(r), a.id, b.id, properties(r) ORDER BY elementId(r)")
    schema = server.run("SHOW INDEXES YIELD name, type, labelsOrTypes, properties RETURN *")
    return repr(sorted_deep(nodes)), repr(sorted_deep(edges)), repr(schema)

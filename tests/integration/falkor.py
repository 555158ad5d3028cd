"""What the FalkorDB tests share: a backend over a live server, and batches with their markers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from migrator.backends.base import Batch, Marker, Row, WriteOutcome
from migrator.backends.falkordb import FalkorDBBackend
from migrator.model import Memory, Relationship
from migrator.models import BackendConfig, BackendType

if TYPE_CHECKING:
    from collections.abc import Iterable

    from migrator.backends._falkor import FalkorStore
    from migrator.backends.base import Operation, Raw
    from migrator.model import Corrupt, Kind, Record
    from migrator.models import Role
    from tests.engines import FalkorServer

START = Marker(journal="j", run="r", epoch=1, batch=0, digest="", owner="test host")


def config(server: FalkorServer, **more: Any) -> BackendConfig:
    return BackendConfig(backend=BackendType.FALKORDB, host="127.0.0.1", port=server.port, **more)


def opened(server: FalkorServer, role: Role = "to", **more: Any) -> FalkorDBBackend:
    backend = FalkorDBBackend(config(server, **more), role=role)
    backend.open("read" if role == "from" else "write")
    return backend


def memory(name: str, **properties: Any) -> Memory:
    return Memory(name, ("Memory",), properties)


def edge(name: str, start: str, end: str, shape: str = "SOLVES", **properties: Any) -> Relationship:
    return Relationship(name, shape, start, end, properties)


@dataclass(slots=True)
class Target:
    """A store with a marker, and writes that go on from it."""

    backend: FalkorStore
    marker: Marker = START

    def claim(self) -> Target:
        self.backend.apply_schema(self.backend.missing_schema())
        assert self.backend.swap_marker(None, self.marker)
        return self

    def send(self, kind: Kind, operation: Operation, rows: Iterable[Row], shape: str = "") -> WriteOutcome:
        rows = list(rows)
        raw = rows[0].expected if operation == "delete" else rows[0].new
        assert raw is not None
        number = self.marker.batch + 1
        batch = Batch(
            number=number,
            digest=f"digest {number}",
            kind=kind,
            operation=operation,
            shape=shape or self.backend.form.shape(kind, raw),
            rows=rows,
        )
        outcome = self.backend.write(batch, self.marker)
        if outcome is WriteOutcome.APPLIED:
            self.marker = replace(self.marker, batch=number, digest=batch.digest)
        assert self.backend.markers() == [self.marker]
        return outcome

    def create(self, *records: Record) -> WriteOutcome:
        kind: Kind = "memory" if isinstance(records[0], Memory) else "relationship"
        return self.send(kind, "create", [Row(record.id, None, self.encoded(record)) for record in records])

    def encoded(self, record: Record) -> Raw:
        return self.backend.form.encode(record)


def scanned(backend: FalkorStore, kind: Kind, size: int = 1000) -> list[Record | Corrupt]:
    return [record for page in backend.scan(kind, size) for record in page]

"""What the contract suite runs over: a place where a store can be, and a target that is held there by a marker."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from migrator.backends.base import Batch, Marker, Row, WriteOutcome
from migrator.backends.registry import open_backend
from migrator.model import KINDS, Corrupt, digest, kind_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from migrator.backends.base import Backend, Operation, Raw
    from migrator.model import Kind, Record
    from migrator.models import BackendConfig, Role

MARKER = Marker(journal="journal-1", run="run-1", epoch=1, batch=0, digest="", owner="host /path/journal.db")


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a store is or will be; nothing is there at first."""

    name: str
    config: BackendConfig
    shared: bool  #: two backends may be open on it at once
    always: bool = False  #: it exists, empty, before anybody made it
    folder: Path | None = None  #: of a store in files
    opened: list[Backend] = field(default_factory=list)  #: to be closed in the end, also where a test fails

    def backend(self, role: Role = "to") -> Backend:
        """Return a new backend, not yet opened."""
        self.opened.append(open_backend(self.config, role=role))
        return self.opened[-1]


@dataclass(slots=True)
class Holder:
    """A target with its schema, open for writing, and the marker that we hold there."""

    place: Place
    backend: Backend
    marker: Marker = MARKER
    number: int = 0
    steps: list[Any] = field(default_factory=list)

    def batch(self, operation: Operation, rows: Sequence[Row], kind: Kind, shape: str) -> Batch:
        """Return the next batch; numbers are never used twice."""
        self.number += 1
        return Batch(
            number=self.number, digest=f"plan-{self.number}", kind=kind, operation=operation, shape=shape, rows=rows
        )

    def send(self, batch: Batch) -> WriteOutcome:
        """Write under the marker that we hold; follow it where it moved."""
        outcome = self.backend.write(batch, self.marker)
        if outcome is WriteOutcome.APPLIED:
            self.marker = replace(self.marker, batch=batch.number, digest=batch.digest)
        return outcome

    def create_batch(self, records: Sequence[Record]) -> Batch:
        """Return a batch that creates records of one shape."""
        raws = [self.backend.form.encode(record) for record in records]
        kind = kind_of(records[0])
        rows = [Row(id=record.id, expected=None, new=raw) for record, raw in zip(records, raws, strict=True)]
        return self.batch("create", rows, kind, self.backend.form.shape(kind, raws[0]))

    def create(self, *records: Record) -> None:
        """Create records, in one batch per shape."""
        groups: dict[tuple[Kind, str], list[Record]] = {}
        for record in records:
            kind = kind_of(record)
            shape = self.backend.form.shape(kind, self.backend.form.encode(record))
            groups.setdefault((kind, shape), []).append(record)
        for key in sorted(groups):
            assert self.send(self.create_batch(groups[key])) is WriteOutcome.APPLIED

    def raw(self, kind: Kind, identity: str) -> Raw:
        """Return the stored form of a record that is there."""
        return self.backend.lookup(kind, {identity: None})[identity]

    def change(self, old: Record, new: Record, *, operation: Operation = "update") -> Batch:
        """Return a batch that makes one stored record another."""
        form = self.backend.form
        kind = kind_of(old)
        raw = form.encode(new)
        rows = [Row(id=old.id, expected=self.raw(kind, old.id), new=raw)]
        return self.batch(operation, rows, kind, form.shape(kind, raw))

    def delete_batch(self, kind: Kind, identities: Iterable[str]) -> Batch:
        """Return a batch that deletes records that are there."""
        rows = [Row(id=identity, expected=self.raw(kind, identity), new=None) for identity in identities]
        shape = self.backend.form.shape(kind, rows[0].expected or {})
        return self.batch("delete", rows, kind, shape)

    def contents(self) -> dict[str, Any]:
        """Return everything that is there: stored forms by kind and id, and the markers."""
        found: dict[str, Any] = {}
        for kind in KINDS:
            here = self.scanned(kind)
            hints = {record.id: None for record in here}
            found[kind] = {name: repr(sorted_deep(raw)) for name, raw in self.backend.lookup(kind, hints).items()}
            assert found[kind].keys() == hints.keys()
        return found | {"markers": self.backend.markers()}

    def scanned(self, kind: Kind, size: int = 100) -> list[Record]:
        """Return what a scan yields, in a snapshot of its own."""
        self.backend.release_snapshot()
        found = [record for page in self.backend.scan(kind, size) for record in page]
        self.backend.release_snapshot()
        assert not [record for record in found if isinstance(record, Corrupt)]
        return [record for record in found if not isinstance(record, Corrupt)]

    def digests(self, kind: Kind) -> dict[str, str]:
        """Return the digest of every record that a scan yields."""
        return {record.id: digest(record) for record in self.scanned(kind)}

    def close(self) -> None:
        """Close the backend."""
        self.backend.close()


def sorted_deep(value: Any) -> Any:
    """Return a value whose maps are ordered by key, so that its repr compares to the last bit."""
    if isinstance(value, dict):
        return {key: sorted_deep(value[key]) for key in sorted(value)}
    return [sorted_deep(item) for item in value] if isinstance(value, list) else value


def hold(place: Place) -> Holder:
    """Open a new target, make its schema, and claim it."""
    backend = place.backend()
    backend.open("write")
    steps = backend.apply_schema(backend.missing_schema())
    assert backend.swap_marker(None, MARKER)
    return Holder(place=place, backend=backend, steps=steps)

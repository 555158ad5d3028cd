"""A store in this process: for tests, for trying the library out, and as the contract's plainest reading.

Stores live in ``STORES`` under the name that ``BackendConfig.graph`` gives, so that two backends can share one.
"""

from __future__ import annotations

import uuid
from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from migrator.backends.base import (
    ATTACHED,
    Durability,
    Inventory,
    SchemaStep,
    StoreInfo,
    WriteOutcome,
    digested,
    digests_of,
)
from migrator.model import Memory, Relationship, canonical, property_of, same_value

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from migrator.backends.base import Access, Batch, Digested, Marker, Raw, Wanted
    from migrator.model import Corrupt, Kind, Problem, Record
    from migrator.models import BackendConfig, Role


def _new_identity() -> str:
    return uuid.uuid4().hex


@dataclass(slots=True)
class MemoryStore:
    """Nodes and edges by id, in order of creation; ``durable`` is what survives :meth:`restart`."""

    nodes: dict[str, Raw] = field(default_factory=dict)
    edges: dict[str, Raw] = field(default_factory=dict)
    markers: list[Marker] = field(default_factory=list)
    schema: dict[str, SchemaStep] = field(default_factory=dict)
    identity: str = field(default_factory=_new_identity)
    durable: tuple[dict[str, Raw], dict[str, Raw], list[Marker]] | None = None

    def held(self, kind: Kind) -> dict[str, Raw]:
        """Return the records of a kind."""
        return self.nodes if kind == "memory" else self.edges

    def save(self) -> None:
        """Make what is there durable."""
        self.durable = deepcopy((self.nodes, self.edges, self.markers))

    def restart(self) -> None:
        """Come back as a new server instance with what was durable only."""
        self.nodes, self.edges, self.markers = deepcopy(self.durable or ({}, {}, []))
        self.identity = _new_identity()

    def matches(self, kind: Kind, identity: str, expected: Raw | None) -> bool:
        """Return whether the stored form of an id is the expected one; None = absent."""
        return same_value(self.held(kind).get(identity), expected)

    def degree(self, memory: str) -> int:
        """Return how many edges hang on a memory."""
        return sum(memory in (edge["from"], edge["to"]) for edge in self.edges.values())


STORES: dict[str, MemoryStore] = {}


class PlainForm:
    """Labels or type and ends, and the canonical properties as they are."""

    def decode(self, kind: Kind, raw: Raw) -> Record | Corrupt:
        """See :class:`~migrator.backends.base.Form`."""
        properties = canonical(kind, raw["properties"])
        if kind == "memory":
            return Memory(raw["id"], tuple(sorted(raw["labels"])), properties)
        return Relationship(raw["id"], raw["type"], raw["from"], raw["to"], properties)

    def encode(self, record: Record) -> Raw:
        """See :class:`~migrator.backends.base.Form`."""
        if isinstance(record, Memory):
            return {"id": record.id, "labels": sorted(record.labels), "properties": dict(record.properties)}
        ends = {"type": record.type, "from": record.from_id, "to": record.to_id}
        return {"id": record.id, **ends, "properties": dict(record.properties)}

    def graft(self, kind: Kind, onto: Raw, source: Raw, fields: Sequence[str]) -> Raw:  # noqa: ARG002 - Form's signature
        """See :class:`~migrator.backends.base.Form`."""
        grafted = {**onto, "properties": dict(onto["properties"])}
        for name in fields:
            key = property_of(name)
            if key is None:
                grafted[name[1:]] = source[name[1:]]
            elif key in source["properties"]:
                grafted["properties"][key] = source["properties"][key]
            else:
                grafted["properties"].pop(key, None)
        return grafted

    def problems(self, record: Record) -> Sequence[Problem]:  # noqa: ARG002 - Form's signature
        """Return nothing: this store holds everything."""
        return ()

    def readable(self, kind: Kind, raw: Raw) -> bool:  # noqa: ARG002 - Form's signature
        """Return True: this store has no other client."""
        return True

    def shape(self, kind: Kind, raw: Raw) -> str:
        """See :class:`~migrator.backends.base.Form`."""
        return ":".join(raw["labels"]) if kind == "memory" else raw["type"]


class MemoryBackend:
    """:class:`~migrator.backends.base.Backend` over a :class:`MemoryStore`."""

    batch_size = 1_000
    batch_bytes = 0
    overlaps = True
    snapshots = True

    def __init__(self, config: BackendConfig, *, role: Role) -> None:  # noqa: ARG002 - every backend's signature
        self.form = PlainForm()
        self._config = config
        self._name = config.graph or "default"
        self._snapshot: MemoryStore | None = None

    @property
    def store(self) -> MemoryStore:
        """The shared store."""
        return STORES.setdefault(self._name, MemoryStore())

    def open(self, access: Access) -> StoreInfo:  # noqa: ARG002 - Backend's signature
        """See :class:`~migrator.backends.base.Backend`."""
        return StoreInfo(kind="memory", place=self._name, version="in-memory", exists=bool(self.store.schema))

    def identity(self) -> str:
        """See :class:`~migrator.backends.base.Backend`."""
        return self.store.identity

    def _in_scope(self, kind: Kind, raw: Raw) -> bool:
        if self._config.all_labels:
            return True
        if kind == "memory":
            return self._config.label in raw["labels"]
        nodes = self._read().nodes
        ends = (nodes.get(raw["from"]), nodes.get(raw["to"]))
        return all(end is None or self._config.label in end["labels"] for end in ends)

    def _read(self) -> MemoryStore:
        return self._snapshot or self.store

    def inventory(self) -> Inventory:
        """See :class:`~migrator.backends.base.Backend`."""
        self._take_snapshot()
        store = self._read()
        counts = {kind: sum(self._in_scope(kind, raw) for raw in store.held(kind).values()) for kind in _KINDS}
        others: dict[str, int] = {}
        for raw in store.nodes.values():
            if not self._in_scope("memory", raw):
                name = ":".join(raw["labels"])
                others[name] = others.get(name, 0) + 1
        return Inventory(
            memories=counts["memory"],
            relationships=counts["relationship"],
            other_nodes=others,
            other_relationships=len(store.edges) - counts["relationship"],
        )

    def _take_snapshot(self) -> None:
        if self._snapshot is None:
            self._snapshot = deepcopy(self.store)

    def scan(self, kind: Kind, size: int) -> Iterator[list[Record | Corrupt]]:
        """See :class:`~migrator.backends.base.Backend`."""
        self._take_snapshot()
        rows = [raw for raw in self._read().held(kind).values() if self._in_scope(kind, raw)]
        for start in range(0, len(rows), size):
            yield [self.form.decode(kind, raw) for raw in rows[start : start + size]]

    def scan_digests(self, kind: Kind, size: int) -> Iterator[list[Digested]]:
        """See :class:`~migrator.backends.base.Backend`."""
        return map(digested, self.scan(kind, size))

    def read_ahead(self, *, digests: bool) -> None:
        """Do nothing."""

    def narrow(self, wanted: Wanted | None) -> None:
        """Do nothing: the run itself leaves out what is not wanted."""

    def release_snapshot(self) -> None:
        """See :class:`~migrator.backends.base.Backend`."""
        self._snapshot = None

    def lookup(self, kind: Kind, wanted: Mapping[str, Relationship | None]) -> dict[str, Raw]:
        """See :class:`~migrator.backends.base.Backend`."""
        held = self.store.held(kind)
        return {identity: deepcopy(held[identity]) for identity in wanted if identity in held}

    def lookup_digests(self, kind: Kind, wanted: Mapping[str, Relationship | None]) -> dict[str, str]:
        """See :class:`~migrator.backends.base.Backend`."""
        return digests_of(self.form, kind, self.lookup(kind, wanted))

    def attached(self, memory_ids: Sequence[str], shown: int = ATTACHED) -> dict[str, list[str]]:
        """See :class:`~migrator.backends.base.Backend`."""
        found: dict[str, list[str]] = {}
        wanted = set(memory_ids)
        for identity, edge in self.store.edges.items():
            for end in {edge["from"], edge["to"]} & wanted:
                found.setdefault(end, []).append(identity)
        return {end: edges[:shown] for end, edges in found.items()}

    def markers(self) -> list[Marker]:
        """See :class:`~migrator.backends.base.Backend`."""
        return list(self.store.markers)

    def swap_marker(self, expected: Marker | None, new: Marker | None) -> bool:
        """See :class:`~migrator.backends.base.Backend`."""
        if expected is not None and new is None and expected in self.store.markers:
            self.store.markers.remove(expected)
            return True
        if self.store.markers != ([] if expected is None else [expected]):
            return False
        self.store.markers = [] if new is None else [new]
        return True

    def write(self, batch: Batch, expected: Marker) -> WriteOutcome:
        """See :class:`~migrator.backends.base.Backend`."""
        store = self.store
        if store.markers != [expected]:
            return WriteOutcome.MARKER_REFUSED
        held = store.held(batch.kind)
        if len({row.id for row in batch.rows}) != len(batch.rows) or not all(
            store.matches(batch.kind, row.id, row.expected) and self._allowed(batch, row.new, row.id)
            for row in batch.rows
        ):
            return WriteOutcome.ROWS_REFUSED
        for row in batch.rows:
            if row.new is None:
                del held[row.id]
            else:
                held[row.id] = deepcopy(row.new)
        store.markers = [replace(expected, batch=batch.number, digest=batch.digest)]
        return WriteOutcome.APPLIED

    def _allowed(self, batch: Batch, new: Raw | None, identity: str) -> bool:
        if batch.kind == "memory":
            return new is not None or not self.store.degree(identity)
        return new is None or {new["from"], new["to"]} <= self.store.nodes.keys()

    def echo(self, kind: Kind, raw: Raw, marker: Marker) -> Raw | None:  # noqa: ARG002 - Backend's signature
        """See :class:`~migrator.backends.base.Backend`."""
        return deepcopy(raw) if self.store.markers == [marker] else None

    def barrier(self) -> Durability:
        """See :class:`~migrator.backends.base.Backend`."""
        self.store.save()
        return Durability(durable=True, evidence={"how": "saved in this process"})

    def missing_schema(self) -> list[SchemaStep]:
        """See :class:`~migrator.backends.base.Backend`."""
        steps = [SchemaStep(name="memory_id", kind="index", create="", drop="")]
        steps.append(SchemaStep(name="memory_type", kind="index", create="", drop="", after_load=True))
        return [step for step in steps if step.name not in self.store.schema]

    def apply_schema(self, steps: Sequence[SchemaStep]) -> list[SchemaStep]:
        """See :class:`~migrator.backends.base.Backend`."""
        made = [step for step in steps if step.name not in self.store.schema]
        self.store.schema.update({step.name: step for step in made})
        return made

    def drop_schema(self, steps: Sequence[SchemaStep]) -> None:
        """See :class:`~migrator.backends.base.Backend`."""
        for step in steps:
            self.store.schema.pop(step.name, None)

    def close(self) -> None:
        """See :class:`~migrator.backends.base.Backend`."""
        self._snapshot = None


_KINDS: tuple[Kind, Kind] = ("memory", "relationship")

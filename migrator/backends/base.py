"""What a store must be able to do: one Protocol for its I/O, one for its stored form (pure).

Retry, fault injection and timing are wrappers around :class:`Backend`; a backend never retries. Its errors are those of
``migrator.errors``: ``StoreUnreachable`` (20), ``StoreRefused`` (21), ``TargetFull`` (33, nothing of the request stays,
unless a file's commit failed at its end: the run ends, and its resume looks) and ``OutcomeUnknown`` (the request was
sent, no answer came). Driver exceptions never leave a backend.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

from migrator.model import Corrupt, Relationship, digest

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
    from datetime import datetime

    from migrator.model import Kind, Problem, Record, Value

#: A stored form, typed so that it can be put back to the last byte: SQLite a row's columns, Cypher stores labels and
#: properties, or type, ends and properties. Opaque to the core, which only compares it, journals it and hands it back.
#: Values: None, str, int, float, bool, bytes, list, dict.
type Raw = dict[str, Value]

Access = Literal["read", "dry", "write"]
Operation = Literal["create", "update", "replace", "delete"]

#: How many edges at a memory a store tells of unless it is asked for more.
ATTACHED = 100

#: Reason of a problem that no store's client lives with: it does not find a memory whose tags are, say, text.
HIDDEN_BY_TAGS = "tags must be a list, or memorygraph does not find the memory"


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreInfo:
    """What ``open`` found."""

    kind: str  #: backend name, e.g. "sqlite"
    place: str  #: canonical place without secrets: resolved path; host:port/graph. Kind + place name the store.
    version: str  #: engine version for people, e.g. "SQLite 3.40.1"
    layout: str = ""  #: "0.12" or "0.13" for SQLite, else ""
    lasting_identity: str = ""  #: the store's own identity where it has one that survives restarts (Neo4j databaseID)
    exists: bool = True  #: False for a target that the run will make
    durability: str = ""  #: for people: how an acknowledged batch survives the loss of the server or of power
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Inventory:
    """The store's own counts, in the same snapshot as the scan where the engine has snapshots."""

    memories: int  #: nodes that ``scan("memory")`` yields, corrupt ones included
    relationships: int  #: edges that ``scan("relationship")`` yields, corrupt ones included
    other_nodes: Mapping[str, int] = field(default_factory=dict)  #: label → count of nodes left out of the scope
    other_relationships: int = 0  #: edges left out because an end is out of the scope
    duplicates: Mapping[Kind, tuple[str, ...]] = field(default_factory=dict)  #: up to 10 ids that stand more than once


@dataclass(frozen=True, slots=True, kw_only=True)
class Marker:
    """The one foreign thing in a target: what of this journal's run has been applied (docs/explanation/protocol.md)."""

    journal: str  #: the journal's UUID
    run: str  #: the run's UUID
    epoch: int
    batch: int  #: number of the last landed plan; 0 before the first
    digest: str  #: digest of that plan; "" before the first
    owner: str  #: who holds it, for people: host and journal path


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which records of a scan are wanted: those of these ids, and those that ``Interval.includes`` since an instant.

    A record whose times are not all surely earlier is wanted (migrator/watermark.py); so is an edge without id.
    """

    since: datetime
    memories: Collection[str]
    relationships: Collection[str]

    def ids(self, kind: Kind) -> Collection[str]:
        """Return the ids of a kind."""
        return self.memories if kind == "memory" else self.relationships


class Row(NamedTuple):
    """One compare-and-set: what must stand there now, and what stands there after. None = absent."""

    id: str
    expected: Raw | None
    new: Raw | None


class Digested(NamedTuple):
    """A record of a source as a verification needs it."""

    id: str
    digest: str
    hint: Relationship | None  #: for ``lookup``: an edge's type and ends are right, its properties may be left out
    record: Record | None  #: None: ``lookup`` has it


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Rows of one operation on one label set or one edge type (I8)."""

    number: int
    digest: str
    kind: Kind
    operation: Operation  #: "replace" = an edge whose type or ends change: delete and create in one atomic unit
    shape: str  #: edge type (of ``new``, for "replace"), or labels joined by ":"; for "delete" that of ``expected``
    rows: Sequence[Row]


class WriteOutcome(Enum):
    """What a guarded write did. In the two refusals nothing was written and the marker did not move."""

    APPLIED = "applied"
    ROWS_REFUSED = "rows-refused"  #: some row's guard does not hold: someone else wrote; read again, plan anew
    MARKER_REFUSED = "marker-refused"  #: the marker is not the expected one, gone, or more than one: fenced


@dataclass(frozen=True, slots=True, kw_only=True)
class Durability:
    """Outcome of a durability barrier."""

    durable: bool
    evidence: Mapping[str, Value]  #: how it was had, or why not ("reason"), for the journal and for people


@dataclass(frozen=True, slots=True, kw_only=True)
class SchemaStep:
    """One thing to create: a file, table, index or constraint. ``name`` is unique within a store."""

    name: str
    kind: str  #: "file", "table", "index", …
    create: str  #: the statement, or "" for a file
    drop: str
    after_load: bool = False  #: made when the records are in: an index on random ids slows every batch down


class Form(Protocol):
    """Between the stored form and the canonical one. Pure."""

    def decode(self, kind: Kind, raw: Raw) -> Record | Corrupt:
        """Return the canonical record of a stored form."""

    def encode(self, record: Record) -> Raw:
        """Return the stored form of a record for which :meth:`problems` is empty.

        ``decode(encode(r))`` has the digest of ``r``; equal records give equal stored forms (no clock, no chance).
        """

    def graft(self, kind: Kind, onto: Raw, source: Raw, fields: Sequence[str]) -> Raw:
        """Return ``onto`` with the named canonical properties as they stand in ``source`` (absent there = removed).

        Everything else of ``onto`` keeps its bytes. ``:labels``, ``:type``, ``:from``, ``:to`` may be among the fields.
        """

    def problems(self, record: Record) -> Sequence[Problem]:
        """Name everything that this store cannot hold exactly. Never touches the store. Usually empty, so be fast."""

    def readable(self, kind: Kind, raw: Raw) -> bool:
        """Return whether the store's own client can read the stored form (``tags`` as text hides a memory from it)."""

    def shape(self, kind: Kind, raw: Raw) -> str:
        """Return the edge type, or the labels joined by ``:``."""


class Source(Protocol):
    """What a run needs of its source; the methods are those of :class:`Backend`."""

    @property
    def form(self) -> Form:
        """The source's."""

    @property
    def snapshots(self) -> bool:
        """See :class:`Backend`."""

    def inventory(self) -> Inventory:
        """See :class:`Backend`."""

    def scan(self, kind: Kind, size: int) -> Iterator[list[Record | Corrupt]]:
        """See :class:`Backend`."""

    def scan_digests(self, kind: Kind, size: int) -> Iterator[list[Digested]]:
        """See :class:`Backend`."""

    def release_snapshot(self) -> None:
        """See :class:`Backend`."""

    def lookup(self, kind: Kind, wanted: Mapping[str, Relationship | None]) -> dict[str, Raw]:
        """See :class:`Backend`."""


class Backend(Protocol):
    """A store. One instance serves one run in one thread; every method but ``close`` needs ``open`` first."""

    form: Form
    batch_size: int  #: records in a batch, unless the caller says how many
    batch_bytes: int  #: of texts in a batch, about; 0 = as many as there are
    #: Whether another thread may carry out a ``write`` beside which nothing but ``form`` is used, and several threads
    #: may call ``lookup_digests`` beside whatever the one that opened it does.
    overlaps: bool
    snapshots: bool  #: every scan until ``release_snapshot`` sees the same; the engine checks again if not

    def open(self, access: Access) -> StoreInfo:
        """Connect, probe, and tell what is there; may be called again after a lost connection.

        ``read`` leaves no trace: no file made or changed, no graph created. ``write`` takes the engine's own locks and
        makes sure that the store can be written (StoreRefused otherwise), but writes nothing and creates no file.
        ``dry`` leaves no trace either, and refuses what ``write`` would refuse as far as that can be told by looking.
        """

    def identity(self) -> str:
        """Return the identity of the running server instance: another one means that batches may have been lost.

        Redis: ``run_id``. A file has none beyond its place: a constant.
        """

    def inventory(self) -> Inventory:
        """Count, with the engine's own counting, never by reading what ``scan`` reads."""

    def scan(self, kind: Kind, size: int) -> Iterator[list[Record | Corrupt]]:
        """Yield every record of the scope in a stable order, up to about ``size`` at a time, in bounded memory.

        Edges whose ends are missing (dangling) are yielded like others; the marker never is. Floats are bit-exact.
        SQLite: one snapshot from the first call of ``inventory`` or ``scan`` until ``release_snapshot`` or ``close``.
        """

    def scan_digests(self, kind: Kind, size: int) -> Iterator[list[Digested]]:
        """Yield what :meth:`scan` does, without those that cannot be read, as digests of what stands in the store."""

    def read_ahead(self, *, digests: bool) -> None:
        """Hear that the whole store will be scanned, and whether for its digests, too; doing nothing is right.

        What ``scan`` yields stays the same. SQLite: a second process reads where the store is large.
        """

    def narrow(self, wanted: Wanted | None) -> None:
        """Hear that ``scan`` is asked for these records only from now on (None: for all); it may yield others, too.

        Doing nothing is right. SQLite: the rest is left out by the query, and no copy is made of what is read so fast.
        """

    def release_snapshot(self) -> None:
        """End the read snapshot, if any: the next read sees what is there now. Idempotent."""

    def lookup(self, kind: Kind, wanted: Mapping[str, Relationship | None]) -> dict[str, Raw]:
        """Return the stored forms of the wanted ids that are there, whatever their label, type or ends.

        The values of ``wanted`` say where an edge is expected (a hint that makes the look-up fast), or None.
        Reads what is committed now, not the scan's snapshot. Floats are bit-exact.
        """

    def lookup_digests(self, kind: Kind, wanted: Mapping[str, Relationship | None]) -> dict[str, str]:
        """Return the digests of what :meth:`lookup` finds, read from the store; what cannot be read is left out."""

    def attached(self, memory_ids: Sequence[str], shown: int = ATTACHED) -> dict[str, list[str]]:
        """Return for each memory that has edges the ids of up to ``shown`` of them ("" for edges without id)."""

    def markers(self) -> list[Marker]:
        """Return every marker in the target; more than one is a fault that the engine refuses."""

    def swap_marker(self, expected: Marker | None, new: Marker | None) -> bool:
        """Compare-and-set on the whole marker, one atomic unit, sent once: claim, raise, release and withdraw.

        ``expected`` None = no marker at all may be there; otherwise exactly one, equal in every field. Only a removal
        (``new`` None) may find others beside it: that is how a claim that met another one is withdrawn.
        Claiming makes what the marker needs (SQLite: table ``_memmig``), removing it removes that too.
        Returns False, with nothing changed, where the comparison fails.
        """

    def write(self, batch: Batch, expected: Marker) -> WriteOutcome:
        """Apply a batch and move the marker to the batch's number and digest, in one atomic unit, sent once (I4, I9).

        The unit first counts the rows whose guards hold: ``expected`` equals the stored form to the last byte
        (None: the id is absent); for an edge that is created both ends are there; for a memory that is deleted no
        edge hangs on it. It writes nothing unless all of them and exactly one marker, equal to ``expected``, hold.
        Existing records are changed key by key, never as a whole map (I6); nothing is ever deleted by DETACH.
        """

    def echo(self, kind: Kind, raw: Raw, marker: Marker) -> Raw | None:
        """Write a stored form to a scratch place beside the marker by the code of ``write``, read it back, remove it.

        None where the marker is not ours. For verification only: is a difference the engine's fault or another's?
        """

    def barrier(self) -> Durability:
        """Make everything acknowledged so far durable and say how. A server that denies it is an outcome, no error.

        An embedded store that cannot be saved ends the run, and a resume completes it: TargetFull (33), or
        StoreUnreachable (20) where its server gives no answer; nothing is undone, and the server is left running.
        """

    def missing_schema(self) -> list[SchemaStep]:
        """Return what the store's client expects and the store lacks, in the order of creation.

        The statements may differ from call to call; what a step makes is known by its ``name``.
        """

    def apply_schema(self, steps: Sequence[SchemaStep]) -> list[SchemaStep]:
        """Create the steps that are not there yet (repeatable); return those that were created by this call."""

    def drop_schema(self, steps: Sequence[SchemaStep]) -> None:
        """Drop, newest first, what ``apply_schema`` created; skips what is gone, and a table or file not empty."""

    def close(self) -> None:
        """Free everything. Idempotent; never raises."""


def digested(records: Iterable[Record | Corrupt]) -> list[Digested]:
    """Return a page of ``scan`` as one of ``scan_digests``."""
    return [
        Digested(one.id, digest(one), one if isinstance(one, Relationship) else None, one)
        for one in records
        if not isinstance(one, Corrupt)
    ]


def digests_of(form: Form, kind: Kind, raws: Mapping[str, Raw]) -> dict[str, str]:
    """Return {id: digest} of those stored forms that are records."""
    found = ((identity, form.decode(kind, raw)) for identity, raw in raws.items())
    return {identity: digest(record) for identity, record in found if not isinstance(record, Corrupt)}

"""What Neo4j and Memgraph have in common: all but how they are reached, probed, made durable and given a schema."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import asdict, replace
from functools import partial
from typing import TYPE_CHECKING

from migrator.backends._bolt_form import BoltForm
from migrator.backends._bolt_lookup import Finder, chunked
from migrator.backends._bolt_values import frozen, thawed
from migrator.backends._bolt_wire import Conflict, Wire, new_driver, speaks_otherwise
from migrator.backends._bolt_write import Fenced, Refused, Writer, move_marker
from migrator.backends._cypher_rows import marker_of
from migrator.backends._edge_ids import EdgeNames
from migrator.backends._reader import WORTH_IT, Reader, ReaderLostError
from migrator.backends.base import ATTACHED, Inventory, WriteOutcome, digested, digests_of
from migrator.errors import MemmigError, StoreRefused, StoreUnreachable
from migrator.model import Corrupt

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from migrator.backends._bolt_cypher import Statements
    from migrator.backends._bolt_wire import Transact
    from migrator.backends._cypher import Limits
    from migrator.backends.base import Access, Batch, Digested, Marker, Raw, StoreInfo, Wanted
    from migrator.model import Kind, Record, Relationship, Value
    from migrator.models import BackendConfig, Role

DEFAULT_PORT = 7687
_LOOPBACK = {"localhost", "127.0.0.1", "::1", ""}
_PAGE_BYTES = 8_000_000  #: of texts in one page of a scan, about


class BoltStore:
    """:class:`~migrator.backends.base.Backend` over one database; subclasses connect, probe and make durable."""

    kind = ""
    batch_size = 2_000
    batch_bytes = 8_000_000
    overlaps = True
    snapshots = False

    def __init__(self, config: BackendConfig, statements: Statements, limits: Limits, *, role: Role) -> None:
        self.form = BoltForm(config.label, config.id_property, limits)
        self._config = config
        self._role = role
        self._say = statements
        self._connected: Wire | None = None
        self._finder: Finder | None = None
        self._reader: Reader | None = None
        self._digests_ahead = True
        #: Whether the store itself keeps ids of the label unique.
        self._unique = False

    # --- for subclasses ---

    def open(self, access: Access) -> StoreInfo:
        """See :class:`~migrator.backends.base.Backend`."""
        raise NotImplementedError

    #: Whether ``_keeps_unique`` can be asked. Where it cannot, every create is guarded by a look at what is there.
    _asks_within = False

    def _keeps_unique(self, transaction: Transact) -> bool:
        """Tell whether the store keeps ids of the label unique until this transaction, which has made some, ends."""
        raise NotImplementedError

    @property
    def _wire(self) -> Wire:
        if self._connected is None:
            raise _not_open()
        return self._connected

    @property
    def _find(self) -> Finder:
        if self._finder is None:
            raise _not_open()
        return self._finder

    def _address(self) -> str:
        """Return host and port as a store is named by: one spelling for the loopback."""
        host = self._config.host.lower()
        host = "localhost" if host in _LOOPBACK else f"[{host}]" if ":" in host else host
        return f"{host}:{self._config.port or DEFAULT_PORT}"

    def _connect(self, access: Access, scheme: str, database: str | None, *, name: str) -> Wire:
        """Return a wire, not yet connected; ``name`` is the engine's, for people."""
        config = self._config
        host, port = config.host or "localhost", config.port or DEFAULT_PORT
        if "+" not in scheme and speaks_otherwise(host, port):
            message = f"what listens at {self._address()} does not speak Bolt"
            raise StoreRefused(message, hint="check host and port (Bolt's is 7687, Neo4j's browser has 7474)")
        uri = f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"
        wire = Wire(
            new_driver(uri, config.user, config.password),
            database=database,
            place=f"{name} at {self._address()}/{database or ''}",
            timeout=config.timeout,
            writes=access != "read",
        )
        self._connected = wire
        return wire

    def _check_writable(self, access: Access) -> None:
        """Raise StoreRefused where a node cannot be made; the one that is made to see that is rolled back."""
        if access == "read":
            return
        with self._wire.transaction() as transaction:
            transaction.run(self._say.try_to_write())

    def _use(self, *, indexed: bool, unique: bool) -> None:
        """Hear which of the label's ids the store finds by an index, and keeps unique."""
        self._say = replace(self._say, indexed=indexed)
        self._finder = Finder(self._wire, self._say, self.form, indexed=indexed)
        self._unique = unique

    def _rely_on_constraint(self, transaction: Transact) -> None:
        """Refused where somebody has dropped it; from then on every create is guarded by a look."""
        self._unique = self._keeps_unique(transaction)
        if not self._unique:
            raise Refused

    def _count(self, *queries: str) -> int:
        return sum(int(self._wire.read(query)[0][0]) for query in queries)

    # --- reading ---

    def inventory(self) -> Inventory:
        """See :class:`~migrator.backends.base.Backend`."""
        say, relationships = self._say, self._count(self._say.count_edges())
        others: dict[str, int] = {}
        if not self._config.all_labels:
            rows = self._wire.read(say.other_nodes())
            others = {":".join(sorted(labels)) or "(no label)": number for labels, number in rows}
        return Inventory(
            memories=self._count(say.count_nodes()),
            relationships=relationships,
            other_nodes=others,
            other_relationships=self._count(say.count_all_edges()) - relationships,
            duplicates=self._duplicates(),
        )

    def _duplicates(self) -> dict[Kind, tuple[str, ...]]:
        found: dict[Kind, tuple[str, ...]] = {}
        nodes = [] if self._unique and not self._config.all_labels else self._wire.read(self._say.duplicate_nodes())
        if nodes:
            found["memory"] = tuple(sorted(row[0] for row in nodes))
        edges = self._wire.read(self._say.duplicate_edges())
        if edges:
            found["relationship"] = tuple(sorted(row[0] for row in edges))
        return found

    def scan(self, kind: Kind, size: int) -> Iterator[list[Record | Corrupt]]:
        """See :class:`~migrator.backends.base.Backend`: one streamed answer, in the order that the store reads in.

        StoreRefused where less or more came than the store counts, and its own count did not change meanwhile.
        """
        digests = self._digests_ahead
        return self._pages(lambda reader: reader.scan(kind, None, digests=digests), lambda: self._scan(kind, size))

    def scan_digests(self, kind: Kind, size: int) -> Iterator[list[Digested]]:
        """See :class:`~migrator.backends.base.Backend`."""
        here = partial(map, digested)
        return self._pages(lambda reader: reader.scan_digests(kind, None), lambda: here(self._scan(kind, size)))

    def _pages[Item](
        self, ahead: Callable[[Reader], Iterator[list[Item]]], here: Callable[[], Iterator[list[Item]]]
    ) -> Iterator[list[Item]]:
        """Yield what the second process reads, where there is one."""
        reader, begun, complete = self._reader, False, False
        if reader is None:
            yield from here()
            return
        try:
            for page in ahead(reader):
                begun = True
                yield page
            complete = True
        except ReaderLostError as lost:
            if isinstance(lost.__cause__, MemmigError):
                raise lost.__cause__ from None
            if begun:
                message = f"the process that read {self._address()} ended"
                raise StoreUnreachable(message, hint="start it again") from lost
        finally:
            if not complete:
                reader.close()
                self._reader = None
        if not complete:
            yield from here()

    def _scan(self, kind: Kind, size: int) -> Iterator[list[Record | Corrupt]]:
        say = self._say
        count, query = (
            (say.count_nodes(), say.scan_nodes()) if kind == "memory" else (say.count_edges(), say.scan_edges())
        )
        before, seen = self._count(count), 0
        names = EdgeNames(self.form)
        for rows in chunked(self._wire.stream(query), size, _PAGE_BYTES):
            seen += len(rows)
            yield [self._record(kind, row, names) for row in rows]
        after = self._count(count)
        if before == after != seen:
            message = f"the store counts {after} of kind {kind} but a whole scan gave {seen}"
            raise StoreRefused(message, hint="nothing was taken for complete; try again, then report this")

    def _record(self, kind: Kind, row: Sequence[Value], names: EdgeNames) -> Record | Corrupt:
        properties = frozen(row[-1])
        if kind == "memory":
            raw: Raw = {"labels": sorted(row[1]), "properties": properties}
        else:
            raw = {"type": row[1], "from": row[2], "to": row[3], "properties": properties}
            if properties.get(self._config.id_property) is None:
                names.name(raw)
        record = self.form.decode(kind, raw)
        if isinstance(record, Corrupt) and type(properties.get(self._config.id_property)) is not str:
            return replace(record, id=f"internal:{row[0]}", named=False)
        return record

    def read_ahead(self, *, digests: bool) -> None:
        """Have a second process read what ``scan`` yields from now on, where the source is large."""
        self._digests_ahead = digests
        if self._reader is None and self._count(self._say.count_nodes(), self._say.count_edges()) >= WORTH_IT:
            with suppress(ReaderLostError):
                self._reader = Reader(partial(type(self), self._config, role="from"))

    def shows(self, signature: object) -> bool:  # noqa: ARG002 - what stores with snapshots ask for
        """Return True: a scan shows what is there."""
        return True

    def narrow(self, wanted: Wanted | None) -> None:
        """Do nothing: the run itself leaves out what is not wanted."""

    def release_snapshot(self) -> None:
        """Do nothing: there are no snapshots."""

    def lookup(self, kind: Kind, wanted: Mapping[str, Relationship | None]) -> dict[str, Raw]:
        """See :class:`~migrator.backends.base.Backend`. An edge without id is found where a hint says its ends."""
        return self._find.nodes(list(wanted)) if kind == "memory" else self._find.edges(wanted)

    def lookup_digests(self, kind: Kind, wanted: Mapping[str, Relationship | None]) -> dict[str, str]:
        """See :class:`~migrator.backends.base.Backend`."""
        return digests_of(self.form, kind, self.lookup(kind, wanted))

    def attached(self, memory_ids: Sequence[str], shown: int = ATTACHED) -> dict[str, list[str]]:
        """See :class:`~migrator.backends.base.Backend`."""
        return self._find.attached(memory_ids, shown)

    # --- markers ---

    def markers(self) -> list[Marker]:
        """See :class:`~migrator.backends.base.Backend`."""
        return [marker_of(row[0]) for row in self._wire.read(self._say.markers())]

    def swap_marker(self, expected: Marker | None, new: Marker | None) -> bool:
        """See :class:`~migrator.backends.base.Backend`. Two claims at once may both succeed: count after it."""
        if expected is None and new is None:
            return not self.markers()
        try:
            with self._wire.writing() as transaction:
                if expected is None:
                    if transaction.run(self._say.markers()):
                        return False
                    transaction.run(self._say.make_marker(), {"new": asdict(new)})  # type: ignore[arg-type]
                elif new is None:
                    locked = transaction.run(self._say.lock_markers())
                    ours = [at for at, properties in locked if marker_of(properties) == expected]
                    if len(ours) != 1:
                        return False
                    transaction.run(self._say.remove_marker(), {"at": ours[0]})
                else:
                    move_marker(transaction, self._say, expected, asdict(new))
                transaction.commit()
        except (Fenced, Conflict):
            return False
        return True

    # --- writing ---

    def write(self, batch: Batch, expected: Marker) -> WriteOutcome:
        """See :class:`~migrator.backends.base.Backend`: one explicit transaction."""
        if not batch.rows or len({row.id for row in batch.rows}) != len(batch.rows):
            return self._refusal(expected)
        # Before the transaction: what is read once is read over the same connection.
        self._find.placed()
        if batch.kind == "relationship":
            self._find.ended()
        unique, others = self._unique and self._asks_within, False
        try:
            with self._wire.writing() as transaction:
                Writer(transaction, self._say, self._find, unique=unique).write(batch, expected)
                if batch.kind == "memory" and batch.operation == "create":
                    others = self._find.others_came(transaction.run, batch)
                    if unique:
                        self._rely_on_constraint(transaction)
                transaction.commit()
        except Fenced:
            return WriteOutcome.MARKER_REFUSED
        except Refused:
            # Others wrote, so what was read before is no longer what is there.
            self._find.forget_places()
            return WriteOutcome.ROWS_REFUSED
        except Conflict:
            return self._refusal(expected)
        if others:
            self._find.forget_places()
        self._find.note(batch)
        return WriteOutcome.APPLIED

    def _refusal(self, expected: Marker) -> WriteOutcome:
        """Say what refused a batch of which nothing was written."""
        return WriteOutcome.ROWS_REFUSED if self.markers() == [expected] else WriteOutcome.MARKER_REFUSED

    def echo(self, kind: Kind, raw: Raw, marker: Marker) -> Raw | None:
        """See :class:`~migrator.backends.base.Backend`. Scratch nodes have a label of ours, so nobody sees them.

        Three transactions: what a transaction reads of its own writes has not been through the store.
        """
        edge = kind == "relationship"
        make = self._say.make_scratch(raw["type"] if edge else "")
        clear: list[tuple[str, dict[str, Value]]] = [(query, {}) for query in self._say.clear_scratch()]
        if not self._scratched(marker, [*clear, (make, {"p": thawed(raw["properties"])})]):
            return None
        rows = self._wire.read(self._say.read_scratch(edge=edge))
        self._scratched(marker, clear)
        return {**raw, "properties": frozen(rows[0][0])} if len(rows) == 1 else None

    def _scratched(self, marker: Marker, statements: Sequence[tuple[str, dict[str, Value]]]) -> bool:
        try:
            with self._wire.writing() as transaction:
                move_marker(transaction, self._say, marker, {})
                for query, parameters in statements:
                    transaction.run(query, parameters)
                transaction.commit()
        except (Fenced, Conflict):
            return False
        return True

    def close(self) -> None:
        """See :class:`~migrator.backends.base.Backend`."""
        if self._reader is not None:
            self._reader.close()
            self._reader = None
        if self._connected is not None:
            self._connected.close()
        self._connected = self._finder = None


def _not_open() -> StoreUnreachable:
    message = "the store is not open"
    return StoreUnreachable(message, hint="open it first")

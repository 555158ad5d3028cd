"""The guarded write in one transaction: marker moved, guards read behind their locks, rows written, all counted.

What a row expects is compared here and not by the server, for which 1 = 1.0, 0.0 = -0.0 and NaN <> NaN. That is exact
because the lock (Neo4j) or the snapshot (Memgraph: a conflict fails the commit) keeps others from writing in between.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from migrator.backends._bolt_values import frozen, thawed
from migrator.backends._cypher_rows import changes, expected_of, marker_of, new_of
from migrator.model import same_value

if TYPE_CHECKING:
    from collections.abc import Sequence

    from migrator.backends._bolt_cypher import Statements
    from migrator.backends._bolt_lookup import Finder
    from migrator.backends._bolt_wire import Transact
    from migrator.backends.base import Batch, Marker, Raw
    from migrator.model import Value

    type _Rows = list[dict[str, Value]]


class Refused(Exception):
    """A guard does not hold; the transaction must not be committed."""


class Fenced(Exception):
    """The marker is not the expected one, gone, or more than one; the transaction must not be committed."""


def move_marker(transaction: Transact, say: Statements, expected: Marker, new: dict[str, Value]) -> None:
    """Set fields of the marker. Fenced where it is not the only one, equal in every field."""
    found = transaction.run(say.move_marker(), {"new": new})
    if [marker_of(row[0]) for row in found] != [expected]:
        raise Fenced


class Writer:
    """Writes one batch in a transaction. Refused where a guard of any row does not hold."""

    def __init__(self, transaction: Transact, say: Statements, finder: Finder, *, unique: bool) -> None:
        self._transaction = transaction
        self._run = transaction.run
        self._say = say
        self._finder = finder
        #: Whether the store itself refuses a second node with the label and an id.
        self._unique = unique

    def write(self, batch: Batch, expected: Marker) -> None:
        """Move the marker, check every guard, write every row."""
        move_marker(self._transaction, self._say, expected, {"batch": batch.number, "digest": batch.digest})
        if batch.kind == "memory" and batch.operation == "create":
            self._create_nodes(batch)
        elif batch.kind == "memory":
            self._change_nodes(batch)
        else:
            self._edges(batch)

    def _write(self, query: str, rows: _Rows) -> None:
        if self._run(query, {"rows": rows}) != [[len(rows), len(rows)]]:
            raise Refused

    # --- nodes ---

    def _create_nodes(self, batch: Batch) -> None:
        labels = batch.shape.split(":")
        ids = [row.id for row in batch.rows]
        if not self._finder.placed().keys().isdisjoint(ids):
            raise Refused
        if not (self._unique and self._say.label in labels) and self._run(
            self._say.guard_absent_nodes(), {"ids": ids}
        ) != [[0]]:
            raise Refused
        rows: _Rows = [{"id": row.id, "p": thawed(new_of(row)["properties"])} for row in batch.rows]
        self._write(self._say.create_nodes(labels), rows)

    def _change_nodes(self, batch: Batch) -> None:
        groups: dict[tuple[bool, tuple[str, ...], tuple[str, ...], bool], _Rows] = {}
        guards: dict[bool, _Rows] = {}
        for row in batch.rows:
            expected = expected_of(row)
            made: dict[str, Value] = {}
            placed = self._finder.put(made, "id", row.id)
            guards.setdefault(placed, []).append(dict(made))
            had = set(expected["labels"])
            wanted = had if row.new is None else set(row.new["labels"])
            if row.new is not None:
                made |= _changed(expected, row.new)
            key = (placed, tuple(sorted(wanted - had)), tuple(sorted(had - wanted)), bool(made.get("z")))
            groups.setdefault(key, []).append(made)
        delete = batch.operation == "delete"
        self._guard_nodes({row.id: expected_of(row) for row in batch.rows}, guards, alone=delete)
        for (placed, add, remove, again), rows in groups.items():
            if delete:
                self._write(self._say.delete_nodes(placed=placed), rows)
            else:
                query = self._say.change_nodes(placed=placed, add=add, remove=remove, again=again)
                self._write(query, rows)

    def _guard_nodes(self, expected: dict[str, Raw], guards: dict[bool, _Rows], *, alone: bool) -> None:
        for placed, rows in guards.items():
            found = self._run(self._say.guard_nodes(placed=placed), {"rows": rows})
            _same_ids(rows, found)
            for identity, labels, properties, attached in found:
                there = {"labels": sorted(labels), "properties": frozen(properties)}
                if (alone and attached) or not same_value(there, expected[identity]):
                    raise Refused

    # --- edges ---

    def _edges(self, batch: Batch) -> None:
        groups: dict[tuple[tuple[bool, ...], bool], _Rows] = {}
        for row in batch.rows:
            made: dict[str, Value] = {"id": row.id}
            placed: list[bool] = []
            if row.expected is not None:
                placed += [self._finder.put(made, "a", row.expected["from"])]
                placed += [self._finder.put(made, "b", row.expected["to"])]
            if batch.operation in {"create", "replace"}:
                new = new_of(row)
                placed += [self._finder.put(made, "c", new["from"]), self._finder.put(made, "d", new["to"])]
                made["p"] = thawed(new["properties"])
            elif row.expected is not None and row.new is not None:
                made |= _changed(row.expected, row.new)
            groups.setdefault((tuple(placed), bool(made.get("z"))), []).append(made)
        if batch.operation in {"create", "replace"}:
            self._guard_new_edges(groups)
        if batch.operation != "create":
            self._guard_edges({row.id: expected_of(row) for row in batch.rows}, groups)
        for (places, again), rows in groups.items():
            self._write_edges(batch, places, rows, again=again)

    def _guard_edges(self, expected: dict[str, Raw], groups: dict[tuple[tuple[bool, ...], bool], _Rows]) -> None:
        names = ("id", "a", "b", "at_a", "at_b")
        for (places, _again), rows in groups.items():
            wanted = [{name: row[name] for name in names if name in row} for row in rows]
            found = self._run(self._say.guard_edges(places[:2]), {"rows": wanted})
            _same_ids(rows, found)
            for identity, shape, properties in found:
                believed = expected[identity]
                if shape != believed["type"] or not same_value(frozen(properties), believed["properties"]):
                    raise Refused

    def _guard_new_edges(self, groups: dict[tuple[tuple[bool, ...], bool], _Rows]) -> None:
        """Raise Refused where an edge with the id stands at its new place, unless it is the one that is replaced."""
        names = ("id", "c", "d", "at_c", "at_d")
        if self._say.dialect.lock_edges:
            self._lock_ends(groups)
        for (places, _again), rows in groups.items():
            wanted = [{name: row[name] for name in names if name in row} for row in rows]
            own = sum((row.get("a"), row.get("b")) == (row["c"], row["d"]) for row in rows)
            if self._run(self._say.guard_absent_edges(places[-2:]), {"rows": wanted}) != [[own]]:
                raise Refused

    def _lock_ends(self, groups: dict[tuple[tuple[bool, ...], bool], _Rows]) -> None:
        """Keep others from hanging edges on the ends; Refused where one is not there: it could come with an edge."""
        ends = {row[name] for rows in groups.values() for row in rows for name in "cd"}
        for placed, rows in self._finder.grouped(sorted(ends)).items():
            if self._run(self._say.lock_ends(placed=placed), {"rows": rows}) != [[len(rows)]]:
                raise Refused

    def _write_edges(self, batch: Batch, places: tuple[bool, ...], rows: _Rows, *, again: bool) -> None:
        say = self._say
        if batch.operation == "create":
            if not self._finder.ended().keys().isdisjoint(row["id"] for row in rows):
                raise Refused
            self._write(say.create_edges(batch.shape, places), rows)
        elif batch.operation == "replace":
            self._write(say.replace_edges(batch.shape, places), rows)
        elif batch.operation == "delete":
            self._write(say.delete_edges(places), rows)
        else:
            self._write(say.change_edges(places, again=again), rows)


def _same_ids(rows: _Rows, found: Sequence[Sequence[Value]]) -> None:
    """Raise Refused unless each row was found once."""
    if len(found) != len(rows) or {row[0] for row in found} != {row["id"] for row in rows}:
        raise Refused


def _changed(expected: Raw, new: Raw) -> dict[str, Value]:
    found = changes(expected, new)
    return {"w": thawed(found["c"]), "z": found["z"]}

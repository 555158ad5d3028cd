"""Finding records by id in a Bolt store: through the label's index, by internal ids as hints, and edges by ends."""

from __future__ import annotations

from itertools import batched
from sys import intern
from typing import TYPE_CHECKING

from migrator.backends._bolt_values import frozen
from migrator.backends._bolt_write import Refused
from migrator.backends._cypher import text_problem
from migrator.backends._edge_ids import named, perhaps_made

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from migrator.backends._bolt_cypher import Statements
    from migrator.backends._bolt_wire import Wire
    from migrator.backends.base import Batch, Form, Raw
    from migrator.model import Relationship, Value

    type _Run = Callable[..., Sequence[Sequence[Value]]]

_CHUNK = 1_000


def sendable(text: str) -> bool:
    """Tell whether a text has UTF-8; one that has not is no id in a store."""
    return not text_problem(text.replace("\0", ""))


class Finder:
    """Look-ups in one database, of what is committed now. Remembers places of records; every use compares the id.

    ``indexed``: whether the label's ids have an index.
    """

    def __init__(self, wire: Wire, statements: Statements, form: Form, *, indexed: bool) -> None:
        self._wire = wire
        self._form = form
        self._say = statements
        self._indexed = indexed
        self._id = statements.id_property
        #: Internal ids of nodes that the label's index does not have; None = not read yet.
        self._places: dict[str, Value] | None = None
        #: How many nodes had not the label when the places were read.
        self._outside = 0
        #: Ends of every edge with an id; None = not read yet.
        self._ends: dict[str, tuple[Value, Value]] | None = None

    def _count(self, query: str) -> int:
        return int(self._wire.read(query)[0][0])

    def _count_outside(self, run: _Run) -> int:
        total, labelled = (int(run(query)[0][0]) for query in (self._say.count_all_nodes(), self._say.count_labelled()))
        return total - labelled

    def forget_places(self) -> None:
        """Read the places anew when they are next needed."""
        self._places = None

    def others_came(self, run: _Run, batch: Batch) -> bool:
        """Tell whether more or fewer nodes are without the label than when the places were read.

        ``run`` asks in the transaction that has just created the batch's memories. Refused where a node of others
        without the label has the id of one of them. That reads all nodes, so only where the number is another; one
        that came as another went, or that comes before the commit, is not seen.
        """
        made = self._made_outside(batch)
        if self._count_outside(run) - made == self._outside:
            return False
        if run(self._say.others_with_ids(), {"ids": [row.id for row in batch.rows]}) != [[made]]:
            raise Refused
        return True

    def _made_outside(self, batch: Batch) -> int:
        return 0 if self._say.label in batch.shape.split(":") else len(batch.rows)

    def placed(self) -> dict[str, Value]:
        """Return the internal ids of nodes that the index does not have, read once after ``open``.

        Mostly empty: with an index, only nodes without the label (entities) count. Without one all do, because a
        look-up would read the whole store per id. Internal ids are hints; every use compares the id.
        """
        if self._places is None:
            say = self._say
            outside = self._outside = self._count_outside(self._wire.read)
            places: dict[str, Value] = {}
            if not self._indexed or outside:
                rows = self._wire.stream(say.other_places(indexed=self._indexed))
                places = {identity: at for at, identity in rows if type(identity) is str}
                if places and self._indexed:
                    # An id that also stands in the label means the node there.
                    for (identity,) in self._wire.read(say.labelled_ids(), {"ids": list(places)}):
                        del places[identity]
            self._places = places
        return self._places

    def ended(self) -> dict[str, tuple[Value, Value]]:
        """Return the ends of every edge with an id, read once after ``open`` and kept up to date by our own writes.

        An edge's id has no index, so looking for one anywhere reads all edges: once, not per batch. Edges that others
        make meanwhile at the same place are still seen, by the guards and by look-ups with a hint.
        """
        if self._ends is None:
            ends: dict[str, tuple[Value, Value]] = {}
            if self._count(self._say.count_all_edges()):
                for identity, start, end in self._wire.stream(self._say.edge_ends()):
                    if type(identity) is str:
                        ends[identity] = (_interned(start), _interned(end))
            self._ends = ends
        return self._ends

    def put(self, row: dict[str, Value], name: str, identity: str) -> bool:
        """Put an id into a row, and its place beside it; tell whether it has one."""
        row[name] = identity
        place = self.placed().get(identity)
        if place is None:
            return False
        row["at" if name == "id" else f"at_{name}"] = place
        return True

    def nodes(self, wanted: Sequence[str]) -> dict[str, Raw]:
        """Return the stored forms of the memories with these ids."""
        found: dict[str, Raw] = {}
        for ids in batched(filter(sendable, wanted), _CHUNK):
            for placed, rows in self.grouped(ids).items():
                if placed or self._indexed:
                    answer = self._wire.read(self._say.find_nodes(placed=placed), {"rows": rows})
                else:
                    names = [row["id"] for row in rows]
                    answer = self._wire.read(self._say.find_nodes_at_once(), {"ids": names})
                for labels, properties in answer:
                    found[properties[self._id]] = {"labels": sorted(labels), "properties": frozen(properties)}
        return found

    def grouped(self, ids: Sequence[str]) -> dict[bool, list[dict[str, Value]]]:
        """Return rows of ids by whether they have a place."""
        groups: dict[bool, list[dict[str, Value]]] = {}
        for identity in ids:
            row: dict[str, Value] = {}
            groups.setdefault(self.put(row, "id", identity), []).append(row)
        return groups

    def edges(self, wanted: Mapping[str, Relationship | None]) -> dict[str, Raw]:
        """Return the stored forms of the edges with these ids: at the place of the hint, else anywhere.

        One without id that has it as its made id is found at the place of the hint only.
        """
        hints = [(name, hint.from_id, hint.to_id) for name, hint in wanted.items() if hint is not None]
        found = self._edges_at([hint for hint in hints if all(map(sendable, hint))])
        missing = wanted.keys() - found.keys()
        if missing:
            ends = self.ended()
            elsewhere = [(name, *ends[name]) for name in missing if name in ends]
            found |= self._edges_at([place for place in elsewhere if type(place[1]) is type(place[2]) is str])
            rest = [place[0] for place in elsewhere if place[0] not in found]
            if rest:
                found |= self._stored(self._wire.read(self._say.find_edges_anywhere(), {"ids": rest}))
            found |= named(self._form, self._without_id(perhaps_made(wanted, found)), wanted.keys() - found.keys())
        return found

    def _edges_at(self, hints: Sequence[tuple[str, Value, Value]]) -> dict[str, Raw]:
        found: dict[str, Raw] = {}
        for ends, rows in self._between(({"id": name}, start, end) for name, start, end in hints):
            found |= self._stored(self._wire.read(self._say.find_edges(ends), {"rows": rows}))
        return found

    def _without_id(self, places: Iterable[tuple[str, str, str]]) -> Iterator[Raw]:
        sendables = (place for place in places if all(map(sendable, place)))
        for ends, rows in self._between(({"type": shape}, start, end) for shape, start, end in sendables):
            yield from map(_edge, self._wire.read(self._say.find_edges_without_id(ends), {"rows": rows}))

    def _between(
        self, wanted: Iterable[tuple[dict[str, Value], Value, Value]]
    ) -> Iterator[tuple[tuple[bool, bool], list[dict[str, Value]]]]:
        """Put the ends into rows, and yield these by whether their ends have a place."""
        for some in batched(wanted, _CHUNK):
            groups: dict[tuple[bool, bool], list[dict[str, Value]]] = {}
            for row, start, end in some:
                groups.setdefault((self.put(row, "a", start), self.put(row, "b", end)), []).append(row)
            yield from groups.items()

    def _stored(self, rows: Sequence[Sequence[Value]]) -> dict[str, Raw]:
        return {row[-1][self._id]: _edge(row) for row in rows}

    def attached(self, memory_ids: Sequence[str], shown: int) -> dict[str, list[str]]:
        """Return for each memory that has edges the ids of up to ``shown`` of them ("" for an edge without id)."""
        found: dict[str, list[str]] = {}
        for ids in batched(filter(sendable, memory_ids), _CHUNK):
            for placed, rows in self.grouped(ids).items():
                for name, edges in self._wire.read(self._say.attached(placed=placed), {"rows": rows, "shown": shown}):
                    found.setdefault(name, []).extend(map(str, edges))
        return found

    def note(self, batch: Batch) -> None:
        """Keep what was read once up to date with what was just written."""
        if batch.kind == "memory":
            if self._places or self._made_outside(batch):
                self._places = None
        elif self._ends is not None:
            for row in batch.rows:
                if row.new is None:
                    self._ends.pop(row.id, None)
                else:
                    self._ends[row.id] = (_interned(row.new["from"]), _interned(row.new["to"]))


def _edge(row: Sequence[Value]) -> Raw:
    shape, start, end, properties = row
    return {"type": shape, "from": start, "to": end, "properties": frozen(properties)}


def _interned(value: Value) -> Value:
    """Return the one copy of an id that stands at many edges."""
    return intern(value) if type(value) is str else value


def chunked[T](rows: Iterator[T], size: int, weight: int) -> Iterator[list[T]]:
    """Yield rows in lists of up to ``size``, shorter ones where their texts are long: more than ``weight`` together."""
    page: list[T] = []
    heavy = 0
    for row in rows:
        page.append(row)
        heavy += _weight(row)
        if len(page) >= size or heavy > weight:
            yield page
            page, heavy = [], 0
    if page:
        yield page


def _weight(row: Value) -> int:
    return sum(len(value) for value in row[-1].values() if type(value) is str or type(value) is bytes)

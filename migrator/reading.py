"""What a run reads of its source: everything, or what changed since some time."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import batched
from typing import TYPE_CHECKING

from migrator.backends._edge_ids import looks_made
from migrator.backends.base import Inventory, Wanted, digested
from migrator.matching import Matching
from migrator.model import KINDS, Corrupt, Relationship

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from journal.bases import Base, Bases
    from migrator.backends.base import Backend, Digested, Form, Raw
    from migrator.hooks import Hooks
    from migrator.model import Kind, Record
    from migrator.watermark import Interval, Stamps, Unsure


class Reading:
    """A source as one run reads it: :class:`~migrator.backends.base.Source`.

    With an interval it is a part of the source, chosen once by :meth:`choose`: what the interval includes, the open ids
    of the pair, and ends of included edges that the target never had from this pair. From then on it is read by id, as
    it is now, so there is no snapshot. Memory: one string per chosen memory, ids and type of each chosen edge.
    """

    def __init__(
        self, source: Backend, stamps: Stamps, interval: Interval | None = None, bases: Bases | None = None
    ) -> None:
        """Read ``source``; ``bases``: what the pair knows, which a part needs."""
        self._source = source
        self._bases = bases
        self._matching = Matching(bases)
        self.known_as: dict[str, str] = {}  #: of edges without id: the id made of one now → the id that the pair knows
        self._made_as: dict[str, str] = {}
        self.stamps = stamps
        self.interval = interval
        self.unsure: Counter[Unsure] = Counter()  #: records that are read because their times say nothing sure
        self._duplicates: Mapping[Kind, tuple[str, ...]] = {}
        self.empty = False  #: the source holds no memories, as it was counted last
        self._memories: dict[str, None] = {}
        self._edges: dict[str, Relationship] = {}
        self._corrupt: dict[Kind, list[Corrupt]] = {kind: [] for kind in KINDS}

    @property
    def form(self) -> Form:
        """The source's."""
        return self._source.form

    @property
    def snapshots(self) -> bool:
        """Whether every scan sees the same."""
        return self._source.snapshots and self.interval is None

    def choose(self, hooks: Hooks, size: int) -> None:
        """Find what belongs to the interval; nothing is to be done without one."""
        bases = self._bases
        if self.interval is None or bases is None:
            return
        opened = bases.open_ids()
        wanted = Wanted(since=self.interval.begin, memories=opened["memory"], relationships=opened["relationship"])
        self._source.narrow(wanted)
        inventory = self._source.inventory()
        self._duplicates, self.empty = inventory.duplicates, not inventory.memories
        for memory in self._included("memory", wanted.memories, hooks, size):
            self._memories[memory.id] = None
        for edge in self._included("relationship", wanted.relationships, hooks, size):
            assert isinstance(edge, Relationship)  # noqa: S101 - by the kind that was asked for
            self._edges[edge.id] = replace(edge, properties={})
        if any(map(looks_made, wanted.relationships)):
            # What is open may stand in the source under another id now.
            for edge in self._matching.unknown():
                self._edges.setdefault(edge.id, replace(edge, properties={}))
        self._source.narrow(None)
        self._source.release_snapshot()
        ends = [end for end in self._ends() if end not in self._memories]
        bases.expect([*ends, *self.chosen])
        known = bases.get("memory", ends)
        self._memories.update(dict.fromkeys(end for end in ends if end not in known))

    def _included(self, kind: Kind, ids: Collection[str], hooks: Hooks, size: int) -> Iterator[Record]:
        assert self.interval is not None  # noqa: S101 - only a part is chosen
        done = 0
        for chunk in self._source.scan(kind, size):
            hooks.check()
            if kind == "relationship":
                self._matching.see(chunk)
            for item in chunk:
                if isinstance(item, Corrupt):
                    self._corrupt[kind].append(item)
                    continue
                included = self.interval.includes(kind, item.properties)
                if isinstance(included, str):
                    self.unsure[included] += 1
                if included or item.id in ids:
                    yield item
            done += len(chunk)
            hooks.report("scan", kind, done, None)

    def _ends(self) -> dict[str, None]:
        return dict.fromkeys(end for edge in self._edges.values() for end in (edge.from_id, edge.to_id))

    @property
    def chosen(self) -> list[str]:
        """The ids of what was chosen."""
        return [*self._memories, *self._edges]

    def ends_beside(self, form: Form, size: int) -> tuple[set[str], set[str]]:
        """Return the memories beside the interval at which its edges end: those that ``form`` can hold, and others."""
        sound, odd = set[str](), set[str]()
        for ends in batched((end for end in self._ends() if end not in self._memories), size):
            for end, raw in self._source.lookup("memory", dict.fromkeys(ends)).items():
                record = self.form.decode("memory", raw)
                (odd if isinstance(record, Corrupt) or form.problems(record) else sound).add(end)
        return sound, odd

    def inventory(self) -> Inventory:
        """See :class:`~migrator.backends.base.Backend`; of a part, what was chosen."""
        if self.interval is None:
            found = self._source.inventory()
            self.empty = not found.memories
            return found
        return Inventory(
            memories=len(self._memories) + len(self._corrupt["memory"]),
            relationships=len(self._edges) + len(self._corrupt["relationship"]),
            duplicates=self._duplicates,
        )

    def scan(self, kind: Kind, size: int) -> Iterator[list[Record | Corrupt]]:
        """See :class:`~migrator.backends.base.Backend`; of a part, what is still there of what was chosen."""
        pages = self._source.scan(kind, size) if self.interval is None else self._chosen(kind, size)
        return map(self._named, pages) if self.known_as and kind == "relationship" else pages

    def scan_digests(self, kind: Kind, size: int) -> Iterator[list[Digested]]:
        """See :class:`~migrator.backends.base.Backend`."""
        if self.interval is None and not (self.known_as and kind == "relationship"):
            return self._source.scan_digests(kind, size)
        return map(digested, self.scan(kind, size))

    def _chosen(self, kind: Kind, size: int) -> Iterator[list[Record | Corrupt]]:
        hints: Iterable[tuple[str, Relationship | None]]
        hints = self._memories.items() if kind == "memory" else self._edges.items()
        for some in batched(hints, size):
            found = self._source.lookup(kind, dict(some))
            page = [self.form.decode(kind, found[name]) for name, _ in some if name in found]
            if page:
                yield page
        if self._corrupt[kind]:
            yield list(self._corrupt[kind])

    def lookup(self, kind: Kind, wanted: Mapping[str, Relationship | None]) -> dict[str, Raw]:
        """See :class:`~migrator.backends.base.Backend`."""
        if kind == "memory" or not self.known_as:
            return self._source.lookup(kind, wanted)
        asked = {self._made_as.get(name, name): hint for name, hint in wanted.items()}
        found = self._source.lookup(kind, asked)
        named = {name: found[made] for name in wanted if (made := self._made_as.get(name, name)) in found}
        return {name: self._renamed(name, raw) if name in self._made_as else raw for name, raw in named.items()}

    def _renamed(self, name: str, raw: Raw) -> Raw:
        edge = self.form.decode("relationship", raw)
        return raw if isinstance(edge, Corrupt) else self.form.encode(replace(edge, id=name))

    def _named(self, page: list[Record | Corrupt]) -> list[Record | Corrupt]:
        known = self.known_as
        return [
            replace(one, id=known[one.id]) if isinstance(one, Relationship) and one.id in known else one for one in page
        ]

    def see(self, kind: Kind, page: list[Record | Corrupt]) -> None:
        """Hear of what the scan before the first write has read."""
        for item in page:
            self.stamps.see(item)
        if kind == "relationship" and self.interval is None:
            self._matching.see(page)

    def begin(self) -> None:
        """Hear that this scan begins (again)."""
        self.stamps.begin()
        if self.interval is None:
            self._matching.begin()

    def match(self, target: Backend) -> None:
        """Give edges without id the ids that the pair knows them by, from now on; all have been seen."""
        self.known_as = self._matching.names(target)
        self._made_as = {known: made for made, known in self.known_as.items()}

    def release_snapshot(self) -> None:
        """See :class:`~migrator.backends.base.Backend`."""
        self._source.release_snapshot()

    @property
    def warnings(self) -> list[str]:
        """What to say about times: those that say nothing sure, and those that lie in the future."""
        found = ", ".join(f"{number} {_UNSURE[what]}" for what, number in sorted(self.unsure.items()))
        told = [f"read whatever has changed: {found}"] if found else []
        return (
            told + ["the source holds no memories"] * (self.empty and self.interval is not None) + self.stamps.warnings
        )


class Later:
    """A source as it is asked by id after a run: edges without id by the ids that the pair knows them by."""

    def __init__(self, source: Backend, target: Backend, bases: Bases, size: int) -> None:
        """Read ``source`` by id; all of its edges once, in pages of ``size``, when one without id is asked for."""
        self._source = source
        self._target = target
        self._bases = bases
        self._size = size
        self._made: dict[str, Relationship] | None = None  #: by the id that the pair knows, with the one made now

    def records(self, kind: Kind, ids: Collection[str]) -> dict[str, Record | Corrupt]:
        """Return {id: record} of those of these ids that are there."""
        decode = self._source.form.decode
        found = {i: decode(kind, raw) for i, raw in self._source.lookup(kind, dict.fromkeys(ids)).items()}
        lost = [i for i in ids if i not in found and looks_made(i)] if kind == "relationship" else []
        if lost:
            made = self._by_known()
            here = {name: made[name] for name in lost if name in made}
            raws = self._source.lookup(kind, {edge.id: edge for edge in here.values()})
            for name, edge in here.items():
                if edge.id in raws:
                    record = decode(kind, raws[edge.id])
                    found[name] = replace(record, id=name)
        return found

    def bases(self, kind: Kind) -> Iterator[dict[str, Base]]:
        """Yield in chunks the bases of what the source holds, by the ids that the pair knows."""
        unknown = False
        for page in self._source.scan(kind, self._size):
            found = self._bases.get(kind, [record.id for record in page])
            unknown |= kind == "relationship" and any(one.id not in found and looks_made(one.id) for one in page)
            yield found
        renamed = [name for name, edge in self._by_known().items() if name != edge.id] if unknown else []
        for some in batched(renamed, self._size):
            yield self._bases.get(kind, some)

    def _by_known(self) -> dict[str, Relationship]:
        if self._made is None:
            self._made = self._known()
        return self._made

    def _known(self) -> dict[str, Relationship]:
        matching, made = Matching(self._bases), dict[str, Relationship]()
        for page in self._source.scan("relationship", self._size):
            matching.see(page)
            for edge in page:
                if isinstance(edge, Relationship) and looks_made(edge.id):
                    made[edge.id] = replace(edge, properties={})
        known_as = matching.names(self._target)
        known_as |= matching.names_of_lost(known_as)
        return {known_as.get(name, name): edge for name, edge in made.items()}


_UNSURE: dict[Unsure, str] = {
    "missing": "without any time",
    "unreadable": "with an unreadable time",
    "number": "with a number as time",
    "without zone": "with a time without zone",
}

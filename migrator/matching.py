"""Edges that have no id in the source, and the ids under which the pair knows them (docs/explanation/sync.md).

Their ids are made of all that they say, so one that was changed comes with an id that nobody knows, while the one that
the pair knows is in the target, and in the source no more. Of each place (from, type, to) those are matched: by digest
first, then in the order of their ids. So a changed edge is updated, and keeps its id.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import batched
from typing import TYPE_CHECKING

from migrator.backends._edge_ids import MadeIds, looks_made
from migrator.model import Corrupt, Relationship, digest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from journal.bases import Base, Bases
    from migrator.backends.base import Backend
    from migrator.model import Record

_SIZE = 1000
#: Edges at one memory that are looked at: a hub may have many thousands.
_MOST = 1_000_000

type _Place = tuple[str, str, str]


class Matching:
    """Sees every edge of the source once, then says which known id an unknown one goes by.

    Memory: one string per edge without id, and those whole that the pair does not know.
    """

    def __init__(self, bases: Bases | None) -> None:
        self._bases = bases
        self._begin()

    def _begin(self) -> None:
        self._made = MadeIds()
        self._here: set[str] = set()
        self._waiting: list[Relationship] = []
        self._unknown: list[Relationship] = []

    def begin(self) -> None:
        """Hear that the source is read from its beginning (again)."""
        self._begin()

    def see(self, items: Iterable[Record | Corrupt]) -> None:
        """Look at edges in the order of the source's scan."""
        if self._bases is None:
            return
        self._waiting += [one for one in items if isinstance(one, Relationship) and self._made.has(one)]
        if len(self._waiting) >= _SIZE:
            self._sort(self._bases)

    def _sort(self, bases: Bases) -> None:
        ids = [edge.id for edge in self._waiting]
        self._here.update(ids)
        known = bases.get("relationship", ids)
        self._unknown += [edge for edge in self._waiting if edge.id not in known]
        self._waiting = []

    def unknown(self) -> list[Relationship]:
        """Return the edges without id that were seen and that the pair does not know by their ids of now."""
        if self._bases is not None:
            self._sort(self._bases)
        return self._unknown

    def names(self, target: Backend) -> dict[str, str]:
        """Return {made id: known id} of what stands in the target under another id than it has in the source now."""
        if self._bases is None:
            return {}
        wanted: dict[_Place, list[Relationship]] = {}
        for edge in self.unknown():
            wanted.setdefault(_place(edge), []).append(edge)
        found: dict[str, str] = {}
        for place, known in self._known(self._bases, target, wanted.keys()).items():
            found |= _matched(wanted[place], known)
        return found

    def names_of_lost(self, names: Mapping[str, str]) -> dict[str, str]:
        """Return {made id: known id} of the edges beside ``names`` that are what the pair knows by an id of no store.

        What is gone from the target is known by its digest alone, so an edge that was changed since is not found.
        """
        rest = {edge.id: edge for edge in self.unknown() if edge.id not in names}
        if self._bases is None or not rest:
            return {}
        taken = self._here.union(names.values())
        lost = [name for name, _ in self._bases.all("relationship") if looks_made(name) and name not in taken]
        found: dict[str, str] = {}
        for some in batched(lost, _SIZE):
            for name, base in self._bases.get("relationship", some).items():
                equal = (made for made, edge in rest.items() if digest(replace(edge, id=name)) == base.digest)
                made = next(equal, None)
                if made is not None:
                    found[made] = name
                    del rest[made]
        return found

    def _known(self, bases: Bases, target: Backend, places: Iterable[_Place]) -> dict[_Place, dict[str, Base]]:
        """Return per place the edges in the target that the pair knows by a made id, and the source has no more."""
        wanted = set(places)
        found: dict[_Place, dict[str, Base]] = {}
        for starts in batched(dict.fromkeys(start for start, _, _ in wanted), _SIZE):
            ids = [name for names in target.attached(starts, _MOST).values() for name in names if looks_made(name)]
            known = bases.get("relationship", list(dict.fromkeys(name for name in ids if name not in self._here)))
            for name, raw in target.lookup("relationship", dict.fromkeys(known)).items():
                edge = target.form.decode("relationship", raw)
                if isinstance(edge, Relationship) and (place := _place(edge)) in wanted:
                    found.setdefault(place, {})[name] = known[name]
        return found


def _place(edge: Relationship) -> _Place:
    return edge.from_id, edge.type, edge.to_id


def _matched(edges: list[Relationship], known: dict[str, Base]) -> dict[str, str]:
    """Match the edges of one place with known ids: those that are equal, then the rest in order. Pure."""
    free = dict(sorted(known.items()))
    found: dict[str, str] = {}
    for edge in edges:
        equal = next((name for name, base in free.items() if digest(replace(edge, id=name)) == base.digest), None)
        if equal is not None:
            found[edge.id] = equal
            del free[equal]
    rest = sorted(edge.id for edge in edges if edge.id not in found)
    return found | dict(zip(rest, free, strict=False))

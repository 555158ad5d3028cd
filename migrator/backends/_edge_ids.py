"""The ids of a graph store's edges that have none: given in a scan, and found again in a look-up. Pure."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING

from migrator.backends._cypher import MADE_ID, edge_id
from migrator.model import Relationship

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from migrator.backends.base import Form, Raw

_MADE = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-5[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}")


class EdgeNames:
    """Gives every edge without id that is shown to it the id that it has in every scan."""

    def __init__(self, form: Form) -> None:
        self._form = form
        self._ordinals: Counter[str] = Counter()

    def name(self, raw: Raw) -> None:
        """Mark an edge without id with the made one; nothing where it cannot be read."""
        record = self._form.decode("relationship", {**raw, MADE_ID: "-"})
        if isinstance(record, Relationship):
            first = edge_id(record, 0)
            raw[MADE_ID] = edge_id(record, self._ordinals[first])
            self._ordinals[first] += 1


class MadeIds:
    """Tells which edges of a whole scan, shown in its order, had no id."""

    def __init__(self) -> None:
        self._ordinals: Counter[str] = Counter()

    def has(self, edge: Relationship) -> bool:
        """Return whether the edge's id was made."""
        if not looks_made(edge.id):
            return False
        first = edge_id(edge, 0)
        made = edge.id == edge_id(edge, self._ordinals[first])
        self._ordinals[first] += made
        return made


def looks_made(name: str) -> bool:
    """Return whether an id may be a made one."""
    return name[14:15] == "5" and _MADE.fullmatch(name) is not None


def perhaps_made(wanted: Mapping[str, Relationship | None], found: Collection[str]) -> dict[tuple[str, str, str], None]:
    """Return the places (type, from, to) of the wanted edges, not found, whose id looks like a made one."""
    hints = (hint for name, hint in wanted.items() if name not in found and looks_made(name))
    return dict.fromkeys((hint.type, hint.from_id, hint.to_id) for hint in hints if hint is not None)


def named(form: Form, edges: Iterable[Raw], wanted: Collection[str]) -> dict[str, Raw]:
    """Return those of the edges without id whose made id is wanted. All that stand at one place come together."""
    names, found = EdgeNames(form), {}
    for raw in edges:
        names.name(raw)
        if raw.get(MADE_ID) in wanted:
            found[raw[MADE_ID]] = raw
    return found

"""What taking records out of a target needs, in a rollback and for ``--delete``: which edges stay, and trying again."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from migrator.backends.base import ATTACHED
from migrator.model import Relationship

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from migrator.backends.base import Backend, Raw, Row

_REFUSALS = 5


@dataclass(slots=True)
class Leaving:
    """The edges that are to leave their ends although, in a dry run, the target still shows them there."""

    target: Backend
    _edges: dict[str, set[str]] = field(default_factory=dict)  #: memory → edges

    def let_go(self, row: Row) -> None:
        """Remember an edge that a row deletes, or hangs elsewhere."""
        for end in self._ends(row.expected) - self._ends(row.new):
            self._edges.setdefault(end, set()).add(row.id)

    def _ends(self, raw: Raw | None) -> set[str]:
        edge = None if raw is None else self.target.form.decode("relationship", raw)
        return {edge.from_id, edge.to_id} if isinstance(edge, Relationship) else set()

    def staying(self, memories: Sequence[str]) -> dict[str, list[str]]:
        """Return the memories on which edges would still hang, and the ids of some of those ("" = without id)."""
        hubs = {memory for memory in memories if len(self._edges.get(memory, ())) >= ATTACHED}
        attached = self.target.attached([memory for memory in memories if memory not in hubs])
        for hub in hubs:
            # One more than would leave: where another edge is, it is among them.
            attached |= self.target.attached([hub], len(self._edges[hub]) + 1)
        found: dict[str, list[str]] = {}
        for memory, edges in attached.items():
            leaving = self._edges.get(memory, set())
            found[memory] = [edge for edge in edges if edge not in leaving]
        return found


def in_halves[T](
    items: Sequence[T], attempt: Callable[[list[T]], list[list[T]]], give_up: Callable[[T], None], refusals: int = 0
) -> None:
    """Attempt items; what comes back refused is attempted anew, and from the second refusal on in halves.

    So one item that others keep changing does not keep its whole batch back: after five refusals it is given up.
    """
    for refused in attempt(list(items)):
        if refusals >= _REFUSALS and len(refused) == 1:
            give_up(refused[0])
            continue
        half = (len(refused) + 1) // 2 if refusals else len(refused)
        for start in range(0, len(refused), half):
            in_halves(refused[start : start + half], attempt, give_up, refusals + 1)

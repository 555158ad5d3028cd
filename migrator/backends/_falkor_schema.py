"""What memorygraph's client expects of a graph, beside its records: the graph itself and indexes on the label."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from migrator.backends._cypher import quoted
from migrator.backends._falkor_wire import GraphAbsent, ServerSaid
from migrator.backends.base import SchemaStep
from migrator.errors import MemmigError, OutcomeUnknown, StoreUnreachable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from migrator.backends._falkor_lookup import Finder
    from migrator.backends._falkor_read import Reader
    from migrator.backends._falkor_wire import Wire

#: What memorygraph's client asks for (its request for a unique constraint is not FalkorDB's syntax and fails). No
#: unique constraint: with one, a value with a leading or trailing space kills the server (FalkorDB#1340).
INDEXED = ("type", "created_at", "importance", "confidence")
_INDEX_WAIT = 300.0


class Schema:
    """Makes and drops it. ``exists`` tells whether the graph is there, without making it."""

    def __init__(
        self,
        wire: Wire,
        reader: Reader,
        finder: Finder,
        *,
        graph: str,
        label: str,
        id_property: str,
        exists: Callable[[], bool],
    ) -> None:
        self._wire = wire
        self._read = reader
        self._find = finder
        self._graph, self._label, self._id_name = graph, label, id_property
        self._exists = exists

    def missing(self) -> list[SchemaStep]:
        """Return the graph and the indexes that are missing."""
        steps = []
        if not self._exists():
            steps.append(SchemaStep(name=f"graph:{self._graph}", kind="graph", create="RETURN 1", drop="GRAPH.DELETE"))
        indexes = self._find.indexes()
        # The one that is being built takes the place of the other.
        counting = [names for names, works in indexes if not works] or [names for names, _ in indexes]
        present = {name for names in counting for name in names}
        for name in (self._id_name, *INDEXED):
            if name not in present:
                at = f"INDEX FOR (n:{quoted(self._label)}) ON (n.{quoted(name)})"
                step = SchemaStep(
                    name=f"index:{self._label}.{name}", kind="index", create=f"CREATE {at}", drop=f"DROP {at}"
                )
                steps.append(step)
        return steps

    def apply(self, steps: Sequence[SchemaStep]) -> list[SchemaStep]:
        """Create what is missing, wait until all indexes work, and return what was created by this call."""
        made = []
        for step in steps:
            try:
                if step.create:
                    self._wire.write(step.create)
            except ServerSaid as error:
                if "already indexed" not in error.message:  # somebody else's, just now
                    raise
                continue
            made.append(step)
        self.wait()
        return made

    def wait(self) -> None:
        """Wait until no index of the label is being built, whoever asked for it. StoreUnreachable (20) after 5 minutes.

        Until then a MATCH in a writing query, anyone's, may miss nodes that are there. [measured]
        """
        until = time.monotonic() + _INDEX_WAIT
        while not all(works for _, works in self._find.indexes()):
            if time.monotonic() > until:
                message = "the server does not finish building its indexes"
                raise StoreUnreachable(message, hint="try again when CALL db.indexes() shows OPERATIONAL")
            time.sleep(0.02)

    def drop(self, steps: Sequence[SchemaStep]) -> None:
        """Drop indexes, and the graph where no node is left in it."""
        for step in reversed(steps):
            if not self._exists():
                return
            if step.kind == "index":
                self._drop_index(step)
            elif step.kind == "graph" and not self._read.count("MATCH (n) RETURN count(n)"):
                self._delete_if_empty()
        self.wait()

    def _delete_if_empty(self) -> None:
        """Delete the graph, unless another client changes it meanwhile: FalkorDB has no conditional delete, Redis has.

        It stays, too, where the server lets the user not watch a key.
        """
        wire = self._wire
        try:
            wire.change("WATCH", self._graph)
            if self._read.count("MATCH (n) RETURN count(n)"):
                wire.change("UNWATCH")
                return
            for words in (("MULTI",), ("GRAPH.DELETE", self._graph), ("EXEC",)):
                wire.change(*words)
        except OutcomeUnknown:
            raise
        except (GraphAbsent, MemmigError):
            wire.close()  # and with it what was watched or queued

    def _drop_index(self, step: SchemaStep) -> None:
        try:
            self._wire.write(step.drop)
        except ServerSaid as error:
            if "no such index" not in error.message.lower():
                raise

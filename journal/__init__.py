"""The journal: what a run intends, what it did, and how to take it back. Knows nothing of stores and backends.

``Journal`` and the events are loaded on first use: ``journal.errors`` must not cost the import of SQLAlchemy.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from journal.audit import CheckReport
    from journal.bases import Base, Bases
    from journal.chain import Entry, StoredEntry, entries_digest
    from journal.events import Event, StoredEvent
    from journal.prune import Keep, PruneReport
    from journal.state import BatchState, RunState, fold
    from journal.store import Journal

_HOMES = {
    "Base": "bases",
    "Bases": "bases",
    "BatchState": "state",
    "CheckReport": "audit",
    "Entry": "chain",
    "Event": "events",
    "Journal": "store",
    "Keep": "prune",
    "PruneReport": "prune",
    "RunState": "state",
    "StoredEntry": "chain",
    "StoredEvent": "events",
    "entries_digest": "chain",
    "fold": "state",
}


def __getattr__(name: str) -> object:
    """Load an exported name from its module on first use."""
    home = _HOMES.get(name)
    if home is None:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    found: object = getattr(import_module(f"journal.{home}"), name)
    globals()[name] = found
    return found


__all__ = [
    "Base",
    "Bases",
    "BatchState",
    "CheckReport",
    "Entry",
    "Event",
    "Journal",
    "Keep",
    "PruneReport",
    "RunState",
    "StoredEntry",
    "StoredEvent",
    "entries_digest",
    "fold",
]

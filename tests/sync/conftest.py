"""Nights over in-memory stores, with a clock that stands still until it is told; the engine's world; real stores."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from journal.engine import _WRITE_PRAGMAS
from journal.store import Journal
from migrator import manager
from migrator.backends.memory import STORES, MemoryStore
from migrator.hooks import Hooks
from migrator.models import BackendConfig, BackendType, MigrationOptions
from tests.engine.conftest import world
from tests.integration.stores_of_all_kinds import Places

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from journal.state import RunState
    from journal.watermarks import InStep
    from migrator.models import MigrationResult

__all__ = ["world"]

START = datetime(2026, 3, 1, 22, 0, tzinfo=UTC)


def stamp(moment: datetime) -> str:
    """A time as memorygraph writes it."""
    return moment.isoformat(timespec="microseconds")


@dataclass
class Nights:
    """A source, a target, and runs between them. ``now`` is the clock of runs and of the source's client."""

    journal: Path
    source: BackendConfig
    target: BackendConfig
    now: datetime = START
    results: list[MigrationResult] = field(default_factory=list)

    @property
    def here(self) -> MemoryStore:
        """The source's store."""
        return STORES[self.source.graph]

    @property
    def there(self) -> MemoryStore:
        """The target's store."""
        return STORES[self.target.graph]

    def wait(self, **span: float) -> None:
        """Let time pass."""
        self.now += timedelta(**span)

    def memory(self, identity: str, at: object = ..., **properties: Any) -> None:
        """Write a memory to the source, stamped now, or with ``at`` (None: without a time)."""
        when = stamp(self.now) if at is ... else stamp(at) if isinstance(at, datetime) else at
        times = {} if when is None else {"updated_at": when}
        found = {"type": "task", "title": identity, **times, **properties}
        self.here.nodes[identity] = {"id": identity, "labels": ["Memory"], "properties": found}

    def edge(self, identity: str, start: str, end: str, at: object = ..., **properties: Any) -> None:
        """Write an edge to the source, stamped as a memory is."""
        when = stamp(self.now) if at is ... else stamp(at) if isinstance(at, datetime) else at
        times = {} if when is None else {"created_at": when}
        ends = {"type": "CAUSES", "from": start, "to": end}
        self.here.edges[identity] = {"id": identity, **ends, "properties": {**times, **properties}}

    def run(self, since: str | None = "last", *, resume: bool = False, **options: Any) -> MigrationResult:
        """Run one night."""
        hooks = Hooks(clock=lambda: self.now, stop=options.pop("stop", lambda: 0))
        chosen = MigrationOptions(**{"since": since, "batch_size": 3, **options})
        found = manager.run_migrate(
            self.source, self.target, chosen, journal_path=self.journal, hooks=hooks, resume=resume
        )
        self.results.append(found)
        return found

    def rollback(self, run_id: str) -> MigrationResult:
        """Take a run back."""
        return manager.run_rollback(run_id, journal_path=self.journal, hooks=Hooks(clock=lambda: self.now))

    @property
    def in_step(self) -> InStep:
        """How far the pair is in step."""
        with Journal.open(self.journal, mode="read") as journal:
            (found,) = journal.in_step().values()
            return found

    @property
    def last(self) -> RunState:
        """The newest run."""
        with Journal.open(self.journal, mode="read") as journal:
            return journal.runs()[-1]

    def equal(self) -> bool:
        """Whether the target holds what the source holds, and nothing else."""
        return (self.here.nodes, self.here.edges) == (self.there.nodes, self.there.edges)


@pytest.fixture
def nights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Nights]:
    """Two memories and an edge between them in the source, written an hour ago; the target is empty."""
    # Nobody dies here, and syncing the journal takes most of these tests' time.
    monkeypatch.setattr("journal.engine._WRITE_PRAGMAS", (*_WRITE_PRAGMAS, "PRAGMA synchronous=OFF"))
    one, other = f"source-{uuid.uuid4()}", f"target-{uuid.uuid4()}"
    STORES[one], STORES[other] = MemoryStore(), MemoryStore()
    found = Nights(
        tmp_path / "state" / "journal.db",
        BackendConfig(backend=BackendType.MEMORY, graph=one),
        BackendConfig(backend=BackendType.MEMORY, graph=other),
    )
    found.wait(hours=-1)
    for name in ("a", "b"):
        found.memory(name)
    found.edge("a-b", "a", "b")
    found.wait(hours=1)
    yield found
    del STORES[one], STORES[other]


@pytest.fixture
def places(tmp_path: Path, request: pytest.FixtureRequest) -> Places:
    return Places(tmp_path, request)


def changed(kind: dict[str, int]) -> dict[str, int]:
    """Return the counts of a kind that are not zero."""
    return {key: number for key, number in kind.items() if number}

"""The engine over in-memory stores, with a process that can die at every step."""

from __future__ import annotations

import sqlite3
import uuid
from contextlib import closing
from copy import deepcopy
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from journal.engine import _WRITE_PRAGMAS
from journal.store import Journal
from migrator import manager
from migrator.backends import registry
from migrator.backends.memory import STORES, MemoryStore
from migrator.errors import OutcomeUnknown
from migrator.models import BackendConfig, BackendType, MigrationOptions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from journal.events import Event
    from migrator.backends.base import Backend
    from migrator.models import MigrationResult, Role

#: The methods of a target that change it, or after which the engine believes something.
STEPS = ("swap_marker", "write", "barrier", "apply_schema", "drop_schema")


class Killed(BaseException):
    """The process dies here: nothing between this and the test may catch it."""


@dataclass
class Fate:
    """Counts the steps and strikes at one of them: ``before`` it happens, or ``after`` it did, unheard."""

    at: int = 0  #: 1 = the first step; 0 = never
    when: str = "before"
    how: Callable[[], BaseException] = Killed
    hits: list[str] = field(default_factory=list)

    def around(self, name: str, call: Callable[[], Any]) -> Any:
        """Run one step, or die."""
        self.hits.append(name)
        struck = len(self.hits) == self.at
        if struck and self.when == "before":
            raise self.how()
        result = call()
        if struck:
            raise self.how()
        return result


class Fated:
    """A backend whose writing methods go through a :class:`Fate`."""

    def __init__(self, backend: Backend, fate: Fate) -> None:
        self._backend = backend
        self._fate = fate

    def __getattr__(self, name: str) -> Any:
        inner = getattr(self._backend, name)
        if name not in STEPS:
            return inner
        return lambda *args, **kwargs: self._fate.around(name, lambda: inner(*args, **kwargs))


class Network:
    """What passes between a run, its target and its journal, by name; a request can get lost, or land late.

    Names: ``claim``, ``raise``, ``release``, the other ``STEPS``, and ``journal:`` with the type of an event.
    """

    def __init__(self) -> None:
        self.passed: list[str] = []  #: in the order of sending, held back ones included
        self.arguments: dict[str, list[tuple[Any, ...]]] = {}  #: of each name that is a request, in the same order
        self._plans: dict[tuple[str, str, int], Callable[[], object]] = {}
        self._held: list[Callable[[], Any]] = []

    def before(self, name: str, act: Callable[[], object], *, nth: int = 1) -> None:
        """Do something before the nth passing of a name from now on; nth 0 = each time."""
        self._plans["before", name, nth and self.passed.count(name) + nth] = act

    def after(self, name: str, act: Callable[[], object], *, nth: int = 1) -> None:
        """Do something after the nth passing of a name from now on; nth 0 = each time."""
        self._plans["after", name, nth and self.passed.count(name) + nth] = act

    def kill(self, when: str, name: str, *, nth: int = 1, how: Callable[[], BaseException] = Killed) -> None:
        """Let the process die (or lose its connection) there."""

        def die() -> None:
            raise how()

        (self.before if when == "before" else self.after)(name, die, nth=nth)

    def hold(self, name: str, *, nth: int = 1, how: Callable[[], BaseException] = Killed) -> None:
        """Keep a request on its way, until :meth:`deliver`; whoever sent it dies, or hears nothing."""
        self._plans["instead", name, self.passed.count(name) + nth] = how

    def deliver(self) -> list[Any]:
        """Let what is on its way land; return what the target answers to nobody."""
        held, self._held = self._held, []
        return [call() for call in held]

    def around(self, name: str, call: Callable[[], Any]) -> Any:
        """Pass one request or event."""
        self.passed.append(name)
        count = self.passed.count(name)
        lost = self._plans.pop(("instead", name, count), None)
        if lost is not None:
            self._held.append(call)
            raise lost()  # type: ignore[misc]
        for nth in (count, 0):
            self._plans.get(("before", name, nth), lambda: None)()
        result = call()
        for nth in (count, 0):
            self._plans.get(("after", name, nth), lambda: None)()
        return result


class Networked:
    """A target behind a :class:`Network`."""

    def __init__(self, backend: Backend, network: Network) -> None:
        self._backend = backend
        self._network = network

    def __getattr__(self, name: str) -> Any:
        inner = getattr(self._backend, name)
        if name not in STEPS:
            return inner

        def sent(*args: Any) -> Any:
            known = name if name != "swap_marker" else _swap_name(*args)
            self._network.arguments.setdefault(known, []).append(args)
            return self._network.around(known, lambda: inner(*args))

        return sent


def _swap_name(expected: object, new: object) -> str:
    if expected is None:
        return "claim"
    return "release" if new is None else "raise"


@dataclass
class World:
    """Two in-memory stores, a journal, and a fate."""

    journal: Path
    source: BackendConfig
    target: BackendConfig
    monkeypatch: pytest.MonkeyPatch

    @property
    def source_store(self) -> MemoryStore:
        return STORES[self.source.graph]

    @property
    def target_store(self) -> MemoryStore:
        return STORES[self.target.graph]

    def fate(self, fate: Fate) -> Fate:
        """Let every later run in this world meet the fate."""

        def opened(config: BackendConfig, *, role: Role) -> Any:
            backend = ORIGINAL_OPEN(config, role=role)
            return Fated(backend, fate) if role == "to" else backend

        def append(journal: Journal, run_id: str, *events: Any, entries: Any = ()) -> None:
            names = "journal:" + "+".join(event.type for event in events)
            fate.around(names, lambda: ORIGINAL_APPEND(journal, run_id, *events, entries=entries))

        self.monkeypatch.setattr("migrator.backends.registry.open_backend", opened)
        self.monkeypatch.setattr(Journal, "append", append)
        return fate

    def network(self) -> Network:
        """Put a new network between every later run in this world and its target."""
        network = Network()

        def opened(config: BackendConfig, *, role: Role) -> Any:
            backend = ORIGINAL_OPEN(config, role=role)
            return Networked(backend, network) if role == "to" else backend

        def append(journal: Journal, run_id: str, *events: Any, entries: Any = ()) -> None:
            def call() -> None:
                ORIGINAL_APPEND(journal, run_id, *events, entries=entries)

            for event in events[1:]:
                call = partial(network.around, f"journal:{event.type}", call)
            network.around(f"journal:{events[0].type}", call)

        self.monkeypatch.setattr("migrator.backends.registry.open_backend", opened)
        self.monkeypatch.setattr(Journal, "append", append)
        return network

    def migrate(self, **options: Any) -> MigrationResult:
        """Run, or resume the pair's open run."""
        resume, hooks = options.pop("resume", False), options.pop("hooks", None)
        options = {"batch_size": 3, **options}
        return manager.run_migrate(
            self.source,
            self.target,
            MigrationOptions(**options),
            journal_path=self.journal,
            hooks=hooks,
            resume=resume,
        )

    def rollback(self, run_id: str, **options: Any) -> MigrationResult:
        return manager.run_rollback(run_id, journal_path=self.journal, **options)

    def events(self, run_id: str | None = None) -> list[Event]:
        """The events of a run (the newest), in their order."""
        with Journal.open(self.journal, mode="read") as journal:
            return [stored.event for stored in journal.events(run_id or self.run_ids()[-1])]

    def run_ids(self) -> list[str]:
        """Return the runs in their order; asked so often that the journal, which reads everything, takes too long."""
        with closing(sqlite3.connect(f"file:{self.journal}?mode=ro", uri=True)) as connection:
            found = connection.execute("SELECT run_id FROM events WHERE type = 'run.opened' ORDER BY seq")
            return [run_id for (run_id,) in found]

    def forget(self) -> None:
        """Take the journal away, so that the next run has the steps of a first one."""
        if self.journal.parent.exists():
            for file in self.journal.parent.iterdir():
                file.unlink()

    def restore(self, backup: Path) -> None:
        """Put a backup in the journal's place, as a user would."""
        for file in self.journal.parent.iterdir():
            if file != backup:
                file.unlink()
        backup.rename(self.journal)

    def roll_everything_back(self) -> None:
        """Take back every run that stands, newest first."""
        for run_id in reversed(self.run_ids() if self.journal.exists() else []):
            self.rollback(run_id)

    def check(self) -> None:
        """The journal is sound and no marker is left."""
        with Journal.open(self.journal, mode="read") as journal:
            report = journal.check()
            assert report.ok, report.problems
        assert self.target_store.markers == []


ORIGINAL_APPEND = Journal.append
ORIGINAL_OPEN = registry.open_backend


def contents(store: MemoryStore) -> tuple[Any, Any, Any]:
    """Everything in a store but the marker, comparable."""
    return deepcopy((store.nodes, store.edges, store.schema))


def memory(identity: str, **properties: Any) -> dict[str, Any]:
    """A node's stored form."""
    return {"id": identity, "labels": ["Memory"], "properties": {"type": "task", "title": identity, **properties}}


def edge(identity: str, start: str, end: str, kind: str = "CAUSES", **properties: Any) -> dict[str, Any]:
    """An edge's stored form."""
    return {"id": identity, "type": kind, "from": start, "to": end, "properties": properties}


def fill(store: MemoryStore, memories: int = 8) -> None:
    """A small graph with two edge types, a self-loop, parallels and a hub."""
    names = [f"m{number}" for number in range(memories)]
    for number, name in enumerate(names):
        store.nodes[name] = memory(name, importance=number / 7, updated_at=f"2026-01-{number + 1:02d}T00:00:00Z")
    for number, name in enumerate(names):
        store.edges[f"e{number}"] = edge(f"e{number}", names[0], name, strength=number / 3)
        store.edges[f"p{number}"] = edge(f"p{number}", names[0], name, "SOLVES", note="é" * number)
    store.save()


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """A filled source, and a target that held a memory and an edge of somebody else before."""
    one, other = f"source-{uuid.uuid4()}", f"target-{uuid.uuid4()}"
    monkeypatch.setattr("migrator.reconnect._RECONNECTS", (0.0, 0.0, 0.0))
    # Death is an exception here: what was written stays written, and syncing it takes half of these tests' time.
    monkeypatch.setattr("journal.engine._WRITE_PRAGMAS", (*_WRITE_PRAGMAS, "PRAGMA synchronous=OFF"))
    STORES[one], STORES[other] = MemoryStore(), MemoryStore()
    fill(STORES[one])
    STORES[other].nodes["theirs"] = memory("theirs", content="not ours")
    STORES[other].edges["their-edge"] = edge("their-edge", "theirs", "theirs")
    STORES[other].save()
    yield World(
        tmp_path / "state" / "journal.db",
        BackendConfig(backend=BackendType.MEMORY, graph=one),
        BackendConfig(backend=BackendType.MEMORY, graph=other),
        monkeypatch,
    )
    del STORES[one], STORES[other]


def unknown_outcome() -> OutcomeUnknown:
    """A connection that broke."""
    return OutcomeUnknown("the connection broke")


def die(world: World, when: str, name: str, nth: int = 1) -> None:
    """Run until the process is killed there."""
    network = world.network()
    network.kill(when, name, nth=nth)
    with pytest.raises(Killed):
        world.migrate()


def arrived(world: World) -> bool:
    """Whether the target holds what the source holds, and what it held before, and nothing else."""
    source, target = world.source_store, world.target_store
    nodes = {identity: raw for identity, raw in target.nodes.items() if identity != "theirs"}
    edges = {identity: raw for identity, raw in target.edges.items() if identity != "their-edge"}
    return (nodes, edges) == (source.nodes, source.edges)

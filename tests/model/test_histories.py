"""Histories of runs, crashes, rollbacks and other people's writes, invented by Hypothesis, against a plain model.

Whatever happens in whatever order: nothing foreign is ever lost, overwritten or brought back, nothing dangles, and
everything that a run read arrives or is reported.
"""

from __future__ import annotations

import tempfile
import uuid
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from journal.engine import _WRITE_PRAGMAS
from journal.store import Journal
from migrator import manager
from migrator.backends.memory import STORES, MemoryStore
from migrator.errors import RollbackRefused, StoreRefused, UnfinishedRun, UsageError, VerificationFailed
from migrator.models import BackendConfig, BackendType
from tests import figures
from tests.engine.conftest import Killed, World
from tests.model.histories import Chance, InFile, InMemory, Key, Model, Place, hanging, made

if TYPE_CHECKING:
    from collections.abc import Callable

    from migrator.models import MigrationResult

_MEMORIES = ["m0", "m1", "m2", "m3"]
_EDGES = ["e0", "e1", "e2"]
_NEVER = 0
#: A run of these few records has about thirty steps.
STEPS = st.sampled_from([_NEVER] * 30 + list(range(1, 37)))
WHEN = st.sampled_from(["before", "after"])
ENDS = st.tuples(st.sampled_from(_MEMORIES), st.sampled_from(_MEMORIES))
#: What others do to the target, to which of the records that it can be done to, and between which ends.
FOREIGN = st.tuples(st.sampled_from(["create", "edit", "edit", "delete", "attach", "copy"]), st.integers(0, 9), ENDS)
SOME = st.lists(FOREIGN, max_size=3)
SOURCE = st.lists(st.tuples(st.sampled_from(["memory", "edge", "delete"]), st.integers(0, 9), ENDS), max_size=2)
SHARDS = 4
EXAMPLES = 250  #: of each shard

counted: dict[str, int] = {}


class History(RuleBasedStateMachine):
    """One history, over in-memory stores; see :class:`FileHistory`."""

    name = "memory"

    def __init__(self) -> None:
        super().__init__()
        self.patch = pytest.MonkeyPatch()
        self.folder = tempfile.TemporaryDirectory(prefix="memmig-history-")
        self.patch.setattr("migrator.reconnect._RECONNECTS", (0.0, 0.0, 0.0))
        # Death is an exception here: what was written stays written, and syncing it takes most of the time.
        self.patch.setattr("journal.engine._WRITE_PRAGMAS", (*_WRITE_PRAGMAS, "PRAGMA synchronous=OFF"))
        self.source = MemoryStore()
        source = str(uuid.uuid4())
        STORES[source] = self.source
        for name in _MEMORIES[:3]:
            self.source.nodes[name] = made(("memory", name), f"s-{name}")
        self.source.edges["e0"] = made(("relationship", "e0"), "s-e0", ("m0", "m1"))
        target, place = self.make_target(Path(self.folder.name))
        config = BackendConfig(backend=BackendType.MEMORY, graph=source)
        self.world = World(Path(self.folder.name) / "state" / "journal.db", config, target, self.patch)
        self.model = Model(place)
        self.place = place
        self.tags = count(1)
        self.copies: set[Key] = set()  #: what others wrote equal to the source's: a run may update it, if it sees it so
        self.write(("memory", "theirs"), made(("memory", "theirs"), "theirs"))

    @initialize()
    def first_night(self) -> None:
        """Most of what can go wrong begins with something that was moved."""
        self.finished(self.run(lambda: self.world.migrate(batch_size=2)))

    def make_target(self, folder: Path) -> tuple[BackendConfig, Place]:
        """Return an empty target."""
        del folder
        name = str(uuid.uuid4())
        STORES[name] = MemoryStore()
        return BackendConfig(backend=BackendType.MEMORY, graph=name), InMemory(STORES[name])

    def unfinished(self) -> list[str]:
        """Return the runs that are open, or being taken back."""
        with Journal.open(self.world.journal, mode="read") as journal:
            return [state.run_id for state in journal.runs() if state.unfinished]

    def teardown(self) -> None:
        try:
            self.all_can_be_brought_to_an_end()
        finally:
            self.clean_up()

    def all_can_be_brought_to_an_end(self) -> None:
        """Whatever was left half-way can be finished or taken back, and then a run brings what is still missing."""
        # Twice: one that holds the marker may be in the way of a newer one.
        for run_id in [*reversed(self.unfinished()), *reversed(self.unfinished())]:
            self.taken_back(run_id)
        assert self.unfinished() == []
        self.finished(self.world.migrate(batch_size=2))
        self.model.keeps_what_others_did()
        self.world.fate(Chance())
        with Journal.open(self.world.journal, mode="read") as journal:
            assert journal.check().problems == ()

    def clean_up(self) -> None:
        self.patch.undo()
        for config in (self.world.source, self.world.target):
            STORES.pop(config.graph, None)
        self.folder.cleanup()
        counted[self.name] = counted.get(self.name, 0) + 1

    # --- the source's client ---

    def source_writes(self, what: str, pick: int, ends: tuple[str, str]) -> None:
        tag = f"s{next(self.tags)}"
        name, edge = _MEMORIES[pick % len(_MEMORIES)], _EDGES[pick % len(_EDGES)]
        if what == "memory":
            self.source.nodes[name] = made(("memory", name), tag)
        elif what == "edge" and set(ends) <= self.source.nodes.keys():
            self.source.edges[edge] = made(("relationship", edge), tag, ends)
        elif what == "delete" and len(self.source.nodes) > 1 and self.source.nodes.pop(name, {}):
            for gone in [one for one, raw in self.source.edges.items() if name in (raw["from"], raw["to"])]:
                del self.source.edges[gone]

    # --- the target's other clients ---

    def write(self, key: Key, record: dict[str, Any]) -> None:
        self.place.put(key, record)
        self.model.touched(key)

    def remove(self, key: Key) -> None:
        ours = key not in self.model.theirs and key not in self.copies
        self.copies.discard(key)
        self.place.delete(key)
        self.model.touched(key)
        if not ours:
            # What nobody but others ever had there, a run may create: for the pair it was never in the target.
            self.model.forget(key)

    def foreign(self, what: str, pick: int, ends: tuple[str, str]) -> None:
        """Write to the target directly, whatever is going on."""
        there = self.place.all()
        both = all(("memory", end) in there for end in ends)
        keys: list[Key] = [("memory", name) for name in _MEMORIES]
        if what == "copy":
            keys = [key for key in keys if key[1] in self.source.nodes]
        elif what != "create" or both:
            keys += [("relationship", name) for name in _EDGES]
        keys = [key for key in keys if (key in there) == (what in {"edit", "delete"})]
        tag = f"f{next(self.tags)}"
        if what == "attach" and both:
            attached: Key = ("relationship", f"f{pick % 2}")
            self.write(attached, made(attached, tag, ends))
        if what == "attach" or not keys:
            return
        key = keys[pick % len(keys)]
        if what == "copy":
            self.write(key, self.source.nodes[key[1]])
            self.copies.add(key)
            self.model.forget(key)
        elif what == "delete":
            for one in hanging(self.place, key[1]) if key[0] == "memory" else []:
                self.remove(one)
            self.remove(key)
        else:
            now = self.place.plain(key, there[key]) if what == "edit" and key[0] == "relationship" else ("", *ends)
            self.write(key, made(key, tag, (now[1], now[2])))

    # --- memmig ---

    def meet(self, some: list[tuple[Any, ...]], at: int, when: str, act_at: int, one: tuple[Any, ...]) -> None:
        """Let others write now, and once more while memmig works, which may die at a step."""
        for each in some:
            self.foreign(*each)
        self.world.fate(Chance(at=at, when=when, act_at=act_at, act=lambda: self.foreign(*one)))

    def run(self, call: Callable[[], MigrationResult | None]) -> MigrationResult | None:
        """Run memmig; note the runs that it opened; return its result unless it died or was refused."""
        at, before = self.model.now, self.place.all()
        try:
            return call()
        except (Killed, UnfinishedRun, RollbackRefused):
            return None
        except StoreRefused as refused:
            # By a rollback that was begun and is not that of this run.
            if not any(run_id in refused.message for run_id in self.unfinished()):
                raise
            return None
        except UsageError:
            # Which one to resume?
            if len(self.unfinished()) == 1:
                raise
            return None
        finally:
            self.world.fate(Chance())
            for run_id in self.world.run_ids():
                self.model.opened(run_id, before, at)

    def finished(self, result: MigrationResult | None, *, resumed: bool = False) -> None:
        """Judge a run that came through while nobody else wrote."""
        if result is None:
            return
        assert result.status == "finished"
        assert self.place.markers() == 0
        # What changed on either side after this run had written it, and before it was resumed, its verification found.
        found = result.verification.foreign + result.verification.changing
        alone = sum(
            counts[what] for counts in (result.memories, result.relationships) for what in ("conflict", "foreign")
        )
        self.model.arrived(self.source, alone + found, exactly=not resumed)

    @rule(sources=SOURCE, some=SOME, at=STEPS, when=WHEN, act_at=STEPS, one=FOREIGN)
    def night(self, sources: list[tuple[Any, ...]], act_at: int, **meets: Any) -> None:
        for written in sources:
            self.source_writes(*written)
        self.meet(act_at=act_at, **meets)
        self.settled(self.run(lambda: self.world.migrate(batch_size=2)), act_at)

    @rule(some=SOME, at=STEPS, when=WHEN, act_at=STEPS, one=FOREIGN)
    def resume(self, act_at: int, **meets: Any) -> None:
        self.meet(act_at=act_at, **meets)
        self.settled(self.run(lambda: manager.run_resume(None, journal_path=self.world.journal)), act_at, resumed=True)

    def settled(self, result: MigrationResult | None, act_at: int, *, resumed: bool = False) -> None:
        """Judge a run that came through; one during which others wrote is only judged by what must never happen."""
        if act_at == _NEVER:
            self.finished(result, resumed=resumed)

    @rule(data=st.data(), some=SOME, at=STEPS, when=WHEN, act_at=STEPS, one=FOREIGN)
    def rollback(self, data: st.DataObject, **meets: Any) -> None:
        run_id = data.draw(st.sampled_from(self.world.run_ids()[::-1]))
        self.meet(**meets)
        self.taken_back(run_id)

    def taken_back(self, run_id: str) -> None:
        """Roll a run back, and judge what that left."""
        result = self.run(lambda: self.world.rollback(run_id))
        # What is taken back is no longer known as having been in the target: a later run may bring it again.
        for key in [key for key, stored in self.model.theirs.items() if stored is None]:
            assert key not in self.place.all(), f"{key} was brought back by a rollback"
            self.model.forget(key)
        runs = self.world.run_ids()
        later = runs[runs.index(run_id) + 1 :]
        if result is not None:
            assert self.place.markers() == 0
            if not later:
                self.model.taken_back(run_id, result.findings)
        for other in later:
            # Begun at least: the target is no longer as it was when they began.
            self.model.before[other] = None

    @rule(data=st.data())
    def verify(self, data: st.DataObject) -> None:
        runs = self.world.run_ids()
        before, journal = self.place.all(), self.world.journal.read_bytes()
        with suppress(VerificationFailed):
            manager.run_verify(data.draw(st.sampled_from(runs)), journal_path=self.world.journal)
        assert (self.place.all(), self.world.journal.read_bytes()) == (before, journal)

    # --- always ---

    @invariant()
    def nothing_foreign_is_lost(self) -> None:
        self.model.keeps_what_others_did()

    @invariant()
    def there_is_one_marker_at_most(self) -> None:
        assert self.place.markers() <= 1


class FileHistory(History):
    """One history, into a SQLite file."""

    name = "sqlite"

    def make_target(self, folder: Path) -> tuple[BackendConfig, Place]:
        path = folder / "target.db"
        return BackendConfig(backend=BackendType.SQLITE, path=path), InFile(path)


def _run(kind: type[History], examples: int, *, steps: int, derandomize: bool) -> None:
    chosen = settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        database=None,
        derandomize=derandomize,
        print_blob=True,
        # Making a history that fails shorter takes minutes; as it is, it can be read, too.
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    before = counted.get(kind.name, 0)
    run_state_machine_as_test(kind, settings=chosen)
    done = counted[kind.name] - before
    assert done >= examples
    figures.count(f"histories on {kind.name}", {"invented": done, "with something foreign lost or overwritten": 0})


@pytest.mark.parametrize("kind", [History, FileHistory])
def test_some_histories(kind: type[History]) -> None:
    _run(kind, 40, steps=10, derandomize=True)


@pytest.mark.long
@pytest.mark.parametrize("kind", [History, FileHistory])
@pytest.mark.parametrize("shard", range(SHARDS))
def test_thousands_of_histories(kind: type[History], shard: int) -> None:
    _run(kind, EXAMPLES, steps=10 + 2 * shard, derandomize=False)

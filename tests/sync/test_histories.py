"""Random histories of edits over several nights end equal to a migration of the last state.

Each night must bring what was edited before it, whatever the stamps are, as long as they lie within the overlap of the
clock and never go back: a record that seems older than before is a conflict, of which other tests tell.
"""

from __future__ import annotations

import shutil
import tempfile
import uuid
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from migrator.backends.memory import STORES, MemoryStore, PlainForm
from migrator.model import KINDS, Corrupt, digest
from migrator.models import BackendConfig, BackendType
from migrator.times import parse_time
from tests.sync.conftest import START, Nights, stamp

if TYPE_CHECKING:
    from collections.abc import Iterator

    from migrator.model import Kind

NAMES = "abcd"

names = st.sampled_from(NAMES)
#: How a stamp lies beside the clock: right, skewed within the overlap, in the future, the same as ever, none, unclear.
stamps = st.sampled_from(["now", "now", "now", "late", "early", "future", "none", "zoneless", "number", "soon"])
edits = st.one_of(
    st.tuples(st.just("memory"), names, stamps, st.integers(0, 9)),
    st.tuples(st.just("edge"), names, names, names, stamps, st.integers(0, 9)),
    st.tuples(st.just("forget"), names),
    st.tuples(st.just("wait"), st.integers(0, 3)),
)
#: A night: its edits, and whether its run compares everything.
histories = st.lists(st.tuples(st.lists(edits, max_size=6), st.sampled_from([False, False, True])), max_size=5)


def time_of(nights: Nights, how: str) -> object:
    return {
        "now": nights.now,
        "late": nights.now - timedelta(minutes=4),
        "early": nights.now + timedelta(minutes=4),
        "future": nights.now + timedelta(days=400),
        "none": None,
        "zoneless": nights.now.replace(tzinfo=None).isoformat(),
        "number": int(nights.now.timestamp()) * 1000,
        "soon": "soon",
    }[how]


def not_before(held: dict[str, Any] | None, name: str, at: object) -> object:
    """Return a time of a record, or the one that it has, where that is later."""
    before = None if held is None else parse_time(held["properties"].get(name))
    moment = at if isinstance(at, datetime) else parse_time(at)
    return before if before is not None and moment is not None and moment < before else at


def digests(store: MemoryStore) -> list[set[str]]:
    """What a store holds: the same instant may be written in two ways."""
    form = PlainForm()
    records = [[form.decode(kind, raw) for raw in store.held(kind).values()] for kind in KINDS]
    return [{digest(one) for one in some if not isinstance(one, Corrupt)} for some in records]


def edit(nights: Nights, what: tuple[Any, ...]) -> None:
    """Change the source as its client would; an edge brings the memories that it needs, as old as they may be."""
    match what:
        case ("memory", name, how, value):
            held = nights.here.nodes.get(name) or nights.there.nodes.get(name)
            at = not_before(held, "updated_at", time_of(nights, how))
            nights.memory(name, at, value=value)
        case ("edge", name, start, end, how, value):
            held = nights.here.edges.get(f"e{name}")
            if held is not None:
                start, end = held["from"], held["to"]
            for end_name in (start, end):
                if end_name not in nights.here.nodes:
                    known = nights.there.nodes.get(end_name)
                    old = START - timedelta(days=1000)
                    nights.memory(end_name, old if known is None else not_before(known, "updated_at", nights.now))
            nights.edge(f"e{name}", start, end, time_of(nights, how), value=value)
        case ("forget", name):
            nights.here.nodes.pop(name, None)
            kept = {edge: raw for edge, raw in nights.here.edges.items() if name not in (raw["from"], raw["to"])}
            nights.here.edges = kept
            for lonely in nights.here.nodes.keys() - nights.there.nodes.keys():
                # Without its edge nothing would show that it came, if it is as old as it says.
                nights.memory(lonely)
        case ("wait", hours):
            nights.wait(hours=hours)


@contextmanager
def begun() -> Iterator[Nights]:
    """Two stores in step."""
    one, other = f"source-{uuid.uuid4()}", f"target-{uuid.uuid4()}"
    STORES[one], STORES[other] = MemoryStore(), MemoryStore()
    folder = Path(tempfile.mkdtemp())
    nights = Nights(
        folder / "journal.db",
        BackendConfig(backend=BackendType.MEMORY, graph=one),
        BackendConfig(backend=BackendType.MEMORY, graph=other),
    )
    try:
        nights.memory("kept")  # An empty source stops every run that deletes.
        nights.run()
        yield nights
    finally:
        del STORES[one], STORES[other]
        shutil.rmtree(folder)


@settings(deadline=None, max_examples=20, suppress_health_check=[HealthCheck.too_slow])
@given(histories)
def test_every_night_ends_equal_to_the_source(history: list[tuple[list[tuple[Any, ...]], bool]]) -> None:
    with begun() as nights:
        for changes, full in history:
            for change in changes:
                edit(nights, change)
            found = nights.run(None if full else "last", delete=True, max_delete="100%")
            assert found.exit_code == 0
            assert digests(nights.here) == digests(nights.there), found
            # A watermark never lies in the future, and never moves back.
            reached = [one.watermark for one in nights.results if one.watermark is not None]
            assert reached == sorted(reached)
            assert all(mark <= stamp(nights.now).replace("+00:00", "Z") for mark in reached)
            nights.wait(minutes=1)
        assert nights.run(None).memories["created"] == 0


# --- with others in the target, and nights taken back ----------------------------------------------------------------

#: What others do to a record of the target: its kind, its name, and whether they change or delete it.
theirs = st.tuples(st.sampled_from(KINDS), names, st.booleans())
#: A night: edits of the source, of the target, whether everything is compared, and whether it is taken back.
troubled = st.lists(
    st.tuples(
        st.lists(edits, max_size=5), st.lists(theirs, max_size=2), st.booleans(), st.sampled_from([False, False, True])
    ),
    max_size=5,
)


@dataclass
class Others:
    """What others have done to the target: these records are theirs from then on. None: deleted."""

    left: dict[Kind, dict[str, Any]] = field(default_factory=lambda: {kind: {} for kind in KINDS})

    def edit(self, store: MemoryStore, kind: Kind, name: str, *, delete: bool) -> None:
        """Change or delete a record, with the edges that hang on it."""
        name = name if kind == "memory" else f"e{name}"
        held = store.held(kind)
        if name not in held:
            return
        if not delete:
            held[name]["properties"]["title"] = f"theirs {name}"
            self.left[kind][name] = deepcopy(held[name])
            return
        if kind == "memory":
            for edge in [edge for edge, raw in store.edges.items() if name in (raw["from"], raw["to"])]:
                self.edit(store, "relationship", edge.removeprefix("e"), delete=True)
        del held[name]
        self.left[kind][name] = None

    def judge(self, here: MemoryStore, there: MemoryStore) -> None:
        """What is theirs is as they left it; all else is equal, but what hangs on it, or what it hangs on."""
        for kind in KINDS:
            for name, raw in self.left[kind].items():
                assert there.held(kind).get(name) == raw, "it is theirs"
        gone = {name for name, raw in self.left["memory"].items() if raw is None}
        blocked = {
            name for store in (here, there) for name, raw in store.edges.items() if gone & {raw["from"], raw["to"]}
        }
        ends = {end for raw in there.edges.values() for end in (raw["from"], raw["to"])}
        assert ends <= there.nodes.keys(), "nothing dangles"
        form = PlainForm()
        for kind in KINDS:
            mine, found = here.held(kind), there.held(kind)
            for name in (mine.keys() | found.keys()) - self.left[kind].keys() - blocked:
                if name not in mine:
                    assert kind == "memory", "what is gone goes"
                    assert name in ends, "it stays for what hangs on it only"
                else:
                    one, other = form.decode(kind, mine[name]), form.decode(kind, found.get(name, {}))
                    assert not isinstance(one, Corrupt), name
                    assert not isinstance(other, Corrupt), name
                    assert digest(one) == digest(other), name


def check_troubled(history: list[tuple[list[tuple[Any, ...]], list[tuple[Kind, str, bool]], bool, bool]]) -> None:
    """Run the nights; each is judged, and one that is taken back leaves no trace: the next one brings all of it."""
    others = Others()
    with begun() as nights:
        for changes, by_others, full, back in [*history, ([], [], False, False), ([], [], True, False)]:
            for change in changes:
                edit(nights, change)
            for kind, name, delete in by_others:
                others.edit(nights.there, kind, name, delete=delete)
            before = deepcopy((nights.there.nodes, nights.there.edges)), nights.in_step.watermark
            found = nights.run(None if full else "last", delete=True, max_delete="100%")
            assert found.exit_code in ({0, 10} if any(others.left.values()) else {0})
            others.judge(nights.here, nights.there)
            if back:
                assert nights.rollback(found.run_id).exit_code == 0
                assert ((nights.there.nodes, nights.there.edges), nights.in_step.watermark) == before
            nights.wait(minutes=1)


@settings(deadline=None, max_examples=15, suppress_health_check=[HealthCheck.too_slow])
@given(troubled)
def test_nights_with_others_in_the_target_and_nights_taken_back(history: Any) -> None:
    check_troubled(history)


@pytest.mark.long
@settings(deadline=None, max_examples=500, suppress_health_check=[HealthCheck.too_slow])
@given(troubled)
def test_many_nights_with_others_in_the_target_and_nights_taken_back(history: Any) -> None:
    check_troubled(history)

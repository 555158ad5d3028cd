"""A batch on its way while the next one is planned: into a target that was empty, in which nothing is looked up."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest

from journal.events import BatchApplied, BatchPlanned
from migrator.backends.memory import MemoryBackend
from migrator.errors import Interrupted
from migrator.hooks import Hooks
from tests.engine.conftest import (
    ORIGINAL_APPEND,
    ORIGINAL_OPEN,
    Fate,
    Killed,
    arrived,
    contents,
    memory,
    unknown_outcome,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.engine.conftest import World

_SECONDS = 10.0


@pytest.fixture
def empty(world: World) -> World:
    _clear(world)
    return world


def _clear(world: World) -> None:
    store = world.target_store
    store.nodes.clear()
    store.edges.clear()
    store.markers.clear()
    store.schema.clear()
    store.save()


def _calm(world: World) -> None:
    world.monkeypatch.setattr("migrator.backends.registry.open_backend", ORIGINAL_OPEN)
    world.monkeypatch.setattr("journal.store.Journal.append", ORIGINAL_APPEND)


def _first_write(world: World, act: Callable[[], object]) -> None:
    """Do something in the thread that writes, before the first batch."""
    write = MemoryBackend.write

    def late(self: MemoryBackend, *args: Any) -> Any:
        world.monkeypatch.setattr(MemoryBackend, "write", write)
        act()
        return write(self, *args)

    world.monkeypatch.setattr(MemoryBackend, "write", late)


def test_the_next_is_planned_while_one_is_on_its_way(empty: World) -> None:
    read = threading.Event()
    waited: list[threading.Thread] = []
    scan = MemoryBackend.scan

    def noticed(self: MemoryBackend, kind: Any, size: int) -> Iterator[Any]:
        for chunk in scan(self, kind, size):
            if waited:
                read.set()
            yield chunk

    def wait() -> None:
        waited.append(threading.current_thread())
        assert read.wait(_SECONDS), "nothing was read while the batch was on its way"

    empty.monkeypatch.setattr(MemoryBackend, "scan", noticed)
    _first_write(empty, wait)
    empty.migrate()
    assert waited != [threading.main_thread()]
    assert arrived(empty)
    steps = [(event.type, event.batch) for event in empty.events() if isinstance(event, (BatchPlanned, BatchApplied))]
    assert [step for _, step in steps] == [number for number in range(1, len(steps) // 2 + 1) for _ in "pa"]
    assert [what for what, _ in steps[:4]] == ["batch.planned", "batch.applied"] * 2, "one at a time"


def test_killed_anywhere_it_is_resumed_and_taken_back(empty: World) -> None:
    steps = empty.fate(Fate())
    empty.migrate()
    count = len(steps.hits)
    for at in range(1, count + 1):
        for when in ("before", "after"):
            _clear(empty)
            empty.forget()
            empty.fate(Fate(at, when))
            with pytest.raises(Killed):
                empty.migrate()
            _calm(empty)
            empty.migrate(resume=True)
            assert arrived(empty), (at, when)
            empty.check()
            empty.roll_everything_back()
            assert contents(empty.target_store)[:2] == ({}, {}), (at, when)


def test_an_answer_that_is_lost_is_looked_for(empty: World) -> None:
    steps = empty.fate(Fate())
    empty.migrate()
    writes = [at for at, name in enumerate(steps.hits, 1) if name == "write"]
    for at in writes:
        for when in ("before", "after"):
            _clear(empty)
            empty.forget()
            empty.fate(Fate(at, when, how=unknown_outcome))
            assert empty.migrate().exit_code == 0
            assert arrived(empty), (at, when)
            empty.check()


def test_a_stop_waits_for_the_batch_and_journals_it(empty: World) -> None:
    began, stop = threading.Event(), []

    def asked() -> int:
        if began.is_set():
            stop.append(2)
        return 2 if stop else 0

    _first_write(empty, began.set)
    with pytest.raises(Interrupted) as caught:
        empty.migrate(hooks=Hooks(stop=asked))
    assert caught.value.result.memories["created"] == len(empty.target_store.nodes) == 3
    assert [event.type for event in empty.events()][-1] == "batch.applied"
    empty.migrate(resume=True)
    assert arrived(empty)


def test_a_refused_batch_is_planned_anew_and_so_is_what_was_planned_meanwhile(empty: World) -> None:
    def theirs() -> None:
        for name in ("m1", "m4"):  # of the first batch and of the second
            empty.target_store.nodes[name] = memory(name, title="theirs")
        empty.target_store.save()

    _first_write(empty, theirs)
    found = empty.migrate()
    assert (found.memories["created"], found.memories["conflict"]) == (6, 2)
    assert empty.target_store.nodes["m4"]["properties"]["title"] == "theirs"
    empty.check()

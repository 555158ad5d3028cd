"""Die at every step of a run, of its resume, and of a rollback: the end is that of an undisturbed run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from migrator.errors import MemmigError
from tests.engine.conftest import Fate, Killed, contents, unknown_outcome

if TYPE_CHECKING:
    from tests.engine.conftest import World

ENDS = ("before", "after")


def steps_of(world: World) -> int:
    """Count the steps of an undisturbed run and rollback, and put everything back."""
    fate = world.fate(Fate())
    result = world.migrate()
    forward = len(fate.hits)
    world.rollback(result.run_id)
    return forward


def expected(world: World) -> tuple[Any, Any]:
    """What an undisturbed run leaves, as (nodes, edges)."""
    source, target = world.source_store, world.target_store
    return {**target.nodes, **source.nodes}, {**target.edges, **source.edges}


def finish(world: World) -> Any:
    """Resume until done; a resume with nothing open starts a new run, as a crash before run.opened must."""
    world.fate(Fate())
    return world.migrate(resume=True)


@pytest.mark.parametrize("when", ENDS)
def test_every_step_of_a_run(world: World, when: str) -> None:
    steps = steps_of(world)
    assert steps > 20, "the run is too short to prove anything"
    before = contents(world.target_store)
    wanted = expected(world)
    for at in range(1, steps + 1):
        world.forget()
        fate = world.fate(Fate(at=at, when=when))
        with pytest.raises(Killed):
            world.migrate()
        where = f"{when} {fate.hits[-1]} ({at})"
        result = finish(world)
        assert (world.target_store.nodes, world.target_store.edges) == wanted, where
        assert result.verification.status == "passed", where
        world.check()
        world.roll_everything_back()
        assert contents(world.target_store) == before, where
        world.check()


@pytest.mark.parametrize("when", ENDS)
@pytest.mark.parametrize("second", [1, 2, 3, 5, 8])
def test_two_crashes(world: World, when: str, second: int) -> None:
    steps = steps_of(world)
    before = contents(world.target_store)
    wanted = expected(world)
    for at in range(1, steps + 1, 3):
        world.forget()
        world.fate(Fate(at=at, when=when))
        with pytest.raises(Killed):
            world.migrate()
        world.fate(Fate(at=second, when=when))
        try:
            world.migrate(resume=True)
        except Killed:
            finish(world)
        assert (world.target_store.nodes, world.target_store.edges) == wanted, (at, second)
        world.check()
        world.fate(Fate())
        world.roll_everything_back()
        assert contents(world.target_store) == before, (at, second)


@pytest.mark.parametrize("when", ENDS)
def test_every_step_of_a_rollback(world: World, when: str) -> None:
    before = contents(world.target_store)
    at = 0
    while True:
        at += 1
        world.fate(Fate())
        world.forget()
        run_id = world.migrate().run_id
        fate = world.fate(Fate(at=at, when=when))
        try:
            world.rollback(run_id)
        except Killed:
            world.fate(Fate())
            world.rollback(run_id)
        else:
            break
        assert contents(world.target_store) == before, (at, fate.hits[-1])
        world.check()
    assert at > 10


@pytest.mark.parametrize("when", ENDS)
def test_rollback_of_a_run_that_was_killed_anywhere(world: World, when: str) -> None:
    steps = steps_of(world)
    before = contents(world.target_store)
    for at in range(1, steps + 1):
        world.forget()
        fate = world.fate(Fate(at=at, when=when))
        with pytest.raises(Killed):
            world.migrate()
        world.fate(Fate())
        world.roll_everything_back()
        assert contents(world.target_store) == before, (at, fate.hits[-1])
        if world.journal.exists():
            world.check()


@pytest.mark.parametrize("when", ENDS)
def test_a_connection_that_breaks_at_every_step_is_mended_in_the_run(world: World, when: str) -> None:
    steps = steps_of(world)
    wanted = expected(world)
    before = contents(world.target_store)
    for at in range(1, steps + 1):
        world.forget()
        fate = world.fate(Fate(at=at, when=when, how=unknown_outcome))
        try:
            result = world.migrate()
        except MemmigError:
            result = finish(world)
        assert (world.target_store.nodes, world.target_store.edges) == wanted, (at, fate.hits)
        assert result.verification.status == "passed"
        world.check()
        world.roll_everything_back()
        assert contents(world.target_store) == before, at


@pytest.mark.parametrize("when", ENDS)
def test_a_server_that_dies_and_loses_what_was_not_durable(world: World, when: str) -> None:
    steps = steps_of(world)
    wanted = expected(world)
    before = contents(world.target_store)
    for at in range(1, steps + 1):
        world.target_store.save()
        world.forget()
        fate = world.fate(Fate(at=at, when=when))
        with pytest.raises(Killed):
            world.migrate()
        world.target_store.restart()
        finish(world)
        assert (world.target_store.nodes, world.target_store.edges) == wanted, (at, fate.hits[-1])
        world.check()
        world.roll_everything_back()
        assert contents(world.target_store)[:2] == before[:2], (at, fate.hits[-1])

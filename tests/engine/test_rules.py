"""The protocol's rules, each by the trace that loses, resurrects or overwrites a record where the rule is left out."""

from __future__ import annotations

from collections import Counter
from copy import deepcopy
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from journal import events
from migrator import manager
from migrator.backends.base import Marker, WriteOutcome
from migrator.backends.memory import STORES, MemoryStore
from migrator.errors import StoreRefused, TargetChanged, UnfinishedRun
from migrator.models import BackendConfig, BackendType, MigrationOptions
from tests.engine.conftest import Killed, arrived, contents, die, fill, memory, unknown_outcome

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.engine.conftest import World

THEIRS = Marker(journal="theirs", run="theirs", epoch=1, batch=0, digest="", owner="somebody else")


def epochs(world: World) -> list[int]:
    return [event.epoch for event in world.events() if isinstance(event, events.EpochPlanned)]


# --- I7: nothing is believed before the epoch has been raised ---------------------------------------------------------


@pytest.mark.parametrize("nth", [1, 4], ids=["memories", "relationships"])
def test_a_batch_that_lands_after_the_run_was_settled_changes_nothing(world: World, nth: int) -> None:
    network = world.network()
    answers: list[Any] = []
    network.hold("write", nth=nth, how=unknown_outcome)
    network.before("write", lambda: answers.extend(network.deliver()), nth=nth + 1)
    result = world.migrate()
    assert answers == [WriteOutcome.MARKER_REFUSED]
    assert (result.status, result.exit_code) == ("finished", 0)
    assert arrived(world)
    world.check()


def test_a_batch_that_lands_after_another_process_resumed_changes_nothing(world: World) -> None:
    network = world.network()
    network.hold("write", nth=2)
    with pytest.raises(Killed):
        world.migrate()
    answers: list[Any] = []
    network.before("write", lambda: answers.extend(network.deliver()))
    world.migrate(resume=True)
    assert answers == [WriteOutcome.MARKER_REFUSED]
    assert arrived(world)


def test_a_batch_that_lands_in_a_rollback_resurrects_nothing(world: World) -> None:
    before = contents(world.target_store)
    network = world.network()
    network.hold("write", nth=2)
    with pytest.raises(Killed):
        world.migrate()
    answers: list[Any] = []
    network.before("write", lambda: answers.extend(network.deliver()))
    world.rollback(world.run_ids()[-1])
    assert answers == [WriteOutcome.MARKER_REFUSED]
    assert contents(world.target_store) == before


@pytest.mark.parametrize("when", ["claim", "raise", "release"])
def test_a_batch_that_lands_after_a_claim_a_raise_or_the_release_changes_nothing(world: World, when: str) -> None:
    """The claim is a new one: the first server died and took the first claim with it."""
    network = world.network()
    network.hold("write", nth=2)
    with pytest.raises(Killed):
        world.migrate()
    if when == "claim":
        world.target_store.durable = None
        world.target_store.restart()
    answers: list[Any] = []
    network.after(when, lambda: answers.extend(network.deliver()))
    world.migrate(resume=True)
    assert answers == [WriteOutcome.MARKER_REFUSED]
    assert arrived(world)


# --- marker and epochs ------------------------------------------------------------------------------------------------


def test_no_batch_is_sent_under_a_claims_own_epoch(world: World) -> None:
    network = world.network()
    world.rollback(world.migrate().run_id)
    claimed = {new.epoch for _, new in network.arguments["claim"]}
    sent = {marker.epoch for _, marker in network.arguments["write"]}
    assert len(claimed) == 2, "a run, and its rollback"
    assert not claimed & sent


def test_an_epoch_whose_raise_never_arrived_is_not_used_again(world: World) -> None:
    network = world.network()
    network.hold("raise")
    with pytest.raises(Killed):
        world.migrate()
    for _ in range(2):
        network.hold("raise")
        with pytest.raises(Killed):
            world.migrate(resume=True)
    world.migrate(resume=True)
    assert max(Counter(epochs(world)).values()) == 1
    assert network.deliver() == [False] * 3, "and where they land late, they change nothing"
    assert arrived(world)
    world.check()


def test_an_epoch_whose_claim_never_arrived_is_not_used_again(world: World) -> None:
    network = world.network()
    network.hold("claim")
    with pytest.raises(Killed):
        world.migrate()
    network.hold("claim")
    with pytest.raises(Killed):
        world.migrate(resume=True)
    world.migrate(resume=True)
    assert max(Counter(epochs(world)).values()) == 1


def test_the_next_epoch_is_above_a_marker_that_is_ahead_of_the_journal(world: World) -> None:
    """As after a journal was restored that is older, yet knows every batch."""
    die(world, "before", "journal:batch.planned", nth=3)
    marker = world.target_store.markers[0]
    world.target_store.markers = [replace(marker, epoch=marker.epoch + 7)]
    world.network()
    world.migrate(resume=True)
    assert epochs(world)[-1] == marker.epoch + 8
    assert arrived(world)


def test_a_claim_that_lands_after_the_release_holds_nobody_up(world: World) -> None:
    network = world.network()
    network.hold("claim")
    with pytest.raises(Killed):
        world.migrate()
    world.migrate(resume=True)
    assert network.deliver() == [True]
    assert world.target_store.markers
    world.source_store.nodes["new"] = memory("new")
    assert world.migrate().memories["created"] == 1
    assert arrived(world)
    world.check()


def with_a_late_claim(world: World) -> None:
    """The run has written; somebody took its marker out; then a claim lands that was sent long before."""
    network = world.network()
    network.hold("claim")
    with pytest.raises(Killed):
        world.migrate()
    network.kill("after", "journal:batch.applied", nth=2)
    with pytest.raises(Killed):
        world.migrate(resume=True)
    world.target_store.markers.clear()
    assert network.deliver() == [True]


def test_a_late_claim_below_the_acknowledged_epoch_stops_the_run(world: World) -> None:
    with_a_late_claim(world)
    before = contents(world.target_store)
    with pytest.raises(TargetChanged, match="removed"):
        world.migrate(resume=True)
    assert contents(world.target_store) == before


def test_a_late_claims_batch_number_means_nothing_to_a_rollback(world: World) -> None:
    before = contents(world.target_store)
    with_a_late_claim(world)
    world.rollback(world.run_ids()[-1])
    assert not [event for event in world.events() if isinstance(event, events.BatchesLost) and event.lost]
    assert contents(world.target_store) == before
    world.check()


def test_the_first_hold_by_raise_is_journalled_as_the_claim(world: World) -> None:
    die(world, "after", "claim")
    world.network()
    world.migrate(resume=True)
    held = [event.type for event in world.events() if isinstance(event, (events.RunClaimed, events.EpochRaised))]
    assert held == ["run.claimed"]


def test_a_claim_beside_another_is_withdrawn(world: World) -> None:
    """Two claims at once, on an engine whose reads and writes interleave."""
    before = contents(world.target_store)
    network = world.network()
    network.after("claim", lambda: world.target_store.markers.append(THEIRS))
    with pytest.raises(StoreRefused, match="somebody else"):
        world.migrate()
    assert contents(world.target_store)[:2] == before[:2], "nothing was written"
    assert world.target_store.markers == [THEIRS]


def test_two_markers_stop_a_resume(world: World) -> None:
    die(world, "before", "write", nth=2)
    world.network()
    world.target_store.markers.append(THEIRS)
    before = contents(world.target_store)
    with pytest.raises(StoreRefused, match="2 markers"):
        world.migrate(resume=True)
    assert contents(world.target_store) == before


def test_the_release_takes_no_marker_but_its_own(world: World) -> None:
    network = world.network()
    network.after("journal:run.finished", lambda: world.target_store.markers.__setitem__(0, THEIRS))
    world.migrate()
    assert world.target_store.markers == [THEIRS]


def test_a_digest_is_looked_up_among_all_plans_of_the_run(world: World) -> None:
    """A server comes back with a batch that it had lost before: a standby that was ahead of what was restored first."""
    store = world.target_store
    die(world, "before", "write", nth=2)
    ahead = deepcopy((store.nodes, store.edges, store.markers))
    store.restart()
    network = world.network()
    network.kill("after", "journal:batches.lost")
    with pytest.raises(Killed):
        world.migrate(resume=True)
    store.nodes, store.edges, store.markers = ahead
    store.identity = "the standby"
    result = world.migrate(resume=True)
    assert result.exit_code == 0
    assert arrived(world)


# --- one run at a time ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("resume", [False, True])
def test_an_open_run_of_another_pair_holds_the_target(world: World, resume: bool) -> None:
    die(world, "before", "write", nth=2)
    world.network()
    STORES["another-source"] = MemoryStore()
    fill(STORES["another-source"], 2)
    other = BackendConfig(backend=BackendType.MEMORY, graph="another-source")
    before = contents(world.target_store)
    with pytest.raises(UnfinishedRun) as caught:
        manager.run_migrate(other, world.target, MigrationOptions(), journal_path=world.journal, resume=resume)
    assert (caught.value.exit_code, contents(world.target_store)) == (50, before)


@pytest.mark.parametrize("go_on", [lambda world: world.migrate(resume=True), lambda world: world.migrate()])
def test_a_rollback_that_began_is_finished_before_anything_else(world: World, go_on: Callable[[World], object]) -> None:
    before = contents(world.target_store)
    run_id = world.migrate().run_id
    network = world.network()
    network.kill("before", "write", nth=2)
    with pytest.raises(Killed):
        world.rollback(run_id)
    with pytest.raises(UnfinishedRun, match="rollback"):
        go_on(world)
    world.rollback(run_id)
    assert contents(world.target_store) == before

"""What a server lost is planned anew, and what is called durable survives it."""

from __future__ import annotations

from collections import Counter
from copy import deepcopy
from typing import TYPE_CHECKING

import pytest

from migrator.backends.base import Durability
from migrator.backends.memory import MemoryBackend
from migrator.errors import NotDurable, TargetChanged
from migrator.hooks import Hooks
from tests.engine.conftest import Killed, arrived, contents, die, fill, memory

if TYPE_CHECKING:
    from tests.engine.conftest import World


def others_write_equal_ones(world: World) -> None:
    """Somebody else writes m3, m4 and m5 as the source holds them; nobody has made that durable."""
    world.target_store.nodes |= {name: deepcopy(world.source_store.nodes[name]) for name in ("m3", "m4", "m5")}


# --- what a server lost -----------------------------------------------------------------------------------------------


def test_decisions_since_the_last_barrier_are_void_when_batches_are_lost(world: World) -> None:
    network = world.network()
    network.after("write", lambda: others_write_equal_ones(world))
    network.kill("before", "journal:batch.planned", nth=3)
    with pytest.raises(Killed):
        world.migrate()
    world.target_store.restart()
    result = world.migrate(resume=True)
    assert (result.memories["created"], result.memories["unchanged"], result.exit_code) == (8, 0, 0)
    assert arrived(world)


def test_decisions_since_the_last_barrier_are_void_even_if_no_batch_is_lost(world: World) -> None:
    store = world.target_store
    network = world.network()

    def saved_before_others_wrote() -> None:
        store.save()
        others_write_equal_ones(world)

    network.after("write", saved_before_others_wrote)
    network.kill("before", "journal:batch.planned", nth=3)
    with pytest.raises(Killed):
        world.migrate()
    store.restart()
    assert store.markers[0].batch == 1, "m = j"
    result = world.migrate(resume=True)
    assert (result.memories["created"], result.exit_code) == (8, 0)
    assert arrived(world)


def test_decisions_are_void_when_a_restarted_server_kept_a_batch_that_it_never_acknowledged(world: World) -> None:
    network = world.network()
    network.after("write", lambda: others_write_equal_ones(world))
    network.kill("after", "write", nth=2)
    with pytest.raises(Killed):
        world.migrate()
    store = world.target_store
    store.nodes = {name: raw for name, raw in store.nodes.items() if name not in {"m3", "m4", "m5"}}
    store.identity = "restarted"
    result = world.migrate(resume=True)
    assert (result.memories["created"], result.exit_code) == (8, 0)
    assert arrived(world)


def test_a_record_that_others_deleted_after_it_had_landed_is_not_made_again(world: World) -> None:
    """The batch landed, its acknowledgement did not; then somebody deleted a record of it."""
    die(world, "after", "write", nth=2)
    del world.target_store.nodes["m4"]
    network = world.network()
    result = world.migrate(resume=True)
    assert network.passed
    assert "m4" not in world.target_store.nodes
    assert result.relationships["conflict"] == 2, "nor brought along as an end"


# --- the durability barrier -------------------------------------------------------------------------------------------


def test_what_a_finished_run_wrote_survives_its_server(world: World) -> None:
    network = world.network()
    saved: list[object] = []
    network.before("journal:run.finished", lambda: saved.append(deepcopy(world.target_store.durable)))
    world.migrate()
    store = world.target_store
    assert saved == [(store.nodes, store.edges, [network.arguments["release"][0][0]])]


def test_what_a_finished_rollback_deleted_stays_deleted_when_its_server_dies(world: World) -> None:
    run_id = world.migrate().run_id
    network = world.network()
    network.kill("after", "journal:rollback.finished")
    with pytest.raises(Killed):
        world.rollback(run_id)
    world.target_store.restart()
    assert world.target_store.nodes.keys() == {"theirs"}
    assert world.target_store.edges.keys() == {"their-edge"}


def test_what_a_rollback_deleted_and_its_server_lost_is_deleted_again_and_counted_once(world: World) -> None:
    before = contents(world.target_store)
    run_id = world.migrate().run_id
    network = world.network()
    network.kill("before", "journal:rollback.planned", nth=3)
    with pytest.raises(Killed):
        world.rollback(run_id)
    world.target_store.restart()
    world.target_store.markers.clear()
    world.network()
    result = world.rollback(run_id)
    assert (result.memories["deleted"], result.relationships["deleted"]) == (8, 16)
    assert contents(world.target_store)[:2] == before[:2]


def test_the_marker_is_durable_before_a_batch_is_sent_under_it(world: World) -> None:
    network = world.network()
    durable: list[bool] = []

    def look() -> None:
        saved = world.target_store.durable
        durable.append(saved is not None and [one.epoch for one in saved[2]] == [world.target_store.markers[0].epoch])

    network.before("write", look, nth=0)
    network.kill("before", "write", nth=4)
    with pytest.raises(Killed):
        world.migrate()
    world.migrate(resume=True)
    assert len(durable) > 8
    assert all(durable)


def test_a_server_that_restarted_during_the_barrier_made_nothing_durable(world: World) -> None:
    network = world.network()
    network.before("barrier", world.target_store.restart, nth=2)
    result = world.migrate(verify=False)
    assert any("lost" in warning for warning in result.warnings)
    assert arrived(world)


def test_a_server_that_restarted_during_the_barrier_with_our_marker_may_have_lost_others_records(world: World) -> None:
    store = world.target_store
    world.source_store.edges.clear()
    network = world.network()
    network.after("write", lambda: others_write_equal_ones(world))

    def restarted() -> None:
        store.nodes = {name: raw for name, raw in store.nodes.items() if name not in {"m3", "m4", "m5"}}
        store.identity = "restarted"

    network.before("barrier", restarted, nth=2)
    assert world.migrate(verify=False).exit_code == 0
    assert arrived(world)


def test_a_marker_that_went_during_the_barrier_stops_the_run(world: World) -> None:
    network = world.network()

    def taken_out() -> None:
        world.target_store.markers.clear()

    network.before("barrier", taken_out, nth=2)
    with pytest.raises(TargetChanged, match="removed"):
        world.migrate()


def deny_barriers(monkeypatch: pytest.MonkeyPatch) -> None:
    denied = Durability(durable=False, evidence={"reason": "the server forbids it"})
    monkeypatch.setattr(MemoryBackend, "barrier", lambda _: denied)


def test_a_denied_barrier_is_said(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    assert world.migrate().durability == "durable"
    deny_barriers(monkeypatch)
    world.source_store.nodes["new"] = memory("new")
    result = world.migrate()
    assert (result.durability, result.exit_code) == ("unverified", 0)
    assert any("durability" in warning for warning in result.warnings)


def test_a_denied_barrier_is_an_error_where_durability_is_required(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    deny_barriers(monkeypatch)
    with pytest.raises(NotDurable, match="forbids") as caught:
        world.migrate(require_durable=True)
    assert caught.value.exit_code == 32
    assert world.target_store.nodes.keys() == {"theirs"}, "found out before the first batch"


@pytest.mark.parametrize(
    ("seconds", "batches"),
    [pytest.param(0.0, 50, id="every 50 batches"), pytest.param(4.0, 3, id="every 10 seconds")],
)
def test_a_barrier_is_made_in_time(world: World, seconds: float, batches: int) -> None:
    world.source_store.edges.clear()
    fill(world.source_store, 120)
    world.source_store.edges.clear()
    network = world.network()
    ticks = Counter[str]()
    network.before("write", lambda: ticks.update(["write"]), nth=0)
    world.migrate(batch_size=1, hooks=Hooks(monotonic=lambda: ticks["write"] * seconds))
    asked = "".join({"write": "w", "barrier": "|"}.get(name, "") for name in network.passed)
    assert [len(part) for part in asked.split("|")[1:-1]] == [batches] * (120 // batches) + (
        [120 % batches] if 120 % batches else [0]
    )

"""Ids of which a run has several rows, records that stand there again, and rollbacks that are resumed or repeated."""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING

import pytest

from migrator.backends.base import Durability, Marker
from migrator.backends.memory import MemoryBackend
from migrator.errors import StoreRefused
from tests.engine.conftest import Killed, contents, die, edge, memory, unknown_outcome
from tests.engine.test_regressions import migrate_mangled
from tests.engine.test_verification import during_verification

if TYPE_CHECKING:
    from tests.engine.conftest import World


def killed_before_its_end(world: World, run_id: str) -> None:
    network = world.network()
    network.kill("before", "journal:rollback.finished")
    with pytest.raises(Killed):
        world.rollback(run_id)
    world.network()


def repaired(world: World, monkeypatch: pytest.MonkeyPatch) -> str:
    """A run whose engine mangled m3, kept and repaired by a resume: m3 has two rows."""
    migrate_mangled(world, monkeypatch, rollback_on_failure=False)
    return world.migrate(resume=True).run_id


def looked_at(world: World, identity: str) -> None:
    """A client reads a memory."""
    world.target_store.nodes[identity]["properties"]["usage_count"] = 5


# --- several rows of one id -------------------------------------------------------------------------------------------


def test_created_and_repaired_is_one_thing_to_undo(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    before = contents(world.target_store)
    run_id = repaired(world, monkeypatch)
    killed_before_its_end(world, run_id)
    assert contents(world.target_store)[:2] == before[:2]
    assert world.rollback(run_id).exit_code == 0


def test_updated_and_repaired_is_one_thing_to_undo(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.migrate()
    before = contents(world.target_store)
    world.source_store.nodes["m3"]["properties"]["importance"] = 0.9
    run_id = repaired(world, monkeypatch)
    killed_before_its_end(world, run_id)
    assert contents(world.target_store)[:2] == before[:2]
    assert world.rollback(run_id).exit_code == 0


def test_a_repaired_record_that_is_retained_is_left_as_it_is(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    run_id = repaired(world, monkeypatch)
    store = world.target_store
    store.edges["foreign"] = edge("foreign", "theirs", "m3")
    assert world.rollback(run_id).exit_code == 10
    assert store.nodes["m3"] == world.source_store.nodes["m3"]
    del store.edges["foreign"]
    assert world.rollback(run_id).exit_code == 0
    assert "m3" not in store.nodes


def test_a_repaired_record_is_counted_once_by_the_dry_run_too(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    run_id = repaired(world, monkeypatch)
    dry = world.rollback(run_id, dry_run=True)
    done = world.rollback(run_id)
    assert (dry.exit_code, dry.memories) == (done.exit_code, done.memories) == (0, done.memories)
    assert (done.memories["deleted"], done.memories["restored"]) == (8, 0)


def test_a_connection_that_breaks_at_the_last_barrier_retains_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = repaired(world, monkeypatch)
    network = world.network()
    network.kill("after", "barrier", nth=2, how=unknown_outcome)
    assert world.rollback(run_id).exit_code == 0
    assert network.passed.count("barrier") > 2


# --- what a verification found ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["rollback", "resume"])
def test_a_mangled_record_that_a_client_looked_at_is_still_ours(
    world: World, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    migrate_mangled(world, monkeypatch, rollback_on_failure=False)
    looked_at(world, "m3")
    result = world.rollback(world.run_ids()[-1]) if way == "rollback" else world.migrate(resume=True)
    assert result.exit_code == 0, result.findings


def test_an_edit_on_top_of_a_mangled_record_is_somebody_elses(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def edited() -> None:
        world.target_store.nodes["m3"]["properties"] |= {"title": "theirs", "content": "precious"}

    during_verification(world, monkeypatch, edited)
    migrate_mangled(world, monkeypatch)
    assert world.target_store.nodes["m3"]["properties"]["content"] == "precious"


# --- a rollback that is resumed ---------------------------------------------------------------------------------------


def test_a_restored_record_that_a_client_looked_at_since_is_restored(world: World) -> None:
    world.source_store.nodes["m3"]["properties"]["usage_count"] = 1
    world.migrate()
    world.source_store.nodes["m3"]["properties"]["title"] = "new"
    run_id = world.migrate().run_id
    killed_before_its_end(world, run_id)
    looked_at(world, "m3")
    assert world.rollback(run_id).exit_code == 0


def test_what_was_found_gone_and_made_again_by_others_stays(world: World) -> None:
    run_id = world.migrate().run_id
    store = world.target_store
    theirs = store.nodes["m7"]
    store.edges = {key: raw for key, raw in store.edges.items() if "m7" not in (raw["from"], raw["to"])}
    del store.nodes["m7"]
    killed_before_its_end(world, run_id)
    store.nodes["m7"] = theirs
    assert world.rollback(run_id).exit_code == 10
    assert "m7" in store.nodes


def test_what_was_found_put_back_and_written_again_by_others_stays(world: World) -> None:
    world.migrate()
    world.source_store.nodes["m3"]["properties"]["title"] = "new"
    run_id = world.migrate().run_id
    store = world.target_store
    ours = deepcopy(store.nodes["m3"])
    store.nodes["m3"]["properties"]["title"] = "m3"
    killed_before_its_end(world, run_id)
    store.nodes["m3"] = ours
    assert world.rollback(run_id).exit_code == 10
    assert store.nodes["m3"]["properties"]["title"] == "new"


# --- a second rollback ------------------------------------------------------------------------------------------------


def test_what_stands_there_again_after_a_rollback_is_reported_and_goes_by_force(world: World) -> None:
    run_id = world.migrate().run_id
    store = world.target_store
    kept = deepcopy((store.nodes, store.edges))
    world.rollback(run_id)
    store.nodes, store.edges = kept
    again = world.rollback(run_id)
    assert (again.exit_code, again.memories["retained"], again.relationships["retained"]) == (10, 8, 16)
    assert store.nodes.keys() > {"m3"}
    assert world.rollback(run_id, force=True).exit_code == 0
    assert store.nodes.keys() == {"theirs"}


def test_a_rollback_that_a_server_lost_is_not_called_done_a_second_time(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = world.migrate().run_id
    world.target_store.save()
    denied = Durability(durable=False, evidence={"reason": "denied"})
    monkeypatch.setattr(MemoryBackend, "barrier", lambda _: denied)
    world.rollback(run_id)
    world.target_store.restart()
    assert world.rollback(run_id).exit_code == 10


def test_what_a_later_run_made_is_not_touched_by_a_second_rollback(world: World) -> None:
    first = world.migrate().run_id
    world.rollback(first)
    world.migrate()
    after = contents(world.target_store)
    assert world.rollback(first).exit_code == 0
    assert contents(world.target_store) == after


def test_a_refused_row_does_not_stand_in_a_rollbacks_way(world: World) -> None:
    network = world.network()
    network.before("write", lambda: world.target_store.nodes.update(m1=memory("m1", content="theirs, just now")))
    first = world.migrate()
    world.network()
    store = world.target_store
    store.edges = {key: raw for key, raw in store.edges.items() if "m1" not in (raw["from"], raw["to"])}
    del store.nodes["m1"]
    for key in ("e1", "p1"):
        del world.source_store.edges[key]
    world.migrate()
    world.rollback(first.run_id)
    assert store.nodes.keys() == {"theirs", "m1"}


# --- a server that came back without the marker -----------------------------------------------------------------------


def another_makes_m1(world: World) -> None:
    store = world.target_store
    store.nodes["m1"] = deepcopy(world.source_store.nodes["m1"])
    looked_at(world, "m1")


def test_what_others_made_in_the_place_of_what_was_lost_is_theirs(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    denied = Durability(durable=False, evidence={"reason": "denied"})
    monkeypatch.setattr(MemoryBackend, "barrier", lambda _: denied)
    network = world.network()

    def restart() -> None:
        world.target_store.restart()
        another_makes_m1(world)
        raise unknown_outcome()

    network.after("write", restart, nth=1)
    run_id = world.migrate(on_conflict="overwrite").run_id
    world.network()
    world.rollback(run_id)
    assert world.target_store.nodes["m1"]["properties"]["usage_count"] == 5


def test_what_cannot_be_told_from_others_after_an_unlock_is_reported(world: World) -> None:
    die(world, "after", "write", 4)
    store = world.target_store
    store.markers.clear()
    store.save()
    store.restart()
    world.network()
    result = world.migrate(resume=True)
    rolled = world.rollback(result.run_id)
    assert rolled.exit_code == 10
    assert rolled.memories["retained"] + rolled.memories["deleted"] == 8
    assert any("cannot be told" in finding.reason for finding in rolled.findings)


# --- nothing is left behind -------------------------------------------------------------------------------------------


def test_a_run_that_another_marker_refuses_makes_no_journal(world: World) -> None:
    world.target_store.markers = [Marker(journal="x", run="y", epoch=3, batch=0, digest="", owner="them")]
    with pytest.raises(StoreRefused):
        world.migrate()
    assert not world.journal.exists()

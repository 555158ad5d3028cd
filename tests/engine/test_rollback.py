"""Rollback: exactly what the run did, nothing of anybody else's."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from journal.events import RollbackOpened
from journal.store import Journal
from migrator import manager
from migrator.backends.memory import STORES, MemoryStore
from migrator.errors import NoSuchRun, RollbackRefused, StoreRefused, TargetChanged
from migrator.models import BackendConfig, BackendType, MigrationOptions
from tests.engine.conftest import Fate, Killed, contents, edge, fill, memory

if TYPE_CHECKING:
    from tests.engine.conftest import World


def test_what_others_changed_or_hung_on_is_retained_with_the_reason(world: World) -> None:
    run_id = world.migrate().run_id
    store = world.target_store
    store.nodes["m1"]["properties"]["title"] = "theirs now"
    store.edges["foreign"] = edge("foreign", "theirs", "m2")
    store.edges["e3"]["properties"]["strength"] = 0.125
    result = world.rollback(run_id)
    assert (result.status, result.exit_code) == ("rolled-back-with-retained", 10)
    kept = {finding.id: finding.reason for finding in result.findings}
    assert kept.keys() == {"m1", "m2", "e3", "m3", "m0"}, "the ends of a retained edge stay, too"
    assert "foreign" in kept["m2"]
    assert store.nodes.keys() == {"theirs", "m0", "m1", "m2", "m3"}
    assert store.edges.keys() == {"their-edge", "foreign", "e3"}
    del store.edges["foreign"]
    again = world.rollback(run_id)
    assert again.memories["deleted"] == 1, "a later rollback tries again"
    assert "m2" not in store.nodes


def test_twice_equals_once(world: World) -> None:
    before = contents(world.target_store)
    run_id = world.migrate().run_id
    world.rollback(run_id)
    second = world.rollback(run_id)
    assert (second.status, second.exit_code) == ("rolled-back", 0)
    assert not any(second.memories.values())
    assert contents(world.target_store) == before


def test_force_takes_changed_ones_but_never_foreign_edges(world: World) -> None:
    run_id = world.migrate().run_id
    store = world.target_store
    store.nodes["m1"]["properties"]["title"] = "theirs now"
    store.edges["foreign"] = edge("foreign", "theirs", "m2")
    result = world.rollback(run_id, force=True)
    assert store.nodes.keys() == {"theirs", "m2"}
    assert result.memories["retained"] == 1


def test_the_dry_run_of_a_rollback_counts_and_changes_nothing(world: World) -> None:
    run_id = world.migrate().run_id
    world.target_store.nodes["m1"]["properties"]["title"] = "theirs now"
    before = contents(world.target_store)
    plan = world.rollback(run_id, dry_run=True)
    assert contents(world.target_store) == before
    result = world.rollback(run_id)
    assert (plan.memories, plan.relationships, plan.exit_code) == (
        result.memories,
        result.relationships,
        result.exit_code,
    )


def test_a_later_run_on_the_same_ids_stands_in_the_way(world: World) -> None:
    before = contents(world.target_store)
    first = world.migrate().run_id
    world.source_store.nodes["m1"]["properties"]["title"] = "newer"
    after_first = contents(world.target_store)
    second = world.migrate().run_id
    with pytest.raises(RollbackRefused, match=second):
        world.rollback(first)
    world.rollback(second)
    assert contents(world.target_store)[:2] == after_first[:2]
    world.source_store.nodes["m1"]["properties"]["title"] = "newest"
    world.migrate()
    world.rollback(first, cascade=True)
    assert contents(world.target_store) == before


def test_a_quiet_later_run_does_not_stand_in_the_way(world: World) -> None:
    before = contents(world.target_store)
    first = world.migrate().run_id
    world.migrate()
    world.rollback(first)
    assert contents(world.target_store) == before


def test_what_another_pair_holds_is_retained(world: World) -> None:
    first = world.migrate().run_id
    STORES["second-source"] = MemoryStore()
    fill(STORES["second-source"], 3)
    del STORES["second-source"].edges["e0"]
    other = BackendConfig(backend=BackendType.MEMORY, graph="second-source")
    manager.run_migrate(other, world.target, MigrationOptions(), journal_path=world.journal)
    result = world.rollback(first)
    assert result.memories["retained"] == 3
    assert "second-source" in result.findings[0].reason
    assert {"m0", "m1", "m2"} <= world.target_store.nodes.keys()


def test_an_unknown_run(world: World) -> None:
    with pytest.raises(NoSuchRun):
        world.rollback("12345678")
    world.migrate()
    with pytest.raises(NoSuchRun):
        world.rollback("12345678")


def test_a_marker_that_somebody_removed_stops_the_resume_but_not_the_rollback(world: World) -> None:
    before = contents(world.target_store)
    world.fate(Fate(at=16, when="after"))
    with pytest.raises(Killed):
        world.migrate()
    assert world.target_store.markers
    world.target_store.markers.clear()
    world.fate(Fate())
    with pytest.raises(TargetChanged, match="removed"):
        world.migrate(resume=True)
    world.rollback(world.run_ids()[-1])
    assert contents(world.target_store) == before


def test_another_journals_marker_is_refused_and_names_its_owner(world: World) -> None:
    world.fate(Fate(at=16, when="after"))
    with pytest.raises(Killed):
        world.migrate()
    world.fate(Fate())
    mine, world.journal = world.journal, world.journal.parent / "other.db"
    with pytest.raises(StoreRefused, match=str(mine)):
        world.migrate()
    world.journal = mine
    world.migrate(resume=True)


def test_a_restored_older_journal_stops(world: World) -> None:
    world.fate(Fate(at=16, when="after"))
    with pytest.raises(Killed):
        world.migrate()
    older = world.journal.with_name("older.db")
    with Journal.open(world.journal) as journal:
        journal.backup(older)
    world.fate(Fate(at=12, when="after"))
    with pytest.raises(Killed):
        world.migrate(resume=True)
    world.restore(older)
    world.fate(Fate())
    before = contents(world.target_store)
    with pytest.raises(TargetChanged):
        world.migrate(resume=True)
    assert contents(world.target_store) == before


def test_a_process_that_was_fenced_changes_nothing_more(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process took the run over while this one was stopped between its plan and its write."""
    from migrator.backends.memory import MemoryBackend

    original = MemoryBackend.write
    calls: list[int] = []

    def write(self: MemoryBackend, batch: object, expected: object) -> object:
        calls.append(1)
        if len(calls) == 2:
            marker = world.target_store.markers[0]
            from dataclasses import replace

            world.target_store.markers[0] = replace(marker, epoch=marker.epoch + 1)
        return original(self, batch, expected)  # type: ignore[arg-type]

    monkeypatch.setattr(MemoryBackend, "write", write)
    with pytest.raises(TargetChanged):
        world.migrate()
    assert len(calls) == 2
    assert sum(name.startswith("m") for name in world.target_store.nodes) == 3


def test_a_rollback_in_several_attempts_counts_all_that_it_did(world: World) -> None:
    run_id = world.migrate().run_id
    fate = world.fate(Fate(at=12, when="after"))
    with pytest.raises(Killed):
        world.rollback(run_id)
    assert "rollback.applied" in "".join(fate.hits)
    world.fate(Fate())
    result = world.rollback(run_id)
    assert (result.memories["deleted"], result.relationships["deleted"]) == (8, 16)


@pytest.mark.parametrize("forced", [(False, True), (True, False), (True, True), (False, False)])
def test_the_journal_says_whether_a_killed_rollback_went_on_by_force(world: World, forced: tuple[bool, bool]) -> None:
    run_id = world.migrate().run_id
    world.target_store.nodes["m1"]["properties"]["title"] = "theirs now"
    network = world.network()
    network.kill("after", "journal:rollback.applied", nth=2)
    with pytest.raises(Killed):
        world.rollback(run_id, force=forced[0])
    world.network()
    result = world.rollback(run_id, force=forced[1])
    opened = [event.force for event in world.events(run_id) if isinstance(event, RollbackOpened)]
    assert opened == list(dict.fromkeys(forced))
    kept = 0 if forced[1] else 1
    assert (result.memories["deleted"], result.memories["retained"]) == (8 - kept, kept)
    assert result.relationships["deleted"] == 16, "what both attempts did"
    world.check()


def test_a_marker_that_a_finished_run_left_is_taken_out_by_resume(world: World) -> None:
    fate = world.fate(Fate())
    world.migrate()
    steps = len(fate.hits)
    world.roll_everything_back()
    world.forget()
    world.fate(Fate(at=steps - 1))
    with pytest.raises(Killed):
        world.migrate()
    world.fate(Fate())
    assert world.target_store.markers
    assert manager.run_resume(None, journal_path=world.journal) is None
    world.check()


def test_a_memory_whose_counter_was_bumped_by_reading_is_taken_back(world: World) -> None:
    before = contents(world.target_store)
    run_id = world.migrate().run_id
    world.target_store.nodes["m1"]["properties"]["usage_count"] = 3
    assert world.rollback(run_id).exit_code == 0
    assert contents(world.target_store) == before


def test_an_update_is_taken_back_key_by_key_beside_the_changes_of_others(world: World) -> None:
    world.target_store.nodes["m1"] = memory("m1", title="old", content="theirs")
    run_id = world.migrate(on_conflict="overwrite").run_id
    world.target_store.nodes["m1"]["properties"]["note"] = "added later"
    world.rollback(run_id)
    there = world.target_store.nodes["m1"]["properties"]
    assert (there["title"], there["content"], there["note"]) == ("old", "theirs", "added later")


@pytest.mark.parametrize("foreign", ["", "a", "zz"], ids=["all ours", "a foreign edge first", "a foreign edge last"])
@pytest.mark.parametrize("batch_size", [3, 1_000])
def test_the_dry_run_of_a_rollback_counts_hubs_right(world: World, foreign: str, batch_size: int) -> None:
    target = world.target_store
    for number in range(250):
        world.source_store.edges[f"hub-{number}"] = edge(f"hub-{number}", "m1", f"m{2 + number % 3}")
    run_id = world.migrate(batch_size=batch_size).run_id
    if foreign:
        other = edge(foreign, "theirs", "m1")
        target.edges = {foreign: other, **target.edges} if foreign == "a" else {**target.edges, foreign: other}
    plan = world.rollback(run_id, dry_run=True)
    result = world.rollback(run_id)
    assert (plan.memories, plan.relationships) == (result.memories, result.relationships)
    assert plan.memories["retained"] == bool(foreign)
    assert [(f.id, f.reason) for f in plan.findings] == [(f.id, f.reason) for f in result.findings]


def test_the_dry_run_of_a_rollback_knows_that_the_ends_of_a_kept_edge_stay(world: World) -> None:
    run_id = world.migrate().run_id
    world.target_store.edges["e3"]["properties"]["strength"] = 0.125
    plan = world.rollback(run_id, dry_run=True)
    assert plan.memories["retained"] == 2
    assert plan.memories == world.rollback(run_id).memories


def test_the_dry_run_of_a_rollback_knows_that_a_moved_edge_leaves_its_new_end(world: World) -> None:
    world.target_store.nodes["theirs-too"] = memory("theirs-too")
    world.target_store.edges["e3"] = edge("e3", "theirs", "theirs-too")
    run_id = world.migrate(on_conflict="overwrite").run_id
    assert world.target_store.edges["e3"]["to"] == "m3"
    plan = world.rollback(run_id, dry_run=True)
    result = world.rollback(run_id)
    assert (plan.memories, plan.relationships) == (result.memories, result.relationships)
    assert result.memories["retained"] == 0

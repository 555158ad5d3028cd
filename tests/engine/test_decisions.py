"""What a run decides per record (SYNC): bases, conflicts, foreign changes, deletions in the target."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from journal.store import Journal
from migrator import manager
from migrator.backends.base import Marker
from migrator.backends.memory import MemoryBackend
from migrator.errors import ConflictFound, StoreRefused, UnfinishedRun, Unstorable, UsageError
from migrator.model import Problem
from tests.engine.conftest import Fate, Killed, contents, edge, memory

if TYPE_CHECKING:
    from collections.abc import Sequence

    from migrator.backends.base import Inventory
    from migrator.backends.memory import PlainForm
    from migrator.model import Record
    from tests.engine.conftest import World


def change(world: World, side: str, identity: str, **properties: object) -> None:
    store = world.source_store if side == "source" else world.target_store
    raw = store.nodes[identity]
    store.nodes[identity] = {**raw, "properties": {**raw["properties"], **properties}}


def rows(world: World) -> int:
    with Journal.open(world.journal, mode="read") as journal:
        return sum(1 for item in journal.export() if item["record"] == "entry")


def test_a_quiet_second_run_writes_nothing_anywhere(world: World) -> None:
    first = world.migrate()
    assert (first.memories["created"], first.relationships["created"]) == (8, 16)
    assert rows(world) == 24, "exactly one row per id"
    before = contents(world.target_store)
    fate = world.fate(Fate())
    second = world.migrate()
    assert (second.memories["unchanged"], second.relationships["unchanged"]) == (8, 16)
    assert (second.exit_code, second.verification.matched) == (0, 24)
    assert not [hit for hit in fate.hits if not hit.startswith("journal:")], "no marker, no schema, no barrier"
    assert rows(world) == 24, "a quiet night adds no row"
    assert contents(world.target_store) == before


def test_a_change_in_the_source_alone_is_written_key_by_key_and_taken_back(world: World) -> None:
    world.migrate()
    before = contents(world.target_store)
    change(world, "source", "m3", title="new", extra=[1, 2])
    del world.source_store.nodes["m3"]["properties"]["importance"]
    result = world.migrate()
    assert (result.memories["updated"], result.memories["unchanged"]) == (1, 7)
    assert world.target_store.nodes["m3"] == world.source_store.nodes["m3"]
    world.rollback(result.run_id)
    assert contents(world.target_store) == before


def test_what_reading_bumps_in_the_target_is_no_foreign_change_and_is_kept(world: World) -> None:
    world.migrate()
    change(world, "target", "m1", usage_count=9, last_accessed="2026-02-01T00:00:00Z")
    assert world.migrate().memories["unchanged"] == 8
    change(world, "source", "m1", title="new")
    result = world.migrate()
    assert (result.memories["updated"], result.exit_code, result.verification.status) == (1, 0, "passed")
    there = world.target_store.nodes["m1"]["properties"]
    assert (there["title"], there["usage_count"]) == ("new", 9)
    change(world, "source", "m1", usage_count=2)
    world.migrate()
    assert world.target_store.nodes["m1"]["properties"]["usage_count"] == 2, "the source changed it itself"


def test_a_change_in_the_target_alone_is_left(world: World) -> None:
    world.migrate()
    change(world, "target", "m2", title="theirs")
    result = world.migrate()
    assert (result.memories["foreign"], result.exit_code) == (1, 0)
    assert world.target_store.nodes["m2"]["properties"]["title"] == "theirs"


def test_changes_on_both_sides_are_a_conflict_that_comes_back(world: World) -> None:
    world.migrate()
    change(world, "source", "m2", title="ours")
    change(world, "target", "m2", content="theirs")
    for _ in range(2):
        result = world.migrate()
        assert (result.memories["conflict"], result.exit_code) == (1, 10)
        assert "title" in result.findings[0].reason
        assert "content" in result.findings[0].reason
    before = contents(world.target_store)
    result = world.migrate(on_conflict="overwrite")
    assert (result.memories["updated"], result.exit_code) == (1, 0)
    assert world.target_store.nodes["m2"] == world.source_store.nodes["m2"]
    world.rollback(result.run_id)
    assert contents(world.target_store) == before, "the before-image of a conflict comes back"
    assert world.migrate().memories["conflict"] == 1, "and so does the conflict"


def test_without_a_base_a_difference_is_a_conflict_and_equality_is_unchanged(world: World) -> None:
    world.target_store.nodes["m4"] = memory("m4", content="somebody else's")
    world.target_store.nodes["m5"] = world.source_store.nodes["m5"]
    world.target_store.save()
    before = contents(world.target_store)
    result = world.migrate()
    assert (result.memories["conflict"], result.memories["unchanged"], result.memories["created"]) == (1, 1, 6)
    world.rollback(result.run_id)
    assert contents(world.target_store) == before


def test_fail_takes_back_what_the_run_wrote(world: World) -> None:
    world.target_store.nodes["m7"] = memory("m7", content="somebody else's")
    before = contents(world.target_store)
    with pytest.raises(ConflictFound) as caught:
        world.migrate(on_conflict="fail")
    assert caught.value.result.status == "rolled-back"
    assert contents(world.target_store) == before
    world.check()


def test_what_was_deleted_in_the_target_is_not_made_again(world: World) -> None:
    world.migrate()
    store = world.target_store
    del store.nodes["m6"]
    for identity in [name for name, one in store.edges.items() if "m6" in (one["from"], one["to"])]:
        del store.edges[identity]
    world.source_store.edges["new"] = edge("new", "m6", "m1")
    result = world.migrate()
    assert result.memories["conflict"] == 1
    assert result.findings[0].reason == "deleted in the target"
    assert result.relationships["conflict"] == 3, "two that were deleted with it, and the new one at it"
    assert "m6" not in store.nodes
    assert world.migrate(on_conflict="overwrite").memories["created"] == 1


def test_a_restored_backup_of_the_source_does_not_take_the_target_back(world: World) -> None:
    change(world, "source", "m1", updated_at="2026-03-01T00:00:00Z", title="newest")
    world.migrate()
    change(world, "source", "m1", updated_at="2026-02-01T00:00:00Z", title="older")
    result = world.migrate()
    assert result.memories["conflict"] == 1
    assert result.findings[0].reason == "source is older"


def test_an_id_under_another_label_is_a_conflict_even_with_overwrite(world: World) -> None:
    world.target_store.nodes["m1"] = {"id": "m1", "labels": ["Entity"], "properties": {"text": "x"}}
    result = world.migrate(on_conflict="overwrite")
    assert result.memories["conflict"] == 1
    assert world.target_store.nodes["m1"]["labels"] == ["Entity"]


def test_a_changed_type_or_end_is_updated_in_one_unit_and_taken_back(world: World) -> None:
    world.migrate()
    before = contents(world.target_store)
    world.source_store.edges["e1"] = edge("e1", "m1", "m2", "SOLVES", strength=0.25)
    result = world.migrate()
    assert result.relationships["updated"] == 1
    assert world.target_store.edges["e1"] == world.source_store.edges["e1"]
    world.rollback(result.run_id)
    assert contents(world.target_store)[:2] == before[:2]


def test_a_writer_in_the_gap_is_noticed_by_the_guard(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    original = MemoryBackend.write
    seen: list[int] = []

    def write(self: MemoryBackend, batch: object, expected: object) -> object:
        if not seen:
            seen.append(1)
            world.target_store.nodes["m0"] = memory("m0", content="just before")
        return original(self, batch, expected)  # type: ignore[arg-type]

    monkeypatch.setattr(MemoryBackend, "write", write)
    result = world.migrate()
    assert (result.memories["conflict"], result.memories["created"]) == (1, 7)
    assert world.target_store.nodes["m0"]["properties"]["content"] == "just before"
    world.rollback(result.run_id)
    assert world.target_store.nodes.keys() == {"theirs", "m0"}


def test_dangling_and_unstorable_records_stop_the_run_before_it_writes(world: World) -> None:
    world.source_store.edges["loose"] = edge("loose", "m0", "nowhere")
    before = contents(world.target_store)
    with pytest.raises(Unstorable) as caught:
        world.migrate()
    assert "loose" in caught.value.message
    assert contents(world.target_store) == before
    assert not world.journal.exists(), "no file is left behind"


def test_quarantine_takes_edges_at_a_quarantined_memory_along(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def problems(_form: PlainForm, record: Record) -> Sequence[Problem]:
        return [Problem(kind="memory", id="m1", field="title", reason="no")] if record.id == "m1" else []

    monkeypatch.setattr("migrator.backends.memory.PlainForm.problems", problems)
    result = world.migrate(on_unstorable="quarantine")
    assert (result.memories["quarantined"], result.relationships["quarantined"], result.exit_code) == (1, 2, 10)
    assert (result.memories["read"], result.relationships["read"]) == (8, 16)
    with Journal.open(world.journal, mode="read") as journal:
        kept = [entry for entry in journal.entries(result.run_id) if entry.action == "quarantined"]
    assert len(kept) == 3
    assert all(entry.before_image and entry.reason for entry in kept)
    assert "m1" not in world.target_store.nodes


def test_what_becomes_unstorable_after_the_scan_is_left_out_and_stays_open(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A source without snapshots is written to between the scan and the import."""
    checked: list[str] = []

    def problems(_form: PlainForm, record: Record) -> Sequence[Problem]:
        checked.append(record.id)
        late = len(checked) > 24 and record.id == "m1"
        return [Problem(kind="memory", id="m1", field="title", reason="NUL")] if late else []

    monkeypatch.setattr("migrator.backends.memory.PlainForm.problems", problems)
    monkeypatch.setattr(MemoryBackend, "snapshots", False)
    result = world.migrate()
    assert (result.memories["created"], result.memories["skipped"]) == (7, 1)
    assert "m1" not in world.target_store.nodes
    assert [finding.what for finding in result.findings if finding.id == "m1"] == ["changing"]
    assert result.relationships["conflict"] == 2, "the edges at it"


def test_a_source_that_is_written_to_while_it_is_counted_is_counted_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = MemoryBackend.inventory
    asked: list[str] = []

    def inventory(self: MemoryBackend) -> Inventory:
        found = original(self)
        if self.store is not world.source_store:
            return found
        asked.append("source")
        return replace(found, memories=found.memories + 1) if len(asked) == 1 else found

    monkeypatch.setattr(MemoryBackend, "inventory", inventory)
    assert world.migrate().memories["created"] == 8
    monkeypatch.setattr(MemoryBackend, "inventory", lambda self: replace(original(self), relationships=999))
    with pytest.raises(StoreRefused, match="999"):
        world.migrate()


@pytest.mark.parametrize(
    "options",
    [
        {"since": "yesterday"},
        {"delete": True, "max_delete": "most"},
        {"on_conflict": "nonsense"},
        {"on_unstorable": "drop"},
        {"batch_size": -5},
        {"skip_duplicates": True, "on_conflict": "overwrite"},
    ],
    ids=str,
)
@pytest.mark.parametrize("dry_run", [False, True])
def test_what_cannot_be_done_is_refused_not_ignored(world: World, options: dict[str, object], dry_run: bool) -> None:
    with pytest.raises(UsageError):
        world.migrate(dry_run=dry_run, **options)
    assert "m0" not in world.target_store.nodes


def test_the_dry_run_refuses_a_target_that_another_journal_holds(world: World) -> None:
    world.target_store.markers.append(Marker(journal="j", run="r", epoch=1, batch=0, digest="", owner="another host"))
    with pytest.raises(StoreRefused, match="another host"):
        world.migrate(dry_run=True)


def test_validate_names_what_the_target_cannot_hold(world: World) -> None:
    world.source_store.edges["loose"] = edge("loose", "m0", "nowhere")
    found = asyncio.run(manager.MigrationManager(world.journal).validate(world.source, world.target))
    assert (found.memories, found.relationships, found.problems) == (8, 17, 1)
    assert found.findings[0].id == "loose"
    assert not world.journal.exists()


def test_an_open_run_stands_in_the_way_of_a_new_one(world: World) -> None:
    world.fate(Fate(at=15))
    with pytest.raises(Killed):
        world.migrate()
    world.fate(Fate())
    with pytest.raises(UnfinishedRun):
        world.migrate()
    assert manager.run_resume(None, journal_path=world.journal) is not None
    assert manager.run_resume(None, journal_path=world.journal) is None


def test_the_dry_run_under_fail_counts_everything_and_ends_as_the_run_would(world: World) -> None:
    world.target_store.nodes["m0"] = memory("m0", content="somebody else's")
    plan = world.migrate(dry_run=True, on_conflict="fail")
    assert (plan.exit_code, plan.memories["conflict"], plan.memories["created"]) == (24, 1, 7)


def test_the_dry_run_tells_what_the_run_then_does(world: World) -> None:
    world.target_store.nodes["m4"] = memory("m4", content="somebody else's")
    world.target_store.nodes["m5"] = world.source_store.nodes["m5"]
    before = contents(world.target_store)
    plan = world.migrate(dry_run=True)
    assert contents(world.target_store) == before
    assert not world.journal.exists()
    result = world.migrate()
    assert plan.status == "dry-run"
    assert (plan.memories, plan.relationships, plan.exit_code) == (
        result.memories,
        result.relationships,
        result.exit_code,
    )

"""A source that others write to while a run is down, or between two of its readings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from journal.events import RunFinished
from journal.store import Journal
from migrator.backends.memory import MemoryBackend, PlainForm
from migrator.codec import load_raw
from migrator.model import Corrupt, Problem, digest
from tests.engine.conftest import Killed
from tests.engine.test_regressions import migrate_mangled

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from migrator.backends.base import Raw
    from migrator.model import Record
    from tests.engine.conftest import World


def lose(world: World, memory_id: str) -> None:
    """Take a memory out of the source, and what hangs on it."""
    source = world.source_store
    del source.nodes[memory_id]
    source.edges = {name: raw for name, raw in source.edges.items() if memory_id not in {raw["from"], raw["to"]}}


def finished_counts(world: World) -> tuple[dict[str, int], dict[str, int]]:
    (event,) = (event for event in world.events() if isinstance(event, RunFinished))
    return event.memories, event.relationships


@pytest.mark.parametrize("delete", [False, True])
def test_what_a_killed_run_created_is_counted_although_its_source_is_gone(world: World, *, delete: bool) -> None:
    network = world.network()
    network.kill("after", "journal:batch.applied", nth=5)
    with pytest.raises(Killed):
        world.migrate(delete=delete)
    network = world.network()
    written = {name for name in world.target_store.edges if name != "their-edge"}
    lose(world, "m1")
    gone = len(written - world.source_store.edges.keys())
    assert gone, "of both kinds"
    result = world.migrate(resume=True, delete=delete)
    left = len(world.source_store.edges) + gone
    assert (result.memories["read"], result.memories["created"], result.memories["deleted"]) == (8, 8, 0)
    assert (result.relationships["read"], result.relationships["created"]) == (left, left)
    assert finished_counts(world) == (result.memories, result.relationships)
    assert (result.verification.changing, result.verification.matched) == (1 + gone, 7 + left - gone)
    assert "m1" in world.target_store.nodes
    later = world.migrate(delete=True, max_delete="100%")
    assert (later.memories["deleted"], later.relationships["deleted"]) == (1, gone)


@pytest.mark.parametrize("delete", [False, True])
def test_what_a_killed_run_updated_is_counted_although_its_source_is_gone(world: World, *, delete: bool) -> None:
    world.source_store.edges.clear()
    world.migrate()
    for name in ("m1", "m2", "m6"):
        world.source_store.nodes[name]["properties"]["title"] = "newer"
    network = world.network()
    network.kill("after", "journal:batch.applied")
    with pytest.raises(Killed):
        world.migrate(batch_size=2, delete=delete)
    world.network()
    lose(world, "m1")
    result = world.migrate(resume=True, delete=delete)
    counts = result.memories
    assert (counts["read"], counts["updated"], counts["unchanged"], counts["deleted"]) == (8, 3, 5, 0)
    assert finished_counts(world)[0] == counts
    assert world.migrate(delete=True).memories["deleted"] == 1


def test_what_a_killed_run_found_equal_and_is_gone_hides_nothing_from_the_verification(world: World) -> None:
    world.source_store.edges.clear()
    world.target_store.nodes["m0"] = world.source_store.nodes["m0"]
    network = world.network()
    network.kill("after", "journal:batch.applied", nth=2)
    with pytest.raises(Killed):
        world.migrate()
    world.network()
    lose(world, "m0")
    lose(world, "m1")
    result = world.migrate(resume=True)
    assert (result.memories["read"], result.memories["created"]) == (7, 7), "m0 is nothing that the run did"
    assert sorted(one.id for one in result.verification.findings) == ["m0", "m1"]
    assert result.verification.changing == 2


def test_what_was_written_twice_and_is_there_is_counted_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    migrate_mangled(world, monkeypatch, rollback_on_failure=False)
    lose(world, "m7")
    result = world.migrate(resume=True)
    counts = result.memories
    assert (counts["read"], counts["created"], counts["updated"]) == (8, 7, 1)


def test_what_is_journalled_of_a_quarantined_record_is_one_state(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A source without snapshots is written to after the scan, and again before its stored form is looked up."""
    scan, lookup = MemoryBackend.scan, MemoryBackend.lookup
    source = world.source_store
    passes: list[int] = []

    def scanned(self: MemoryBackend, kind: Any, size: int) -> Iterator[Any]:
        if self.store is source and kind == "memory":
            passes.append(1)
            source.nodes["m1"]["properties"]["title"] = f"bad {len(passes)}"
            self.release_snapshot()
        yield from scan(self, kind, size)

    def looked_up(self: MemoryBackend, kind: Any, wanted: Any) -> dict[str, Raw]:
        if self.store is source and "m1" in wanted:
            source.nodes["m1"]["properties"]["title"] = "bad when looked up"
        return lookup(self, kind, wanted)

    def problems(_form: PlainForm, record: Record) -> Sequence[Problem]:
        title = str(record.properties.get("title"))
        return [Problem(kind="memory", id=record.id, field="title", reason=title)] if title.startswith("bad") else []

    monkeypatch.setattr(MemoryBackend, "snapshots", False)
    monkeypatch.setattr(MemoryBackend, "scan", scanned)
    monkeypatch.setattr(MemoryBackend, "lookup", looked_up)
    monkeypatch.setattr(PlainForm, "problems", problems)
    result = world.migrate(on_unstorable="quarantine")
    with Journal.open(world.journal, mode="read") as journal:
        (row,) = (entry for entry in journal.entries(result.run_id) if entry.entity_id == "m1")
    raw = load_raw(row.before_image or "")
    assert row.reason == "title: bad 2"
    assert raw["properties"]["title"] == "bad 2"
    kept = PlainForm().decode("memory", raw)
    assert not isinstance(kept, Corrupt)
    assert row.after_digest == digest(kept)
    assert [finding.reason for finding in result.findings if finding.id == "m1"] == ["bad 2"]

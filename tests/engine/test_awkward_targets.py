"""Targets that hold what cannot be made again, records that weigh much, and requests that land much later."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from journal.store import Journal
from migrator.backends.memory import MemoryBackend, PlainForm
from migrator.errors import OutcomeUnknown
from migrator.model import Problem
from tests.engine.conftest import Killed, contents, edge, memory

if TYPE_CHECKING:
    from migrator.backends.base import Marker
    from migrator.model import Record
    from tests.engine.conftest import World


def test_an_edge_that_could_not_be_put_back_is_not_replaced(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its type is none that could be written again, so a rollback would lose it."""
    usual = PlainForm.problems

    def problems(self: PlainForm, record: Record) -> Any:
        if getattr(record, "type", "") == "ODD":
            return [Problem(kind="relationship", id=record.id, field=":type", reason="'ODD' cannot be a type here")]
        return usual(self, record)

    store = world.target_store
    store.nodes |= {name: memory(name) for name in ("m0", "m1")}
    store.edges["e1"] = edge("e1", "m0", "m1", "ODD")
    store.save()
    monkeypatch.setattr(PlainForm, "problems", problems)
    result = world.migrate(on_conflict="overwrite")
    assert store.edges["e1"]["type"] == "ODD"
    assert result.relationships["conflict"] == 1
    assert "could not be put back" in result.findings[0].reason
    before_rollback = contents(store)
    assert before_rollback[1]["e1"]["type"] == "ODD"
    assert world.rollback(result.run_id).exit_code == 0
    assert store.edges["e1"] == edge("e1", "m0", "m1", "ODD")


def test_a_quarantined_record_that_cannot_be_looked_up_is_kept_as_it_was_read(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def problems(_: PlainForm, record: Record) -> Any:
        return [Problem(kind="relationship", id="e1", field="x", reason="no")] if record.id == "e1" else []

    look_up = MemoryBackend.lookup

    def lookup(self: MemoryBackend, kind: Any, wanted: Any) -> Any:
        return {name: raw for name, raw in look_up(self, kind, wanted).items() if name != "e1"}

    monkeypatch.setattr(PlainForm, "problems", problems)
    monkeypatch.setattr(MemoryBackend, "lookup", lookup)
    run_id = world.migrate(on_unstorable="quarantine", verify=False).run_id
    with Journal.open(world.journal, mode="read") as journal:
        kept = [entry for entry in journal.entries(run_id) if entry.action == "quarantined"]
    assert [entry.entity_id for entry in kept] == ["e1"]
    assert "m1" in json.dumps(kept[0].before_image)


def test_batches_are_bounded_by_what_their_texts_weigh(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    for raw in world.source_store.nodes.values():
        raw["properties"]["content"] = ["x" * 4_000, {"a": "y" * 1_000}]
    monkeypatch.setattr(MemoryBackend, "batch_bytes", 12_000)
    network = world.network()
    result = world.migrate(batch_size=100)
    sizes = [len(batch.rows) for batch, _ in network.arguments["write"] if batch.kind == "memory"]
    assert sizes == [3, 3, 2]
    assert result.memories["created"] == 8


def late_claim(world: World, marker: Marker) -> None:
    """An earlier claim of this run lands beside the newer one: a store may let two claims at once succeed."""
    world.target_store.markers.append(replace(marker, epoch=marker.epoch - 1, batch=0, digest=""))


@pytest.mark.parametrize("name", ["claim", "write"])
def test_a_late_claim_beside_the_runs_own_marker_is_withdrawn(world: World, name: str) -> None:
    network = world.network()
    network.kill("after", name)
    with pytest.raises(Killed):
        world.migrate()
    late_claim(world, world.target_store.markers[0])
    world.network()
    assert world.migrate(resume=True).memories["created"] == 8
    world.check()


def test_a_marker_that_cannot_be_changed_for_a_while_is_waited_for(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = world.network()
    network.kill("after", "write")
    with pytest.raises(Killed):
        world.migrate()
    swap = MemoryBackend.swap_marker
    refused: list[Any] = []

    def busy(self: MemoryBackend, expected: Any, new: Any) -> bool:
        if len(refused) < 4:
            refused.append(new)
            return False
        return swap(self, expected, new)

    world.network()
    monkeypatch.setattr(MemoryBackend, "swap_marker", busy)
    waits: list[float] = []
    monkeypatch.setattr("migrator.lease.time.sleep", waits.append)
    assert world.migrate(resume=True).memories["created"] == 8
    assert len(waits) == 4
    assert waits == sorted(waits)


def test_a_marker_that_can_never_be_changed_is_said_to_be_so(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    network = world.network()
    network.kill("after", "write")
    with pytest.raises(Killed):
        world.migrate()
    world.network()
    monkeypatch.setattr(MemoryBackend, "swap_marker", lambda *_: False)
    monkeypatch.setattr("migrator.lease.time.sleep", lambda _: None)
    with pytest.raises(OutcomeUnknown.__mro__[1], match="does not let the marker be changed"):
        world.migrate(resume=True)

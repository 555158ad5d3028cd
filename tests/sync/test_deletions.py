"""What ``--delete`` deletes, what it retains, and what stops it, over in-memory stores."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from journal.prune import Keep
from journal.store import Journal
from migrator import manager
from migrator.backends.memory import STORES, MemoryBackend, MemoryStore
from migrator.errors import Interrupted, LimitHit, StoreRefused, Unstorable, UsageError, VerificationFailed
from migrator.hooks import Hooks
from migrator.model import Corrupt, Problem
from migrator.models import BackendConfig, BackendType, MigrationOptions
from tests.engine.conftest import Fate, Killed, contents, edge, fill, memory

if TYPE_CHECKING:
    from collections.abc import Iterator

    from migrator.backends.base import Inventory, StoreInfo
    from migrator.model import Record
    from migrator.models import MigrationResult
    from tests.engine.conftest import World


def drop(store: MemoryStore, *memories: str) -> None:
    """Delete memories with all that hangs on them, as a client does."""
    for name in memories:
        del store.nodes[name]
        for identity in [key for key, one in store.edges.items() if name in (one["from"], one["to"])]:
            del store.edges[identity]


def deleted(result: MigrationResult) -> tuple[int, int]:
    return result.memories["deleted"], result.relationships["deleted"]


def kept_with(result: MigrationResult) -> dict[str, str]:
    """What was retained, and why."""
    return {finding.id: finding.reason for finding in result.findings if finding.what == "retained"}


def actions(world: World, run_id: str) -> dict[str, str]:
    with Journal.open(world.journal, mode="read") as journal:
        return {entry.entity_id: entry.action for entry in journal.entries(run_id)}


def test_nothing_is_deleted_unless_it_is_asked_for(world: World) -> None:
    world.migrate()
    drop(world.source_store, "m5")
    before = contents(world.target_store)
    result = world.migrate()
    assert (deleted(result), result.exit_code) == ((0, 0), 0)
    assert contents(world.target_store) == before


def test_what_is_gone_goes_with_its_relationships_and_comes_back(world: World) -> None:
    world.migrate()
    drop(world.source_store, "m5", "m6")
    before = contents(world.target_store)
    plan = world.migrate(delete=True, dry_run=True)
    assert contents(world.target_store) == before
    result = world.migrate(delete=True)
    assert (deleted(result), result.exit_code) == ((2, 4), 0)
    assert (deleted(plan), plan.exit_code) == (deleted(result), 0)
    assert {"m5", "m6", "e5", "p6"}.isdisjoint({*world.target_store.nodes, *world.target_store.edges})
    assert {"theirs", "m0", "m7"} <= world.target_store.nodes.keys()
    assert result.as_json()["memories"]["deleted"] == 2
    assert result.memories["read"] == 6, "what is gone was not read"
    assert actions(world, result.run_id) == dict.fromkeys(["m5", "m6", "e5", "e6", "p5", "p6"], "deleted")
    assert (result.verification.status, result.verification.matched) == ("passed", 6 + 12 + 6)
    world.check()
    back = world.rollback(result.run_id)
    assert (back.memories["restored"], back.relationships["restored"], back.exit_code) == (2, 4, 0)
    assert contents(world.target_store) == before
    world.check()


def test_since_lists_the_whole_source_for_its_deletions(world: World) -> None:
    """What lies before the interval is present, and what is gone is gone, whenever it was changed last."""
    world.migrate()
    drop(world.source_store, "m5")
    world.source_store.nodes["m7"]["properties"] |= {"title": "newer", "updated_at": "2026-03-01T00:00:00Z"}
    world.source_store.nodes["m1"]["properties"]["title"] = "no stamp says so"
    plan = world.migrate(since="2026-02-01", delete=True, dry_run=True)
    result = world.migrate(since="2026-02-01", delete=True)
    assert (deleted(result), result.memories["updated"], result.exit_code) == ((1, 2), 1, 0)
    assert (plan.memories, plan.relationships, plan.exit_code) == (result.memories, result.relationships, 0)
    assert world.target_store.nodes["m1"]["properties"]["title"] == "m1"
    assert world.target_store.nodes.keys() == {"theirs", *world.source_store.nodes}
    assert result.verification.status == "passed"
    drop(world.source_store, "m2", "m3", "m4")
    with pytest.raises(LimitHit, match="3 of 7 of kind memory"):
        world.migrate(since="2026-02-01", delete=True, max_delete="2")
    world.source_store.nodes.clear()
    world.source_store.edges.clear()
    with pytest.raises(LimitHit, match="holds no memories"):
        world.migrate(since="2026-02-01", delete=True)


def test_relationships_go_first_and_the_marker_is_out_after(world: World) -> None:
    world.migrate()
    drop(world.source_store, "m5")
    network = world.network()
    world.migrate(delete=True)
    kinds = [(batch.kind, batch.operation) for batch, _ in network.arguments["write"]]
    assert kinds == [("relationship", "delete"), ("relationship", "delete"), ("memory", "delete")]
    world.check()


def test_a_night_on_which_nothing_is_gone_writes_nothing(world: World) -> None:
    world.migrate()
    drop(world.source_store, "m5")
    world.migrate(delete=True)
    before = contents(world.target_store)
    network = world.network()
    result = world.migrate(delete=True)
    assert (deleted(result), result.exit_code) == ((0, 0), 0)
    assert not [name for name in network.passed if not name.startswith("journal:")]
    assert contents(world.target_store) == before


def test_what_was_there_before_is_never_deleted_and_nothing_is_said_of_it(world: World) -> None:
    world.target_store.nodes["m5"] = world.source_store.nodes["m5"]
    world.migrate()
    drop(world.source_store, "m5")
    result = world.migrate(delete=True)
    assert (deleted(result), result.exit_code, kept_with(result)) == ((0, 2), 0, {})
    assert "m5" in world.target_store.nodes


def test_what_somebody_changed_is_retained_and_open_until_it_is_decided(world: World) -> None:
    world.migrate()
    drop(world.source_store, "m5", "m6")
    target = world.target_store
    target.nodes["m5"]["properties"]["title"] = "theirs now"
    target.nodes["m6"]["properties"] |= {"usage_count": 4, "last_accessed": "2026-03-01T00:00:00Z"}
    for _ in range(2):
        result = world.migrate(delete=True)
        assert (result.memories["retained"], result.exit_code) == (1, 10)
        assert "changed in the target" in kept_with(result)["m5"]
        assert "m5" in target.nodes
        assert "m6" not in target.nodes, "reading it changed nothing"
    with Journal.open(world.journal, mode="read") as journal:
        pair = journal.state(result.run_id).opened.pair  # type: ignore[union-attr]
        assert journal.bases(pair).get("memory", ["m5"])["m5"].open == "retained"
    del target.nodes["m5"]
    assert world.migrate(delete=True).exit_code == 0


def test_a_foreign_edge_keeps_its_memory(world: World) -> None:
    world.migrate()
    drop(world.source_store, "m5", "m6")
    world.target_store.edges["foreign"] = edge("foreign", "theirs", "m5")
    plan = world.migrate(delete=True, dry_run=True)
    result = world.migrate(delete=True)
    assert (deleted(result), result.memories["retained"], result.exit_code) == ((1, 4), 1, 10)
    assert (deleted(plan), kept_with(plan), plan.exit_code) == (deleted(result), kept_with(result), 10)
    assert "foreign" in kept_with(result)["m5"]
    assert "m5" in world.target_store.nodes
    assert "foreign" in world.target_store.edges


def test_an_edge_that_somebody_changed_keeps_itself_and_its_ends(world: World) -> None:
    world.migrate()
    drop(world.source_store, "m5")
    world.target_store.edges["e5"]["properties"]["strength"] = 0.125
    plan = world.migrate(delete=True, dry_run=True)
    result = world.migrate(delete=True)
    assert kept_with(result).keys() == {"m5", "e5"}
    assert (deleted(plan), kept_with(plan)) == (deleted(result), kept_with(result))


def test_an_edge_that_hangs_elsewhere_now_lets_its_old_end_go(world: World) -> None:
    world.migrate()
    drop(world.source_store, "m5")
    world.source_store.edges["e5"] = edge("e5", "m0", "m1", strength=5 / 3)
    before = contents(world.target_store)
    plan = world.migrate(delete=True, dry_run=True)
    result = world.migrate(delete=True)
    assert (deleted(result), result.relationships["updated"], result.exit_code) == ((1, 1), 1, 0)
    assert (plan.memories, plan.relationships) == (result.memories, result.relationships)
    world.rollback(result.run_id)
    assert contents(world.target_store) == before


def test_moving_edges_count_towards_the_limit(world: World) -> None:
    world.migrate()
    drop(world.source_store, "m5")
    world.source_store.edges["e5"] = edge("e5", "m0", "m1", strength=5 / 3)
    before = contents(world.target_store)
    with pytest.raises(LimitHit, match="1 of 8 of kind memory"):
        world.migrate(delete=True, max_delete="12%")  # of 16 relationships that is one
    assert contents(world.target_store) == before


class Awkward(MemoryBackend):
    """A source that cannot read one of its records."""

    def scan(self, kind: Any, size: int) -> Iterator[list[Record | Corrupt]]:
        for chunk in super().scan(kind, size):
            yield [
                Corrupt(kind=kind, id="m5", reason="no JSON", raw={"id": "m5"}) if item.id == "m5" else item
                for item in chunk
            ]

    def lookup(self, kind: Any, wanted: Any) -> Any:
        return {identity: raw for identity, raw in super().lookup(kind, wanted).items() if identity != "m5"}


def test_what_cannot_be_read_is_present(world: World) -> None:
    world.migrate()
    opened = {"from": Awkward, "to": MemoryBackend}
    world.monkeypatch.setattr(
        "migrator.backends.registry.open_backend", lambda config, *, role: opened[role](config, role=role)
    )
    result = world.migrate(delete=True, on_unstorable="quarantine")
    assert (deleted(result), kept_with(result)) == ((0, 0), {})
    assert "m5" in world.target_store.nodes


def test_what_cannot_be_stored_any_more_is_present(world: World) -> None:
    world.migrate()
    world.source_store.nodes["m5"]["properties"]["title"] = "too long"
    world.monkeypatch.setattr(
        "migrator.backends.memory.PlainForm.problems",
        lambda _, record: (
            [Problem(kind="memory", id=record.id, field="title", reason="no")]
            if record.properties.get("title") == "too long"
            else []
        ),
    )
    with pytest.raises(Unstorable):
        world.migrate(delete=True)
    result = world.migrate(delete=True, on_unstorable="quarantine")
    assert (deleted(result), kept_with(result)) == ((0, 0), {})
    assert "m5" in world.target_store.nodes


def test_another_label_is_present(world: World) -> None:
    world.migrate()
    world.source_store.nodes["m5"]["labels"] = ["Archived"]
    result = world.migrate(delete=True)
    assert (deleted(result), kept_with(result), result.exit_code) == ((0, 0), {}, 0)
    assert "m5" in world.target_store.nodes


def test_what_is_not_ours_to_put_back_is_retained(world: World) -> None:
    world.migrate()
    drop(world.source_store, "m5")
    world.monkeypatch.setattr(
        "migrator.backends.memory.PlainForm.problems",
        lambda _, record: (
            [Problem(kind="memory", id=record.id, field="title", reason="too large")] if record.id == "m5" else []
        ),
    )
    result = world.migrate(delete=True)
    assert "could not be put back: too large" in kept_with(result)["m5"]


def test_what_came_back_just_before_its_batch_is_left(world: World) -> None:
    """Written by another client after the scan, while the run's own batches went out."""
    world.migrate()
    gone = dict(world.source_store.nodes), dict(world.source_store.edges)
    drop(world.source_store, "m5", "m6")
    world.source_store.nodes["new"] = memory("new")
    network = world.network()
    network.after("write", lambda: world.source_store.nodes.update(m5=gone[0]["m5"]))
    result = world.migrate(delete=True)
    assert deleted(result) == (1, 4)
    assert "m5" in world.target_store.nodes
    assert world.migrate(delete=True).exit_code == 0


def test_what_came_back_after_it_was_deleted_is_changing_and_made_again(world: World) -> None:
    world.migrate()
    old = dict(world.source_store.nodes)
    drop(world.source_store, "m5")
    network = world.network()
    network.after("write", lambda: world.source_store.nodes.update(m5=old["m5"]), nth=3)
    result = world.migrate(delete=True)
    assert (deleted(result), result.exit_code) == ((1, 2), 0)
    assert (result.verification.status, result.verification.changing) == ("passed", 1)
    assert world.migrate(delete=True).memories["created"] == 1
    assert world.target_store.nodes["m5"] == old["m5"]


@pytest.mark.parametrize(
    ("limit", "stops"),
    [(None, False), ("3", False), ("2", True), ("0", True), ("37.5%", False), ("37.4%", True), ("100%", False)],
)
def test_the_limit_stops_before_anything_is_written(world: World, limit: str | None, stops: bool) -> None:
    world.migrate()
    drop(world.source_store, "m5", "m6", "m7")
    # Relationships have the same limit: 6 of 16 are gone.
    for name in ("e5", "p5", "e6"):
        world.target_store.edges[name]["properties"]["note"] = "kept"
        world.target_store.edges[name]["from"] = "theirs"
        world.target_store.edges[name]["to"] = "theirs"
    world.source_store.nodes["new"] = memory("new")
    before, runs = contents(world.target_store), world.run_ids()
    plan = world.migrate(delete=True, max_delete=limit, dry_run=True)
    assert deleted(plan) == (3, 3)
    assert plan.exit_code == (23 if stops else 10)
    if not stops:
        assert deleted(world.migrate(delete=True, max_delete=limit)) == (3, 3)
        return
    assert "3 of 8" in plan.warnings[-1]
    network = world.network()
    with pytest.raises(LimitHit, match="3 of 8") as caught:
        world.migrate(delete=True, max_delete=limit)
    assert caught.value.exit_code == 23
    assert (network.passed, world.run_ids()) == ([], runs), "no run was begun"
    assert contents(world.target_store) == before
    world.migrate()


def test_the_default_limit_is_a_tenth_and_at_least_five(world: World) -> None:
    fill(world.source_store, 61)
    world.migrate()
    whole = contents(world.source_store)
    drop(world.source_store, *(f"m{number}" for number in range(10, 17)))
    with pytest.raises(LimitHit, match=r"7 of 61 .* memory.* 6 may be|14 of 122 .* relationship.* 12 may be"):
        world.migrate(delete=True)
    world.source_store.nodes, world.source_store.edges, _ = whole
    drop(world.source_store, *(f"m{number}" for number in range(10, 16)))
    assert deleted(world.migrate(delete=True)) == (6, 12)


def test_what_is_retained_does_not_use_up_the_limit(world: World) -> None:
    fill(world.source_store, 12)
    world.migrate()
    for number in range(4, 12):
        world.target_store.edges[f"foreign{number}"] = edge(f"foreign{number}", "theirs", f"m{number}")
    world.source_store.edges.clear()
    world.source_store.edges["e0"] = edge("e0", "m0", "m0", strength=0.0)
    drop(world.source_store, *(f"m{number}" for number in range(3, 12)))
    result = world.migrate(delete=True, max_delete="23")
    assert (deleted(result), result.memories["retained"]) == ((1, 23), 8)
    assert world.migrate(delete=True, max_delete="0").memories["retained"] == 8


@pytest.mark.parametrize("limit", ["", "-1", "10 percent", "101%", "5.5", "1e3", "٣"])
def test_a_limit_that_is_none_is_refused(world: World, limit: str) -> None:
    with pytest.raises(UsageError, match="max_delete"):
        world.migrate(delete=True, max_delete=limit)


def test_a_limit_without_delete_is_refused(world: World) -> None:
    with pytest.raises(UsageError, match="delete"):
        world.migrate(max_delete="5")


@pytest.mark.parametrize("first", [True, False], ids=["the first run", "a later run"])
def test_an_empty_source_stops_whatever_the_limit(world: World, first: bool) -> None:
    if not first:
        world.migrate()
    world.source_store.nodes.clear()
    world.source_store.edges.clear()
    before = contents(world.target_store)
    for limit in (None, "100%"):
        with pytest.raises(LimitHit, match="holds no memories"):
            world.migrate(delete=True, max_delete=limit)
        assert world.migrate(delete=True, max_delete=limit, dry_run=True).exit_code == 23
    assert contents(world.target_store) == before
    assert world.journal.exists() is not first, "no file is made for it"
    result = world.migrate()
    assert (result.exit_code, contents(world.target_store)[:2]) == (0, before[:2])
    assert "the source holds no memories" in result.warnings


def test_a_source_of_other_memories_stops_whatever_the_limit(world: World) -> None:
    world.migrate()
    world.source_store.nodes = {f"x{number}": memory(f"x{number}") for number in range(8)}
    world.source_store.edges.clear()
    before = contents(world.target_store)
    with pytest.raises(LimitHit, match="none of the 8 memories"):
        world.migrate(delete=True, max_delete="100%")
    assert world.migrate(delete=True, max_delete="100%", dry_run=True).exit_code == 23
    assert contents(world.target_store) == before
    world.migrate()
    assert deleted(world.migrate(delete=True, max_delete="100%")) == (8, 16), "a run without --delete accepts it"


def test_a_truncated_source_stops(world: World) -> None:
    world.migrate()
    inventory = MemoryBackend.inventory

    def more(self: MemoryBackend) -> Inventory:
        found = inventory(self)
        return found if self.store is world.target_store else replace(found, memories=found.memories + 1)

    world.monkeypatch.setattr(MemoryBackend, "inventory", more)
    before = contents(world.target_store)
    with pytest.raises(LimitHit, match="9 memories"):
        world.migrate(delete=True)
    with pytest.raises(StoreRefused, match="9 memories"):
        world.migrate()
    assert contents(world.target_store) == before


@pytest.mark.parametrize("change", [{"layout": "0.13"}, {"lasting_identity": "another database"}], ids=str)
def test_a_swapped_source_stops_until_a_run_without_delete_took_it(world: World, change: dict[str, Any]) -> None:
    first = world.migrate()
    opened = MemoryBackend.open

    def swapped(self: MemoryBackend, access: Any) -> StoreInfo:
        found = opened(self, access)
        return found if self.store is world.target_store else replace(found, **change)

    world.monkeypatch.setattr(MemoryBackend, "open", swapped)
    before = contents(world.target_store)
    with pytest.raises(LimitHit, match="another one than in the last run"):
        world.migrate(delete=True, max_delete="100%")
    assert world.migrate(delete=True, dry_run=True).exit_code == 23
    assert contents(world.target_store) == before
    accepted = world.migrate()
    assert accepted.exit_code == 0
    assert any("another one than" in warning for warning in accepted.warnings)
    drop(world.source_store, "m5")
    same_pair = "layout" in change
    assert deleted(world.migrate(delete=True)) == ((1, 2) if same_pair else (0, 0))
    assert first.exit_code == 0


def test_what_another_pair_holds_is_retained(world: World) -> None:
    STORES["second"] = MemoryStore()
    fill(STORES["second"], 8)
    other = BackendConfig(backend=BackendType.MEMORY, graph="second")
    world.migrate()
    again = manager.run_migrate(other, world.target, MigrationOptions(), journal_path=world.journal)
    assert again.memories["unchanged"] == 8
    drop(world.source_store, "m5")
    result = world.migrate(delete=True)
    assert (deleted(result), result.exit_code) == ((0, 0), 10)
    assert kept_with(result).keys() == {"m5", "e5", "p5"}
    assert all("second" in reason for reason in kept_with(result).values())
    del STORES["second"]


def test_what_is_gone_on_both_sides_is_no_matter(world: World) -> None:
    world.migrate()
    drop(world.source_store, "m5")
    drop(world.target_store, "m5")
    result = world.migrate(delete=True)
    assert (deleted(result), result.exit_code, kept_with(result)) == ((0, 0), 0, {})


def test_what_others_change_under_the_batch_is_refused_and_decided_again(world: World) -> None:
    world.migrate()
    drop(world.source_store, "m5", "m6")
    network = world.network()

    def others() -> None:
        world.target_store.nodes["m6"]["properties"]["title"] = "theirs now"

    network.before("write", others, nth=4)
    result = world.migrate(delete=True)
    assert (deleted(result), {*kept_with(result)}) == ((1, 4), {"m6"})
    assert "batch.refused" in {event.type for event in world.events()}


def test_what_others_keep_changing_is_retained(world: World) -> None:
    world.migrate()
    drop(world.source_store, "m5")
    del world.target_store.edges["e5"]
    del world.target_store.edges["p5"]
    counter = iter(range(100))

    def read() -> None:
        world.target_store.nodes["m5"]["properties"]["usage_count"] = next(counter)

    world.network().before("write", read, nth=0)
    result = world.migrate(delete=True)
    assert "keep changing" in kept_with(result)["m5"]
    assert (deleted(result), result.memories["retained"], result.exit_code) == ((0, 0), 1, 10)


def test_a_deletion_that_did_not_hold_fails_the_verification(world: World) -> None:
    world.migrate()
    drop(world.source_store, "m5")
    before = contents(world.target_store)
    network = world.network()

    def undo() -> None:
        world.target_store.nodes["m5"] = before[0]["m5"]

    network.after("barrier", undo, nth=2)
    with pytest.raises(VerificationFailed) as caught:
        world.migrate(delete=True)
    assert caught.value.result.verification.different == 1
    assert contents(world.target_store) == before, "and the run is taken back"


def test_a_deletion_that_did_not_hold_is_repaired_by_a_resume(world: World) -> None:
    world.migrate()
    drop(world.source_store, "m5")
    before = contents(world.target_store)
    world.network().after("barrier", lambda: world.target_store.nodes.update(m5=before[0]["m5"]), nth=2)
    with pytest.raises(VerificationFailed):
        world.migrate(delete=True, rollback_on_failure=False)
    world.network()
    result = world.migrate(resume=True)
    assert (deleted(result), result.exit_code, result.verification.status) == ((1, 2), 0, "passed")
    assert "m5" not in world.target_store.nodes
    world.rollback(result.run_id)
    assert contents(world.target_store) == before


def test_somebody_who_makes_it_again_is_foreign(world: World) -> None:
    world.migrate()
    drop(world.source_store, "m5")
    again = memory("m5", content="theirs")
    world.network().after("barrier", lambda: world.target_store.nodes.update(m5=again), nth=2)
    result = world.migrate(delete=True)
    assert (result.verification.foreign, result.verification.status) == (1, "passed")
    later = manager.run_verify(result.run_id, journal_path=world.journal)
    assert (later.verification.matched, later.verification.foreign) == (2, 1)
    back = world.rollback(result.run_id)
    assert back.memories["retained"] == 1
    assert world.target_store.nodes["m5"] == again


def test_verified_later(world: World) -> None:
    world.migrate()
    old = dict(world.source_store.nodes)
    drop(world.source_store, "m5")
    run_id = world.migrate(delete=True).run_id
    assert manager.run_verify(run_id, journal_path=world.journal).verification.matched == 3
    world.source_store.nodes["m5"] = old["m5"]
    assert manager.run_verify(run_id, journal_path=world.journal).verification.changing == 1


def test_it_is_made_again_when_it_comes_back(world: World) -> None:
    world.migrate()
    old = dict(world.source_store.nodes)
    drop(world.source_store, "m5")
    world.migrate(delete=True)
    world.source_store.nodes["m5"] = old["m5"]
    result = world.migrate(delete=True)
    assert (result.memories["created"], result.exit_code) == (1, 0)


def test_a_pruned_journal_still_knows_what_is_ours(world: World) -> None:
    world.target_store.nodes["m6"] = world.source_store.nodes["m6"]
    world.migrate()
    world.source_store.nodes["m5"] = memory("m5", title="newer", updated_at="2026-03-01T00:00:00Z")
    world.migrate()
    with Journal.open(world.journal) as journal:
        assert len(journal.prune(Keep(runs=0)).pruned) == 2
    drop(world.source_store, "m5", "m6")
    result = world.migrate(delete=True)
    assert (deleted(result), result.exit_code) == ((1, 4), 0)
    assert "m6" in world.target_store.nodes


def test_ctrl_c_in_the_deletions_ends_a_batch_and_can_be_resumed(world: World) -> None:
    world.migrate()
    drop(world.source_store, "m5", "m6")
    seen: list[str] = []
    hooks = Hooks(progress=lambda at: seen.append(at.phase), stop=lambda: 2 if "delete" in seen else 0)
    with pytest.raises(Interrupted) as caught:
        world.migrate(delete=True, hooks=hooks)
    assert caught.value.result.status == "interrupted"
    assert deleted(caught.value.result) == (0, 3)
    assert deleted(world.migrate(resume=True)) == (2, 4)


def test_a_lost_target_is_no_mass_deletion(world: World) -> None:
    world.migrate()
    drop(world.source_store, "m5")
    world.target_store.nodes.clear()
    world.target_store.edges.clear()
    result = world.migrate(delete=True)
    assert (deleted(result), result.exit_code) == ((0, 0), 10)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("end", ["resumed", "taken back"])
def test_killed_at_every_step_of_a_run_that_deletes(world: World, when: str, end: str) -> None:
    world.migrate()
    drop(world.source_store, "m5", "m6")
    world.source_store.nodes["m1"]["properties"]["title"] = "newer"
    world.source_store.nodes["new"] = memory("new")
    before, journal = deepcopy(world.target_store), world.journal.read_bytes()
    fate = world.fate(Fate())
    world.migrate(delete=True)
    wanted = contents(world.target_store)
    for at in range(1, len(fate.hits) + 1):
        STORES[world.target.graph] = deepcopy(before)
        world.forget()
        world.journal.write_bytes(journal)
        world.fate(Fate(at=at, when=when))
        with pytest.raises(Killed):
            world.migrate(delete=True)
        world.fate(Fate())
        if end == "resumed":
            result = world.migrate(delete=True, resume=True)
            assert (contents(world.target_store), result.exit_code) == (wanted, 0), at
            # A run that had finished is no longer open: the next one finds all done.
            assert deleted(result) in {(2, 4), (0, 0)}, at
        else:
            for run_id in world.run_ids()[1:]:
                assert world.rollback(run_id).exit_code == 0, at
            assert contents(world.target_store) == contents(before), at
        world.check()


def test_a_run_that_died_in_its_deletions_counts_all_of_them(world: World) -> None:
    world.migrate()
    drop(world.source_store, "m5", "m6")
    network = world.network()
    network.kill("after", "write", nth=2)
    with pytest.raises(Killed):
        world.migrate(delete=True)
    world.network()
    result = world.migrate(resume=True)
    assert (deleted(result), result.exit_code) == ((2, 4), 0)


def test_a_resume_of_a_source_that_was_emptied_meanwhile_deletes_nothing_more(world: World) -> None:
    world.migrate()
    drop(world.source_store, "m5", "m6")
    network = world.network()
    network.kill("after", "write", nth=1)
    with pytest.raises(Killed):
        world.migrate(delete=True)
    world.network()
    before = contents(world.target_store)
    drop(world.source_store, "m1", "m2", "m3", "m4", "m7")
    with pytest.raises(LimitHit):
        world.migrate(resume=True)
    assert contents(world.target_store) == before


def test_a_resume_counts_its_limit_by_what_is_left_in_the_target_as_a_new_run_does(world: World) -> None:
    world.source_store.nodes |= {f"n{number}": memory(f"n{number}") for number in range(32)}  # 40 with the others
    world.migrate()
    drop(world.source_store, "n0", "n1", "n2")
    world.network().kill("after", "journal:run.opened")
    with pytest.raises(Killed):
        world.migrate(delete=True, max_delete="10%")
    world.network()
    drop(world.target_store, *(f"n{number}" for number in range(10, 30)))
    before = contents(world.target_store)
    with pytest.raises(LimitHit):
        world.migrate(resume=True)
    assert contents(world.target_store) == before


@pytest.mark.parametrize("nth", [1, 2, 3])
def test_a_server_that_loses_deletions_gets_them_again(world: World, nth: int) -> None:
    world.migrate()
    world.target_store.save()
    drop(world.source_store, "m5", "m6")
    before = contents(world.target_store)
    world.network().after("write", world.target_store.restart, nth=nth)
    result = world.migrate(delete=True)
    assert (deleted(result), result.exit_code) == ((2, 4), 0)
    assert {"m5", "m6"}.isdisjoint(world.target_store.nodes)
    world.rollback(result.run_id)
    assert contents(world.target_store) == before

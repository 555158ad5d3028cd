"""What once went wrong: each found by hand, one fact a test."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from copy import deepcopy
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from journal.store import Journal
from migrator import manager
from migrator.backends.base import Marker, SchemaStep
from migrator.backends.memory import STORES, MemoryBackend, MemoryStore, PlainForm
from migrator.errors import ConflictFound, StoreRefused, VerificationFailed
from migrator.model import Problem
from migrator.models import BackendConfig, BackendType, MigrationOptions
from tests.engine.conftest import Killed, arrived, contents, die, edge, memory, unknown_outcome
from tests.engine.test_verification import during_verification

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from migrator.backends.base import Raw
    from migrator.model import Record
    from tests.engine.conftest import World


@pytest.fixture
def second_source() -> Iterator[BackendConfig]:
    """Another source, empty, for a second pair into the same target."""
    STORES["second"] = MemoryStore()
    yield BackendConfig(backend=BackendType.MEMORY, graph="second")
    del STORES["second"]


def mangle(world: World, monkeypatch: pytest.MonkeyPatch, victim: str) -> None:
    """Make the target an engine that stores another importance in one memory, when that is written first."""
    write, echo = MemoryBackend.write, MemoryBackend.echo
    struck: list[int] = []

    def mangled(self: MemoryBackend, batch: Any, expected: Marker) -> Any:
        outcome = write(self, batch, expected)
        if not struck and any(row.id == victim for row in batch.rows):
            struck.append(1)
            world.target_store.nodes[victim]["properties"]["importance"] = 0.123
        return outcome

    def echoed(self: MemoryBackend, kind: Any, raw: Raw, marker: Marker) -> Raw | None:
        found = echo(self, kind, raw, marker)
        if found is not None:
            found["properties"]["importance"] = 0.123
        return found

    monkeypatch.setattr(MemoryBackend, "write", mangled)
    monkeypatch.setattr(MemoryBackend, "echo", echoed)


def migrate_mangled(world: World, monkeypatch: pytest.MonkeyPatch, **options: Any) -> None:
    with monkeypatch.context() as broken:
        mangle(world, broken, "m3")
        with pytest.raises(VerificationFailed):
            world.migrate(**options)


def others_hold(world: World, *names: str) -> None:
    """Somebody else holds these as the source does; nobody has made that durable."""
    world.target_store.nodes |= {name: deepcopy(world.source_store.nodes[name]) for name in names}


def open_state(world: World, identity: str) -> str | None:
    """What keeps a memory open for the pair, by the journal."""
    with Journal.open(world.journal, mode="read") as journal:
        opened = journal.runs()[0].opened
        assert opened is not None
        return journal.bases(opened.pair).get("memory", [identity])[identity].open


# --- rollback ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("title", ["m1", "theirs"], ids=["all", "one retained"])
def test_a_second_rollback_leaves_what_a_later_run_wrote(world: World, title: str) -> None:
    first = world.migrate().run_id
    world.target_store.nodes["m1"]["properties"]["title"] = title
    world.rollback(first)
    world.migrate()
    before = contents(world.target_store)
    plan = world.rollback(first, dry_run=True)
    assert plan.memories["deleted"] == plan.relationships["deleted"] == 0
    world.rollback(first)
    assert contents(world.target_store) == before


@pytest.mark.parametrize("options", [{}, {"rollback_on_failure": False}], ids=["at once", "later"])
def test_a_mangled_update_is_taken_back(
    world: World, monkeypatch: pytest.MonkeyPatch, options: dict[str, bool]
) -> None:
    world.migrate()
    world.source_store.nodes["m3"]["properties"]["importance"] = 0.9
    before = contents(world.target_store)
    migrate_mangled(world, monkeypatch, **options)
    if options:
        world.rollback(world.run_ids()[-1])
    assert contents(world.target_store) == before


def test_a_mangled_update_that_a_resume_repaired_is_taken_back(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.migrate()
    world.source_store.nodes["m3"]["properties"]["importance"] = 0.9
    before = contents(world.target_store)
    migrate_mangled(world, monkeypatch, rollback_on_failure=False)
    result = world.migrate(resume=True)
    assert world.target_store.nodes["m3"] == world.source_store.nodes["m3"]
    world.rollback(result.run_id)
    assert contents(world.target_store) == before


def test_one_edge_that_cannot_go_back_does_not_keep_its_batch(world: World) -> None:
    world.migrate()
    for number in (3, 4, 5):
        world.source_store.edges[f"e{number}"] = edge(f"e{number}", "m1", "m2", strength=number / 3)
    run_id = world.migrate(batch_size=100).run_id
    target = world.target_store
    target.edges = {name: one for name, one in target.edges.items() if "m3" not in (one["from"], one["to"])}
    del target.nodes["m3"]
    result = world.rollback(run_id)
    assert [finding.id for finding in result.findings] == ["e3"]
    assert (target.edges["e4"]["to"], target.edges["e5"]["to"]) == ("m4", "m5")


def test_one_id_that_nobody_can_see_does_not_keep_its_batch(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    original = MemoryBackend.lookup

    def blind(self: MemoryBackend, kind: Any, wanted: Any) -> dict[str, Raw]:
        found = original(self, kind, wanted)
        if self.store is world.target_store:
            found.pop("m4", None)
        return found

    world.target_store.nodes["m4"] = memory("m4", content="theirs")
    monkeypatch.setattr(MemoryBackend, "lookup", blind)
    result = world.migrate(batch_size=100)
    assert (result.memories["created"], result.memories["conflict"]) == (7, 1)
    assert world.target_store.nodes["m4"]["properties"]["content"] == "theirs"


def test_a_rollback_drops_only_the_schema_that_the_run_made(world: World) -> None:
    theirs = SchemaStep(name="memory_type", kind="index", create="", drop="")
    network = world.network()
    network.after("write", lambda: world.target_store.schema.update(memory_type=theirs))
    run_id = world.migrate().run_id
    world.rollback(run_id)
    assert world.target_store.schema.keys() == {"memory_type"}


def test_a_rollback_of_an_update_asks_the_other_pairs(world: World, second_source: BackendConfig) -> None:
    world.target_store.nodes["m1"] = memory("m1", content="theirs")
    first = world.migrate(on_conflict="overwrite").run_id
    STORES["second"].nodes["m1"] = deepcopy(world.source_store.nodes["m1"])
    manager.run_migrate(second_source, world.target, MigrationOptions(), journal_path=world.journal)
    result = world.rollback(first)
    assert "second" in {finding.id: finding.reason for finding in result.findings}["m1"]
    assert world.target_store.nodes["m1"] == world.source_store.nodes["m1"]


def test_a_counter_bumped_by_reading_does_not_keep_an_update(world: World) -> None:
    world.migrate()
    world.source_store.nodes["m1"]["properties"].update(title="new", usage_count=5)
    run_id = world.migrate().run_id
    world.target_store.nodes["m1"]["properties"]["usage_count"] = 6
    assert world.rollback(run_id).exit_code == 0
    assert world.target_store.nodes["m1"]["properties"]["title"] == "m1"


def test_a_lost_row_that_somebody_else_made_is_theirs(world: World) -> None:
    die(world, "after", "write", nth=2)
    world.target_store.restart()
    assert "m0" not in world.target_store.nodes
    others_hold(world, "m0")
    world.network()
    result = world.migrate(resume=True)
    assert (result.memories["unchanged"], result.memories["created"]) == (1, 7)
    world.rollback(result.run_id)
    assert world.target_store.nodes.keys() == {"theirs", "m0"}


def test_a_refused_rollback_opens_nothing(world: World) -> None:
    run_id = world.migrate().run_id
    theirs = Marker(journal="theirs", run="theirs", epoch=1, batch=0, digest="", owner="somebody else")
    world.target_store.markers = [theirs]
    with pytest.raises(StoreRefused, match="somebody else"):
        world.rollback(run_id)
    assert "rollback.opened" not in [event.type for event in world.events(run_id)]
    world.target_store.markers.clear()
    assert world.migrate().memories["unchanged"] == 8, "and holds nobody up"


# --- runs and their resume --------------------------------------------------------------------------------------------


def test_an_import_that_reads_fewer_than_the_scan_does_not_pass(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    original = MemoryBackend.scan
    passes: list[int] = []

    def scan(self: MemoryBackend, kind: Any, size: int) -> Iterator[Any]:
        chunks = list(original(self, kind, size))
        if self.store is world.source_store and kind == "relationship":
            passes.append(1)
            chunks = chunks[:2] if len(passes) == 2 else chunks
        yield from chunks

    monkeypatch.setattr(MemoryBackend, "scan", scan)
    with pytest.raises(StoreRefused, match="could be read"):
        world.migrate()
    assert world.migrate(resume=True).verification.status == "passed"
    assert arrived(world)


def test_decisions_before_the_first_claim_are_void_when_the_server_restarted(world: World) -> None:
    others_hold(world, "m0", "m1", "m2")
    die(world, "after", "journal:batch.planned")
    world.target_store.restart()
    assert "m0" not in world.target_store.nodes
    world.network()
    result = world.migrate(resume=True)
    assert (result.memories["created"], result.exit_code) == (8, 0)
    assert arrived(world)


@pytest.mark.parametrize("step", ["apply_schema", "claim"])
def test_decisions_before_the_first_claim_are_void_in_the_same_process(world: World, step: str) -> None:
    others_hold(world, "m0", "m1", "m2")
    network = world.network()
    network.before(step, world.target_store.restart)
    result = world.migrate()
    assert (result.memories["created"], result.exit_code) == (8, 0)
    assert arrived(world)


def test_decisions_are_void_when_a_server_falls_behind_a_durable_barrier(world: World) -> None:
    store = world.target_store
    before = deepcopy(store.nodes)
    world.source_store.edges.clear()
    others_hold(world, "m3", "m4", "m5")
    die(world, "before", "journal:verify.result")
    store.nodes, store.identity = before, "restored from an old copy"
    store.markers = [replace(store.markers[0], batch=0, digest="")]
    world.network()
    result = world.migrate(resume=True)
    assert (result.memories["created"], result.exit_code) == (8, 0)
    assert arrived(world)


def test_a_resume_keeps_all_labels(world: World) -> None:
    world.source_store.nodes["entity"] = {"id": "entity", "labels": ["Entity"], "properties": {"text": "x"}}
    world.source_store.edges["mentions"] = edge("mentions", "m0", "entity", "MENTIONS")
    network = world.network()
    network.kill("after", "write")
    with pytest.raises(Killed):
        world.migrate(all_labels=True)
    world.migrate(resume=True)
    assert arrived(world)


def test_a_resume_keeps_the_layout(world: World, tmp_path: Path) -> None:
    file = tmp_path / "target.db"
    needed = {"content": "x", "created_at": "2026-01-01T00:00:00Z", "updated_at": "2026-01-01T00:00:00Z"}
    world.source_store.nodes = {"a": memory("a", **needed)}
    world.source_store.edges.clear()
    world.target = BackendConfig(backend=BackendType.SQLITE, path=file, layout="0.12")
    die(world, "after", "journal:run.opened")
    world.network()
    world.target = replace(world.target, layout=None)
    world.migrate(resume=True)
    with closing(sqlite3.connect(file)) as connection:
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
    assert "nodes" in tables
    assert "memories" not in tables


def test_a_released_marker_that_comes_back_does_not_stop_another_run(world: World) -> None:
    world.migrate()
    world.source_store.nodes["m3"]["properties"]["title"] = "new"
    die(world, "after", "journal:run.opened")
    world.target_store.restart()
    assert world.target_store.markers, "of the first run: its release was not durable"
    world.network()
    assert world.migrate(resume=True).status == "finished"
    assert arrived(world)
    world.check()


def test_a_release_that_fails_after_the_end_is_a_warning(world: World) -> None:
    network = world.network()
    network.kill("before", "release", nth=0, how=unknown_outcome)
    result = world.migrate()
    assert (result.status, result.exit_code) == ("finished", 0)
    assert any("marker" in warning for warning in result.warnings)
    world.network()
    assert world.migrate().exit_code == 0, "and the next run takes it out"
    world.check()


def test_fail_finds_its_conflict_behind_100_other_findings(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def problems(_form: PlainForm, record: Record) -> Sequence[Problem]:
        bad = record.id.startswith("bad")
        return [Problem(kind="memory", id=record.id, field="title", reason="no")] if bad else []

    monkeypatch.setattr(PlainForm, "problems", problems)
    source = world.source_store
    source.nodes = {f"bad{number}": memory(f"bad{number}") for number in range(120)} | source.nodes
    world.target_store.nodes["m7"] = memory("m7", content="theirs")
    before = contents(world.target_store)
    with pytest.raises(ConflictFound, match="m7"):
        world.migrate(on_conflict="fail", on_unstorable="quarantine")
    assert contents(world.target_store) == before


def test_what_becomes_unstorable_in_mid_run_is_something_to_look_at(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = MemoryBackend.scan
    passes: list[int] = []

    def scan(self: MemoryBackend, kind: Any, size: int) -> Iterator[Any]:
        if self.store is world.source_store and kind == "memory":
            passes.append(1)
            if len(passes) == 2:
                world.source_store.nodes["bad"] = memory("bad")
                self.release_snapshot()
        yield from original(self, kind, size)

    def problems(_form: PlainForm, record: Record) -> Sequence[Problem]:
        return [Problem(kind="memory", id="bad", field="title", reason="NUL")] if record.id == "bad" else []

    monkeypatch.setattr(MemoryBackend, "snapshots", False)
    monkeypatch.setattr(MemoryBackend, "scan", scan)
    monkeypatch.setattr(PlainForm, "problems", problems)
    result = world.migrate()
    assert (result.memories["created"], result.exit_code) == (8, 10)
    assert "bad" not in world.target_store.nodes


# --- open ids ---------------------------------------------------------------------------------------------------------


def test_what_a_rollback_retained_stays_open(world: World) -> None:
    run_id = world.migrate().run_id
    world.target_store.nodes["m1"]["properties"]["title"] = "theirs"
    world.rollback(run_id)
    for _ in range(2):
        result = world.migrate()
        assert (result.memories["conflict"], result.exit_code) == (1, 10)


def test_what_changes_in_the_source_during_the_run_stays_open(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as during:
        source = world.source_store
        during_verification(world, during, lambda: source.nodes["m3"]["properties"].update(title="moved on"))
        assert world.migrate().verification.changing == 1
    assert open_state(world, "m3") == "changing"
    world.migrate()
    assert open_state(world, "m3") is None


def test_a_source_that_goes_back_does_not_close_a_conflict(world: World) -> None:
    world.migrate()
    world.source_store.nodes["m2"]["properties"]["title"] = "ours"
    world.target_store.nodes["m2"]["properties"]["title"] = "theirs"
    assert world.migrate().memories["conflict"] == 1
    world.source_store.nodes["m2"]["properties"]["title"] = "m2"
    for _ in range(2):
        assert world.migrate().exit_code == 10
    assert open_state(world, "m2") == "conflict"


# --- verification -----------------------------------------------------------------------------------------------------


def test_a_run_whose_verification_failed_fails_a_later_one_too(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    migrate_mangled(world, monkeypatch, rollback_on_failure=False)
    with pytest.raises(VerificationFailed):
        manager.run_verify(world.run_ids()[-1], journal_path=world.journal)


def test_the_target_is_verified_where_the_source_record_is_gone(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def act() -> None:
        world.source_store.nodes.clear()
        world.source_store.edges.clear()
        world.target_store.nodes["m3"]["properties"]["title"] = "theirs"
        world.target_store.nodes.pop("m7", None)

    during_verification(world, monkeypatch, act)
    found = world.migrate().verification
    assert (found.foreign, found.changing, found.matched) == (2, 22, 0)

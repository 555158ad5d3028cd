"""Verification: lost and altered records fail, what others did is told apart, a failed run is taken back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from migrator import manager
from migrator.backends.memory import MemoryBackend, PlainForm
from migrator.errors import StoreUnreachable, VerificationFailed
from migrator.models import MigrationOptions
from tests.engine.conftest import contents, edge

if TYPE_CHECKING:
    from collections.abc import Callable

    from migrator.backends.base import Raw
    from migrator.model import Record
    from tests.engine.conftest import World


@pytest.fixture
def lossy(monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine that drops a field on every write."""
    original = PlainForm.encode

    def encode(self: PlainForm, record: Record) -> Raw:
        raw = original(self, record)
        raw["properties"].pop("importance", None)
        return raw

    monkeypatch.setattr(PlainForm, "encode", encode)


@pytest.mark.usefixtures("lossy")
def test_a_lossy_engine_fails_and_is_taken_back(world: World) -> None:
    before = contents(world.target_store)
    with pytest.raises(VerificationFailed) as caught:
        world.migrate()
    result = caught.value.result
    assert (result.status, result.exit_code, result.verification.different) == ("rolled-back", 30, 8)
    assert result.findings[0].field == "importance"
    assert contents(world.target_store) == before
    world.check()


@pytest.mark.usefixtures("lossy")
def test_keep_on_failure_leaves_the_target_for_a_look(world: World) -> None:
    with pytest.raises(VerificationFailed) as caught:
        world.migrate(rollback_on_failure=False)
    assert caught.value.result.status == "failed"
    assert "m0" in world.target_store.nodes
    assert "rollback" in caught.value.hint


def test_keep_on_failure_is_repaired_by_resume(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    original = PlainForm.encode

    def encode(self: PlainForm, record: Record) -> Raw:
        raw = original(self, record)
        raw["properties"].pop("importance", None)
        return raw

    before = contents(world.target_store)
    with monkeypatch.context() as broken:
        broken.setattr(PlainForm, "encode", encode)
        with pytest.raises(VerificationFailed):
            world.migrate(rollback_on_failure=False)
    result = manager.run_resume(None, journal_path=world.journal)
    assert result is not None
    assert (result.status, result.verification.status) == ("finished", "passed")
    assert world.target_store.nodes["m3"] == world.source_store.nodes["m3"]
    world.rollback(result.run_id)
    assert contents(world.target_store) == before


def during_verification(world: World, monkeypatch: pytest.MonkeyPatch, act: Callable[[], None]) -> None:
    """Do something between the import and the verification."""
    original = MemoryBackend.release_snapshot

    def release(self: MemoryBackend) -> None:
        if self.store is world.source_store and world.target_store.markers:
            act()
        original(self)

    monkeypatch.setattr(MemoryBackend, "release_snapshot", release)


def test_others_that_write_during_the_run_are_told_apart(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def act() -> None:
        world.target_store.nodes["m1"]["properties"]["title"] = "theirs"
        del world.target_store.edges["e2"]
        world.source_store.nodes["m3"]["properties"]["title"] = "moved on"
        world.source_store.edges["late"] = edge("late", "m0", "m1")
        world.source_store.edges.pop("e5")

    during_verification(world, monkeypatch, act)
    result = world.migrate()
    found = result.verification
    assert (found.status, found.foreign, found.changing, found.different, found.missing) == ("passed", 2, 3, 0, 0)
    assert found.matched == 24 - 4, "the third that is changing is new in the source"


def test_a_server_that_forgets_without_restarting_is_told_as_others_doing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def act() -> None:
        world.target_store.nodes.pop("m1", None)

    during_verification(world, monkeypatch, act)
    result = world.migrate()
    assert result.verification.foreign == 1
    assert any("by others" in warning for warning in result.warnings)


def test_verify_any_time_later(world: World) -> None:
    run_id = world.migrate().run_id

    def verify() -> Any:
        return manager.run_verify(run_id, journal_path=world.journal).verification

    assert (verify().status, verify().matched) == ("passed", 24)
    world.target_store.nodes["m1"]["properties"]["usage_count"] = 7
    assert verify().matched == 24, "reading bumps that"
    world.target_store.nodes["m1"]["properties"]["title"] = "theirs"
    world.source_store.nodes["m2"]["properties"]["title"] = "moved on"
    assert (verify().foreign, verify().changing, verify().matched) == (1, 1, 22)
    del world.target_store.nodes["m4"]
    with pytest.raises(VerificationFailed) as caught:
        verify()
    assert caught.value.result.verification.missing == 1
    assert caught.value.exit_code == 30


def test_verify_of_a_run_that_wrote_nothing_has_what_it_read_as_scope(world: World) -> None:
    world.migrate()
    quiet = world.migrate().run_id
    assert manager.run_verify(quiet, journal_path=world.journal).verification.matched == 24
    del world.target_store.nodes["m4"]
    with pytest.raises(VerificationFailed):
        manager.run_verify(quiet, journal_path=world.journal)


def test_two_stores_without_a_run(world: World) -> None:
    options = MigrationOptions()
    with pytest.raises(VerificationFailed) as caught:
        manager.run_verify_stores(world.source, world.target, options)
    assert caught.value.result.verification.missing == 24
    world.migrate()
    world.target_store.nodes["m1"]["properties"]["title"] = "theirs"
    with pytest.raises(VerificationFailed) as caught:
        manager.run_verify_stores(world.source, world.target, options)
    found = caught.value.result.verification
    assert (found.matched, found.different, found.missing, found.foreign) == (23, 1, 0, 2), "extras are theirs"


def test_verify_without_its_source(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    run_id = world.migrate().run_id
    original = MemoryBackend.open

    def gone(self: MemoryBackend, access: Any) -> Any:
        if self.store is world.source_store:
            msg = "gone"
            raise StoreUnreachable(msg)
        return original(self, access)

    monkeypatch.setattr(MemoryBackend, "open", gone)
    result = manager.run_verify(run_id, journal_path=world.journal)
    assert result.verification.matched == 24
    assert any("journal only" in warning for warning in result.warnings)

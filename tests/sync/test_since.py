"""Nights with ``--since``: what is read, what comes along, what comes back, and when everything is read after all."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from migrator.backends.memory import MemoryBackend
from migrator.errors import Interrupted, UsageError
from tests.sync.conftest import START, changed, stamp

if TYPE_CHECKING:
    from migrator.backends.base import Inventory
    from tests.sync.conftest import Nights


def quiet(nights: Nights) -> None:
    """The first run, and an hour in which nothing happens."""
    nights.run()
    nights.wait(hours=1)


def test_without_a_watermark_everything_is_read_and_that_is_said(nights: Nights) -> None:
    found = nights.run()
    assert nights.equal()
    assert found.memories["created"] == 2
    assert any("everything is read" in warning for warning in found.warnings)
    assert nights.last.opened is not None
    assert (nights.last.opened.full, nights.last.opened.since) == (True, None)
    assert found.watermark == nights.in_step.watermark == "2026-03-01T21:00:00.000000Z"


def test_only_what_changed_is_read(nights: Nights) -> None:
    quiet(nights)
    nights.memory("c")
    nights.memory("a", title="changed")
    nights.edge("c-a", "c", "a")
    found = nights.run(overlap="0")
    assert nights.equal()
    # Closed below: what has the watermark's own time is read again.
    assert changed(dict(found.memories)) == {"read": 3, "created": 1, "updated": 1, "unchanged": 1}
    assert changed(dict(found.relationships)) == {"read": 2, "created": 1, "unchanged": 1}
    assert found.verification.matched == 5
    assert found.watermark == "2026-03-01T23:00:00.000000Z"
    assert not found.warnings


def test_a_change_without_a_stamp_waits_for_a_full_comparison(nights: Nights) -> None:
    quiet(nights)
    nights.memory("c")
    nights.run()
    nights.wait(hours=1)
    nights.here.nodes["a"]["properties"]["usage_count"] = 7
    assert changed(dict(nights.run().memories)) == {"read": 1, "unchanged": 1}
    assert not nights.equal()
    found = nights.run(None)
    assert nights.equal()
    assert (found.last_full, found.memories["updated"]) == (nights.now.isoformat(), 1)


def test_the_overlap_catches_what_was_committed_late(nights: Nights) -> None:
    nights.memory("latest")
    quiet(nights)
    nights.memory("late", at=START - timedelta(minutes=5))
    nights.memory("too late", at=START - timedelta(minutes=5, microseconds=1))
    assert nights.run().memories["created"] == 1
    assert "late" in nights.there.nodes
    assert nights.run(overlap="6m").memories["created"] == 1
    assert nights.equal()


@pytest.mark.parametrize(
    ("at", "told"),
    [
        (None, "1 without any time"),
        ("then", "1 with an unreadable time"),
        (1_577_836_800_000, "1 with a number as time"),
        ("2020-01-01T00:00:00", "1 with a time without zone"),
    ],
)
def test_a_record_whose_times_say_nothing_sure_is_read_and_counted(nights: Nights, at: object, told: str) -> None:
    nights.memory("odd", at=at)
    nights.memory("later")
    quiet(nights)
    nights.here.nodes["odd"]["properties"]["title"] = "changed"
    found = nights.run()
    assert nights.equal()
    assert found.memories["updated"] == 1
    assert any(warning.endswith(told) for warning in found.warnings)


def test_a_time_in_the_future_includes_and_is_warned_about_but_the_watermark_stays_below_the_clock(
    nights: Nights,
) -> None:
    nights.memory("tomorrow", at=START + timedelta(days=1))
    found = nights.run()
    assert found.watermark == "2026-03-01T21:00:00.000000Z"
    assert any("later than this machine's clock: tomorrow" in warning for warning in found.warnings)
    nights.wait(hours=1)
    assert changed(dict(nights.run().memories)) == {"read": 3, "unchanged": 3}


def test_an_end_that_the_target_never_had_comes_along(nights: Nights) -> None:
    nights.memory("new")
    quiet(nights)
    nights.memory("old", at=START - timedelta(days=9))
    nights.edge("new-old", "new", "old")
    found = nights.run()
    assert nights.equal()
    assert (found.memories["created"], found.relationships["created"]) == (1, 1)


def test_an_end_that_was_deleted_in_the_target_does_not_come_along_and_its_edges_are_conflicts(nights: Nights) -> None:
    nights.memory("new")
    quiet(nights)
    nights.run(None)
    del nights.there.nodes["a"], nights.there.edges["a-b"]
    nights.there.nodes["other"] = {"id": "other", "labels": ["Memory"], "properties": {}}
    nights.there.edges["other"] = {"id": "other", "type": "X", "from": "other", "to": "other", "properties": {}}
    nights.edge("new-a", "new", "a")
    found = nights.run()
    assert "a" not in nights.there.nodes
    assert (found.exit_code, changed(dict(found.relationships))) == (10, {"read": 1, "conflict": 1})
    # It stays open: the next night reads it again, although it lies outside the interval by then.
    nights.memory("newer")
    nights.wait(days=1)
    found = nights.run()
    assert (found.exit_code, found.relationships["conflict"]) == (10, 1)


def test_an_end_that_is_really_missing_is_dangling(nights: Nights) -> None:
    quiet(nights)
    nights.memory("c")
    nights.edge("c-x", "c", "x")
    found = nights.run(on_unstorable="quarantine")
    assert (found.exit_code, found.relationships["quarantined"]) == (10, 1)
    assert "dangling" in found.findings[0].reason


@pytest.mark.parametrize("side", ["source", "target"])
def test_an_open_id_comes_back_until_somebody_has_decided(nights: Nights, side: str) -> None:
    quiet(nights)
    nights.here.nodes["a"]["properties"].update(title="ours", updated_at=stamp(nights.now))
    nights.there.nodes["a"]["properties"]["title"] = "theirs"
    for _ in range(2):
        found = nights.run()
        assert (found.exit_code, found.memories["conflict"]) == (10, 1)
        nights.wait(days=1)
        nights.memory(f"later {nights.now}")
    if side == "source":
        nights.here.nodes["a"]["properties"]["title"] = "theirs"
        nights.there.nodes["a"]["properties"]["updated_at"] = nights.here.nodes["a"]["properties"]["updated_at"]
    else:
        nights.there.nodes["a"] = {**nights.here.nodes["a"]}
    found = nights.run()
    assert (found.exit_code, found.memories["unchanged"] >= 1) == (0, True)
    nights.wait(days=1)
    nights.memory("last")
    nights.wait(hours=1)
    assert nights.run().memories["read"] < found.memories["read"] + 1
    assert nights.equal()


def test_an_open_id_that_is_gone_from_the_source_is_no_longer_read(nights: Nights) -> None:
    quiet(nights)
    nights.here.nodes["b"]["properties"].update(title="ours", updated_at=stamp(nights.now))
    nights.there.nodes["b"]["properties"]["title"] = "theirs"
    assert nights.run().exit_code == 10
    del nights.here.nodes["b"], nights.here.edges["a-b"]
    assert nights.run().exit_code == 0


def test_a_night_asks_once_what_the_target_holds(nights: Nights, monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes half a second at 100,000 + 100,000, and was asked twice."""
    asked: list[str] = []
    inventory = MemoryBackend.inventory

    def counted(backend: MemoryBackend) -> Inventory:
        asked.append(backend.open("read").place.partition("-")[0])
        return inventory(backend)

    quiet(nights)
    monkeypatch.setattr(MemoryBackend, "inventory", counted)
    assert nights.run().warnings == ()
    assert sorted(asked) == ["source", "target"]


@pytest.mark.parametrize("kind", ["memory", "relationship"])
def test_a_target_that_holds_fewer_than_were_brought_is_compared_in_full(nights: Nights, kind: str) -> None:
    nights.memory("c")
    quiet(nights)
    del nights.there.held(kind)["c" if kind == "memory" else "a-b"]  # type: ignore[arg-type]
    found = nights.run()
    assert nights.last.opened is not None
    assert nights.last.opened.full
    assert any(f"fewer records than this pair brought there (1 of kind {kind})" in text for text in found.warnings)
    assert found.exit_code == 10
    # What is known to be deleted there is not missed again.
    assert nights.run().warnings == ()
    assert nights.last.opened is not None
    assert not nights.last.opened.full


def test_a_target_whose_server_is_another_is_compared_in_full(nights: Nights) -> None:
    quiet(nights)
    nights.there.restart()
    found = nights.run()
    assert any("started anew" in warning for warning in found.warnings)
    assert nights.last.opened is not None
    assert nights.last.opened.full
    assert nights.run().warnings == ()


def test_a_full_comparison_is_made_when_it_is_due(nights: Nights) -> None:
    nights.run()
    for day in range(1, 9):
        nights.wait(days=1)
        nights.memory(f"m{day}")
        nights.run(full_every="7d")
        assert nights.last.opened is not None
        assert nights.last.opened.full == (day == 7)
    assert nights.in_step.full_at == (START + timedelta(days=7)).isoformat()


@pytest.mark.parametrize("since", ["7d", "2026-03-01", "2026-03-01T20:00:00+00:00"])
def test_an_interval_that_begins_before_the_watermark_moves_it(nights: Nights, since: str) -> None:
    quiet(nights)
    nights.memory("c")
    assert nights.run(since).watermark == stamp(nights.now).replace("+00:00", "Z")
    assert nights.equal()


def test_an_interval_after_the_watermark_leaves_it(nights: Nights) -> None:
    quiet(nights)
    nights.memory("c")
    nights.wait(minutes=10)
    before = nights.in_step
    found = nights.run("30m")
    assert nights.equal()
    assert found.watermark == before.watermark == nights.in_step.watermark


def test_no_verification_leaves_the_watermark_with_a_warning(nights: Nights) -> None:
    quiet(nights)
    nights.memory("c")
    found = nights.run(verify=False)
    assert found.watermark == nights.in_step.watermark == "2026-03-01T21:00:00.000000Z"
    assert any("the watermark stays at 2026-03-01T21:00:00" in warning for warning in found.warnings)
    assert nights.run().watermark == "2026-03-01T23:00:00.000000Z"


def test_a_time_that_has_not_come_is_refused_before_anything_is_opened(nights: Nights) -> None:
    with pytest.raises(UsageError):
        nights.run("2026-03-02")
    assert not nights.journal.exists()


def test_a_run_that_is_resumed_days_later_keeps_its_interval_and_its_ceiling(nights: Nights) -> None:
    quiet(nights)
    for number in range(9):
        nights.memory(f"m{number}", at=START + timedelta(minutes=number))
    with pytest.raises(Interrupted):
        nights.run(stop=lambda: 15 if len(nights.there.nodes) > 4 else 0)
    nights.wait(days=3)
    nights.memory("much later")
    found = nights.run(resume=True)
    assert nights.equal()
    assert (found.watermark, found.warnings) == ("2026-03-01T22:08:00.000000Z", ())
    assert nights.last.opened is not None
    assert nights.last.opened.since == "2026-03-01T21:00:00.000000Z"


def test_taking_the_newest_run_back_restores_the_watermark_before(nights: Nights) -> None:
    quiet(nights)
    first = nights.in_step
    nights.memory("c")
    nights.rollback(nights.run().run_id)
    assert nights.in_step == first
    assert nights.run().memories["created"] == 1
    assert nights.equal()


def test_taking_back_any_other_run_clears_it(nights: Nights) -> None:
    quiet(nights)
    nights.memory("c")
    second = nights.run().run_id
    nights.wait(hours=1)
    nights.memory("d")
    nights.run()
    nights.rollback(second)
    assert nights.in_step.watermark is None
    assert any("everything is read" in warning for warning in nights.run().warnings)
    assert nights.equal()


def test_a_dry_run_reads_what_the_night_would(nights: Nights) -> None:
    quiet(nights)
    nights.memory("c")
    dry = nights.run(dry_run=True, overlap="0")
    assert dry.memories == {**nights.run(overlap="0").memories}
    assert nights.equal()


def test_a_night_without_changes_writes_nothing_and_leaves_no_marker(
    nights: Nights, monkeypatch: pytest.MonkeyPatch
) -> None:
    nights.memory("c")
    quiet(nights)
    for step in ("swap_marker", "write", "barrier", "apply_schema", "echo"):
        monkeypatch.setattr(f"migrator.backends.memory.MemoryBackend.{step}", None)
    assert nights.run().exit_code == 0
    assert nights.run(None).exit_code == 0

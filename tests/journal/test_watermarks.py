"""The pair's watermark, folded over the ends of its runs and rollbacks."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from journal.events import Event, RollbackFinished, RunFinished, RunOpened, StoredEvent
from journal.watermarks import InStep, fold_watermarks


def opened(pair: str, day: int, *, full: bool) -> RunOpened:
    return RunOpened(
        source={},
        target={},
        pair=pair,
        source_store="",
        target_store="",
        options={},
        code_version="",
        ceiling=f"2026-01-{day:02}",
        full=full,
        since=None,
    )


def finished(watermark: str | None, status: str = "finished") -> RunFinished:
    return RunFinished(
        status=status, memories={}, relationships={}, watermark=watermark, seconds=0, durability="durable"
    )


TAKEN_BACK = RollbackFinished(memories={}, relationships={}, retained=0)


def folded(*told: tuple[str, Event]) -> dict[str, InStep]:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    return fold_watermarks(
        StoredEvent(seq=seq, run_id=run_id, version=1, recorded_at=at, event=event, hash="")
        for seq, (run_id, event) in enumerate(told, 1)
    )


#: Three runs of a pair; the first is a full comparison, the second left the watermark where it was.
THREE: list[tuple[str, Event]] = [
    ("1", opened("p", 1, full=True)),
    ("1", finished("W1")),
    ("2", opened("p", 2, full=False)),
    ("2", finished(None)),
    ("3", opened("p", 3, full=False)),
    ("3", finished("W3")),
]


@pytest.mark.parametrize(
    ("taken_back", "watermark", "newest", "full_at"),
    [
        ("", "W3", "3", "2026-01-01"),
        ("3", "W1", "2", "2026-01-01"),
        ("32", "W1", "1", "2026-01-01"),
        ("321", None, None, None),
        ("2", None, "3", "2026-01-01"),
        ("1", None, "3", None),
        ("23", None, "1", "2026-01-01"),
        ("33", "W1", "2", "2026-01-01"),
        ("22", None, "3", "2026-01-01"),
    ],
)
def test_what_a_rollback_leaves(
    taken_back: str, watermark: str | None, newest: str | None, full_at: str | None
) -> None:
    found = folded(*THREE, *((run_id, TAKEN_BACK) for run_id in taken_back))
    assert found == {"p": InStep(watermark=watermark, full_at=full_at, run_id=newest)}


def test_a_run_after_a_cleared_watermark_sets_it_anew() -> None:
    more: list[tuple[str, Event]] = [("2", TAKEN_BACK), ("4", opened("p", 4, full=True)), ("4", finished("W4"))]
    assert folded(*THREE, *more)["p"] == InStep(watermark="W4", full_at="2026-01-04", run_id="4")
    assert folded(*THREE, *more, ("4", TAKEN_BACK))["p"].watermark is None


def test_each_pair_has_its_own() -> None:
    found = folded(*THREE, ("4", opened("q", 4, full=True)), ("4", finished("W4")), ("4", TAKEN_BACK))
    assert found["p"].watermark == "W3"
    assert found["q"] == InStep()


def test_a_run_that_failed_or_never_ended_sets_nothing() -> None:
    found = folded(("1", opened("p", 1, full=True)), ("2", opened("p", 2, full=True)), ("2", finished("W", "failed")))
    assert found == {"p": InStep()}
    # One that was taken back because its verification failed leaves the watermark of those before it.
    assert folded(*THREE, ("4", opened("p", 4, full=False)), ("4", TAKEN_BACK))["p"].watermark == "W3"

from __future__ import annotations

from dataclasses import fields, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from journal import events as ev
from journal import fold
from journal.errors import JournalDamaged, JournalTooNew
from tests.journal.support import RUN, entry, opened, plan

if TYPE_CHECKING:
    from collections.abc import Iterable

    from journal import RunState

AT = datetime(2026, 1, 1, tzinfo=UTC)


def stored(events: Iterable[ev.Event]) -> list[ev.StoredEvent]:
    return [
        ev.StoredEvent(seq=n, run_id=RUN, version=n, recorded_at=AT, event=event, hash="")
        for n, event in enumerate(events, 1)
    ]


def folded(*events: ev.Event) -> RunState:
    return fold(stored(events))


def batch(number: int, *, writes: bool = True, rollback: bool = False, action: str = "created") -> ev.Event:
    return plan(RUN, number, [entry("x", action)], writes=writes, rollback=rollback)


FINISHED = ev.RunFinished(status="finished", memories={}, relationships={}, watermark=None, seconds=1, durability="")
TAKEN_BACK = ev.RollbackFinished(memories={}, relationships={}, retained=0)


def test_planned_writing_batch_counts_only_when_applied() -> None:
    state = folded(opened(), batch(1), batch(2), ev.BatchApplied(batch=1))
    assert (state.last_planned, state.last_applied, state.last_number) == (2, 1, 2)
    assert state.counts() == {"memory": {"created": 1}}


def test_decisions_alone_are_applied_at_once_but_move_neither_p_nor_j() -> None:
    state = folded(opened(), batch(1), ev.BatchApplied(batch=1), batch(2, writes=False, action="conflict"))
    assert (state.last_planned, state.last_applied, state.last_number) == (1, 1, 2)
    assert state.batches[2].status == "applied"
    assert state.counts() == {"memory": {"created": 1, "conflict": 1}}


def test_lost_undoes_applied_and_void_undoes_decisions() -> None:
    state = folded(
        opened(),
        *(batch(1), ev.BatchApplied(batch=1), ev.TargetDurable(batch=1, durable=True, evidence={})),
        *(batch(2), ev.BatchApplied(batch=2, recovered=True), batch(3, writes=False)),
        ev.BatchesLost(m=1, evidence={}, lost=[2], void=[3]),
    )
    assert [b.status for b in state.batches.values()] == ["applied", "lost", "void"]
    assert state.batches[2].recovered
    assert (state.last_applied, state.durable_batch, state.counts()) == (1, 1, {"memory": {"created": 1}})


def test_a_loss_below_the_barrier_takes_the_barrier_back() -> None:
    durable = ev.TargetDurable(batch=1, durable=True, evidence={})
    lost = ev.BatchesLost(m=0, evidence={}, lost=[1], void=[])
    assert folded(batch(1), ev.BatchApplied(batch=1), durable, lost).durable_batch == 0


def test_denied_barrier_covers_nothing() -> None:
    assert folded(ev.TargetDurable(batch=3, durable=False, evidence={})).durable_batch == 0


def test_epochs_and_marker() -> None:
    claimed = ev.RunClaimed(epoch=1, identity="s1", marker={})
    state = folded(ev.EpochPlanned(epoch=1, purpose="claim"), claimed, ev.EpochPlanned(epoch=2, purpose="raise"))
    assert (state.epoch_planned, state.epoch_held, state.identity) == (2, 1, "s1")
    assert state.claimed
    state = folded(claimed, ev.MarkerReleased())
    assert state.released
    state = folded(claimed, ev.MarkerReleased(), ev.EpochRaised(epoch=5, identity="s2"))
    assert not state.released
    assert (state.epoch_planned, state.epoch_held, state.identity) == (5, 5, "s2")


@pytest.mark.parametrize(
    ("events", "status"),
    [
        ([], "open"),
        ([FINISHED], "finished"),
        ([replace(FINISHED, status="failed")], "failed"),
        ([FINISHED, ev.RollbackOpened(reason="", force=False)], "rolling-back"),
        ([ev.RollbackOpened(reason="", force=False), TAKEN_BACK], "rolled-back"),
        (
            [
                ev.RollbackOpened(reason="", force=False),
                ev.RollbackFinished(memories={}, relationships={}, retained=2),
            ],
            "rolled-back-with-retained",
        ),
        (
            [ev.RollbackOpened(reason="", force=False), TAKEN_BACK, ev.RollbackOpened(reason="", force=True)],
            "rolling-back",
        ),
    ],
)
def test_status(events: list[ev.Event], status: str) -> None:
    state = folded(opened(), *events)
    assert state.status == status
    assert state.unfinished == (status in {"open", "rolling-back"})


def test_a_rollback_that_is_opened_again_before_its_end_goes_on() -> None:
    begun = [batch(1), ev.BatchApplied(batch=1), ev.RollbackOpened(reason="", force=False)]
    begun += [batch(2, rollback=True), ev.RollbackApplied(batch=2), ev.RollbackOpened(reason="", force=True)]
    state = folded(opened(), *begun)
    assert (state.status, state.rollback_from) == ("rolling-back", 1)
    assert state.rollback is not None
    assert state.rollback.force
    state = folded(opened(), *begun, TAKEN_BACK, ev.RollbackOpened(reason="", force=False))
    assert state.rollback_from == 2, "that is another one"


def test_outcome_of_a_batch_that_was_never_planned_is_damage() -> None:
    with pytest.raises(JournalDamaged, match="batch 7"):
        folded(opened(), ev.BatchApplied(batch=7))


_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
_BY_TYPE: dict[str, st.SearchStrategy[Any]] = {
    "str": st.text(),
    "int": st.integers(0, 2**60),
    "bool": st.booleans(),
    "float": st.floats(allow_nan=False, allow_infinity=False),
    "str | None": st.none() | st.text(),
    "dict[str, Json]": st.dictionaries(st.text(), _JSON, max_size=3),
    "dict[str, int]": st.dictionaries(st.text(), st.integers(0, 2**60), max_size=3),
    "list[int]": st.lists(st.integers(0, 2**60), max_size=3),
    "list[dict[str, Json]]": st.lists(st.dictionaries(st.text(), _JSON, max_size=3), max_size=2),
}


# Hypothesis builds its table of characters within the first draw, which takes seconds on a busy machine.
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data(), st.sampled_from(sorted(ev.EVENT_TYPES)))
def test_every_event_survives_its_payload(data: st.DataObject, name: str) -> None:
    cls = ev.EVENT_TYPES[name]
    event = cls(**{field.name: data.draw(_BY_TYPE[str(field.type)], field.name) for field in fields(cls)})
    payload = ev.to_payload(event)
    again = ev.from_payload(name, cls.type_version, payload.decode())
    assert again == event
    assert ev.to_payload(again) == payload


def test_a_path_that_is_no_unicode_survives() -> None:
    event = replace(opened(), source={"path": "/tmp/\udcff", "é": 1, "a": 2})
    payload = ev.to_payload(event).decode()
    assert ev.from_payload("run.opened", 1, payload) == event


def test_newer_events_are_refused_and_unfit_ones_are_damage() -> None:
    with pytest.raises(JournalTooNew):
        ev.from_payload("batch.applied", 2, '{"batch":1}')
    with pytest.raises(JournalTooNew):
        ev.from_payload("batch.dreamt", 1, "{}")
    for payload in ("{}", "[]", "not json", '{"batch":1,"surprise":2}'):
        with pytest.raises(JournalDamaged):
            ev.from_payload("batch.applied", 1, payload)


@given(st.lists(st.sampled_from(["write", "decide", "apply", "refuse", "lose"]), max_size=40))
def test_any_history_folds_to_what_a_plain_ledger_says(moves: list[str]) -> None:
    events: list[ev.Event] = [opened()]
    ledger: dict[int, str] = {}
    writing: set[int] = set()
    for move in moves:
        number = len(ledger) + 1
        waiting = [n for n in writing if ledger[n] == "planned"]
        if move in {"write", "decide"}:
            events.append(batch(number, writes=move == "write"))
            ledger[number] = "planned" if move == "write" else "applied"
            writing |= {number} if move == "write" else set()
        elif move == "lose":
            lost = [n for n in sorted(writing) if ledger[n] == "applied"][1:]
            void = [n for n in ledger if n not in writing and ledger[n] == "applied"]
            events.append(ev.BatchesLost(m=0, evidence={}, lost=lost, void=void))
            ledger |= dict.fromkeys(lost, "lost") | dict.fromkeys(void, "void")
        elif waiting and move == "apply":
            events.append(ev.BatchApplied(batch=waiting[-1]))
            ledger[waiting[-1]] = "applied"
        elif waiting:
            events.append(ev.BatchRefused(batch=waiting[-1], reason="changed"))
            ledger[waiting[-1]] = "refused"
    state = folded(*events)
    assert {n: b.status for n, b in state.batches.items()} == ledger
    assert state.last_applied == max((n for n in writing if ledger[n] == "applied"), default=0)
    assert state.last_planned == max(writing, default=0)
    assert sum(state.counts().get("memory", {}).values()) == sum(s == "applied" for s in ledger.values())

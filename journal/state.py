"""A run's state: a pure fold over its events."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from journal import events as ev
from journal.errors import JournalDamaged

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from datetime import datetime

type BatchStatus = Literal["planned", "applied", "refused", "lost", "void"]
type RunStatus = Literal["open", "rolling-back", "finished", "failed", "rolled-back", "rolled-back-with-retained"]


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchState:
    """A batch as its plan said, and what became of it.

    ``lost``: the marker proves that the target does not have it. ``void``: no longer believed; decisions that may rest
    on what a server lost, and writes whose marker is gone.
    """

    batch: int
    phase: ev.Phase
    kind: str
    operation: str
    shape: str
    rows: int
    digest: str
    writes: bool
    status: BatchStatus
    counts: dict[str, int]
    recovered: bool = False


@dataclass(slots=True, kw_only=True)
class RunState:
    """What the events of one run say. Made by :func:`fold` only; nobody else changes it."""

    run_id: str
    version: int = 0  #: version of the last event folded
    opened: ev.RunOpened | None = None
    opened_at: datetime | None = None
    finished: ev.RunFinished | None = None
    finished_at: datetime | None = None
    schema_planned: list[dict[str, Any]] = field(default_factory=list)  #: every step ever planned
    schema_applied: list[dict[str, Any]] = field(default_factory=list)  #: every step ever created
    schema_pending: list[dict[str, Any]] = field(default_factory=list)  #: planned last, and not answered
    epoch_planned: int = 0  #: highest epoch ever planned
    epoch_held: int = 0  #: last acknowledged claim or raise
    unheard_claims: set[int] = field(default_factory=set)  #: epochs of claims without an answer: they may land late
    identity: str | None = None  #: the server's, journalled with that claim or raise; before it, with run.opened
    claimed: bool = False  #: the marker was held at some time
    released: bool = False  #: the marker was taken out, and not claimed or raised since
    batches: dict[int, BatchState] = field(default_factory=dict)  #: in the order of planning
    durable_batch: int = 0  #: last batch covered by a durable barrier and not lost since
    last_number: int = 0  #: highest batch number ever planned
    last_planned: int = 0  #: highest *writing* batch ever planned, both phases
    verification: ev.VerifyResult | None = None
    rollback: ev.RollbackOpened | None = None  #: the latest
    rollback_from: int = 0  #: highest batch number planned before the latest rollback was opened first
    rollback_finished: ev.RollbackFinished | None = None  #: of the latest rollback
    rollback_finished_at: datetime | None = None
    pruned: ev.RunPruned | None = None  #: its batches and entries are only what later runs need of it

    @property
    def last_applied(self) -> int:
        """Highest writing batch that counts as applied, both phases; 0 for none."""
        return max((b.batch for b in self.batches.values() if b.writes and b.status == "applied"), default=0)

    @property
    def status(self) -> RunStatus:
        """Where the run stands."""
        if self.rollback_finished is not None:
            return "rolled-back-with-retained" if self.rollback_finished.retained else "rolled-back"
        if self.rollback is not None:
            return "rolling-back"
        if self.finished is not None:
            return "failed" if self.finished.status == "failed" else "finished"
        return "open"

    @property
    def unfinished(self) -> bool:
        """Whether the run has to be resumed or rolled back before another may use its target."""
        return self.status in {"open", "rolling-back"}

    def counts(self, phase: ev.Phase = "forward") -> dict[str, dict[str, int]]:
        """Return {kind: {action: number of entries}} over the applied batches of a phase."""
        if self.pruned is not None:
            known: dict[str, dict[str, int]] = self.pruned.counts.get(phase, {})
            return known
        found: dict[str, dict[str, int]] = {}
        for batch in self.batches.values():
            if batch.phase == phase and batch.status == "applied":
                of_kind = found.setdefault(batch.kind, {})
                for action, number in batch.counts.items():
                    of_kind[action] = of_kind.get(action, 0) + number
        return found


def planned_status(event: ev.Planned) -> BatchStatus:
    """Return the status that a batch begins with: decisions alone are applied at once."""
    return "planned" if event.writes else "applied"


def outcomes(event: ev.Event) -> list[tuple[int, BatchStatus]]:
    """Return the batches whose status an event changes, and to what."""
    match event:
        case ev.BatchApplied() | ev.RollbackApplied():
            return [(event.batch, "applied")]
        case ev.BatchRefused() | ev.RollbackRefused():
            return [(event.batch, "refused")]
        case ev.BatchesLost():
            return [*((number, "lost") for number in event.lost), *((number, "void") for number in event.void)]
    return []


def _opened(state: RunState, event: ev.RunOpened, at: datetime) -> None:
    state.opened, state.opened_at = event, at
    state.identity = event.target.get("identity")


def _schema_planned(state: RunState, event: ev.SchemaPlanned, _at: datetime) -> None:
    state.schema_planned.extend(event.steps)
    state.schema_pending = list(event.steps)


def _schema_applied(state: RunState, event: ev.SchemaApplied, _at: datetime) -> None:
    state.schema_applied.extend(event.steps)
    state.schema_pending = []


def _epoch_planned(state: RunState, event: ev.EpochPlanned, _at: datetime) -> None:
    state.epoch_planned = max(state.epoch_planned, event.epoch)
    if event.purpose == "claim":
        state.unheard_claims.add(event.epoch)


def _held(state: RunState, event: ev.RunClaimed | ev.EpochRaised, _at: datetime) -> None:
    state.epoch_planned = max(state.epoch_planned, event.epoch)
    state.epoch_held, state.identity = event.epoch, event.identity
    state.claimed, state.released = True, False
    state.unheard_claims.discard(event.epoch)


def _released(state: RunState, _event: ev.MarkerReleased, _at: datetime) -> None:
    state.released = True
    if state.rollback_finished is not None and not state.rollback_finished.retained:
        # Dropped with the rollback; what stands under these names from now on is a later run's, or somebody else's.
        state.schema_planned, state.schema_applied, state.schema_pending = [], [], []


def _planned(state: RunState, event: ev.Planned, _at: datetime) -> None:
    state.batches[event.batch] = BatchState(
        batch=event.batch,
        phase=event.phase,
        kind=event.kind,
        operation=event.operation,
        shape=event.shape,
        rows=event.rows,
        digest=event.digest,
        writes=event.writes,
        status=planned_status(event),
        counts=event.counts,
    )
    state.last_number = max(state.last_number, event.batch)
    if event.writes:
        state.last_planned = max(state.last_planned, event.batch)


def _recovered(state: RunState, event: ev.BatchApplied | ev.RollbackApplied, _at: datetime) -> None:
    state.batches[event.batch] = replace(state.batches[event.batch], recovered=event.recovered)


def _lost(state: RunState, event: ev.BatchesLost, _at: datetime) -> None:
    state.durable_batch = min(state.durable_batch, event.m)
    if not state.claimed:
        # Nothing of ours was there yet: from here on the decisions are about the server that is running now.
        state.identity = event.evidence.get("identity_now", state.identity)


def _durable(state: RunState, event: ev.TargetDurable, _at: datetime) -> None:
    if event.durable:
        state.durable_batch = event.batch


def _verified(state: RunState, event: ev.VerifyResult, _at: datetime) -> None:
    state.verification = event


def _finished(state: RunState, event: ev.RunFinished, at: datetime) -> None:
    state.finished, state.finished_at = event, at


def _rollback_opened(state: RunState, event: ev.RollbackOpened, _at: datetime) -> None:
    if state.status != "rolling-back":
        # Opened again before its end, it is the same rollback, from now on with or without force.
        state.rollback_from = state.last_number
    state.rollback, state.rollback_finished, state.rollback_finished_at = event, None, None


def _rollback_finished(state: RunState, event: ev.RollbackFinished, at: datetime) -> None:
    state.rollback_finished, state.rollback_finished_at = event, at


def _pruned(state: RunState, event: ev.RunPruned, _at: datetime) -> None:
    state.pruned = event


_HANDLERS: dict[type[ev.Event], Callable[[RunState, Any, datetime], None]] = {
    ev.RunOpened: _opened,
    ev.SchemaPlanned: _schema_planned,
    ev.SchemaApplied: _schema_applied,
    ev.EpochPlanned: _epoch_planned,
    ev.RunClaimed: _held,
    ev.EpochRaised: _held,
    ev.MarkerReleased: _released,
    ev.BatchPlanned: _planned,
    ev.RollbackPlanned: _planned,
    ev.BatchApplied: _recovered,
    ev.RollbackApplied: _recovered,
    ev.BatchesLost: _lost,
    ev.TargetDurable: _durable,
    ev.VerifyResult: _verified,
    ev.RunFinished: _finished,
    ev.RollbackOpened: _rollback_opened,
    ev.RollbackFinished: _rollback_finished,
    ev.RunPruned: _pruned,
}


def fold(events: Iterable[ev.StoredEvent]) -> RunState:
    """Return the state after the events of one run, given in the order of their versions.

    JournalDamaged where an outcome names a batch that was never planned. Costs time in proportion to the number of
    events: ask once per phase, not once per batch.
    """
    state = RunState(run_id="")
    for stored in events:
        state.run_id, state.version = stored.run_id, stored.version
        for number, status in outcomes(stored.event):
            if number not in state.batches:
                msg = f"event {stored.seq} of the journal names batch {number}, which run {stored.run_id} never planned"
                raise JournalDamaged(msg, hint="memmig journal check")
            state.batches[number] = replace(state.batches[number], status=status)
        handler = _HANDLERS.get(type(stored.event))
        if handler is not None:
            handler(state, stored.event, stored.recorded_at)
    return state

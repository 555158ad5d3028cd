"""The resume table: what is seen → the next action, and what is journalled about it. Pure.

docs/explanation/protocol.md says why each row is there.

The engine, rollback and the tests' model of the protocol all drive this one function.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING, Literal

from journal import events

if TYPE_CHECKING:
    from collections.abc import Mapping

    from journal.state import RunState
    from migrator.backends.base import Marker

Phase = Literal["forward", "rollback"]


class Action(Enum):
    """What to do next. The STOP rows write nothing to the target."""

    CLAIM = "claim"  #: no marker, and none is missing: claim it just before the first writing batch
    CONTINUE = "continue"  #: p = j = m
    REPLAN = "replan"  #: the last plan never landed and, once the epoch is raised, never will
    RECOVER = "recover"  #: the last plan landed without our having heard of it
    LOST = "lost"  #: the server lost acknowledged batches, or may have: believe nothing since the last barrier
    REMOVE = "remove"  #: closed, but the marker still stands
    RELEASED = "released"  #: closed, and the marker is gone: record it
    STOP_ALIEN = "stop-alien"
    STOP_DIGEST = "stop-digest"
    STOP_REMOVED = "stop-removed"
    STOP_NEWER = "stop-newer"


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What the journal and the target say. p, j and m count writing batches only."""

    journal: str
    run: str
    phase: Phase
    closed: bool  #: run.finished (forward) or rollback.finished (rollback) is journalled
    held: bool  #: the marker was held at least once (``run.claimed``)
    released: bool  #: marker.released is journalled after the last claim or raise
    epoch_held: int  #: the last acknowledged epoch
    identity_held: str | None  #: the server's identity journalled with it
    identity: str  #: the server's identity now
    planned: int  #: p: number of the last plan that is neither refused nor void
    applied: int  #: j: number of the last applied plan
    plans: Mapping[str, int]  #: digest → number of every writing plan of the run, whatever became of it
    last_number: int  #: the highest plan number ever used in the run
    marker: Marker | None


def next_action(seen: Seen) -> Action:  # noqa: C901, PLR0912 - a table: one branch per row, in the order of the page
    """Return the action of the table's row that fits what is seen."""
    marker = seen.marker
    restarted = seen.identity_held is not None and seen.identity != seen.identity_held
    if marker is None:
        if not seen.held and restarted:
            return Action.LOST
        if not seen.held or seen.released:
            return Action.RELEASED if seen.closed and seen.held else Action.CLAIM
        if seen.closed:
            return Action.RELEASED
        if seen.phase == "rollback":
            return Action.CLAIM
        return Action.LOST if restarted else Action.STOP_REMOVED
    if (marker.journal, marker.run) != (seen.journal, seen.run):
        return Action.STOP_ALIEN
    if seen.closed:
        return Action.REMOVE
    if marker.epoch < seen.epoch_held and not restarted:
        # A claim that was sent long ago and landed late, after ours had been removed or released: its batch number
        # means nothing. A rollback decides by content and may go on; a forward run may not.
        return Action.LOST if seen.phase == "rollback" or seen.released else Action.STOP_REMOVED
    if marker.batch > seen.last_number:
        return Action.STOP_NEWER
    if marker.batch and seen.plans.get(marker.digest) != marker.batch:
        return Action.STOP_DIGEST
    if marker.batch == seen.planned > seen.applied:
        return Action.LOST if restarted else Action.RECOVER
    if restarted or marker.batch < seen.applied:
        return Action.LOST
    if marker.batch > seen.applied:
        # Landed, yet neither the last plan nor an applied one: a plan that the journal believes refused or void.
        return Action.STOP_DIGEST
    return Action.REPLAN if seen.planned > seen.applied else Action.CONTINUE


def seen_of(journal_id: str, state: RunState, phase: Phase, marker: Marker | None, identity: str) -> Seen:
    """Return what the resume table looks at, from the journal's fold and from the target."""
    writing = [batch for batch in state.batches.values() if batch.writes]
    applied = state.last_applied
    unsettled = max((batch.batch for batch in writing if batch.status == "planned"), default=0)
    closed = state.finished is not None if phase == "forward" else state.rollback_finished is not None
    return Seen(
        journal=journal_id,
        run=state.run_id,
        phase=phase,
        closed=closed,
        held=state.claimed,
        released=state.released,
        epoch_held=state.epoch_held,
        identity_held=state.identity,
        identity=identity,
        planned=max(applied, unsettled),
        applied=applied,
        plans={batch.digest: batch.batch for batch in writing},
        last_number=state.last_number,
        marker=marker,
    )


def raised_marker(state: RunState, action: Action, marker: Marker, identity: str, *, epoch: int, owner: str) -> Marker:
    """Return what a raise puts in the place of ``marker``."""
    raised = replace(marker, epoch=epoch, owner=owner)
    if marker.epoch < state.epoch_held and action is Action.LOST and identity == state.identity:
        # A late claim in a rollback: its batch number means nothing, ours goes on from what we know.
        number, digest = landed(state)
        raised = replace(raised, batch=number, digest=digest)
    return raised


def settlement(
    state: RunState, action: Action, marker: Marker | None, raised: Marker | None, identity: str
) -> list[events.Event]:
    """Return what is journalled when the epoch of ``marker`` was raised, or when a loss is noticed without a marker.

    From here on nothing of an earlier epoch can land: what became of each plan is known.
    """
    found: list[events.Event] = []
    if raised is not None:
        if state.claimed:
            found.append(events.EpochRaised(epoch=raised.epoch, identity=identity))
        else:
            found.append(events.RunClaimed(epoch=raised.epoch, identity=identity, marker=asdict(raised)))
    batch_there = 0 if raised is None else raised.batch
    for batch in sorted(state.batches.values(), key=lambda one: one.batch):
        if not batch.writes or batch.status == "applied":
            continue
        if batch.batch == batch_there:
            # Also one that was believed refused: a server that lost our raise let its late request land.
            applied = events.BatchApplied if batch.phase == "forward" else events.RollbackApplied
            found.append(applied(batch=batch.batch, recovered=True))
        elif batch.status == "planned" and (action is not Action.LOST or batch.batch < batch_there):
            refused = events.BatchRefused if batch.phase == "forward" else events.RollbackRefused
            found.append(refused(batch=batch.batch, reason="never landed, and the epoch was raised over it"))
    if action is Action.LOST:
        # Whatever the journal believed of a plan above the marker: it is not there. Nobody knows without a marker, nor
        # by one that may be a claim of long ago, landed late.
        proven = marker is not None and marker.epoch not in state.unheard_claims
        above = [b for b in state.batches.values() if b.writes and b.batch > batch_there]
        gone = [b.batch for b in above if b.status in {"applied", "planned"}]
        lost, void = (gone, []) if proven else ([], gone)
        void += [
            b.batch
            for b in state.batches.values()
            # A server that fell behind a barrier lost what that had covered, too.
            if not b.writes and b.status == "applied" and b.batch > min(state.durable_batch, batch_there)
        ]
        evidence = {"identity_before": state.identity, "identity_now": identity}
        found.append(events.BatchesLost(m=batch_there, evidence=evidence, lost=lost, void=void))
    return found


def disbelief(state: RunState, identity: str) -> list[events.Event]:
    """Return that no recorded batch of this rollback is believed: the marker that proved them is gone."""
    batches = [b for b in state.batches.values() if b.phase == "rollback" and b.batch > state.rollback_from]
    lost = [b.batch for b in batches if b.status == "applied"]
    evidence = {"marker": "gone", "identity_before": state.identity, "identity_now": identity}
    return [events.BatchesLost(m=0, evidence=evidence, lost=lost, void=[])] if lost else []


def landed(state: RunState) -> tuple[int, str]:
    """Return number and digest of the last landed plan, for a marker."""
    number = state.last_applied
    return number, state.batches[number].digest if number else ""

"""The resume table: what is seen → the next action. Pure; docs/explanation/protocol.md says why each row is there.

The engine, rollback and the tests' model of the protocol all drive this one function.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from migrator.backends.base import Marker


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
    phase: Literal["forward", "rollback"]
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

"""Holding the marker: claim, raise, guarded batches, barrier, release, in PROTOCOL's order.

Every method that sends something to the target has journalled the intent before, and journals the outcome after.
Anything else that happens (a lost connection, a server that came back) is settled by :meth:`Lease.settle`, which is the
same code for a crash, a resume and a hiccup inside one process.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from operator import attrgetter
from typing import TYPE_CHECKING, NoReturn

from journal import events
from journal.chain import entries_digest
from migrator.backends.base import Batch, Marker, WriteOutcome
from migrator.errors import NotDurable, OutcomeUnknown, StoreRefused, TargetChanged
from migrator.plan import counts_of
from migrator.resume import Action, disbelief, landed, next_action, raised_marker, seen_of, settlement

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from journal.chain import Entry
    from journal.state import RunState
    from journal.store import Journal
    from migrator.backends.base import Backend, Operation, Row
    from migrator.model import Kind
    from migrator.resume import Phase

BARRIER_BATCHES = 50
BARRIER_SECONDS = 10.0
_SETTLE_ATTEMPTS = 10
_SETTLE_WAIT = 0.01  #: seconds, doubled each time: about 10 in all

#: What is said where the table says stop: the error, what happened, what to do next.
_STOPS: dict[Action, tuple[type[StoreRefused | TargetChanged], str, str]] = {
    Action.STOP_ALIEN: (
        StoreRefused,
        "another run's marker stands in the target: {owner}",
        "finish or roll back that run, or `memmig unlock --to …`",
    ),
    Action.STOP_DIGEST: (
        TargetChanged,
        "the marker in the target names a batch that this journal never planned",
        "another journal wrote here; nothing more is written",
    ),
    Action.STOP_REMOVED: (
        TargetChanged,
        "the marker of this run was removed from the target by somebody else",
        "look at the target, then `memmig rollback {run}`",
    ),
    Action.STOP_NEWER: (
        TargetChanged,
        "the target is ahead of this journal, which was restored from an older copy",
        "use the newest journal",
    ),
}


@dataclass(slots=True)
class _Barrier:
    batches: int = 0
    since: float = 0.0


class Lease:
    """The right to write to a target, for one run, as long as the marker says so."""

    def __init__(
        self,
        journal: Journal,
        run_id: str,
        backend: Backend,
        phase: Phase,
        *,
        owner: str,
        require_durable: bool = False,
        on_release: Callable[[], None] = lambda: None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._journal = journal
        self._run_id = run_id
        self._backend = backend
        self._phase = phase
        self._owner = owner
        self._require_durable = require_durable
        self._on_release = on_release
        self._monotonic = monotonic
        self._marker: Marker | None = None
        self._identity = ""
        self._number = 0
        self._open_barrier = _Barrier()
        self._writer = ThreadPoolExecutor(1, "memmig-write")
        self.durable: bool | None = None  #: outcome of the last barrier; None before the first
        self.applied_batches = 0  #: progress since construction, for the retry limit
        self.lost = False  #: whether ``settle`` found batches or decisions that a server lost

    @property
    def held(self) -> bool:
        """Whether the marker is ours now."""
        return self._marker is not None

    def _one_marker(self) -> Marker | None:
        markers = self._withdraw_late()
        if len(markers) > 1:
            msg = f"{len(markers)} markers stand in the target: " + "; ".join(marker.owner for marker in markers)
            raise StoreRefused(msg, hint="only one run may hold a target: `memmig unlock --to …` removes a left one")
        return markers[0] if markers else None

    def _withdraw_late(self) -> list[Marker]:
        """Return the markers in the target; of several of this very run, late claims among them, the newest stays."""
        markers = self._backend.markers()
        ours = self._journal.id, self._run_id
        own = sorted((one for one in markers if (one.journal, one.run) == ours), key=attrgetter("epoch"))
        for late in own[:-1]:
            self._backend.swap_marker(late, None)
        return self._backend.markers() if own[:-1] else markers

    def settle(self) -> Action:
        """Bring journal and target to one view by the resume table; on return nothing of ours can still land.

        Raises StoreRefused or TargetChanged where the table says stop.
        """
        self._marker = before = None
        stuck = False
        for attempt in range(_SETTLE_ATTEMPTS):
            marker = self._one_marker()
            stuck = marker is not None and marker == before
            if stuck:
                # Nobody changed it, and yet it cannot be changed: a request of ours is still under way.
                time.sleep(_SETTLE_WAIT * 2**attempt)
            before = marker
            state = self._journal.state(self._run_id)
            self._number = state.last_number
            self._identity = identity = self._backend.identity()
            action = next_action(seen_of(self._journal.id, state, self._phase, marker, identity))
            if action in _STOPS:
                kind, message, hint = _STOPS[action]
                owner = "" if marker is None else marker.owner
                raise kind(message.format(owner=owner), hint=hint.format(run=self._run_id))
            if marker is None:
                self._settle_without(state, action, identity)
                return action
            if action is Action.REMOVE:
                self._marker = marker
                self.release()
                return action
            if self._raise(state, action, marker, identity):
                return action
        if stuck:
            msg = "the target does not let the marker be changed"
            raise OutcomeUnknown(msg, hint="resume the run later")
        msg = "the marker in the target keeps changing"
        raise TargetChanged(msg, hint="another process holds this run; let it finish")

    def _settle_without(self, state: RunState, action: Action, identity: str) -> None:
        if action is Action.RELEASED and not state.released:
            self._on_release()
            self._journal.append(self._run_id, events.MarkerReleased())
        elif action is Action.LOST:
            self._record(settlement(state, action, None, None, identity))
        elif self._phase == "rollback" and state.claimed and not state.released:
            self._record(disbelief(state, identity))

    def _raise(self, state: RunState, action: Action, marker: Marker, identity: str) -> bool:
        epoch = max(state.epoch_planned, marker.epoch) + 1
        self._journal.append(self._run_id, events.EpochPlanned(epoch=epoch, purpose="raise"))
        raised = raised_marker(state, action, marker, identity, epoch=epoch, owner=self._owner)
        if not self._backend.swap_marker(marker, raised):
            return False
        self._marker, self._identity = raised, identity
        self._record(settlement(state, action, marker, raised, identity))
        self.barrier()
        return True

    def _record(self, found: Sequence[events.Event]) -> None:
        self.lost = self.lost or any(
            isinstance(event, events.BatchesLost) and event.lost + event.void for event in found
        )
        if found:
            self._journal.append(self._run_id, *found)

    def claim(self) -> None:
        """Put our marker into a target that has none, then raise once: no batch is sent under a claim's own epoch.

        Raises StoreRefused where another's marker is there.
        """
        state = self._journal.state(self._run_id)
        # What was decided so far was read from this server; "" = nobody asked yet.
        seen = self._identity or (not state.claimed and state.identity) or ""
        if seen not in {"", self._backend.identity()}:
            msg = "the target's server restarted since it was read"
            raise OutcomeUnknown(msg)
        epoch = state.epoch_planned + 1
        self._journal.append(self._run_id, events.EpochPlanned(epoch=epoch, purpose="claim"))
        number, digest = landed(state)
        marker = Marker(
            journal=self._journal.id,
            run=self._run_id,
            epoch=epoch,
            batch=number,
            digest=digest,
            owner=self._owner,
        )
        if not self._backend.swap_marker(None, marker):
            action = self.settle()  # ours that landed late is raised; another's is refused
            if self._marker is None or action is Action.LOST:
                # What was decided before the claim may rest on what the server lost: it is read again.
                msg = "the marker could not be claimed, although none stood in the target"
                raise OutcomeUnknown(msg)
            return
        markers = self._withdraw_late()
        if markers != [marker]:
            self._backend.swap_marker(marker, None)
            others = "; ".join(one.owner for one in markers if one != marker)
            msg = f"another run claimed the target at the same time: {others or 'its marker is gone again'}"
            raise StoreRefused(msg, hint="let the other run finish, then start again")
        identity = self._backend.identity()
        if seen not in {"", identity}:
            # Not journalled as held: so the settlement that follows sees a restart, and believes no decision.
            msg = "the target's server restarted while it was claimed"
            raise OutcomeUnknown(msg)
        self._journal.append(self._run_id, events.RunClaimed(epoch=epoch, identity=identity, marker=asdict(marker)))
        self._identity = identity
        if not self._raise(self._journal.state(self._run_id), Action.CONTINUE, marker, identity):
            self._fenced()

    def note(self, kind: Kind, entries: Sequence[Entry]) -> None:
        """Journal decisions that write nothing to the target: unchanged, conflict, quarantined, foreign, retained."""
        if entries:
            self._plan(kind, "none", "", entries, writes=False)

    def _plan(self, kind: Kind, operation: str, shape: str, entries: Sequence[Entry], *, writes: bool) -> str:
        if not self._number:
            self._number = self._journal.state(self._run_id).last_number
        self._number += 1
        digest = entries_digest(self._run_id, self._number, self._phase, entries)
        planned = events.BatchPlanned if self._phase == "forward" else events.RollbackPlanned
        event = planned(
            batch=self._number,
            kind=kind,
            operation=operation,
            shape=shape,
            rows=len(entries),
            digest=digest,
            writes=writes,
            counts=counts_of(entries),
        )
        self._journal.append(self._run_id, event, entries=entries)
        return digest

    def send(self, kind: Kind, group: tuple[Operation, str], rows: Sequence[Row], entries: Sequence[Entry]) -> bool:
        """Journal a batch, write it under the marker, journal the outcome; False = a guard found a foreign change.

        Raises TargetChanged where another process took the marker over, OutcomeUnknown where the server went away.
        """
        batch, marker = self._intend(kind, group, rows, entries)
        return self._landed(batch, self._backend.write(batch, marker))

    def send_meanwhile(
        self, kind: Kind, group: tuple[Operation, str], rows: Sequence[Row], entries: Sequence[Entry]
    ) -> Callable[[], bool]:
        """Journal a batch and begin to write it; what is returned waits for that, and ends as :meth:`send` does.

        Only for a target that ``overlaps``. Nothing else may be asked of the lease or the target in between.
        """
        batch, marker = self._intend(kind, group, rows, entries)
        writing = self._writer.submit(self._backend.write, batch, marker)
        return lambda: self._landed(batch, writing.result())

    def _intend(
        self, kind: Kind, group: tuple[Operation, str], rows: Sequence[Row], entries: Sequence[Entry]
    ) -> tuple[Batch, Marker]:
        assert self._marker is not None  # noqa: S101 - claimed before
        operation, shape = group
        digest = self._plan(kind, operation, shape, entries, writes=True)
        batch = Batch(number=self._number, digest=digest, kind=kind, operation=operation, shape=shape, rows=rows)
        return batch, self._marker

    def _landed(self, batch: Batch, outcome: WriteOutcome) -> bool:
        assert self._marker is not None  # noqa: S101 - as before
        number, digest = batch.number, batch.digest
        if outcome is WriteOutcome.MARKER_REFUSED:
            self._fenced()
        forward = self._phase == "forward"
        if outcome is WriteOutcome.ROWS_REFUSED:
            refused = events.BatchRefused if forward else events.RollbackRefused
            self._journal.append(self._run_id, refused(batch=number, reason="a guard found a foreign change"))
            return False
        self._marker = replace(self._marker, batch=number, digest=digest)
        self._journal.append(self._run_id, (events.BatchApplied if forward else events.RollbackApplied)(batch=number))
        self.applied_batches += 1
        self._open_barrier.batches += 1
        late = self._monotonic() - self._open_barrier.since >= BARRIER_SECONDS
        if late or self._open_barrier.batches >= BARRIER_BATCHES:
            self.barrier()
        return True

    def _fenced(self) -> NoReturn:
        if self._backend.identity() != self._identity:
            msg = "the server restarted since the marker was read"
            raise OutcomeUnknown(msg)
        msg = "the marker in the target is no longer ours: another process took this run over, or removed it"
        raise TargetChanged(msg, hint=f"nothing more was written; see `memmig journal show {self._run_id}`")

    def proves(self) -> bool:
        """Return whether the same server still shows our marker at our last batch: all that we applied is there."""
        return self._backend.identity() == self._identity and self._backend.markers() == [self._marker]

    def echo_marker(self) -> Marker | None:
        """Return the marker that scratch writes of the verification are made under."""
        return self._marker

    def barrier(self) -> None:
        """Make what was applied durable and journal that, after looking that it is still the same server and marker.

        Raises OutcomeUnknown where it is not, NotDurable where durability is denied and required.
        """
        done = self._backend.barrier()
        if not self.proves():
            msg = "the server changed while it made the batches durable"
            raise OutcomeUnknown(msg)
        self._journal.append(
            self._run_id,
            events.TargetDurable(batch=self._number, durable=done.durable, evidence=dict(done.evidence)),
        )
        self.durable = done.durable
        self._open_barrier = _Barrier(since=self._monotonic())
        if self._require_durable and not done.durable:
            msg = f"the target's durability could not be had: {done.evidence.get('reason', 'denied')}"
            raise NotDurable(msg, hint="leave --require-durable away, or let the server save")

    def release(self) -> None:
        """Remove our marker, guarded by its whole content, do what can only be done without it, and journal that.

        Does nothing where no marker is held. ``on_release`` is repeatable: a crash before the event repeats it.
        """
        if self._marker is None:
            return
        if not self._backend.swap_marker(self._marker, None) and self._marker in self._backend.markers():
            msg = "the marker could not be removed"
            raise TargetChanged(msg, hint=f"`memmig resume {self._run_id}` tries again")
        self._marker = None
        self._on_release()
        self._journal.append(self._run_id, events.MarkerReleased())

"""A small explicit-state model of the crash-safety protocol: every order of events within a budget of faults.

What decides is the program's own: ``next_action``, ``settlement``, ``disbelief``, ``raised_marker``, the fold of the
journal, and ``plan.decide``. The model owns what surrounds them: a target that compares and sets, requests that land,
land late or never, processes that die, servers that restart with what they had saved, and one writer who knows nothing
of the marker. Every record carries who wrote it last, so that a lost, overwritten or resurrected one is seen at once.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from journal import events as ev
from journal.bases import Base
from migrator.backends.base import Marker
from migrator.model import digest
from migrator.plan import Known, decide
from migrator.resume import Action, disbelief, landed, next_action, raised_marker, seen_of, settlement
from tests.model.world import (
    JOURNAL,
    RUN,
    Cell,
    Process,
    Request,
    Story,
    Swap,
    Target,
    ViolationError,
    World,
    Write,
    append,
    interned,
    memory,
    planned,
    state_of,
    strangers,
    values,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from journal.state import RunState
    from migrator.resume import Phase

_STOPS = {Action.STOP_ALIEN, Action.STOP_DIGEST, Action.STOP_REMOVED, Action.STOP_NEWER}


# --- one step of the world ------------------------------------------------------------------------------------------


class Model:
    """Yields the successors of a world. Raises ViolationError where a promise is broken."""

    def __init__(self, story: Story) -> None:
        self.story = story

    def beginning(self) -> World:
        """Return the world in which the run has just been opened."""
        story = self.story
        opened = ev.RunOpened(
            source={},
            target={"identity": "0"},
            pair="p",
            source_store="s",
            target_store="t",
            options={},
            code_version="0",
            ceiling="",
            full=True,
            since=None,
        )
        target = Target(tuple(map(Cell, story.target)), ())
        return World(
            (interned(opened),),
            target,
            target,
            0,
            (),
            Process(),
            "",
            story.deaths,
            story.restarts,
            story.strangers,
        )

    def successors(self, world: World) -> Iterator[tuple[str, World]]:
        """Yield what can happen next."""
        if world.process is not None:
            yield from self._process(world, world.process)
            if world.deaths:
                yield "the process dies", world._replace(process=None, deaths=world.deaths - 1)
        else:
            yield from self._user(world)
        for n, request in enumerate(world.pending):
            rest = world.pending[:n] + world.pending[n + 1 :]
            _, target = self._execute(world.target, request)
            yield f"lands late: {request}", world._replace(target=target, pending=rest, late=True)
        if world.restarts:
            if world.saved != world.target:
                yield "the server saves", world._replace(saved=world.target)
            yield (
                "the server restarts",
                world._replace(target=world.saved, identity=world.identity + 1, restarts=world.restarts - 1),
            )
        if world.strangers:
            for text, target in strangers(world.target, self.story.source[0]):
                yield text, world._replace(target=target, strangers=world.strangers - 1)

    def _user(self, world: World) -> Iterator[tuple[str, World]]:
        state = state_of(world.journal)
        rolling = state.rollback is not None
        if not (rolling and state.rollback_finished is not None and world.ending):
            if rolling or not world.ending:
                yield "resume", world._replace(process=Process(), ending="")
            if not rolling and self.story.rollback:
                opened = ev.RollbackOpened(reason="asked", force=False)
                yield "rollback", append(world, opened)._replace(process=Process(), ending="")

    # --- the target ---

    def _execute(self, target: Target, request: Request) -> tuple[str, Target]:
        """Return the answer and the target after it: one atomic unit."""
        if isinstance(request, Swap):
            expected, new = request
            there = target.markers
            if there != (() if expected is None else (expected,)) and (new is not None or expected not in there):
                return "no", target
            left = tuple(one for one in there if one != expected)
            return "yes", target._replace(markers=left if new is None else (*left, new))
        if "guard" not in self.story.broken and target.markers != (request.guard,):
            return "marker", target
        cell = target.cells[request.cell]
        if cell.value != request.before:
            return "rows", target
        self._entitled(cell, request)
        made = Cell(request.after, "us") if request.forward else Cell(request.after, "init")
        cells = (*target.cells[: request.cell], made, *target.cells[request.cell + 1 :])
        return "yes", target._replace(cells=cells, markers=(request.new,))

    def _entitled(self, cell: Cell, request: Write) -> None:
        if request.forward:
            if cell.by == "them" and cell.value is not None:
                msg = f"overwrites what a stranger wrote: {cell} {request}"
                raise ViolationError(msg)
            if cell.killed:
                msg = f"resurrects what a stranger deleted: {cell} {request}"
                raise ViolationError(msg)
        elif cell.by != "us":
            msg = f"takes back what is not ours: {cell} {request}"
            raise ViolationError(msg)

    # --- the process ---

    def _process(self, world: World, process: Process) -> Iterator[tuple[str, World]]:
        yield from getattr(self, f"_at_{process.at}")(world, process)

    def _forward(self, world: World) -> bool:
        return state_of(world.journal).rollback is None

    def _send(
        self, world: World, process: Process, request: Request, answers: dict[str, Process]
    ) -> Iterator[tuple[str, World]]:
        """Send once: it lands and is answered, lands unheard, or is on its way when the sender gives up."""
        answer, target = self._execute(world.target, request)
        yield f"{process.at}: {answer}", world._replace(target=target, process=answers[answer])
        if world.deaths:
            gone = world._replace(process=Process(), deaths=world.deaths - 1)
            yield f"{process.at}: {answer}, unheard", gone._replace(target=target)
            if self.story.late:
                yield f"{process.at}: on its way", gone._replace(pending=(*world.pending, request))

    def _at_start(self, world: World, _process: Process) -> Iterator[tuple[str, World]]:
        state = state_of(world.journal)
        known = state.epoch_planned or state.identity not in {None, str(world.identity)}
        where = "settle" if known else "work"
        yield "start", world._replace(process=Process(where))

    def _at_settle(self, world: World, process: Process) -> Iterator[tuple[str, World]]:
        if len(world.target.markers) > 1:
            msg = "two markers of one run"
            raise ViolationError(msg)
        marker = world.target.markers[0] if world.target.markers else None
        yield "reads the marker", world._replace(process=process._replace(at="judge", more=(marker,)))

    def _at_judge(self, world: World, process: Process) -> Iterator[tuple[str, World]]:
        (marker,) = process.more
        state, identity = state_of(world.journal), str(world.identity)
        phase: Phase = "forward" if state.rollback is None else "rollback"
        action = next_action(seen_of(JOURNAL, state, phase, marker, identity))
        if action in _STOPS:
            if not world.late:
                msg = f"stops without a reason: {action}"
                raise ViolationError(msg)
            yield f"stops: {action.value}", world._replace(process=None, ending="stopped")
            return
        # Settled in the middle of a claim, the process goes on with what it was about to send, if it holds the marker.
        after = process.then or ("work",)
        if process.then and action is Action.LOST:
            after = ("start",)
        settled = Process("start" if process.then else "work", identity=world.identity)
        if marker is None:
            if action is Action.RELEASED and not state.released:
                world = append(world, ev.MarkerReleased())
            elif action is Action.LOST:
                world = append(world, *settlement(state, action, None, None, identity))
            elif phase == "rollback" and state.claimed and not state.released:
                world = append(world, *disbelief(state, identity))
            yield f"judges: {action.value}", world._replace(process=settled)
        elif action is Action.REMOVE:
            yield "judges: remove", world._replace(process=settled._replace(at="release", marker=marker))
        elif "raise" in self.story.broken:
            world = append(world, *settlement(state, action, marker, marker, identity))
            where, *more = after
            held = Process(where, marker, world.identity, more=tuple(more), kept=process.kept)
            yield "believes", world._replace(process=held)
        else:
            world, place = self._raising(world, action, marker, identity)
            yield f"judges: {action.value}", world._replace(process=place._replace(then=after, kept=process.kept))

    def _raising(self, world: World, action: Action, marker: Marker, identity: str) -> tuple[World, Process]:
        state = state_of(world.journal)
        epoch = max(state.epoch_planned, marker.epoch) + 1
        if "epochs" in self.story.broken:
            epoch = marker.epoch + 1
        raised = raised_marker(state, action, marker, identity, epoch=epoch, owner="")
        world = append(world, ev.EpochPlanned(epoch=epoch, purpose="raise"))
        return world, Process("raise", more=(marker, raised, action, identity))

    def _at_raise(self, world: World, process: Process) -> Iterator[tuple[str, World]]:
        marker, raised, *_ = process.more
        again = process._replace(at="settle", marker=None, more=())
        answers = {"yes": process._replace(at="raised"), "no": again}
        yield from self._send(world, process, Swap(marker, raised), answers)

    def _at_raised(self, world: World, process: Process) -> Iterator[tuple[str, World]]:
        marker, raised, action, identity = process.more
        found = settlement(state_of(world.journal), action, marker, raised, identity)
        if "void" in self.story.broken:
            found = [replace(e, void=[]) if isinstance(e, ev.BatchesLost) else e for e in found]
        if "batches.lost" in self.story.broken:
            found = [e for e in found if not isinstance(e, ev.BatchesLost)]
        held = process._replace(at="barrier", marker=raised, identity=int(identity), more=())
        yield "raised", append(world, *found)._replace(process=held)

    def _at_barrier(self, world: World, process: Process) -> Iterator[tuple[str, World]]:
        yield "barrier", world._replace(saved=world.target, process=process._replace(at="proved"))

    def _at_proved(self, world: World, process: Process) -> Iterator[tuple[str, World]]:
        proved = world.identity == process.identity and world.target.markers == (process.marker,)
        if not proved and "prove" not in self.story.broken:
            yield "not proved", world._replace(process=Process())
            return
        done = ev.TargetDurable(batch=state_of(world.journal).last_number, durable=True, evidence={})
        where, *more = process.then
        there = process._replace(at=where, more=tuple(more), then=())
        yield "durable", append(world, done)._replace(process=there)

    def _at_work(self, world: World, process: Process) -> Iterator[tuple[str, World]]:
        state = state_of(world.journal)
        closed = state.finished if state.rollback is None else state.rollback_finished
        if closed is not None:
            yield "nothing left to do", world._replace(process=None, ending="closed")
        elif state.rollback is None:
            yield from self._decide(world, process, state)
        else:
            yield from self._take_back(world, process, state)

    def _decide(self, world: World, process: Process, state: RunState) -> Iterator[tuple[str, World]]:
        decided = {b.kind for b in state.batches.values() if b.status == "applied"}
        left = [n for n in range(len(self.story.source)) if str(n) not in decided]
        if not left:
            place = (
                process._replace(at="barrier", then=("finish",)) if process.marker else process._replace(at="finish")
            )
            yield "all decided", world._replace(process=place)
            return
        cell, value = left[0], self.story.source[left[0]]
        there = world.target.cells[cell].value
        source = memory(value)
        target = None if there is None else memory(there)
        before = self.story.target[cell]
        base = None if before is None else Base(digest=digest(memory(before)), created=True, run_id="old", open=None)
        if before is not None and "bases" in self.story.broken:
            base = None
        known = Known(target=target, target_digest=None if target is None else digest(target), base=base)
        action, _ = decide(source, digest(source), known)
        if action in {"created", "updated"}:
            yield from self._hold(world, process, ("plan", cell, there, value, action, 0))
            return
        event = planned(state.last_number + 1, cell, there, value, action, forward=True)
        yield f"notes {action}", append(world, event)._replace(process=process)

    def _take_back(self, world: World, process: Process, state: RunState) -> Iterator[tuple[str, World]]:
        statuses = {"planned", "applied", "void"} | (self.story.broken & {"refused", "lost"})
        plans = [
            b
            for b in sorted(state.batches.values(), key=lambda b: -b.batch)
            if b.phase == "forward" and b.writes and b.status in statuses and b.batch not in process.kept
        ]
        if not plans:
            done = process._replace(at="close")
            yield (
                "all taken back",
                world._replace(process=done._replace(at="barrier", then=("close",)) if process.marker else done),
            )
            return
        plan = plans[0]
        cell = int(plan.kind)
        kept = process._replace(kept=process.kept | {plan.batch})
        before, after = values(plan.shape)
        there = world.target.cells[cell].value
        unsure = plan.status != "applied"
        found = [
            b for b in state.batches.values() if b.kind == plan.kind and b.phase == "forward" and b.status == "applied"
        ]
        left = [
            b
            for b in state.batches.values()
            if b.kind == plan.kind and b.phase == "rollback" and b.writes and b.status == "applied"
        ]
        if left and there != values(left[-1].shape)[1] and "left" not in self.story.broken:
            yield "changed since it was taken back", world._replace(process=kept)
        elif unsure and found and not found[-1].writes and "theirs" not in self.story.broken:
            yield "someone else made it", world._replace(process=kept)
        elif there == before:
            yield "is undone", world._replace(process=kept)
        elif there == after:
            action = "deleted" if before is None else "restored"
            yield from self._hold(world, kept, ("plan", cell, there, before, action, plan.batch))
        else:
            event = planned(state.last_number + 1, cell, there, before, "retained", forward=False)
            yield "retained", append(world, event)._replace(process=kept)

    def _hold(self, world: World, process: Process, then: tuple[Any, ...]) -> Iterator[tuple[str, World]]:
        if process.marker is not None:
            yield "plans", world._replace(process=process._replace(at=then[0], more=then[1:]))
            return
        state = state_of(world.journal)
        if _moved(process, state, world.identity):
            yield "another server", world._replace(process=Process())
            return
        epoch = state.epoch_planned + 1
        number, plan_digest = landed(state)
        marker = Marker(journal=JOURNAL, run=RUN, epoch=epoch, batch=number, digest=plan_digest, owner="")
        world = append(world, ev.EpochPlanned(epoch=epoch, purpose="claim"))
        yield "claims", world._replace(process=process._replace(at="claim", marker=None, more=(marker,), then=then))

    def _at_claim(self, world: World, process: Process) -> Iterator[tuple[str, World]]:
        answers = {"yes": process._replace(at="claimed"), "no": process._replace(at="settle", more=())}
        yield from self._send(world, process, Swap(None, process.more[0]), answers)

    def _at_claimed(self, world: World, process: Process) -> Iterator[tuple[str, World]]:
        (marker,) = process.more
        if world.target.markers != (marker,):
            # The server restarted in between; ours is gone again, or a late one of ours stands there.
            yield "gone again", world._replace(process=Process())
            return
        state, identity = state_of(world.journal), str(world.identity)
        if _moved(process, state, world.identity) and "restart-at-claim" not in self.story.broken:
            yield "another server", world._replace(process=Process())
            return
        world = append(world, ev.RunClaimed(epoch=marker.epoch, identity=identity, marker=asdict(marker)))
        if "raise-after-claim" in self.story.broken:
            where, *more = process.then
            held = process._replace(at=where, marker=marker, identity=world.identity, more=tuple(more), then=())
            yield "claimed", world._replace(process=held)
            return
        world, place = self._raising(world, Action.CONTINUE, marker, identity)
        yield "claimed", world._replace(process=place._replace(then=process.then, kept=process.kept))

    def _at_plan(self, world: World, process: Process) -> Iterator[tuple[str, World]]:
        cell, before, after, action, undone = process.more
        number = state_of(world.journal).last_number + 1
        event = planned(number, cell, before, after, action, forward=self._forward(world))
        sent = process._replace(at="write", more=(cell, before, after, number, undone))
        yield "planned", append(world, event)._replace(process=sent)

    def _at_write(self, world: World, process: Process) -> Iterator[tuple[str, World]]:
        cell, before, after, number, undone = process.more
        guard = process.marker
        assert guard is not None
        new = replace(guard, batch=number, digest=f"d{number}")
        forward = self._forward(world)
        answers = {
            "yes": process._replace(at="applied", marker=new, more=(number,)),
            "rows": process._replace(at="refused", more=(number,), kept=process.kept - {undone}),
            "marker": process._replace(at="fenced", more=()),
        }
        yield from self._send(world, process, Write(guard, new, cell, before, after, forward), answers)

    def _at_applied(self, world: World, process: Process) -> Iterator[tuple[str, World]]:
        event = (ev.BatchApplied if self._forward(world) else ev.RollbackApplied)(batch=process.more[0])
        yield "applied", append(world, event)._replace(process=process._replace(at="work", more=()))

    def _at_refused(self, world: World, process: Process) -> Iterator[tuple[str, World]]:
        make = ev.BatchRefused if self._forward(world) else ev.RollbackRefused
        event = make(batch=process.more[0], reason="")
        yield "refused", append(world, event)._replace(process=process._replace(at="work", more=()))

    def _at_fenced(self, world: World, process: Process) -> Iterator[tuple[str, World]]:
        if world.identity == process.identity and not world.late:
            msg = "fenced, although nobody took the run over"
            raise ViolationError(msg)
        yield "fenced", world._replace(process=Process())

    def _at_finish(self, world: World, process: Process) -> Iterator[tuple[str, World]]:
        event = ev.RunFinished(
            status="finished", memories={}, relationships={}, watermark=None, seconds=0.0, durability="durable"
        )
        for cell, value in zip(world.target.cells, self.story.source, strict=True):
            if cell.value != value and cell.by != "them":
                msg = f"finished without a record: {cell}"
                raise ViolationError(msg)
        yield "finished", append(world, event)._replace(process=process._replace(at="release"))

    def _at_close(self, world: World, process: Process) -> Iterator[tuple[str, World]]:
        event = ev.RollbackFinished(memories={}, relationships={}, retained=0)
        for cell, value in zip(world.target.cells, self.story.target, strict=True):
            if cell.value != value and cell.by != "them":
                msg = f"taken back without undoing: {cell}"
                raise ViolationError(msg)
        yield "closed", append(world, event)._replace(process=process._replace(at="release"))

    def _at_release(self, world: World, process: Process) -> Iterator[tuple[str, World]]:
        if process.marker is None:
            yield "done", world._replace(process=None, ending="done")
            return
        answers = {"yes": process._replace(at="released"), "no": process._replace(at="stays")}
        yield from self._send(world, process, Swap(process.marker, None), answers)

    def _at_stays(self, world: World, process: Process) -> Iterator[tuple[str, World]]:
        if process.marker in world.target.markers:
            yield "cannot release", world._replace(process=None)
        else:
            yield from self._at_released(world, process)

    def _at_released(self, world: World, _process: Process) -> Iterator[tuple[str, World]]:
        yield "released", append(world, ev.MarkerReleased())._replace(process=None, ending="done")

    # --- the promise at the end ---

    def check(self, world: World) -> None:
        """Raise ViolationError where a process ended in a world that it must not leave."""
        if world.ending not in {"done", "closed"}:
            return
        state = state_of(world.journal)
        wanted = self.story.source if state.rollback is None else self.story.target
        for held in (world.target, world.saved):
            for cell, value in zip(held.cells, wanted, strict=True):
                if cell.value != value and cell.by != "them":
                    msg = f"ended with {cell}, not {value!r}"
                    raise ViolationError(msg)
        # A server may lose the removal, too, and a claim may land late: the journal's next run removes such a marker.
        if world.target.markers and not world.late and world.restarts == self.story.restarts:
            msg = "ended with a marker in the target"
            raise ViolationError(msg)


def _moved(process: Process, state: RunState, identity: int) -> bool:
    """Tell whether the server is another one than that from which decisions were read."""
    seen = str(process.identity) if process.identity >= 0 else None if state.claimed else state.identity
    return seen not in {None, str(identity)}

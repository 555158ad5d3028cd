"""Up to where a pair is in step: its watermark, and its last full comparison. A pure fold over the runs' ends."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from journal.events import RollbackFinished, RunFinished, RunOpened

if TYPE_CHECKING:
    from collections.abc import Iterable

    from journal.events import StoredEvent

#: The types of events that the fold looks at.
TYPES = (RunOpened.type, RunFinished.type, RollbackFinished.type)


@dataclass(frozen=True, slots=True, kw_only=True)
class InStep:
    """How far a pair is in step."""

    watermark: str | None = None  #: ISO-8601 UTC; None: nothing is known to be in step
    full_at: str | None = None  #: ISO-8601 UTC: when the last full comparison that stands was opened
    run_id: str | None = None  #: the newest finished run that stands


@dataclass(frozen=True, slots=True)
class _End:
    run_id: str
    watermark: str | None  #: None: the run left it where it was
    full_at: str | None


def fold_watermarks(events: Iterable[StoredEvent]) -> dict[str, InStep]:
    """Return {pair: how far it is in step}; the events may be of any types and runs, in the order of seq.

    Rolling back a pair's newest run restores the watermark before it. Rolling back any other clears it: what that run
    brought is gone, and the later watermark would hide it.
    """
    opened: dict[str, RunOpened] = {}
    ends: dict[str, list[_End]] = {}
    for stored in events:
        event, run_id = stored.event, stored.run_id
        if isinstance(event, RunOpened):
            opened[run_id] = event
            ends.setdefault(event.pair, [])
        elif isinstance(event, RunFinished) and event.status == "finished":
            begun = opened[run_id]
            ends[begun.pair].append(_End(run_id, event.watermark, begun.ceiling if begun.full else None))
        elif isinstance(event, RollbackFinished):
            pair = opened[run_id].pair
            later = set(list(opened)[list(opened).index(run_id) + 1 :])
            ends[pair] = _without(ends[pair], run_id, later)
    return {pair: _in_step(found) for pair, found in ends.items()}


def _without(ends: list[_End], run_id: str, later: set[str]) -> list[_End]:
    """``later``: the runs opened after it. It may be gone already: a second rollback takes what the first retained."""
    left = [end for end in ends if end.run_id != run_id]
    if later.isdisjoint(end.run_id for end in left):
        return left
    return [replace(end, watermark=None) for end in left]


def _in_step(ends: list[_End]) -> InStep:
    newest = list(reversed(ends))
    return InStep(
        watermark=next((end.watermark for end in newest if end.watermark is not None), None),
        full_at=next((end.full_at for end in newest if end.full_at is not None), None),
        run_id=newest[0].run_id if newest else None,
    )

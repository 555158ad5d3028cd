"""What the model is made of: a target, requests, a process, a journal; immutable, so that worlds can be compared."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from journal import events as ev
from journal.state import fold
from migrator.model import Memory

if TYPE_CHECKING:
    from collections.abc import Iterator

    from journal.state import RunState
    from migrator.backends.base import Marker

JOURNAL, RUN = "journal", "run"
_AT = datetime(2026, 1, 1, tzinfo=UTC)


class Cell(NamedTuple):
    """One record. ``by``: init, us, them; ``killed`` marks what they deleted and we must not make again."""

    value: str | None
    by: str = "init"
    killed: bool = False


class Target(NamedTuple):
    """What a server holds."""

    cells: tuple[Cell, ...]
    markers: tuple[Marker, ...]


class Swap(NamedTuple):
    """A request: compare-and-set on the marker."""

    expected: Marker | None
    new: Marker | None


class Write(NamedTuple):
    """A request: one guarded row, with the marker that it moves."""

    guard: Marker
    new: Marker
    cell: int
    before: str | None
    after: str | None
    forward: bool


type Request = Swap | Write


class Process(NamedTuple):
    """Where a process stands; what it remembers dies with it."""

    at: str = "start"
    marker: Marker | None = None
    identity: int = -1
    then: tuple[Any, ...] = ()  #: where it goes on after a settlement or barrier
    more: tuple[Any, ...] = ()  #: what this place needs
    kept: frozenset[int] = frozenset()  #: rollback: plans that this attempt has dealt with


class World(NamedTuple):
    """One state of the model."""

    journal: tuple[int, ...]  #: of interned events
    target: Target
    saved: Target
    identity: int
    pending: tuple[Request, ...]
    process: Process | None
    ending: str  #: "" while under way, else how the last process ended
    deaths: int
    restarts: int
    strangers: int
    late: bool = False  #: a request landed after its sender had given it up


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """What is to be moved, and which faults may happen. ``rules`` left out are broken on purpose."""

    source: tuple[str, ...] = ("S", "S")
    target: tuple[str | None, ...] = (None, "B")  #: the second has a base "B": it is an update
    deaths: int = 1
    restarts: int = 0
    strangers: int = 0
    late: bool = True
    rollback: bool = True
    broken: frozenset[str] = frozenset()


class ViolationError(Exception):
    """A promise that does not hold."""


# --- the journal ----------------------------------------------------------------------------------------------------

_events: list[ev.Event] = []
_numbers: dict[tuple[str, bytes], int] = {}


def interned(event: ev.Event) -> int:
    key = event.type, ev.to_payload(event)
    if key not in _numbers:
        _numbers[key] = len(_events)
        _events.append(event)
    return _numbers[key]


@lru_cache(maxsize=1 << 18)
def state_of(journal: tuple[int, ...]) -> RunState:
    """Return the program's own fold of a journal."""
    stored = [
        ev.StoredEvent(seq=n, run_id=RUN, version=n, recorded_at=_AT, event=_events[number], hash="")
        for n, number in enumerate(journal, 1)
    ]
    return fold(stored)


def planned(number: int, cell: int, before: str | None, after: str | None, action: str, *, forward: bool) -> ev.Event:
    make = ev.BatchPlanned if forward else ev.RollbackPlanned
    return make(
        batch=number,
        kind=str(cell),
        operation="none" if action in {"unchanged", "conflict", "foreign", "retained"} else action,
        shape=f"{before or ''}>{after or ''}",
        rows=1,
        digest=f"d{number}",
        writes=action in {"created", "updated", "deleted", "restored"},
        counts={action: 1},
    )


def values(shape: str) -> tuple[str | None, str | None]:
    before, after = shape.split(">")
    return before or None, after or None


@lru_cache(maxsize=64)
def memory(value: str) -> Memory:
    return Memory("m", ("Memory",), {"title": value})


def append(world: World, *found: ev.Event) -> World:
    return world._replace(journal=(*world.journal, *map(interned, found)))


def strangers(target: Target, equal: str) -> Iterator[tuple[str, Target]]:
    for n, cell in enumerate(target.cells):
        new = [Cell("F", "them"), Cell(equal, "them")]
        if cell.value is not None:
            new.append(Cell(None, "them", killed=True))
        for one in new:
            if one.value != cell.value:
                cells = (*target.cells[:n], one, *target.cells[n + 1 :])
                yield f"a stranger makes {n} {one.value}", target._replace(cells=cells)

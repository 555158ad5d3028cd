"""Named fault points: this process is killed, or stopped, where the environment says. Inert unless it says so.

``MEMMIG_FAULT=NAME:HIT[:before|after[:kill|stop]]`` sends SIGKILL (or SIGSTOP) to this very process before (default)
or after the HIT-th time that the point NAME is passed. ``MEMMIG_FAULT_COUNT=FILE`` appends a line for every point that
is passed: process id, and the point's names; and one for every decision by the resume table: process id, ``decided``,
the action, and what was seen, as JSON.

A point is a step of the target (``STEPS``), ``journal.`` and the type of an event that is appended to the journal
(``journal.batch.planned``), or ``prune.`` and a step of its pruning (``PRUNE_STEPS``); ``any`` is each of them. What
only the driver sees, such as half a request, is no point.
"""

from __future__ import annotations

import json
import os
import re
import signal
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from journal import prune
from journal.engine import Database
from journal.store import Journal
from migrator import lease, resume
from migrator.backends import registry
from migrator.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from journal.chain import Entry
    from journal.events import Event
    from migrator.backends.base import Backend
    from migrator.models import BackendConfig, Role
    from migrator.resume import Action, Seen

FAULT = "MEMMIG_FAULT"
COUNT = "MEMMIG_FAULT_COUNT"
ANY = "any"

#: What a target is asked to do that changes it, or after which the engine believes something.
STEPS = frozenset({"open", "swap_marker", "write", "barrier", "apply_schema", "drop_schema", "close"})

#: Of ``journal.prune``, and of the database that it replaces.
PRUNE_STEPS = {"write": prune, "check": prune, "end_log": Database, "replace_file": Database}

_FORM = re.compile(r"(?P<name>[a-z_.]+):(?P<hit>[1-9][0-9]*)(:(?P<when>before|after)(:(?P<how>kill|stop))?)?")
_SIGNALS = {None: signal.SIGKILL, "kill": signal.SIGKILL, "stop": signal.SIGSTOP}


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Where this process is struck, and by which signal."""

    name: str
    hit: int  #: 1 = the first time
    after: bool
    signal: signal.Signals


def parse(text: str) -> Fault:
    """Return the fault that a text asks for. UsageError (2) where it asks for none."""
    found = _FORM.fullmatch(text)
    if found is None:
        msg = f"{FAULT} asks for no fault: {text}"
        raise UsageError(msg, hint=f"{FAULT}=NAME:HIT[:before|after[:kill|stop]]")
    return Fault(
        name=found["name"], hit=int(found["hit"]), after=found["when"] == "after", signal=_SIGNALS[found["how"]]
    )


@dataclass(slots=True)
class Points:
    """Counts the points that are passed, and strikes at one of them."""

    fault: Fault | None
    record: Path | None  #: gets a line for each point
    _hits: int = field(default=0, init=False)

    def note(self, text: str) -> None:
        """Append a line to the record, if there is one."""
        if self.record is not None:
            with self.record.open("a", encoding="utf-8") as file:
                file.write(f"{os.getpid()} {text}\n")

    def around[T](self, names: Sequence[str], call: Callable[[], T]) -> T:
        """Pass a point that has these names."""
        self.note(" ".join(names))
        fault = self.fault
        if fault is None or not (fault.name == ANY or fault.name in names):
            return call()
        self._hits += 1
        struck = self._hits == fault.hit
        if struck and not fault.after:
            os.kill(os.getpid(), fault.signal)
        result = call()
        if struck and fault.after:
            os.kill(os.getpid(), fault.signal)
        return result


class _Target:
    """A backend whose ``STEPS`` are points."""

    def __init__(self, backend: Backend, points: Points) -> None:
        self._backend = backend
        self._points = points

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the backend has
        inner = getattr(self._backend, name)
        if name not in STEPS:
            return inner
        return lambda *args, **kwargs: self._points.around((name,), lambda: inner(*args, **kwargs))


def install(environment: Mapping[str, str]) -> None:
    """Make every target that is opened from now on, and every append to a journal, pass its points."""
    fault, record = environment.get(FAULT), environment.get(COUNT)
    points = Points(parse(fault) if fault else None, Path(record) if record else None)
    open_backend, append, next_action = registry.open_backend, Journal.append, resume.next_action

    def opened(config: BackendConfig, *, role: Role) -> Backend:
        backend = open_backend(config, role=role)
        return cast("Backend", _Target(backend, points)) if role == "to" else backend

    def appended(self: Journal, run_id: str, *events: Event, entries: Sequence[Entry] = ()) -> None:
        names = [f"journal.{event.type}" for event in events]
        points.around(names, lambda: append(self, run_id, *events, entries=entries))

    def passed(step: str, inner: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *args, **kwargs: points.around((f"prune.{step}",), lambda: inner(*args, **kwargs))

    for step, owner in PRUNE_STEPS.items():
        setattr(owner, step, passed(step, getattr(owner, step)))

    def decided(seen: Seen) -> Action:
        action = next_action(seen)
        points.note(f"decided {action.value} {json.dumps(asdict(seen))}")
        return action

    registry.open_backend = opened
    lease.next_action = decided  # type: ignore[attr-defined] # the name by which the engine asks the table
    Journal.append = appended  # type: ignore[method-assign] # the one wrapper that has to know of every journal

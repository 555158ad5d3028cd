"""What a caller can hang into a run: progress, a stop flag, the clock."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

from migrator.errors import Interrupted

if TYPE_CHECKING:
    from collections.abc import Callable

PhaseName = Literal["scan", "import", "delete", "verify", "rollback"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far one phase is. ``total`` is None where it is not known."""

    phase: PhaseName
    kind: str  #: "memory" or "relationship"
    done: int
    total: int | None


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hooks:
    """Called by the core, never by a backend. ``stop`` returns the number of the signal that asks to stop, or 0."""

    progress: Callable[[Progress], None] = lambda _: None
    stop: Callable[[], int] = lambda: 0
    clock: Callable[[], datetime] = _now
    monotonic: Callable[[], float] = time.monotonic

    def report(self, phase: PhaseName, kind: str, done: int, total: int | None) -> None:
        """Report progress."""
        self.progress(Progress(phase=phase, kind=kind, done=done, total=total))

    def check(self) -> None:
        """Raise Interrupted where a stop was asked for; called between batches."""
        signal = int(self.stop())
        if signal:
            # True, from a caller that knows no signals, is Ctrl-C.
            signal = 2 if signal == 1 else signal
            msg = "interrupted"
            raise Interrupted(msg, hint="nothing was written; start it again", signal=signal)

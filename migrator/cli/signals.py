"""SIGINT and SIGTERM: the first one asks the run to end after its batch, the second one ends the process at once."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from types import FrameType, TracebackType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_ASKED = b"\nstopping after this batch (again: stop at once)\n"


class Stop:
    """A flag that a signal raises and that the engine polls; a context manager that holds the handlers.

    Ending at once is safe, too: a run is built to be killed at any moment and resumed.
    """

    def __init__(self) -> None:
        self.signal = 0  #: number of the signal that came first
        self._before: dict[int, object] = {}

    def __call__(self) -> int:
        """Return the number of the signal that asks the run to end, or 0."""
        return self.signal

    def __enter__(self) -> Self:
        for number in _SIGNALS:
            self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]  # what signal.signal itself returned

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        if self.signal:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        self.signal = number
        # Not sys.stderr: a handler may run in the middle of a write to it.
        with suppress(OSError):
            os.write(2, _ASKED)

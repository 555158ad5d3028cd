"""Going on after an unknown outcome or a lost connection: the target is opened anew, and the step begins again."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from migrator.errors import OutcomeUnknown, StoreUnreachable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from migrator.backends.base import Backend

_RECONNECTS = (0.2, 0.5, 1.0, 2.0, 4.0, 8.0)


def persist[T](target: Backend, step: Callable[[], T], progressed: Callable[[], int]) -> T:
    """Run ``step`` again after every unknown outcome, once the target answers; ``step`` must begin by settling.

    Gives up with StoreUnreachable after as many vain attempts as ``_RECONNECTS`` has waits.
    """
    vain = 0
    while True:
        before = progressed()
        try:
            return step()
        except (OutcomeUnknown, StoreUnreachable) as error:
            # A connection to the target that was lost while it was only read is mended like any other, once.
            if isinstance(error, StoreUnreachable) and vain and _answers(target):
                raise  # it is the source that went away
            vain = 0 if progressed() > before else vain + 1
            target.close()
            if vain >= len(_RECONNECTS):
                raise StoreUnreachable(error.message, hint="start the server") from error
            _reconnect(target, _RECONNECTS[vain:])


def _answers(target: Backend) -> bool:
    try:
        target.identity()
    except (OutcomeUnknown, StoreUnreachable):
        return False
    return True


def _reconnect(target: Backend, waits: Iterable[float]) -> None:
    last: StoreUnreachable | None = None
    for wait in waits:
        time.sleep(wait)
        try:
            target.open("write")
        except StoreUnreachable as error:
            last = error
        else:
            return
    raise StoreUnreachable(
        "the target went away and did not come back" + (f": {last.message}" if last else ""),
        hint="start the server",
    )

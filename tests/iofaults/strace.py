"""Faults that strace injects into the system calls of a process, and what its log says of them."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_SECONDS = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Calls of one kind that fail: the ``when``-th, or all from it on (``persistent``).

    ``how``: an error's name, or ``short`` for a write of no byte. (A call that strace fakes does nothing: to answer
    with some bytes would be a lie about them. Writes that are cut in the middle come with a limit of size.)
    """

    call: str
    how: str
    when: int
    persistent: bool = False

    def __str__(self) -> str:
        return f"{self.call} {self.how} {self.when}{'+' if self.persistent else ''}"

    @property
    def expression(self) -> str:
        """What ``-e`` takes."""
        result = "retval=0" if self.how == "short" else f"error={self.how}"
        return f"inject={self.call}:{result}:when={self.when}{'+' if self.persistent else ''}"


def command(fault: Fault, places: Sequence[Path], log: Path) -> list[str]:
    """Return the command line up to what is run: calls are counted where they concern one of the places."""
    paths = [word for place in places for word in ("-P", str(place))]
    return ["strace", "-f", "-qq", "-o", str(log), "-e", f"trace={fault.call}", "-e", fault.expression, *paths]


def injected(log: Path) -> int:
    """Return how many faults a log tells of."""
    return log.read_text(errors="replace").count("(INJECTED)")


def attach(pid: int, words: Sequence[str]) -> subprocess.Popen[bytes]:
    """Let a stopped process go on with strace at its side, which ends with it."""
    status = Path(f"/proc/{pid}/status")
    try:
        _await(status, "State:\tT")
        tracer = subprocess.Popen([*words, "-p", str(pid)], stdin=subprocess.DEVNULL)
        _await(status, "TracerPid:\t", but="TracerPid:\t0\n")
    except BaseException:
        os.kill(pid, signal.SIGKILL)
        raise
    os.kill(pid, signal.SIGCONT)
    return tracer


def _await(status: Path, text: str, *, but: str = "\0") -> None:
    deadline = time.monotonic() + _SECONDS
    while True:
        found = status.read_text()
        if text in found and but not in found:
            return
        assert time.monotonic() < deadline, found
        time.sleep(0.002)

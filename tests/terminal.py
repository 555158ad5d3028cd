"""memmig at a real terminal: a pseudo-terminal of its own, on which somebody answers a prompt."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

_SECONDS = 60
#: Makes its standard input the terminal that /dev/tty means, then becomes memmig.
_AT_TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.executable, [sys.executable, "-m", "migrator", *sys.argv[1:]])
"""


def at_a_terminal(
    arguments: Sequence[str], environment: Mapping[str, str], folder: Path, *, prompt: str, answer: str
) -> tuple[int, str]:
    """Run memmig; type an answer once the prompt is shown; return its exit code and all that the terminal showed."""
    terminal, inside = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", _AT_TERMINAL, *arguments],
        cwd=folder,
        env=dict(environment),
        stdin=inside,
        stdout=inside,
        stderr=inside,
        start_new_session=True,
    )
    os.close(inside)
    shown, answered, until = b"", False, time.monotonic() + _SECONDS
    try:
        while time.monotonic() < until:
            if not select.select([terminal], [], [], 1)[0]:
                continue
            try:
                piece = os.read(terminal, 4096)
            except OSError:  # Linux says so where the other side has closed it
                break
            if not piece:
                break
            shown += piece
            if prompt.encode() in shown and not answered:
                answered = True
                time.sleep(0.2)  # echo is off once a prompt for a password waits, a moment after it is shown
                os.write(terminal, answer.encode() + b"\n")
        return process.wait(_SECONDS), shown.decode()
    finally:
        process.kill()
        process.wait()
        os.close(terminal)

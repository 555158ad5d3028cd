"""What every server process that the tests start has in common: it is stopped by its own process id, never by name."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    import subprocess


class ServerProcess:
    """A server of our own. ``kill`` is kill -9; ``start`` again brings it back on the same port and data."""

    _process: subprocess.Popen[bytes] | None

    def start(self) -> Self:
        """Start and wait until it answers."""
        raise NotImplementedError

    @property
    def pid(self) -> int:
        """The server's process id."""
        assert self._process is not None
        return self._process.pid

    def pause(self) -> None:
        """Stop the server without ending it: it keeps its connections and answers nothing."""
        os.kill(self.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        """Let a paused server go on."""
        os.kill(self.pid, signal.SIGCONT)

    def kill(self) -> None:
        """End it as a power cut would: no saving."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                self._process.kill()
            self._process.wait()
            self._process = None

    def restart(self) -> Self:
        """Kill -9, and start again on the same port and data."""
        self.kill()
        return self.start()

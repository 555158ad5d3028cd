"""Starts memmig in children that are forked from a process which has imported it: a sweep starts thousands of them.

Each run is a process of its own that begins at ``python -m migrator``'s first line, is killed like any other, and
shares nothing with the next one; only the half second of imports is spared.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import pkgutil
import runpy
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.running import ROOT, Ran, environment_of

if TYPE_CHECKING:
    from collections.abc import Iterator

_SECONDS = 300  #: a run that takes longer is ended, and fails its test
#: What memmig imports when it needs it.
_LIBRARIES = (
    *("alembic.command", "alembic.autogenerate", "alembic.runtime.environment", "alembic.script"),
    *("sqlalchemy.dialects.sqlite.pysqlite", "structlog", "neo4j", "falkordb", "redislite.falkordb_client"),
)


@dataclass(slots=True)
class Nursery:
    """One forking process and the runs that it starts, one after another."""

    folder: Path  #: of its own, for what runs print
    _process: subprocess.Popen[str] | None = None

    def memmig(self, *words: str | Path, cwd: Path, environment: dict[str, str] | None = None) -> Ran:
        """Do what :func:`tests.running.memmig` does."""
        if self._process is None:
            command = [sys.executable, "-m", "tests.crash.nursery", str(self.folder)]
            self._process = subprocess.Popen(
                command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment_of(ROOT)
            )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        asked = {"words": [*map(str, words)], "cwd": str(cwd), "environment": environment_of(cwd) | (environment or {})}
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        assert answer, "the nursery has ended"
        return Ran(int(answer), (self.folder / "out").read_text(), (self.folder / "err").read_text())

    def close(self) -> None:
        """End the forking process; there is no run left."""
        if self._process is not None:
            self._process.communicate()


def _imported() -> None:
    for package in ("migrator", "journal"):
        for module in pkgutil.walk_packages(importlib.import_module(package).__path__, f"{package}."):
            if not module.name.endswith("__main__") and "._alembic" not in module.name:
                importlib.import_module(module.name)
    for library in _LIBRARIES:
        with suppress(ImportError):
            importlib.import_module(library)


def _asked() -> Iterator[dict[str, Any]]:
    for line in sys.stdin:
        yield json.loads(line)


def _become(asked: dict[str, Any], folder: Path) -> None:
    """Turn this child into a run of memmig, up to its first line."""
    os.chdir(asked["cwd"])
    os.environ.clear()
    os.environ.update(asked["environment"])
    tempfile.tempdir = None
    new = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    for number, path, flags in ((0, os.devnull, os.O_RDONLY), (1, folder / "out", new), (2, folder / "err", new)):
        opened = os.open(path, flags, 0o600)
        os.dup2(opened, number)
        os.close(opened)
    sys.argv = ["memmig", *asked["words"]]
    signal.alarm(_SECONDS)


def _serve(folder: Path) -> None:
    """Start a run for each line, and answer with its exit code, negative for a signal. Returns in each child, too."""
    for asked in _asked():
        child = os.fork()
        if not child:
            _become(asked, folder)
            runpy.run_module("migrator", run_name="__main__")
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    _imported()
    gc.freeze()
    _serve(Path(sys.argv[1]))

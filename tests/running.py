"""Runs the command line as a user does: another process, its exit code, and its one JSON document."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True, slots=True)
class Ran:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> dict[str, Any]:
        """What ``--json`` printed."""
        found: dict[str, Any] = json.loads(self.out)
        return found


def environment_of(cwd: Path) -> dict[str, str]:
    """Return the environment of a run in ``cwd``: nothing of this process's settings, and a home of its own."""
    inherited = {
        key: value for key, value in os.environ.items() if not key.startswith(("MEM", "NEO4J", "FALKOR", "XDG"))
    }
    return inherited | {"HOME": str(cwd / "home"), "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}


def memmig(*words: str | Path, cwd: Path, environment: dict[str, str] | None = None, timeout: float = 300) -> Ran:
    """Run ``memmig`` in ``cwd`` with a home, state and journal of its own there, without a terminal."""
    ran = subprocess.run(
        [sys.executable, "-m", "migrator", *map(str, words)],
        cwd=cwd,
        env=environment_of(cwd) | (environment or {}),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    return Ran(ran.returncode, ran.stdout, ran.stderr)


def listing(folder: Path) -> dict[str, str]:
    """Return every file below a folder with its SHA-256 and mode, folders and links too: "no file left behind"."""
    found = {}
    for path in sorted(folder.rglob("*")):
        mode = f"{path.lstat().st_mode:o}"
        if path.is_symlink():
            found[str(path.relative_to(folder))] = f"{mode} -> {path.readlink()}"
        elif path.is_file():
            found[str(path.relative_to(folder))] = f"{mode} {hashlib.sha256(path.read_bytes()).hexdigest()}"
        else:
            found[str(path.relative_to(folder))] = mode
    return found

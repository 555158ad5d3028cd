"""memmig as a user starts it: a process of its own, in a folder of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pytest

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "migrator" / "data" / "sample-0.12.db"

type Done = subprocess.CompletedProcess[str]


class Memmig(Protocol):
    """Runs memmig to its end."""

    def __call__(self, *arguments: str, stdin: str = "", **variables: str) -> Done: ...


@pytest.fixture
def environment(tmp_path: Path) -> Mapping[str, str]:
    """Only what a process needs: nothing of the user's own stores or journal."""
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path / "home"),
        "XDG_STATE_HOME": str(tmp_path / "state"),
        "PYTHONPATH": str(ROOT),
        "LANG": "C.UTF-8",
    }


@pytest.fixture
def memmig(tmp_path: Path, environment: Mapping[str, str]) -> Memmig:
    def run(*arguments: str, stdin: str = "", **variables: str) -> Done:
        return subprocess.run(
            [sys.executable, "-m", "migrator", *arguments],
            cwd=tmp_path,
            env={**environment, **variables},
            input=stdin,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    return run


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A real store: 300 memories and 364 relationships, written by memorygraph 0.12."""
    place = tmp_path / "source.db"
    shutil.copyfile(SAMPLE, place)
    return place

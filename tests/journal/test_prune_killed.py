"""Pruning that is killed leaves the old journal or the new one, whole, and the next command goes on with it."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from journal import Journal
from migrator.faults import PRUNE_STEPS
from tests.journal.support import apply, entry, opened, plain
from tests.journal.test_prune import finished, nights
from tests.running import ROOT, memmig

if TYPE_CHECKING:
    from pathlib import Path

POINTS = [f"prune.{step}:1:{when}" for step in PRUNE_STEPS for when in ("before", "after")]
#: After which of them the new file is in place.
DONE = {"prune.replace_file:1:after"}


def is_pruned(path: Path) -> bool:
    """Check that the journal is whole, and say which of the two it is."""
    with Journal.open(path) as journal:
        assert journal.check().problems == ()
        found = {state.pruned is not None for state in journal.runs()[:-1]}
        assert journal.bases("a → x").get("memory", ["i"])["i"].digest == "3" * 64
    assert len(found) == 1
    return found.pop()


@pytest.mark.parametrize("point", POINTS)
def test_killed_at_a_step(point: str, tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    nights(path)
    prune = ("journal", "prune", "--keep", "1", "--journal", path)
    ran = memmig(*prune, cwd=tmp_path, environment={"MEMMIG_FAULT": point})
    assert ran.code == -signal.SIGKILL
    assert memmig("journal", "check", "--journal", path, cwd=tmp_path).code == 0
    assert is_pruned(path) == (point in DONE)
    assert memmig(*prune, cwd=tmp_path).code == 0
    assert is_pruned(path)
    assert sorted(one.name for one in tmp_path.glob("journal*")) == ["journal.db", "journal.db.lock"]


def test_every_step_is_passed_once_and_in_order(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    nights(path)
    points = tmp_path / "points"
    ran = memmig(
        *("journal", "prune", "--keep", "1", "--journal", path),
        cwd=tmp_path,
        environment={"MEMMIG_FAULT_COUNT": str(points)},
    )
    assert ran.code == 0
    passed = [line.split()[1] for line in points.read_text().splitlines()]
    assert passed == ["prune.write", "prune.check", "prune.replace_file", "prune.end_log"]


def large(path: Path) -> str:
    """Write nights, and a run after them that makes the journal large; return its name."""
    nights(path)
    run = "ffff0000-0000-4000-8000-000000000000"
    with Journal.open(path) as journal:
        journal.append(run, opened("a → y", "y"))
        for batch in range(1, 11):
            apply(journal, run, batch, [entry(f"{batch}-{n}", before_image="x" * 200) for n in range(1_000)])
        journal.append(run, finished())
    return run


def test_killed_at_any_moment(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    run = large(path)
    rng = random.Random(6)
    words = [sys.executable, "-m", "migrator", "journal", "prune", "--keep", "2", "--journal", str(path)]
    struck = 0
    for _ in range(8):
        with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            time.sleep(rng.uniform(0.3, 1.2))
            process.kill()
            struck += process.wait() == -signal.SIGKILL
        with Journal.open(path) as journal:
            assert journal.check().problems == ()
            assert [row.action for row in journal.find("i")][-1] == "updated"
            assert len([*journal.entries(run)]) == 10_000
    assert struck
    assert memmig("journal", "prune", "--keep", "2", "--journal", path, cwd=tmp_path).code == 0
    with Journal.open(path) as journal:
        assert [state.pruned is not None for state in journal.runs()] == [True, True, False, False]


def test_a_full_disk_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    large(path)
    before = plain(path, "SELECT * FROM events")
    script = (
        "import resource, sys; from migrator.cli import main;"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, 500_000));"
        f"sys.exit(main(['journal', 'prune', '--keep', '2', '--journal', {str(path)!r}]))"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 43, done.stderr
    assert plain(path, "SELECT * FROM events") == before
    assert sorted(one.name for one in tmp_path.iterdir()) == ["journal.db", "journal.db.lock"]
    assert memmig("journal", "prune", "--keep", "2", "--journal", path, cwd=tmp_path).code == 0

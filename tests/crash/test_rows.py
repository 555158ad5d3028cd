"""Each row of the resume table, and each fault point, is hit by a test of the default run; and the page says by which.

What a test's marker says is checked where the test runs (conftest.py), so that a marker that is wrong fails there.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from journal.events import EVENT_TYPES
from migrator.faults import STEPS
from tests.crash import rows
from tests.crash.rows import Watched
from tests.running import ROOT

if TYPE_CHECKING:
    from collections.abc import Mapping

PAGE = ROOT / "docs" / "explanation" / "crash-safety.md"
BEGIN, END = "<!-- rows -->\n", "<!-- end of rows -->\n"
#: What pruning writes: its steps have points of their own (tests/journal/test_prune_killed.py).
PRUNING = {"journal.anchored", "run.pruned"}
POINT = re.compile(r"([a-z_.]+):\d+:(?:before|after)")


@dataclass(frozen=True, slots=True)
class Collected:
    """One test of the default run: its function, what its markers name, and the points that its processes die at."""

    test: str
    cells: tuple[str, ...]
    points: tuple[str, ...]


class _Lister:
    """A plugin that writes what is collected to a file."""

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        found = [
            {
                "test": getattr(item, "originalname", item.name),
                "cells": [cell for mark in item.iter_markers("row") for cell in mark.args],
                "points": POINT.findall(item.name),
            }
            for item in session.items
        ]
        Path(os.environ["MEMMIG_TEST_COLLECTED"]).write_text(json.dumps(found), "utf-8")


def pytest_configure(config: pytest.Config) -> None:
    """Make this file a plugin: ``-p tests.crash.test_rows``."""
    config.pluginmanager.register(_Lister())


@pytest.fixture(scope="module")
def collected(tmp_path_factory: pytest.TempPathFactory) -> list[Collected]:
    """Return the crash tests of the default run, however this one was started."""
    file = tmp_path_factory.mktemp("rows") / "collected.json"
    words = ["-m", "pytest", "--collect-only", "-q", "-p", "tests.crash.test_rows", "-p", "no:cacheprovider"]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST")}
    ran = subprocess.run(
        [sys.executable, *words, str(ROOT / "tests" / "crash")],
        cwd=ROOT,
        env=environment | {"MEMMIG_TEST_COLLECTED": str(file)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    found: list[dict[str, Any]] = json.loads(file.read_text())
    return [Collected(one["test"], tuple(one["cells"]), tuple(one["points"])) for one in found]


def _tests(collected: list[Collected]) -> Mapping[str, set[str]]:
    tests: dict[str, set[str]] = defaultdict(set)
    for one in collected:
        for cell in one.cells:
            tests[cell].add(one.test)
    return tests


def test_every_row_has_a_test_in_a_run_and_in_a_rollback(collected: list[Collected]) -> None:
    tests = _tests(collected)
    assert sorted(set(rows.CELLS) - tests.keys()) == [], "rows that no test hits"
    assert sorted(tests.keys() - set(rows.CELLS)) == [], "markers that name no row"


def test_every_fault_point_kills_a_process(collected: list[Collected]) -> None:
    hit = {point for one in collected for point in one.points}
    points = STEPS | {f"journal.{event}" for event in EVENT_TYPES.keys() - PRUNING}
    assert sorted(points - hit) == [], "fault points at which no process is killed"
    assert sorted(hit - points) == [], "no such fault points"


def test_the_page_says_by_which(collected: list[Collected]) -> None:
    text = PAGE.read_text("utf-8")
    wanted = rows.table(_tests(collected))
    assert text.count(BEGIN) == text.count(END) == 1
    shown = text.split(BEGIN)[1].split(END)[0]
    if os.environ.get("MEMMIG_WRITE_ROWS"):
        PAGE.write_text(text.replace(f"{BEGIN}{shown}{END}", f"{BEGIN}{wanted}{END}"), "utf-8")
    else:
        assert shown == wanted, "MEMMIG_WRITE_ROWS=1 writes it anew"


def _seen(**changes: Any) -> rows.Seen:
    marker = {"journal": "j", "run": "r", "epoch": 2, "batch": 5, "digest": "d5", "owner": ""}
    seen: rows.Seen = {
        "journal": "j",
        "run": "r",
        "phase": "forward",
        "closed": False,
        "held": True,
        "released": False,
        "epoch_held": 2,
        "identity_held": "A",
        "identity": "A",
        "planned": 5,
        "applied": 5,
        "last_number": 5,
        "plans": {"d3": 3, "d5": 5},
        "marker": marker,
    }
    return seen | changes


def _watched(*decisions: tuple[str, rows.Seen], command: str = "resume") -> Watched:
    runs = frozenset({"r"})
    return Watched(command, runs, frozenset(), frozenset(), 0, list(decisions))


def test_a_marker_that_is_wrong_is_found() -> None:
    landed = _watched(("recover", _seen(applied=3)))
    assert rows.cells(landed) == {"landed run"}
    assert rows.lacking(["landed run"], [landed]) == set()
    assert rows.lacking(["landed run", "landed rollback"], [landed]) == {"landed rollback"}


@pytest.mark.parametrize(
    ("action", "seen", "why"),
    [
        ("continue", _seen(applied=3), "continue in the row landed"),
        ("continue", _seen(identity="B"), "continue in the row lost"),
        ("claim", _seen(marker=None), "claim in the row removed"),
        ("recover", _seen(marker=_seen()["marker"] | {"batch": 3, "digest": "d3"}, planned=2, applied=2), "no row"),
    ],
)
def test_a_decision_that_the_page_does_not_know_is_found(action: str, seen: rows.Seen, why: str) -> None:
    with pytest.raises(AssertionError, match=why):
        rows.cells(_watched((action, seen)))

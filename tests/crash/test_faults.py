"""The fault points themselves: inert unless asked for, and refused where nonsense is asked for."""

from __future__ import annotations

import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from migrator.errors import UsageError
from migrator.faults import Fault, parse
from tests.running import memmig

if TYPE_CHECKING:
    from pathlib import Path


def test_what_can_be_asked_for() -> None:
    plain = Fault(name="write", hit=3, after=False, signal=signal.SIGKILL)
    assert parse("write:3") == parse("write:3:before") == parse("write:3:before:kill") == plain
    later = Fault(name="journal.batch.planned", hit=1, after=True, signal=signal.SIGSTOP)
    assert parse("journal.batch.planned:1:after:stop") == later


@pytest.mark.parametrize("text", ["", "write", "write:0", "write:-1", "write:1:", "write:1:now", "write:1:after:term"])
def test_what_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse(text)


def test_what_is_refused_is_said_in_two_lines(tmp_path: Path) -> None:
    ran = memmig("journal", "list", cwd=tmp_path, environment={"MEMMIG_FAULT": "write"})
    assert (ran.code, ran.out) == (2, "")
    assert [line.partition(": ")[0] for line in ran.err.splitlines()] == ["error", "hint"]
    ran = memmig("journal", "list", "--json", cwd=tmp_path, environment={"MEMMIG_FAULT": "write"})
    assert (ran.code, ran.document["error"]["name"]) == (2, "UsageError")


def test_a_point_that_is_never_reached_changes_nothing_and_is_counted(tmp_path: Path) -> None:
    record = tmp_path / "points"
    environment = {"MEMMIG_FAULT": "write:1", "MEMMIG_FAULT_COUNT": str(record)}
    ran = memmig("resume", "--journal", tmp_path / "journal.db", cwd=tmp_path, environment=environment)
    assert ran.code == 0, ran.err
    assert not record.exists()


def test_the_module_is_not_even_imported_unless_asked_for() -> None:
    code = (
        "import sys, runpy; sys.argv = ['memmig', '--version']\ntry: runpy.run_module('migrator', run_name='__main__')"
    )
    code += "\nexcept SystemExit: pass\nsys.exit('migrator.faults' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, stdout=subprocess.DEVNULL).returncode == 0

"""``memmig journal prune`` between nights: what it says, what it leaves, and that the nights go on as before."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tests.cli.conftest import Memmig

MOVE = ["migrate", "--from", "sqlite:///source.db", "--to", "sqlite:///target.db"]


def change(store: Path, title: str, number: int = 2) -> None:
    """Change some memories as their client does, in a layout 0.12 store."""
    with closing(sqlite3.connect(store)) as connection, connection:
        rows = connection.execute("SELECT id, properties FROM nodes WHERE label = 'Memory' LIMIT ?", (number,))
        for entity_id, properties in rows.fetchall():
            new = json.dumps(json.loads(properties) | {"title": title, "updated_at": "2027-01-01T00:00:00+00:00"})
            connection.execute("UPDATE nodes SET properties = ? WHERE id = ?", (new, entity_id))


def night(memmig: Memmig, *words: str) -> dict[str, Any]:
    done = memmig(*MOVE, "--json", *words)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.fixture
def runs(memmig: Memmig, source: Path) -> list[str]:
    """Three nights: all is created, some is changed, nothing happens."""
    first = night(memmig)["run_id"]
    change(source, "second")
    second = night(memmig)
    assert second["memories"]["updated"] == 2
    return [first, second["run_id"], night(memmig)["run_id"]]


def listed(memmig: Memmig) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(memmig("journal", "list", "--json").stdout)
    return found


def test_the_dry_run_tells_the_truth(runs: list[str], memmig: Memmig, tmp_path: Path) -> None:
    journal = tmp_path / "state" / "memmig" / "journal.db"
    before = journal.read_bytes(), listed(memmig)
    dry = memmig("journal", "prune", "--keep", "1", "--dry-run", "--json")
    assert dry.returncode == 0
    assert (journal.read_bytes(), listed(memmig)) == before
    done = memmig("journal", "prune", "--keep", "1", "--json")
    assert done.returncode == 0, done.stderr
    told, did = json.loads(dry.stdout), json.loads(done.stdout)
    for key in ("pruned", "held", "events", "entries"):
        assert told[key] == did[key]
    assert (told["dry_run"], did["dry_run"], did["pruned"]) == (True, False, runs[:2])
    # 664 were created, and 2 of them have a row that is their base beside.
    assert did["entries"] == [666, 666]
    assert [run["pruned"] for run in listed(memmig)] == [True, True, False]
    assert [run["memories"]["created"] for run in listed(memmig)] == [300, 0, 0]
    assert memmig("journal", "check").returncode == 0


def test_a_pruned_run_cannot_be_taken_back_and_says_so(runs: list[str], memmig: Memmig, source: Path) -> None:
    change(source, "fourth")
    fourth = night(memmig)["run_id"]
    assert memmig("journal", "prune", "--keep", "1").returncode == 0
    target = source.with_name("target.db").read_bytes()
    for command in (
        ["rollback", runs[0]],
        ["rollback", runs[0], "--dry-run"],
        ["rollback", runs[1], "--cascade"],
        ["verify", runs[1]],
    ):
        done = memmig(*command, "--json")
        error = json.loads(done.stdout)["error"]
        assert (done.returncode, error["name"]) == (52, "NoSuchRun")
        assert "was pruned" in error["message"]
    assert source.with_name("target.db").read_bytes() == target
    back = json.loads(memmig("rollback", fourth, "--json").stdout)
    assert (back["status"], back["memories"]["restored"]) == ("rolled-back", 2)


def test_the_nights_go_on(runs: list[str], memmig: Memmig, source: Path) -> None:
    assert memmig("journal", "prune", "--keep", "0").stdout.count("pruned run") == len(runs)
    quiet = night(memmig)
    assert (quiet["memories"]["unchanged"], quiet["relationships"]["unchanged"]) == (300, 364)
    change(source, "fifth", 3)
    assert night(memmig)["memories"]["updated"] == 3
    assert memmig("journal", "check").returncode == 0


def test_the_watermark_stays(runs: list[str], memmig: Memmig) -> None:
    interval = ("--since", "last", "--overlap", "0h", "--dry-run")
    before = night(memmig, *interval)
    assert before["watermark"] is not None
    assert before["memories"]["read"] < 10
    done = memmig("journal", "prune", "--keep", "0", "--json")
    assert json.loads(done.stdout)["pruned"] == runs
    after = night(memmig, *interval)
    assert {**after, "seconds": 0, "estimate": 0} == {**before, "seconds": 0, "estimate": 0}


def test_what_people_read(runs: list[str], memmig: Memmig) -> None:
    shown = memmig("journal", "prune", "--keep", "1", "--dry-run", COLUMNS="40")
    assert max(map(len, shown.stdout.splitlines())) <= 40
    assert f"would prune run {runs[0]}" in " ".join(shown.stdout.split())
    assert "nothing to prune" in memmig("journal", "prune", "--keep", "90d").stdout
    assert memmig("journal", "prune", "--keep", "1", "--quiet").stdout == ""
    assert "finished, pruned" in memmig("journal", "list").stdout


def test_no_journal_and_a_locked_one(memmig: Memmig, tmp_path: Path, environment: Mapping[str, str]) -> None:
    assert memmig("journal", "prune", "--keep", "1").returncode == 52
    assert not list(tmp_path.iterdir())
    script = (
        "import sys; from journal import Journal; journal = Journal.open('j.db'); print('held', flush=True);"
        "sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], cwd=tmp_path, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        assert memmig("journal", "prune", "--keep", "1", "--journal", "j.db").returncode == 40
        assert memmig("journal", "prune", "--keep", "1", "--journal", "j.db", "--dry-run").returncode == 0
        holder.communicate()

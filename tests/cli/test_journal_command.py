"""The journal on the command line."""

from __future__ import annotations

import json
import sqlite3
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Memmig

LIST_KEYS = {
    "full",
    "since",
    "watermark",
    "pair_watermark",
    "pair_last_full",
    "run_id",
    "status",
    "pruned",
    "source",
    "target",
    "started_at",
    "finished_at",
    "memories",
    "relationships",
}


@pytest.fixture
def run_id(memmig: Memmig, source: Path) -> str:
    done = memmig(
        "migrate", "--from", f"sqlite:///{source.name}", "--to", "sqlite:///t.db", "--json", "--journal", "j.db"
    )
    return str(json.loads(done.stdout)["run_id"])


def read(memmig: Memmig, *arguments: str) -> Any:
    done = memmig("journal", *arguments, "--journal", "j.db", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


def test_list_and_show(memmig: Memmig, run_id: str) -> None:
    (run,) = read(memmig, "list")
    assert set(run) == LIST_KEYS
    assert (run["run_id"], run["status"], run["memories"]["created"]) == (run_id, "finished", 300)
    assert run["source"].startswith("sqlite:////")
    for arguments in ([], [run_id], [run_id[:6]]):
        shown = read(memmig, "show", *arguments)
        assert set(shown) > LIST_KEYS
        assert (shown["verification"]["matched"], shown["findings"]) == (664, [])


def test_one_id_by_find_and_by_show(memmig: Memmig, run_id: str, tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "source.db") as connection:
        (entity_id,) = connection.execute("SELECT id FROM nodes LIMIT 1").fetchone()
    connection.close()
    for command in ("find", "show"):
        (entry,) = read(memmig, command, entity_id)
        assert (entry["run_id"], entry["entity_id"], entry["action"]) == (run_id, entity_id, "created")
    for command in ("find", "show"):
        done = memmig("journal", command, "no\x1bsuch", "--journal", "j.db")
        assert done.returncode == 52
        assert "no\\x1bsuch" in done.stderr


def test_events_and_export(memmig: Memmig, run_id: str, tmp_path: Path) -> None:
    events = read(memmig, "events", run_id)
    assert [events[0]["type"], events[-1]["type"]] == ["run.opened", "marker.released"]
    everything = memmig("journal", "export", "--journal", "j.db")
    records = [json.loads(line) for line in everything.stdout.splitlines()]
    assert sum(record["record"] == "entry" for record in records) == 664
    assert read(memmig, "export") == records
    assert read(memmig, "export", "--output", "out.jsonl")["records"] == len(records)
    assert (tmp_path / "out.jsonl").read_text() == everything.stdout
    assert (tmp_path / "out.jsonl").stat().st_mode & 0o777 == 0o600
    assert memmig("journal", "export", "--journal", "j.db", "--output", "out.jsonl").returncode == 2


def test_check_and_backup(memmig: Memmig, run_id: str, tmp_path: Path) -> None:
    assert read(memmig, "check")["ok"] is True
    read(memmig, "backup", "copy.db")
    assert run_id in memmig("journal", "list", "--journal", "copy.db").stdout
    assert memmig("journal", "backup", "copy.db", "--journal", "j.db").returncode == 43
    with sqlite3.connect(tmp_path / "copy.db") as connection:
        connection.execute("DROP TRIGGER IF EXISTS entries_no_update")
        names = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'")]
        for name in names:
            connection.execute(f'DROP TRIGGER "{name}"')
        connection.execute("UPDATE entries SET action = 'updated' WHERE seq = 7")
    connection.close()
    done = memmig("journal", "check", "--journal", "copy.db", "--json")
    assert done.returncode == 41
    assert json.loads(done.stdout)["error"]["name"] == "JournalDamaged"


def test_no_journal_and_no_journal_at_all(memmig: Memmig, tmp_path: Path) -> None:
    (tmp_path / "text.db").write_text("not a journal" * 1_000)
    for command in (["list"], ["show"], ["events"], ["find", "x"], ["check"], ["export"], ["backup", "b"]):
        assert memmig("journal", *command, "--journal", "absent.db").returncode == 52
        assert memmig("journal", *command, "--journal", "text.db").returncode == 41
    assert sorted(path.name for path in tmp_path.iterdir()) == ["text.db"]


@pytest.mark.usefixtures("run_id")
def test_all_of_it_fits_into_40_columns(memmig: Memmig) -> None:
    for command in ("list", "show", "events", "check"):
        shown = memmig("journal", command, "--journal", "j.db", COLUMNS="40").stdout
        assert max(map(len, shown.splitlines())) <= 40

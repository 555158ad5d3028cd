"""Where a journal lives, who may open it, and what stays behind."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import closing
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from journal import Journal, lock
from journal.errors import JournalDamaged, JournalLocked, JournalNotWritable, NoSuchRun
from journal.events import MarkerReleased
from tests.journal.support import OTHER, RUN, opened, sample

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = str(Path(__file__).resolve().parents[2])

_HOLD = """
import sys, time
from journal import Journal
from tests.journal.support import OTHER, opened
journal = Journal.open(sys.argv[1])
journal.append(OTHER, opened())
print("open", flush=True)
sys.stdin.read()
journal.close()
"""
_APPEND_FOREVER = """
import sys
from journal import Journal
from tests.journal.support import RUN, apply, entry, opened
journal = Journal.open(sys.argv[1])
if not journal.runs():
    journal.append(RUN, opened())
batch = journal.state(RUN).last_number
while True:
    batch += 1
    apply(journal, RUN, batch, [entry(f"{batch}-{n}") for n in range(50)])
    print(batch, flush=True)
"""
_FULL_DISK = """
import resource, sys
from journal import Journal
from journal.errors import JournalNotWritable
from tests.journal.support import RUN, apply, entry, opened
journal = Journal.open(sys.argv[1])
journal.append(RUN, opened())
apply(journal, RUN, 1, [entry("kept")])
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, resource.RLIM_INFINITY))
batch = 1
try:
    while batch < 100:
        batch += 1
        apply(journal, RUN, batch, [entry(f"{batch}-{n}", reason="x" * 500) for n in range(50)])
except JournalNotWritable as error:
    print(error.exit_code, batch, flush=True)
    # Also when there is room again: what is on disk is known only when the journal is opened anew.
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    try:
        apply(journal, RUN, batch, [entry("again")])
    except JournalNotWritable as again:
        print(again.exit_code, flush=True)
"""


def python(script: str, path: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", script, str(path)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": ROOT},
    )


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    place = tmp_path / "folder" / "journal.db"
    sample(place)
    return place


@pytest.fixture
def live(path: Path) -> Iterator[subprocess.Popen[str]]:
    """A live process that has the journal open for writing."""
    process = python(_HOLD, path)
    assert line(process) == "open"
    with process:
        yield process


def listing(folder: Path) -> dict[str, tuple[int, str]]:
    return {
        str(place.relative_to(folder)): (place.stat().st_mtime_ns, sha256(place.read_bytes()).hexdigest())
        for place in folder.rglob("*")
        if place.is_file()
    }


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_modes_of_what_we_make(path: Path) -> None:
    assert mode(path.parent) == 0o700
    with Journal.open(path) as journal:
        journal.append(OTHER, opened())
        assert {place.name: mode(place) for place in path.parent.iterdir()} == dict.fromkeys(
            ("journal.db", "journal.db.lock", "journal.db-wal", "journal.db-shm"), 0o600
        )
        assert journal.warnings == []


def test_existing_folder_is_left_and_warned_about(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    with Journal.open(tmp_path / "journal.db") as journal:
        assert len(journal.warnings) == 1
        assert str(tmp_path) in journal.warnings[0]
    assert mode(tmp_path) == 0o755


def test_id_is_lasting(path: Path) -> None:
    with Journal.open(path) as journal:
        first = journal.id
    with Journal.open(path, mode="read") as journal:
        assert journal.id == first
        assert len(first) == 36


@pytest.mark.parametrize("suffix", ["", ".lock", "-wal"])
@pytest.mark.parametrize("how", ["write", "read"])
def test_symbolic_links_are_refused(path: Path, suffix: str, how: str) -> None:
    place = path.with_name(path.name + suffix)
    elsewhere = path.parent / "elsewhere"
    if place.exists():
        place.rename(elsewhere)
    place.symlink_to(elsewhere)
    with pytest.raises(JournalDamaged, match="symbolic link"):
        Journal.open(path, mode=how)  # type: ignore[arg-type]


@pytest.mark.parametrize("how", ["write", "read"])
@pytest.mark.parametrize("content", [b"no journal at all", b"SQLite format 3\0" + b"\xff" * 5000, b"x"])
def test_garbage_is_refused_and_left_alone(tmp_path: Path, how: str, content: bytes) -> None:
    path = tmp_path / "journal.db"
    path.write_bytes(content)
    with pytest.raises(JournalDamaged) as error:
        Journal.open(path, mode=how)  # type: ignore[arg-type]
    assert error.value.exit_code == 41
    assert path.read_bytes() == content
    assert [place.name for place in tmp_path.iterdir()] == ["journal.db"]


@pytest.mark.parametrize("how", ["write", "read"])
def test_another_programs_database_is_refused_and_left_alone(tmp_path: Path, how: str) -> None:
    path = tmp_path / "memory.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE nodes (id TEXT)")
    before = listing(tmp_path)
    with pytest.raises(JournalDamaged, match="no journal"):
        Journal.open(path, mode=how)  # type: ignore[arg-type]
    assert listing(tmp_path) == before


def test_folder_is_no_journal(tmp_path: Path) -> None:
    with pytest.raises(JournalDamaged, match="not a file"):
        Journal.open(tmp_path)


def test_truncated_journal_is_damaged(path: Path) -> None:
    os.truncate(path, 9000)
    with pytest.raises(JournalDamaged):
        Journal.open(path)


def test_missing_journal_cannot_be_read_and_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(NoSuchRun, match="no journal"):
        Journal.open(tmp_path / "none.db", mode="read")
    assert list(tmp_path.iterdir()) == []


def test_empty_file_is_a_new_journal(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    path.touch()
    with Journal.open(path) as journal:
        assert journal.id
        assert journal.check().ok


def test_path_below_a_file_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(JournalNotWritable):
        Journal.open(tmp_path / "file" / "journal.db")


# --- the lock -------------------------------------------------------------------------------------------------------


def test_second_process_is_refused_and_told_who(path: Path, live: subprocess.Popen[str]) -> None:
    with pytest.raises(JournalLocked, match=f"process {live.pid}") as error:
        Journal.open(path)
    assert error.value.exit_code == 40
    live.communicate()
    Journal.open(path).close()


def test_killed_process_frees_the_lock(path: Path, live: subprocess.Popen[str]) -> None:
    live.send_signal(signal.SIGKILL)
    live.wait()
    with Journal.open(path) as journal:
        assert len(journal.runs()) == 2
    assert lock.lock_path(path).exists()


def test_same_process_cannot_open_it_twice_and_the_first_stays_whole(path: Path) -> None:
    with Journal.open(path) as journal:
        with pytest.raises(JournalLocked):
            Journal.open(path)
        journal.append(RUN, MarkerReleased())
        assert journal.check().ok


# --- reading leaves no trace ----------------------------------------------------------------------------------------


def read_all(path: Path) -> int:
    with Journal.open(path, mode="read") as journal:
        assert journal.check().problems == ()
        assert len(journal.bases("a → b").get("memory", ["1-1-1", "absent"])) == 1
        return len(journal.runs())


def test_reading_a_journal_at_rest(path: Path) -> None:
    before = listing(path.parent)
    assert read_all(path) == 1
    assert listing(path.parent) == before


def test_reading_what_a_killed_process_left(path: Path, live: subprocess.Popen[str]) -> None:
    live.send_signal(signal.SIGKILL)
    live.wait()
    before = listing(path.parent)
    assert len(before) == 4
    assert read_all(path) == 2
    assert listing(path.parent) == before


def test_reading_beside_a_live_writer(path: Path, live: subprocess.Popen[str]) -> None:
    before = set(listing(path.parent))
    assert read_all(path) == 2
    assert set(listing(path.parent)) == before
    assert live.poll() is None


def as_nobody(path: Path) -> int:
    """Read a journal as a user who may write nowhere here, root's tests included; return the child's exit code."""
    read_all(path)  # imports everything while that is allowed
    child = os.fork()
    if child == 0:
        try:
            if os.geteuid() == 0:
                os.setgid(65534)
                os.setuid(65534)
            os._exit(10 + read_all(path))
        finally:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.parametrize("killed", [False, True])
def test_reading_in_a_read_only_folder(request: pytest.FixtureRequest, path: Path, killed: bool) -> None:
    if killed:
        process = request.getfixturevalue("live")
        process.send_signal(signal.SIGKILL)
        process.wait()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for place in path.parent.iterdir():
            shutil.copyfile(place, folder / place.name)
            (folder / place.name).chmod(0o444)
        folder.chmod(0o555)
        before = listing(folder)
        try:
            assert as_nobody(folder / path.name) == (12 if killed else 11)
        finally:
            folder.chmod(0o755)
        assert listing(folder) == before


def test_file_that_moves_under_a_reader_is_opened_anew(path: Path) -> None:
    with Journal.open(path, mode="read") as reader:
        assert reader.bases("a → b").get("memory", ["1-1-1"])
        with Journal.open(path) as writer:
            writer.append(OTHER, opened())
            assert len(reader.runs()) == 2
            assert reader.bases("a → b").get("memory", ["1-1-1"])
        assert len(reader.runs()) == 2


def test_reading_only_cannot_write(path: Path) -> None:
    with Journal.open(path, mode="read") as journal, pytest.raises(JournalNotWritable):
        journal.append(RUN, MarkerReleased())


# --- crashes --------------------------------------------------------------------------------------------------------


def test_kill_between_transactions_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    acknowledged = 0
    for target in (3, 4, 5):
        process = python(_APPEND_FOREVER, path)
        for _ in range(target):
            acknowledged = int(line(process))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        with Journal.open(path) as journal:
            report = journal.check()
            assert report.problems == ()
            state = journal.state(RUN)
            assert state.last_applied >= acknowledged
            assert report.entries == 50 * state.last_number


def test_full_disk_stops_with_its_code_and_keeps_what_was(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    process = python(_FULL_DISK, path)
    first, again = process.communicate()[0].split("\n")[:2]
    code, batch = map(int, first.split())
    assert (code, again) == (43, "43")
    with Journal.open(path) as journal:
        assert journal.check().problems == ()
        assert journal.find("kept")
        assert batch - 1 <= journal.state(RUN).last_number <= batch


def test_backup_is_a_whole_journal(path: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.db"
    with Journal.open(path) as journal:
        journal.backup(copy)
        with pytest.raises(JournalNotWritable, match="already"):
            journal.backup(copy)
        identity = journal.id
    assert mode(copy) == 0o600
    shutil.rmtree(path.parent)
    with Journal.open(copy) as journal:
        assert journal.id == identity
        assert journal.check().ok
    assert sorted(place.name for place in tmp_path.iterdir()) == ["copy.db", "copy.db.lock"]

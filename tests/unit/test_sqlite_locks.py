"""Which locks we hold on a SQLite file, that none of them is lost, and that a source's client never waits for us."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from migrator.backends import _reader as ahead
from migrator.backends import _sqlite_file as files
from migrator.backends.sqlite import SqliteBackend
from migrator.errors import StoreUnreachable
from migrator.model import KINDS
from migrator.models import BackendConfig, BackendType

if TYPE_CHECKING:
    from collections.abc import Iterator

    from migrator.models import Role

STORE_012 = Path(__file__).parents[1] / "data" / "memorygraph-0.12.db"
MEMORIES, RELATIONSHIPS = 300, 364
COMMIT = (
    "INSERT INTO relationships SELECT 'new', from_id, to_id, 'X', '{}', 1, 1, 1, 1, NULL FROM relationships LIMIT 1"
)

#: Executes each line of its input in the file given, without waiting for a lock, and says how that ended.
CLIENT = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], timeout=0, isolation_level=None)
for line in sys.stdin:
    try:
        connection.execute(line)
    except sqlite3.OperationalError as error:
        print(error.sqlite_errorname, flush=True)
    else:
        print("done", flush=True)
connection.close()
"""


class Client:
    """Another process that has the file open."""

    def __init__(self, path: Path) -> None:
        command = [sys.executable, "-c", CLIENT, str(path)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __call__(self, statement: str) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(statement, file=self._process.stdin, flush=True)
        return self._process.stdout.readline().strip()

    def kill(self) -> None:
        """End it as a loss of power does."""
        self._process.kill()
        self._process.communicate()

    def close(self) -> None:
        """End it as a client ends: it closes its connection."""
        if self._process.poll() is None:
            self._process.communicate()


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder that is the system's temporary one."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture
def path(tmp_path: Path, temporary: Path) -> Path:
    assert temporary.is_dir()
    return Path(shutil.copy(STORE_012, tmp_path / "store.db"))


@pytest.fixture
def client(path: Path) -> Iterator[Client]:
    with closing(Client(path)) as process:
        yield process


def backend(path: Path, role: Role = "from") -> SqliteBackend:
    return SqliteBackend(BackendConfig(backend=BackendType.SQLITE, path=path), role=role)


def ids(store: SqliteBackend) -> list[str]:
    return [record.id for page in store.scan("relationship", 50) for record in page]


def touch_all(path: Path, role: Role, monkeypatch: pytest.MonkeyPatch) -> None:
    """Call everything of a backend that reads."""
    monkeypatch.setattr(ahead, "WORTH_IT", 10)
    store = backend(path, role)
    for _ in range(2):
        store.open("read")
        store.identity()
        store.markers()
        store.missing_schema()
        store.inventory()
        store.read_ahead(digests=True)
        for kind in KINDS:
            found = [record.id for page in store.scan(kind, 100) for record in page]
            assert store.lookup(kind, dict.fromkeys(found[:5]))
        store.attached(found)
        store.barrier()
        store.release_snapshot()
        assert store.inventory().memories == MEMORIES
    store.close()


class TestOurLocks:
    @pytest.mark.parametrize("role", ["from", "to"])
    @pytest.mark.parametrize("begin", ["BEGIN", "BEGIN IMMEDIATE"])
    def test_any_connection_of_this_process_keeps_its_lock(
        self, path: Path, client: Client, begin: str, role: Role, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with closing(sqlite3.connect(path, isolation_level=None)) as ours:
            ours.execute(begin)
            ours.execute("SELECT count(*) FROM nodes").fetchone()
            assert client(COMMIT) == "SQLITE_BUSY"
            touch_all(path, role, monkeypatch)
            assert client(COMMIT) == "SQLITE_BUSY", "a lock of this process was dropped"
            ours.execute("ROLLBACK")
        assert client(COMMIT) == "done"

    def test_a_targets_snapshot_and_transaction_keep_theirs(
        self, path: Path, client: Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        target = backend(path, "to")
        target.open("write")
        pages = target.scan("relationship", 50)
        next(pages)
        for role in ("from", "to"):
            touch_all(path, role, monkeypatch)
            assert client(COMMIT) == "SQLITE_BUSY"
        target.release_snapshot()
        with target._open.transaction():
            touch_all(path, "from", monkeypatch)
            assert client("BEGIN IMMEDIATE") == "SQLITE_BUSY"
        target.close()

    def test_a_wal_is_not_taken_away_under_a_snapshot(
        self, path: Path, client: Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The last client to close a file moves the WAL into it, unless it sees the lock of another connection."""
        assert client("PRAGMA journal_mode=WAL") == "done"
        assert client(COMMIT) == "done"
        store = backend(path)
        store.open("read")
        pages = store.scan("relationship", 50)
        found = [record.id for record in next(pages)]
        touch_all(path, "from", monkeypatch)
        assert client("UPDATE relationships SET id = 'moved-' || id") == "done"
        client.close()
        found += [record.id for page in pages for record in page]
        assert len(set(found)) == RELATIONSHIPS + 1
        assert not [name for name in found if name.startswith("moved-")], "two states were mixed"
        store.close()


class TestTheirLocks:
    """A client of layout 0.12 waits 5 s for a lock, and loses what it wanted to remember."""

    def test_a_client_commits_while_its_store_is_read(self, path: Path, client: Client) -> None:
        store = backend(path)
        store.open("read")
        assert store.inventory().relationships == RELATIONSHIPS
        pages = store.scan("relationship", 50)
        found = [record.id for record in next(pages)]
        assert client(COMMIT) == "done"
        assert store.lookup("relationship", {"new": None}), "a look-up sees what is committed now"
        found += [record.id for page in pages for record in page]
        assert len(found) == RELATIONSHIPS
        assert "new" not in found, "the snapshot moved"
        store.release_snapshot()
        assert "new" in ids(store)
        store.close()

    def test_a_client_commits_while_its_store_is_a_target_that_is_only_read(self, path: Path, client: Client) -> None:
        store = backend(path, "to")
        store.open("read")
        assert store.inventory().relationships == RELATIONSHIPS
        assert client(COMMIT) == "done"
        assert store.inventory().relationships == RELATIONSHIPS + 1
        store.close()

    def test_a_client_that_is_killed_in_a_commit_is_rolled_back_in_a_copy(self, path: Path, client: Client) -> None:
        store = backend(path)
        store.open("read")
        expected = ids(store)
        assert client("PRAGMA cache_size=1") == "done"
        assert client("BEGIN IMMEDIATE") == "done"
        assert client("UPDATE relationships SET id = 'moved-' || id") == "done"
        client.kill()
        before = path.read_bytes(), files.beside(path, "-journal").read_bytes()
        store.release_snapshot()
        assert ids(store) == expected
        assert store.lookup("relationship", dict.fromkeys(expected[:3])).keys() == set(expected[:3])
        store.close()
        assert before == (path.read_bytes(), files.beside(path, "-journal").read_bytes())

    def test_a_file_that_we_may_not_write_is_copied_too(self, path: Path, temporary: Path) -> None:
        """Its mode, or a mount, says nothing of those who have it open elsewhere."""
        path.chmod(0o444)
        store = backend(path)
        store.open("read")
        assert len(ids(store)) == RELATIONSHIPS
        assert list(temporary.iterdir())
        store.close()
        assert not list(temporary.iterdir())


class TestImmutable:
    def test_a_change_within_the_same_tick_of_the_clock_is_seen(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        exact = files.about

        def coarse(place: Path) -> files.Signature:
            """Tell times as a kernel before Linux 6.13 does, whose clock ticks every 10 ms."""
            inode, size, changed = exact(place)
            return inode, size, changed // 10_000_000 * 10_000_000

        monkeypatch.setattr(files, "about", coarse)
        store = backend(path)
        with closing(sqlite3.connect(path, isolation_level=None)) as writer:
            writer.execute("PRAGMA journal_mode=WAL")
            writer.execute("PRAGMA synchronous=OFF")
            store.open("read")
            for number in range(100):
                writer.execute("UPDATE relationships SET id = ? WHERE rowid = 1", (f"n{number}",))
                writer.execute("PRAGMA wal_checkpoint(TRUNCATE)")
                assert store.lookup("relationship", {f"n{number}": None})
        store.close()


class TestCopies:
    def test_it_is_ours_alone_and_goes_with_the_backend(self, path: Path, temporary: Path) -> None:
        store = backend(path)
        store.open("read")
        store.inventory()
        (folder,) = temporary.iterdir()
        assert folder.stat().st_mode & 0o777 == 0o700
        assert sorted(place.name for place in folder.iterdir()) == ["copy.db", "owner"]
        store.close()
        assert not list(temporary.iterdir())
        assert sorted(path.parent.iterdir()) == [path, temporary]

    def test_it_is_made_again_only_where_the_store_moved(self, path: Path, temporary: Path, client: Client) -> None:
        store = backend(path)
        store.open("read")
        made: set[Path] = set()
        for number in range(4):
            if number == 2:
                assert client(COMMIT) == "done"
            assert ("new" in ids(store)) == (number >= 2)
            made.update(temporary.iterdir())
            assert len(list(temporary.iterdir())) == 1
            store.release_snapshot()
        assert len(made) == 2
        store.close()

    def test_what_a_killed_process_left_goes_and_what_a_live_one_has_stays(self, path: Path, temporary: Path) -> None:
        script = (
            "import sys, tempfile; from pathlib import Path; tempfile.tempdir = sys.argv[2]\n"
            "from migrator.backends._sqlite_copy import backed_up\n"
            "copy = backed_up(Path(sys.argv[1])); print(copy.path.parent, flush=True); sys.stdin.read(); copy.close()"
        )
        command = [sys.executable, "-c", script, str(path), str(temporary)]
        others = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(2)]
        killed, alive = (Path(process.stdout.readline().strip()) for process in others if process.stdout)
        others[0].kill()
        others[0].communicate()
        (temporary / "another").mkdir()
        for owner in temporary.glob("*/owner"):
            os.utime(owner, (0, 0))
        store = backend(path)
        store.open("read")
        store.inventory()
        assert not killed.exists()
        assert (alive / "copy.db").exists()
        store.close()
        others[1].communicate()
        assert [folder.name for folder in temporary.iterdir()] == ["another"]

    def test_a_folder_of_somebody_else_stays(self, path: Path, temporary: Path) -> None:
        for name in ("memmig-backup", "memmig"):
            (temporary / name).mkdir()
            (temporary / name / "owner").touch()
            os.utime(temporary / name / "owner", (0, 0))
        store = backend(path)
        store.open("read")
        store.inventory()
        store.close()
        assert {folder.name for folder in temporary.iterdir()} == {"memmig-backup", "memmig"}

    def test_no_room_for_it_is_said_and_nothing_is_left(self, path: Path, temporary: Path) -> None:
        store = backend(path)
        store.open("read")
        limit = resource.getrlimit(resource.RLIMIT_FSIZE)
        ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limit[1]))
        try:
            with pytest.raises(StoreUnreachable, match="cannot be copied into the temporary folder") as caught:
                store.inventory()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limit)
            signal.signal(signal.SIGXFSZ, ignored)
        assert "TMPDIR" in caught.value.hint
        assert not list(temporary.iterdir())
        assert store.inventory().memories == MEMORIES
        store.close()

    def test_a_second_process_reads_it(self, path: Path, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(ahead, "WORTH_IT", 10)
        store = backend(path)
        store.open("read")
        store.read_ahead(digests=True)
        found: list[str] = []
        for page in store.scan("relationship", 50):
            assert client(f"UPDATE relationships SET id = '{len(found)}' WHERE rowid = {RELATIONSHIPS}") == "done"
            found += [record.id for record in page]
        assert store._ahead is not None, "the second process failed"
        with closing(sqlite3.connect(f"file:{STORE_012}?immutable=1", uri=True)) as pristine:
            assert found == [name for (name,) in pristine.execute("SELECT id FROM relationships ORDER BY rowid")]
        store.close()

"""How the journal's database is opened, read, written and copied: the only file that knows that it is SQLite.

Writing: one connection, WAL, ``synchronous=FULL`` (WAL with NORMAL loses acknowledged commits in a power cut).
Reading leaves no trace: ``mode=ro`` alone makes and leaves ``-shm`` and ``-wal`` beside a WAL database and fails in a
read-only folder [measured, SQLite 3.40.1], so a journal at rest is opened ``immutable=1``, and looked at again when its
file moved under a read; one with a log left by a killed process, or of an older schema, is read from a temporary copy;
one that a live process writes is opened ``mode=ro``.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from sqlalchemy import create_engine, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from journal import lock
from journal.errors import JournalDamaged, JournalLocked, MemmigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from sqlalchemy import Connection, Engine, Executable
    from sqlalchemy.pool import ConnectionPoolEntry

_BUSY_SECONDS = 10
_WRITE_PRAGMAS = (
    "PRAGMA journal_mode=WAL",
    "PRAGMA synchronous=FULL",
    # A checkpoint per 16 MB instead of 4: it syncs twice, and the log holds everything meanwhile.
    "PRAGMA wal_autocheckpoint=4000",
    # INSERT OR REPLACE deletes; without this it would do so behind the back of the append-only triggers.
    "PRAGMA recursive_triggers=ON",
)
#: A file that is made whole or not at all needs no log to roll it back.
_NEW_PRAGMAS = ("PRAGMA journal_mode=OFF", "PRAGMA synchronous=FULL", "PRAGMA recursive_triggers=ON")
#: Bytes of a temporary table in memory before it goes to a file.
_CACHE_PRAGMAS = ("PRAGMA temp_store=FILE", "PRAGMA cache_size=-16000")
_ATTEMPTS = 5
#: Beside SQLITE_CORRUPT. SQLITE_ERROR: our statements are fixed and tested, so what does not fit them is the file.
_DAMAGE = frozenset({"SQLITE_NOTADB", "SQLITE_ERROR", "SQLITE_FORMAT", "SQLITE_TOOBIG", "SQLITE_MISMATCH"})
#: Python's own complaint, which has no SQLite code.
_NOT_UTF8 = "Could not decode to UTF-8"

type Fingerprint = tuple[tuple[int, int] | None, ...]


def _translate(path: Path, error: sqlite3.Error) -> MemmigError | None:
    name = getattr(error, "sqlite_errorname", None) or ""
    if name in _DAMAGE or name.startswith("SQLITE_CORRUPT") or str(error).startswith(_NOT_UTF8):
        return JournalDamaged(f"{path} is damaged or no journal: {error}", hint="memmig journal check")
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return JournalLocked(f"the journal {path} is in use by another program", hint="end it and try again")
    if name.startswith(("SQLITE_FULL", "SQLITE_IOERR", "SQLITE_READONLY", "SQLITE_PERM", "SQLITE_CANTOPEN")):
        return lock.not_writable(path, str(error))
    return None


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Turn the driver's errors into those of ``journal.errors``; what is none of them is a bug and passes."""
    try:
        yield
    except (DBAPIError, sqlite3.Error) as error:
        cause = error.orig if isinstance(error, DBAPIError) else error
        known = _translate(path, cause) if isinstance(cause, sqlite3.Error) else None
        if known is None:
            raise
        raise known from error
    except UnicodeDecodeError as error:  # of a message of SQLite's own about a damaged schema
        msg = f"{path} is damaged: what SQLite says about it is no text"
        raise JournalDamaged(msg, hint="memmig journal check") from error
    except OSError as error:
        raise lock.not_writable(path, error.strerror or str(error)) from error


def _uri(path: Path, options: str) -> str:
    return f"file:{quote(os.fsencode(path.absolute()))}?{options}"


def _engine(path: Path, options: str, pragmas: tuple[str, ...], begin: str) -> Engine:
    def connect() -> sqlite3.Connection:
        # No implicit commits around schema changes: transactions begin and end where this file says so. One thread at
        # a time uses it, but not always the one that opened it.
        return sqlite3.connect(
            _uri(path, options), uri=True, isolation_level=None, timeout=_BUSY_SECONDS, check_same_thread=False
        )

    engine = create_engine("sqlite://", creator=connect, poolclass=NullPool)

    @event.listens_for(engine, "connect")
    def _connected(connection: sqlite3.Connection, _record: ConnectionPoolEntry) -> None:
        for pragma in (*pragmas, *_CACHE_PRAGMAS):
            # To the end: that the switch to WAL failed is said after the answer, and readers rely on the log.
            connection.execute(pragma).fetchall()

    @event.listens_for(engine, "begin")
    def _begun(connection: Connection) -> None:
        connection.exec_driver_sql(begin)

    return engine


def looks_foreign(path: Path) -> bool:
    """Return whether a database at rest holds tables that are not a journal's, without leaving a trace."""
    if not path.exists() or path.stat().st_size == 0 or lock.wal_path(path).exists():
        return False
    with translated(path), closing(sqlite3.connect(_uri(path, "mode=ro&immutable=1"), uri=True)) as connection:
        names = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    return bool(names) and "events" not in names


@contextmanager
def new_file(place: Path) -> Iterator[Connection]:
    """Make a database (0600) in one transaction; it is one file, and on disk, when the block ends.

    What stands at the place, such as an attempt that was killed, is replaced. Nothing stays of a block that raises.
    """
    with translated(place):
        place.unlink(missing_ok=True)
        os.close(os.open(place, os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
        made = _engine(place, "mode=rw", _NEW_PRAGMAS, "BEGIN IMMEDIATE")
        try:
            with made.begin() as connection:
                yield connection
            made.dispose()
            _sync(place)
        except BaseException:
            place.unlink(missing_ok=True)
            raise
        finally:
            made.dispose()


def _sync(place: Path) -> None:
    handle = os.open(place, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


class Database:
    """The one connection to a journal. ``generation`` rises when a read-only one had to be opened anew.

    Temporary tables are lost then: who made some compares generations.
    """

    def __init__(self, path: Path, *, writable: bool) -> None:
        """Open it; the caller holds the lock for writing."""
        self.path = path
        self.writable = writable
        self.generation = 0
        self._immutable: Fingerprint | None = None
        self._copy: tempfile.TemporaryDirectory[str] | None = None
        with translated(path):
            self._connection = self._open()

    def _open(self) -> Connection:
        if self.writable:
            return _engine(self.path, "mode=rw", _WRITE_PRAGMAS, "BEGIN IMMEDIATE").connect()
        log = lock.wal_path(self.path)
        pending = log.exists() and log.stat().st_size > 0
        if lock.holder(self.path) is not None and log.exists() and lock.shm_path(self.path).exists():
            return _engine(self.path, "mode=ro", (), "BEGIN").connect()
        if pending:
            return _engine(self._copied(), "mode=rw", (), "BEGIN").connect()
        self._immutable = self._fingerprint()
        return _engine(self.path, "mode=ro&immutable=1", (), "BEGIN").connect()

    def _fingerprint(self) -> Fingerprint:
        found: list[tuple[int, int] | None] = []
        for place in (self.path, lock.wal_path(self.path)):
            try:
                status = place.stat()
            except FileNotFoundError:
                found.append(None)
            else:
                found.append((status.st_size, status.st_mtime_ns))
        return tuple(found)

    def _copied(self) -> Path:
        self._copy = tempfile.TemporaryDirectory(prefix="memmig-journal-")
        place = Path(self._copy.name) / "journal.db"
        for _ in range(_ATTEMPTS):
            before = self._fingerprint()
            shutil.copyfile(self.path, place)
            log = lock.wal_path(self.path)
            if log.exists():
                shutil.copyfile(log, lock.wal_path(place))
            if self._fingerprint() == before:
                return place
        msg = f"the journal {self.path} changes while it is read"
        raise JournalLocked(msg, hint="wait until the process that writes it has ended")

    def change_copy(self, change: Callable[[Connection], None]) -> None:
        """Read from a temporary copy from now on, which was changed once; the file itself stays as it is."""
        with translated(self.path):
            if self._copy is None:
                self._disconnect()
                self._immutable = None
                self._connection = _engine(self._copied(), "mode=rw", (), "BEGIN").connect()
                self.generation += 1
            with self._connection.begin():
                change(self._connection)

    def rows(self, statement: Executable, parameters: Mapping[str, Any] | None = None) -> list[Any]:
        """Return all rows of a query: keep the answers small. Must not be called within :meth:`transaction`."""
        return self.look(lambda connection: list(connection.execute(statement, parameters or {}).all()))

    def look[T](self, call: Callable[[Connection], T]) -> T:
        """Return what ``call`` finds in one transaction; it is called again where the file was changed under it."""
        for _ in range(_ATTEMPTS):
            try:
                with translated(self.path), self._connection.begin():
                    found = call(self._connection)
            except JournalDamaged:
                if not self._reopened():
                    raise
            else:
                if not self._reopened():
                    return found
        msg = f"the journal {self.path} changes while it is read"
        raise JournalLocked(msg, hint="wait until the process that writes it has ended")

    def _reopened(self) -> bool:
        """Open anew and return True where an ``immutable`` file was changed since it was opened."""
        if self._immutable is None or self._immutable == self._fingerprint():
            return False
        self._immutable = None
        self._disconnect()
        with translated(self.path):
            self._connection = self._open()
        self.generation += 1
        return True

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """One transaction: all of it or nothing, on disk when it ends. Temporary tables are made in one, too."""
        with translated(self.path), self._connection.begin():
            yield self._connection

    def empty_log(self) -> None:
        """Move everything from the write-ahead log into the file."""
        with translated(self.path):
            self._driver().execute("PRAGMA wal_checkpoint(TRUNCATE)").close()

    def copy_to(self, place: Path, *, replace: bool = False) -> None:
        """Write a complete copy, 0600; JournalNotWritable where something stands there, unless ``replace``."""
        if place.is_symlink() or (place.exists() and not replace):
            raise lock.not_writable(place, "it is there already")
        unfinished = place.with_name(place.name + ".part")
        with translated(place):
            unfinished.unlink(missing_ok=True)
            os.close(os.open(unfinished, os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
            try:
                with closing(sqlite3.connect(unfinished)) as copy:
                    self._driver().backup(copy)
                    # At rest it shall be one file.
                    copy.execute("PRAGMA journal_mode=DELETE").fetchall()
                if replace:
                    unfinished.replace(place)
                else:
                    # Unlike a rename, a link refuses what was put there meanwhile.
                    place.hardlink_to(unfinished)
            finally:
                unfinished.unlink(missing_ok=True)
            _sync(place.parent)  # its name, as SQLite synchronised what is in it

    def end_log(self) -> None:
        """Bring everything into the one file, so that its log can never be taken for that of a file in its place.

        JournalLocked (40) while somebody reads it; it may still be written, but must be opened anew for that.
        """
        with translated(self.path):
            # SQLite leaves WAL mode only where no other connection is open, and removes the log then.
            mode = self._driver().execute("PRAGMA journal_mode=DELETE").fetchone()[0]
        if mode != "delete":
            msg = f"the journal {self.path} is being read by another program"
            raise JournalLocked(msg, hint="end it and try again")

    def replace_file(self, made: Path) -> None:
        """Put another database in this one's place: after a crash it is the old one or the new one. Closes it."""
        self.end_log()
        self.close()
        with translated(self.path):
            made.replace(self.path)
            _sync(self.path.parent)

    def _driver(self) -> sqlite3.Connection:
        driver = self._connection.connection.driver_connection
        assert isinstance(driver, sqlite3.Connection)  # noqa: S101 - narrows SQLAlchemy's Any
        return driver

    def _disconnect(self) -> None:
        self._connection.close()
        self._connection.engine.dispose()

    def close(self) -> None:
        """Free everything. Idempotent."""
        self._disconnect()
        if self._copy is not None:
            self._copy.cleanup()
            self._copy = None

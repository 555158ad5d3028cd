"""The connections to one SQLite file: one that writes, one that sees what is committed now, one snapshot.

``mode=ro`` on a file in WAL mode makes ``-wal`` and ``-shm`` beside it, leaves them there, and fails in a read-only
folder (measured, SQLite 3.40.1). So a WAL file that nobody has open is read with ``immutable=1``, and one whose
``-wal`` cannot be used in place is read from a private copy of both. A snapshot of a file that is not in WAL mode would
keep its client from committing, so it is one of a private copy, too (docs/explanation/engines.md).
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from migrator.backends import _sqlite_copy as copies
from migrator.backends import _sqlite_file as files
from migrator.backends import _sqlite_writes as writes
from migrator.errors import StoreRefused, StoreUnreachable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

#: Ids are random, so inserts touch all of an index; SQLite's 2 MB do not hold that of 100,000 rows.
_CACHE_KIB = 32_768
#: A change within one tick of the kernel's clock (10 ms at most) leaves no later time of change.
_TICK_SECONDS = 0.02
_RECENT_NS = 1_000_000_000

_NOBODY = 9
#: Ends with ``_NOBODY`` where no process has a lock on byte 128, SQLite's "dead man's switch", of the file given.
_ASK = f"""
import fcntl, struct, sys
mac = sys.platform == "darwin"
ask = struct.pack("qqihh", 128, 1, 0, fcntl.F_WRLCK, 0) if mac else struct.pack("hhqqi4x", fcntl.F_WRLCK, 0, 128, 1, 0)
told = fcntl.fcntl(open(sys.argv[1], "rb"), fcntl.F_GETLK, ask)
sys.exit({_NOBODY} if struct.unpack_from("h", told, 20 if mac else 0)[0] == fcntl.F_UNLCK else 0)
"""


@dataclass(slots=True, kw_only=True)
class Reading:
    """A connection that only reads."""

    connection: sqlite3.Connection
    origin: Path  #: the store's file
    seen: files.State | None = None  #: of the origin, before it was read; None where SQLite itself notices all changes
    signature: files.Signature | None = None  #: of what is read, where SQLite was told that nobody changes it
    copy: copies.Copy | None = None

    @property
    def path(self) -> Path:
        """What is read: the store's file, or a copy of it."""
        return self.origin if self.copy is None else self.copy.path

    def moved(self) -> bool:
        """Tell whether the store was changed since it was opened, as far as this connection could not see it."""
        return self.seen is not None and files.state_of(self.origin) != self.seen

    def torn(self) -> bool:
        """Tell whether what was read so far may mix two states: a file that is read as immutable was changed."""
        return self.copy is None and self.signature is not None and files.about(self.path) != self.signature

    def steady(self) -> bool:
        """Tell whether no writer can change what another reader of ``path`` sees, unnoticed, while a snapshot is open.

        Without a WAL the snapshot's lock keeps writers out; with ``immutable=1`` :meth:`torn` tells of them.
        """
        return self.signature is not None or self.connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal"

    def close(self) -> None:
        """Close the connection and remove the copy."""
        self.connection.close()
        if self.copy is not None:
            self.copy.close()
            self.copy = None


def open_for_reading(path: Path, *, held: bool = False) -> Reading:
    """Open a database that ``examine`` let pass, without changing or making any file beside it.

    ``held``: it will be read in one transaction for long, so not where that would keep writers out.
    """
    try:
        return _open_for_reading(path, held=held)
    except sqlite3.Error as error:
        raise files.translated(error, path, writing=False) from error
    except OSError as error:
        msg = f"{path} cannot be read: {error.strerror}"
        raise StoreUnreachable(msg, hint="check its permissions") from error


def _open_for_reading(path: Path, *, held: bool) -> Reading:
    seen = files.state_of(path)
    if files.in_wal_mode(path):
        waiting = files.beside(path, "-wal")
        if files.about(waiting) == files.ABSENT:
            _await_tick(seen)
            # Its client opens, writes and closes as it likes: what is read for long is a copy.
            return _immutable(path, seen, copies.recovered(path, "-wal") if held else None)
        if os.access(path.parent, os.W_OK) and os.access(waiting, os.W_OK) and _in_use(files.beside(path, "-shm")):
            return _connected(path, None)
        _await_tick(seen)
        return _immutable(path, seen, copies.recovered(path, "-wal"))
    try:
        if not held:
            return _connected(path, seen)
        _await_tick(seen)
        return _immutable(path, seen, copies.backed_up(path))
    except sqlite3.OperationalError as error:
        # A hot journal of a killed writer has to be rolled back, which a reader of the original must not do.
        if error.sqlite_errorcode & 0xFF not in {sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN}:
            raise
        _await_tick(seen)
        return _immutable(path, seen, copies.recovered(path, "-journal"))


def _connected(path: Path, seen: files.State | None) -> Reading:
    return _touched(Reading(connection=files.connect(path, "mode=ro"), origin=path, seen=seen))


def _immutable(path: Path, seen: files.State, copy: copies.Copy | None) -> Reading:
    read = path if copy is None else copy.path
    signature = seen[0] if copy is None else files.about(read)
    connection = files.connect(read, "mode=ro&immutable=1")
    return _touched(Reading(connection=connection, origin=path, seen=seen, signature=signature, copy=copy))


def _touched(reading: Reading) -> Reading:
    try:
        files.touch(reading.connection)
    except sqlite3.Error:
        reading.close()
        raise
    return reading


def _await_tick(seen: files.State) -> None:
    """Wait where a change could go unnoticed, as it has the same time as the one before."""
    if time.time_ns() - max(seen[0][2], seen[1][2]) < _RECENT_NS:
        time.sleep(_TICK_SECONDS)


def _in_use(shared: Path) -> bool:
    """Tell whether a connection to a WAL file is open, by the lock that each holds on ``-shm`` for as long as it is.

    Without one, SQLite would rebuild the index that a killed client left (https://www.sqlite.org/walformat.html, 2.3).
    Another process asks: closing a file drops every lock that its own process has on it (POSIX, ``fcntl``).
    """
    if not shared.exists():
        return False
    asked = subprocess.run([sys.executable, "-I", "-S", "-c", _ASK, os.fspath(shared)], check=False)  # noqa: S603 - own code
    return asked.returncode != _NOBODY


class Connections:
    """The connections that a backend has open. ``held``: of :func:`open_for_reading`, for its snapshots."""

    def __init__(self, path: Path, *, held: bool) -> None:
        self._path = path
        self._held = held
        self.brief = False  #: what is read next is read so fast that nobody waits for long
        self.writer: sqlite3.Connection | None = None
        self._now: Reading | None = None
        self._frozen: Reading | None = None
        self._released = False
        self._used = False

    @contextlib.contextmanager
    def translating(self, *, writing: bool) -> Iterator[None]:
        """Turn the driver's errors of a block into ours."""
        try:
            yield
        except sqlite3.Error as error:
            raise files.translated(error, self._path, writing=writing) from error

    def connect_writer(self) -> sqlite3.Connection:
        """Open the connection that writes; it is the reader, too, from now on."""
        with self.translating(writing=True):
            connection = files.connect(self._path, "mode=rw")
            connection.execute("PRAGMA foreign_keys=OFF")
            connection.execute("PRAGMA synchronous=FULL")
            connection.execute(f"PRAGMA cache_size=-{_CACHE_KIB}")
        self.writer = connection
        return connection

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Run a block under BEGIN IMMEDIATE; see ``_sqlite_writes.transaction`` for its errors."""
        # In a file without WAL our own reader would keep our own commit out.
        self.release_snapshot()
        connection = self.writer
        if connection is None:
            msg = f"{self._path} does not exist yet"
            raise StoreRefused(msg, hint="its tables have to be made first")
        with writes.transaction(connection, self._path):
            yield connection

    def reader(self) -> sqlite3.Connection:
        """Return a connection that sees what is committed now."""
        if self.writer is not None:
            return self.writer
        if self._now is not None and self._now.moved():
            self._now.close()
            self._now = None
        if self._now is None:
            self._now = open_for_reading(self._path)
        return self._now.connection

    def refuse_truncated(self) -> None:
        """Raise StoreRefused where the file, or the copy that is read in its place, ends too early."""
        if self.writer is not None:
            with self.transaction() as connection, self.translating(writing=False):
                files.refuse_truncated(connection, self._path)
            return
        connection = self.reader()
        with self.translating(writing=False):
            connection.execute("BEGIN")
            try:
                files.touch(connection)
                files.refuse_truncated(connection, self._path if self._now is None else self._now.path)
            finally:
                connection.execute("ROLLBACK")

    def snapshot(self) -> sqlite3.Connection:
        """Return a connection in one read transaction, until :meth:`release_snapshot`."""
        frozen = self._frozen
        if frozen is not None and frozen.torn() and self._used:
            message = f"{self._path} was changed while it was read"
            raise StoreRefused(message, hint="run again; nothing is believed of what was read")
        if frozen is not None and (frozen.torn() or (self._released and frozen.moved())):
            self._end_snapshot()
            frozen = None
        self._released = False
        if frozen is None:
            if self.writer is not None:
                frozen = Reading(connection=files.connect(self._path, "mode=rw"), origin=self._path)
            else:
                frozen = open_for_reading(self._path, held=self._held and not self.brief)
            self._frozen = frozen
            self._used = False
            frozen.connection.execute("BEGIN")
            files.touch(frozen.connection)
        return frozen.connection

    @property
    def path(self) -> Path:
        """The file that the snapshot reads."""
        return self._path if self._frozen is None else self._frozen.path

    @property
    def signature(self) -> files.Signature | None:
        """The signature that the snapshot shows, where it is read as immutable."""
        return None if self._frozen is None else self._frozen.signature

    def steady(self) -> bool:
        """Tell whether another process that reads :attr:`path` sees what the snapshot shows; False without one."""
        return self._frozen is not None and self._frozen.steady()

    def believe(self) -> None:
        """Hear that something of the snapshot was used: it must not move any more."""
        self._used = True

    def release_snapshot(self) -> None:
        """End the snapshot, if any. A copy is kept, as it is taken again where the store has not moved."""
        self._released = True
        if self._frozen is not None and self._frozen.copy is None:
            self._end_snapshot()

    def _end_snapshot(self) -> None:
        if self._frozen is not None:
            self._frozen.close()
            self._frozen = None

    def close(self) -> None:
        """Close every connection and remove the copies. Idempotent."""
        self._end_snapshot()
        if self._now is not None:
            self._now.close()
            self._now = None
        if self.writer is not None:
            self.writer.close()
            self.writer = None

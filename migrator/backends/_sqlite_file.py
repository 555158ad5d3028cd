"""Opening SQLite files: what is no store is refused by name, and reading leaves no trace.

``mode=ro`` on a file in WAL mode makes ``-wal`` and ``-shm`` beside it, leaves them there, and fails in a read-only
folder (measured, SQLite 3.40.1). So a WAL file that nobody has open is read with ``immutable=1``, and one whose
``-wal`` cannot be used in place is read from a temporary copy of both.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from migrator.errors import MemmigError, StoreRefused, StoreUnreachable, TargetFull

if TYPE_CHECKING:
    from migrator.models import Role

BUSY_SECONDS = 10.0
_HEADER_BYTES = 100
_MAGIC = b"SQLite format 3\0"
_WAL_VERSION = 2
_COPY_ATTEMPTS = 5

_NOBODY = 9
#: Ends with ``_NOBODY`` where no process has a lock on byte 128, SQLite's "dead man's switch", of the file given.
_ASK = f"""
import fcntl, struct, sys
mac = sys.platform == "darwin"
ask = struct.pack("qqihh", 128, 1, 0, fcntl.F_WRLCK, 0) if mac else struct.pack("hhqqi4x", fcntl.F_WRLCK, 0, 128, 1, 0)
told = fcntl.fcntl(open(sys.argv[1], "rb"), fcntl.F_GETLK, ask)
sys.exit({_NOBODY} if struct.unpack_from("h", told, 20 if mac else 0)[0] == fcntl.F_UNLCK else 0)
"""

_BUSY = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
_FULL = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_NOMEM}
_NO_ACCESS = {sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH}


def translated(error: sqlite3.Error, path: Path, *, writing: bool) -> MemmigError:
    """Return what a driver's error means; for a write that was rolled back, or for a read."""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
    if code in _BUSY:
        message = f"{path} is locked by another process for more than {BUSY_SECONDS:.0f} s"
        hint = "end or wait for the program that has it open, then run again"
        return TargetFull(message, hint=hint) if writing else StoreUnreachable(message, hint=hint)
    if writing and code in _FULL:
        return TargetFull(f"{path} cannot be written: {error}", hint="free space on its disk, then run again")
    if not writing and code in _NO_ACCESS:
        return StoreUnreachable(f"{path} cannot be opened: {error}", hint="check the path and its permissions")
    return StoreRefused(
        f"{path} cannot be used: {error}", hint="check the file with: sqlite3 FILE 'PRAGMA quick_check'"
    )


def connect(path: Path, parameters: str) -> sqlite3.Connection:
    """Open a file by URI (``mode=ro``, ``mode=rw``, ``mode=ro&immutable=1``) without implicit transactions."""
    uri = f"file:{quote(os.fsencode(path))}?{parameters}"
    return sqlite3.connect(uri, uri=True, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)


def beside(path: Path, suffix: str) -> Path:
    """Return the path of SQLite's companion file: ``-wal``, ``-shm`` or ``-journal``."""
    return path.with_name(path.name + suffix)


def examine(path: Path, role: Role) -> bool:
    """Tell whether a SQLite database stands at the path; False for a target that is absent or has no bytes.

    Raises StoreUnreachable for a missing source, StoreRefused for what is no database or ends before its time.
    """
    try:
        if not path.exists():
            if role == "from":
                msg = f"{path} does not exist"
                raise StoreUnreachable(msg, hint="check the path; memmig never makes a source")
            return False
        if not path.is_file():
            what = "a folder" if path.is_dir() else "no regular file"
            msg = f"{path} is {what}, not a SQLite file"
            raise StoreRefused(msg, hint="give the path of the file itself")
        size = path.stat().st_size
        with path.open("rb") as file:
            header = file.read(_HEADER_BYTES)
    except OSError as error:
        msg = f"{path} cannot be read: {error.strerror}"
        raise StoreUnreachable(msg, hint="check its permissions") from error
    if not header and role == "to":
        return False
    if not header:
        msg = f"{path} is empty"
        raise StoreRefused(msg, hint="an empty file is no store; check the path")
    if not header.startswith(_MAGIC):
        msg = f"{path} is not a SQLite database"
        raise StoreRefused(msg, hint="check the path")
    _refuse_truncated(path, size, header)
    return True


def _refuse_truncated(path: Path, size: int, header: bytes) -> None:
    if len(header) == _HEADER_BYTES:
        page = int.from_bytes(header[16:18])
        page = 65_536 if page == 1 else page
        # The count is valid only where the last writer kept it up to date, and a -wal may hold the rest.
        trusted = header[24:28] == header[92:96]
        pages = int.from_bytes(header[28:32]) if trusted else 1
        waiting = beside(path, "-wal")
        if (page and size >= page * pages and size % page == 0) or (waiting.exists() and waiting.stat().st_size):
            return
    message = f"{path} is truncated: {size} bytes, fewer than its header tells"
    raise StoreRefused(message, hint="restore the file from a backup")


def refuse_unwritable(path: Path) -> None:
    """Raise StoreRefused where a target, or the folder that would hold it, is missing or read-only."""
    folder = path.parent
    if not folder.is_dir():
        msg = f"the folder {folder} does not exist"
        raise StoreRefused(msg, hint="make it, then run again")
    if not os.access(folder, os.W_OK | os.X_OK):
        msg = f"the folder {folder} is read-only"
        raise StoreRefused(msg, hint="SQLite needs to make files beside the target")
    if path.exists() and not os.access(path, os.W_OK):
        msg = f"{path} is read-only"
        raise StoreRefused(msg, hint="make it writable, then run again")


type Signature = tuple[int, int, int, bytes]


def _signature(path: Path) -> Signature:
    with path.open("rb") as file:
        about = os.fstat(file.fileno())
        header = file.read(_HEADER_BYTES)
    return about.st_ino, about.st_size, about.st_mtime_ns, header[24:28]


@dataclass(slots=True, kw_only=True)
class Reading:
    """A connection that only reads. ``signature`` is set where SQLite itself would not notice another writer."""

    connection: sqlite3.Connection
    path: Path
    signature: Signature | None = None
    folder: tempfile.TemporaryDirectory[str] | None = None
    waiting: tuple[int, int] = (0, 0)  #: of a copy: size and time of the ``-wal`` that was copied

    def moved(self) -> bool:
        """Tell whether the file was changed since it was opened, as far as this connection could not see it."""
        if self.signature is None:
            return False
        return _signature(self.path) != self.signature or _wal_state(self.path) != self.waiting

    def torn(self) -> bool:
        """Tell whether what was read so far may mix two states: with ``immutable=1`` the main file itself changed."""
        return self.signature is not None and self.folder is None and _signature(self.path) != self.signature

    def steady(self) -> bool:
        """Tell whether no writer can change what another reader sees, unnoticed, for as long as a snapshot is open.

        Without a WAL the snapshot's lock keeps writers out; with ``immutable=1`` :meth:`torn` tells of them.
        """
        if self.folder is not None:
            return False
        return self.signature is not None or self.connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal"

    def close(self) -> None:
        """Close the connection and remove the temporary copy."""
        self.connection.close()
        if self.folder is not None:
            self.folder.cleanup()


def _wal_state(path: Path) -> tuple[int, int]:
    """Return size and time of change of a file's ``-wal``; zeros for one that is absent or empty."""
    try:
        about = beside(path, "-wal").stat()
    except OSError:
        return 0, 0
    return (about.st_size, about.st_mtime_ns) if about.st_size else (0, 0)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def open_for_reading(path: Path) -> Reading:
    """Open a database that :func:`examine` let pass, without changing or making any file beside it."""
    try:
        return _open_for_reading(path)
    except sqlite3.Error as error:
        raise translated(error, path, writing=False) from error
    except OSError as error:
        msg = f"{path} cannot be read: {error.strerror}"
        raise StoreUnreachable(msg, hint="check its permissions") from error


def _open_for_reading(path: Path) -> Reading:
    with path.open("rb") as file:
        header = file.read(_HEADER_BYTES)
    if _WAL_VERSION not in header[18:20]:
        reading = Reading(connection=connect(path, "mode=ro"), path=path)
        try:
            _touch(reading.connection)
        except sqlite3.OperationalError as error:
            reading.close()
            # A hot journal of a killed writer has to be rolled back, which a reader of the original must not do.
            if error.sqlite_errorcode & 0xFF not in {sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN}:
                raise
            return _copied(path, "-journal")
        return reading
    waiting = beside(path, "-wal")
    if _size(waiting) == 0:
        signature = _signature(path)
        reading = Reading(connection=connect(path, "mode=ro&immutable=1"), path=path, signature=signature)
    elif os.access(path.parent, os.W_OK) and os.access(waiting, os.W_OK) and _in_use(beside(path, "-shm")):
        reading = Reading(connection=connect(path, "mode=ro"), path=path)
    else:
        return _copied(path, "-wal")
    try:
        _touch(reading.connection)
    except sqlite3.Error:
        reading.close()
        raise
    return reading


def _in_use(shared: Path) -> bool:
    """Tell whether a connection to a WAL file is open, by the lock that each holds on ``-shm`` for as long as it is.

    Without one, SQLite would rebuild the index that a killed client left (https://www.sqlite.org/walformat.html, 2.3).
    Another process asks: closing a file drops every lock that its own process has on it (POSIX, ``fcntl``).
    """
    if not shared.exists():
        return False
    asked = subprocess.run([sys.executable, "-I", "-S", "-c", _ASK, os.fspath(shared)], check=False)  # noqa: S603 - own code
    return asked.returncode != _NOBODY


def _touch(connection: sqlite3.Connection) -> None:
    connection.execute("SELECT count(*) FROM sqlite_master").fetchone()


def _copied(path: Path, suffix: str) -> Reading:
    companion = beside(path, suffix)
    folder = tempfile.TemporaryDirectory(prefix="memmig-")
    try:
        copy = Path(folder.name) / "copy.db"
        for _ in range(_COPY_ATTEMPTS):
            waiting = _wal_state(path)
            before = _signature(path), _head(companion)
            shutil.copyfile(path, copy)
            beside(copy, suffix).unlink(missing_ok=True)
            with contextlib.suppress(FileNotFoundError):
                shutil.copyfile(companion, beside(copy, suffix))
            # A frame that is being appended lacks its commit and is left out; only a checkpoint would mix two states.
            if before == (_signature(path), _head(companion)):
                connection = connect(copy, "mode=rw")
                _touch(connection)
                return Reading(connection=connection, path=path, signature=before[0], folder=folder, waiting=waiting)
    except BaseException:
        folder.cleanup()
        raise
    folder.cleanup()
    msg = f"{path} is being changed all the time"
    raise StoreUnreachable(msg, hint="run again when its program rests")


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(32)
    except FileNotFoundError:
        return b""

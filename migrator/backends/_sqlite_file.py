"""SQLite files: opening one by URI, what its path, size and times tell, and what the driver's errors mean.

POSIX drops every lock that a process has on a file when it closes any descriptor of it, so a store's file is never
opened but through SQLite, which keeps its own descriptors until their locks are gone
(https://www.sqlite.org/howtocorrupt.html, 2.2).
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING
from urllib.parse import quote

from migrator.errors import MemmigError, StoreRefused, StoreUnreachable, TargetFull

if TYPE_CHECKING:
    from pathlib import Path

    from migrator.models import Role

BUSY_SECONDS = 10.0

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
    # A target that was open has no room, or no access any more, for what SQLite opens beside it.
    if writing and code in {*_FULL, sqlite3.SQLITE_CANTOPEN}:
        return TargetFull(f"{path} cannot be written: {error}", hint="free space on its disk, or mend the disk")
    if not writing and code in _NO_ACCESS:
        return StoreUnreachable(f"{path} cannot be opened: {error}", hint="check the path and its permissions")
    if code == sqlite3.SQLITE_NOTADB:
        return StoreRefused(f"{path} is not a SQLite database", hint="check the path")
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


def touch(connection: sqlite3.Connection) -> None:
    """Read the first page: SQLite opens files late."""
    connection.execute("SELECT count(*) FROM sqlite_master").fetchone()


def examine(path: Path, role: Role) -> bool:
    """Tell whether a file with bytes stands at the path; False for a target that is absent or has none.

    Raises StoreUnreachable for a source that is missing or cannot be read, StoreRefused for what is no file.
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
        empty = path.stat().st_size == 0
    except OSError as error:
        msg = f"{path} cannot be read: {error.strerror}"
        raise StoreUnreachable(msg, hint="check its permissions") from error
    if empty and role == "from":
        msg = f"{path} is empty"
        raise StoreRefused(msg, hint="an empty file is no store; check the path")
    if not os.access(path, os.R_OK):
        msg = f"{path} cannot be read: permission denied"
        raise StoreUnreachable(msg, hint="check its permissions")
    return not empty


def in_wal_mode(path: Path) -> bool:
    """Tell whether a file is in WAL mode, by SQLite's refusal to use a WAL without locks; False for what is damaged.

    A connection that may lock would make ``-wal`` and ``-shm``, and to one with ``immutable=1`` no file is in WAL mode.
    """
    with closing(connect(path, "mode=ro&nolock=1")) as connection:
        try:
            touch(connection)
        except sqlite3.DatabaseError as error:
            return error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_CANTOPEN
    return False


def refuse_truncated(connection: sqlite3.Connection, path: Path) -> None:
    """Raise StoreRefused where a file ends within its last page; SQLite itself finds pages that are missing.

    Within a transaction, or another writer may be about to make the file longer.
    """
    if about(beside(path, "-wal")) != ABSENT:
        return
    pages, page = (connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "page_size"))
    size = path.stat().st_size
    if size < pages * page:
        message = f"{path} is truncated: {size} bytes, fewer than its {pages} pages of {page} bytes"
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


#: Inode, size and time of change in nanoseconds.
type Signature = tuple[int, int, int]
ABSENT: Signature = (0, 0, 0)


def about(path: Path) -> Signature:
    """Return the signature of a file; ABSENT where there is none, or one without bytes."""
    try:
        found = path.stat()
    except OSError:
        return ABSENT
    return (found.st_ino, found.st_size, found.st_mtime_ns) if found.st_size else ABSENT


type State = tuple[Signature, Signature]


def state_of(path: Path) -> State:
    """Return what tells whether a store was changed: the signatures of its file and of its ``-wal``."""
    return about(path), about(beside(path, "-wal"))

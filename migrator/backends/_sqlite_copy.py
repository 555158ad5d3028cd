"""Private copies of SQLite files: of a source whose client must not wait, and of what a killed client left.

A copy stands in a folder of its own, for nobody but us, under the system's temporary folder. It is in WAL mode and
complete without a ``-wal``, so it is read as immutable, by a second process, too. The folder goes when it is closed;
what a killed process left goes when the next copy is made.
"""

from __future__ import annotations

import contextlib
import errno
import shutil
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

from migrator.backends import _folders as folders
from migrator.backends import _sqlite_file as files
from migrator.errors import StoreUnreachable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_ATTEMPTS = 5
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_CANNOT_WRITE = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN}


class Copy:
    """A folder with room for one copy, at ``path``. Locked as long as it lives."""

    def __init__(self) -> None:
        self._folder = folders.make()
        self.path = self._folder / "copy.db"

    def close(self) -> None:
        """Remove it. Never raises."""
        folders.remove(self._folder)


@contextlib.contextmanager
def _made(path: Path) -> Iterator[Copy]:
    """Make a copy's folder, removed again where the block fails; StoreUnreachable where there is no room."""
    try:
        copy = Copy()
    except OSError as error:
        raise _no_room(path, error) from error
    try:
        yield copy
    except BaseException as error:
        copy.close()
        if isinstance(error, OSError) and error.errno in _NO_ROOM:
            raise _no_room(path, error) from error
        raise


@contextlib.contextmanager
def _written(path: Path, copy: Copy, parameters: str) -> Iterator[sqlite3.Connection]:
    """Open the copy of a file for writing; nothing of it needs to survive a loss of power."""
    try:
        with closing(files.connect(copy.path, parameters)) as connection:
            connection.execute("PRAGMA synchronous=OFF")
            yield connection
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode & 0xFF not in _CANNOT_WRITE:
            raise
        raise _no_room(path, error) from error


def _no_room(path: Path, error: Exception) -> StoreUnreachable:
    message = f"{path} cannot be copied into the temporary folder, where it would be read: {error}"
    return StoreUnreachable(message, hint="make room there, or name another folder with TMPDIR")


def backed_up(path: Path) -> Copy:
    """Return a copy of a file that is not in WAL mode; its writers wait only while it is made.

    Raises sqlite3.Error, with SQLITE_READONLY where a killed writer's journal has to be rolled back first.
    """
    with _made(path) as copy:
        with closing(files.connect(path, "mode=ro")) as source:
            # The backup itself would wait for a writer for ever.
            source.execute("BEGIN")
            files.touch(source)
            with _written(path, copy, "mode=rwc") as target:
                source.backup(target)
        _finish(path, copy)
        return copy


def recovered(path: Path, suffix: str) -> Copy:
    """Return a copy of a file and what a killed client left beside it (``-wal`` or ``-journal``), in one state.

    The file is copied byte by byte: no connection of this process can be open on it, or it were not left behind.
    """
    companion = files.beside(path, suffix)
    with _made(path) as copy:
        for _ in range(_ATTEMPTS):
            before = files.about(path), _head(companion)
            shutil.copyfile(path, copy.path)
            left = files.beside(copy.path, suffix)
            left.unlink(missing_ok=True)
            with contextlib.suppress(FileNotFoundError):
                shutil.copyfile(companion, left)
            # A frame that is being appended lacks its commit and is left out; only a checkpoint would mix two states.
            if before == (files.about(path), _head(companion)):
                _finish(path, copy)
                return copy
        msg = f"{path} is being changed all the time"
        raise StoreUnreachable(msg, hint="run again when its program rests")


def _finish(path: Path, copy: Copy) -> None:
    """Roll back or move in what stands beside a copy, and leave it at rest in WAL mode."""
    with _written(path, copy, "mode=rw") as connection:
        files.touch(connection)
        connection.execute("PRAGMA journal_mode=WAL").fetchone()


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(32)
    except FileNotFoundError:
        return b""

"""The journal's file and its lock: one writing process at a time, no symbolic links, nobody else may read."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from journal.errors import JournalDamaged, JournalLocked, JournalNotWritable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_OTHERS = 0o077
_MAGIC = b"SQLite format 3\0"
_HEADER = 100
#: The header's versions for writing and reading: a backup's, and a journal's (WAL).
_VERSIONS = (b"\1\1", b"\2\2")


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def lock_path(path: Path) -> Path:
    """Return the place of the journal's lock file. It is never unlinked: that would let two processes hold it."""
    return _beside(path, ".lock")


def wal_path(path: Path) -> Path:
    """Return the place of the journal's write-ahead log."""
    return _beside(path, "-wal")


def shm_path(path: Path) -> Path:
    """Return the place of the journal's shared memory."""
    return _beside(path, "-shm")


def refuse_links(path: Path) -> None:
    """Raise JournalDamaged where the journal or a file beside it is a symbolic link, or the journal is no file."""
    for place in (path, lock_path(path), wal_path(path), shm_path(path)):
        try:
            mode = place.lstat().st_mode
        except OSError:
            continue
        if stat.S_ISLNK(mode):
            msg = f"{place} is a symbolic link; a journal must be a file of its own"
            raise JournalDamaged(msg, hint="give the real path with --journal")
        if not stat.S_ISREG(mode):
            msg = f"{place} is not a file, so it is no journal"
            raise JournalDamaged(msg, hint="give the path of a file with --journal")


def refuse_garbage(path: Path) -> None:
    """Raise JournalDamaged where the file does not begin as a database does. An empty or missing one passes."""
    try:
        with path.open("rb") as file:
            head = file.read(_HEADER)
    except FileNotFoundError:
        return
    if head and not head.startswith(_MAGIC):
        msg = f"{path} is not a journal"
        raise JournalDamaged(msg, hint="give another path with --journal")
    # SQLite's own check does not compare the first free page with the number of free pages, and fails in a write.
    if head and (head[18:20] not in _VERSIONS or any(head[32:36]) != any(head[36:40])):
        msg = f"the journal {path} is damaged: its header contradicts itself"
        raise JournalDamaged(msg, hint="nothing repairs it: keep it, go on with a backup or another --journal")


def holder(path: Path) -> int | None:
    """Return the pid of the live process that holds the lock, 0 where it is not known, None for nobody.

    Makes no file.
    """
    try:
        handle = os.open(lock_path(path), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        text = os.read(handle, 32).strip()
        return int(text) if text.isdigit() else 0
    except OSError:
        return None
    else:
        return None
    finally:
        os.close(handle)


def locked(path: Path, pid: int) -> JournalLocked:
    """Return the error that says who holds the lock."""
    owner = f"process {pid}" if pid else "another process"
    return JournalLocked(
        f"the journal {path} is in use by {owner}", hint="wait for it to end, or use another --journal"
    )


class Lock:
    """The exclusive lock, held until :meth:`release` or the end of the process, kill -9 included (flock)."""

    def __init__(self, path: Path) -> None:
        """Take it, or raise JournalLocked."""
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        self._handle: int | None = os.open(lock_path(path), flags, 0o600)
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self.release()
            if error.errno in {errno.EAGAIN, errno.EACCES}:
                raise locked(path, holder(path) or 0) from error
            raise
        os.ftruncate(self._handle, 0)
        # A full disk must not keep anyone from the lock; the pid only makes a message friendlier.
        with suppress(OSError):
            os.write(self._handle, f"{os.getpid()}\n".encode())

    def release(self) -> None:
        """Give it back. Idempotent."""
        handle, self._handle = self._handle, None
        if handle is not None:
            os.close(handle)


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn the system's errors while a journal is looked at into JournalNotWritable."""
    try:
        yield
    except OSError as error:
        raise not_writable(path, error.strerror or str(error)) from error


def make_folder(path: Path) -> list[str]:
    """Make the journal's folder (0700) where it is missing; return a warning where others can enter it."""
    with reading(path):
        if not path.parent.exists():
            path.parent.mkdir(mode=0o700, parents=True)
        return _open_to_others(path.parent)


def make_file(path: Path) -> list[str]:
    """Make the journal's file (0600) where it is missing; return a warning where others can read it."""
    with reading(path):
        with suppress(FileExistsError):
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
        return _open_to_others(path)


def _open_to_others(place: Path) -> list[str]:
    if place.stat().st_mode & _OTHERS:
        return [f"{place} can be read or entered by other users of this machine"]
    return []


def not_writable(path: Path, why: str) -> JournalNotWritable:
    """Return the error that says that, and why, the journal cannot be written."""
    msg = f"the journal {path} cannot be written: {why}"
    return JournalNotWritable(msg, hint="make room or give another path with --journal; nothing more was sent")

"""Temporary folders that a killed process leaves behind, and that the next one takes away.

In each stands a file ``owner``, locked by flock for as long as memmig, or a server that inherited it, lives, in
whatever container: process ids prove nothing where several share a folder for temporary files.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import time
from contextlib import suppress
from pathlib import Path

_PREFIX = "memmig-tmp-"
_OWNER = "owner"
_NEW_SECONDS = 60.0  #: one so young may be about to be locked

_locks: dict[Path, int] = {}


def make(within: str | None = None) -> Path:
    """Make one that is ours, and take away what dead processes left; ``within``: not in the usual place."""
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=within))
    _sweep(folder.parent)
    _locks[folder] = os.open(folder / _OWNER, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    # Where there are no locks nothing is swept, either.
    with suppress(OSError):
        fcntl.flock(_locks[folder], fcntl.LOCK_EX)
    return folder


def lock_of(folder: Path) -> int:
    """Return the file that a server inherits, so that the folder counts as in use while it lives."""
    return _locks[folder]


def remove(folder: Path) -> None:
    """Remove one, if it is there. Never raises."""
    shutil.rmtree(folder, ignore_errors=True)
    if (lock := _locks.pop(folder, None)) is not None:
        os.close(lock)


def _sweep(place: Path) -> None:
    for owner in place.glob(f"{_PREFIX}*/{_OWNER}"):
        with suppress(OSError):
            found = owner.stat(follow_symlinks=False)
            theirs = {found.st_uid, owner.parent.stat(follow_symlinks=False).st_uid} != {os.geteuid()}
            if theirs or time.time() - found.st_mtime < _NEW_SECONDS:
                continue
            file = os.open(owner, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(owner.parent, ignore_errors=True)
            finally:
                os.close(file)

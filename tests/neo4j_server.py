"""A Neo4j server of our own, from Maven Central: no Docker needed, only a JDK (17 or later) and Maven.

The jars stand in the user's cache folder (``MEMMIG_TEST_CACHE`` says another); a download happens once, under a lock.
"""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import shutil
import subprocess
import tempfile
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from tests.server_process import ServerProcess

if TYPE_CHECKING:
    from collections.abc import Iterator

#: JDK that it needs at least → version, main class.
VERSIONS = {
    21: ("2025.09.0", "org.neo4j.server.Neo4jCommunity"),
    17: ("5.26.25", "org.neo4j.server.CommunityEntryPoint"),
}
DEFAULT = "5.26.25"
CHOICE = "MEMMIG_TEST_NEO4J"  #: a version of the above, instead of the default

_POM = """<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>
<groupId>local</groupId><artifactId>neo4j-for-tests</artifactId><version>1</version><dependencies>
<dependency><groupId>org.neo4j</groupId><artifactId>neo4j</artifactId><version>{0}</version></dependency>
<dependency><groupId>org.neo4j.app</groupId><artifactId>neo4j-server</artifactId><version>{0}</version></dependency>
</dependencies></project>
"""


class NotHereError(Exception):
    """Why no Neo4j can be run on this machine, in one line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Installation:
    """What a server is started from."""

    version: str
    java: str
    main: str
    jars: Path


def _javas() -> dict[int, str]:
    """Return the JDKs of this machine by their major version."""
    homes = [os.environ.get("JAVA_HOME", ""), *map(str, sorted(Path("/usr/lib/jvm").glob("*")))]
    candidates = [shutil.which("java") or "", *(f"{home}/bin/java" for home in homes if home)]
    found: dict[int, str] = {}
    for java in candidates:
        if not java or not Path(java).exists():
            continue
        with suppress(OSError, subprocess.SubprocessError):
            said = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=30, check=True).stderr
            major = re.search(r'version "(\d+)', said)
            if major:
                found.setdefault(int(major[1]), java)
    return found


@cache
def installation(version: str = "") -> Installation:
    """Return an installation, downloaded where it is not there yet; NotHereError otherwise."""
    version = version or os.environ.get(CHOICE, DEFAULT)
    wanted = {name: (least, main) for least, (name, main) in VERSIONS.items()}
    if version not in wanted:
        message = f"{CHOICE} is one of {', '.join(wanted)}, not {version}"
        raise NotHereError(message)
    least, main = wanted[version]
    java = next((path for major, path in sorted(_javas().items()) if major >= least), None)
    if java is None:
        message = f"no JDK {least} or later"
        raise NotHereError(message)
    return Installation(version=version, java=java, main=main, jars=_jars(version))


def _jars(version: str) -> Path:
    root = Path(os.environ.get("MEMMIG_TEST_CACHE") or os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = root / "memmig-tests" / f"neo4j-{version}"
    complete = folder / "complete"
    if complete.exists():
        return folder / "lib"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not complete.exists():
            _download(version, folder)
            complete.touch()
    return folder / "lib"


def _download(version: str, folder: Path) -> None:
    maven = shutil.which("mvn")
    if maven is None:
        message = "no mvn to download it with"
        raise NotHereError(message)
    shutil.rmtree(folder / "lib", ignore_errors=True)
    (folder / "pom.xml").write_text(_POM.format(version))
    goal = ["dependency:copy-dependencies", "-DincludeScope=runtime", f"-DoutputDirectory={folder / 'lib'}"]
    try:
        subprocess.run([maven, "-q", "-B", *goal], cwd=folder, capture_output=True, text=True, timeout=600, check=True)
    except subprocess.SubprocessError as error:
        last = (getattr(error, "stdout", None) or str(error)).strip().splitlines()
        message = f"the download failed: {last[0][:200] if last else error}"
        raise NotHereError(message) from error


def _free_port() -> int:
    from tests.engines import free_port

    return free_port()


@dataclass(slots=True)
class Neo4jServer(ServerProcess):
    """A Neo4j of our own. ``kill`` is kill -9; ``start`` again brings it back on the same port and data."""

    folder: Path
    version: str = ""
    settings: dict[str, str] = field(default_factory=dict)  #: further lines of neo4j.conf
    java_options: tuple[str, ...] = ("-XX:TieredStopAtLevel=1",)
    port: int = field(default_factory=_free_port)
    user: str = "neo4j"
    password: str = field(default_factory=lambda: secrets.token_urlsafe(12), repr=False)
    _process: subprocess.Popen[bytes] | None = None
    _ready: bool = False

    def start(self) -> Self:
        """Start and wait until it answers; the first time, set the password."""
        here = installation(self.version)
        conf = {
            "server.default_listen_address": "127.0.0.1",
            "server.bolt.listen_address": f":{self.port}",
            "server.bolt.advertised_address": f"127.0.0.1:{self.port}",
            "server.http.enabled": "false",
            "server.https.enabled": "false",
            "dbms.usage_report.enabled": "false",
            "server.memory.pagecache.size": "64m",
            "db.logs.query.enabled": "OFF",
            **self.settings,
        }
        (self.folder / "conf").mkdir(parents=True, exist_ok=True)
        lines = "".join(f"{name}={value}\n" for name, value in conf.items())
        (self.folder / "conf" / "neo4j.conf").write_text(lines)
        # A small heap keeps several servers beside each other; the serial collector spares their threads, and without
        # the optimizing compiler a server that lives for minutes takes half the processor time [measured].
        java = [here.java, "-Xms256m", "-Xmx768m", "-XX:+UseSerialGC", *self.java_options, "-cp", f"{here.jars}/*"]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [*java, here.main, f"--home-dir={self.folder}", f"--config-dir={self.folder / 'conf'}"],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
            )
        self._wait()
        return self

    def _wait(self) -> None:
        from neo4j import exceptions

        deadline = time.monotonic() + 120
        while True:
            assert self._process is not None
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                message = f"the server did not start: {(self.folder / 'log').read_text(errors='replace')[-2000:]}"
                raise RuntimeError(message)
            try:
                if not self._ready:
                    with self.client(password="neo4j") as client, client.session(database="system") as session:
                        change = "ALTER CURRENT USER SET PASSWORD FROM 'neo4j' TO $new"
                        session.run(change, new=self.password).consume()
                    self._ready = True
                self.run("RETURN 1")
            except (exceptions.DriverError, exceptions.Neo4jError, OSError):
                time.sleep(0.1)
            else:
                return

    def client(self, *, password: str = "") -> Any:
        """Return a plain driver, which shares no code with memmig; close it (``with``)."""
        import neo4j

        return neo4j.GraphDatabase.driver(
            f"bolt://127.0.0.1:{self.port}",
            auth=(self.user, password or self.password),
            connection_timeout=5,
            telemetry_disabled=True,
            notifications_min_severity="OFF",
        )

    def run(self, query: str, **parameters: Any) -> list[list[Any]]:
        """Run a statement as a foreign program would, and return its rows."""
        with self.client() as client, client.session() as session:
            return [list(row.values()) for row in session.run(query, **parameters)]

    def empty(self) -> None:
        """Delete everything: records, constraints, indexes."""
        with self.client() as client, client.session() as session:
            every = "MATCH (n) CALL { WITH n DETACH DELETE n } IN TRANSACTIONS OF 2000 ROWS"
            session.run(every).consume()
            for row in list(session.run("SHOW CONSTRAINTS YIELD name")):
                session.run(f"DROP CONSTRAINT `{row['name']}`").consume()
            for row in list(session.run("SHOW INDEXES YIELD name, type WHERE type <> 'LOOKUP'")):
                session.run(f"DROP INDEX `{row['name']}` IF EXISTS").consume()


@contextmanager
def neo4j_server(**more: Any) -> Iterator[Neo4jServer]:
    """Run a server in a folder of its own; both are gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="memmig-test-neo4j-"))
    server = Neo4jServer(folder / "home", **more)
    try:
        yield server.start()
    finally:
        server.kill()
        shutil.rmtree(folder, ignore_errors=True)

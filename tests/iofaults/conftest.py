"""Worlds of the I/O fault tests, and the process that runs memmig for them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.iofaults.forks import Forks
from tests.iofaults.worlds import FaultWorld

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture(scope="session")
def forks() -> Iterator[Forks]:
    """A process that has memmig loaded."""
    with Forks() as running:
        yield running


@pytest.fixture(scope="session")
def world_of(tmp_path_factory: pytest.TempPathFactory, forks: Forks) -> Callable[[str], FaultWorld]:
    """Give the one world of a kind of target, of which an undisturbed run has been seen."""
    worlds: dict[str, FaultWorld] = {}

    def find(kind: str) -> FaultWorld:
        if kind not in worlds:
            folder = tmp_path_factory.mktemp("io") / "w"
            worlds[kind] = FaultWorld(folder, kind, fresh="new" in kind, forks=forks)
            worlds[kind].prepare()
        return worlds[kind]

    return find


@pytest.fixture
def world(request: pytest.FixtureRequest, world_of: Callable[[str], FaultWorld]) -> FaultWorld:
    """A kind of target."""
    return world_of(request.param)

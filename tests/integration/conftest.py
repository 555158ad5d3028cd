"""Places of every kind, and a second Neo4j: a community server has one database, and no store is moved onto itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.integration.stores_of_all_kinds import Places
from tests.neo4j_server import neo4j_server as new_neo4j_server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.neo4j_server import Neo4jServer


@pytest.fixture(scope="session")
def second_neo4j_session(neo4j_session: Neo4jServer) -> Iterator[Neo4jServer]:  # noqa: ARG001 - it says why there is none
    """Another server for the whole run (of a worker)."""
    with new_neo4j_server() as server:
        yield server


@pytest.fixture
def second_neo4j_server(second_neo4j_session: Neo4jServer) -> Neo4jServer:
    """A second running server without data."""
    second_neo4j_session.empty()
    return second_neo4j_session


@pytest.fixture
def places(tmp_path: Path, request: pytest.FixtureRequest) -> Places:
    return Places(tmp_path, request)

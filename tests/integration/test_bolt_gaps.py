"""Maps like natives, writers in gaps, and schemas that others hold up: on a real Neo4j and a real Memgraph."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from migrator.backends.base import Batch, Row, WriteOutcome
from migrator.backends.memgraph import MemgraphBackend
from migrator.codec import dump_raw, load_raw
from migrator.model import Corrupt
from migrator.models import BackendConfig, BackendType
from tests import engines
from tests.integration.bolt import START, Opened, opened_on

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.neo4j_server import Neo4jServer

APPLIED, ROWS = WriteOutcome.APPLIED, WriteOutcome.ROWS_REFUSED


@pytest.fixture
def opened(neo4j_server: Neo4jServer) -> Iterator[Opened]:
    yield from opened_on(neo4j_server)


@pytest.fixture
def memgraph() -> Iterator[MemgraphBackend]:
    """A target with its schema and our marker."""
    if not engines.live("memgraph"):
        pytest.skip(next(str(engine) for engine in engines.engines() if engine.name == "memgraph"))
    engines.empty_memgraph()
    uri = urlsplit(os.environ[engines.MEMGRAPH])
    config = BackendConfig(backend=BackendType.MEMGRAPH, host=uri.hostname or "", port=uri.port)
    backend = MemgraphBackend(config, role="to")
    backend.open("write")
    backend.apply_schema(backend.missing_schema())
    assert backend.swap_marker(None, START)
    yield backend
    backend.close()
    engines.empty_memgraph()


def _in_memgraph(query: str, **parameters: Any) -> list[list[Any]]:
    with engines.memgraph_client() as client, client.session() as session:
        return [list(row.values()) for row in session.run(query, **parameters)]


@pytest.mark.parametrize(
    "value",
    [
        {"$native": "date", "value": [1]},
        {"$native": [1]},
        {"$native": "map", "value": {"$native": "date", "value": [1]}},
        [{"$native": "point", "value": []}, {"in": {"$native": None}}],
    ],
)
def test_a_map_that_looks_like_a_native_is_kept_and_named(memgraph: MemgraphBackend, value: Any) -> None:
    _in_memgraph("CREATE (n:Memory {id: 'a'}) SET n.x = $x, n.day = date('2025-02-28')", x=value)
    (page,) = memgraph.scan("memory", 100)
    assert [(type(one), one.id) for one in page] == [(Corrupt, "a")]
    assert page[0].reason == "x: a value of type map cannot be read exactly"  # type: ignore[union-attr]
    before = memgraph.lookup("memory", {"a": None})["a"]
    kept = load_raw(dump_raw(before))
    assert kept == before
    without: dict[str, Any] = {**before, "properties": {"id": "a"}}
    for number, row in enumerate((Row("a", before, without), Row("a", without, kept)), 1):
        batch = Batch(number=number, digest="", kind="memory", operation="update", shape="Memory", rows=[row])
        assert memgraph.write(batch, memgraph.markers()[0]) is APPLIED
    assert _in_memgraph("MATCH (n:Memory) RETURN n.x, n.day = date('2025-02-28'), size(keys(n))") == [[value, True, 3]]

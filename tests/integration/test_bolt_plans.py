"""How Neo4j carries out what each batch sends: by seeking, even where it was planned while the store was empty."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.integration.bolt import Opened, opened_on

if TYPE_CHECKING:
    from collections.abc import Iterator

    from migrator.backends._bolt_cypher import Statements
    from tests.neo4j_server import Neo4jServer


@pytest.fixture
def opened(neo4j_server: Neo4jServer) -> Iterator[Opened]:
    yield from opened_on(neo4j_server)


def _sent(say: Statements) -> Iterator[str]:
    """Yield what is sent once per batch or page of rows of a label that has its index."""
    ends = False, False
    yield say.find_nodes(placed=False)
    yield say.find_edges(ends)
    yield say.find_edges_without_id(ends)
    yield say.attached(placed=False)
    yield say.guard_nodes(placed=False)
    yield say.guard_edges(ends)
    yield say.lock_ends(placed=False)
    yield say.guard_absent_edges(ends)
    yield say.change_nodes(placed=False, add=[], remove=[], again=True)
    yield say.delete_nodes(placed=False)
    yield say.create_edges("SOLVES", ends)
    yield say.change_edges(ends, again=True)
    yield say.delete_edges(ends)
    yield say.replace_edges("SOLVES", (*ends, *ends))


def _operators(plan: dict[str, Any]) -> Iterator[str]:
    yield plan["operatorType"].partition("@")[0]
    for child in plan.get("children", []):
        yield from _operators(child)


@pytest.mark.parametrize("nodes", [0, 100])
def test_no_statement_of_a_batch_reads_the_whole_store(opened: Opened, neo4j_server: Neo4jServer, nodes: int) -> None:
    backend = opened()
    backend.apply_schema([step for step in backend.missing_schema() if not step.after_load])
    neo4j_server.run("UNWIND range(1, $nodes) AS x CREATE (:Memory {id: 'm' + x})", nodes=nodes)
    neo4j_server.run("CALL db.clearQueryCaches()")
    with neo4j_server.client() as client, client.session() as session:
        for query in _sent(backend._say):
            plan = session.run(f"EXPLAIN {query}", rows=[], shown=1).consume().plan
            assert not [name for name in _operators(plan) if name.endswith("Scan")], query

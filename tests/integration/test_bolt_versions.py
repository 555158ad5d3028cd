"""The other line of Neo4j's versions, where a JDK for it is here: what the backend asks of a server is there, too."""

from __future__ import annotations

import pytest

from migrator.backends.base import Row, WriteOutcome
from tests import neo4j_server as servers
from tests.integration.bolt import edge, memory, opened_on, scanned

APPLIED = WriteOutcome.APPLIED


@pytest.mark.parametrize("version", [name for name, _ in servers.VERSIONS.values()])
def test_each_version_writes_reads_and_forgets(version: str) -> None:
    try:
        servers.installation(version)
    except servers.NotHereError as error:
        pytest.skip(f"Neo4j {version}: {error}")
    if version == servers.installation().version:
        pytest.skip(f"Neo4j {version} has all the other tests")
    with servers.neo4j_server(version=version) as server:
        for opened in opened_on(server):
            held = opened.target()
            server.run("CREATE (:Entity {id: 'x', at: datetime('2025-01-02T03:04:05Z')})")
            assert opened().missing_schema() == []
            assert held.create(memory("a", v=-0.0, t=["x"]), memory("b"), memory("c")) is APPLIED
            assert held.create(edge("e", "a", "b"), edge("f", "a", "a")) is APPLIED
            assert held.update("memory", "a", v=0.0, t=None) is APPLIED
            raw = held.raw("relationship", "e")
            assert held.send("relationship", "replace", [Row("e", raw, {**raw, "type": "CAUSES"})]) is APPLIED
            assert held.backend.echo("relationship", raw, held.marker) == raw
            assert scanned(held.backend, "relationship") == [edge("f", "a", "a"), edge("e", "a", "b", "CAUSES")]
            assert held.delete("memory", "a") is WriteOutcome.ROWS_REFUSED
            assert held.create(memory("b")) is WriteOutcome.ROWS_REFUSED
            assert held.delete("relationship", "e", "f") is APPLIED
            assert held.delete("memory", "a", "b", "c") is APPLIED
            assert held.backend.inventory().other_nodes == {"Entity": 1}
            assert held.backend.swap_marker(held.marker, None)
            assert server.run("MATCH (n) RETURN labels(n), toString(n.at)") == [[["Entity"], "2025-01-02T03:04:05Z"]]

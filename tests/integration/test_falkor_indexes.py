"""While the server rebuilds an index, a MATCH in a writing query misses some of its rows, and reading ones do not."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from migrator.backends._falkor_write import Writer, guarded
from migrator.backends.base import Batch, Row, WriteOutcome
from migrator.errors import OutcomeUnknown
from tests import engines
from tests.integration.falkor import START, Target, edge, memory, opened

if TYPE_CHECKING:
    from tests.engines import FalkorServer

_MANY = 60_000
_ROWS = 20
_ADDED, _DROPPED = (f"{verb} INDEX FOR (n:Memory) ON (n.theirs)" for verb in ("CREATE", "DROP"))


def _statuses(server: FalkorServer) -> list[str]:
    return [row[0] for row in server.query("memorygraph", "CALL db.indexes() YIELD status")[1]]


def _large(server: FalkorServer) -> None:
    server.query("memorygraph", f"UNWIND range(1, {_MANY}) AS x CREATE (:Memory {{id: toString(x)}})")


def test_whoever_claims_or_raises_waits_for_an_index_that_others_add(falkordb_server: FalkorServer) -> None:
    backend = opened(falkordb_server)
    backend.apply_schema(backend.missing_schema())
    _large(falkordb_server)
    for expected, query in ((None, _ADDED), (START, _DROPPED)):
        falkordb_server.query("memorygraph", query)
        assert len(_statuses(falkordb_server)) > 1, "it was ready too soon to prove anything"
        assert backend.swap_marker(expected, START)
        assert _statuses(falkordb_server) == ["OPERATIONAL"]
    backend.close()


def test_a_dropped_index_is_gone_when_that_is_said(falkordb_server: FalkorServer) -> None:
    backend = opened(falkordb_server)
    steps = backend.apply_schema(backend.missing_schema())
    _large(falkordb_server)
    (last,) = [step for step in steps if step.name.endswith("confidence")]
    falkordb_server.query("memorygraph", last.drop)
    assert len(_statuses(falkordb_server)) > 1, "it was ready too soon to prove anything"
    assert backend.missing_schema() == [last], "the one that is being replaced does not count"
    assert backend.apply_schema([last]) == [last]
    backend.drop_schema([last])
    assert _statuses(falkordb_server) == ["OPERATIONAL"]
    assert backend.missing_schema() == [last]
    backend.close()


def test_nothing_is_matched_once_more_to_be_written() -> None:
    raw = {"labels": ["Memory"], "properties": {"id": "a", "f": 1.0}}
    other = {"labels": ["Memory", "New"], "properties": {"id": "a", "f": 1}}
    link = {"type": "T", "from": "a", "to": "b", "properties": {"id": "e"}}
    moved = link | {"from": "b", "to": "placed"}
    batches = [
        Batch(number=1, digest="d", kind=kind, operation=operation, shape="T", rows=[Row(name, old, new)])  # type: ignore[arg-type]
        for kind, operation, name, old, new in (
            ("memory", "create", "a", None, raw),
            ("memory", "update", "a", raw, other),
            ("memory", "delete", "a", raw, None),
            ("relationship", "create", "e", None, link),
            ("relationship", "update", "e", link, link),
            ("relationship", "replace", "e", link, moved),
            ("relationship", "delete", "e", link, None),
        )
    ]
    for batch in batches:
        text, _ = guarded(Writer("Memory", "id", {"placed": 1}).sections(batch), batch, START)
        guards, _, writes = text.rpartition("matched =")
        assert "MATCH" in guards
        assert "MATCH" not in writes, text


@pytest.mark.long
def test_no_batch_is_written_in_part_while_another_client_adds_and_drops_an_index() -> None:
    # The server itself ends now and then when indexes change under writes; what it took along proves nothing.
    refused = rounds = 0
    with engines.falkordb_server("none") as server:
        for _ in range(6):
            with suppress(OutcomeUnknown):
                refused, rounds = (a + b for a, b in zip((refused, rounds), _write_under_changes(server), strict=True))
            server.restart()
    assert rounds
    assert refused, "no index was changed in time to prove anything"


def _write_under_changes(server: FalkorServer) -> tuple[int, int]:
    target, stop = Target(opened(server)).claim(), threading.Event()

    def change() -> None:
        with suppress(Exception), server.client() as client:
            while not stop.is_set():
                for query in (_ADDED, _DROPPED):
                    client.execute_command("GRAPH.QUERY", "memorygraph", query)
                    time.sleep(0.001)

    thread = threading.Thread(target=change)
    thread.start()
    refused = 0
    try:
        for number in range(60):
            nodes = [memory(f"{number}-{at}", title="a") for at in range(_ROWS)]
            links = [edge(f"e{node.id}", nodes[0].id, node.id) for node in nodes]
            steps = [("memory", "create", [Row(one.id, None, target.encoded(one)) for one in nodes], _ROWS, 0)]
            again = [Row(one.id, target.encoded(one), target.encoded(memory(one.id, title="b"))) for one in nodes]
            steps.append(("memory", "update", again, _ROWS, 0))
            made = [Row(one.id, None, target.encoded(one)) for one in links]
            steps.append(("relationship", "create", made, _ROWS, _ROWS))
            steps.append(("relationship", "delete", [Row(row.id, row.new, None) for row in made], _ROWS, 0))
            steps.append(("memory", "delete", [Row(row.id, row.new, None) for row in again], 0, 0))
            for kind, operation, rows, *counts in steps:
                while target.send(kind, operation, rows) is not WriteOutcome.APPLIED:  # type: ignore[arg-type]
                    refused += 1
                found = target.backend.inventory()
                assert [found.memories, found.relationships] == counts, (kind, operation)
                if operation == "update":
                    assert server.query("memorygraph", "MATCH (n:Memory {title: 'a'}) RETURN count(n)")[1] == [[0]]
    finally:
        stop.set()
        thread.join()
        target.backend.close()
    return refused, 60

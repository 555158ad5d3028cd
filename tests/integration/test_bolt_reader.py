"""A second process that reads a large Bolt source: the same records, and a clear end where it dies."""

from __future__ import annotations

import os
import signal
from functools import partial
from typing import TYPE_CHECKING

import pytest

from migrator.backends import _bolt
from migrator.backends._reader import Reader
from migrator.backends.neo4j import Neo4jBackend
from migrator.errors import StoreUnreachable
from migrator.model import KINDS, Corrupt, digest
from tests.integration.bolt import config, opened_on, scanned
from tests.integration.test_from_bolt import AS_THE_CLIENT, ENTITIES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.integration.bolt import Opened
    from tests.neo4j_server import Neo4jServer

MANY = 30_000  #: more than the pipe and the server's answers hold ready
#: What cannot be read, what has no id, and natives.
ODD = (
    "CREATE (a:Memory {id: 'odd', seen: datetime('2025-06-30T12:00:00.123456789Z'), bytes: $bytes, "
    "at: point({x: 1, y: 2})}), (:Memory {id: 7}), (:Memory {title: 'no id'}), (a)-[:SOLVES {n: 0.1}]->(a), "
    "(a)-[:SOLVES {n: 0.1}]->(a)"
)


@pytest.fixture
def opened(neo4j_server: Neo4jServer) -> Iterator[Opened]:
    """Open backends over the server."""
    yield from opened_on(neo4j_server)


@pytest.fixture
def source(neo4j_server: Neo4jServer, opened: Opened, monkeypatch: pytest.MonkeyPatch) -> Neo4jBackend:
    """Return an open source that a second process reads."""
    monkeypatch.setattr(_bolt, "WORTH_IT", 5)
    neo4j_server.run(AS_THE_CLIENT)
    neo4j_server.run(ENTITIES)
    neo4j_server.run(ODD, bytes=b"\x00\xff")
    backend = opened("from")
    backend.read_ahead(digests=True)
    assert backend._reader is not None
    return backend


def _process(source: Neo4jBackend) -> int:
    assert source._reader is not None
    return source._reader._process.pid


def test_the_same_records_with_their_digests(source: Neo4jBackend, opened: Opened) -> None:
    alone = opened("from")
    for _ in range(2):
        for kind in KINDS:
            found, here = scanned(source, kind), scanned(alone, kind)
            assert len(here) > 2
            assert sorted(map(repr, found)) == sorted(map(repr, here))
            known = [one.known_digest or "none" for one in found if not isinstance(one, Corrupt)]
            expected = {one.id: digest(one) for one in here if not isinstance(one, Corrupt)}
            assert sorted(known) == sorted(expected.values())
            digests = {one.id: one.digest for page in source.scan_digests(kind, 100) for one in page}
            assert digests == expected
    assert source._reader is not None


def test_one_that_dies_before_its_first_record_is_done_without(source: Neo4jBackend) -> None:
    os.kill(_process(source), signal.SIGKILL)
    assert {one.id for one in scanned(source, "memory")} > {"a", "b", "odd"}
    assert source._reader is None


def _many(source: Neo4jBackend, server: Neo4jServer) -> Iterator[object]:
    server.run(f"UNWIND range(1, {MANY}) AS n CREATE (:Memory {{id: 'many' + n}})")
    pages = source.scan("memory", 100)
    next(pages)
    return pages


def test_one_that_dies_in_a_scan_ends_it_and_the_next_scan_is_whole(
    source: Neo4jBackend, neo4j_server: Neo4jServer
) -> None:
    pages = _many(source, neo4j_server)
    os.kill(_process(source), signal.SIGKILL)
    with pytest.raises(StoreUnreachable, match="the process that read localhost"):
        list(pages)
    assert len(scanned(source, "memory")) == MANY + 5


def test_a_scan_that_is_given_up_leaves_no_old_pages_to_the_next(
    source: Neo4jBackend, neo4j_server: Neo4jServer
) -> None:
    _many(source, neo4j_server).close()  # type: ignore[attr-defined]  # a generator
    assert {one.id for one in scanned(source, "relationship")} > {"e1"}


def test_an_error_is_told_as_the_backend_itself_tells_it(neo4j_server: Neo4jServer, opened: Opened) -> None:
    backend = opened("from")
    backend._reader = Reader(partial(Neo4jBackend, config(neo4j_server, password="wrong"), role="from"))
    with pytest.raises(StoreUnreachable, match="refuses to sign in"):
        scanned(backend, "memory")


def test_the_process_ends_with_the_backend(source: Neo4jBackend) -> None:
    pid = _process(source)
    source.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)

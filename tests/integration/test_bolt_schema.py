"""Constraints and indexes: the client's are made where nothing like them is there, and only our own are dropped."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from migrator.backends.base import WriteOutcome
from migrator.errors import StoreRefused
from tests.integration.bolt import START, Opened, Target, memory, opened_on

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.neo4j_server import Neo4jServer

APPLIED = WriteOutcome.APPLIED
#: What memorygraphmcp 0.12.4 makes for memories; ours have a suffix.
CLIENTS = {
    "memory_id_unique",
    "memory_type_index",
    "memory_created_at_index",
    "memory_tags_index",
    "memory_importance_index",
    "memory_confidence_index",
    "memory_project_path_index",
    "memory_content_index",
}
_ALL = "SHOW INDEXES YIELD name, type, owningConstraint WHERE type <> 'LOOKUP' RETURN * ORDER BY name"


@pytest.fixture
def opened(neo4j_server: Neo4jServer) -> Iterator[Opened]:
    yield from opened_on(neo4j_server)


def _names(server: Neo4jServer) -> set[str]:
    """Return the indexes that are online, those of constraints included, without the suffixes of ours."""
    rows = server.run("SHOW INDEXES YIELD name, type, state WHERE type <> 'LOOKUP' AND state = 'ONLINE'")
    names = [re.sub(r"_[0-9a-f]{8}$", "", row[0]) for row in rows]
    assert len(set(names)) == len(names)
    return set(names)


def test_what_the_client_expects_is_made_and_dropped(opened: Opened, neo4j_server: Neo4jServer) -> None:
    backend = opened()
    steps = backend.missing_schema()
    made = backend.apply_schema([step for step in steps if not step.after_load])
    assert _names(neo4j_server) == {"memory_id_unique"}, "the other indexes wait until the records are in"
    made += backend.apply_schema([step for step in steps if step.after_load])
    assert made == steps
    assert _names(neo4j_server) == CLIENTS
    assert backend.missing_schema() == []
    backend.drop_schema(made)
    backend.drop_schema(made)
    assert _names(neo4j_server) == set()
    assert neo4j_server.run("SHOW CONSTRAINTS") == []


def test_what_is_like_it_counts_as_there_whatever_its_name(opened: Opened, neo4j_server: Neo4jServer) -> None:
    neo4j_server.run("CREATE CONSTRAINT mine FOR (m:Memory) REQUIRE m.id IS UNIQUE")
    neo4j_server.run("CREATE INDEX my_type FOR (m:Memory) ON (m.type)")
    neo4j_server.run("CREATE FULLTEXT INDEX my_text FOR (m:Memory) ON EACH [m.title, m.content, m.summary]")
    neo4j_server.run("CALL db.awaitIndexes()")
    before = _names(neo4j_server)
    backend = opened()
    made = backend.apply_schema(backend.missing_schema())
    assert _names(neo4j_server) == before | CLIENTS - {"memory_id_unique", "memory_type_index", "memory_content_index"}
    backend.drop_schema(made)
    assert _names(neo4j_server) == before


def test_a_name_that_means_something_else_is_left_alone(opened: Opened, neo4j_server: Neo4jServer) -> None:
    neo4j_server.run("CREATE INDEX memory_type_index FOR (x:Other) ON (x.other)")
    neo4j_server.run("CREATE CONSTRAINT memory_id_unique FOR (x:Other) REQUIRE x.id IS UNIQUE")
    before = neo4j_server.run(_ALL)
    backend = opened()
    made = backend.apply_schema(backend.missing_schema())
    assert backend.missing_schema() == []
    backend.drop_schema(made)
    assert neo4j_server.run(_ALL) == before


def test_what_a_client_makes_after_ours_was_planned_is_not_dropped(opened: Opened, neo4j_server: Neo4jServer) -> None:
    """A run that died before it made anything: its rollback drops what was planned."""
    planned = opened().missing_schema()
    neo4j_server.run("CREATE CONSTRAINT memory_id_unique IF NOT EXISTS FOR (m:Memory) REQUIRE m.id IS UNIQUE")
    neo4j_server.run("CREATE INDEX memory_type_index IF NOT EXISTS FOR (m:Memory) ON (m.type)")
    before = neo4j_server.run(_ALL)
    opened().drop_schema(planned)
    assert neo4j_server.run(_ALL) == before


def test_an_index_on_ids_stands_in_for_the_constraint(opened: Opened, neo4j_server: Neo4jServer) -> None:
    """No constraint can be made beside somebody's index; ids are then guarded by looking."""
    neo4j_server.run("CREATE INDEX mine FOR (m:Memory) ON (m.id)")
    backend = opened()
    backend.apply_schema(backend.missing_schema())
    assert neo4j_server.run("SHOW CONSTRAINTS") == []
    assert backend.swap_marker(None, START)
    held = Target(backend)
    assert held.create(memory("a")) is APPLIED
    assert held.create(memory("b"), memory("a")) is WriteOutcome.ROWS_REFUSED


def test_ids_that_stand_twice_are_named_before_anything_is_made(opened: Opened, neo4j_server: Neo4jServer) -> None:
    neo4j_server.run("UNWIND ['a', 'a', 'b', 7, 7] AS x CREATE (:Memory {id: x})")
    backend = opened()
    assert backend.inventory().duplicates == {"memory": ("a",)}
    with pytest.raises(StoreRefused, match="more than once: 'a'"):
        backend.missing_schema()
    assert _names(neo4j_server) == set()


def test_an_id_that_someone_doubles_just_now_is_a_refusal(opened: Opened, neo4j_server: Neo4jServer) -> None:
    backend = opened()
    steps = backend.missing_schema()
    neo4j_server.run("UNWIND ['a', 'a'] AS x CREATE (:Memory {id: x})")
    with pytest.raises(StoreRefused, match="more than once"):
        backend.apply_schema(steps)
    assert neo4j_server.run("SHOW CONSTRAINTS") == []


def test_look_ups_without_an_index_work_and_find_new_records(opened: Opened, neo4j_server: Neo4jServer) -> None:
    neo4j_server.run("UNWIND range(1, 50) AS x CREATE (:Memory {id: 'm' + x})")
    backend = opened(role="from")
    assert backend.lookup("memory", {f"m{n}": None for n in range(60)}).keys() == {f"m{n}" for n in range(1, 51)}
    neo4j_server.run("CREATE (:Memory {id: 'late'})")
    assert backend.lookup("memory", {"late": None})

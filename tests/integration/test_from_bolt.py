"""What only Bolt stores hold and memmig must bring elsewhere: native values, entities, edges without id."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.checker import compare
from tests.checker.boltserver import BoltGraph
from tests.integration.stores_of_all_kinds import KINDS, Place, Places, migrate, quarantined, take_back
from tests.running import memmig

if TYPE_CHECKING:
    from pathlib import Path

TARGETS = [kind for kind in KINDS if kind != "sqlite-0.13"]

#: A memory and its relationship as 0.12 writes them to Neo4j: some times of the relationship are native; and the
#: ``updated_at`` of an old script.
AS_THE_CLIENT = """
CREATE (a:Memory {id: 'a', type: 'task', title: 'a', content: 'c', tags: ['x'], importance: 0.5, confidence: 0.8,
                  usage_count: 0, created_at: '2025-06-30T12:00:00+00:00', updated_at: 1751284800123}),
       (b:Memory {id: 'b', type: 'task', title: 'b', content: 'c', tags: [], importance: 0.25, confidence: 0.8,
                  created_at: '2025-06-30T12:00:00+00:00', updated_at: '2025-06-30T12:00:00+00:00'}),
       (a)-[:SOLVES {id: 'e1', strength: 0.75, created_at: '2025-06-30T12:00:00+00:00',
                     last_validated: '2025-06-30T12:00:00+00:00',
                     valid_from: datetime('2025-06-30T14:00:00.123456+02:00'),
                     valid_until: datetime('2025-07-01T00:00:00Z'),
                     recorded_at: datetime('2025-06-30T12:00:00[Europe/Berlin]')}]->(b)
"""

#: What layout 0.12 asks of a relationship.
TIMES = "{valid_from: datetime('2025-06-30T12:00:00Z'), recorded_at: '2025-06-30T12:00:00Z'}"

ENTITIES = """
MATCH (a:Memory {id: 'a'}), (b:Memory {id: 'b'})
CREATE (a)-[:MENTIONS]->(e:Entity {id: 'entity-1', text: 'Neo4j', type: 'technology', occurrence_count: 2,
                                   created_at: datetime('2025-06-30T12:00:00Z'), last_seen: datetime()}),
       (b)-[:MENTIONS {confidence: 0.5}]->(e), (b)-[:MENTIONS {confidence: 0.5}]->(e),
       (a)-[:RESULTED_IN]->(:Outcome {id: 'outcome-1', success: true})
"""


def _neo4j(places: Places, *statements: str) -> Place:
    place = places.new("neo4j", "source")
    with place.graph() as graph:
        for statement in statements:
            graph.write(statement)
    return place


@pytest.mark.parametrize("to", KINDS)
def test_what_the_client_and_old_scripts_wrote_arrives_right(places: Places, tmp_path: Path, to: str) -> None:
    source, target = _neo4j(places, AS_THE_CLIENT), places.new(to, "target")
    before = source.state()
    ran = migrate(source, target, tmp_path)
    assert ran.code == 0, ran.err + ran.out[-2_000:]
    found = target.read()
    assert compare(source.read(), found) == []
    (edge,) = found.relationships
    times = {key: edge.properties[key] for key in ("valid_from", "valid_until", "recorded_at")}
    assert times == {
        "valid_from": "2025-06-30T14:00:00.123456+02:00",
        "valid_until": "2025-07-01T00:00:00+00:00",
        "recorded_at": "2025-06-30T12:00:00+02:00",
    }
    updated = {memory.id: memory.properties["updated_at"] for memory in found.memories}
    # A column for text holds the instant as text.
    assert updated["a"] == ("2025-06-30T12:00:00.123000Z" if to == "sqlite-0.13" else 1_751_284_800_123)
    again = migrate(source, target, tmp_path)
    assert again.code == 0, again.err
    assert (again.document["memories"]["unchanged"], again.document["relationships"]["unchanged"]) == (2, 1)
    assert source.state() == before


@pytest.mark.parametrize("to", TARGETS)
def test_entities_are_reported_and_carried_only_where_that_is_asked_for(
    places: Places, tmp_path: Path, to: str
) -> None:
    source, target = _neo4j(places, AS_THE_CLIENT, ENTITIES), places.new(to, "target")
    before = source.state()
    ran = migrate(source, target, tmp_path)
    assert ran.code == 0, ran.err
    told = " ".join(ran.document["warnings"])
    assert "Entity" in told
    assert "Outcome" in told
    assert ran.document["relationships"]["created"] == 1
    assert compare(source.read(), target.read()) == []
    assert target.read().other_nodes == []
    assert take_back(ran.document["run_id"], target, tmp_path).code == 0

    ran = migrate(source, target, tmp_path, "--all-labels")
    if to.startswith("sqlite"):
        assert ran.code == 22  # SQLite holds memories only
        return
    assert ran.code == 0, ran.err + ran.out[-2_000:]
    assert (ran.document["memories"]["created"], ran.document["relationships"]["created"]) == (4, 5)
    assert compare(source.read(), target.read(), all_labels=True) == []
    made = {edge.id for edge in target.read().other_relationships}
    assert len(made) == 4
    assert None not in made

    state = target.state()
    again = migrate(source, target, tmp_path, "--all-labels")
    assert again.code == 0, again.err
    for name, count in (("memories", 4), ("relationships", 5)):
        assert again.document[name] == dict.fromkeys(again.document[name], 0) | {"read": count, "unchanged": count}
    assert target.state() == state
    assert source.state() == before


def test_edges_without_id_between_memories_keep_the_ids_that_they_get(places: Places, tmp_path: Path) -> None:
    source = _neo4j(
        places,
        AS_THE_CLIENT,
        "MATCH (a:Memory {id: 'a'}), (b:Memory {id: 'b'}) UNWIND range(1, 3) AS i"
        f" CREATE (a)-[:CAUSES {TIMES}]->(b)",
        f"MATCH (a:Memory {{id: 'a'}}) CREATE (a)-[:CAUSES {TIMES}]->(a)",
    )
    seen = []
    for name in ("one", "two"):
        target = places.new("sqlite-0.12", name)
        ran = migrate(source, target, tmp_path)
        assert ran.code == 0, ran.err
        assert ran.document["relationships"]["created"] == 5
        assert compare(source.read(), target.read()) == []
        again = migrate(source, target, tmp_path)
        assert again.document["relationships"]["unchanged"] == 5
        seen.append({edge.id for edge in target.read().relationships})
    assert seen[0] == seen[1]


#: Property of a memory in Neo4j → what arrives elsewhere; None = no other store can hold it, so it is named.
NATIVES: dict[str, Any] = {
    "datetime('2025-06-30T12:00:00.5-03:00')": "2025-06-30T12:00:00.500000-03:00",
    "datetime('2025-06-30T12:00:00.123456789Z')": "2025-06-30T12:00:00.123456789+00:00",
    "datetime('2025-06-30T12:00[Asia/Kolkata]')": "2025-06-30T12:00:00+05:30[Asia/Kolkata]",
    "localdatetime('1960-01-01T00:00:00')": "1960-01-01T00:00:00",
    "date('2025-06-30')": "2025-06-30",
    "time('12:00:00.25+01:00')": "12:00:00.250000+01:00",
    "localtime('23:59:59.999999999')": "23:59:59.999999999",
    "duration('P1Y2M3DT4H5.5S')": "P14M3DT14405.500000S",
    "[date('2025-06-30'), date('2025-07-01')]": ["2025-06-30", "2025-07-01"],
    "[1.0, 2.5]": [1.0, 2.5],
    "[1, 2]": [1, 2],
    "point({x: 1.5, y: 2})": None,
    "point({latitude: 1, longitude: 2, height: 3})": None,
    "$bytes": None,
}


@pytest.mark.parametrize("to", ["sqlite-0.12", "falkordb"])
def test_native_values_arrive_as_text_or_are_named(places: Places, tmp_path: Path, to: str) -> None:
    source, target = places.new("neo4j", "source"), places.new(to, "target")
    with source.graph() as graph:
        for number, value in enumerate(NATIVES):
            query = f"CREATE (:Memory {{id: $id, title: 't', tags: [], x: {value}}})"
            graph.write(query, id=str(number), bytes=b"\x00\xff")
    lost = {str(number) for number, wanted in enumerate(NATIVES.values()) if wanted is None}
    stopped = migrate(source, target, tmp_path)
    assert stopped.code == 22, stopped.err
    assert target.state() == {}
    ran = migrate(source, target, tmp_path, "--on-unstorable", "quarantine")
    assert ran.code == 10, ran.err
    assert quarantined(tmp_path / "journal.db") == {("memory", identity) for identity in lost}
    found = {memory.id: memory.properties["x"] for memory in target.read().memories}
    assert found == {str(number): value for number, value in enumerate(NATIVES.values()) if value is not None}


def test_native_values_of_the_target_survive_a_run_and_its_rollback(places: Places, tmp_path: Path) -> None:
    """An update changes what differs; what else the record holds, points and bytes too, stays, and comes back."""
    source, target = places.new("sqlite-0.12", "source"), places.new("neo4j", "target")
    first = _neo4j(places, AS_THE_CLIENT)  # a second server: where the records come from
    assert migrate(first, source, tmp_path).code == 0
    with target.graph() as graph:
        assert isinstance(graph, BoltGraph)
        graph.write(AS_THE_CLIENT)
        graph.write(
            "MATCH (a:Memory {id: 'a'})-[r]->() SET a.title = 'another', r.strength = 0.125,"
            " r.recorded_at = datetime('2025-06-30T12:00:00.000000001[Europe/Berlin]')"
        )
    before = target.state()
    ran = migrate(source, target, tmp_path, "--on-conflict", "overwrite")
    assert ran.code == 0, ran.err + ran.out[-2_000:]
    assert (ran.document["memories"]["updated"], ran.document["relationships"]["updated"]) == (1, 1)
    assert compare(source.read(), target.read()) == []
    assert target.state() != before
    assert take_back(ran.document["run_id"], target, tmp_path).code == 0
    assert target.state() == before


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE INDEX theirs FOR (m:Memory) ON (m.id)",
        "CREATE CONSTRAINT theirs FOR (m:Memory) REQUIRE m.id IS UNIQUE",
        "CREATE CONSTRAINT theirs FOR ()-[r:CAUSES]-() REQUIRE r.id IS UNIQUE",
        "CREATE FULLTEXT INDEX theirs FOR (m:Memory) ON EACH [m.title, m.content, m.summary]",
        "CREATE TEXT INDEX theirs FOR (m:Memory) ON (m.type)",
    ],
)
def test_indexes_and_constraints_of_others_stay(places: Places, tmp_path: Path, statement: str) -> None:
    source, target = places.filled("sqlite-0.12", "real-0.12"), places.new("neo4j", "target")
    with target.graph() as graph:
        graph.write(statement)
        graph.write("CALL db.awaitIndexes()")
    before = target.state()
    ran = migrate(source, target, tmp_path)
    assert ran.code == 0, ran.err + ran.out[-2_000:]
    assert compare(source.read(), target.read()) == []
    after = target.state()["graph neo4j"]
    for kind in ("indexes", "constraints"):
        assert set(before["graph neo4j"][kind]) <= set(after[kind])
    assert take_back(ran.document["run_id"], target, tmp_path).code == 0
    assert target.state() == before


def test_a_store_with_two_memories_of_one_id_is_named(places: Places, tmp_path: Path) -> None:
    source = _neo4j(places, AS_THE_CLIENT, "CREATE (:Memory {id: 'a', title: 'twin', tags: []})")
    target = places.new("sqlite-0.12", "target")
    ran = migrate(source, target, tmp_path)
    assert ran.code in {21, 22}, ran.err
    assert not (tmp_path / "target.db").exists()


def test_a_look_at_a_server_says_what_is_there_and_writes_nothing(places: Places, tmp_path: Path) -> None:
    store = _neo4j(places, AS_THE_CLIENT, ENTITIES)
    before = store.state()
    ran = memmig("backends", store.url, "--json", cwd=tmp_path, environment=store.secrets("FROM"))
    assert ran.code == 0, ran.err + ran.out
    (seen,) = json.loads(ran.out)
    assert (seen["reachable"], seen["writable"]) == (True, True)
    assert (seen["memories"], seen["relationships"]) == (2, 1)
    assert seen["other_nodes"] == {"Entity": 1, "Outcome": 1}
    assert store.password not in ran.out + ran.err
    assert store.state() == before

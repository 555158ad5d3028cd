"""What a Neo4j store may hold beside what memmig writes: native times, points, bytes, edges and nodes of others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from migrator.backends.base import Row, WriteOutcome
from migrator.backends.registry import open_backend
from migrator.codec import dump_raw, load_raw
from migrator.errors import StoreRefused
from migrator.model import Corrupt, Memory, Relationship, digest
from migrator.models import BackendConfig, BackendType
from tests.integration.bolt import Opened, edge, memory, opened_on, scanned

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.neo4j_server import Neo4jServer

APPLIED, ROWS = WriteOutcome.APPLIED, WriteOutcome.ROWS_REFUSED

#: Expression → canonical text in a field that is no time.
TIMES = {
    "datetime('2025-01-02T03:04:05.678901+02:00')": "2025-01-02T03:04:05.678901+02:00",
    "datetime('2025-01-02T03:04:05Z')": "2025-01-02T03:04:05+00:00",
    "datetime('2025-01-02T03:04:05.000000001-08:30')": "2025-01-02T03:04:05.000000001-08:30",
    "datetime('2025-07-02T03:04:05[Europe/Paris]')": "2025-07-02T03:04:05+02:00[Europe/Paris]",
    "datetime('2025-10-26T02:30:00+01:00[Europe/Paris]')": "2025-10-26T02:30:00+01:00[Europe/Paris]",
    "datetime('2025-01-02T03:04:05[UTC]')": "2025-01-02T03:04:05+00:00[UTC]",
    "datetime({year: 2025, timezone: '+02:00:30'})": "2025-01-01T00:00:00+02:00:30",
    "datetime('0001-01-01T00:00:00+12:00')": "0001-01-01T00:00:00+12:00",
    "localdatetime('1066-10-14T09:00:00.5')": "1066-10-14T09:00:00.500000",
    "date('2025-02-28')": "2025-02-28",
    "time('12:34:56.7+01:00')": "12:34:56.700000+01:00",
    "localtime('12:34:56.789012345')": "12:34:56.789012345",
    "duration('P1Y2M3DT4H5M6.789S')": "P14M3DT14706.789000S",
    "duration({seconds: -1, nanoseconds: 1})": "P0M0DT-0.999999999S",
}


@pytest.fixture
def opened(neo4j_server: Neo4jServer) -> Iterator[Opened]:
    yield from opened_on(neo4j_server)


def _spelled(server: Neo4jServer) -> list[list[Any]]:
    """Return how the server spells the value and its type."""
    return server.run("MATCH (n:Memory {id: 'a'}) RETURN valueType(n.v), toString(n.v)")


@pytest.mark.parametrize("expression", TIMES)
def test_native_times_become_text_and_are_put_back_as_they_were(
    opened: Opened, neo4j_server: Neo4jServer, expression: str
) -> None:
    held = opened.target()
    neo4j_server.run(f"CREATE (:Memory {{id: 'a', v: {expression}, l: [{expression}]}})")
    before = _spelled(neo4j_server)
    (record,) = scanned(held.backend, "memory")
    assert isinstance(record, Memory)
    assert record.properties == {"v": TIMES[expression], "l": [TIMES[expression]]}
    raw = held.raw("memory", "a")
    kept = load_raw(dump_raw(raw))
    assert kept == raw
    assert held.update("memory", "a", v="text now") is APPLIED
    assert held.send("memory", "update", [Row("a", held.raw("memory", "a"), kept)]) is APPLIED
    assert _spelled(neo4j_server) == before
    assert held.delete("memory", "a") is APPLIED
    assert held.send("memory", "create", [Row("a", None, kept)]) is APPLIED
    assert _spelled(neo4j_server) == before
    assert neo4j_server.run(f"MATCH (n:Memory) RETURN n.v = {expression}, n.l = [{expression}]") == [[True, True]]


def test_a_guard_tells_native_times_of_one_instant_apart(opened: Opened, neo4j_server: Neo4jServer) -> None:
    held = opened.target()
    neo4j_server.run("CREATE (:Memory {id: 'a', v: datetime('2025-01-02T03:04:05Z')})")
    raw = held.raw("memory", "a")
    for other in ("datetime('2025-01-02T04:04:05+01:00')", "datetime('2025-01-02T03:04:05[UTC]')"):
        neo4j_server.run(f"MATCH (n:Memory) SET n.v = {other}")
        assert held.send("memory", "delete", [Row("a", raw, None)]) is ROWS
    neo4j_server.run("MATCH (n:Memory) SET n.v = datetime('2025-01-02T03:04:05Z')")
    assert held.send("memory", "delete", [Row("a", raw, None)]) is APPLIED


def test_what_the_client_wrote_natively_has_the_digest_of_its_text(opened: Opened, neo4j_server: Neo4jServer) -> None:
    """0.12 keeps these times of an edge as native date-times in Neo4j, and as text elsewhere."""
    neo4j_server.run(
        "CREATE (a:Memory {id: 'a', updated_at: 1700000000123})-[:SOLVES {id: 'e', strength: 1,"
        " valid_from: datetime('2025-01-02T03:04:05.678901Z'), recorded_at: datetime('2025-01-02T04:04:05+01:00'),"
        " valid_until: datetime('2025-07-02T03:04:05[Europe/Paris]'), created_at: '2025-01-02T03:04:05Z'}]->(a)"
    )
    backend = opened(role="from")
    (found,) = scanned(backend, "relationship")
    text = edge(
        "e", "a", "a", strength=1.0, valid_from="2025-01-02T03:04:05.678901+00:00",
        recorded_at="2025-01-02T03:04:05+00:00", valid_until="2025-07-02T01:04:05Z", created_at="2025-01-02T03:04:05Z",
    )  # fmt: skip
    assert isinstance(found, Relationship)
    assert digest(found) == digest(text)
    assert found.properties["valid_until"] == "2025-07-02T03:04:05+02:00", "no zone's name, which no client reads"
    (node,) = scanned(backend, "memory")
    assert node == memory("a", updated_at=1700000000123)


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ("point({x: 1, y: 2})", "point"),
        ("point({longitude: 1, latitude: 2, height: 3})", "point in space"),
        ("[point({x: 1, y: 2})]", "point"),
        ("datetime('-0044-03-15T12:00:00Z')", "date-time"),
        ("date('+12345-01-01')", "date"),
    ],
)
def test_what_has_no_text_is_named_and_left_alone(
    opened: Opened, neo4j_server: Neo4jServer, expression: str, said: str
) -> None:
    held = opened.target()
    neo4j_server.run(f"CREATE (:Memory {{id: 'a', v: {expression}}}), (:Memory {{id: 'b'}})")
    (bad,) = [one for one in scanned(held.backend, "memory") if isinstance(one, Corrupt)]
    assert (bad.id, bad.reason) == ("a", f"v: a value of type {said} cannot be read exactly")
    raw = held.raw("memory", "a")
    assert held.update("memory", "a", v=None, other=1) is APPLIED
    assert held.send("memory", "update", [Row("a", held.raw("memory", "a"), raw)]) is APPLIED
    same = f"MATCH (n:Memory {{id: 'a'}}) RETURN n.v = {expression}, keys(n)"
    assert [[row[0], sorted(row[1])] for row in neo4j_server.run(same)] == [[True, ["id", "v"]]]


def test_bytes_and_numbers_of_every_kind_come_back_as_they_went(opened: Opened) -> None:
    held = opened.target()
    values: dict[str, Any] = {
        "bytes": b"\x00\xff", "nan": float("nan"), "inf": float("-inf"), "zero": -0.0, "least": 5e-324,
        "most": 1.7976931348623157e308, "int": -(2**63), "ints": [2**63 - 1, 0], "floats": [-0.0, 0.1 + 0.2],
        "flags": [True, False], "empty": [], "nul": "a\0b", "long": "x" * 1_000_000, "emoji": "\U0001f9e0",
    }  # fmt: skip
    record = memory("a", **values)
    assert not held.backend.form.problems(record)
    assert held.create(record, memory("nul\0id"), memory(" 1"), memory("1"), memory("i" * 8_164)) is APPLIED
    found = {one.id: one for one in scanned(held.backend, "memory")}
    assert digest(found["a"]) == digest(record)  # type: ignore[arg-type]
    assert found.keys() == {"a", "nul\0id", " 1", "1", "i" * 8_164}
    assert held.backend.lookup("memory", {"1": None, "2": None}).keys() == {"1"}
    for name in found:
        assert held.delete("memory", name) is APPLIED


@pytest.mark.parametrize(
    ("properties", "field"),
    [
        ({"v": [1, 2.5]}, "v"),
        ({"v": ["a", 1]}, "v"),
        ({"v": [True, 1]}, "v"),
        ({"v": [1, None]}, "v"),
        ({"v": [[1]]}, "v"),
        ({"v": [b"a"]}, "v"),
        ({"v": {"a": 1}}, "v"),
        ({"v": 2**63}, "v"),
        ({"v": "\ud800"}, "v"),
        ({"tags": ["x" * 20] * 372}, "tags"),
        ({"context_project_path": "x" * 8_165}, "context_project_path"),
        ({"type": "\u00e9" * 4_083}, "type"),
        ({"a`b": 1}, "a`b"),
        ({"a\\u0060b": 1}, "a\\u0060b"),
    ],
)
def test_what_neo4j_would_change_or_refuse_is_named(opened: Opened, properties: dict[str, Any], field: str) -> None:
    form = opened().form
    assert [problem.field for problem in form.problems(memory("a", **properties))] == [field]
    assert [problem.field for problem in form.problems(memory("i" * 8_165))] == ["id"]
    assert [problem.field for problem in form.problems(memory("a", "we`ird"))] == [":labels"]


def test_the_limits_are_neo4js_own(opened: Opened) -> None:
    held = opened.target()
    fits = memory("i" * 8_164, tags=["x" * 20] * 371, type="\u00e9" * 4_082, context_project_path="x" * 8_164)
    assert not held.backend.form.problems(fits)
    assert held.create(fits) is APPLIED
    encode = held.backend.form.encode
    larges: list[dict[str, Any]] = [{"tags": ["x" * 20] * 372}, {"type": "x" * 8_165}]
    for index, large in enumerate(larges):
        rows = [Row(f"n{index}", None, encode(memory(f"n{index}", **large)))]
        with pytest.raises(StoreRefused, match="index"):
            held.send("memory", "create", rows)
    assert len(scanned(held.backend, "memory")) == 1


def test_indexes_of_others_count_too(opened: Opened, neo4j_server: Neo4jServer) -> None:
    neo4j_server.run("CREATE INDEX theirs FOR (n:Memory) ON (n.title, n.x)")
    neo4j_server.run("CREATE INDEX theirs_too FOR ()-[r:SOLVES]-() ON (r.context)")
    form = opened().form
    assert form.problems(memory("a", title="x" * 8_000, x="y" * 500))
    assert not form.problems(memory("a", title="x" * 8_000))
    assert form.problems(edge("e", "a", "b", context="x" * 9_000))
    assert not form.problems(edge("e", "a", "b", "CAUSES", context="x" * 9_000))


def test_lists_that_neo4j_would_change_are_text_where_the_client_knows_text(opened: Opened) -> None:
    held = opened.target()
    record = memory("a", context_languages=["a", 1, 2.5], context_frameworks=[], context_technologies=["x"])
    assert held.create(record) is APPLIED
    assert held.raw("memory", "a")["properties"]["context_languages"] == '["a", 1, 2.5]'
    assert scanned(held.backend, "memory") == [record]


def test_edges_without_an_id_keep_the_one_that_is_made(opened: Opened, neo4j_server: Neo4jServer) -> None:
    neo4j_server.run(
        "CREATE (a:Memory {id: 'a'})-[:MENTIONS]->(b:Memory {id: 'b'}),"
        " (a)-[:MENTIONS]->(b), (a)-[:MENTIONS {x: 1}]->(b)"
    )
    backend = opened(role="from")
    first = [one.id for one in scanned(backend, "relationship")]
    assert len(set(first)) == 3
    neo4j_server.run("MATCH (:Memory)-[r {x: 1}]->() DELETE r")
    neo4j_server.run("MATCH (a:Memory {id: 'a'}), (b:Memory {id: 'b'}) CREATE (a)-[:MENTIONS {x: 1}]->(b)")
    assert sorted(one.id for one in scanned(opened(role="from"), "relationship")) == sorted(first)


def test_others_nodes_are_counted_and_carried_on_demand(opened: Opened, neo4j_server: Neo4jServer) -> None:
    neo4j_server.run(
        "CREATE (a:Memory {id: 'a'})-[:MENTIONS]->(:Entity {id: 'x', created_at: datetime('2025-01-01T00:00:00Z')}),"
        " (a)-[:SOLVES {id: 'e'}]->(:Memory:Extra {id: 'b'}), (:Outcome {id: 'o'}), ({id: 'bare'}), (:Entity {id: 7}),"
        " (:_Memmig {journal: 'j'})"
    )
    counted = opened(role="from").inventory()
    assert (counted.memories, counted.relationships, counted.other_relationships) == (2, 1, 1)
    assert counted.other_nodes == {"Entity": 2, "Outcome": 1, "(no label)": 1}
    every = opened(role="from", all_labels=True)
    counted = every.inventory()
    assert (counted.memories, counted.relationships, counted.other_relationships) == (6, 2, 0)
    found = {one.id: one for one in scanned(every, "memory")}
    assert {"a", "b", "x", "o", "bare"} < found.keys()
    assert found["b"].labels == ("Extra", "Memory")  # type: ignore[union-attr]
    assert found["x"].properties == {"created_at": "2025-01-01T00:00:00+00:00"}  # type: ignore[union-attr]
    (number,) = [one for one in found.values() if isinstance(one, Corrupt)]
    assert number.id.startswith("internal:")
    assert number.reason == "its id is no text but 7"
    assert [problem.field for problem in every.form.problems(found["bare"])] == [":labels"]  # type: ignore[arg-type]


def test_all_labels_are_written_looked_up_and_taken_back(opened: Opened, neo4j_server: Neo4jServer) -> None:
    neo4j_server.run("CREATE (:Entity {id: 'theirs'})")
    held = opened.target(all_labels=True)
    assert held.create(memory("m")) is APPLIED
    assert held.create(memory("x", "Entity"), memory("y", "Entity")) is APPLIED
    assert held.create(memory("x2", "Entity")) is APPLIED
    assert held.create(memory("y", "Entity")) is ROWS
    assert held.create(edge("e", "m", "x", "MENTIONS"), edge("f", "theirs", "m", "MENTIONS")) is APPLIED
    found = held.backend.lookup("relationship", {"e": edge("e", "m", "x"), "f": None})
    assert {name: (raw["from"], raw["to"]) for name, raw in found.items()} == {"e": ("m", "x"), "f": ("theirs", "m")}
    assert held.backend.attached(["m", "x", "theirs", "y"]).keys() == {"m", "x", "theirs"}
    assert held.update("memory", "x", text="new") is APPLIED
    raw = held.raw("relationship", "e")
    assert held.send("relationship", "replace", [Row("e", raw, {**raw, "type": "ABOUT", "to": "y"})]) is APPLIED
    assert held.delete("relationship", "e", "f") is APPLIED
    assert held.delete("memory", "x", "y", "x2") is APPLIED
    assert neo4j_server.run("MATCH (n:Entity) RETURN n.id") == [["theirs"]]


def test_another_label_and_id_property(opened: Opened, neo4j_server: Neo4jServer) -> None:
    neo4j_server.run("CREATE (:Episodic {uuid: 'u', name: 'n'})-[:NEXT {uuid: 'e'}]->(:Episodic {uuid: 'v', id: 1})")
    backend = opened(role="from", label="Episodic", id_property="uuid")
    assert backend.inventory().memories == 2
    good, bad = sorted(scanned(backend, "memory"), key=lambda one: isinstance(one, Corrupt))
    assert good == memory("u", "Episodic", name="n")
    assert isinstance(bad, Corrupt)
    assert scanned(backend, "relationship") == [edge("e", "u", "v", "NEXT")]
    held = opened.target(label="Episodic", id_property="uuid")
    assert held.create(memory("w", "Episodic", name="x")) is APPLIED
    assert neo4j_server.run("MATCH (n:Episodic {uuid: 'w'}) RETURN properties(n)") == [[{"uuid": "w", "name": "x"}]]


def test_one_store_by_another_spelling_is_refused(neo4j_server: Neo4jServer, tmp_path: Path) -> None:
    from contextlib import ExitStack

    from migrator.stores import open_stores

    facts = {"port": neo4j_server.port, "user": neo4j_server.user, "password": neo4j_server.password}
    one = BackendConfig(backend=BackendType.NEO4J, scheme="bolt", host="127.0.0.1", graph="NEO4J", **facts)  # type: ignore[arg-type]
    other = BackendConfig(backend=BackendType.NEO4J, scheme="neo4j", host="LOCALHOST", **facts)  # type: ignore[arg-type]
    with ExitStack() as stack, pytest.raises(StoreRefused, match="same store"):
        open_stores(stack, one, other, "dry")
    backend = open_backend(one, role="from")
    info = backend.open("read")
    backend.close()
    assert info.place == f"localhost:{neo4j_server.port}/neo4j"
    assert info.lasting_identity
    assert info.version.startswith("Neo4j ")
    assert not list(tmp_path.iterdir())

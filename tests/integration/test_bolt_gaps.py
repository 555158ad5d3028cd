"""Maps like natives, writers in gaps, and schemas that others hold up: on a real Neo4j and a real Memgraph."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from migrator.backends import _bolt_write
from migrator.backends._bolt_cypher import LOCK
from migrator.backends._cypher import MARKER_LABEL
from migrator.backends.base import Batch, Row, WriteOutcome
from migrator.backends.memgraph import MemgraphBackend
from migrator.codec import dump_raw, load_raw
from migrator.errors import MemmigError, StoreRefused
from migrator.model import Corrupt
from migrator.models import BackendConfig, BackendType
from tests import engines
from tests.integration.bolt import START, Opened, Target, edge, memory, opened_on

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from migrator.model import Kind
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


@pytest.mark.parametrize("kind", ["memory", "relationship"])
def test_no_name_of_a_property_is_ours(opened: Opened, neo4j_server: Neo4jServer, kind: Kind) -> None:
    held = opened.target()
    named = {LOCK: True, "x": 1}
    assert held.create(memory("a", **named), memory("b")) is APPLIED
    assert held.create(edge("e", "a", "b", **named)) is APPLIED
    name = "a" if kind == "memory" else "e"
    assert held.update(kind, name, x=2) is APPLIED
    found = neo4j_server.run(
        f"MATCH (n) WHERE NOT n:{MARKER_LABEL} OPTIONAL MATCH (n)-[r]->() RETURN n.{LOCK}, r.{LOCK}"
    )
    assert sorted(found, key=repr) == [[None, None], [True, True]]
    assert held.delete("relationship", "e") is APPLIED
    assert held.delete("memory", "a") is APPLIED


#: An edge of the id that the batch makes, by somebody who looks at nothing.
_THEIRS = "MATCH (a:Memory {id: 'a'}), (b:Memory {id: 'b'}) CREATE (a)-[:THEIRS {id: 'e'}]->(b)"
#: From 50 edges on a node is stored otherwise, and locked otherwise.
_DENSE = "MATCH (n:Memory) UNWIND range(1, 120) AS x CREATE (n)-[:MENTIONS]->(:Entity), (n)<-[:MENTIONS]-(:Entity)"


@pytest.fixture(params=["sparse", "dense"])
def ends(opened: Opened, neo4j_server: Neo4jServer, request: pytest.FixtureRequest) -> Target:
    """Memories a, b and c, with few edges or with many, and an edge "m" from a to c."""
    held = opened.target()
    assert held.create(memory("a"), memory("b"), memory("c")) is APPLIED
    assert held.create(edge("m", "a", "c")) is APPLIED
    if request.param == "dense":
        neo4j_server.run(_DENSE)
    return held


def test_an_edge_of_the_same_id_waits_for_ours(
    ends: Target, neo4j_server: Neo4jServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = threading.Event()
    waited: list[bool] = []
    write = _bolt_write.Writer._write

    def foreign() -> None:
        neo4j_server.run(_THEIRS)
        done.set()

    other = threading.Thread(target=foreign)

    def late(writer: Any, query: str, rows: Any) -> None:
        other.start()
        waited.append(not done.wait(1.5))
        write(writer, query, rows)

    monkeypatch.setattr(_bolt_write.Writer, "_write", late)
    assert ends.create(edge("e", "a", "b")) is APPLIED
    other.join(20)
    assert waited == [True], "it got in between our guard and our write"
    assert done.is_set()


def test_ours_waits_for_an_edge_of_the_same_id_and_is_refused(ends: Target, neo4j_server: Neo4jServer) -> None:
    outcome: list[WriteOutcome] = []
    batch = ends.batch("relationship", "create", [Row("e", None, ends.backend.form.encode(edge("e", "a", "b")))])
    with neo4j_server.client() as client, client.session() as session, session.begin_transaction() as theirs:
        theirs.run(_THEIRS).consume()
        ours = threading.Thread(target=lambda: outcome.append(ends.backend.write(batch, ends.marker)))
        ours.start()
        ours.join(1.5)
        early = list(outcome)
        theirs.commit()
        ours.join(20)
    assert (early, outcome) == ([], [ROWS])
    assert neo4j_server.run("MATCH ()-[r {id: 'e'}]->() RETURN type(r)") == [["THEIRS"]]


def test_an_edge_is_not_moved_to_where_one_of_its_id_stands(ends: Target, neo4j_server: Neo4jServer) -> None:
    raw = ends.raw("relationship", "m")
    neo4j_server.run(_THEIRS.replace("'e'", "'m'"))
    assert ends.send("relationship", "replace", [Row("m", raw, {**raw, "to": "b"})]) is ROWS
    neo4j_server.run("MATCH ()-[r:THEIRS]->() DELETE r")
    assert ends.send("relationship", "replace", [Row("m", raw, {**raw, "type": "CAUSES"})]) is APPLIED
    assert (
        ends.send("relationship", "replace", [Row("m", ends.raw("relationship", "m"), {**raw, "to": "b"})]) is APPLIED
    )
    assert neo4j_server.run("MATCH (a)-[r {id: 'm'}]->(b) RETURN type(r), a.id, b.id") == [["SOLVES", "a", "b"]]


def test_memgraph_refuses_ours_where_an_edge_of_its_id_came_meanwhile(
    memgraph: MemgraphBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    _in_memgraph("CREATE (:Memory {id: 'a'}), (:Memory {id: 'b'})")
    write = _bolt_write.Writer._write

    def late(writer: Any, query: str, rows: Any) -> None:
        _in_memgraph(_THEIRS)
        write(writer, query, rows)

    monkeypatch.setattr(_bolt_write.Writer, "_write", late)
    rows = [Row("e", None, memgraph.form.encode(edge("e", "a", "b")))]
    batch = Batch(number=1, digest="d", kind="relationship", operation="create", shape="SOLVES", rows=rows)
    assert memgraph.write(batch, START) is ROWS
    assert _in_memgraph("MATCH ()-[r {id: 'e'}]->() RETURN type(r)") == [["THEIRS"]]


@pytest.mark.parametrize(
    "index", ["TEXT INDEX t FOR (m:Memory) ON (m.id)", "FULLTEXT INDEX t FOR (m:Memory) ON EACH [m.id]"]
)
def test_only_a_range_index_stands_in_for_the_constraint(opened: Opened, neo4j_server: Neo4jServer, index: str) -> None:
    neo4j_server.run(f"CREATE {index}")
    held = opened.target()
    assert len(neo4j_server.run("SHOW CONSTRAINTS")) == 1
    assert held.create(memory("a")) is APPLIED
    assert held.create(memory("b"), memory("a")) is ROWS


def test_a_target_that_cannot_be_kept_unique_is_warned_of(opened: Opened, neo4j_server: Neo4jServer) -> None:
    neo4j_server.run("CREATE INDEX mine FOR (m:Memory) ON (m.id)")
    backend = opened()
    for access in ("write", "dry"):
        (warning,) = backend.open(access).warnings
        assert "index on id but no constraint" in warning
    assert backend.open("read").warnings == ()
    neo4j_server.run("DROP INDEX mine")
    assert backend.open("write").warnings == ()
    backend.apply_schema(backend.missing_schema())
    assert backend.open("write").warnings == ()


def _defined_behind(neo4j_server: Neo4jServer, theirs: str, ours: Callable[[], object]) -> list[BaseException]:
    """Change the schema while somebody else does and has not committed yet; return what that raised."""
    errors: list[BaseException] = []

    def define() -> None:
        try:
            ours()
        except MemmigError as error:
            errors.append(error)

    with neo4j_server.client() as client, client.session() as session, session.begin_transaction() as transaction:
        transaction.run(theirs).consume()
        thread = threading.Thread(target=define)
        thread.start()
        thread.join(1.5)
        assert thread.is_alive()
        transaction.commit()
        thread.join(30)
    return errors


def test_an_index_that_was_made_meanwhile_is_no_error(opened: Opened, neo4j_server: Neo4jServer) -> None:
    """As it is where a request of ours arrives after its connection was lost."""
    backend = opened()
    late = next(step for step in backend.missing_schema() if step.name == "index:Memory.type")
    assert _defined_behind(neo4j_server, late.create, lambda: backend.apply_schema([late])) == []
    assert late.name not in {step.name for step in backend.missing_schema()}


def test_an_index_on_ids_that_came_meanwhile_is_a_refusal(opened: Opened, neo4j_server: Neo4jServer) -> None:
    backend = opened()
    unique = next(step for step in backend.missing_schema() if step.kind == "constraint")
    theirs = "CREATE INDEX theirs FOR (m:Memory) ON (m.id)"
    (error,) = _defined_behind(neo4j_server, theirs, lambda: backend.apply_schema([unique]))
    assert isinstance(error, StoreRefused)
    assert "There already exists an index" in error.message


_STATES = "SHOW INDEXES YIELD name, type, state WHERE type <> 'LOOKUP' AND state <> 'ONLINE' RETURN name"


@pytest.mark.parametrize(
    ("name", "value"),
    [("tags", ["t" * 9_000]), ("tags", ["t" * 20] * 372), ("type", "\u00e9" * 4_083), ("importance", [1.5] * 1_021)],
)
def test_an_index_that_a_value_of_others_does_not_fit_is_left_out_and_named(
    opened: Opened, neo4j_server: Neo4jServer, name: str, value: Any
) -> None:
    neo4j_server.run(f"CREATE (:Memory {{id: 'a', {name}: $value}})", value=value)
    backend = opened()
    (warning,) = backend.open("write").warnings
    assert f"no index on {name}" in warning
    steps = backend.missing_schema()
    assert f"index:Memory.{name}" not in {step.name for step in steps}
    assert backend.apply_schema(steps) == steps
    assert neo4j_server.run(_STATES) == []


@pytest.mark.parametrize(("name", "value"), [("tags", ["t" * 20] * 371), ("type", "\u00e9" * 4_082), ("importance", 1)])
def test_a_value_of_others_that_fits_is_no_hindrance(
    opened: Opened, neo4j_server: Neo4jServer, name: str, value: Any
) -> None:
    neo4j_server.run(f"CREATE (:Memory {{id: $id, {name}: $value}}), (:Memory {{id: 7}})", id="i" * 8_164, value=value)
    backend = opened()
    assert backend.open("write").warnings == ()
    steps = backend.missing_schema()
    assert backend.apply_schema(steps) == steps
    assert neo4j_server.run(_STATES) == []


def test_an_index_that_fails_on_a_late_value_is_dropped(opened: Opened, neo4j_server: Neo4jServer) -> None:
    backend = opened()
    steps = backend.missing_schema()
    neo4j_server.run("CREATE (:Memory {id: 'a', tags: [$long]})", long="t" * 9_000)
    made = backend.apply_schema(steps)
    assert {step.name for step in steps} - {step.name for step in made} == {"index:Memory.tags"}
    assert neo4j_server.run(_STATES) == []
    assert len(neo4j_server.run("SHOW INDEXES YIELD name, type WHERE type <> 'LOOKUP' RETURN name")) == len(made)


def test_an_id_that_no_index_can_have_is_refused_before_anything_is_made(
    opened: Opened, neo4j_server: Neo4jServer
) -> None:
    late = opened()
    steps = late.missing_schema()
    neo4j_server.run("CREATE (:Memory {id: $long})", long="i" * 9_000)
    with pytest.raises(StoreRefused, match="more than 8164 bytes"):
        opened(access="dry")
    backend = opened()
    with pytest.raises(StoreRefused, match="more than 8164 bytes"):
        backend.missing_schema()
    assert backend.markers() == [], "a run that died here can be looked at and taken back"
    with pytest.raises(StoreRefused, match="does not fit"):
        late.apply_schema(steps)
    assert neo4j_server.run("SHOW CONSTRAINTS") == []
    assert opened(role="from").inventory().memories == 1

"""Reading back exactly and completely, on a real server and in an embedded one."""

from __future__ import annotations

import math
import random
import struct
import sys
from typing import TYPE_CHECKING, Any

import pytest

from migrator.backends.base import Row, WriteOutcome
from migrator.backends.falkordb import FalkorDBBackend
from migrator.backends.falkordblite import FalkorDBLiteBackend
from migrator.errors import StoreRefused, StoreUnreachable
from migrator.model import Corrupt, Memory, Relationship
from migrator.models import BackendConfig, BackendType
from tests import engines
from tests.integration.falkor import Target, config, edge, memory, opened, scanned

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from migrator.backends._falkor import FalkorStore
    from tests.engines import FalkorServer


@pytest.fixture(params=["falkordb", "falkordblite"])
def store(request: pytest.FixtureRequest) -> Iterator[FalkorStore]:
    backend: FalkorStore
    if request.param == "falkordb":
        backend = FalkorDBBackend(config(request.getfixturevalue("falkordb_server")), role="to")
    else:
        make: Callable[[], Path] = request.getfixturevalue("lite_file")
        backend = FalkorDBLiteBackend(BackendConfig(backend=BackendType.FALKORDBLITE, path=make()), role="to")
    backend.open("write")
    yield backend
    backend.close()


def _doubles(number: int) -> list[float]:
    source = random.Random(20240101)
    found = [0.0, -0.0, 5e-324, -5e-324, 2.2250738585072014e-308, sys.float_info.max, -sys.float_info.max, 0.1 + 0.2]
    found += [1e290, math.nextafter(1e290, math.inf), 1e300, 1.3e300, 1e16, 1e-5, 2.0**53, 1 / 3, 0.1, 1e22, 9.5]
    found += [math.nextafter(0.1, 1), math.nextafter(1.0, 0), math.nextafter(1e15, 0), 123456789012345.6]
    while len(found) < number:
        (value,) = struct.unpack(">d", source.randbytes(8))
        if math.isfinite(value):
            found.append(value)
        found += [source.random(), round(source.uniform(-1000, 1000), source.randrange(6))]
    return found[:number]


def test_10_000_doubles_come_back_to_the_bit(store: FalkorStore) -> None:
    target = Target(store).claim()
    values = _doubles(10_000)
    records = [
        memory(f"m{at}", one=values[at], several=values[at : at + 3], nested=[[values[at], 1], ["x", [values[at]]]])
        for at in range(0, 10_000, 4)
    ]
    edges = [edge(f"e{at}", "m0", "m4", one=values[at], several=values[at : at + 4]) for at in range(0, 10_000, 4)]
    for at in range(0, len(records), 500):
        assert target.create(*records[at : at + 500]) is WriteOutcome.APPLIED
        assert target.create(*edges[at : at + 500]) is WriteOutcome.APPLIED
    assert repr(scanned(store, "memory")) == repr(records)
    assert sorted(map(repr, scanned(store, "relationship"))) == sorted(map(repr, edges))
    some: list[Memory | Relationship] = [*records[:700]]
    assert repr(store.lookup("memory", {record.id: None for record in some})) == repr(
        {record.id: store.form.encode(record) for record in some}
    )


def test_every_code_point_and_int_comes_back(store: FalkorStore) -> None:
    target = Target(store).claim()
    texts = [
        "".join(chr(at) for at in range(start, start + 4096) if at and not 0xD800 <= at < 0xE000)
        for start in range(0, 0x30000, 4096)
    ]
    ints = [0, 1, -1, 2**31, 2**53 + 1, 2**63 - 1, -(2**63), 10**18]
    records = [memory(f"t{at}", text=text, several=[text, "", True, at]) for at, text in enumerate(texts)]
    records.append(memory("ints", several=ints, **{f"i{at}": value for at, value in enumerate(ints)}))
    records.append(memory("long", text="x\u00e9" * 600_000))
    for record in records:
        assert store.form.problems(record) == ()
        assert target.create(record) is WriteOutcome.APPLIED
    assert repr(scanned(store, "memory")) == repr(records)


def test_ids_of_mixed_case_and_any_script_are_all_read_and_found(store: FalkorStore) -> None:
    target = Target(store).claim()
    source = random.Random(7)
    names = {
        "".join(source.choices("aAbBzZ09-_ éÉßñ日本🙂", k=source.randrange(1, 12))).strip() for _ in range(1500)
    } - {""}
    names |= {"x" * 4096, "1", "01", "a", "A"}
    records = [memory(name) for name in sorted(names)]
    for at in range(0, len(records), 500):
        assert target.create(*records[at : at + 500]) is WriteOutcome.APPLIED
    assert {record.id for record in scanned(store, "memory", 97)} == names
    assert store.lookup("memory", dict.fromkeys(names)).keys() == names
    assert store.lookup("memory", {name + "!": None for name in names}) == {}


@pytest.mark.parametrize("limit", [2, 100])
def test_a_server_that_cuts_answers_is_read_in_full(limit: int) -> None:
    if not engines.live("falkordb"):
        pytest.skip("FalkorDB is not live here")
    with engines.falkordb_server("none", module_options=("RESULTSET_SIZE", str(limit))) as server:
        backend = opened(server)
        target = Target(backend).claim()
        number = limit * 3 + 1
        records = [memory(f"m{at}") for at in range(number)]
        hub = [edge(f"h{at}", "m0", f"m{at % number}", f"T{at % 3}") for at in range(number * 2)]
        assert target.create(*records) is WriteOutcome.APPLIED
        for at in range(3):
            assert target.create(*hub[at::3]) is WriteOutcome.APPLIED
        assert {record.id for record in scanned(backend, "memory")} == {record.id for record in records}
        assert {record.id for record in scanned(backend, "relationship")} == {record.id for record in hub}
        assert len(backend.lookup("memory", {record.id: None for record in records})) == number
        assert len(backend.lookup("relationship", {record.id: None for record in hub})) == number * 2
        assert len(backend.attached([record.id for record in records])) == number
        backend.close()


def test_a_server_that_returns_nothing_is_refused() -> None:
    if not engines.live("falkordb"):
        pytest.skip("FalkorDB is not live here")
    with (
        engines.falkordb_server("none", module_options=("RESULTSET_SIZE", "0")) as server,
        pytest.raises(StoreRefused, match="RESULTSET_SIZE"),
    ):
        opened(server)


def test_a_hub_of_20_000_edges_under_a_limit_of_10_000() -> None:
    if not engines.live("falkordb"):
        pytest.skip("FalkorDB is not live here")
    with engines.falkordb_server("none", module_options=("RESULTSET_SIZE", "10000")) as server:
        server.query("memorygraph", 'CREATE (:Memory {id: "hub"})')
        edges = "MATCH (h) WITH h UNWIND range(1, 20000) AS i CREATE (h)-[:T {id: 'e' + i}]->(:Memory {id: 'm' + i})"
        server.query("memorygraph", edges)
        backend = opened(server, "from")
        assert backend.inventory().relationships == 20_000
        assert len({record.id for record in scanned(backend, "relationship")}) == 20_000
        backend.close()


def test_a_scan_with_gaps_in_internal_ids(falkordb_server: FalkorServer) -> None:
    falkordb_server.query("memorygraph", 'UNWIND range(1, 3000) AS i CREATE (:Memory {id: "m" + i, i: i}), (:Other)')
    falkordb_server.query("memorygraph", "MATCH (m:Memory) WHERE m.i % 7 <> 0 DELETE m")
    backend = opened(falkordb_server, "from")
    assert {record.id for record in scanned(backend, "memory", 50)} == {f"m{at}" for at in range(7, 3001, 7)}
    assert backend.inventory().other_nodes == {"Other": 3000}
    backend.close()


def test_what_is_no_record_is_named_and_counted(falkordb_server: FalkorServer) -> None:
    falkordb_server.query(
        "memorygraph",
        'CREATE (a:Memory {id: "a"}), (:Memory {title: "no id"}), (n:Memory {id: 7}), (e:Entity:Extra {id: "x"}), (),'
        '(a)-[:T {id: "e"}]->(n), (a)-[:T {id: 5}]->(a), (a)-[:MENTIONS]->(e),'
        '(:Memory {id: "p", at: point({latitude: 1.5, longitude: 2}), v: vecf32([1.5])}),'
        '(:Memory {id: "d", d: date("2020-01-01")})',
    )
    backend = opened(falkordb_server, "from")
    found = {record.id: record for record in scanned(backend, "memory")}
    internal = sorted(name for name in found if name.startswith("internal:"))
    assert len(internal) == 2
    assert all(isinstance(found[name], Corrupt) for name in (*internal, "p", "d"))
    assert isinstance(found["a"], Memory)
    edges = scanned(backend, "relationship")
    assert [type(record) for record in edges] == [Corrupt, Corrupt]
    inventory = backend.inventory()
    assert (inventory.memories, inventory.relationships, inventory.other_relationships) == (5, 2, 1)
    assert inventory.other_nodes == {"Entity:Extra": 1, "(no label)": 1}
    backend.close()
    every = opened(falkordb_server, "from", all_labels=True)
    assert len(scanned(every, "memory")) == every.inventory().memories == 7
    assert len(scanned(every, "relationship")) == every.inventory().relationships == 3
    assert every.inventory().other_nodes == {}
    every.close()


def test_edges_without_id_have_the_same_id_in_every_scan(falkordb_server: FalkorServer) -> None:
    falkordb_server.query(
        "memorygraph",
        'CREATE (a:Memory {id: "a"}), (b:Memory {id: "b"}), (a)-[:T {x: 1}]->(b),'
        "(a)-[:T {x: 1}]->(b), (a)-[:T {x: 1.0}]->(b)",
    )
    backend = opened(falkordb_server, "from")
    one = scanned(backend, "relationship")
    assert one == scanned(backend, "relationship")
    assert {record.id: record for record in one} == {
        record.id: record for record in scanned(backend, "relationship", 1)
    }
    assert len({record.id for record in one}) == 3
    assert backend.lookup("relationship", {record.id: None for record in one}) == {}, "nobody invents in a target"
    backend.close()


def test_duplicates_are_named(falkordb_server: FalkorServer) -> None:
    falkordb_server.query(
        "memorygraph", 'UNWIND range(1, 30) AS i CREATE (a:Memory {id: "m" + (i % 15)})-[:T {id: "e"}]->(a)'
    )
    backend = opened(falkordb_server, "from")
    duplicates = backend.inventory().duplicates
    assert len(duplicates["memory"]) == 10
    assert duplicates["relationship"] == ("e",)
    backend.close()


def test_a_reader_makes_no_graph(falkordb_server: FalkorServer) -> None:
    with pytest.raises(StoreUnreachable, match="no graph"):
        opened(falkordb_server, "from")
    backend = FalkorDBBackend(config(falkordb_server), role="to")
    assert not backend.open("read").exists
    assert scanned(backend, "memory") == scanned(backend, "relationship") == []
    assert backend.inventory().memories == 0
    assert backend.lookup("memory", {"a": None}) == {}
    assert backend.missing_schema()[0].kind == "graph"
    backend.close()
    with falkordb_server.client() as client:
        assert client.keys() == []


def test_look_ups_are_right_without_an_index(falkordb_server: FalkorServer) -> None:
    falkordb_server.query(
        "memorygraph", 'CREATE (a:Memory {id: "a"})-[:T {id: "e"}]->(:Memory {id: "b"}), (:Memory {id: " a"})'
    )
    backend = opened(falkordb_server)
    assert backend.lookup("memory", dict.fromkeys(["a", "b", "c"])).keys() == {"a", "b"}
    assert backend.lookup("relationship", {"e": Relationship("e", "T", "b", "a", {})})["e"]["from"] == "a"
    falkordb_server.query("memorygraph", 'CREATE (:Memory {id: "c"})')
    assert backend.lookup("memory", dict.fromkeys(["a", "b", "c"])).keys() == {"a", "b", "c"}
    backend.close()


def test_ids_that_the_index_never_finds_are_found_where_others_have_them(falkordb_server: FalkorServer) -> None:
    """A night looks each memory that changed up by its id: one that is not found would be taken for gone."""
    ids = ["", " a", "a ", "a", "b\x01c", "\t", "x" * 4097, "1"]
    falkordb_server.query("memorygraph", "CREATE INDEX FOR (m:Memory) ON (m.id)")
    for one in ids:
        falkordb_server.query("memorygraph", f'CREATE (:Memory {{id: "{one}"}})')
    falkordb_server.query("memorygraph", "CREATE (:Memory {id: 2}), (:Memory {id: 'end'})")
    backend = opened(falkordb_server)
    for number, one in enumerate(ids):
        ends = f"MATCH (a:Memory {{id: 'end'}}), (b:Memory) WHERE b.id + '' = '{one}'"
        falkordb_server.query("memorygraph", f'{ends} CREATE (a)<-[:T {{id: "e{number}"}}]-(b)-[:U]->(b)')
    found = backend.lookup("memory", dict.fromkeys([*ids, "2", "c\x01b", " 1", "y" * 4097]))
    assert {name: raw["properties"]["id"] for name, raw in found.items()} == {one: one for one in ids}
    edges = {one.id: one for one in scanned(backend, "relationship") if isinstance(one, Relationship)}
    loops = {name: one for name, one in edges.items() if one.from_id == one.to_id}  # they have made ids
    assert {one.from_id for one in loops.values()} == set(ids)
    assert backend.lookup("relationship", dict(edges)).keys() == loops.keys() | {f"e{n}" for n in range(len(ids))}
    assert backend.attached(ids, 5).keys() == set(ids)
    backend.close()


def test_what_others_create_after_open_is_found(falkordb_server: FalkorServer) -> None:
    backend = opened(falkordb_server)
    target = Target(backend).claim()
    target.create(memory("a"), memory("b"))
    assert backend.lookup("memory", {"c": None}) == backend.lookup("relationship", {"e": None}) == {}
    falkordb_server.query("memorygraph", 'MATCH (a {id: "a"}) CREATE (a)-[:T {id: "e"}]->(:Memory {id: "c"})')
    assert backend.lookup("memory", {"c": None}).keys() == {"c"}
    hint = edge("e", "a", "c", "T")
    assert backend.lookup("relationship", {"e": hint}).keys() == {"e"}
    assert target.send("memory", "create", [Row("c", None, target.encoded(memory("c")))]) is WriteOutcome.ROWS_REFUSED
    assert target.create(hint) is WriteOutcome.ROWS_REFUSED
    backend.close()


def test_queries_that_read_never_write(falkordb_server: FalkorServer) -> None:
    falkordb_server.query("memorygraph", 'CREATE (:Memory {id: "a"})-[:T {id: "e"}]->(:Memory {id: "b"})')
    with falkordb_server.client() as client:
        before = client.dump("memorygraph"), client.info("commandstats")["cmdstat_graph.QUERY"]["calls"]
        backend = FalkorDBBackend(config(falkordb_server), role="to")
        backend.open("write")
        inventory: Any = backend.inventory()
        assert inventory.memories == 2
        assert scanned(backend, "memory")
        assert scanned(backend, "relationship")
        backend.lookup("memory", {"a": None})
        backend.lookup("relationship", {"e": None})
        backend.attached(["a"])
        backend.markers()
        backend.missing_schema()
        backend.close()
        assert before == (client.dump("memorygraph"), client.info("commandstats")["cmdstat_graph.QUERY"]["calls"])

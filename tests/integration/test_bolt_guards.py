"""The guarded write against lying inputs and writers in between, on a real Neo4j."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from migrator.backends import _bolt_write
from migrator.backends.base import Row, WriteOutcome
from migrator.errors import OutcomeUnknown, StoreUnreachable
from tests.integration.bolt import START, Opened, Target, contents, edge, memory, opened_on, scanned

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.neo4j_server import Neo4jServer

APPLIED, ROWS, MARKER = WriteOutcome.APPLIED, WriteOutcome.ROWS_REFUSED, WriteOutcome.MARKER_REFUSED
NAN = float("nan")
BASE: dict[str, Any] = {
    "i": 1,
    "f": 1.0,
    "b": True,
    "s": "1",
    "z": 0.0,
    "big": 2**53,
    "l": [1, 2],
    "lf": [0.0, 1.0],
    "e": [],
    "nan": NAN,
    "y": b"\x00\xff",
}
LIES: list[dict[str, Any]] = [
    {"i": 1.0},
    {"i": True},
    {"i": "1"},
    {"f": 1},
    {"b": 1},
    {"s": 1},
    {"z": -0.0},
    {"z": 0},
    {"big": float(2**53)},
    {"big": 2**53 + 1},
    {"l": [1.0, 2.0]},
    {"l": [2, 1]},
    {"l": [1]},
    {"lf": [-0.0, 1.0]},
    {"e": "[]"},
    {"e": None},
    {"nan": float("inf")},
    {"y": b"\x00"},
    {"extra": 1},
]


@pytest.fixture
def opened(neo4j_server: Neo4jServer) -> Iterator[Opened]:
    yield from opened_on(neo4j_server)


@pytest.fixture
def target(opened: Opened) -> Target:
    held = opened.target()
    assert held.create(memory("a", **BASE), memory("b"), memory("c")) is APPLIED
    assert held.create(edge("e", "a", "b", **BASE)) is APPLIED
    return held


@pytest.mark.parametrize("kind", ["memory", "relationship"])
def test_what_is_expected_is_compared_by_type_and_bit(target: Target, neo4j_server: Neo4jServer, kind: Any) -> None:
    name = "a" if kind == "memory" else "e"
    raw = target.raw(kind, name)
    before = contents(neo4j_server)
    for lie in LIES:
        properties = {key: value for key, value in (raw["properties"] | lie).items() if value is not None}
        wrong, new = {**raw, "properties": properties}, {**raw, "properties": raw["properties"] | {"new": 1}}
        assert target.send(kind, "update", [Row(name, wrong, new)]) is ROWS, lie
        assert target.send(kind, "delete", [Row(name, wrong, None)]) is ROWS, lie
    assert contents(neo4j_server) == before
    assert target.update(kind, name, new=1) is APPLIED


@pytest.mark.parametrize("kind", ["memory", "relationship"])
def test_each_lie_can_be_written_over_the_truth(target: Target, kind: Any) -> None:
    """SET alone leaves 0.0 where -0.0 is to be."""
    name = "a" if kind == "memory" else "e"
    for lie in [*LIES, {"z": -0.0, "f": 2.0}, {"z": 0.0, "b": None}]:
        assert target.update(kind, name, **lie) is APPLIED
        found = target.raw(kind, name)["properties"]
        assert repr({key: found.get(key) for key in lie}) == repr(lie)


def test_another_label_type_or_end_is_refused(target: Target) -> None:
    raw, between = target.raw("memory", "c"), target.raw("relationship", "e")
    for wrong in ({**raw, "labels": ["Extra", "Memory"]}, {**raw, "labels": ["Extra"]}):
        assert target.send("memory", "delete", [Row("c", wrong, None)]) is ROWS
    for wrong in ({**between, "type": "CAUSES"}, {**between, "from": "b"}, {**between, "to": "c"}):
        assert target.send("relationship", "delete", [Row("e", wrong, None)]) is ROWS


def test_labels_are_added_and_taken_away_singly(target: Target, neo4j_server: Neo4jServer) -> None:
    raw = target.raw("memory", "c")
    more = {**raw, "labels": ["Extra", "Memory"]}
    assert target.send("memory", "update", [Row("c", raw, more)]) is APPLIED
    assert sorted(neo4j_server.run("MATCH (n {id: 'c'}) RETURN labels(n)")[0][0]) == ["Extra", "Memory"]
    assert target.send("memory", "update", [Row("c", more, raw)]) is APPLIED
    assert neo4j_server.run("MATCH (n {id: 'c'}) RETURN labels(n)") == [[["Memory"]]]


def test_locks_leave_no_trace(target: Target, neo4j_server: Neo4jServer) -> None:
    before = contents(neo4j_server)
    assert target.update("memory", "a", i=2) is APPLIED
    assert target.update("memory", "a", i=1) is APPLIED
    assert target.update("relationship", "e", i=2) is APPLIED
    assert target.update("relationship", "e", i=1) is APPLIED
    assert contents(neo4j_server) == before
    assert neo4j_server.run("MATCH (n) WHERE n.memmig_lock IS NOT NULL RETURN labels(n)") == [[["_Memmig"]]]


class Gap:
    """Runs something in the gap between a batch's guards and its writes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, act: Callable[[], None]) -> None:
        write = _bolt_write.Writer._write

        def late(writer: Any, query: str, rows: Any) -> None:
            monkeypatch.setattr(_bolt_write.Writer, "_write", write)
            act()
            write(writer, query, rows)

        monkeypatch.setattr(_bolt_write.Writer, "_write", late)


def test_a_writer_in_the_gap_waits_and_is_not_overwritten(
    target: Target, neo4j_server: Neo4jServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It knows nothing of the marker. Read committed would let it in between the guard and the write."""
    done = threading.Event()

    def foreign() -> None:
        neo4j_server.run("MATCH (n:Memory {id: 'c'}) SET n.title = 'theirs'")
        done.set()

    writer = threading.Thread(target=foreign)
    seen: list[bool] = []

    def act() -> None:
        writer.start()
        seen.append(done.wait(1.5))

    Gap(monkeypatch, act)
    assert target.update("memory", "c", title="ours", other="ours") is APPLIED
    writer.join(20)
    assert seen == [False], "it got in before our commit"
    assert neo4j_server.run("MATCH (n:Memory {id: 'c'}) RETURN n.title, n.other") == [["theirs", "ours"]]


def test_a_writer_before_the_guards_is_noticed(target: Target, neo4j_server: Neo4jServer) -> None:
    """It holds the lock when the batch comes, and commits while the batch waits."""
    raw = target.raw("memory", "c")
    outcome: list[WriteOutcome] = []
    with neo4j_server.client() as client, client.session() as session, session.begin_transaction() as theirs:
        theirs.run("MATCH (n:Memory {id: 'c'}) SET n.title = 'theirs'").consume()
        new = {**raw, "properties": raw["properties"] | {"title": "ours"}}
        ours = threading.Thread(
            target=lambda: outcome.append(
                target.backend.write(target.batch("memory", "update", [Row("c", raw, new)]), target.marker)
            )
        )
        ours.start()
        time.sleep(1)
        assert not outcome
        theirs.commit()
        ours.join(20)
    assert outcome == [ROWS]
    assert neo4j_server.run("MATCH (n:Memory {id: 'c'}) RETURN n.title") == [["theirs"]]


def test_an_id_that_someone_creates_meanwhile_is_refused(
    target: Target, neo4j_server: Neo4jServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def act() -> None:
        neo4j_server.run("CREATE (:Memory {id: 'new', title: 'theirs'})")

    Gap(monkeypatch, act)
    assert target.create(memory("first"), memory("new")) is ROWS
    assert neo4j_server.run("MATCH (n:Memory) WHERE n.id IN ['first', 'new'] RETURN n.id, n.title") == [
        ["new", "theirs"]
    ]


def test_an_edge_that_someone_hangs_on_is_never_deleted(
    target: Target, neo4j_server: Neo4jServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = contents(neo4j_server)
    assert target.delete("memory", "c", "b") is ROWS, "an edge hangs on b"
    assert contents(neo4j_server) == before
    threads: list[threading.Thread] = []

    def act() -> None:
        threads.append(
            threading.Thread(
                target=lambda: neo4j_server.run("MATCH (a:Memory {id: 'c'}), (b {id: 'a'}) CREATE (a)-[:THEIRS]->(b)")
            )
        )
        threads[0].start()
        time.sleep(1)

    Gap(monkeypatch, act)
    outcome = target.delete("memory", "c")
    threads[0].join(20)
    left = neo4j_server.run("MATCH (n:Memory {id: 'c'})-[r]->() RETURN type(r)")
    assert (outcome, left) in [(APPLIED, []), (ROWS, [["THEIRS"]])]


def test_a_deadlock_is_a_refusal(target: Target, neo4j_server: Neo4jServer, monkeypatch: pytest.MonkeyPatch) -> None:
    before = target.marker
    with neo4j_server.client() as client, client.session() as session:
        theirs = session.begin_transaction()
        theirs.run("MATCH (n:Memory {id: 'b'}) SET n.theirs = 1").consume()

        def act() -> None:
            """They wait for our lock; when we write to theirs, one of both must give way."""
            threading.Thread(target=lambda: _quietly(theirs)).start()
            time.sleep(1)

        raws = {name: target.raw("memory", name) for name in ("c", "b")}
        new = {name: {**raw, "properties": raw["properties"] | {"ours": 1}} for name, raw in raws.items()}
        guard = _bolt_write.Writer._guard_nodes

        def slow(writer: Any, expected: Any, _guards: Any, *, alone: bool) -> None:
            guard(writer, expected, {False: [{"id": "c"}]}, alone=alone)
            act()
            guard(writer, expected, {False: [{"id": "b"}]}, alone=alone)

        monkeypatch.setattr(_bolt_write.Writer, "_guard_nodes", slow)
        batch = target.batch("memory", "update", [Row(name, raws[name], new[name]) for name in raws])
        outcome = target.backend.write(batch, target.marker)
    assert outcome in (ROWS, APPLIED)
    if outcome is ROWS:
        assert target.backend.markers() == [before]
        assert neo4j_server.run("MATCH (n:Memory) WHERE n.ours = 1 RETURN count(n)") == [[0]]


def _quietly(theirs: Any) -> None:
    from neo4j import exceptions

    try:
        theirs.run("MATCH (n:Memory {id: 'c'}) SET n.theirs = 1").consume()
        theirs.rollback()
    except (exceptions.Neo4jError, exceptions.DriverError):
        pass


def test_a_marker_raised_in_the_gap_waits(target: Target, opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    other = opened()
    held = target.marker
    raised: list[bool] = []
    rival = threading.Thread(target=lambda: raised.append(other.swap_marker(held, replace(held, epoch=2))))

    def act() -> None:
        rival.start()
        time.sleep(1)
        assert not raised

    Gap(monkeypatch, act)
    assert target.create(memory("new")) is APPLIED
    rival.join(20)
    assert raised == [False]


def test_two_claims_at_once_are_seen_by_who_counts_again(opened: Opened, neo4j_server: Neo4jServer) -> None:
    backends = [opened() for _ in range(4)]
    markers = [replace(START, run=f"run {n}") for n in range(4)]
    claimed: dict[int, bool] = {}

    def claim(number: int) -> None:
        claimed[number] = backends[number].swap_marker(None, markers[number])

    threads = [threading.Thread(target=claim, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    there = backends[0].markers()
    assert {marker.run for marker in there} == {f"run {n}" for n, held in claimed.items() if held}
    for number, held in claimed.items():
        assert backends[number].swap_marker(markers[number], None) is held
    assert neo4j_server.run("MATCH (n) RETURN count(n)") == [[0]]


def test_two_markers_fence_everybody(target: Target, neo4j_server: Neo4jServer) -> None:
    neo4j_server.run("CREATE (:_Memmig {journal: 'alien', run: 'x', epoch: 1, batch: 0, digest: '', owner: 'o'})")
    batch = target.batch("memory", "create", [Row("n", None, target.backend.form.encode(memory("n")))])
    assert target.backend.write(batch, target.marker) is MARKER
    assert not target.backend.swap_marker(target.marker, replace(target.marker, epoch=2))
    assert len(target.backend.markers()) == 2
    assert target.backend.swap_marker(target.marker, None), "who met another one can withdraw"
    assert [marker.journal for marker in target.backend.markers()] == ["alien"]


def test_without_the_constraint_a_create_is_guarded_all_the_same(opened: Opened, neo4j_server: Neo4jServer) -> None:
    neo4j_server.run("CREATE (:Memory {id: 'there'}), (:Entity {id: 'entity'})")
    backend = opened()
    assert backend.swap_marker(None, START)
    held = Target(backend)
    for name in ("there", "entity"):
        assert held.create(memory("new"), memory(name)) is ROWS
    assert held.create(memory("new")) is APPLIED
    assert held.create(memory("new")) is ROWS
    assert backend.lookup("memory", dict.fromkeys(["there", "entity", "new"])).keys() == {"there", "entity", "new"}
    assert held.delete("memory", "there") is APPLIED
    assert held.delete("memory", "entity") is APPLIED
    assert [record.id for record in scanned(backend, "memory")] == ["new"]


def test_a_constraint_that_somebody_drops_meanwhile_is_missed(target: Target, neo4j_server: Neo4jServer) -> None:
    """Before that the store itself refused a second node of an id, and nobody looked."""
    [[name]] = neo4j_server.run("SHOW CONSTRAINTS YIELD name")
    neo4j_server.run(f"DROP CONSTRAINT {name}")
    neo4j_server.run("CREATE (:Memory {id: 'x', title: 'theirs'})")
    assert target.create(memory("x"), memory("y")) is ROWS
    assert neo4j_server.run("MATCH (n:Memory) WHERE n.id IN ['x', 'y'] RETURN n.title") == [["theirs"]]
    assert target.create(memory("y")) is APPLIED, (
        "once the constraint is known to be gone, others' nodes are looked for"
    )
    assert target.create(memory("x")) is ROWS


def test_an_id_that_a_memory_and_an_entity_share_means_the_memory(opened: Opened, neo4j_server: Neo4jServer) -> None:
    neo4j_server.run("CREATE (:Entity {id: 'x', title: 'entity'}), (:Memory {id: 'x', title: 'memory'})")
    held = opened.target()
    assert held.raw("memory", "x")["labels"] == ["Memory"]
    assert held.update("memory", "x", title="ours") is APPLIED
    assert neo4j_server.run("MATCH (n) WHERE n.id = 'x' RETURN n.title ORDER BY n.title") == [["entity"], ["ours"]]


def test_a_server_that_dies_in_a_batch_leaves_the_outcome_unknown(
    target: Target, neo4j_server: Neo4jServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    Gap(monkeypatch, neo4j_server.kill)
    try:
        with pytest.raises(OutcomeUnknown):
            target.create(memory("new"))
    finally:
        if neo4j_server._process is None:
            neo4j_server.start()
    target.backend.close()
    target.backend.open("write")
    assert target.backend.markers() == [target.marker]
    assert target.backend.lookup("memory", {"new": None}) == {}
    assert target.create(memory("new")) is APPLIED


def test_a_server_that_stalls_is_waited_for_only_so_long(opened: Opened, neo4j_server: Neo4jServer) -> None:
    held = Target(opened(timeout=2.0))
    assert held.backend.swap_marker(None, START)
    neo4j_server.pause()
    try:
        began = time.monotonic()
        with pytest.raises((OutcomeUnknown, StoreUnreachable)):
            held.create(memory("new"))
        assert time.monotonic() - began < 20
    finally:
        neo4j_server.go_on()

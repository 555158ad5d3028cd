"""What Memgraph does otherwise, on the server that MEMMIG_TEST_MEMGRAPH_URI names; everything in it is deleted."""

from __future__ import annotations

import os
import threading
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from migrator.backends import _bolt_write
from migrator.backends.base import Batch, Marker, Row, WriteOutcome
from migrator.backends.memgraph import MemgraphBackend
from migrator.errors import MemmigError, StoreRefused
from migrator.model import Corrupt, Memory, digest
from migrator.models import BackendConfig, BackendType
from tests import engines

if TYPE_CHECKING:
    from collections.abc import Iterator

    from migrator.backends.base import Raw

APPLIED, ROWS = WriteOutcome.APPLIED, WriteOutcome.ROWS_REFUSED
START = Marker(journal="j", run="r", epoch=1, batch=0, digest="", owner="test host")


def _config(**more: Any) -> BackendConfig:
    uri = urlsplit(os.environ[engines.MEMGRAPH])
    return BackendConfig(backend=BackendType.MEMGRAPH, host=uri.hostname or "", port=uri.port, **more)


def _run(query: str, **parameters: Any) -> list[list[Any]]:
    with engines.memgraph_client() as client, client.session() as session:
        return [list(row.values()) for row in session.run(query, **parameters)]


@pytest.fixture
def backend() -> Iterator[MemgraphBackend]:
    """An empty target, open for writing, without schema."""
    if not engines.live("memgraph"):
        pytest.skip(next(str(engine) for engine in engines.engines() if engine.name == "memgraph"))
    engines.empty_memgraph()
    found = MemgraphBackend(_config(), role="to")
    found.open("write")
    yield found
    found.close()
    engines.empty_memgraph()


def _held(backend: MemgraphBackend) -> MemgraphBackend:
    backend.apply_schema(backend.missing_schema())
    assert backend.swap_marker(None, START)
    return backend


def _memory(name: str, **properties: Any) -> Raw:
    return {"labels": ["Memory"], "properties": {"id": name, **properties}}


def _write(backend: MemgraphBackend, operation: Any, *rows: Row) -> WriteOutcome:
    (held,) = backend.markers()
    number = held.batch + 1
    batch = Batch(number=number, digest=f"d{number}", kind="memory", operation=operation, shape="Memory", rows=rows)
    return backend.write(batch, held)


def _scanned(backend: MemgraphBackend) -> list[Any]:
    return [record for page in backend.scan("memory", 100) for record in page]


def test_its_own_schema_is_made_outside_transactions_and_dropped(backend: MemgraphBackend) -> None:
    made = backend.apply_schema(backend.missing_schema())
    indexes = sorted(row[2][0] if isinstance(row[2], list) else row[2] for row in _run("SHOW INDEX INFO"))
    assert indexes == ["confidence", "created_at", "id", "importance", "tags", "type"]
    assert [row[:3] for row in _run("SHOW CONSTRAINT INFO")] == [["unique", "Memory", ["id"]]]
    backend.drop_schema(made)
    backend.drop_schema(made)
    assert _run("SHOW INDEX INFO") == _run("SHOW CONSTRAINT INFO") == []


def test_what_was_there_is_not_ours_to_drop(backend: MemgraphBackend) -> None:
    _run("CREATE INDEX ON :Memory(id)")
    _run("CREATE INDEX ON :Memory(type)")
    made = backend.apply_schema(backend.missing_schema())
    assert {step.name for step in made}.isdisjoint({"index:Memory.id", "index:Memory.type"})
    backend.drop_schema(made)
    assert len(_run("SHOW INDEX INFO")) == 2


def test_ids_that_stand_twice_are_named_before_anything_is_made(backend: MemgraphBackend) -> None:
    _run("UNWIND ['a', 'a', 'b', 7, 7] AS x CREATE (:Memory {id: x})")
    with pytest.raises(StoreRefused, match="more than once: 'a'"):
        backend.missing_schema()
    assert _run("SHOW CONSTRAINT INFO") == []


def test_a_schema_change_waits_for_another_clients_transaction(backend: MemgraphBackend) -> None:
    with engines.memgraph_client() as client, client.session() as session:
        theirs = session.begin_transaction()
        theirs.run("CREATE (:Other)").consume()
        timer = threading.Timer(2.5, theirs.commit)
        timer.start()
        backend.apply_schema(backend.missing_schema())
        timer.join()
    assert backend.missing_schema() == []


def test_the_identity_is_the_servers_run(backend: MemgraphBackend) -> None:
    first = backend.identity()
    assert len(first) == 36
    backend.close()
    backend.open("write")
    assert backend.identity() == first


def test_a_barrier_takes_a_snapshot(backend: MemgraphBackend) -> None:
    done = backend.barrier()
    assert (done.durable, done.evidence) == (True, {"how": "CREATE SNAPSHOT"})


def test_a_writer_in_the_gap_makes_the_batch_be_refused(
    backend: MemgraphBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    _held(backend)
    assert _write(backend, "create", Row("a", None, _memory("a", title="before"))) is APPLIED
    write = _bolt_write.Writer._write

    def late(writer: Any, query: str, rows: Any) -> None:
        monkeypatch.setattr(_bolt_write.Writer, "_write", write)
        _run("MATCH (n:Memory {id: 'a'}) SET n.title = 'theirs'")
        write(writer, query, rows)

    monkeypatch.setattr(_bolt_write.Writer, "_write", late)
    row = Row("a", _memory("a", title="before"), _memory("a", title="ours"))
    assert _write(backend, "update", row) is ROWS
    assert _run("MATCH (n:Memory) RETURN n.title") == [["theirs"]]
    assert len(backend.markers()) == 1


def test_an_id_created_meanwhile_is_refused_at_the_commit(
    backend: MemgraphBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    _held(backend)
    write = _bolt_write.Writer._write

    def late(writer: Any, query: str, rows: Any) -> None:
        monkeypatch.setattr(_bolt_write.Writer, "_write", write)
        _run("CREATE (:Memory {id: 'a', title: 'theirs'})")
        write(writer, query, rows)

    monkeypatch.setattr(_bolt_write.Writer, "_write", late)
    assert _write(backend, "create", Row("a", None, _memory("a"))) is ROWS
    assert _run("MATCH (n:Memory) RETURN n.title") == [["theirs"]]


def test_what_it_holds_exactly_goes_in_and_out(backend: MemgraphBackend) -> None:
    _held(backend)
    numbers = [2**40] if backend.form.limits.list_integers == 64 else [2**30]
    values: dict[str, Any] = {
        "nan": float("nan"), "inf": float("inf"), "zero": -0.0, "least": 5e-324, "int": -(2**63), "nul": "a\0b",
        "mixed": [1, 2.5, "x", True, None], "nested": [[1], [2.0, ["a"]]], "numbers": numbers, "empty": [],
        "text beside a number": ["x", 2**40], "long": "x" * 1_000_000,
    }  # fmt: skip
    record = Memory("i" * 9_000, ("Memory",), values)
    assert not backend.form.problems(record)
    assert _write(backend, "create", Row(record.id, None, backend.form.encode(record))) is APPLIED
    assert [digest(one) for one in _scanned(backend)] == [digest(record)]
    before = backend.lookup("memory", {record.id: None})[record.id]
    changes = {"zero": 0.0, "int": 1, "mixed": None, "nested": [[1.0]]}
    after = {**before, "properties": {k: v for k, v in (before["properties"] | changes).items() if v is not None}}
    assert _write(backend, "update", Row(record.id, before, after)) is APPLIED
    assert repr(backend.lookup("memory", {record.id: None})[record.id]["properties"]["zero"]) == "0.0"
    assert _write(backend, "update", Row(record.id, after, before)) is APPLIED
    assert [digest(one) for one in _scanned(backend)] == [digest(record)]


def test_integers_in_lists_are_probed_not_assumed(backend: MemgraphBackend) -> None:
    _run("CREATE (:Memory {id: 'a', v: $v})", v=[2**40])
    exact = _run("MATCH (n:Memory) RETURN n.v") == [[[2**40]]]
    found = backend.form.problems(Memory("a", ("Memory",), {"v": [2**40], "w": [2**40, "x"]}))
    assert [problem.field for problem in found] == ([] if exact else ["v"])


@pytest.mark.parametrize("value", [b"bytes", {"a": 1}, [{"a": 1}], 2**63, "\ud800"])
def test_what_it_cannot_hold_is_named(backend: MemgraphBackend, value: Any) -> None:
    assert [problem.field for problem in backend.form.problems(Memory("a", ("Memory",), {"v": value}))] == ["v"]


def test_maps_and_native_times_are_read(backend: MemgraphBackend) -> None:
    _run(
        "CREATE (:Memory {id: 'a', m: {x: [1, {y: 2.5}]}, d: date('2025-01-02'),"
        " l: localDateTime('2025-01-02T03:04:05.678901'), t: localTime('12:34:56'), p: duration('P3DT4S')})"
    )
    (found,) = _scanned(backend)
    assert found.properties == {
        "m": {"x": [1, {"y": 2.5}]},
        "d": "2025-01-02",
        "l": "2025-01-02T03:04:05.678901",
        "t": "12:34:56",
        "p": "P0M3DT4S",
    }
    _run("MATCH (n:Memory) SET n.pt = point({x: 1, y: 2})")
    assert isinstance(_scanned(backend)[0], Corrupt)


def test_a_wrong_database_is_said_at_once(backend: MemgraphBackend) -> None:
    backend.close()
    began = time.monotonic()
    wrong = MemgraphBackend(_config(graph="nosuch"), role="to")
    with pytest.raises(MemmigError) as caught:
        wrong.open("write")
    assert caught.value.exit_code in {20, 21}
    assert time.monotonic() - began < 10
    wrong.close()


def test_the_analytical_mode_is_refused(backend: MemgraphBackend) -> None:
    backend.close()
    _run("STORAGE MODE IN_MEMORY_ANALYTICAL")
    try:
        with pytest.raises(StoreRefused, match="ANALYTICAL"):
            backend.open("read")
    finally:
        _run("STORAGE MODE IN_MEMORY_TRANSACTIONAL")


def test_opening_writes_nothing(backend: MemgraphBackend) -> None:
    assert backend.inventory().memories == 0
    assert _run("MATCH (n) RETURN count(n)") == [[0]]
    assert _run("SHOW INDEX INFO") == []

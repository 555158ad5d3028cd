"""What a server does under a client: refuses, hangs, dies, forgets, fills up."""

from __future__ import annotations

import http.server
import socket
import threading
import time
from typing import TYPE_CHECKING

import pytest

from migrator.backends.base import Batch, Row, WriteOutcome
from migrator.backends.falkordb import FalkorDBBackend
from migrator.errors import MemmigError, OutcomeUnknown, StoreRefused, StoreUnreachable, TargetFull
from migrator.models import BackendConfig, BackendType
from tests import engines
from tests.integration.falkor import START, Target, config, edge, memory, opened, scanned

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.engines import FalkorServer

pytestmark = pytest.mark.skipif(not engines.live("falkordb"), reason="FalkorDB is not live here")


def _batch(number: int, backend: FalkorDBBackend, *names: str) -> Batch:
    rows = [Row(name, None, backend.form.encode(memory(name))) for name in names]
    return Batch(number=number, digest=str(number), kind="memory", operation="create", shape="Memory", rows=rows)


def _fails(port: int, error: type[MemmigError], **more: object) -> str:
    settings = {"backend": BackendType.FALKORDB, "host": "127.0.0.1", "port": port, "timeout": 3.0, **more}
    backend = FalkorDBBackend(BackendConfig(**settings), role="to")  # type: ignore[arg-type]
    with pytest.raises(error) as caught:
        backend.open("read")
    backend.close()
    assert type(caught.value) is error
    assert "\n" not in caught.value.message
    assert caught.value.hint
    return caught.value.message


def test_a_port_where_nothing_listens() -> None:
    _fails(engines.free_port(), StoreUnreachable)


def test_a_host_that_does_not_exist() -> None:
    _fails(6379, StoreUnreachable, host="no-such-host.invalid")


def test_a_port_that_never_answers() -> None:
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen()
        began = time.monotonic()
        _fails(deaf.getsockname()[1], StoreUnreachable, timeout=0.5)
        assert time.monotonic() - began < 3, "one try, not ten"


def test_an_http_server() -> None:
    with http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler) as web:
        thread = threading.Thread(target=web.serve_forever)
        thread.start()
        try:
            _fails(web.server_port, StoreRefused)
        finally:
            web.shutdown()
            thread.join()


def test_a_redis_without_the_module() -> None:
    with engines.falkordb_server("none") as server:
        with server.client() as client:
            client.execute_command("ACL", "SETUSER", "default", "-module")
        assert "permission" in _fails(server.port, StoreRefused)
    with engines.falkordb_server("none", plain=True) as server:
        assert "no FalkorDB module" in _fails(server.port, StoreRefused)


def test_passwords() -> None:
    with engines.falkordb_server("none", password="secret word") as server:
        for wrong in ({}, {"password": "wr0ng"}, {"user": "nobody", "password": "wr0ng"}):
            assert "wr0ng" not in _fails(server.port, StoreUnreachable, **wrong)
        backend = opened(server, password="secret word")
        assert "secret" not in repr(backend.open("read"))
        backend.close()


def test_tls_checks_names(falkordb_server: FalkorServer) -> None:
    backend = FalkorDBBackend(config(falkordb_server, tls=True, timeout=2.0), role="to")
    link = backend._connection()
    assert link.check_hostname  # type: ignore[attr-defined]
    assert link.cert_reqs.name == "CERT_REQUIRED"  # type: ignore[attr-defined]
    with pytest.raises((StoreUnreachable, StoreRefused)):
        backend.open("read")


def test_another_kind_of_key(falkordb_server: FalkorServer) -> None:
    with falkordb_server.client() as client:
        client.set("memorygraph", "text")
    assert "not a graph" in _fails(falkordb_server.port, StoreRefused)


def test_a_replica_is_no_target(falkordb_server: FalkorServer) -> None:
    options = ("--replicaof", "127.0.0.1", str(falkordb_server.port))
    with engines.falkordb_server("none", options=options) as replica, pytest.raises(StoreRefused, match="replica"):
        opened(replica)


def test_a_dry_run_refuses_a_replica_as_the_run_does(falkordb_server: FalkorServer) -> None:
    options = ("--replicaof", "127.0.0.1", str(falkordb_server.port))
    with engines.falkordb_server("none", options=options) as replica:
        backend = FalkorDBBackend(config(replica), role="to")
        with pytest.raises(StoreRefused, match="replica"):
            backend.open("dry")
        assert backend.open("read").exists is False
        backend.close()


@pytest.mark.parametrize("when", [1, 2, None], ids=["before the count", "after the watched count", "never"])
def test_a_graph_goes_only_while_nobody_writes(
    when: int | None, falkordb_server: FalkorServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = opened(falkordb_server, graph="race")
    steps = backend.missing_schema()
    backend.apply_schema(steps)
    count, counted = backend._read.count, 0

    def racing(query: str) -> int:
        nonlocal counted
        found, counted = count(query), counted + 1
        if counted == when:
            falkordb_server.query("race", "CREATE (:Memory {id: 'theirs'})")
        return found

    monkeypatch.setattr(backend._read, "count", racing)
    backend.drop_schema(steps)
    with falkordb_server.client() as client:
        assert client.exists("race") == (when is not None)
    assert backend.markers() == [], "the connection is of use afterwards"
    backend.close()


@pytest.fixture
def own_server() -> Iterator[FalkorServer]:
    with engines.falkordb_server("rdb") as server:
        yield server


def test_no_answer_to_a_write_is_an_unknown_outcome_and_sent_once(
    own_server: FalkorServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = opened(own_server, timeout=1.0)
    Target(backend).claim()
    backend.lookup("memory", {"a": None})
    own_server.pause()
    began = time.monotonic()
    # Before it writes, it asks whether the graph exists; here the server hangs just after that.
    monkeypatch.setattr(backend, "_exists", lambda: True)
    with pytest.raises(OutcomeUnknown):
        backend.write(_batch(1, backend, "a"), START)
    with pytest.raises(StoreUnreachable):
        backend.inventory()
    assert time.monotonic() - began < 8
    own_server.go_on()
    backend.open("write")
    time.sleep(0.3)
    # It landed late, once, as its marker proves.
    assert backend.inventory().memories == 1
    assert [marker.batch for marker in backend.markers()] == [1]
    backend.close()


def test_a_killed_server_is_an_unknown_outcome_then_unreachable(own_server: FalkorServer) -> None:
    backend = opened(own_server, timeout=5.0)
    Target(backend).claim()
    identity = backend.identity()
    own_server.kill()
    with pytest.raises(OutcomeUnknown):
        backend._wire.change("GRAPH.QUERY", "memorygraph", "CREATE (:Memory)")
    with pytest.raises(StoreUnreachable):
        backend.write(_batch(1, backend, "a"), START)
    own_server.start()
    backend.open("write")
    assert backend.identity() != identity
    backend.close()


@pytest.mark.parametrize("persistence", ["rdb", "aof"])
def test_what_the_barrier_has_seen_survives_kill_9(persistence: engines.Persistence) -> None:
    with engines.falkordb_server(persistence) as server:
        backend = opened(server)
        target = Target(backend).claim()
        for number in range(5):
            assert target.create(*(memory(f"m{number}.{at}") for at in range(20))) is WriteOutcome.APPLIED
        done = backend.barrier()
        assert done.durable
        assert done.evidence["how"] == {"rdb": "BGSAVE", "aof": "WAITAOF"}[persistence]
        server.restart()
        backend.open("write")
        assert backend.inventory().memories == 100
        assert backend.markers() == [target.marker]
        assert backend.missing_schema() == []
        backend.close()


def test_a_snapshot_that_ran_already_is_not_taken_for_ours(own_server: FalkorServer) -> None:
    backend = opened(own_server)
    target = Target(backend).claim()
    for number in range(5):
        target.create(memory(f"m{number}"))
        with own_server.client() as client:
            client.bgsave()
        target.create(memory(f"n{number}"))
        assert backend.barrier().durable
    own_server.restart()
    backend.open("write")
    assert backend.inventory().memories == 10
    backend.close()


def test_a_barrier_that_is_denied_says_so(own_server: FalkorServer) -> None:
    backend = opened(own_server)
    Target(backend).claim()
    with own_server.client() as client:
        client.execute_command("ACL", "SETUSER", "default", "-bgsave")
    denied = backend.barrier()
    assert not denied.durable
    assert "bgsave" in str(denied.evidence["reason"]).lower()
    backend.close()


def test_a_snapshot_that_fails_is_no_durability(own_server: FalkorServer) -> None:
    backend = opened(own_server)
    target = Target(backend).claim()
    target.create(memory("a"))
    with own_server.client() as client:
        # A folder stands where the snapshot would go.
        (own_server.folder / "dump.rdb").unlink(missing_ok=True)
        (own_server.folder / "dump.rdb").mkdir()
        assert not backend.barrier().durable
        # From now on the server refuses writes, as a full disk makes it.
        client.config_set("save", "3600 1")
        with pytest.raises(TargetFull, match="MISCONF"):
            backend.write(_batch(2, backend, "b"), target.marker)
    assert backend.inventory().memories == 1
    backend.close()


def test_no_memory_left(own_server: FalkorServer) -> None:
    backend = opened(own_server)
    target = Target(backend).claim()
    with own_server.client() as client:
        client.config_set("maxmemory", "1mb")
    with pytest.raises(TargetFull, match="maxmemory"):
        backend.write(_batch(1, backend, "b"), target.marker)
    with own_server.client() as client:
        client.config_set("maxmemory", "0")
    assert backend.inventory().memories == 0
    assert backend.markers() == [target.marker]
    backend.close()


def test_a_read_that_takes_too_long_is_asked_for_in_smaller_pages() -> None:
    with engines.falkordb_server("none", module_options=("TIMEOUT_DEFAULT", "40", "TIMEOUT_MAX", "40")) as server:
        backend = opened(server)
        target = Target(backend).claim()
        for at in range(0, 3000, 100):
            names = [f"m{number}" for number in range(at, at + 100)]
            assert target.create(*(memory(name, l=[0.1] * 60) for name in names)) is WriteOutcome.APPLIED
        assert len(scanned(backend, "memory", 3000)) == 3000
        backend.close()


def test_schema_is_made_once_and_only_ours_goes(own_server: FalkorServer) -> None:
    own_server.query("memorygraph", "CREATE INDEX FOR (m:Memory) ON (m.type)")
    backend = opened(own_server)
    missing = backend.missing_schema()
    assert [step.name for step in missing] == [
        f"index:Memory.{name}" for name in ("id", "created_at", "importance", "confidence")
    ]
    own_server.query("memorygraph", "CREATE INDEX FOR (m:Memory) ON (m.importance)")
    made = backend.apply_schema(missing)
    assert [step.name.rpartition(".")[2] for step in made] == ["id", "created_at", "confidence"]
    assert backend.apply_schema(missing) == []
    assert backend.missing_schema() == []
    backend.drop_schema(made)
    backend.drop_schema(made)
    assert [step.name.rpartition(".")[2] for step in backend.missing_schema()] == ["id", "created_at", "confidence"]
    backend.close()


def test_a_graph_goes_only_when_it_is_ours_and_empty(falkordb_server: FalkorServer) -> None:
    backend = opened(falkordb_server)
    steps = backend.missing_schema()
    assert backend.apply_schema(steps) == steps
    target = Target(backend)
    assert backend.swap_marker(None, START)
    target.create(memory("a"))
    backend.drop_schema(steps)
    assert backend.inventory().memories == 1
    falkordb_server.query("memorygraph", "MATCH (n) DELETE n")
    backend.drop_schema(steps)
    with falkordb_server.client() as client:
        assert client.keys() == []
    backend.drop_schema(steps)
    backend.close()


def test_speed(falkordb_server: FalkorServer, capsys: pytest.CaptureFixture[str]) -> None:
    # Loose bounds: the machine is shared. The figures are printed.
    backend = opened(falkordb_server)
    target = Target(backend).claim()
    text = {f"p{at}": "some text of a usual length" for at in range(12)}
    numbers = {"importance": 0.1, "confidence": 0.8, "usage_count": 3, "tags": ["a", "b"]}
    began = time.perf_counter()
    for at in range(0, 5000, 1000):
        target.create(*(memory(f"m{number}", **text, **numbers) for number in range(at, at + 1000)))
    nodes = time.perf_counter()
    for at in range(0, 5000, 1000):
        found = (
            edge(f"e{n}", f"m{n}", f"m{n * 7 % 5000}", strength=0.1, confidence=0.8, created_at="2024")
            for n in range(at, at + 1000)
        )
        target.create(*found)
    edges = time.perf_counter()
    assert len(scanned(backend, "memory")) == 5000
    read = time.perf_counter()
    assert len(scanned(backend, "relationship")) == 5000
    done = time.perf_counter()
    with capsys.disabled():
        rates = [5000 / span for span in (nodes - began, edges - nodes, read - edges, done - read)]
        print("\nFalkorDB per second: write {:.0f} nodes, {:.0f} edges; read {:.0f} nodes, {:.0f} edges".format(*rates))
    assert min(rates) > 1000
    backend.close()

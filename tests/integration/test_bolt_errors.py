"""Servers that are not there, not Bolt, not ours to write to, or that die: one clear line, its code, no password."""

from __future__ import annotations

import contextlib
import secrets
import socket
import threading
from typing import TYPE_CHECKING, Any

import pytest

from migrator.backends.neo4j import Neo4jBackend
from migrator.backends.registry import open_backend
from migrator.errors import MemmigError, StoreRefused, StoreUnreachable
from migrator.models import BackendConfig, BackendType
from tests import engines
from tests.integration.bolt import config
from tests.neo4j_server import neo4j_server as new_neo4j_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from migrator.models import Role
    from tests.engines import FalkorServer
    from tests.neo4j_server import Neo4jServer

SECRET = secrets.token_urlsafe(12)


def _refused(config: BackendConfig, role: Role = "to") -> MemmigError:
    backend = open_backend(config, role=role)
    with pytest.raises(MemmigError) as caught:
        backend.open("read" if role == "from" else "write")
    backend.close()
    said = f"{caught.value.message} {caught.value.hint}"
    assert "\n" not in said
    assert SECRET not in said
    assert caught.value.hint
    return caught.value


def _at(port: int, **more: Any) -> BackendConfig:
    facts: dict[str, Any] = {"backend": BackendType.NEO4J, "scheme": "bolt", "host": "127.0.0.1", "timeout": 3.0}
    return BackendConfig(**(facts | {"port": port, "user": "neo4j", "password": SECRET} | more))


@contextlib.contextmanager
def _listener(answer: Callable[[socket.socket], None]) -> Iterator[int]:
    """Listen on a port and do something with each connection, until the end."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = server.accept()
                    with connection, contextlib.suppress(OSError):
                        connection.settimeout(5)
                        answer(connection)

        threading.Thread(target=serve, daemon=True).start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize("kind", [BackendType.NEO4J, BackendType.MEMGRAPH])
@pytest.mark.parametrize("role", ["from", "to"])
def test_nobody_listens(kind: BackendType, role: Role) -> None:
    error = _refused(_at(engines.free_port(), backend=kind), role)
    assert isinstance(error, StoreUnreachable)
    assert "cannot be reached" in error.message


@pytest.mark.parametrize("scheme", ["bolt", "neo4j"])
def test_a_wrong_password(neo4j_server: Neo4jServer, scheme: str) -> None:
    for more in ({"password": SECRET}, {"user": "nobody", "password": SECRET}, {"user": "", "password": ""}):
        error = _refused(config(neo4j_server, scheme=scheme, **more))
        assert isinstance(error, StoreUnreachable)
        assert "refuses to sign in" in error.message


@pytest.mark.parametrize("scheme", ["bolt", "neo4j"])
def test_a_wrong_database(neo4j_server: Neo4jServer, scheme: str) -> None:
    error = _refused(config(neo4j_server, scheme=scheme, graph="nosuch"))
    assert isinstance(error, StoreUnreachable)
    assert "no such database" in error.message
    error = _refused(config(neo4j_server, scheme=scheme, graph="system"))
    assert isinstance(error, StoreRefused)


def _http(connection: socket.socket) -> None:
    connection.recv(64)
    connection.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")


def _nonsense(connection: socket.socket) -> None:
    connection.recv(64)
    connection.sendall(b"-ERR unknown command\r\n")


def _hang_up(connection: socket.socket) -> None:
    connection.recv(64)


def _die_at_sign_in(connection: socket.socket) -> None:
    connection.recv(64)
    connection.sendall(b"\x00\x00\x04\x05")  # Bolt 5.4, agreed
    connection.recv(64)


@pytest.mark.parametrize("scheme", ["bolt", "neo4j"])
@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (_http, StoreRefused),
        (_nonsense, StoreRefused),
        (_hang_up, StoreUnreachable),
        (_die_at_sign_in, StoreUnreachable),
    ],
)
def test_another_protocol_and_servers_that_die(answer: Any, kind: type[MemmigError], scheme: str) -> None:
    with _listener(answer) as port:
        assert type(_refused(_at(port, scheme=scheme))) is kind


def test_a_redis_port(falkordb_server: FalkorServer) -> None:
    assert isinstance(_refused(_at(falkordb_server.port)), StoreRefused)


def test_tls_is_asked_for_and_not_there(neo4j_server: Neo4jServer) -> None:
    for scheme in ("bolt+s", "bolt+ssc", "neo4j+s", "neo4j+ssc"):
        assert isinstance(_refused(config(neo4j_server, scheme=scheme)), StoreUnreachable | StoreRefused)


def test_a_database_that_cannot_be_written_is_refused_before_anything_is() -> None:
    if not engines.live("neo4j"):
        pytest.skip("Neo4j is not live here")
    with new_neo4j_server() as server:
        server.run("CREATE (:Memory {id: 'a'})")
        server.kill()
        server.settings["server.databases.read_only"] = "neo4j"
        server.start()
        for access in ("dry", "write"):
            backend = Neo4jBackend(config(server), role="to")
            with pytest.raises(StoreRefused, match="cannot be written"):
                backend.open(access)
            backend.close()
        source = Neo4jBackend(config(server), role="from")
        source.open("read")
        assert source.inventory().memories == 1
        source.close()


def test_opening_writes_nothing(neo4j_server: Neo4jServer) -> None:
    for access in ("read", "dry", "write"):
        backend = Neo4jBackend(config(neo4j_server), role="to")
        backend.open(access)
        backend.close()
    assert neo4j_server.run("MATCH (n) RETURN count(n)") == [[0]]
    assert neo4j_server.run("SHOW CONSTRAINTS") == []
    assert [row for row in neo4j_server.run("CALL db.labels()") if "emmig" in row[0]] == []


def test_a_server_that_went_away_and_came_back_is_opened_again(neo4j_server: Neo4jServer) -> None:
    backend = Neo4jBackend(config(neo4j_server), role="to")
    backend.open("write")
    before = backend.identity()
    neo4j_server.kill()
    try:
        with pytest.raises(StoreUnreachable):
            backend.identity()
    finally:
        neo4j_server.start()
    backend.open("write")
    assert backend.identity() == before
    backend.close()


def test_drivers_say_nothing_by_themselves(neo4j_server: Neo4jServer, capfd: pytest.CaptureFixture[str]) -> None:
    """A deprecated or unknown name in a statement makes the server send notices, which the driver logs."""
    backend = Neo4jBackend(config(neo4j_server), role="from")
    backend.open("read")
    assert backend.inventory().memories == 0
    backend._wire.read("MATCH (n:NoSuchLabel) RETURN id(n)")
    backend.close()
    assert capfd.readouterr() == ("", "")

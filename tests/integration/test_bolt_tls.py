"""TLS to a Neo4j server: certificates are checked, and no password goes to a server that is not the right one."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from tests import engines
from tests.neo4j_server import neo4j_server
from tests.running import memmig
from tests.tls_proxy import Proxy, certificate_of, tls_proxy, trusting

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.neo4j_server import Neo4jServer
    from tests.running import Ran

pytestmark = [
    pytest.mark.skipif(not engines.live("neo4j"), reason="Neo4j is not live here"),
    pytest.mark.skipif(not shutil.which("openssl"), reason="no openssl here to make certificates"),
]


@pytest.fixture(scope="module")
def server() -> Iterator[Neo4jServer]:
    with neo4j_server() as server:
        server.run("CREATE (:Memory {id: 'a', type: 'task', title: 't', content: 'c'})")
        yield server


def _read(folder: Path, url: str, server: Neo4jServer, trusted: Path | None) -> Ran:
    environment = {"MEMMIG_FROM_PASSWORD": server.password, **trusting(folder, trusted)}
    words = ("--from", url, "--to", "sqlite:///target.db", "--journal", "journal.db", "--layout", "0.12")
    return memmig("migrate", *words, cwd=folder, environment=environment)


def _refused(ran: Ran, proxy: Proxy, password: str) -> None:
    assert ran.code == 20, ran.err
    assert ran.err.count("error:") == 1
    assert "Traceback" not in ran.err
    assert password not in ran.err + ran.out
    assert password.encode() not in proxy.heard


@pytest.mark.parametrize("scheme", ["bolt+s", "neo4j+s"])
def test_a_trusted_certificate_is_read_through(scheme: str, tmp_path: Path, server: Neo4jServer) -> None:
    certificate = certificate_of(tmp_path, "localhost")
    with tls_proxy(certificate, server.port) as proxy:
        ran = _read(tmp_path, f"{scheme}://localhost:{proxy.port}", server, certificate)
    assert ran.code == 0, ran.err
    assert server.password.encode() in proxy.heard, "the proxy would hear a password"


def test_a_certificate_of_ones_own_needs_to_be_asked_for(tmp_path: Path, server: Neo4jServer) -> None:
    with tls_proxy(certificate_of(tmp_path, "localhost"), server.port) as proxy:
        _refused(_read(tmp_path, f"bolt+s://localhost:{proxy.port}", server, None), proxy, server.password)
        ran = _read(tmp_path, f"bolt+ssc://localhost:{proxy.port}", server, None)
        assert ran.code == 0, ran.err


def test_a_certificate_of_another_host_is_refused(tmp_path: Path, server: Neo4jServer) -> None:
    certificate = certificate_of(tmp_path, "example.org")
    with tls_proxy(certificate, server.port) as proxy:
        _refused(_read(tmp_path, f"bolt+s://localhost:{proxy.port}", server, certificate), proxy, server.password)


def test_a_server_without_tls_is_refused(tmp_path: Path, server: Neo4jServer) -> None:
    with tls_proxy(None, server.port) as proxy:
        _refused(_read(tmp_path, f"bolt+s://localhost:{proxy.port}", server, None), proxy, server.password)
    assert proxy.heard, "it was asked"

"""TLS to a FalkorDB server, whose own build has none: a proxy that ends it, with certificates made for the test."""

from __future__ import annotations

import secrets
import shutil
from typing import TYPE_CHECKING

import pytest

from tests import engines
from tests.running import memmig
from tests.tls_proxy import Proxy, certificate_of, tls_proxy, trusting

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.running import Ran

pytestmark = [
    pytest.mark.skipif(not engines.live("falkordb"), reason="FalkorDB is not live here"),
    pytest.mark.skipif(not shutil.which("openssl"), reason="no openssl here to make certificates"),
]
PASSWORD = secrets.token_urlsafe()


@pytest.fixture(scope="module")
def behind() -> Iterator[int]:
    with engines.falkordb_server("none", password=PASSWORD) as server:
        server.query("g", "CREATE (:Memory {id: 'a', type: 'task', title: 't', content: 'c'})")
        yield server.port


def _read(folder: Path, host: str, port: int, trusted: Path | None) -> Ran:
    environment = {"MEMMIG_FROM_PASSWORD": PASSWORD, **trusting(folder, trusted)}
    words = ("--from", f"falkordbs://{host}:{port}/g", "--to", "sqlite:///target.db", "--journal", "journal.db")
    return memmig("migrate", *words, "--layout", "0.12", cwd=folder, environment=environment)


def _refused(ran: Ran, proxy: Proxy, *said: str) -> None:
    assert ran.code == 20, ran.err
    assert ran.err.count("error:") == 1
    assert any(text in ran.err for text in said), ran.err
    assert "Traceback" not in ran.err
    assert PASSWORD not in ran.err + ran.out
    assert PASSWORD.encode() not in proxy.heard


def test_a_trusted_certificate_of_the_right_name_is_read_through(tmp_path: Path, behind: int) -> None:
    for host in ("localhost", "127.0.0.1"):
        certificate = certificate_of(tmp_path, host)
        with tls_proxy(certificate, behind) as proxy:
            ran = _read(tmp_path, host, proxy.port, certificate)
        assert ran.code == 0, ran.err
        assert PASSWORD.encode() in proxy.heard, "the proxy would hear a password"


def test_a_certificate_that_nobody_trusts_is_refused(tmp_path: Path, behind: int) -> None:
    with tls_proxy(certificate_of(tmp_path, "localhost"), behind) as proxy:
        _refused(_read(tmp_path, "localhost", proxy.port, None), proxy, "self-signed certificate")


def test_a_certificate_of_another_host_is_refused(tmp_path: Path, behind: int) -> None:
    certificate = certificate_of(tmp_path, "example.org")
    with tls_proxy(certificate, behind) as proxy:
        _refused(_read(tmp_path, "localhost", proxy.port, certificate), proxy, "Hostname mismatch")
        _refused(_read(tmp_path, "127.0.0.1", proxy.port, certificate), proxy, "IP address mismatch")


def test_a_server_without_tls_is_refused(tmp_path: Path, behind: int) -> None:
    with tls_proxy(None, behind) as proxy:
        _refused(_read(tmp_path, "localhost", proxy.port, None), proxy, "cannot be reached")
    assert proxy.heard, "it was asked"

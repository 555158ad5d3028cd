"""TLS to a FalkorDB server, whose own build has none: a proxy that ends it, with certificates made for the test."""

from __future__ import annotations

import secrets
import shutil
import socket
import ssl
import subprocess
import threading
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from tests import engines
from tests.running import memmig

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.running import Ran

pytestmark = [
    pytest.mark.skipif(not engines.live("falkordb"), reason="FalkorDB is not live here"),
    pytest.mark.skipif(not shutil.which("openssl"), reason="no openssl here to make certificates"),
]
PASSWORD = secrets.token_urlsafe()
_PIECE = 65_536


@dataclass(slots=True)
class Proxy:
    """Takes TLS, or anything, at ``port``; hands what was sent on in the clear, and keeps it in ``heard``."""

    context: ssl.SSLContext | None
    behind: int
    heard: bytearray = field(default_factory=bytearray)
    listener: socket.socket = field(default_factory=lambda: socket.create_server(("127.0.0.1", 0)))

    @property
    def port(self) -> int:
        return int(self.listener.getsockname()[1])

    def serve(self) -> None:
        """Serve connections until the listener is closed."""
        with suppress(OSError):
            while True:
                link, _ = self.listener.accept()
                threading.Thread(target=self._serve, args=(link,), daemon=True).start()

    def _serve(self, link: socket.socket) -> None:
        with suppress(OSError), link:
            front = self.context.wrap_socket(link, server_side=True) if self.context else link
            with front, socket.create_connection(("127.0.0.1", self.behind)) as back:
                threading.Thread(target=self._pump, args=(back, front, bytearray()), daemon=True).start()
                self._pump(front, back, self.heard)

    @staticmethod
    def _pump(source: socket.socket, target: socket.socket, heard: bytearray) -> None:
        with suppress(OSError):
            while data := source.recv(_PIECE):
                heard += data
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)


@contextmanager
def _proxy(certificate: Path | None, behind: int) -> Iterator[Proxy]:
    context = None
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, certificate.with_suffix(".key"))
    proxy = Proxy(context, behind)
    thread = threading.Thread(target=proxy.serve, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        proxy.listener.shutdown(socket.SHUT_RDWR)
        proxy.listener.close()
        thread.join()


def _certificate(folder: Path, name: str) -> Path:
    """Make a self-signed certificate for a host name or address, which is its own authority."""
    path = folder / f"{name}.pem"
    sort = "IP" if name[0].isdigit() else "DNS"
    words = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    words += ["-subj", f"/CN={name}", "-addext", f"subjectAltName={sort}:{name}"]
    words += ["-keyout", str(path.with_suffix(".key")), "-out", str(path)]
    subprocess.run(["openssl", *words], check=True, capture_output=True)
    return path


@pytest.fixture(scope="module")
def behind() -> Iterator[int]:
    with engines.falkordb_server("none", password=PASSWORD) as server:
        server.query("g", "CREATE (:Memory {id: 'a', type: 'task', title: 't', content: 'c'})")
        yield server.port


def _read(folder: Path, host: str, port: int, trusted: Path | None) -> Ran:
    (folder / "tmp").mkdir(exist_ok=True)
    # An empty authority file where none is trusted, for some machines trust more than others.
    nobody = folder / "nobody.pem"
    nobody.touch()
    environment = {
        "MEMMIG_FROM_PASSWORD": PASSWORD,
        "SSL_CERT_FILE": str(trusted or nobody),
        "SSL_CERT_DIR": str(folder / "tmp"),
    }
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
        certificate = _certificate(tmp_path, host)
        with _proxy(certificate, behind) as proxy:
            ran = _read(tmp_path, host, proxy.port, certificate)
        assert ran.code == 0, ran.err
        assert PASSWORD.encode() in proxy.heard, "the proxy would hear a password"


def test_a_certificate_that_nobody_trusts_is_refused(tmp_path: Path, behind: int) -> None:
    with _proxy(_certificate(tmp_path, "localhost"), behind) as proxy:
        _refused(_read(tmp_path, "localhost", proxy.port, None), proxy, "self-signed certificate")


def test_a_certificate_of_another_host_is_refused(tmp_path: Path, behind: int) -> None:
    certificate = _certificate(tmp_path, "example.org")
    with _proxy(certificate, behind) as proxy:
        _refused(_read(tmp_path, "localhost", proxy.port, certificate), proxy, "Hostname mismatch")
        _refused(_read(tmp_path, "127.0.0.1", proxy.port, certificate), proxy, "IP address mismatch")


def test_a_server_without_tls_is_refused(tmp_path: Path, behind: int) -> None:
    with _proxy(None, behind) as proxy:
        _refused(_read(tmp_path, "localhost", proxy.port, None), proxy, "cannot be reached")
    assert proxy.heard, "it was asked"

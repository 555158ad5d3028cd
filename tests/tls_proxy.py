"""A proxy that ends TLS in front of a server whose own build has none, with certificates made for the test."""

from __future__ import annotations

import socket
import ssl
import subprocess
import threading
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

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
def tls_proxy(certificate: Path | None, behind: int) -> Iterator[Proxy]:
    """Serve in front of the port ``behind``: with TLS, or without where there is no certificate."""
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


def certificate_of(folder: Path, name: str) -> Path:
    """Make a self-signed certificate for a host name or address, which is its own authority."""
    path = folder / f"{name}.pem"
    sort = "IP" if name[0].isdigit() else "DNS"
    words = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    words += ["-subj", f"/CN={name}", "-addext", f"subjectAltName={sort}:{name}"]
    words += ["-keyout", str(path.with_suffix(".key")), "-out", str(path)]
    subprocess.run(["openssl", *words], check=True, capture_output=True)
    return path


def trusting(folder: Path, certificate: Path | None) -> dict[str, str]:
    """Return an environment in which this authority alone is trusted; with None nobody, as some machines trust more."""
    (folder / "tmp").mkdir(exist_ok=True)
    nobody = folder / "nobody.pem"
    nobody.touch()
    return {"SSL_CERT_FILE": str(certificate or nobody), "SSL_CERT_DIR": str(folder / "tmp")}

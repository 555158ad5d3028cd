"""TCP on loopback in front of a server: cuts, delays and holds back one chosen request, or what answers it.

What passes is split into requests by the protocol, and only requests that write are counted.
"""

from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import TYPE_CHECKING, Literal, Self

if TYPE_CHECKING:
    from collections.abc import Callable

type How = Literal[
    "request lost",  #: nothing of it reaches the server
    "half a request",
    "answer lost",  #: the server did it, and the client hears nothing
    "half an answer",
    "after the answer",  #: the connection ends once the client has its answer
    "answer late",  #: it comes ``late`` seconds later, by the same connection
    "request late",  #: the connection ends, and ``deliver`` brings the request to the server
    "request held",  #: the same, but for the connection, which stays
]
CUTS: tuple[How, ...] = ("request lost", "half a request", "answer lost", "half an answer", "after the answer")

_PIECE = 1 << 16
_COMMIT = b"\x00\x02\xb0\x12\x00\x00"
_SCHEMA = (b"CREATE CONSTRAINT", b"CREATE INDEX", b"DROP CONSTRAINT", b"DROP INDEX")


@dataclass(frozen=True, slots=True)
class Protocol:
    """How requests are told apart."""

    whole: Callable[[bytes], int]  #: bytes of the first request; 0 = it has not all come yet
    writes: Callable[[bytes], bool]


def _resp_whole(data: bytes) -> int:
    end = data.find(b"\r\n")
    if end < 0:
        return 0
    parts, at = int(data[1:end]), end + 2
    for _ in range(parts):
        end = data.find(b"\r\n", at)
        if end < 0:
            return 0
        at = end + 2 + int(data[at + 1 : end]) + 2
    return at if at <= len(data) else 0


#: A request of FalkorDB is a command; one that only reads has another name.
RESP = Protocol(_resp_whole, lambda request: b"GRAPH.QUERY" in request[:40])
#: Of Bolt what comes at once is a request: a client of ours waits for each answer. Only what is committed is written.
BOLT = Protocol(len, lambda request: request.endswith(_COMMIT) or any(words in request for words in _SCHEMA))


@dataclass(slots=True)
class _Link:
    client: socket.socket
    server: socket.socket
    answer: How | None = None  #: what becomes of the next answer
    held: bytes = b""  #: a request that does not go on yet
    unheard: SimpleQueue[bytes] = field(default_factory=SimpleQueue)  #: what the server answered to nobody

    def cut(self) -> None:
        for end in (self.client, self.server):
            # Shut down first: a thread that waits in recv would else keep the connection open.
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()


@dataclass(slots=True)
class Proxy:
    """Listens on ``port``, and passes everything on to the server at ``upstream`` but what it is told to strike at."""

    upstream: int
    protocol: Protocol
    late: float = 2.0  #: seconds
    passed: int = 0  #: requests that write, since the last ``strike`` or ``reset``
    struck: threading.Event = field(default_factory=threading.Event)
    _listener: socket.socket = field(default_factory=lambda: socket.create_server(("127.0.0.1", 0)))
    _strike: tuple[int, How] | None = None
    _links: list[_Link] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def port(self) -> int:
        """Where clients connect to."""
        return int(self._listener.getsockname()[1])

    def start(self) -> Self:
        """Serve, in threads, until ``close``."""
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def reset(self) -> None:
        """Strike at nothing, and count from the beginning."""
        with self._lock:
            self._strike, self.passed = None, 0
            self.struck.clear()

    def strike(self, nth: int, how: How) -> None:
        """Strike at the nth request that writes from now on, once."""
        self.reset()
        self._strike = nth, how

    def deliver(self) -> bytes:
        """Let the request that is held back reach the server, and return what it answers to nobody."""
        link = next(link for link in self._links if link.held)
        link.server.sendall(link.held)
        answer = link.unheard.get(timeout=30)
        link.held = b""
        link.cut()
        return answer

    def close(self) -> None:
        """End all connections."""
        self._listener.close()
        for link in self._links:
            link.cut()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                try:
                    server = socket.create_connection(("127.0.0.1", self.upstream))
                except OSError:
                    client.close()
                    continue
                link = _Link(client, server)
                for end in (client, server):
                    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._links.append(link)
                threading.Thread(target=self._requests, args=(link,), daemon=True).start()
                threading.Thread(target=self._answers, args=(link,), daemon=True).start()

    def _requests(self, link: _Link) -> None:
        waiting = b""
        with suppress(OSError):
            while piece := link.client.recv(_PIECE):
                waiting += piece
                while waiting and (length := self.protocol.whole(waiting)):
                    request, waiting = waiting[:length], waiting[length:]
                    how = self._fate(request)
                    if how is None:
                        link.server.sendall(request)
                    elif not self._struck(link, request, how):
                        return
        if not link.held:
            link.cut()

    def _fate(self, request: bytes) -> How | None:
        if not self.protocol.writes(request):
            return None
        with self._lock:
            self.passed += 1
            if self._strike is None or self.passed != self._strike[0]:
                return None
            how, self._strike = self._strike[1], None
            return how

    def _struck(self, link: _Link, request: bytes, how: How) -> bool:
        """Strike at a request; return whether the connection goes on."""
        if how in {"request lost", "half a request"}:
            self.struck.set()
            link.server.sendall(request[: len(request) // 2 if how == "half a request" else 0])
            link.cut()
        elif how in {"request late", "request held"}:
            link.held = request
            self.struck.set()
            if how == "request late":
                with suppress(OSError):
                    link.client.shutdown(socket.SHUT_RDWR)
                link.client.close()
        else:
            link.answer = how
            link.server.sendall(request)
            return True
        return how == "request held"

    def _answers(self, link: _Link) -> None:
        with suppress(OSError):
            while piece := link.server.recv(_PIECE):
                if link.held:
                    link.unheard.put(piece)
                    continue
                how, link.answer = link.answer, None
                if how is not None:
                    self.struck.set()  # before the client hears of it: it may have been its last request
                if how == "answer late":
                    time.sleep(self.late)
                if how != "answer lost":
                    link.client.sendall(piece[: len(piece) // 2] if how == "half an answer" else piece)
                if how is not None and how != "answer late":
                    link.cut()
        if not link.held:
            link.cut()

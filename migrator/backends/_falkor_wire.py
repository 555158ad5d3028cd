"""One connection to a server with the FalkorDB module: parameters out, typed values in, errors translated. No retry.

``falkordb-py`` renders parameters into the query's text and writes an object of any other type as ``str(value)``, its
constructor leaves host names of certificates unchecked, and it reads floats with 15 digits. So this module speaks the
protocol itself, over redis-py's connection: what it cannot render exactly is a TypeError or ValueError before a byte
is sent, and one call is one request.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from migrator.backends._cypher import INT64, NATIVE, quoted
from migrator.errors import MemmigError, OutcomeUnknown, StoreRefused, StoreUnreachable, TargetFull

if TYPE_CHECKING:
    from collections.abc import Mapping
    from socket import socket

    from redis.connection import AbstractConnection

    from migrator.model import Value

_NATIVE = {
    7: "edge", 8: "node", 9: "path", 10: "map", 11: "point", 12: "vecf32", 13: "localdatetime", 14: "date",
    15: "localtime", 16: "duration",
}  # fmt: skip
_BOOLEANS = {"true": True, "false": False}


class AnswerTooLarge(StoreUnreachable):
    """The server gave up on a read because of its limits of memory or time; a smaller page may do."""


def render(value: Value) -> str:  # noqa: C901 - one line per type
    """Return a value as Cypher text. TypeError or ValueError for anything that would not arrive as it is.

    Exact types only: a subclass can say anything in its ``__str__``. [measured: a crafted object deleted a graph]
    """
    kind = type(value)
    if kind is str:
        if "\0" in value:
            message = "NUL in a text"
            raise ValueError(message)
        text: str = value
        return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if kind is bool:
        return "true" if value else "false"
    if kind is int:
        if not -INT64 <= value < INT64:
            message = "an integer outside 64 bits"
            raise ValueError(message)
        return str(value)
    if kind is float:
        if value - value != 0:
            message = "a number that is not finite"
            raise ValueError(message)
        return repr(value)
    if value is None:
        return "null"
    if kind is list:
        return "[" + ",".join([render(item) for item in value]) + "]"
    if kind is dict:
        return "{" + ",".join([f"{quoted(key)}:{render(item)}" for key, item in value.items()]) + "}"
    message = f"no Cypher text for {kind.__name__}"
    raise TypeError(message)


def parse(cell: list[Any]) -> Value:
    """Return the value of one cell of a compact answer. A float is :class:`Printed`: 15 digits are not its value."""
    sort, value = cell
    if sort == 2 or sort == 3 or sort == 1:  # noqa: PLR1714, PLR2004 - FalkorDB's type codes; this line is hot
        return value
    if sort == 5:  # noqa: PLR2004
        return Printed(value)
    if sort == 4:  # noqa: PLR2004
        return _BOOLEANS[value]
    if sort == 6:  # noqa: PLR2004
        return [parse(item) for item in value]
    if sort == 10:  # noqa: PLR2004
        return {value[at]: parse(value[at + 1]) for at in range(0, len(value), 2)}
    return {NATIVE: _NATIVE.get(sort, f"type {sort}"), "value": value}


class Printed(str):
    """The text of a float as the server printed it, with 15 digits."""

    __slots__ = ()


class Wire:
    """Requests to one graph over one connection. Each is sent once.

    ``timeout``: seconds for one request, once connected; the connection's own is for the signing in, TLS included.
    """

    def __init__(self, connection: AbstractConnection, *, graph: str, place: str, timeout: float | None = None) -> None:
        self._connection = connection
        self._timeout = timeout
        self._graph = graph
        self._place = place

    def connect(self) -> None:
        """Connect and sign in; does nothing where that is done. StoreUnreachable (20), StoreRefused (21)."""
        from redis import exceptions

        try:
            self._connection.connect()
            # redis-py has one time-out for signing in and for what is asked then.
            sock: socket | None = getattr(self._connection, "_sock", None)
            if self._timeout is not None and sock is not None:
                sock.settimeout(self._timeout)
        except exceptions.InvalidResponse as error:
            raise self._not_redis() from error
        except (exceptions.RedisError, OSError) as error:
            said = _one_line(error)
            # redis-py has several classes for a wrong password; the server's text is the same.
            if isinstance(error, exceptions.AuthenticationError) or "password" in said.lower() or "AUTH" in said:
                raise self._no_sign_in() from error
            raise self._unreachable(error) from error

    def command(self, *words: str | int, wait: float | None = None) -> Any:  # noqa: ANN401 - whatever the server answers
        """Send a command that changes nothing and return its answer; ``wait`` = seconds, else the configured time."""
        return self._send(words, writes=False, wait=wait)

    def read(self, query: str, parameters: Mapping[str, Value] | None = None) -> list[list[Value]]:
        """Run a reading query (GRAPH.RO_QUERY: it never makes a graph) and return its rows; [] for an absent graph."""
        try:
            answer = self._send(("GRAPH.RO_QUERY", self._graph, _text(query, parameters), "--compact"), writes=False)
        except GraphAbsent:
            return []
        return _rows(answer)

    def write(self, query: str, parameters: Mapping[str, Value] | None = None) -> list[list[Value]]:
        """Run a writing query once. OutcomeUnknown where no answer came; TargetFull where the server has no room."""
        self.connect()  # a refused connection is no unknown outcome
        return _rows(self._send(("GRAPH.QUERY", self._graph, _text(query, parameters), "--compact"), writes=True))

    def change(self, *words: str | int) -> Any:  # noqa: ANN401
        """Send another command that changes the store; errors as :meth:`write`'s."""
        self.connect()
        return self._send(words, writes=True)

    def close(self) -> None:
        """Disconnect. Never raises."""
        with suppress(Exception):
            self._connection.disconnect()

    def _send(self, words: tuple[str | int, ...], *, writes: bool, wait: float | None = None) -> Any:  # noqa: ANN401
        from redis import exceptions

        if not writes:
            self.connect()
        try:
            self._connection.send_command(*words)
            if wait is None:
                return self._connection.read_response()
            return self._connection.read_response(timeout=wait)
        except exceptions.InvalidResponse as error:
            self.close()
            raise self._not_redis() from error
        except exceptions.BusyLoadingError as error:
            raise self._unreachable(error) from error
        except (exceptions.ConnectionError, exceptions.TimeoutError, OSError) as error:
            self.close()  # an answer that comes later must never be taken for the next one's
            if writes:
                raise self._unknown(error) from error
            raise self._unreachable(error) from error
        except UnicodeError as error:
            self.close()
            raise self._not_text() from error
        except exceptions.RedisError as error:
            raise self._translated(_one_line(error), writes=writes) from error
        except BaseException:
            self.close()
            raise

    def _translated(self, said: str, *, writes: bool) -> Exception:
        lower = said.lower()
        if "empty key" in lower:
            return GraphAbsent(said)
        if "capacity" in lower or "timed out" in lower or "max pending queries" in lower:
            if not writes:
                return AnswerTooLarge(f"{self._place} gave a read up: {said}", hint="raise the server's limits")
            return TargetFull(f"{self._place} gave the request up: {said}", hint="try a smaller --batch-size")
        if lower.startswith(("oom", "misconf", "noreplicas")) or "command not allowed when used memory" in lower:
            return TargetFull(f"{self._place} refuses to write: {said}", hint="make room on the server, then resume")
        if lower.startswith("readonly") or "read only replica" in lower:
            return TargetFull(f"{self._place} is a read-only replica: {said}", hint="give the address of its master")
        if lower.startswith("noauth") or "wrongpass" in lower:
            return self._no_sign_in()
        if lower.startswith("noperm") or "no permissions" in lower:
            return StoreRefused(f"{self._place} forbids a command: {said}", hint="grant the user the GRAPH commands")
        if "unknown command" in lower:
            return StoreRefused(
                f"{self._place} lacks a command, so it is no FalkorDB server: {said}", hint="load the FalkorDB module"
            )
        if lower.startswith("wrongtype") or "wrong kind of value" in lower:
            return StoreRefused(f"{self._place} is another kind of key, not a graph", hint="give another graph name")
        return ServerSaid(said)

    def _unreachable(self, error: Exception) -> StoreUnreachable:
        message = f"{self._place} cannot be reached: {_one_line(error)}"
        return StoreUnreachable(message, hint="is the server running there, and has it loaded its data?")

    def _no_sign_in(self) -> StoreUnreachable:
        return StoreUnreachable(f"{self._place} refuses to sign in", hint="give the right user and password")

    def _unknown(self, error: Exception) -> OutcomeUnknown:
        message = f"{self._place} did not answer: {_one_line(error)}"
        return OutcomeUnknown(message, hint="resume the run: it finds out what has landed")

    def _not_text(self) -> StoreRefused:
        message = f"{self._place} holds text that is not UTF-8"
        return StoreRefused(message, hint="repair the text with the program that wrote it")

    def _not_redis(self) -> StoreRefused:
        return StoreRefused(f"what listens at {self._place} is no Redis server", hint="check host and port")


class GraphAbsent(Exception):
    """The graph does not exist."""


class ServerSaid(MemmigError):
    """An answer that no rule above knows: a bug here, or a server that differs."""


def _text(query: str, parameters: Mapping[str, Value] | None) -> str:
    if not parameters:
        return query
    return "CYPHER " + " ".join([f"{name}={render(value)}" for name, value in parameters.items()]) + " " + query


def _rows(answer: list[Any]) -> list[list[Value]]:
    # Three parts with a result set (header, rows, statistics), one without.
    if len(answer) < 3:  # noqa: PLR2004
        return []
    return [[parse(cell) for cell in row] for row in answer[1]]


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__

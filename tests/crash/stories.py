"""What happens to a run in each of the crash tests, told once for every kind of target."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.crash.worlds import KILLED

if TYPE_CHECKING:
    from _pytest.mark import ParameterSet

    from tests.crash.tally import Tally
    from tests.crash.worlds import World
    from tests.running import Ran

type Point = str


def _at(*points: Point, row: str = "") -> ParameterSet:
    """Return the points of a story, and the rows of the resume table that it hits: "agree run, landed rollback"."""
    return pytest.param(*points, marks=[pytest.mark.row(*row.split(", "))] if row else [])


#: A crash in a run, and one in the rollback that follows it.
POINTS = (
    _at("journal.run.opened:1:before", "journal.rollback.opened:1:before", row="never-opened run"),
    _at("journal.run.opened:1:after", "journal.rollback.opened:1:after", row="released rollback"),
    _at("swap_marker:1:after", "journal.run.claimed:1:before", row="agree run"),
    _at("journal.run.claimed:1:after", "swap_marker:2:after", row="agree run, agree rollback"),
    _at("journal.epoch.planned:1:after", "write:1:before", row="never-held run, never-landed rollback"),
    _at("write:3:before", "write:2:after", row="never-landed run, landed rollback"),
    _at("write:3:after", "journal.rollback.applied:3:after", row="landed run, agree rollback"),
    _at("write:6:after", "write:5:before", row="landed run, never-landed rollback"),
    _at("barrier:1:after", "barrier:2:after", row="agree run, agree rollback"),
    _at("barrier:2:before", "journal.rollback.finished:1:before", row="agree run, agree rollback"),
    _at("journal.run.finished:1:before", "journal.rollback.finished:1:after", row="agree run, left rollback"),
    _at("journal.run.finished:1:after", "swap_marker:3:after", row="left run, released rollback"),
    _at("swap_marker:3:after", "journal.marker.released:1:before", row="released run, released rollback"),
    _at("journal.marker.released:1:after", "close:1:before"),
    _at("open:1:after", "open:1:after"),
    _at("journal.journal.created:1:after", "journal.rollback.planned:2:after", row="never-opened run"),
    _at("journal.batch.planned:4:after", "journal.epoch.raised:1:after", row="never-landed run, agree rollback"),
    _at("journal.target.durable:1:before", "journal.target.durable:1:after", row="agree run, agree rollback"),
    _at("journal.verify.result:1:before", "journal.epoch.planned:2:before", row="agree run, agree rollback"),
    _at("journal.batch.applied:2:before", "journal.rollback.applied:1:before", row="landed run, landed rollback"),
)

#: For a further target of a family, and for one whose starts and stops take seconds; the sweep has all.
SOME_POINTS = POINTS[1:14:2]

#: The same where the run makes the target's schema: before, in the middle, and at the end of a load.
SCHEMA_POINTS = (
    _at("apply_schema:1:before", "journal.epoch.planned:1:after"),
    _at("apply_schema:1:after", "swap_marker:1:after"),
    _at("journal.schema.planned:1:after", "drop_schema:1:before"),
    _at("journal.schema.applied:1:after", "drop_schema:1:after"),
)

#: Killed in a run, in its resume, in the rollback that follows, and in the rollback's resume.
DOUBLES = (
    _at("swap_marker:1:after", "swap_marker:1:after", "journal.run.claimed:1:before", "swap_marker:1:after"),
    _at("write:3:before", "journal.batch.refused:1:before", "write:2:after", "journal.epoch.raised:1:before"),
    _at("write:3:after", "journal.epoch.raised:1:before", "write:3:before", "journal.rollback.refused:1:after"),
    _at("write:6:after", "write:1:after", "write:5:after", "swap_marker:1:after"),
    _at("journal.run.finished:1:after", "swap_marker:1:after", "journal.rollback.finished:1:after", "close:1:before"),
)
#: For a target whose stories take seconds.
SOME_DOUBLES = DOUBLES[1:3]

#: Killed in a run that is not resumed, but taken back.
UNFINISHED = (
    _at("journal.epoch.planned:1:after", row="never-held rollback"),
    _at("journal.batch.applied:3:after", row="agree rollback"),
    _at("write:3:before", row="never-landed rollback"),
    _at("write:3:after", row="landed rollback"),
    _at("journal.run.finished:1:after", row="left rollback"),
    _at("swap_marker:3:after", row="released rollback"),
)


def died(ran: Ran, world: World, point: Point) -> None:
    """A story whose process was not killed would prove nothing."""
    assert ran.code == KILLED, (world.kind, point, ran.code, ran.err[-1_500:])


def struck(ran: Ran, world: World, point: Point) -> bool:
    """Tell whether a process was killed; one that was done before it came to the point must have ended well."""
    if ran.code == 0:
        return False
    died(ran, world, point)
    return True


def killed_and_resumed(world: World, point: Point, tally: Tally, again: Point = "") -> bool:
    """Kill a run at a point, and its resume at another one; resume it: the target is that of an undisturbed run.

    Returns whether the resume came to its point.
    """
    world.reset()
    died(world.migrate(fault=point), world, point)
    twice = bool(again) and struck(world.recover(again), world, f"{point}, {again}")
    tally.hit += 1 + twice
    tally.double += twice
    world.finish()
    world.ended_as_undisturbed(tally)
    tally.recovered += 1 + twice
    return twice


def taken_back(world: World, tally: Tally, point: Point = "", again: Point = "") -> bool:
    """Take the first run back, killed at a point, and again at another: the target is what it was before.

    Returns whether the second rollback came to its point.
    """
    kills = twice = False
    for run_id in world.run_ids()[:1]:
        if point:
            kills = struck(world.rollback(run_id, fault=point), world, point)
        if again:
            twice = struck(world.rollback(run_id, fault=again), world, f"{point}, {again}")
        tally.hit += kills + twice
        tally.double += twice
        ran = world.rollback(run_id)
        assert ran.code == 0, ran.err + ran.out
        world.journal_is_sound()
    world.ended_as_before(tally)
    tally.recovered += kills + twice
    return twice if again else kills


def killed_twice_and_taken_back(world: World, points: tuple[Point, Point, Point, Point], tally: Tally) -> None:
    """Kill a run, its resume, its rollback, and the resume of that: each at its point."""
    forward, again, back, back_again = points
    assert killed_and_resumed(world, forward, tally, again), f"the resume never came to {again}"
    assert taken_back(world, tally, back, back_again), f"the rollback's resume never came to {back_again}"


def killed_and_taken_back(world: World, point: Point, tally: Tally, again: Point = "") -> None:
    """Kill a run, and take it back without a resume; ``again``: where the rollback is killed, if it comes there."""
    world.reset()
    died(world.migrate(fault=point), world, point)
    tally.hit += 1
    tally.double += taken_back(world, tally, again)
    tally.recovered += 1

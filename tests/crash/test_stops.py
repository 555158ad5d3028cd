"""The rows of the resume table that no crash alone leads to: somebody else's hand, or an older copy, is in it."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from tests.checker.rawstore import path_of
from tests.crash.stories import died

if TYPE_CHECKING:
    from pathlib import Path

    from tests.crash.tally import Tally
    from tests.crash.worlds import World
    from tests.running import Ran

TARGETS = pytest.mark.parametrize("world", ["sqlite-0.12", "falkordb(aof)", "neo4j"], indirect=True)


def _killed(world: World, tally: Tally, ran: Ran, point: str) -> None:
    died(ran, world, point)
    tally.hit += 1


def _refused(world: World, tally: Tally, journal: Path) -> None:
    """Neither a resume nor a rollback on this journal changes anything in the target."""
    (run_id,) = world.run_ids()
    before = world.snapshot()
    for words in (("resume",), ("rollback", run_id)):
        ran = world.run(*words, journal=journal)
        assert ran.code == 31, ran.err + ran.out
        now = world.snapshot()
        tally.foreign += now != before
        assert now == before


@TARGETS
@pytest.mark.row("removed run", "removed rollback")
def test_a_marker_that_somebody_removed_stops_the_run_but_not_its_rollback(world: World, tally: Tally) -> None:
    world.reset()
    _killed(world, tally, world.migrate(fault="write:4:after"), "write:4:after")
    world.remove_marker()
    before = world.snapshot()
    ran = world.run("resume")
    assert ran.code == 31, ran.err + ran.out
    assert "removed" in ran.err
    assert world.snapshot() == before
    (run_id,) = world.run_ids()
    _killed(world, tally, world.rollback(run_id, fault="write:2:after"), "write:2:after")
    world.remove_marker()
    assert world.rollback(run_id).code == 0
    world.ended_as_before(tally)
    world.journal_is_sound()
    tally.recovered += 2


@TARGETS
@pytest.mark.row("newer run", "newer rollback")
def test_a_journal_that_is_older_than_the_target_stops(world: World, tally: Tally) -> None:
    world.reset()
    _killed(world, tally, world.migrate(fault="write:3:after"), "write:3:after")
    older = world.copy_of_the_journal()
    _killed(world, tally, world.run("resume", fault="write:3:after"), "write:3:after")
    _refused(world, tally, older)
    world.finish()
    world.ended_as_undisturbed(tally)
    tally.recovered += 2


@TARGETS
@pytest.mark.row("other-digest run", "other-digest rollback")
def test_a_batch_that_a_copy_of_the_journal_wrote_stops(world: World, tally: Tally) -> None:
    world.reset()
    _killed(world, tally, world.migrate(fault="write:3:before"), "write:3:before")
    copy = world.copy_of_the_journal()
    _killed(world, tally, world.run("resume", fault="write:1:before"), "write:1:before")
    # The copy's next batch has the same number, and other rows.
    other = world.run("resume", "--batch-size", "1", journal=copy, fault="write:1:after")
    _killed(world, tally, other, "write:1:after")
    _refused(world, tally, world.journal)
    assert world.run("resume", journal=copy).code == 0
    world.ended_as_undisturbed(tally)
    tally.recovered += 3


@pytest.mark.parametrize("world", ["sqlite-0.12"], indirect=True)
@pytest.mark.row("late run", "late rollback")
def test_a_target_that_was_restored_from_an_older_copy_is_noticed(world: World, tally: Tally) -> None:
    world.reset()
    _killed(world, tally, world.migrate(fault="write:3:after"), "write:3:after")
    target = path_of(world.url)
    older = world.here / "older"
    older.mkdir()
    for file in target.parent.glob(f"{target.name}*"):
        shutil.copyfile(file, older / file.name)
    _killed(world, tally, world.run("resume", fault="write:4:after"), "write:4:after")
    for file in target.parent.glob(f"{target.name}*"):
        file.unlink()
    for file in older.iterdir():
        shutil.copyfile(file, target.parent / file.name)
    assert world.run("resume").code == 31
    assert world.rollback(world.run_ids()[0]).code == 0
    world.ended_as_before(tally)
    world.journal_is_sound()
    tally.recovered += 2


@TARGETS
@pytest.mark.row("rollback-opened run", "rollback-opened rollback")
def test_a_run_that_is_being_taken_back_is_not_resumed(world: World, tally: Tally) -> None:
    world.reset()
    assert world.migrate().code == 0
    (run_id,) = world.run_ids()
    _killed(world, tally, world.rollback(run_id, fault="write:2:after"), "write:2:after")
    before = world.snapshot()
    for ran in (world.run("resume"), world.run("resume", run_id), world.migrate()):
        assert ran.code == 50, ran.err + ran.out
        assert f"memmig rollback {run_id}" in ran.err
    assert world.snapshot() == before
    assert world.rollback(run_id).code == 0
    world.ended_as_before(tally)
    tally.recovered += 1


@TARGETS
@pytest.mark.row("never-opened rollback")
def test_what_never_began_is_not_taken_back(world: World, tally: Tally) -> None:
    world.reset()
    point = "journal.run.opened:1:before"
    _killed(world, tally, world.migrate(fault=point), point)
    assert world.rollback("12345678").code == 52
    world.ended_as_before(tally)
    tally.recovered += 1

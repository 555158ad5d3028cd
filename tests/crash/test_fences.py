"""Locks and fences between real processes: of one journal, of two, over a sleeper, and whatever the clock says."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import TYPE_CHECKING

import pytest
from freezegun import freeze_time

from migrator import manager
from migrator.errors import Interrupted
from migrator.hooks import Hooks
from migrator.models import BackendConfig, BackendType, MigrationOptions
from tests.crash.stories import died
from tests.crash.worlds import BATCH
from tests.running import environment_of
from tests.terminal import at_a_terminal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from freezegun.api import FrozenDateTimeFactory, StepTickTimeFactory, TickingDateTimeFactory

    from tests.crash.tally import Tally
    from tests.crash.worlds import World

TARGETS = pytest.mark.parametrize("world", ["sqlite-0.12", "falkordb(aof)", "neo4j"], indirect=True)
POINT = "write:4:after"
_PROMPT = "type the run id"


# --- one journal ------------------------------------------------------------------------------------------------------


@TARGETS
def test_a_second_process_on_a_journal_is_refused_and_the_first_is_unharmed(world: World, tally: Tally) -> None:
    world.reset()
    with world.stopped(*world.migrate_words(), fault="write:3:before") as (pid, first):
        (run_id,) = world.run_ids()
        before = world.snapshot()
        for words in (world.migrate_words(), ("resume",), ("resume", run_id), ("rollback", run_id)):
            ran = world.run(*words)
            assert (ran.code, ran.document["error"]["name"]) == (40, "JournalLocked"), words
            assert f"process {pid}" in ran.document["error"]["message"]
        for words in (("journal", "show", run_id), ("journal", "check")):
            assert world.run(*words).code == 0, "whoever only reads is let in"
        assert world.snapshot() == before
    assert first.result().code == 0, first.result().err
    world.ended_as_undisturbed(tally)
    world.journal_is_sound()


# --- a sleeper --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("world", ["neo4j"], indirect=True)
@pytest.mark.parametrize("point", ["swap_marker:2:before", "write:4:before"])
def test_a_sleeper_whose_run_was_taken_over_is_fenced_on_neo4j_too(world: World, tally: Tally, point: str) -> None:
    world.reset()
    with world.stopped(*world.migrate_words(), fault=point) as (_, sleeper):
        taken_over = world.run("resume", journal=world.copy_of_the_journal())
        assert taken_over.code == 0, taken_over.err
    assert sleeper.result().code == 31, sleeper.result().err
    world.ended_as_undisturbed(tally)


@TARGETS
def test_a_sleeping_rollback_that_was_taken_over_is_fenced(world: World, tally: Tally) -> None:
    """The target is as before; what the sleeper would delete stands there again, and is the next run's."""
    world.reset()
    assert world.migrate().code == 0
    (run_id,) = world.run_ids()
    with world.stopped("rollback", run_id, fault="write:2:before") as (_, sleeper):
        copy = world.copy_of_the_journal()
        taken_back = world.run("rollback", run_id, journal=copy)
        assert taken_back.code == 0, taken_back.err
        assert world.snapshot() == world.before
        again = world.run(*world.migrate_words(), journal=copy)
        assert again.code == 0, again.err
    assert sleeper.result().code == 31, sleeper.result().err
    world.ended_as_undisturbed(tally)


# --- two journals -----------------------------------------------------------------------------------------------------


def _claimed(world: World) -> tuple[str, Path]:
    """Leave a run half-way, its process dead; return its id, and another journal."""
    world.reset()
    died(world.migrate(fault=POINT), world, POINT)
    (run_id,) = world.run_ids()
    return run_id, world.here / "another" / "journal.db"


@TARGETS
def test_another_journal_on_a_claimed_target_is_told_whose_it_is(world: World, tally: Tally) -> None:
    run_id, other = _claimed(world)
    tally.hit += 1
    before = world.snapshot()
    for more in ((), ("--dry-run",)):
        ran = world.run(*world.migrate_words(), *more, journal=other)
        assert (ran.code, ran.document["error"]["name"]) == (21, "StoreRefused"), more
        assert run_id in ran.document["error"]["message"]
        assert f":{world.journal}" in ran.document["error"]["message"]
        assert "memmig unlock" in ran.document["error"]["hint"]
    assert world.snapshot() == before
    world.finish()
    world.ended_as_undisturbed(tally)
    tally.recovered += 1


def _unlock(world: World, answer: str, *more: str) -> tuple[int, str]:
    environment = environment_of(world.here) | world.secrets
    words = ["unlock", "--to", world.url, *more]
    return at_a_terminal(words, environment, world.here, prompt=_PROMPT, answer=answer)


@TARGETS
def test_unlock_wants_the_runs_id_typed_at_a_terminal(world: World, tally: Tally) -> None:
    run_id, other = _claimed(world)
    tally.hit += 1
    before = world.snapshot()
    for wrong in ("", "yes", run_id[:8], f"{run_id}x", run_id.upper() if run_id != run_id.upper() else "x"):
        code, shown = _unlock(world, wrong)
        assert code == 2, shown
        assert "the marker stays" in shown
        assert run_id in shown
        assert str(world.journal) in shown.replace("\r\n", "")
    ran = world.run("unlock", "--to", world.url)
    assert ran.code == 2, "without a terminal nobody has confirmed anything"
    assert world.snapshot() == before
    code, shown = _unlock(world, run_id)
    assert code == 0, shown
    assert "the marker is gone" in shown
    code, shown = _unlock(world, "never asked")
    assert (code, _PROMPT in shown) == (0, False)
    assert "no marker" in shown
    # Now the target is free for others, and the first run may not go on; what it wrote stays its own.
    assert world.run("resume").code == 31
    assert world.rollback(run_id).code == 0
    assert world.snapshot() == world.before
    assert world.run(*world.migrate_words(), journal=other).code == 0
    world.ended_as_undisturbed(tally)
    tally.recovered += 1


# --- clocks -----------------------------------------------------------------------------------------------------------


def _config(world: World) -> BackendConfig:
    found = BackendConfig.from_url(world.url)
    if "MEMMIG_TO_USER" in world.secrets:
        user, password = (world.secrets[f"MEMMIG_TO_{what}"] for what in ("USER", "PASSWORD"))
        return BackendConfig.from_url(world.url, user=user, password=password)
    return found


def _backwards(clock: FrozenDateTimeFactory | StepTickTimeFactory | TickingDateTimeFactory) -> Callable[[object], None]:
    """Return what sets the clock back at every step of progress: by a second, an hour, a month."""
    steps: Iterator[int] = count()

    def jump(_: object) -> None:
        clock.tick(-timedelta(seconds=(1, 3_600, 2_600_000)[next(steps) % 3]))

    return jump


@TARGETS
def test_a_clock_that_jumps_backwards_changes_nothing(world: World, tally: Tally) -> None:
    world.reset()
    # Where nobody asks the network for the time.
    ignored = ["asyncio", "neo4j", "redis"]
    target = _config(world)
    source = BackendConfig(backend=BackendType.SQLITE, path=world.folder / "source.db")
    options = MigrationOptions(on_conflict="overwrite", batch_size=int(BATCH))
    asked = count(1)
    with freeze_time(datetime(2031, 5, 5, tzinfo=UTC), ignore=ignored) as clock:
        hooks = Hooks(progress=_backwards(clock), stop=lambda: 15 if next(asked) > 14 else 0)
        with pytest.raises(Interrupted):
            manager.run_migrate(source, target, options, journal_path=world.journal, hooks=hooks)
    (run_id,) = world.run_ids()
    assert len(world.events("batch.applied")) > 1, "something was written before the clock was set back"

    def with_secrets(config: BackendConfig, role: str) -> BackendConfig:
        return target if role == "to" else config

    with freeze_time(datetime(1999, 12, 31, tzinfo=UTC), ignore=ignored) as clock:
        hooks = Hooks(progress=_backwards(clock))
        resumed = manager.run_resume(run_id, journal_path=world.journal, hooks=hooks, secrets=with_secrets)
    assert resumed is not None
    assert (resumed.status, resumed.exit_code) == ("finished", 0)
    world.ended_as_undisturbed(tally)
    with freeze_time(datetime(1971, 1, 1, tzinfo=UTC), ignore=ignored) as clock:
        hooks = Hooks(progress=_backwards(clock))
        back = manager.run_rollback(run_id, journal_path=world.journal, hooks=hooks, secrets=with_secrets)
    assert (back.status, back.exit_code) == ("rolled-back", 0)
    assert world.snapshot() == world.before
    world.journal_is_sound()
    listed = world.run("journal", "events")
    times = [one["recorded_at"] for one in json.loads(listed.out)]
    assert times != sorted(times), "the clock did jump"

"""What an error says of how to go on is what then helps, and its result is there."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from migrator.backends.memory import MemoryBackend, PlainForm
from migrator.errors import Interrupted, MemmigError, StoreUnreachable, Unstorable
from migrator.hooks import Hooks
from migrator.model import Problem
from tests.engine.conftest import die, memory, unknown_outcome

if TYPE_CHECKING:
    from collections.abc import Iterator

    from migrator.model import Corrupt, Kind, Record
    from tests.engine.conftest import World


@pytest.fixture
def bad_titles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the target hold no title that begins with "bad"."""

    def problems(_form: PlainForm, record: Record) -> list[Problem]:
        title = str(record.properties.get("title"))
        return [Problem(kind="memory", id=record.id, field="title", reason=title)] if title.startswith("bad") else []

    monkeypatch.setattr(PlainForm, "problems", problems)


def _stopped_as_it_is_taken_back(world: World) -> int:
    began = world.journal.exists() and any(event.type == "rollback.opened" for event in world.events())
    return 2 if began else 0


def test_a_run_that_is_stopped_as_it_is_taken_back_says_so(world: World) -> None:
    world.target_store.nodes["m7"] = memory("m7", title="other")
    with pytest.raises(Interrupted) as stopped:
        world.migrate(on_conflict="fail", hooks=Hooks(stop=lambda: _stopped_as_it_is_taken_back(world)), batch_size=2)
    (run_id,) = world.run_ids()
    assert stopped.value.hint == f"`memmig rollback {run_id}` goes on"
    assert (stopped.value.result.status, stopped.value.result.exit_code) == ("rolling-back", 130)
    world.rollback(run_id)
    assert world.target_store.nodes.keys() == {"m7", "theirs"}


def test_a_rollback_whose_server_went_away_is_gone_on_with_as_a_rollback(world: World) -> None:
    run_id = world.migrate().run_id
    world.network().kill("before", "write", nth=0, how=unknown_outcome)
    with pytest.raises(StoreUnreachable) as away:
        world.rollback(run_id)
    assert away.value.hint.endswith(f"`memmig rollback {run_id}` goes on")
    assert "resume" not in away.value.hint
    world.network()
    assert world.rollback(run_id).status == "rolled-back"


@pytest.mark.usefixtures("bad_titles")
def test_a_resume_that_ends_before_it_writes_does_not_say_that_nothing_was_written(
    world: World,
) -> None:
    die(world, "after", "journal:batch.applied", 2)
    (run_id,) = world.run_ids()
    world.network()
    with pytest.raises(Interrupted) as stopped:
        world.migrate(resume=True, hooks=Hooks(stop=lambda: 2))
    world.source_store.nodes["m7"]["properties"]["title"] = "bad"
    with pytest.raises(Unstorable) as unstorable:
        world.migrate(resume=True)
    for error in (stopped.value, unstorable.value):
        assert "nothing was written" not in error.hint
        assert f"`memmig resume {run_id}` goes on, `memmig rollback {run_id}` takes it back" in error.hint


@pytest.mark.usefixtures("bad_titles")
@pytest.mark.parametrize("foreign", [0, 120])
def test_what_became_unstorable_in_mid_run_ends_with_10_however_much_there_is_to_say(
    world: World, monkeypatch: pytest.MonkeyPatch, foreign: int
) -> None:
    """A result names 100 findings at most."""
    world.source_store.edges.clear()
    world.source_store.nodes |= {name: memory(name) for name in [*(f"f{n:03}" for n in range(120)), "zz"]}
    world.migrate()
    for number in range(foreign):
        world.target_store.nodes[f"f{number:03}"]["properties"]["title"] = "theirs"
    scan, passes = MemoryBackend.scan, list[None]()

    def changing(backend: MemoryBackend, kind: Kind, size: int) -> Iterator[list[Record | Corrupt]]:
        if backend.store is world.source_store and kind == "memory":
            passes.append(None)
            world.source_store.nodes["zz"]["properties"]["title"] = "zz" if len(passes) == 1 else "bad"
            backend.release_snapshot()
        yield from scan(backend, kind, size)

    monkeypatch.setattr(MemoryBackend, "snapshots", False)
    monkeypatch.setattr(MemoryBackend, "scan", changing)
    try:
        code = world.migrate().exit_code
    except MemmigError as error:
        pytest.fail(f"{error.exit_code}: {error.message}")
    assert code == 10

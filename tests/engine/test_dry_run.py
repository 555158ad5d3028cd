"""The dry run counts, and ends with, what the run then does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.engine.conftest import edge, memory

if TYPE_CHECKING:
    from collections.abc import Callable

    from migrator.models import MigrationResult
    from tests.engine.conftest import World


def _deleted_end(world: World) -> None:
    del world.target_store.nodes["m2"]


def _ends_that_the_run_makes(world: World) -> None:
    world.source_store.nodes |= {"n1": memory("n1"), "n2": memory("n2")}
    world.source_store.edges["between"] = edge("between", "n1", "n2")


def _counted(result: MigrationResult) -> tuple[Any, ...]:
    return result.memories, result.relationships, result.exit_code


@pytest.mark.parametrize("policy", ["skip", "overwrite"])
@pytest.mark.parametrize("since", [None, "2026-02-01T00:00:00Z"])
@pytest.mark.parametrize("change", [_deleted_end, _ends_that_the_run_makes])
def test_edges_without_an_end_in_the_target_are_foreseen(
    world: World, change: Callable[[World], None], since: str | None, policy: Any
) -> None:
    world.source_store.edges.clear()
    for raw in world.source_store.nodes.values():
        raw["properties"]["updated_at"] = "2026-01-01T00:00:00Z"
    world.migrate()
    world.source_store.edges["new"] = edge("new", "m1", "m2", created_at="2026-03-01T00:00:00Z")
    change(world)
    # A record of others makes up for the one that is gone, or a --since run would compare everything.
    world.target_store.nodes["theirs2"] = memory("theirs2")
    dry = world.migrate(dry_run=True, since=since, on_conflict=policy)
    run = world.migrate(since=since, on_conflict=policy)
    assert _counted(dry) == _counted(run)
    assert dry.relationships["created"] + dry.relationships["conflict"] >= 1

"""Several sources into one target: who holds what, and what becomes of an id about which they differ."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from journal.store import Journal
from migrator import manager
from migrator.backends.memory import STORES, MemoryStore
from migrator.errors import LimitHit
from migrator.models import BackendConfig, BackendType, MigrationOptions
from tests.checker import compare
from tests.engine.conftest import contents, edge, memory
from tests.integration.stores_of_all_kinds import migrate, take_back
from tests.nasty import Edge, Memory
from tests.sync.edits import forget, retitle

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from migrator.models import MigrationResult
    from tests.engine.conftest import World
    from tests.integration.stores_of_all_kinds import Places

type Night = Callable[..., "MigrationResult"]

PLAIN: dict[str, Any] = {
    "type": "task",
    "content": "c",
    "created_at": "2026-01-01T00:00:00+00:00",
    "updated_at": "2026-01-01T00:00:00+00:00",
}

EDGE: dict[str, Any] = dict.fromkeys(
    ("created_at", "last_validated", "valid_from", "recorded_at"), "2026-01-01T00:00:00+00:00"
)


@pytest.fixture
def laptop(world: World) -> Iterator[MemoryStore]:
    """A second source, which holds m1 as the first does, and a memory and an edge of its own."""
    store = STORES["laptop"] = MemoryStore()
    store.nodes = {"m1": world.source_store.nodes["m1"], "own": memory("own")}
    store.edges = {"own-edge": edge("own-edge", "own", "m1")}
    yield store
    del STORES["laptop"]


@pytest.fixture
def night(world: World) -> Night:
    """A run of the second source."""

    def run(**options: Any) -> MigrationResult:
        config = BackendConfig(backend=BackendType.MEMORY, graph="laptop")
        return manager.run_migrate(config, world.target, MigrationOptions(**options), journal_path=world.journal)

    return run


def title(store: MemoryStore, name: str, text: str) -> None:
    raw = store.nodes[name]
    store.nodes[name] = {**raw, "properties": {**raw["properties"], "title": text}}


def names(world: World) -> tuple[str, str]:
    """Return the names of both sources, as results show them."""
    return f"memory:{world.source.graph}", "memory:laptop"


def test_what_both_have_alike_is_unchanged_for_both(world: World, laptop: MemoryStore, night: Night) -> None:
    world.migrate()
    result = night()
    assert (result.memories["created"], result.memories["unchanged"], result.exit_code) == (1, 1, 0)
    assert world.migrate().exit_code == night().exit_code == 0
    assert {"own", "m1", "m7"} <= world.target_store.nodes.keys()
    assert laptop.edges.keys() <= world.target_store.edges.keys()


@pytest.mark.parametrize("first", [True, False], ids=["the first changes it", "the second changes it"])
def test_an_id_about_which_two_sources_differ_is_a_conflict_that_names_both(
    world: World, laptop: MemoryStore, night: Night, first: bool
) -> None:
    world.migrate()
    night()
    title(world.source_store if first else laptop, "m1", "another")
    before = contents(world.target_store)
    for _ in range(2):
        result = world.migrate() if first else night()
        assert (result.memories["conflict"], result.exit_code) == (1, 10)
        (found,) = result.findings
        assert "title" in found.reason
        assert all(name in found.reason for name in names(world))
    other = night() if first else world.migrate()
    assert other.exit_code == 0, "for the other one nothing changed"
    assert contents(world.target_store) == before


def test_a_source_that_never_agreed_is_a_conflict_that_names_both(
    world: World, laptop: MemoryStore, night: Night
) -> None:
    world.migrate()
    title(laptop, "m1", "another")
    result = night()
    assert (result.memories["conflict"], result.exit_code) == (1, 10)
    assert all(name in result.findings[0].reason for name in names(world))


def test_overwrite_decides_and_the_other_one_hears_of_it(world: World, laptop: MemoryStore, night: Night) -> None:
    world.migrate()
    night()
    title(laptop, "m1", "the laptop's")
    assert night(on_conflict="overwrite").memories["updated"] == 1
    result = world.migrate()
    assert (result.memories["conflict"], result.exit_code) == (1, 10)
    assert all(name in result.findings[0].reason for name in names(world))
    title(world.source_store, "m1", "the laptop's")
    assert world.migrate().exit_code == night().exit_code == 0


@pytest.mark.parametrize("first", [True, False], ids=["its creator", "who found it"])
def test_delete_retains_what_the_other_one_holds(world: World, laptop: MemoryStore, night: Night, first: bool) -> None:
    world.migrate()
    night()
    store = world.source_store if first else laptop
    del store.nodes["m1"]
    for identity in [key for key, one in store.edges.items() if "m1" in (one["from"], one["to"])]:
        del store.edges[identity]
    result = world.migrate(delete=True) if first else night(delete=True)
    assert "m1" in world.target_store.nodes
    kept = {finding.id: finding.reason for finding in result.findings}
    if first:
        assert (result.exit_code, {*kept}) == (10, {"m1"})
        assert "memory:laptop" in kept["m1"]
        assert result.relationships["deleted"] == 2, "only the first had these"
        assert "own-edge" in world.target_store.edges
    else:
        assert (result.exit_code, kept, result.relationships["deleted"]) == (0, {}, 1), "it never was its own"


def test_rollback_retains_what_the_other_one_holds(world: World, laptop: MemoryStore, night: Night) -> None:
    run_id = world.migrate().run_id
    night()
    result = world.rollback(run_id)
    assert result.exit_code == 10
    kept = {finding.id: finding.reason for finding in result.findings}
    assert kept.keys() == {"m1"}
    assert "memory:laptop" in kept["m1"]
    assert {"m1", *laptop.nodes} <= world.target_store.nodes.keys()


def test_what_one_deletes_is_no_loss_of_the_others(world: World, laptop: MemoryStore, night: Night) -> None:
    """An empty laptop stops its own deletions only."""
    world.migrate()
    night()
    laptop.nodes.clear()
    laptop.edges.clear()
    before = contents(world.target_store)
    with pytest.raises(LimitHit, match="holds no memories"):
        night(delete=True)
    assert contents(world.target_store) == before
    assert world.migrate(delete=True).exit_code == 0
    assert contents(world.target_store) == before


@pytest.mark.parametrize("to", ["falkordb", "sqlite-0.12"])
def test_laptops_into_one_store(places: Places, tmp_path: Path, to: str) -> None:
    """Over real engines: conflicts with both names, deletions of one's own only, and each one's rollback."""
    one, other = places.new("sqlite-0.12", "one"), places.new("sqlite-0.13", "other")
    target = places.new(to, "target")
    shared = Memory("shared", PLAIN | {"title": "shared"})
    for place, name in ((one, "a"), (other, "b")):
        own = [Memory(f"{name}{number}", PLAIN | {"title": f"{name}{number}"}) for number in range(3)]
        place.write([shared, *own], [Edge(f"{name}-edge", "CAUSES", f"{name}1", "shared", EDGE)])
    for place in (one, other, one):
        ran = migrate(place, target, tmp_path)
        assert ran.code == 0, ran.err + ran.out
    both = target.state()

    retitle(other, "shared", "another")
    ran = migrate(other, target, tmp_path, "--delete")
    assert ran.code == 10, ran.err
    (found,) = ran.document["findings"]
    assert (found["id"], found["what"]) == ("shared", "conflict")
    assert "one.db" in found["reason"]
    assert "other.db" in found["reason"]
    assert target.state() == both
    retitle(other, "shared", "shared")

    forget(one, "a1", "shared")
    ran = migrate(one, target, tmp_path, "--delete")
    assert ran.code == 10, ran.err
    assert [(found["id"], found["what"]) for found in ran.document["findings"]] == [("shared", "retained")]
    assert "other.db" in ran.document["findings"][0]["reason"]
    assert (ran.document["memories"]["deleted"], ran.document["relationships"]["deleted"]) == (1, 1)
    assert {item.id for item in target.read().memories} == {"a0", "a2", "b0", "b1", "b2", "shared"}
    assert {item.id for item in compare(other.read(), target.read())} == {"a0", "a2"}

    back = take_back(ran.document["run_id"], target, tmp_path)
    assert back.code == 0, back.err + back.out
    assert target.state() == both
    with closing(Journal.open(tmp_path / "journal.db", mode="read")) as journal:
        assert journal.check().ok

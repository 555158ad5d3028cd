"""Nights taken back: later ones first, and each leaves the target exactly as the night before had left it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from migrator.errors import RollbackRefused
from tests.checker import compare
from tests.engine.conftest import Killed, contents, edge, memory
from tests.integration.stores_of_all_kinds import KINDS, migrate, take_back
from tests.nasty import Edge, Memory, clean_records
from tests.running import memmig
from tests.sync.edits import disconnect, forget, retitle

if TYPE_CHECKING:
    from pathlib import Path

    from migrator.backends.memory import MemoryStore
    from tests.engine.conftest import World
    from tests.integration.stores_of_all_kinds import Places

PAIRS = [("sqlite-0.12", kind) for kind in KINDS if kind != "sqlite-0.12"] + [
    ("sqlite-0.13", "sqlite-0.12"),
    ("falkordb", "sqlite-0.12"),
    ("neo4j", "falkordb"),
]
#: Those of each family of stores; the others are for `make test-long`.
_ALWAYS = {("sqlite-0.12", "falkordb"), ("sqlite-0.12", "neo4j"), ("falkordb", "sqlite-0.12")}


def title(store: MemoryStore, name: str, text: str) -> None:
    raw = store.nodes[name]
    store.nodes[name] = {**raw, "properties": {**raw["properties"], "title": text}}


def three_nights(world: World) -> tuple[list[str], list[Any]]:
    """Run three nights, of which the third shares no id with the first; return the runs, and the states between."""
    source, target = world.source_store, world.target_store
    states = [contents(target)]
    runs = [world.migrate().run_id]
    states.append(contents(target))
    title(source, "m1", "night 2")
    source.nodes["new"] = memory("new")
    del source.edges["e5"]
    runs.append(world.migrate(delete=True).run_id)
    states.append(contents(target))
    title(source, "new", "night 3")
    source.edges["more"] = edge("more", "new", "new")
    runs.append(world.migrate(delete=True).run_id)
    states.append(contents(target))
    return runs, states


def test_the_newest_first_gives_back_every_evening(world: World) -> None:
    runs, states = three_nights(world)
    for number in (2, 1, 0):
        assert contents(world.target_store) == states[number + 1]
        result = world.rollback(runs[number])
        assert result.exit_code == 0
    assert contents(world.target_store) == states[0]
    world.check()


def test_an_earlier_one_is_refused_and_names_all_that_stand_in_its_way(world: World) -> None:
    runs, states = three_nights(world)
    with pytest.raises(RollbackRefused) as caught:
        world.rollback(runs[0])
    assert caught.value.exit_code == 51
    assert runs[1] in caught.value.message
    assert runs[2] in caught.value.message, "it wrote what the second had written"
    assert "--cascade" in caught.value.hint
    assert contents(world.target_store) == states[3]
    with pytest.raises(RollbackRefused, match=runs[2]):
        world.rollback(runs[1])


def test_cascade_goes_newest_first(world: World) -> None:
    runs, states = three_nights(world)
    result = world.rollback(runs[1], cascade=True)
    assert (result.run_id, result.exit_code) == (runs[1], 0)
    assert any(runs[2] in warning for warning in result.warnings)
    assert contents(world.target_store) == states[1]
    world.rollback(runs[0], cascade=True)
    assert contents(world.target_store) == states[0]
    world.check()


def test_cascade_over_all(world: World) -> None:
    runs, states = three_nights(world)
    assert world.rollback(runs[0], cascade=True).exit_code == 0
    assert contents(world.target_store) == states[0]
    world.check()


def test_what_a_later_one_retains_is_told(world: World) -> None:
    runs, _ = three_nights(world)
    world.target_store.edges["more"]["properties"]["note"] = "theirs"
    result = world.rollback(runs[1], cascade=True)
    assert result.exit_code == 10
    assert {"more", "new"} <= {finding.id for finding in result.findings}


def test_a_cascade_that_died_goes_on(world: World) -> None:
    runs, states = three_nights(world)
    world.network().kill("after", "write", nth=2)
    with pytest.raises(Killed):
        world.rollback(runs[0], cascade=True)
    world.network()
    assert world.rollback(runs[0], cascade=True).exit_code == 0
    assert contents(world.target_store) == states[0]
    world.check()


def test_a_night_that_was_taken_back_is_done_again(world: World) -> None:
    runs, states = three_nights(world)
    world.rollback(runs[2])
    world.rollback(runs[1])
    result = world.migrate(delete=True)
    assert (result.memories["created"], result.memories["updated"], result.relationships["deleted"]) == (1, 1, 1)
    assert result.exit_code == 0
    assert contents(world.target_store) == states[3]


@pytest.mark.parametrize(
    ("kind", "to"),
    [pair if pair in _ALWAYS else pytest.param(*pair, marks=pytest.mark.long) for pair in PAIRS],
)
def test_two_nights_of_nasty_records(places: Places, tmp_path: Path, kind: str, to: str) -> None:
    """Creations, updates and deletions over real engines: what is compared is every byte of the target."""
    source, target = places.filled(kind, "nasty"), places.new(to, "target")
    target.write([Memory("before", {**clean_records(60, 3, 0)[0][0].properties})], [])
    target.write_what_is_others("before")
    evening = [target.state()]
    memories = sorted(one.id for one in source.read().memories)
    edges = sorted(one.id for one in source.read().relationships if one.id.startswith("hub-"))
    runs = [migrate(source, target, tmp_path)]
    assert runs[0].code == 0, runs[0].err
    evening.append(target.state())

    gone, changed = memories[2::9], memories[3::9]
    for identity in changed:
        retitle(source, identity, "the second night")
    forget(source, *gone)
    disconnect(source, *edges[:20])
    extra = clean_records(60, 11, 0)[0][-3:]
    source.write(
        [Memory(f"new-{n}", one.properties) for n, one in enumerate(extra)],
        [Edge("new-edge", "CAUSES", "new-0", changed[0], clean_records(60, 11, 0)[1][0].properties)],
    )
    wanted = source.read()
    words = ("--delete", "--max-delete", "60%")
    plan = migrate(source, target, tmp_path, *words, "--dry-run")
    assert target.state() == evening[1]
    runs.append(migrate(source, target, tmp_path, *words))
    found = runs[1].document
    assert runs[1].code == plan.code == 0, runs[1].err + runs[1].out[-2_000:]
    assert [found[name] for name in ("memories", "relationships")] == [
        plan.document[name] for name in ("memories", "relationships")
    ]
    assert found["memories"]["deleted"] == len(gone)
    assert found["relationships"]["deleted"] >= 20
    assert found["verification"]["status"] == "passed"
    differences = compare(wanted, target.read())
    assert {one.id for one in differences} <= {"before"}, differences[:3]
    evening.append(target.state())

    quiet = migrate(source, target, tmp_path, *words)
    assert quiet.code == 0
    assert target.state() == evening[2]
    refused = take_back(runs[0].document["run_id"], target, tmp_path)
    assert refused.code == 51
    assert found["run_id"] in refused.out
    assert target.state() == evening[2]
    ran = take_back(found["run_id"], target, tmp_path)
    assert ran.code == 0, ran.err + ran.out[-2_000:]
    assert target.state() == evening[1]

    again = migrate(source, target, tmp_path, *words)
    assert again.code == 0, again.err
    assert target.state() == evening[2]
    back = ("rollback", runs[0].document["run_id"], "--cascade", "--journal", tmp_path / "journal.db", "--json")
    ran = memmig(*back, cwd=tmp_path, environment=target.secrets("TO"))
    assert ran.code == 0, ran.err + ran.out[-2_000:]
    assert target.state() == evening[0]

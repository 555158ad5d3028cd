"""``--delete`` on the command line, over real engines: what stops it, and what is retained."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.integration.stores_of_all_kinds import migrate
from tests.nasty import Edge, Memory
from tests.sync.edits import forget, retitle, without_label

if TYPE_CHECKING:
    from pathlib import Path

    from tests.integration.stores_of_all_kinds import Place, Places

PAIRS = [("sqlite-0.12", "falkordb"), ("sqlite-0.12", "neo4j"), ("falkordb", "sqlite-0.12")]
TIME = "2026-01-01T00:00:00+00:00"
PLAIN: dict[str, Any] = {"type": "task", "content": "c", "created_at": TIME, "updated_at": TIME}
EDGE: dict[str, Any] = dict.fromkeys(("created_at", "last_validated", "valid_from", "recorded_at"), TIME)


@pytest.fixture(params=PAIRS, ids="-".join)
def stores(request: pytest.FixtureRequest, places: Places, tmp_path: Path) -> tuple[Place, Place]:
    """Two stores after a first night: a chain of twelve memories, and one that the target had before."""
    source, target = places.new(request.param[0], "source"), places.new(request.param[1], "target")
    records = [Memory(f"m{number:02}", PLAIN | {"title": f"m{number:02}"}) for number in range(12)]
    source.write(records, [Edge(f"e{n:02}", "CAUSES", f"m{n:02}", f"m{n + 1:02}", EDGE) for n in range(11)])
    target.write([records[11], Memory("theirs", PLAIN | {"title": "theirs"})], [])
    ran = migrate(source, target, tmp_path)
    assert ran.code == 0, ran.err
    return source, target


def test_a_limit_or_an_empty_source_is_23_and_writes_nothing(stores: tuple[Place, Place], tmp_path: Path) -> None:
    source, target = stores
    retitle(source, "m00", "changed by day")
    forget(source, "m03", "m04", "m05")
    before, journal = target.state(), (tmp_path / "journal.db").read_bytes()
    for words in (("--max-delete", "2"), ("--max-delete", "20%")):
        dry = migrate(source, target, tmp_path, "--delete", *words, "--dry-run")
        assert (dry.code, dry.document["memories"]["deleted"]) == (23, 3)
        ran = migrate(source, target, tmp_path, "--delete", *words)
        assert (ran.code, ran.document["error"]["name"]) == (23, "LimitHit"), ran.err
        assert "3 of 12 of kind memory" in ran.document["error"]["message"]
    forget(source, *(f"m{number:02}" for number in range(12)))
    ran = migrate(source, target, tmp_path, "--delete", "--max-delete", "100%")
    assert (ran.code, ran.document["error"]["name"]) == (23, "LimitHit"), ran.err
    assert target.state() == before
    assert (tmp_path / "journal.db").read_bytes() == journal
    ran = migrate(source, target, tmp_path)
    assert ran.code == 0
    assert any("no memories" in warning for warning in ran.document["warnings"])
    assert target.state() == before


def test_what_others_hold_or_changed_is_retained(stores: tuple[Place, Place], tmp_path: Path) -> None:
    source, target = stores
    without_label(source, "m00")
    forget(source, "m02", "m05", "m08", "m11")
    target.write([], [Edge("foreign", "CAUSES", "theirs", "m02", EDGE)])
    retitle(target, "m05", "theirs now")
    words = ("--delete", "--max-delete", "90%")
    dry = migrate(source, target, tmp_path, *words, "--dry-run")
    first = migrate(source, target, tmp_path, *words)
    for kind in ("memories", "relationships"):
        assert dry.document[kind] == first.document[kind]
    assert (first.document["memories"]["deleted"], dry.code) == (1, 10)
    for ran in (first, migrate(source, target, tmp_path, *words)):
        assert ran.code == 10, ran.err + ran.out
        kept = {found["id"]: found["reason"] for found in ran.document["findings"]}
        assert kept.keys() == {"m02", "m05"}
        assert "foreign" in kept["m02"]
        assert "changed in the target" in kept["m05"]
    found = target.read()
    assert {one.id for one in found.memories} == {"theirs", *(f"m{n:02}" for n in range(12) if n != 8)}
    assert {one.id for one in found.relationships} == {"foreign", *(f"e{n:02}" for n in (0, 3, 6, 9))}

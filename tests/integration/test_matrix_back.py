"""Every pair again: a second run, the way back, what cannot be stored, and the dry run."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from tests.checker import compare
from tests.integration.stores_of_all_kinds import KINDS, Place, Places, migrate, quarantined, take_back
from tests.nasty import Edge, Manifest, Memory, add_broken_012, special_records

if TYPE_CHECKING:
    from pathlib import Path

PLAIN: dict[str, Any] = {
    "type": "general",
    "title": "was here before",
    "content": "c",
    "created_at": "2025-01-01T00:00:00+00:00",
    "updated_at": "2025-01-01T00:00:00+00:00",
}
PLAIN_EDGE: dict[str, Any] = dict.fromkeys(
    ("created_at", "last_validated", "valid_from", "recorded_at"), "2025-01-01T00:00:00+00:00"
)


#: What stays when the last record is gone.
SERVERS = ("falkordb", "neo4j", "memgraph")


def _lost(before: dict[str, Any], after: dict[str, Any]) -> list[Any]:
    """Return the rows, nodes and edges of a snapshot that are not in a later one as they were."""
    lost: list[Any] = []
    for key, value in before.items():
        if isinstance(value, Counter):
            lost += value - after[key]
        elif isinstance(value, dict):
            lost += _lost(value, after[key])
    return lost


@pytest.mark.parametrize("to", KINDS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_second_run_writes_nothing_and_rollback_gives_back_what_was_there(
    places: Places, tmp_path: Path, kind: str, to: str
) -> None:
    source, target = places.filled(kind, "nasty"), places.new(to, "target")
    target.write(
        [Memory("before-1", dict(PLAIN)), Memory("before-2", PLAIN | {"importance": 0.1 + 0.2, "tags": ["x"]})],
        [Edge("before", "CAUSES", "before-1", "before-2", dict(PLAIN_EDGE))],
    )
    target.write_what_is_others("before-1")
    before = target.state()
    first = migrate(source, target, tmp_path)
    assert first.code == 0, first.err
    after = target.state()
    assert after != before
    assert _lost(before, after) == []

    second = migrate(source, target, tmp_path)
    assert second.code == 0, second.err
    for name in ("memories", "relationships"):
        counts = second.document[name]
        assert counts == dict.fromkeys(counts, 0) | {"read": counts["read"], "unchanged": counts["read"]}
        assert counts["read"]
    assert target.state() == after

    for status in ("rolled-back", "rolled-back"):
        ran = take_back(first.document["run_id"], target, tmp_path)
        assert ran.code == 0, ran.err
        assert ran.document["status"] == status
        assert target.state() == before


@pytest.mark.parametrize("to", KINDS)
def test_a_target_that_the_run_made_is_gone_after_rollback(places: Places, tmp_path: Path, to: str) -> None:
    source, target = places.filled("sqlite-0.12", "real-0.12"), places.new(to, "target")
    before = target.state() if to in SERVERS else {}
    ran = migrate(source, target, tmp_path)
    assert ran.code == 0, ran.err
    assert take_back(ran.document["run_id"], target, tmp_path).code == 0
    if to in SERVERS:
        assert target.state() == before
    else:
        assert not [path.name for path in tmp_path.iterdir() if path.name.startswith("target")]


def _trouble(target: Place, manifest: Manifest) -> dict[tuple[str, Any], str]:
    return manifest.corrupt | manifest.unstorable[target.rules]


@pytest.mark.parametrize("to", KINDS)
@pytest.mark.parametrize("level", ["special", "broken"])
def test_what_a_store_cannot_hold_stops_the_run_or_is_quarantined(
    places: Places, tmp_path: Path, level: str, to: str
) -> None:
    source, target = places.filled("sqlite-0.12", "nasty"), places.new(to, "target")
    manifest = Manifest()
    source.write(*special_records(manifest))
    if level == "broken":
        add_broken_012(tmp_path / "source.db", manifest)
    trouble = _trouble(target, manifest)
    target.write([Memory("before", dict(PLAIN))], [])
    before = target.state()

    stopped = migrate(source, target, tmp_path)
    if trouble:
        assert stopped.code == 22, stopped.err + stopped.out[-2_000:]
        assert target.state() == before
        assert "Traceback" not in stopped.err
        assert "\x1b" not in stopped.err
        ran = migrate(source, target, tmp_path, "--on-unstorable", "quarantine")
        assert ran.code == 10, ran.err + ran.out[-2_000:]
    else:
        ran = stopped
        assert ran.code == 0, ran.err + ran.out[-2_000:]

    wanted = source.read()
    wanted.memories += [memory for memory in target.read().memories if memory.id == "before"]
    assert compare(wanted, target.read(), without=trouble) == []
    counts = {kind: sum(1 for key in trouble if key[0] == kind) for kind in ("memory", "relationship")}
    assert ran.document["memories"]["quarantined"] == counts["memory"]
    assert ran.document["relationships"]["quarantined"] == counts["relationship"]
    journalled = quarantined(tmp_path / "journal.db")
    assert {key for key in trouble if key[1] is not None} <= journalled
    assert len(journalled) == len(trouble)


@pytest.mark.parametrize("to", KINDS)
def test_the_dry_run_tells_the_truth_and_writes_nothing(places: Places, tmp_path: Path, to: str) -> None:
    source, target = places.filled("sqlite-0.12", "nasty"), places.new(to, "target")
    target.write([Memory("CASE", dict(PLAIN)), Memory("other", dict(PLAIN))], [])
    before, files = target.state(), sorted(path.name for path in tmp_path.iterdir())
    dry = migrate(source, target, tmp_path, "--dry-run")
    assert target.state() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == files
    ran = migrate(source, target, tmp_path)
    assert (dry.code, ran.code) == (10, 10), dry.err + ran.err
    assert dry.document["status"] == "dry-run"
    for name in ("memories", "relationships"):
        assert dry.document[name] == ran.document[name]
    assert ran.document["memories"]["conflict"] == 1

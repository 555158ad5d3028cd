"""Which of two records that differ was changed last, by its own times."""

from __future__ import annotations

from typing import Any

import pytest

from migrator.model import Memory, Relationship
from migrator.plan import newer_side

EARLY, LATE = "2026-01-01T00:00:00+02:00", "2026-01-01T00:00:00+00:00"


def memory(**times: Any) -> Memory:
    return Memory("m", ("Memory",), times)


def edge(**times: Any) -> Relationship:
    return Relationship("e", "X", "a", "b", times)


@pytest.mark.parametrize(
    ("source", "target", "newer"),
    [
        (memory(updated_at=LATE), memory(updated_at=EARLY), "source"),
        (memory(updated_at=EARLY), memory(updated_at=LATE), "target"),
        (memory(updated_at=LATE), memory(updated_at="2026-01-01 00:00:00Z"), None),
        (memory(), memory(updated_at=EARLY), None),
        (memory(updated_at=LATE), memory(), None),
        (memory(updated_at="soon"), memory(updated_at=EARLY), None),
        # Of a memory nothing else counts: reading it sets last_accessed.
        (memory(updated_at=EARLY, last_accessed=LATE), memory(updated_at=EARLY), None),
        (edge(created_at=EARLY), edge(created_at=EARLY, valid_until=LATE), "target"),
        (edge(created_at=EARLY, last_validated=LATE), edge(recorded_at=EARLY), "source"),
        (edge(recorded_at=LATE), edge(created_at=LATE), None),
        (edge(valid_from=LATE), edge(created_at=EARLY), None),
    ],
)
def test_the_side_that_was_changed_last(
    source: Memory | Relationship, target: Memory | Relationship, newer: str | None
) -> None:
    assert newer_side(source, target) == newer

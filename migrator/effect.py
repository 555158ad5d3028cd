"""What a run did to one id, over all the rows that it has of it: one effect to undo. Pure.

Most ids have one row. More come of a verification that failed and was repaired by a resume, and of a server that came
back without the marker, so that nobody knows what it kept (``void`` batches) and everything was decided anew.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from migrator.codec import load_raw
from migrator.model import Corrupt
from migrator.plan import bumped_of, is_written

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from journal.chain import StoredEntry
    from migrator.backends.base import Raw
    from migrator.model import Kind, Record

_WRITES = frozenset({"created", "updated", "deleted"})
_FOUND = frozenset({"unchanged", "conflict", "foreign"})


@dataclass(frozen=True, slots=True)
class Effect:
    """A run's effect on an id, as if it were one row: what stood there before the first, what the last wrote."""

    entry: StoredEntry
    sure: bool = True  #: False: the run found the record there later, and whose it is cannot be told


def effect_of(
    rows: Sequence[StoredEntry],
    is_sure: Callable[[StoredEntry], bool],
    decode: Callable[[Kind, Raw], Record | Corrupt],
) -> Effect | None:
    """Return the effect of a run's rows of one id, oldest first, or None where it wrote nothing.

    The before-image of a row is what was read there: so a row before it counts only if that is what it left.
    """
    writes = [row for row in rows if row.action in _WRITES]
    if not writes:
        return None
    first = merged = writes[-1]
    if not is_sure(first) and any(row.seq > first.seq and row.action in _FOUND for row in rows):
        return Effect(first, sure=False)
    for older in reversed(writes[:-1]):
        left = [older, *(row for row in rows if older.seq < row.seq < first.seq and row.action == "different")]
        if not is_sure(older) or not _follows(first, left, decode):
            break
        first = older
        merged = merged._replace(
            action=older.action,
            before_digest=older.before_digest,
            before_image=older.before_image,
            written=json.dumps(json.loads(older.written or "{}") | json.loads(merged.written or "{}"), sort_keys=True),
        )
    return Effect(merged)


def _follows(row: StoredEntry, left: Sequence[StoredEntry], decode: Callable[[Kind, Raw], Record | Corrupt]) -> bool:
    """Tell whether a row was planned over what one of the others left there, or was found to have left."""
    if row.before_image is None:
        return False
    kind: Kind = "memory" if row.kind == "memory" else "relationship"
    before = decode(kind, load_raw(row.before_image))
    return not isinstance(before, Corrupt) and any(is_written(before, one.after_digest, bumped_of(one)) for one in left)

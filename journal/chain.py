"""Entries, and the hashes that bind everything in a journal: pure.

An event's hash is SHA-256 over the previous event's hash (32 bytes; zeros before the first) and the canonical JSON of
``[seq, run_id, version, type, type_version, recorded_at, payload]`` as they stand in the table (payload as text).
The event that plans a batch holds the digest of the batch's entries, so the chain covers them too.
"""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, NamedTuple

import orjson

from journal.errors import JournalDamaged

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

#: Names the encoding of entries; the first item of what is hashed.
ENTRIES_ENCODING = "memmig-entries-1"
NO_HASH = "00" * 32

#: ``run_id, batch, phase`` and the nine fields of an Entry: a row of the table ``entries`` without its ``seq``.
type EntryRow = tuple[
    str, int, str, str, str, str, str | None, str | None, str | None, str | None, str | None, str | None
]
#: ``seq, run_id, version, type, type_version, recorded_at, payload, hash``: a row of the table ``events``.
type EventRow = tuple[int, str, int, str, int, str, str, str]


class Entry(NamedTuple):
    """One id in a batch. ``before_image``, ``written``, ``bumped``: JSON as text or UTF-8; stored as text."""

    kind: str
    entity_id: str
    action: str
    before_digest: str | None = None
    after_digest: str | None = None
    before_image: str | bytes | None = None  #: the stored form that stood there, typed; opaque here
    written: str | bytes | None = None  #: {field: digest} of what was written
    reason: str | None = None
    bumped: str | bytes | None = None  #: {field: value} of the fields that reading a memory changes, as written


class StoredEntry(NamedTuple):
    """An entry with its place in the journal."""

    seq: int
    run_id: str
    batch: int
    phase: str
    kind: str
    entity_id: str
    action: str
    before_digest: str | None
    after_digest: str | None
    before_image: str | None
    written: str | None
    reason: str | None
    bumped: str | None


def _text(value: str | bytes | None) -> str | None:
    return value.decode() if isinstance(value, bytes) else value


def entry_rows(run_id: str, batch: int, phase: str, entries: Iterable[Entry]) -> list[EntryRow]:
    """Return the rows of the table ``entries`` for a batch, without ``seq``."""
    return [
        (
            run_id,
            batch,
            phase,
            kind,
            entity_id,
            action,
            before,
            after,
            _text(image),
            _text(written),
            reason,
            _text(bumped),
        )
        for kind, entity_id, action, before, after, image, written, reason, bumped in entries
    ]


def rows_digest(rows: Sequence[EntryRow]) -> str:
    """Return the digest of a batch's rows, in their order: see :func:`entries_digest`."""
    return sha256(orjson.dumps([ENTRIES_ENCODING, rows])).hexdigest()


def entries_digest(run_id: str, batch: int, phase: str, rows: Iterable[Entry]) -> str:
    """Return the digest of a batch's entries, which its plan and the marker in the target carry.

    64 hexadecimal digits of the SHA-256 over the JSON array (UTF-8, no blanks) ``["memmig-entries-1", [[run_id,
    batch, phase, kind, entity_id, action, before_digest, after_digest, before_image, written, reason, bumped], …]]``,
    where ``before_image``, ``written`` and ``bumped`` are JSON in a string, and absent values null.
    """
    return rows_digest(entry_rows(run_id, batch, phase, rows))


def event_hash(previous: str, columns: tuple[int, str, int, str, int, str, str]) -> str:
    """Return the hash of the event with these columns (all but ``hash``) that follows one with hash ``previous``."""
    return sha256(bytes.fromhex(previous) + orjson.dumps(columns)).hexdigest()


def _follows(previous: str, row: EventRow) -> bool:
    try:
        return event_hash(previous, row[:7]) == row[7]
    except TypeError:  # a damaged row may hold bytes
        return False


def verified(rows: Iterable[EventRow], previous: str, last_seq: int) -> Iterator[EventRow]:
    """Yield event rows that follow the event ``last_seq`` with hash ``previous``, for as long as the chain holds.

    JournalDamaged, naming the event, at the first that is missing or was altered.
    """
    for row in rows:
        if row[0] != last_seq + 1:
            msg = f"the journal's hash chain is broken: event {last_seq + 1} is missing"
            raise JournalDamaged(msg, hint="memmig journal check")
        if not _follows(previous, row):
            msg = f"the journal's hash chain is broken from event {row[0]} ({row[3]}, run {row[1] or '-'}) on"
            raise JournalDamaged(msg, hint="memmig journal check")
        last_seq, previous = row[0], row[7]
        yield row

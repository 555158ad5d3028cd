"""Questions to a journal, each answered page by page: nothing is held open, so appends may go on in between."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from itertools import batched
from typing import TYPE_CHECKING, Any, Literal

from sqlalchemy import select

from journal.chain import StoredEntry
from journal.errors import NoSuchRun
from journal.events import Planned, RunOpened, StoredEvent, from_payload
from journal.state import fold
from journal.tables import batches, entries, events

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from journal.chain import EventRow
    from journal.engine import Database
    from journal.events import Phase
    from journal.state import BatchStatus, RunState

PAGE_EVENTS = 1000
PAGE_ENTRIES = 1000
#: Numbers in one query; SQLite allows 999 in old versions.
_SEQS = 500
_SHORTEST_PREFIX = 4

type Order = Literal["asc", "desc"]


def event_rows(database: Database, after: int = 0, run_id: str | None = None) -> Iterator[EventRow]:
    """Yield the rows of ``events`` after a seq, in order."""
    query = select(events).order_by(events.c.seq).limit(PAGE_EVENTS)
    if run_id is not None:
        query = query.where(events.c.run_id == run_id)
    while page := database.rows(query.where(events.c.seq > after)):
        yield from (tuple(row) for row in page)
        after = page[-1][0]
        if len(page) < PAGE_EVENTS:
            return


def stored_event(row: EventRow) -> StoredEvent:
    """Return the event of a row; errors of ``from_payload``."""
    seq, run_id, version, event_type, type_version, recorded_at, payload, found_hash = row
    return StoredEvent(
        seq=seq,
        run_id=run_id,
        version=version,
        recorded_at=datetime.fromisoformat(recorded_at),
        event=from_payload(event_type, type_version, payload),
        hash=found_hash,
    )


def read_events(database: Database, run_id: str | None = None) -> Iterator[StoredEvent]:
    """Yield the events of one run, or of all."""
    if run_id is None:
        return map(stored_event, event_rows(database))
    # The unique index on (run_id, version) gives one run without reading the others.
    return map(stored_event, _run_rows(database, run_id))


def _run_rows(database: Database, run_id: str) -> Iterator[EventRow]:
    query = select(events).where(events.c.run_id == run_id).order_by(events.c.version).limit(PAGE_EVENTS)
    after = 0
    while page := database.rows(query.where(events.c.version > after)):
        yield from (tuple(row) for row in page)
        after = page[-1][2]
        if len(page) < PAGE_EVENTS:
            return


def read_runs(database: Database) -> list[RunState]:
    """Return the state of every run, in the order of opening."""
    states = (fold(read_events(database, run_id)) for run_id, _ in openings(database))
    return list(states)


def openings(database: Database) -> list[tuple[str, RunOpened]]:
    """Return (run id, what it was opened with) of every run, in order."""
    rows = database.rows(select(events).where(events.c.type == RunOpened.type).order_by(events.c.seq))
    found = []
    for row in rows:
        event = stored_event(tuple(row)).event
        assert isinstance(event, RunOpened)  # noqa: S101 - the query asked for this type
        found.append((row[1], event))
    return found


def events_of(database: Database, types: Collection[str]) -> Iterator[StoredEvent]:
    """Yield the events of these types, of all runs, in order."""
    rows = database.rows(select(events).where(events.c.type.in_(list(types))).order_by(events.c.seq))
    return (stored_event(tuple(row)) for row in rows)


def resolve(database: Database, run_id: str) -> str:
    """Return the one run id that begins so; NoSuchRun for none, several, or fewer than four characters."""
    query = select(events.c.run_id).where(events.c.version == 1, events.c.run_id != "").order_by(events.c.seq)
    if run_id and database.rows(query.where(events.c.run_id == run_id)):
        return run_id
    msg = f"no run {run_id!r} in the journal {database.path}"
    if len(run_id) < _SHORTEST_PREFIX:
        raise NoSuchRun(msg, hint=f"give at least {_SHORTEST_PREFIX} characters of its id (memmig journal list)")
    found = [row[0] for row in database.rows(query.where(events.c.run_id.startswith(run_id, autoescape=True)))]
    if not found:
        raise NoSuchRun(msg, hint="memmig journal list")
    if len(found) > 1:
        msg = f"{len(found)} runs in the journal {database.path} begin with {run_id!r}"
        raise NoSuchRun(msg, hint="give more of the id: " + ", ".join(found[:5]))
    return str(found[0])


def _range(database: Database, first: int, last: int, order: Order) -> Iterator[StoredEntry]:
    while first <= last:
        low, high = (
            (first, min(last, first + PAGE_ENTRIES - 1))
            if order == "asc"
            else (max(first, last - PAGE_ENTRIES + 1), last)
        )
        column = entries.c.seq if order == "asc" else entries.c.seq.desc()
        yield from map(
            StoredEntry._make, database.rows(select(entries).where(entries.c.seq.between(low, high)).order_by(column))
        )
        if order == "asc":
            first = high + 1
        else:
            last = low - 1


def batch_entries(database: Database, run_id: str, batch: int) -> list[StoredEntry]:
    """Return the entries of one batch in their order; NoSuchRun where it was never planned."""
    query = select(batches.c.first_entry, batches.c.rows).where(batches.c.run_id == run_id, batches.c.batch == batch)
    found = database.rows(query)
    if not found:
        msg = f"no batch {batch} of run {run_id} in the journal {database.path}"
        raise NoSuchRun(msg, hint="memmig journal events")
    first, rows = found[0]
    return list(_range(database, first, first + rows - 1, "asc"))


def read_entries(
    database: Database,
    run_id: str,
    *,
    phase: Phase | None = "forward",
    order: Order = "asc",
    statuses: Collection[BatchStatus] | None = None,
) -> Iterator[StoredEntry]:
    """Yield the entries of a run by (batch, seq), both ways, of batches that were planned when this was asked."""
    column = batches.c.batch if order == "asc" else batches.c.batch.desc()
    query = select(batches.c.first_entry, batches.c.rows).where(batches.c.run_id == run_id).order_by(column)
    if phase is not None:
        query = query.where(batches.c.phase == phase)
    if statuses is not None:
        query = query.where(batches.c.status.in_(list(statuses)))
    for first, rows in database.rows(query):
        yield from _range(database, first, first + rows - 1, order)


def entries_at(database: Database, seqs: Sequence[int]) -> Iterator[StoredEntry]:
    """Yield the entries at these places, oldest first."""
    for some in batched(sorted(seqs), _SEQS):
        yield from map(
            StoredEntry._make, database.rows(select(entries).where(entries.c.seq.in_(some)).order_by(entries.c.seq))
        )


def find(database: Database, entity_id: str) -> list[StoredEntry]:
    """Return every entry of an id, oldest first: a scan of the whole table."""
    query = select(entries).where(entries.c.entity_id == entity_id).order_by(entries.c.seq)
    return [StoredEntry._make(row) for row in database.rows(query)]


def export(database: Database, run_id: str | None) -> Iterator[dict[str, Any]]:
    """Yield events and entries as JSON-able dicts with ``record`` = "event" or "entry", in order.

    A batch's entries follow the event that planned it. ``payload`` is an object; ``before_image``, ``written`` and
    ``bumped`` are JSON in a string, to the byte as they are in the journal.
    """
    for stored in read_events(database, run_id):
        yield _exported(stored)
        if isinstance(stored.event, Planned):
            for entry in batch_entries(database, stored.run_id, stored.event.batch):
                yield {"record": "entry", **entry._asdict()}


def _exported(stored: StoredEvent) -> dict[str, Any]:
    return {
        "record": "event",
        "seq": stored.seq,
        "run_id": stored.run_id,
        "version": stored.version,
        "type": stored.event.type,
        "type_version": stored.event.type_version,
        "recorded_at": stored.recorded_at.isoformat(),
        "payload": asdict(stored.event),
        "hash": stored.hash,
    }

"""The journal's full check: chain, entries, projection, schema, file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import select

from journal import reader, schema
from journal.chain import NO_HASH, rows_digest, verified
from journal.errors import JournalDamaged, JournalTooNew, NoSuchRun
from journal.events import Planned
from journal.state import fold
from journal.tables import batches

if TYPE_CHECKING:
    from collections.abc import Iterator

    from journal.chain import StoredEntry
    from journal.engine import Database
    from journal.events import StoredEvent

#: What the opening of a journal looks at: this many events, and the entries of this many batches among them.
_TAIL_EVENTS = 100
_TAIL_BATCHES = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckReport:
    """What a check found. ``problems`` are texts that name the event, batch or object."""

    events: int
    batches: int
    entries: int
    problems: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing was found."""
        return not self.problems


def entries_problem(planned: Planned, run_id: str, entries: list[StoredEntry]) -> str | None:
    """Return what is wrong with the entries of a batch, or None."""
    name = f"batch {planned.batch} ({planned.phase}) of run {run_id}"
    if len(entries) != planned.rows:
        return f"{name} has {len(entries)} entries, its plan says {planned.rows}"
    if rows_digest([entry[1:] for entry in entries]) != planned.digest:
        return f"the entries of {name} are not those of its plan"
    return None


def check_tail(database: Database) -> None:
    """Look at the end of the chain and at the last batches' entries; JournalDamaged where they do not hold."""
    last = database.rows(reader.last_seq())[0][0] or 0
    first = max(1, last - _TAIL_EVENTS + 1)
    previous = database.rows(reader.hash_of(first - 1)) if first > 1 else [(NO_HASH,)]
    if not previous:
        msg = f"the journal's hash chain is broken: event {first - 1} is missing"
        raise JournalDamaged(msg, hint="memmig journal check")
    tail = [
        reader.stored_event(row) for row in verified(reader.event_rows(database, first - 1), previous[0][0], first - 1)
    ]
    plans = [(stored.run_id, stored.event) for stored in tail if isinstance(stored.event, Planned)]
    for run_id, planned in plans[-_TAIL_BATCHES:]:
        try:
            problem = entries_problem(planned, run_id, reader.batch_entries(database, run_id, planned.batch))
        except NoSuchRun:
            problem = f"batch {planned.batch} of run {run_id} is missing"
        if problem:
            raise JournalDamaged(problem, hint="memmig journal check")


def check(database: Database) -> CheckReport:
    """Check everything, changing nothing. Reads the whole journal; holds the plans of all batches in memory."""
    problems = database.integrity_problems()
    with database.transaction() as connection:
        problems += schema.differences(connection)
    history: dict[str, list[StoredEvent]] = {}
    number = 0
    try:
        for row in verified(reader.event_rows(database), NO_HASH, 0):
            number += 1
            stored = reader.stored_event(row)
            history.setdefault(stored.run_id, []).append(stored)
    except (JournalDamaged, JournalTooNew) as error:
        problems.append(error.message)
    plans = {
        (run_id, stored.event.batch): stored.event
        for run_id, events in history.items()
        for stored in events
        if isinstance(stored.event, Planned)
    }
    entries = 0
    first_entries: dict[tuple[str, int], int] = {}
    missing = {key for key, planned in plans.items() if planned.rows}
    for (run_id, batch, phase), found in reader.all_batches_of_entries(database):
        entries += len(found)
        planned = plans.get((run_id, batch))
        if planned is None or planned.phase != phase:
            problems.append(f"entries {found[0].seq} to {found[-1].seq} belong to no plan (run {run_id} batch {batch})")
        elif (run_id, batch) not in missing:
            problems.append(f"entries of batch {batch} of run {run_id} stand in two places (from {found[0].seq} on)")
        else:
            missing.discard((run_id, batch))
            first_entries[run_id, batch] = found[0].seq
            problem = entries_problem(planned, run_id, found)
            problems += [problem] if problem else []
    problems += [f"batch {batch} of run {run_id} has no entries" for run_id, batch in sorted(missing)]
    problems += _projection_problems(database, history, first_entries)
    return CheckReport(events=number, batches=len(plans), entries=entries, problems=tuple(problems))


def _projection_problems(
    database: Database, history: dict[str, list[StoredEvent]], first_entries: dict[tuple[str, int], int]
) -> Iterator[str]:
    """Compare the table ``batches`` with the fold, and its places in ``entries`` with what was found there."""
    stored = {}
    for *row, first in database.rows(select(batches)):
        stored[row[0], row[1]] = tuple(row)
        if first != first_entries.get((row[0], row[1]), first):
            yield f"the table batches says wrongly where the entries of batch {row[1]} of run {row[0]} are"
    folded = {}
    for run_id, events in history.items():
        try:
            state = fold(events)
        except JournalDamaged as error:
            yield error.message
            continue
        for b in state.batches.values():
            folded[run_id, b.batch] = (
                *(run_id, b.batch, b.phase, b.kind, b.operation, b.shape, b.rows, b.digest, b.writes, b.status),
            )
    for run_id, batch in sorted(stored.keys() | folded.keys()):
        if stored.get((run_id, batch)) != folded.get((run_id, batch)):
            yield f"the table batches differs from the events for batch {batch} of run {run_id}"

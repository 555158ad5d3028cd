"""The journal's full check: the file, its schema, the chain of events, the projection, the entries.

One list of problems for every use: whoever relies on a journal stops at the first, ``memmig journal check`` shows all.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING

from sqlalchemy import select

from journal import schema
from journal.chain import NO_HASH, rows_digest, verified
from journal.errors import JournalDamaged, JournalTooNew
from journal.events import Planned
from journal.reader import stored_event
from journal.state import fold
from journal.tables import batches, entries, events

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator
    from pathlib import Path
    from typing import Any

    from sqlalchemy import Connection, Table

    from journal.engine import Database
    from journal.events import StoredEvent

#: Rows that are held at a time.
_ROWS = 1000


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


def first_problem(database: Database) -> str | None:
    """Return the first thing that is wrong with the journal, or None. Reads all of it, changes nothing."""

    def first(connection: Connection) -> str | None:
        with closing(_Audit(connection).problems()) as found:
            return next(found, None)

    try:
        return database.look(first)
    except JournalDamaged as error:
        return error.message


def damaged(path: Path, problem: str) -> JournalDamaged:
    """Return the error that says where a journal is broken."""
    msg = f"the journal {path} is damaged: {problem}"
    return JournalDamaged(msg, hint="memmig journal check shows all; nothing repairs it: keep it, go on with a backup")


def refuse_damaged(database: Database) -> None:
    """Raise JournalDamaged, naming the first problem, unless the journal is whole."""
    problem = first_problem(database)
    if problem is not None:
        raise damaged(database.path, problem)


def check(database: Database) -> CheckReport:
    """Check everything, changing nothing. Holds all events in memory."""
    problems: list[str] = []
    audits: list[_Audit] = []

    def every(connection: Connection) -> None:
        problems.clear()
        audits[:] = [_Audit(connection)]
        problems.extend(audits[0].problems())

    try:
        database.look(every)
    except (JournalDamaged, JournalTooNew) as error:
        problems.append(error.message)
    done = audits[0]
    return CheckReport(
        events=done.events, batches=len(done.plans), entries=done.entries, problems=tuple(dict.fromkeys(problems))
    )


class _Audit:
    """One pass over a journal, within one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.events = 0
        self.entries = 0
        self.plans: dict[tuple[str, int], Planned] = {}
        self._history: dict[str, list[StoredEvent]] = {}
        self._first_entries: dict[tuple[str, int], int] = {}
        self._whole = True

    def problems(self) -> Generator[str]:
        """Yield what is wrong, the file first; JournalDamaged or JournalTooNew where no more can be read."""
        found = self._connection.exec_driver_sql("PRAGMA integrity_check").scalars().all()
        yield from (f"SQLite: {text}" for text in found if text != "ok")
        yield from schema.differences(self._connection)
        yield from self._chain_problems()
        yield from self._entry_problems()
        if self._whole:
            yield from self._projection_problems()

    def _rows(self, table: Table) -> Generator[tuple[Any, ...]]:
        # The driver's own rows cost half of what SQLAlchemy's do, and this is most of what opening a journal takes.
        # An open cursor would keep the file open, and its log beside it, when the connection is closed.
        with closing(self._connection.connection.cursor()) as cursor:
            cursor.execute(f"SELECT {', '.join(table.c.keys())} FROM {table.name} ORDER BY seq")
            while rows := cursor.fetchmany(_ROWS):
                yield from rows

    def _chain_problems(self) -> Iterator[str]:
        try:
            with closing(self._rows(events)) as rows:
                for row in verified(rows, NO_HASH, 0):
                    self.events += 1
                    stored = stored_event(row)
                    self._history.setdefault(stored.run_id, []).append(stored)
                    if isinstance(stored.event, Planned):
                        self.plans[stored.run_id, stored.event.batch] = stored.event
        except JournalDamaged as error:
            self._whole = False
            yield error.message

    def _entry_problems(self) -> Iterator[str]:
        """Compare the entries with the plans; of a broken chain, those whose plan still stands."""
        with closing(self._rows(entries)) as rows:
            yield from self._stretch_problems(rows)

    def _stretch_problems(self, rows: Iterable[tuple[Any, ...]]) -> Iterator[str]:
        missing = {key for key, planned in self.plans.items() if planned.rows}
        for (run_id, batch, phase), stretch in groupby(rows, key=itemgetter(1, 2, 3)):
            found = list(stretch)
            self.entries += len(found)
            planned = self.plans.get((run_id, batch))
            first = found[0][0]
            if planned is None or planned.phase != phase:
                if self._whole:
                    yield f"entries {first} to {found[-1][0]} belong to no plan (run {run_id} batch {batch})"
            elif (run_id, batch) not in missing:
                yield f"entries of batch {batch} of run {run_id} stand in two places (from {first} on)"
            else:
                missing.discard((run_id, batch))
                self._first_entries[run_id, batch] = first
                yield from _entries_problems(planned, run_id, found)
        yield from (f"batch {batch} of run {run_id} has no entries" for run_id, batch in sorted(missing))

    def _projection_problems(self) -> Iterator[str]:
        """Compare the table ``batches`` with the fold, and its places in ``entries`` with what was found there."""
        stored = {}
        for *row, first in self._connection.execute(select(batches)):
            stored[row[0], row[1]] = tuple(row)
            if first != self._first_entries.get((row[0], row[1]), first):
                yield f"the table batches says wrongly where the entries of batch {row[1]} of run {row[0]} are"
        folded = {}
        for run_id, history in self._history.items():
            try:
                state = fold(history)
            except JournalDamaged as error:
                yield error.message
                continue
            for b in state.batches.values():
                folded[run_id, b.batch] = (
                    *(run_id, b.batch, b.phase, b.kind, b.operation, b.shape, b.rows, b.digest, b.writes, b.status),
                )
        for run_id, batch in sorted(stored.keys() | folded.keys(), key=repr):  # a damaged row may hold anything
            if stored.get((run_id, batch)) != folded.get((run_id, batch)):
                yield f"the table batches differs from the events for batch {batch} of run {run_id}"


def _entries_problems(planned: Planned, run_id: str, found: Iterable[tuple[Any, ...]]) -> Iterator[str]:
    name = f"batch {planned.batch} ({planned.phase}) of run {run_id}"
    rows = [row[1:] for row in found]
    if len(rows) != planned.rows:
        yield f"{name} has {len(rows)} entries, its plan says {planned.rows}"
        return
    try:
        digest = rows_digest(rows)
    except TypeError:  # a value of another type, such as bytes
        digest = ""
    if digest != planned.digest:
        yield f"the entries of {name} are not those of its plan"

"""Leaving out of a journal what no later run needs: a second file, chained to the first, takes its place.

Of a pruned run stay its opening, schema and end, and those rows on which the answers of ``journal.bases`` rest: per
pair and id the latest equal, created, deleted and open one. Its other rows and the events of its batches go, and with
them the way back. Runs that are open stay whole; so does one that was taken back after a run that stays had begun, as
its rollback alone tells which rows of that run are void; and so do all later ones on the same target: a rollback asks
them.
"""

from __future__ import annotations

import sys
from array import array
from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from sqlalchemy import text

from journal import audit, reader, schema
from journal.bases import Bases
from journal.chain import StoredEntry, rows_digest
from journal.engine import Database, new_file
from journal.errors import JournalDamaged
from journal.events import (
    BatchApplied,
    BatchesLost,
    BatchRefused,
    EpochPlanned,
    EpochRaised,
    JournalAnchored,
    JournalCreated,
    Planned,
    RollbackApplied,
    RollbackRefused,
    RunPruned,
    TargetDurable,
    to_payload,
)
from journal.writing import EventColumns, Tip, columns_of, insert_entries, insert_event

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence
    from datetime import datetime
    from pathlib import Path

    from journal.chain import EventRow
    from journal.events import Event
    from journal.state import RunState

#: What a closed run needs no more when nothing of it can be taken back.
_PASSING = (BatchRefused, BatchesLost, EpochPlanned, EpochRaised, RollbackRefused, TargetDurable)

_SPANS = """
SELECT run_id, min(first_entry), max(CASE WHEN phase = 'rollback' THEN first_entry + rows ELSE 0 END)
FROM batches GROUP BY run_id
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Keep:
    """Which runs stay whole: the newest ``runs``, or from the first on that something happened to after ``since``."""

    runs: int = 0
    since: datetime | None = None  #: aware; ``runs`` does not count then


@dataclass(frozen=True, slots=True, kw_only=True)
class PruneReport:
    """What went, or would go. Events and entries are numbers before and after."""

    pruned: tuple[str, ...] = ()  #: runs that cannot be taken back any more, oldest first
    held: tuple[str, ...] = ()  #: runs that were not asked to stay, see ``choose``
    events: tuple[int, int] = (0, 0)
    entries: tuple[int, int] = (0, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What stays: everything of whole runs, and of pruned ones the entries with these seqs."""

    report: PruneReport
    newly: dict[str, RunPruned]  #: what is journalled of each run that is pruned now
    pruned: frozenset[str] = frozenset()  #: those and the ones that were pruned before
    seqs: array[int] = field(default_factory=lambda: array("q"))  #: sorted

    def kept(self, first: int, rows: int) -> frozenset[int]:
        """Return the seqs that stay among ``rows`` entries from ``first`` on."""
        return frozenset(self.seqs[bisect_left(self.seqs, first) : bisect_left(self.seqs, first + rows)])


def choose(runs: Sequence[RunState], keep: Keep, spans: Mapping[str, tuple[int, int]]) -> tuple[list[str], list[str]]:
    """Return the runs to prune and, of the others, those that were not asked to stay; ``runs`` as they were opened.

    ``spans``: by run, the seqs of its first entry and of its last that a rollback wrote (0 without one).
    """
    first = max(len(runs) - keep.runs, 0)
    if keep.since is not None:
        since = keep.since
        first = next((n for n, run in enumerate(runs) if (at := _last_moved(run)) is None or at >= since), len(runs))
    # By target: from which run on all stay, the first entry of those, and of all from the one that is looked at on.
    stays: dict[str, int] = {}
    begins: dict[str, int] = {}
    least: dict[str, int] = {}
    for number, run in reversed(list(enumerate(runs))):
        if run.opened is not None:
            target = run.opened.target_store
            begin, taken_back = spans.get(run.run_id, (sys.maxsize, 0))
            least[target] = min(begin, least.get(target, sys.maxsize))
            is_open = run.unfinished or (run.claimed and not run.released)
            if number >= first or is_open or (run.pruned is None and taken_back > begins.get(target, sys.maxsize)):
                stays[target], begins[target] = number, least[target]
    asked = [(n, run, run.opened.target_store) for n, run in enumerate(runs[:first]) if run.opened and not run.pruned]
    return (
        [run.run_id for n, run, target in asked if n < stays.get(target, first)],
        [run.run_id for n, run, target in asked if n >= stays.get(target, first)],
    )


def _last_moved(run: RunState) -> datetime | None:
    return max((at for at in (run.opened_at, run.finished_at, run.rollback_finished_at) if at), default=None)


def plan(database: Database, keep: Keep) -> Plan:
    """Decide what stays, changing nothing. JournalDamaged (41) where the journal is not whole: nothing hides that."""
    found = audit.check(database)
    if not found.ok:
        msg = f"the journal is damaged: {found.problems[0]}"
        raise JournalDamaged(msg, hint="memmig journal check; a damaged journal is not pruned")
    runs = reader.read_runs(database)
    spans = {run_id: (begin, end) for run_id, begin, end in database.rows(text(_SPANS))}
    going, held = choose(runs, keep, spans)
    if not going:
        same = PruneReport(held=tuple(held), events=(found.events,) * 2, entries=(found.entries,) * 2)
        return Plan(report=same, newly={})
    pruned = frozenset(going) | {run.run_id for run in runs if run.pruned is not None}
    pairs: dict[str, list[str]] = {}
    for run in runs:
        if run.opened is not None and run.run_id in pruned:
            pairs.setdefault(run.opened.pair, []).append(run.run_id)
    # Only of the runs that are pruned: what the others say comes on top of it, or goes again with their rollback.
    seqs = {seq for n, names in enumerate(pairs.values()) for seq in Bases(database, f"pruned_{n}", names).seqs()}
    gone = sum(batch.rows for run in runs if run.run_id in pruned for batch in run.batches.values()) - len(seqs)
    made = Plan(
        report=PruneReport(pruned=tuple(going), held=tuple(held)),
        newly={
            run.run_id: RunPruned(counts={"forward": run.counts("forward"), "rollback": run.counts("rollback")})
            for run in runs
            if run.run_id in going
        },
        pruned=pruned,
        seqs=array("q", sorted(seqs)),
    )
    # The anchor takes the place of what began the old journal.
    events = 1 + len(going) + sum(1 for _ in _staying(database, made))
    report = replace(made.report, events=(found.events, events), entries=(found.entries, found.entries - gone))
    return replace(made, report=report)


def _staying(database: Database, plan: Plan) -> Iterator[tuple[EventRow, Event, int]]:
    """Yield the events that stay, as they were, in order; with each plan the seq of its first entry, else 0."""
    first = 1
    kept: set[tuple[str, int]] = set()
    for row in reader.event_rows(database):
        event, run_id = reader.stored_event(row).event, row[1]
        here = first
        if isinstance(event, Planned):
            first += event.rows
            if run_id not in plan.pruned or plan.kept(here, event.rows):
                kept.add((run_id, event.batch))
                yield row, event, here
        elif isinstance(event, (BatchApplied, RollbackApplied)):
            if (run_id, event.batch) in kept:
                yield row, event, 0
        elif not isinstance(event, JournalCreated) and not (run_id in plan.pruned and isinstance(event, _PASSING)):
            yield row, event, 0


def write(database: Database, place: Path, plan: Plan, anchor: JournalAnchored, at: datetime) -> None:
    """Write what stays into a file of its own, which is on disk when this returns."""
    with new_file(place) as connection:
        schema.create(connection)
        tip = insert_event(connection, Tip(), columns_of("", 1, anchor, at), anchor)
        versions: Counter[str] = Counter()
        for row, stored, first in _staying(database, plan):
            _, run_id, _, name, type_version, recorded_at, payload, _ = row
            event, entries = stored, list[StoredEntry]()
            if isinstance(event, Planned):
                entries = reader.batch_entries(database, run_id, event.batch)
                if run_id in plan.pruned:
                    event, entries = _thinned(event, entries, plan.kept(first, event.rows))
                    payload = to_payload(event).decode()
            versions[run_id] += 1
            columns = EventColumns(run_id, versions[run_id], name, type_version, recorded_at, payload)
            tip = insert_entries(connection, insert_event(connection, tip, columns, event), [e[1:] for e in entries])
        for run_id, pruned in plan.newly.items():
            tip = insert_event(connection, tip, columns_of(run_id, versions[run_id] + 1, pruned, at), pruned)


def _thinned(event: Planned, entries: list[StoredEntry], seqs: Collection[int]) -> tuple[Planned, list[StoredEntry]]:
    """Return the plan of a batch as if it had only had the entries that stay."""
    entries = [entry for entry in entries if entry.seq in seqs]
    counts = Counter(entry.action for entry in entries)
    digest = rows_digest([entry[1:] for entry in entries])
    return replace(event, rows=len(entries), digest=digest, counts=dict(counts)), entries


def check(place: Path, report: PruneReport) -> None:
    """Raise RuntimeError, which is a bug of ours, where the new file is not a whole journal of the planned size."""
    database = Database(place, writable=False)
    try:
        found = audit.check(database)
    finally:
        database.close()
    if found.problems or (found.events, found.entries) != (report.events[1], report.entries[1]):
        msg = f"the pruned journal is not what it should be: {found}"
        raise RuntimeError(msg)

"""The forward run and its resume: for every batch undo record before, marker inside, claim after.

A resume is the same code: it settles what the last process left (resume table), reads the source again, and skips the
ids that this run has already decided.
"""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from journal.bases import Base
from journal.chain import Entry
from migrator.codec import dump_raw
from migrator.deletions import Deletions
from migrator.errors import ConflictFound, MemmigError, StoreRefused
from migrator.model import KINDS, Corrupt, Relationship, digest
from migrator.plan import END_IS_MISSING, Groups, Planned, Planner, bumped_of, digest_if_any
from migrator.removal import Leaving
from migrator.scan import unstorable
from migrator.schema_work import complete_schema, make_schema

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from journal.bases import Bases
    from migrator.backends.base import Backend, Operation, Raw, Row
    from migrator.lease import Lease
    from migrator.model import Kind, Record
    from migrator.run import Run

_REPLANS = 5
_HELD_RECORDS = 10_000
_WRITTEN = ("created", "updated")


class Forward:
    """One pass over the source: decide, group, write. Called again after an unknown outcome, it begins anew."""

    def __init__(self, run: Run, lease: Lease | None) -> None:
        self._run = run
        self._lease = lease
        self._planner = Planner(run.target.form, run.options.on_conflict, run.pair)
        self._size = run.batch_size
        self._resumed = False
        self._bases: Bases | None = None
        self._read: dict[Kind, int] = dict.fromkeys(KINDS, 0)
        self._leaving = Leaving(run.target)  #: dry run: edges that would have moved
        self._made: set[str] = set()  #: dry run: memories that would have been created
        self._flying: tuple[Kind, list[Planned], Callable[[], bool]] | None = None  #: the batch on its way
        self._mangled: dict[tuple[Kind, str], Base] = {}  #: what a failed verification found of this run's own rows

    def __call__(self) -> None:
        """Settle, then import both kinds; returns with everything written and, if anything was, durable."""
        run = self._run
        if self._lease is not None:
            self._settle(self._lease)
        if run.journal is not None:
            self._bases = run.journal.bases(run.pair, exclude=run.run_id)
        run.reset()
        try:
            for kind in KINDS:
                self._import(kind)
        except BaseException:
            self._journal_flying()
            raise
        self._all_read()
        if self._resumed:
            self._count_gone()
        if any(run.absent.ids.values()):
            Deletions(run, self._lease, resumed=self._resumed, ready=self._ready, leaving=self._leaving)()
        if self._lease is not None and self._lease.held:
            complete_schema(run)
            self._lease.barrier()

    def _settle(self, lease: Lease) -> None:
        run = self._run
        journal = run.history
        state = journal.state(run.run_id)
        if state.epoch_planned or state.identity not in {None, run.target.identity()}:
            lease.settle()
        if lease.lost:
            warning = "the target's server lost batches that it had acknowledged (or may have): they were planned anew"
            run.warnings += [] if warning in run.warnings else [warning]
        self._resumed = run.resumed = bool(journal.state(run.run_id).batches)
        if self._resumed:
            journal.index_run(run.run_id)

    def _import(self, kind: Kind) -> None:
        run = self._run
        groups = Groups(self._size, max(self._size, _HELD_RECORDS), run.target.batch_bytes)
        total = run.scanned.read[kind]
        done = 0
        for chunk in run.source.scan(kind, self._size):
            run.hooks.check()
            notes: list[Planned] = []
            for planned in self._decide(kind, chunk):
                if planned.row is None:
                    notes.append(planned)
                    continue
                for group, full in groups.add(planned):
                    self._write(kind, group, full)
            self._note(kind, notes)
            done += len(chunk)
            run.hooks.report("import", kind, done, total)
        self._read[kind] = done
        for group, rest in groups.flush():
            run.hooks.check()
            self._write(kind, group, rest)
        self._land()

    def _all_read(self) -> None:
        """Refuse to end where less was read than the source says that it holds; say so where it holds less now.

        What a part of the source holds, only its scan could say.
        """
        run = self._run
        if not run.scope.full:
            return
        inventory = run.source.inventory()
        holds = {"memory": inventory.memories, "relationship": inventory.relationships}
        for kind in KINDS:
            read, before = self._read[kind], run.scanned.read[kind]
            # Without snapshots others may write to the source between its count and its scan.
            short = read != holds[kind] if run.source.snapshots else read < min(before, holds[kind])
            if short or (before and not read):
                msg = f"the source holds {holds[kind]} of kind {kind} now, had {before}, and {read} could be read"
                raise StoreRefused(msg, hint="look at the source; nothing that was moved is lost")
            if read < before:
                warning = f"{before - read} of kind {kind} went from the source during the run"
                run.warnings += [] if warning in run.warnings else [warning]

    def _count_gone(self) -> None:
        """Count what an earlier pass wrote and this one did not read, as it is gone from the source: the run did it."""
        run = self._run
        applied = run.history.state(run.run_id).counts()
        for kind in KINDS:
            counts = run.counts[kind]
            if all(applied.get(kind, {}).get(action, 0) == counts[action] for action in _WRITTEN):
                continue
            # The latest row of each id: one that was written again has several.
            last = Counter(entry.action for entry in run.history.applied_entries(run.run_id, kind))
            for action in _WRITTEN:
                counts["read"] += last[action] - counts[action]
                counts[action] = last[action]

    def _decide(self, kind: Kind, chunk: list[Record | Corrupt]) -> Iterable[Planned]:
        run = self._run
        quarantined = run.scanned.quarantined[kind]
        fresh = self._without_done(kind, chunk) if self._resumed else chunk
        if not run.source.snapshots:
            fresh = self._without_new_problems(kind, fresh)
        records: list[Record] = []
        bad: list[Record | Corrupt] = []
        if quarantined:
            for item in fresh:
                (bad if item.id in quarantined else records).append(item)  # type: ignore[arg-type]
        else:
            records = fresh  # type: ignore[assignment]  # every corrupt one is quarantined
        if bad:
            self._quarantine(kind, bad)
        if not records:
            return ()
        return self._plan(kind, records)

    def _without_new_problems(self, kind: Kind, chunk: list[Record | Corrupt]) -> list[Record | Corrupt]:
        """Leave out what the scan could not know: written to the source since, and not storable as it is."""
        run = self._run
        known = run.scanned.quarantined[kind]
        sound = []
        for item in chunk:
            if item.id not in known:
                problems = [item] if isinstance(item, Corrupt) else run.target.form.problems(item)
                if problems:
                    reason = f"changed in the source during the run, cannot be stored: {problems[0].reason}"
                    self._journal(kind, [Entry(kind, item.id, "changing", None, None, None, None, reason, None)])
                    run.count(kind, "skipped")
                    run.find(kind, item.id, "changing", "", reason)
                    continue
            sound.append(item)
        return sound

    def _plan(self, kind: Kind, records: list[Record]) -> list[Planned]:
        run = self._run
        ids = [record.id for record in records]
        bases = {} if self._bases is None else self._bases.get(kind, ids)
        if self._mangled:
            bases |= {i: self._mangled[kind, i] for i in ids if (kind, i) in self._mangled}
        rivals = {} if run.journal is None else run.journal.other_holders(run.pair, run.target_store, kind, ids)
        there = {} if run.target_was_empty and not self._resumed else _look_up(run.target, kind, records)
        planner = self._planner
        if not there and not bases:
            return [planner.create(kind, record, digest(record)) for record in records]
        none: frozenset[str] = frozenset()
        return [
            planner.plan(
                kind, record, there.get(record.id), bases.get(record.id), frozenset(rivals.get(record.id, none))
            )
            for record in records
        ]

    def _without_done(self, kind: Kind, chunk: list[Record | Corrupt]) -> list[Record | Corrupt]:
        run = self._run
        done = run.history.decided(run.run_id, kind, [item.id for item in chunk])
        fresh = []
        for item in chunk:
            entry = done.get(item.id)
            if entry is None or entry.action in {"different", "missing"}:
                fresh.append(item)
                if entry is not None and entry.after_digest is not None:
                    base = Base(
                        digest=entry.after_digest, created=True, run_id=run.run_id, open=None, bumped=bumped_of(entry)
                    )
                    self._mangled[kind, item.id] = base
                continue
            run.count(kind, entry.action)
            if entry.action in {"conflict", "foreign", "quarantined"}:
                run.find(kind, item.id, entry.action, "", entry.reason or "")
        return fresh

    def _quarantine(self, kind: Kind, items: list[Record | Corrupt]) -> None:
        run = self._run
        sound = {
            item.id: item if isinstance(item, Relationship) else None for item in items if not isinstance(item, Corrupt)
        }
        raws = run.source.lookup(kind, sound) if sound else {}
        form = run.source.form
        entries = []
        for item in items:
            name, reason = run.scanned.quarantined[kind][item.id]
            source_digest = digest_if_any(item)
            if isinstance(item, Corrupt):
                raw, name, reason = item.raw, "", item.reason
            else:
                # One that has changed since, or cannot be looked up, such as an edge whose id was made, is kept as it
                # was read.
                now = raws.get(item.id)
                same = now is not None and digest_if_any(form.decode(kind, now)) == source_digest
                raw = now if now is not None and same else form.encode(item)
                name, reason = unstorable(run.target.form, item) or (name, reason)
            text = f"{name}: {reason}" if name else reason
            entries.append(Entry(kind, item.id, "quarantined", None, source_digest, dump_raw(raw), None, text, None))
            run.count(kind, "quarantined")
            run.find(kind, item.id, "quarantined", name, reason)
        self._journal(kind, entries)

    def _journal(self, kind: Kind, entries: list[Entry]) -> None:
        if self._lease is not None and entries:
            self._land()
            self._lease.note(kind, entries)

    def _note(self, kind: Kind, notes: list[Planned]) -> None:
        run = self._run
        self._journal(kind, [planned.entry for planned in notes if planned.entry is not None])
        for planned in notes:
            run.count(kind, planned.action)
            if planned.action in {"conflict", "foreign"}:
                reason = planned.entry.reason if planned.entry is not None else None
                run.find(kind, planned.record.id, planned.action, "", reason or "")
        conflicts = any(planned.action == "conflict" for planned in notes)
        if self._lease is not None and run.options.on_conflict == "fail" and conflicts:
            entry = next(one.entry for one in notes if one.action == "conflict" and one.entry is not None)
            msg = f"conflict under --on-conflict fail: {kind} {entry.entity_id}: {entry.reason}"
            raise ConflictFound(msg, hint="look at it with --dry-run; --on-conflict skip leaves conflicts alone")

    def _write(self, kind: Kind, group: tuple[Operation, str], plans: list[Planned]) -> None:
        run = self._run
        if self._lease is None:
            self._foresee(kind, group[0], plans)
            return
        if not self._lease.held:
            self._ready()
        self._land()
        if run.target.overlaps and run.target_was_empty and not self._resumed:
            # Nothing is looked up in the target, so the next batch can be planned while it works on this one.
            self._flying = kind, plans, self._lease.send_meanwhile(kind, group, *_rows_and_entries(plans))
        else:
            self._send(kind, group, plans, refusals=0)

    def _foresee(self, kind: Kind, operation: Operation, plans: list[Planned]) -> None:
        """Count what a run would write; edges whose ends would not be there are conflicts, as its guards would find."""
        run = self._run
        if kind == "memory" and operation == "create":
            self._made.update(planned.record.id for planned in plans)
        places = kind == "relationship" and operation != "update" and not run.target_was_empty
        missing = self._missing_ends([planned.record for planned in plans]) - self._made if places else set()
        for planned in plans:
            if _hangs_on(planned.record, missing):
                self._note(kind, [self._no_end(kind, planned.record)])
                continue
            run.count(kind, planned.action)
            if operation == "replace" and planned.row is not None:
                self._leaving.let_go(planned.row)

    def _no_end(self, kind: Kind, record: Record) -> Planned:
        return self._planner.conflict(kind, record, None, digest(record), END_IS_MISSING)

    def _land(self) -> None:
        """Wait for the batch on its way, and journal its outcome."""
        flying, self._flying = self._flying, None
        if flying is not None:
            kind, plans, outcome = flying
            self._settled(kind, plans, refusals=0, applied=outcome())

    def _journal_flying(self) -> None:
        """Journal the outcome of the batch on its way, if that can be had, as the run is about to end."""
        flying, self._flying = self._flying, None
        with suppress(MemmigError):
            if flying is not None and flying[-1]():
                for planned in flying[1]:
                    self._run.count(flying[0], planned.action)

    def _send(self, kind: Kind, group: tuple[Operation, str], plans: list[Planned], refusals: int) -> None:
        """Send a batch; a refused one is planned anew, and from the second refusal on in halves.

        So one row that others keep changing, or that cannot be explained, does not keep its whole batch back.
        """
        assert self._lease is not None  # noqa: S101 - only a run that writes comes here
        applied = self._lease.send(kind, group, *_rows_and_entries(plans))
        self._settled(kind, plans, refusals, applied=applied)

    def _settled(self, kind: Kind, plans: list[Planned], refusals: int, *, applied: bool) -> None:
        if applied:
            for planned in plans:
                self._run.count(kind, planned.action)
        elif refusals >= _REPLANS and len(plans) == 1:
            self._give_up(kind, plans)
        else:
            for one, some in self._replan(kind, [planned.record for planned in plans]):
                half = (len(some) + 1) // 2 if refusals else len(some)
                for start in range(0, len(some), half):
                    self._send(kind, one, some[start : start + half], refusals + 1)

    def _replan(self, kind: Kind, records: list[Record]) -> list[tuple[tuple[Operation, str], list[Planned]]]:
        """Decide again by what the target holds now: a guard has found that someone else wrote."""
        run = self._run
        run.target_was_empty = False
        missing = self._missing_ends(records) if kind == "relationship" else set()
        groups = Groups(self._size, self._size)
        notes: list[Planned] = []
        full: list[tuple[tuple[Operation, str], list[Planned]]] = []
        for planned in self._plan(kind, records):
            if planned.row is None:
                notes.append(planned)
            elif _hangs_on(planned.record, missing):
                notes.append(self._no_end(kind, planned.record))
            else:
                full += groups.add(planned)
        self._note(kind, notes)
        return [*full, *groups.flush()]

    def _missing_ends(self, records: list[Record]) -> set[str]:
        """Return the ends that are not in the target, or stand there under labels of which the source's has none."""
        run = self._run
        ends = {end for edge in records if isinstance(edge, Relationship) for end in (edge.from_id, edge.to_id)}
        there = run.target.lookup("memory", dict.fromkeys(ends))
        missing = ends - there.keys()
        if not run.options.all_labels:
            here = run.source.lookup("memory", dict.fromkeys(there))
            target, source = (partial(store.form.shape, "memory") for store in (run.target, run.source))
            missing |= {i for i in here if set(target(there[i]).split(":")).isdisjoint(source(here[i]).split(":"))}
        return missing

    def _give_up(self, kind: Kind, plans: list[Planned]) -> None:
        reason = "others keep changing it in the target"
        self._note(
            kind,
            [self._planner.conflict(kind, one.record, None, digest(one.record), reason) for one in plans],
        )

    def _ready(self) -> None:
        """Before the first writing batch: what the store's client expects is created, then the marker is claimed."""
        run = self._run
        assert self._lease is not None  # noqa: S101 - only a run that writes comes here
        make_schema(run, run.target.missing_schema())
        self._lease.claim()


def _hangs_on(record: Record, ends: set[str]) -> bool:
    return isinstance(record, Relationship) and not ends.isdisjoint((record.from_id, record.to_id))


def _rows_and_entries(plans: list[Planned]) -> tuple[list[Row], list[Entry]]:
    return [one.row for one in plans if one.row is not None], [one.entry for one in plans if one.entry is not None]


def _look_up(target: Backend, kind: Kind, records: list[Record]) -> dict[str, Raw]:
    return target.lookup(kind, {record.id: record if isinstance(record, Relationship) else None for record in records})

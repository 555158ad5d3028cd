"""The journal: append events and entries, ask what they say."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self
from uuid import uuid4

from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError

from journal import audit, lock, prune, reader, schema, state, tables
from journal.bases import Bases, Decided, Repeated, later_writers
from journal.chain import Entry, entry_rows, rows_digest
from journal.engine import Database, looks_foreign
from journal.errors import JournalLocked, JournalNotWritable, MemmigError, NoSuchRun
from journal.events import Event, JournalAnchored, JournalCreated, Planned, RunOpened
from journal.watermarks import TYPES, fold_watermarks
from journal.writing import Tip, columns_of, insert_entries, insert_event

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from sqlalchemy import Connection

    from journal.audit import CheckReport
    from journal.chain import EntryRow, StoredEntry
    from journal.events import Phase, StoredEvent
    from journal.prune import Keep, PruneReport
    from journal.reader import Order
    from journal.state import BatchStatus, RunState
    from journal.watermarks import InStep

type Mode = Literal["write", "read", "look"]


def _now() -> datetime:
    return datetime.now(UTC)


class Journal:
    """One journal file, open for writing (by one process at a time) or for reading (by any number, without a trace).

    Not for several threads at once. ``warnings`` and ``damaged`` (a text, or None) say what opening it showed.
    """

    def __init__(
        self, database: Database, clock: Callable[[], datetime], held: lock.Lock | None, warnings: Sequence[str]
    ) -> None:
        """Use :meth:`open`."""
        self.path = database.path
        self.warnings = list(warnings)
        self.damaged: str | None = None
        self.id = ""  #: UUID; "" in an empty journal that is only read
        self._database = database
        self._clock = clock
        self._lock = held
        self._failed: MemmigError | None = None
        self._versions: dict[str, int] = {}
        self._bases: dict[tuple[str, str | None], Bases] = {}
        self._decided: dict[tuple[str, Phase], Decided] = {}
        self._repeated: dict[str, Repeated] = {}
        self._opened: list[tuple[str, RunOpened]] | None = None

    @classmethod
    def open(cls, path: Path | str, *, mode: Mode = "write", clock: Callable[[], datetime] = _now) -> Self:
        """Open a journal; ``write`` locks it, makes a missing one (folder 0700, file 0600), upgrades an older one.

        ``read`` leaves no trace, and reads an older one from an upgraded temporary copy. Both read the whole journal
        and refuse a damaged one: about 2 s per million entries. ``look`` is ``read`` for people who want to see what is
        left of a damaged one: it only sets ``damaged``, and whatever is read then may be wrong, or raise anything.

        JournalLocked (40), JournalDamaged (41: no journal, a symbolic link, or damaged), JournalTooNew (42),
        JournalNotWritable (43), NoSuchRun (52: no file, unless ``write``).
        """
        # Links in the way to the file are the user's own; only the file itself must not be one.
        place = Path(path).expanduser()
        place = place.parent.resolve() / place.name
        return cls._for_writing(place, clock) if mode == "write" else cls._for_reading(place, clock, mode)

    @classmethod
    def _for_reading(cls, path: Path, clock: Callable[[], datetime], mode: Mode) -> Self:
        lock.refuse_links(path)
        if not path.exists() or path.stat().st_size == 0:
            msg = f"there is no journal at {path}"
            raise NoSuchRun(msg, hint="nothing was journalled there yet; see --journal")
        # Reading the file while this process has it open elsewhere would drop the locks of that connection.
        if lock.holder(path) is None:
            with lock.reading(path):
                lock.refuse_garbage(path)
        database = Database(path, writable=False)
        journal = cls(database, clock, None, ())
        try:
            schema.prepare_to_read(database)
            if mode == "look":
                journal.damaged = audit.first_problem(database)
            else:
                audit.refuse_damaged(database)
            journal._load()
        except BaseException:
            journal.close()
            raise
        return journal

    @classmethod
    def _for_writing(cls, path: Path, clock: Callable[[], datetime]) -> Self:
        lock.refuse_links(path)
        pid = lock.holder(path)
        if pid is not None:
            raise lock.locked(path, pid)
        with lock.reading(path):
            lock.refuse_garbage(path)
            foreign = looks_foreign(path)
        if foreign:
            raise schema.no_journal(path)
        warnings = lock.make_folder(path)
        with lock.reading(path):
            held = lock.Lock(path)
        try:
            warnings += lock.make_file(path)
            database = Database(path, writable=True)
        except BaseException:
            held.release()
            raise
        journal = cls(database, clock, held, warnings)
        try:
            schema.prepare(database)
            audit.refuse_damaged(database)
            journal._load()
            if not journal.id:
                journal.append("", JournalCreated(journal_id=str(uuid4())))
                # Without its log a file that holds nothing yet would be taken for a journal that was never used.
                database.empty_log()
                journal._load()
        except BaseException:
            journal.close()
            raise
        return journal

    def _load(self) -> None:
        rows = self._database.rows(select(tables.events).order_by(tables.events.c.seq.desc()).limit(1))
        entry = self._database.rows(select(func.max(tables.entries.c.seq)))[0][0] or 0
        self._tip = Tip(seq=rows[0][0], hash=rows[0][7], entry=entry) if rows else Tip()
        first = self._database.rows(select(tables.events).where(tables.events.c.seq == 1))
        if first:
            event = reader.stored_event(tuple(first[0])).event
            self.id = event.journal_id if isinstance(event, JournalCreated) else ""

    def close(self) -> None:
        """Free the file and the lock. Idempotent."""
        self._database.close()
        if self._lock is not None:
            self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- writing --------------------------------------------------------------------------------------------------

    def append(self, run_id: str, *events: Event, entries: Sequence[Entry] = ()) -> None:
        """Append events, and with one plan among them its entries: one transaction, on disk when this returns.

        ValueError, with nothing written, where the entries are not those of the plan or an outcome names no batch.
        After JournalNotWritable (43) every further append fails: what is on disk is known only when it is opened anew.
        """
        if self._lock is None:
            msg = f"the journal {self.path} is open for reading only"
            raise JournalNotWritable(msg, hint="open it for writing")
        if self._failed is not None:
            raise self._failed
        rows = self._planned_rows(run_id, events, entries)
        try:
            with self._database.transaction() as connection:
                tip, version = self._insert(connection, run_id, events, rows)
        except IntegrityError as error:
            msg = f"the journal {self.path} was written by another program meanwhile, or a batch number was used twice"
            self._failed = JournalLocked(msg, hint="end the other program, then resume")
            raise self._failed from error
        except MemmigError as error:
            self._failed = error
            raise
        self._tip = tip
        self._versions[run_id] = version
        if any(isinstance(event, RunOpened) for event in events):
            self._opened = None

    @staticmethod
    def _planned_rows(run_id: str, events: Sequence[Event], entries: Sequence[Entry]) -> list[EntryRow]:
        plans = [event for event in events if isinstance(event, Planned)]
        if len(plans) > 1 or (entries and not plans):
            msg = "entries belong to exactly one plan"
            raise ValueError(msg)
        if not plans:
            return []
        rows = entry_rows(run_id, plans[0].batch, plans[0].phase, entries)
        if len(rows) != plans[0].rows or rows_digest(rows) != plans[0].digest:
            msg = f"the entries of batch {plans[0].batch} are not those of its plan"
            raise ValueError(msg)
        return rows

    def _insert(
        self, connection: Connection, run_id: str, events: Sequence[Event], rows: list[EntryRow]
    ) -> tuple[Tip, int]:
        version, tip, at = self._version(connection, run_id), self._tip, self._clock()
        for event in events:
            version += 1
            tip = insert_event(connection, tip, columns_of(run_id, version, event, at), event)
        return insert_entries(connection, tip, rows), version

    def _version(self, connection: Connection, run_id: str) -> int:
        known = self._versions.get(run_id)
        if known is None:
            query = select(func.max(tables.events.c.version)).where(tables.events.c.run_id == run_id)
            known = connection.execute(query).scalar() or 0
        return known

    # --- reading --------------------------------------------------------------------------------------------------

    def resolve(self, run_id: str) -> str:
        """Return the one run id that begins with these (at least four) characters; NoSuchRun (52) otherwise."""
        return reader.resolve(self._database, run_id)

    def state(self, run_id: str) -> RunState:
        """Return the fold of a run's events; ``run_id`` as in :meth:`resolve`."""
        return state.fold(self.events(self.resolve(run_id)))

    def runs(self) -> list[RunState]:
        """Return every run's state, in the order of opening."""
        return reader.read_runs(self._database)

    def events(self, run_id: str | None = None) -> Iterator[StoredEvent]:
        """Yield the events of one run (its full id), or all, in order."""
        return reader.read_events(self._database, run_id)

    def entries(
        self,
        run_id: str,
        *,
        phase: Phase | None = "forward",
        order: Order = "asc",
        statuses: Collection[BatchStatus] | None = None,
    ) -> Iterator[StoredEntry]:
        """Yield a run's entries by (batch, seq), in bounded memory; of batches planned before the first is taken.

        ``phase`` None: both. ``statuses``: only of batches that have one of these. Appends may go on in between.
        """
        return reader.read_entries(self._database, run_id, phase=phase, order=order, statuses=statuses)

    def batch_entries(self, run_id: str, batch: int) -> list[StoredEntry]:
        """Return a batch's entries in their order; NoSuchRun (52) where it was never planned."""
        return reader.batch_entries(self._database, run_id, batch)

    def find(self, entity_id: str) -> list[StoredEntry]:
        """Return every entry of a memory's or relationship's id, oldest first (a full scan)."""
        return reader.find(self._database, entity_id)

    def export(self, run_id: str | None = None) -> Iterator[dict[str, Any]]:
        """Yield events and entries as JSON-able dicts, in order: see ``reader.export``."""
        return reader.export(self._database, run_id)

    def bases(self, pair: str, *, exclude: str | None = None) -> Bases:
        """Return the bases of a pair, of all its runs but ``exclude``; as of when they are first asked for."""
        key = (pair, exclude)
        if key not in self._bases:
            runs = [name for name, run in self._openings() if run.pair == pair and name != exclude]
            self._bases[key] = Bases(self._database, f"bases_{len(self._bases)}", runs)
        return self._bases[key]

    def in_step(self) -> dict[str, InStep]:
        """Return {pair: its watermark and last full comparison}, of every pair that a run was opened for."""
        return fold_watermarks(reader.events_of(self._database, TYPES))

    def expect(self, pair: str, exclude: str, target_store: str, ids: Collection[str]) -> None:
        """Hear of which ids alone a run of a pair will ask: see ``Bases.expect``."""
        self.bases(pair, exclude=exclude).expect(ids)
        for other in self._others(pair, target_store):
            self.bases(other).expect(ids)

    def _others(self, pair: str, target_store: str) -> list[str]:
        return sorted({run.pair for _, run in self._openings() if run.target_store == target_store} - {pair})

    def _openings(self) -> list[tuple[str, RunOpened]]:
        if self._opened is None:
            self._opened = reader.openings(self._database)
        return self._opened

    def other_holders(self, pair: str, target_store: str, kind: str, ids: Sequence[str]) -> dict[str, set[str]]:
        """Return {id: other pairs into the same target store that have a base of it}; ids without any are left out."""
        found: dict[str, set[str]] = {}
        for other in self._others(pair, target_store):
            for entity_id in self.bases(other).get(kind, ids):
                found.setdefault(entity_id, set()).add(other)
        return found

    def _decided_of(self, run_id: str, phase: Phase) -> Decided:
        if (run_id, phase) not in self._decided:
            name = f"decided_{len(self._decided)}"
            self._decided[run_id, phase] = Decided(self._database, name, run_id, phase)
        return self._decided[run_id, phase]

    def index_run(self, run_id: str) -> None:
        """Make :meth:`decided` see what of this run was applied up to now."""
        for decided in (self._decided_of(run_id, "forward"), self._decided_of(run_id, "rollback")):
            decided.refresh()
        self._repeated_of(run_id).refresh()

    def _repeated_of(self, run_id: str) -> Repeated:
        if run_id not in self._repeated:
            self._repeated[run_id] = Repeated(self._database, f"repeated_{len(self._repeated)}", run_id)
        return self._repeated[run_id]

    def repeated(self, run_id: str, kind: str, ids: Sequence[str]) -> dict[str, list[StoredEntry]]:
        """Return {id: its rows, oldest first} of ids with several rows in batches that may be in the target."""
        return self._repeated_of(run_id).get(kind, ids)

    def decided(self, run_id: str, kind: str, ids: Sequence[str], phase: Phase = "forward") -> dict[str, StoredEntry]:
        """Return {id: the run's latest applied entry}, as of :meth:`index_run`; undecided ids are left out.

        ``phase`` rollback: the latest by which a rollback took the id back, or found it undone.
        """
        return self._decided_of(run_id, phase).get(kind, ids)

    def applied_entries(self, run_id: str, kind: str) -> Iterator[StoredEntry]:
        """Yield the run's latest applied, not taken back entry of every id, ordered by id, in bounded memory."""
        self.index_run(run_id)
        return self._decided_of(run_id, "forward").all(kind)

    def later_writers(self, run_id: str) -> list[str]:
        """Return later runs on the same target store that wrote an id that this run meant to write, oldest first."""
        return later_writers(self._database, run_id)

    def check(self) -> CheckReport:
        """Check the whole journal, changing nothing."""
        return audit.check(self._database)

    def whole(self, run_id: str) -> RunState:
        """Return the state of a run whose entries are all here; NoSuchRun (52) where it was pruned."""
        found = self.state(run_id)
        if found.pruned is not None:
            msg = f"run {found.run_id} was pruned: the journal holds no longer what it wrote and what was there before"
            raise NoSuchRun(msg, hint="a copy of the journal from before (memmig journal backup) still knows it")
        return found

    def prune(self, keep: Keep, *, dry_run: bool = False) -> PruneReport:
        """Leave out what no later run needs (``journal.prune``); with ``dry_run`` only say what that would be.

        The new file is checked and on disk before it takes the place of the old one, in one step; nothing is written
        where nothing goes. JournalDamaged (41) for a journal that is not whole, JournalLocked (40) where somebody reads
        it. The journal is closed when something was written.
        """
        plan = prune.plan(self._database, keep)
        if dry_run or not plan.newly:
            return plan.report
        made = self.path.with_name(self.path.name + ".pruned")
        anchor = JournalAnchored(journal_id=self.id, seq=self._tip.seq, anchor=self._tip.hash)
        prune.write(self._database, made, plan, anchor, self._clock())
        try:
            prune.check(made, plan.report)
            self._database.replace_file(made)
        except BaseException:
            made.unlink(missing_ok=True)
            raise
        self.close()
        return plan.report

    def backup(self, place: Path | str) -> None:
        """Write a complete copy (0600) of the journal; JournalNotWritable (43) where something stands there."""
        self._database.copy_to(Path(place))

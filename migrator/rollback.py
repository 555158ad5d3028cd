"""Taking a run back: every planned row, newest plan first, decided by what is in the target now.

What this run created, restored or changed and nobody touched since is undone; everything else is left as it is and
reported as ``retained`` with the reason. Deciding by content makes a second rollback, and the resume of one, harmless.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from journal import events
from journal.chain import Entry
from migrator.backends.base import ATTACHED, Row
from migrator.codec import load_raw
from migrator.engine import persist, schema_steps
from migrator.model import KINDS, READ_BUMPED_FIELDS, Corrupt, Relationship, digest, field_digests, same_value
from migrator.models import Finding, no_counts
from migrator.plan import bumped_of, bumped_text, is_written
from migrator.scan import MAX_FINDINGS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from journal.chain import StoredEntry
    from journal.state import BatchStatus
    from journal.store import Journal
    from migrator.backends.base import Backend, Operation, Raw
    from migrator.hooks import Hooks
    from migrator.lease import Lease
    from migrator.model import Kind, Record

_REPLANS = 5
_WRITTEN = frozenset({"created", "updated", "deleted", "different", "missing"})

#: The order in which kinds of change are undone: what edges need must be there before them, and go after them.
_STEPS: tuple[tuple[Kind, frozenset[str]], ...] = (
    ("memory", frozenset({"deleted"})),
    ("relationship", frozenset({"created", "updated", "deleted"})),
    ("memory", frozenset({"created", "updated"})),
)


@dataclass(frozen=True, slots=True)
class Undo:
    """What to do about one row: an action of the counts, "" for nothing, and the write where there is one."""

    entry: StoredEntry
    action: str
    reason: str = ""
    row: Row | None = None
    operation: Operation | None = None
    now_digest: str | None = None


@dataclass(slots=True, kw_only=True)
class Rollback:
    """One rollback; made by the manager. Counts what it did, per kind; ``findings`` names what was retained."""

    journal: Journal
    run_id: str
    target: Backend
    hooks: Hooks
    pair: str
    target_store: str
    force: bool = False
    batch_size: int = 1_000
    counts: dict[Kind, dict[str, int]] = field(default_factory=lambda: {kind: no_counts() for kind in KINDS})
    findings: list[Finding] = field(default_factory=list)
    _settled: set[tuple[str, str]] = field(default_factory=set)
    _noted: dict[Kind, set[str]] = field(default_factory=lambda: {kind: set() for kind in KINDS})
    _mangled: dict[tuple[str, str], str | None] = field(default_factory=dict)  #: digests that the verification found
    _statuses: dict[int, str] = field(default_factory=dict)  #: batch → its status in the journal
    _before: int = 0  #: batches up to this one are of earlier rollbacks
    #: Dry run: memory → edges at it that the run would have taken away by now.
    _leaving: dict[str, set[str]] = field(default_factory=dict)

    def run(self, lease: Lease | None) -> None:
        """Undo the run; returns with the target durable and the journal's event written, the marker released."""
        if lease is None:
            self._undo_all(None)
            return
        persist(self.target, lambda: self._attempt(lease), lambda: lease.applied_batches)

    def _attempt(self, lease: Lease) -> None:
        state = self.journal.state(self.run_id)
        if state.epoch_planned:
            lease.settle()
        if state.rollback_finished is not None:
            return  # only the release was left, and that is settled
        self.counts = {kind: no_counts() for kind in KINDS}
        self.findings.clear()
        self._settled.clear()
        self._noted = {kind: set() for kind in KINDS}
        self._undo_all(lease)
        if lease.held:
            lease.barrier()
        self._count_earlier_attempts()
        retained = sum(counts["retained"] for counts in self.counts.values())
        self.journal.append(
            self.run_id,
            events.RollbackFinished(
                memories=self.counts["memory"], relationships=self.counts["relationship"], retained=retained
            ),
        )
        if lease.held:
            lease.release()
        elif schema_steps(state):
            self.drop_schema()
            self.journal.append(self.run_id, events.MarkerReleased())

    def _count_earlier_attempts(self) -> None:
        """Count what this rollback did, from its opening on: a crash may have split it into several attempts."""
        state = self.journal.state(self.run_id)
        batches = [b for b in state.batches.values() if b.phase == "rollback" and b.batch > state.rollback_from]
        for kind in KINDS:
            for action in ("deleted", "restored"):
                done = [b.counts.get(action, 0) for b in batches if b.kind == kind and b.status == "applied"]
                self.counts[kind][action] = sum(done)

    def drop_schema(self) -> None:
        """Drop what of the target's schema the run made and is empty now; repeatable."""
        runs = self.journal.runs()
        own = next(number for number, run in enumerate(runs) if run.run_id == self.run_id)
        later = [run for run in runs[own + 1 :] if run.opened and run.opened.target_store == self.target_store]
        theirs = {step["name"] for run in later for step in run.schema_applied}
        steps = [step for step in schema_steps(runs[own]) if step.name not in theirs]
        if steps:
            self.target.drop_schema(steps)

    def _undo_all(self, lease: Lease | None) -> None:
        applied: tuple[BatchStatus, ...] = ("applied",)
        state = self.journal.state(self.run_id)
        self.journal.index_run(self.run_id)
        self._statuses = {number: batch.status for number, batch in state.batches.items()}
        self._before = state.rollback_from if state.status == "rolling-back" else state.last_number
        if any("different" in actions for actions in state.counts().values()):
            for entry in self.journal.entries(self.run_id, statuses=applied):
                if entry.action == "different":
                    self._mangled[entry.kind, entry.entity_id] = entry.after_digest
        total = sum(b.rows for b in state.batches.values() if b.writes and b.phase == "forward")
        done = 0
        for kind, actions in _STEPS:
            for chunk in _chunks(self._rows(kind, actions), self.batch_size):
                self.hooks.check()
                self._undo(kind, chunk, lease)
                done += len(chunk)
                self.hooks.report("rollback", kind, done, total)

    def _rows(self, kind: Kind, actions: frozenset[str]) -> Iterator[StoredEntry]:
        # A refused or lost batch is proven not to be in the target, by its answer, by the epoch that was raised over it
        # or by the marker: what looks like it there is somebody else's (tests/model has the traces).
        statuses: tuple[BatchStatus, ...] = ("planned", "applied", "void")
        for entry in self.journal.entries(self.run_id, order="desc", statuses=statuses):
            if entry.kind == kind and entry.action in actions:
                yield entry

    def _undo(self, kind: Kind, chunk: list[StoredEntry], lease: Lease | None, refusals: int = 0) -> None:
        """Undo rows; a refused group is decided anew, and from the second refusal on in halves."""
        waiting = [entry for entry in self._still_ours(kind, chunk) if (kind, entry.entity_id) not in self._settled]
        while waiting:
            # Two plans of one id in one chunk: the newer first, the older in a later round.
            first: dict[str, StoredEntry] = {}
            later = [entry for entry in waiting if first.setdefault(entry.entity_id, entry) is not entry]
            for refused in self._undo_round(kind, list(first.values()), lease):
                if refusals >= _REPLANS and len(refused) == 1:
                    self._keep(kind, [Undo(refused[0], "retained", "others keep changing it")], lease)
                    continue
                half = (len(refused) + 1) // 2 if refusals else len(refused)
                for start in range(0, len(refused), half):
                    self._undo(kind, refused[start : start + half], lease, refusals + 1)
            waiting = [entry for entry in later if (kind, entry.entity_id) not in self._settled]

    def _still_ours(self, kind: Kind, chunk: list[StoredEntry]) -> list[StoredEntry]:
        """Leave out rows that a server lost and whose record the run then found there: someone else made it."""
        unsure = [entry.entity_id for entry in chunk if self._statuses.get(entry.batch) != "applied"]
        if not unsure:
            return chunk
        found = self.journal.decided(self.run_id, kind, unsure)
        theirs = {identity for identity, entry in found.items() if entry.action not in _WRITTEN}
        return [e for e in chunk if self._statuses.get(e.batch) == "applied" or e.entity_id not in theirs]

    def _undo_round(self, kind: Kind, entries: list[StoredEntry], lease: Lease | None) -> list[list[StoredEntry]]:
        decided = self._decide(kind, entries, dry=lease is None)
        self._note_undone(kind, [undo for undo in decided if not undo.action], lease)
        self._keep(kind, [undo for undo in decided if undo.action == "retained"], lease)
        refused: list[list[StoredEntry]] = []
        groups: dict[tuple[Operation, str], list[Undo]] = {}
        for undo in decided:
            if undo.row is not None and undo.operation is not None:
                raw = undo.row.new if undo.row.new is not None else undo.row.expected
                assert raw is not None  # noqa: S101 - a row changes something
                groups.setdefault((undo.operation, self.target.form.shape(kind, raw)), []).append(undo)
        for group, some in groups.items():
            if lease is not None and not self._send(kind, group, some, lease):
                refused.append([undo.entry for undo in some])
                continue
            for undo in some:
                self.counts[kind][undo.action] += 1
                self._noted[kind].add(undo.entry.entity_id)
        return refused

    def _note_undone(self, kind: Kind, undone: list[Undo], lease: Lease | None) -> None:
        """Journal that a row was found undone: what the run did to this id no longer stands."""
        fresh = [replace(undo, action="unchanged") for undo in undone if undo.entry.entity_id not in self._noted[kind]]
        self._noted[kind].update(undo.entry.entity_id for undo in fresh)
        if lease is not None:
            lease.note(kind, [_entry(undo, self.target.form.decode) for undo in fresh])

    def _send(self, kind: Kind, group: tuple[Operation, str], some: list[Undo], lease: Lease) -> bool:
        if not lease.held:
            lease.claim()
        rows = [undo.row for undo in some if undo.row is not None]
        entries = [_entry(undo, self.target.form.decode) for undo in some]
        return lease.send(kind, group, rows, entries)

    def _keep(self, kind: Kind, kept: list[Undo], lease: Lease | None) -> None:
        for undo in kept:
            self._settled.add((kind, undo.entry.entity_id))
            self.counts[kind]["retained"] += 1
            if len(self.findings) < MAX_FINDINGS:
                self.findings.append(Finding(kind=kind, id=undo.entry.entity_id, what="retained", reason=undo.reason))
        if kept and lease is not None:
            lease.note(kind, [_entry(undo, self.target.form.decode) for undo in kept])

    def _decide(self, kind: Kind, entries: list[StoredEntry], *, dry: bool) -> list[Undo]:
        ids = [entry.entity_id for entry in entries]
        undone = self.journal.decided(self.run_id, kind, ids, phase="rollback")
        there = self.target.lookup(kind, dict.fromkeys(ids))
        decided = [
            self._decide_one(kind, entry, there.get(entry.entity_id), undone.get(entry.entity_id))
            for entry in entries
            # What an earlier rollback of this run took back: what stands there now is a later run's.
            if entry.entity_id not in undone or undone[entry.entity_id].batch > self._before
        ]
        touched = [undo.entry.entity_id for undo in decided if undo.operation is not None]
        if not touched:
            return decided
        going = [undo.entry.entity_id for undo in decided if undo.operation == "delete"]
        rivals = self.journal.other_holders(self.pair, self.target_store, kind, touched)
        lacking = self._lacking_ends(decided) if kind == "relationship" else {}
        hanging = self._staying_edges(going) if kind == "memory" else {}
        found = []
        for undo in decided:
            identity = undo.entry.entity_id
            edges = hanging.get(identity, ())
            if undo.operation is None:
                found.append(undo)
            elif rivals.get(identity):
                also = ", ".join(sorted(rivals[identity]))
                found.append(Undo(undo.entry, "retained", f"also kept in this target by {also}"))
            elif identity in lacking:
                found.append(Undo(undo.entry, "retained", f"its end is gone: {lacking[identity]}"))
            elif edges:
                reason = f"relationships that stay hang on it: {', '.join(edges[:3])}"
                found.append(Undo(undo.entry, "retained", reason))
            else:
                found.append(undo)
        if dry and kind == "relationship":
            self._let_go(found)
        return found

    def _let_go(self, decided: list[Undo]) -> None:
        """Remember, in a dry run, which edges would hang at their ends no more."""
        for undo in decided:
            if undo.operation in {"delete", "replace"} and undo.row is not None:
                for end in self._ends(undo.row.expected) - self._ends(undo.row.new):
                    self._leaving.setdefault(end, set()).add(undo.row.id)

    def _ends(self, raw: Raw | None) -> set[str]:
        edge = None if raw is None else self.target.form.decode("relationship", raw)
        return {edge.from_id, edge.to_id} if isinstance(edge, Relationship) else set()

    def _staying_edges(self, memories: list[str]) -> dict[str, list[str]]:
        """Return the memories on which edges would still hang, and some of those."""
        hubs = {memory for memory in memories if len(self._leaving.get(memory, ())) >= ATTACHED}
        attached = self.target.attached([memory for memory in memories if memory not in hubs])
        for hub in hubs:
            # One more than would leave: where another edge is, it is among them.
            attached |= self.target.attached([hub], len(self._leaving[hub]) + 1)
        found: dict[str, list[str]] = {}
        for memory, edges in attached.items():
            leaving = self._leaving.get(memory, set())
            found[memory] = [edge for edge in edges if edge not in leaving]
        return found

    def _lacking_ends(self, decided: list[Undo]) -> dict[str, str]:
        """Return the edges that cannot be put back, and the end that each lacks."""
        ends: dict[str, tuple[str, str]] = {}
        for undo in decided:
            if undo.operation in {"create", "replace"} and undo.row is not None and undo.row.new is not None:
                edge = self.target.form.decode("relationship", undo.row.new)
                if isinstance(edge, Relationship):
                    ends[edge.id] = (edge.from_id, edge.to_id)
        there = (
            self.target.lookup("memory", dict.fromkeys(end for pair in ends.values() for end in pair)) if ends else {}
        )
        lacking = ((identity, [end for end in pair if end not in there]) for identity, pair in ends.items())
        return {identity: gone[0] for identity, gone in lacking if gone}

    def _decide_one(self, kind: Kind, entry: StoredEntry, raw: Raw | None, undone: StoredEntry | None) -> Undo:
        record = None if raw is None else self.target.form.decode(kind, raw)
        if undone is not None and _changed_since(undone, record):
            return Undo(entry, "retained", "changed by someone else since it was taken back")
        if entry.action == "created":
            return self._undo_created(entry, raw, record)
        before = load_raw(entry.before_image) if entry.before_image else None
        if entry.action == "deleted":
            if raw is not None:
                return Undo(
                    entry, "" if _digest(record) == entry.before_digest else "retained", "someone made it again"
                )
            return Undo(entry, "restored", "", Row(entry.entity_id, None, before), "create")
        return self._undo_updated(kind, entry, raw, record, before)

    def _undo_created(self, entry: StoredEntry, raw: Raw | None, record: Record | Corrupt | None) -> Undo:
        if raw is None:
            return Undo(entry, "")
        if record is None or isinstance(record, Corrupt):
            ours = False
        else:
            ours = is_written(record, entry.after_digest, bumped_of(entry))
            ours = ours or digest(record) == self._mangled.get((entry.kind, entry.entity_id), "")
        if not ours and not self.force:
            return Undo(entry, "retained", "changed since by someone else")
        return Undo(entry, "deleted", "", Row(entry.entity_id, raw, None), "delete", _digest(record))

    def _undo_updated(
        self, kind: Kind, entry: StoredEntry, raw: Raw | None, record: Record | Corrupt | None, before: Raw | None
    ) -> Undo:
        assert before is not None  # noqa: S101 - an update is never planned without it
        if raw is None:
            return Undo(entry, "retained", "deleted since by someone else")
        now = _digest(record)
        if now == entry.before_digest and same_value(raw, before):
            return Undo(entry, "")
        written = json.loads(entry.written or "{}")
        if record is None or isinstance(record, Corrupt):
            return Undo(entry, "retained", "changed since by someone else")
        digests = field_digests(record)
        bumped = READ_BUMPED_FIELDS if kind == "memory" else frozenset[str]()
        changed = sorted(name for name, value in written.items() if digests.get(name) != value)
        mangled = digest(record) == self._mangled.get((entry.kind, entry.entity_id), "")
        if set(changed) - bumped and not mangled and not self.force:
            return Undo(entry, "retained", "changed since by someone else: " + ", ".join(changed))
        form = self.target.form
        # What was written, laid over what stood there before, gives what stands there now: nobody else wrote.
        untouched = not changed and same_value(form.graft(kind, before, raw, list(written)), raw)
        back = [name for name in written if name not in bumped or name not in changed or self.force]
        new = before if untouched or mangled else form.graft(kind, raw, before, back)
        moved = kind == "relationship" and {":type", ":from", ":to"} & written.keys()
        return Undo(entry, "restored", "", Row(entry.entity_id, raw, new), "replace" if moved else "update", now)


def _changed_since(undone: StoredEntry, record: Record | Corrupt | None) -> bool:
    """Tell whether something else stands there than what this rollback left, before its process died."""
    if undone.action == "unchanged" or record is None:
        return undone.action == "restored"
    return isinstance(record, Corrupt) or not is_written(record, undone.after_digest, bumped_of(undone))


def _digest(record: Record | Corrupt | None) -> str | None:
    return None if record is None or isinstance(record, Corrupt) else digest(record)


def _entry(undo: Undo, decode: Callable[[Kind, Raw], Record | Corrupt]) -> Entry:
    new = undo.row.new if undo.row is not None else None
    kind: Kind = "memory" if undo.entry.kind == "memory" else "relationship"
    left = decode(kind, new) if new is not None else None
    bumped = None if left is None or isinstance(left, Corrupt) else bumped_text(left)
    reason = undo.reason or None
    return Entry(kind, undo.entry.entity_id, undo.action, undo.now_digest, _digest(left), None, None, reason, bumped)


def _chunks(entries: Iterable[StoredEntry], size: int) -> Iterator[list[StoredEntry]]:
    chunk: list[StoredEntry] = []
    for entry in entries:
        chunk.append(entry)
        if len(chunk) >= size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk

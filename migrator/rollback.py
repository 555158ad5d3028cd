"""Taking a run back: what it did to each id, newest plan first, decided by what is in the target now.

What this run created, restored or changed and nobody touched since is undone; everything else is left as it is and
reported as ``retained`` with the reason. Deciding by content makes a second rollback, and the resume of one, harmless.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from journal import events
from journal.chain import Entry
from migrator.backends.base import Row, SchemaStep
from migrator.codec import load_raw
from migrator.effect import effect_of
from migrator.model import KINDS, READ_BUMPED_FIELDS, Corrupt, Relationship, field_digests, same_value
from migrator.models import Finding, no_counts
from migrator.plan import bumped_of, bumped_text, digest_if_any, is_written
from migrator.reconnect import persist
from migrator.removal import Leaving, in_halves
from migrator.scan import MAX_FINDINGS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from journal.chain import StoredEntry
    from journal.state import BatchStatus, RunState
    from journal.store import Journal
    from migrator.backends.base import Backend, Operation, Raw
    from migrator.hooks import Hooks
    from migrator.lease import Lease
    from migrator.model import Kind, Record

_UNSURE = "cannot be told from somebody else's: its server came back without the marker, and the run found it there"
_CHANGED_AGAIN = "changed by someone else since it was taken back"
_THERE_AGAIN = "stands there again since it was taken back"

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
    now: Record | Corrupt | None = None  #: what stands there

    def kept(self, reason: str) -> Undo:
        """Return that it is left as it is."""
        return replace(self, action="retained", reason=reason, row=None, operation=None)


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
    _mangled: dict[tuple[str, str], StoredEntry] = field(default_factory=dict)  #: what the verification found
    _statuses: dict[int, str] = field(default_factory=dict)  #: batch → its status in the journal
    _before: int = 0  #: batches up to this one are of earlier rollbacks
    _later_runs: list[str] = field(default_factory=list)  #: asked only where there were earlier rollbacks
    _leaving: Leaving = field(init=False)  #: what a dry run would have taken away by now

    def __post_init__(self) -> None:
        """Begin with nothing taken away."""
        self._leaving = Leaving(self.target)

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
        elif _schema_steps(state):
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
        steps = [step for step in _schema_steps(runs[own]) if step.name not in theirs]
        if steps:
            self.target.drop_schema(steps)

    def _undo_all(self, lease: Lease | None) -> None:
        applied: tuple[BatchStatus, ...] = ("applied",)
        state = self.journal.state(self.run_id)
        self.journal.index_run(self.run_id)
        self._statuses = {number: batch.status for number, batch in state.batches.items()}
        self._before = state.rollback_from if state.status == "rolling-back" else state.last_number
        earlier = any(b.phase == "rollback" and b.batch <= self._before for b in state.batches.values())
        runs = [run.run_id for run in self.journal.runs()] if earlier else []
        self._later_runs = runs[runs.index(self.run_id) + 1 :] if earlier else []
        if any("different" in actions for actions in state.counts().values()):
            for entry in self.journal.entries(self.run_id, statuses=applied):
                if entry.action == "different":
                    self._mangled[entry.kind, entry.entity_id] = entry
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

    def _undo(self, kind: Kind, chunk: list[StoredEntry], lease: Lease | None) -> None:
        def give_up(entry: StoredEntry) -> None:
            self._keep(kind, [Undo(entry, "retained", "others keep changing it")], lease)

        in_halves(chunk, lambda entries: self._undo_round(kind, entries, lease), give_up)

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
        return refused

    def _note_undone(self, kind: Kind, undone: list[Undo], lease: Lease | None) -> None:
        """Journal that a row was found undone: what the run did to this id no longer stands."""
        if lease is not None:
            lease.note(kind, [_entry(replace(undo, action="unchanged"), self.target.form.decode) for undo in undone])

    def _send(self, kind: Kind, group: tuple[Operation, str], some: list[Undo], lease: Lease) -> bool:
        if not lease.held:
            lease.claim()
        rows = [undo.row for undo in some if undo.row is not None]
        entries = [_entry(undo, self.target.form.decode) for undo in some]
        return lease.send(kind, group, rows, entries)

    def _keep(self, kind: Kind, kept: list[Undo], lease: Lease | None) -> None:
        for undo in kept:
            self.counts[kind]["retained"] += 1
            if len(self.findings) < MAX_FINDINGS:
                self.findings.append(Finding(kind=kind, id=undo.entry.entity_id, what="retained", reason=undo.reason))
        if kept and lease is not None:
            lease.note(kind, [_entry(undo, self.target.form.decode) for undo in kept])

    def _decide(self, kind: Kind, entries: list[StoredEntry], *, dry: bool) -> list[Undo]:
        ids = [entry.entity_id for entry in entries]
        undone = self.journal.decided(self.run_id, kind, ids, phase="rollback")
        before = [identity for identity, entry in undone.items() if entry.batch <= self._before]
        later = set[str]().union(*(self.journal.decided(run, kind, before) for run in self._later_runs))
        repeated = self.journal.repeated(self.run_id, kind, ids)
        there = self.target.lookup(kind, dict.fromkeys(ids))
        decided = []
        for entry in entries:
            identity = entry.entity_id
            effect = effect_of(repeated.get(identity, [entry]), self._is_sure, self.target.form.decode)
            if effect is None or effect.entry.seq != entry.seq:
                continue  # an older row of the id: its newest one stands for all
            undo = self._decide_one(kind, effect.entry, there.get(identity))
            if identity in undone:
                decided += self._decided_again(undo, undone[identity], is_later=identity in later)
            elif effect.sure or undo.operation is None:
                decided.append(undo)
            else:
                decided.append(undo.kept(_UNSURE))
        return self._unhindered(kind, decided, dry=dry)

    def _unhindered(self, kind: Kind, decided: list[Undo], *, dry: bool) -> list[Undo]:
        """Leave what cannot be undone for others' sake: other pairs, ends that are gone, relationships that stay."""
        touched = [undo.entry.entity_id for undo in decided if undo.operation is not None]
        if not touched:
            return decided
        going = [undo.entry.entity_id for undo in decided if undo.operation == "delete"]
        rivals = self.journal.other_holders(self.pair, self.target_store, kind, touched)
        lacking = self._lacking_ends(decided) if kind == "relationship" else {}
        hanging = self._leaving.staying(going) if kind == "memory" else {}
        found = []
        for undo in decided:
            identity = undo.entry.entity_id
            edges = hanging.get(identity, ())
            if undo.operation is None:
                found.append(undo)
            elif rivals.get(identity):
                also = ", ".join(sorted(rivals[identity]))
                found.append(undo.kept(f"also kept in this target by {also}"))
            elif identity in lacking:
                found.append(undo.kept(f"its end is gone: {lacking[identity]}"))
            elif edges:
                found.append(undo.kept(f"relationships that stay hang on it: {', '.join(edges[:3])}"))
            else:
                found.append(undo)
        if dry and kind == "relationship":
            for undo in found:
                if undo.operation in {"delete", "replace"} and undo.row is not None:
                    self._leaving.let_go(undo.row)
        return found

    def _is_sure(self, entry: StoredEntry) -> bool:
        return self._statuses.get(entry.batch) == "applied"

    def _decided_again(self, undo: Undo, undone: StoredEntry, *, is_later: bool) -> list[Undo]:
        """Decide an id that this run's rollbacks took back, or found undone, before; []: there is nothing to say.

        ``is_later``: a later run decided the id, so what stands there is that one's.
        """
        if undone.batch > self._before:
            if _stands(undo.now, undone):
                return []
            return [undo.kept(_CHANGED_AGAIN)]
        if undo.operation is None or is_later:
            return []
        return [undo if self.force else undo.kept(_THERE_AGAIN)]

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

    def _decide_one(self, kind: Kind, entry: StoredEntry, raw: Raw | None) -> Undo:
        record = None if raw is None else self.target.form.decode(kind, raw)
        if entry.action == "created":
            undo = self._undo_created(entry, raw, record)
        elif entry.action == "deleted":
            undo = self._undo_deleted(entry, raw, record)
        else:
            undo = self._undo_updated(kind, entry, raw, record)
        return replace(undo, now=record)

    def _undo_deleted(self, entry: StoredEntry, raw: Raw | None, record: Record | Corrupt | None) -> Undo:
        if raw is not None:
            return Undo(
                entry, "" if digest_if_any(record) == entry.before_digest else "retained", "someone made it again"
            )
        return Undo(entry, "restored", "", Row(entry.entity_id, None, _before(entry)), "create")

    def _is_mangled(self, entry: StoredEntry, record: Record) -> bool:
        """Tell whether a record is what the verification found in the place of what had been written."""
        found = self._mangled.get((entry.kind, entry.entity_id))
        return found is not None and is_written(record, found.after_digest, bumped_of(found))

    def _undo_created(self, entry: StoredEntry, raw: Raw | None, record: Record | Corrupt | None) -> Undo:
        if raw is None:
            return Undo(entry, "")
        if record is None or isinstance(record, Corrupt):
            ours = False
        else:
            ours = is_written(record, entry.after_digest, bumped_of(entry)) or self._is_mangled(entry, record)
        if not ours and not self.force:
            return Undo(entry, "retained", "changed since by someone else")
        return Undo(entry, "deleted", "", Row(entry.entity_id, raw, None), "delete")

    def _undo_updated(self, kind: Kind, entry: StoredEntry, raw: Raw | None, record: Record | Corrupt | None) -> Undo:
        before = _before(entry)
        if raw is None:
            return Undo(entry, "retained", "deleted since by someone else")
        now = digest_if_any(record)
        if now == entry.before_digest and same_value(raw, before):
            return Undo(entry, "")
        written = json.loads(entry.written or "{}")
        if record is None or isinstance(record, Corrupt):
            return Undo(entry, "retained", "changed since by someone else")
        digests = field_digests(record)
        bumped = READ_BUMPED_FIELDS if kind == "memory" else frozenset[str]()
        changed = sorted(name for name, value in written.items() if digests.get(name) != value)
        mangled = self._is_mangled(entry, record)
        if set(changed) - bumped and not mangled and not self.force:
            return Undo(entry, "retained", "changed since by someone else: " + ", ".join(changed))
        form = self.target.form
        # What was written, laid over what stood there before, gives what stands there now: nobody else wrote.
        untouched = not changed and same_value(form.graft(kind, before, raw, list(written)), raw)
        back = [name for name in written if name not in bumped or name not in changed or self.force]
        new = before if untouched or mangled else form.graft(kind, raw, before, back)
        moved = kind == "relationship" and {":type", ":from", ":to"} & written.keys()
        return Undo(entry, "restored", "", Row(entry.entity_id, raw, new), "replace" if moved else "update")


def _schema_steps(state: RunState) -> list[SchemaStep]:
    """Return what of the target's schema the run made, or may have been making when it was killed."""
    pending = [step for step in state.schema_pending if not step.get("after_load")]
    steps = {step["name"]: SchemaStep(**step) for step in [*state.schema_applied, *pending]}
    return list(steps.values())


def _stands(record: Record | Corrupt | None, undone: StoredEntry) -> bool:
    """Tell whether what this rollback left, or found, before its process died is what stands there now."""
    if record is None or undone.after_digest is None:
        return record is None and undone.after_digest is None
    return not isinstance(record, Corrupt) and is_written(record, undone.after_digest, bumped_of(undone))


def _before(entry: StoredEntry) -> Raw:
    assert entry.before_image is not None  # noqa: S101 - nothing is changed or deleted without it
    return load_raw(entry.before_image)


def _entry(undo: Undo, decode: Callable[[Kind, Raw], Record | Corrupt]) -> Entry:
    """Return what is journalled: before and after are what stands in the target, not in the run."""
    kind: Kind = "memory" if undo.entry.kind == "memory" else "relationship"
    left = undo.now
    if undo.row is not None:
        left = None if undo.row.new is None else decode(kind, undo.row.new)
    bumped = None if left is None or isinstance(left, Corrupt) else bumped_text(left)
    now, after = digest_if_any(undo.now), digest_if_any(left)
    return Entry(kind, undo.entry.entity_id, undo.action, now, after, None, None, undo.reason or None, bumped)


def _chunks(entries: Iterable[StoredEntry], size: int) -> Iterator[list[StoredEntry]]:
    chunk: list[StoredEntry] = []
    for entry in entries:
        chunk.append(entry)
        if len(chunk) >= size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk

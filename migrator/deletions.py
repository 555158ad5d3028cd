"""``--delete``: what is gone from the source goes from the target, where this pair made it and nobody needs it there.

Before the first write: is the source to be trusted, what is gone, and is that within ``--max-delete``. After the run's
own batches: each candidate is looked at once more on both sides and deleted, or retained with the reason.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from itertools import batched
from typing import TYPE_CHECKING

from journal.chain import Entry
from migrator.backends.base import Row
from migrator.codec import dump_raw
from migrator.errors import LimitHit
from migrator.limits import FEW, most_deleted
from migrator.model import KINDS, Corrupt, Relationship
from migrator.plan import bumped_text, digest_if_any, is_written
from migrator.removal import Leaving, in_halves
from migrator.scan import counted_ids
from migrator.stores import fingerprint

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from journal.bases import Base
    from journal.store import Journal
    from migrator.backends.base import Raw
    from migrator.hooks import Hooks
    from migrator.lease import Lease
    from migrator.model import Kind, Record
    from migrator.models import MigrationOptions
    from migrator.run import Run
    from migrator.scan import Scanned
    from migrator.stores import Stores

_OTHERS_WRITE = "gone from the source; others keep changing it in the target"
_LOOK = "look at the source; a run without --delete takes it as it is and deletes nothing"


@dataclass(frozen=True, slots=True, kw_only=True)
class Absent:
    """What a complete scan of the source did not show. Nothing, where nothing is to be deleted."""

    ids: Mapping[Kind, Sequence[str]] = field(default_factory=lambda: dict.fromkeys(KINDS, ()))  #: made by this pair
    kept: Mapping[Kind, int] = field(default_factory=lambda: dict.fromkeys(KINDS, 0))  #: what the pair keeps there


def suspicion(journal: Journal | None, stores: Stores, scanned: Scanned) -> str:
    """Return why nothing may be deleted for this source, whatever the limit: it is empty, or was swapped; else ""."""
    if scanned.empty:
        return "the source holds no memories"
    name, now = f"{stores.source_info.kind}:{stores.source_info.place}", fingerprint(stores.source_info)
    for state in reversed([] if journal is None else journal.runs()):
        opened = state.opened
        before = None if opened is None else opened.source.get("fingerprint")
        if opened is None or before is None or state.status != "finished":
            continue
        if (opened.source_store.removesuffix(f"#{before['identity']}"), opened.target_store) == (
            name,
            stores.target_store,
        ):
            keys = (key for key in now if now[key] != before[key])
            changed = [f"{key} {before[key] or 'none'}, now {now[key] or 'none'}" for key in keys]
            return f"the source is another one than in the last run: {'; '.join(changed)}" if changed else ""
    return ""


def refuse_suspect(journal: Journal | None, stores: Stores, options: MigrationOptions, scanned: Scanned) -> None:
    """Raise LimitHit where deletions are asked for and the source is not to be trusted; else warn of it in the scan."""
    doubt = suspicion(journal, stores, scanned)
    if doubt and options.delete:
        msg = f"nothing may be deleted: {doubt}"
        raise LimitHit(msg, hint=_LOOK)
    scanned.warnings += [doubt] if doubt and not scanned.empty else []


def find_absent(
    journal: Journal | None,
    stores: Stores,
    options: MigrationOptions,
    scanned: Scanned,
    hooks: Hooks,
    run_id: str = "",
    *,
    resumed: bool = False,
) -> Absent:
    """Return what --delete is about: gone from the source by a complete, counted list of its ids.

    ``run_id``: what that run itself has journalled is left out. LimitHit where of many memories none is left.
    """
    if journal is None or not options.delete:
        return Absent()
    present = scanned.present or counted_ids(stores.source, stores.batch_size(options), hooks, scanned.known_as)
    bases = journal.bases(stores.pair, exclude=run_id)
    ids: dict[Kind, list[str]] = {kind: [] for kind in KINDS}
    kept: dict[Kind, int] = dict.fromkeys(KINDS, 0)
    left = 0
    for kind in KINDS:
        for identity, created in bases.all(kind):
            kept[kind] += 1
            if identity in present[kind]:
                left += kind == "memory"
            elif created:
                ids[kind].append(identity)
        if ids[kind] and None in present[kind]:
            msg = f"what is gone cannot be told: the source holds something of kind {kind} whose id cannot be read"
            raise LimitHit(msg, hint=_LOOK)
    if kept["memory"] > FEW and not left:
        msg = f"none of the {kept['memory']} memories that this pair keeps in the target is left in the source"
        raise LimitHit(msg, hint=_LOOK)
    there = stores.target.inventory()
    holds: dict[Kind, int] = {
        "memory": there.memories + sum(there.other_nodes.values()),
        "relationship": there.relationships + there.other_relationships,
    }
    own = journal.state(run_id).counts() if resumed else {}
    for kind in KINDS:
        # Of what others deleted there nothing is kept any more. What this run did so far is as if it had not.
        did = own.get(kind, {})
        kept[kind] = min(kept[kind], holds[kind] + did.get("deleted", 0) - did.get("created", 0))
    return Absent(ids=ids, kept=kept)


def refuse_too_many(run: Run, *, resumed: bool) -> None:
    """Raise LimitHit where more would be deleted than ``--max-delete`` allows; reads the target, writes nothing."""
    if not any(run.absent.ids.values()):
        return
    Deletions(run, None, resumed=resumed, before_updates=True)()
    excess = too_many(run)
    if excess:
        raise LimitHit(excess, hint="look at what is gone with --dry-run; --max-delete N or N% allows more")


def too_many(run: Run) -> str:
    """Return by how much the deletions that a run counted are more than its limit allows; "" where they are not."""
    for kind in KINDS:
        deleted, kept = run.counts[kind]["deleted"], run.absent.kept[kind]
        most = most_deleted(run.options.max_delete, kept)
        if deleted > most:
            return f"{deleted} of {kept} of kind {kind} would be deleted, and {most} may be (--max-delete)"
    return ""


@dataclass(frozen=True, slots=True)
class _Gone:
    """What the target holds under an id that is gone from the source."""

    id: str
    raw: Raw
    record: Record | Corrupt
    reason: str  #: why it is retained; "" = it is to be deleted


def why_retained(record: Record | Corrupt, base: Base | None, rivals: Iterable[str], edges: Sequence[str]) -> str:
    """Return why a record that is gone from the source stays in the target; "" where it may be deleted. Pure.

    ``rivals``: other pairs that keep it there; ``edges``: those that will still hang on it.
    """
    others = ", ".join(sorted(rivals))
    if others:
        return f"gone from the source; also kept in this target by {others}"
    if isinstance(record, Corrupt):
        return f"gone from the source; cannot be read in the target: {record.reason}"
    if base is None or not is_written(record, base.digest, base.bumped):
        return "gone from the source; changed in the target by someone else"
    if edges:
        named = ", ".join(edge or "one without id" for edge in edges[:3])
        return f"gone from the source; relationships that stay hang on it: {named}"
    return ""


class Deletions:
    """Deletes what is gone, relationships first; without a lease it only counts."""

    def __init__(
        self,
        run: Run,
        lease: Lease | None,
        *,
        resumed: bool,
        ready: Callable[[], None] = lambda: None,
        leaving: Leaving | None = None,
        before_updates: bool = False,
    ) -> None:
        """``ready`` gets the marker; ``leaving``: what a dry run would have moved away by now.

        ``before_updates``: edges that hang elsewhere in the source will have left, as far as can be told.
        """
        self._run = run
        self._lease = lease
        self._resumed = resumed
        self._ready = ready
        self._leaving = leaving or Leaving(run.target)
        self._before_updates = before_updates
        self._bases = run.history.bases(run.pair, exclude=run.run_id)

    def __call__(self) -> None:
        """Delete, or retain, every candidate."""
        run = self._run
        for kind in reversed(KINDS):
            gone = run.absent.ids[kind]
            done = 0
            for ids in batched(gone, run.batch_size):
                run.hooks.check()
                in_halves(self._undecided(kind, ids), partial(self._round, kind), partial(self._give_up, kind))
                done += len(ids)
                if not self._before_updates:
                    run.hooks.report("delete", kind, done, len(gone))

    def _undecided(self, kind: Kind, ids: Sequence[str]) -> list[str]:
        """Return the ids that this run has not decided yet; count the others."""
        if not self._resumed:
            return list(ids)
        run = self._run
        done = run.history.decided(run.run_id, kind, ids)
        for identity, entry in done.items():
            if entry.action == "deleted":
                run.counts[kind]["deleted"] += 1
            elif entry.action == "retained":
                self._count_retained(kind, identity, entry.reason or "")
        # One that did not read back as deleted is deleted again.
        return [identity for identity in ids if identity not in done or done[identity].action == "different"]

    def _decide(self, kind: Kind, ids: list[str]) -> list[_Gone]:
        """Look at both sides: what the target holds, and whether the source has it again."""
        run = self._run
        form = run.target.form
        there = {i: (raw, form.decode(kind, raw)) for i, raw in run.target.lookup(kind, dict.fromkeys(ids)).items()}
        bases = self._bases.get(kind, list(there))
        rivals = run.history.other_holders(run.pair, run.target_store, kind, list(there))
        edges = self._staying(list(there)) if kind == "memory" and there else {}
        hints = {i: one if isinstance(one, Relationship) else None for i, (_, one) in there.items()}
        again: AbstractSet[str] = run.source.lookup(kind, hints).keys() if there else frozenset()
        found = []
        for identity, (raw, record) in there.items():
            if identity in again:
                continue  # the next run decides about it
            reason = why_retained(record, bases.get(identity), rivals.get(identity, ()), edges.get(identity, ()))
            if not reason and not isinstance(record, Corrupt) and (problems := form.problems(record)):
                # A rollback could not make it again.
                reason = f"gone from the source; could not be put back: {problems[0].reason}"
            found.append(_Gone(identity, raw, record, reason))
        return found

    def _staying(self, memories: list[str]) -> dict[str, list[str]]:
        found = self._leaving.staying(memories)
        if not self._before_updates:
            return found
        moving = self._run.source.lookup("relationship", {edge: None for edges in found.values() for edge in edges})
        leaving = moving.keys() - self._run.scanned.quarantined["relationship"].keys()
        return {memory: [edge for edge in edges if edge not in leaving] for memory, edges in found.items()}

    def _round(self, kind: Kind, ids: list[str]) -> list[list[str]]:
        """Decide, and delete in batches of one label set or edge type; return the batches that were refused."""
        decided = self._decide(kind, ids)
        self._retain(kind, [one for one in decided if one.reason])
        groups: dict[str, list[_Gone]] = {}
        for one in decided:
            if not one.reason:
                groups.setdefault(self._run.target.form.shape(kind, one.raw), []).append(one)
        refused = []
        for shape, some in groups.items():
            if self._delete(kind, shape, some):
                self._run.counts[kind]["deleted"] += len(some)
            else:
                refused.append([one.id for one in some])
        return refused

    def _delete(self, kind: Kind, shape: str, some: list[_Gone]) -> bool:
        rows = [Row(one.id, one.raw, None) for one in some]
        if self._lease is None:
            if kind == "relationship":
                for row in rows:
                    self._leaving.let_go(row)
            return True
        if not self._lease.held:
            self._ready()
        entries = [_entry(kind, one, "deleted") for one in some]
        return self._lease.send(kind, ("delete", shape), rows, entries)

    def _retain(self, kind: Kind, kept: list[_Gone]) -> None:
        if self._lease is not None:
            self._lease.note(kind, [_entry(kind, one, "retained") for one in kept])
        for one in kept:
            self._count_retained(kind, one.id, one.reason)

    def _give_up(self, kind: Kind, identity: str) -> None:
        if self._lease is not None:
            self._lease.note(kind, [Entry(kind, identity, "retained", reason=_OTHERS_WRITE)])
        self._count_retained(kind, identity, _OTHERS_WRITE)

    def _count_retained(self, kind: Kind, identity: str, reason: str) -> None:
        self._run.counts[kind]["retained"] += 1
        self._run.find(kind, identity, "retained", "", reason)


def _entry(kind: Kind, one: _Gone, action: str) -> Entry:
    """Return what is journalled: a deleted record's stored form is what a rollback makes again."""
    before = digest_if_any(one.record)
    if action != "deleted":
        return Entry(kind, one.id, action, before, reason=one.reason)
    bumped = None if isinstance(one.record, Corrupt) else bumped_text(one.record)
    return Entry(kind, one.id, action, before, None, dump_raw(one.raw), bumped=bumped)

"""Comparison by digest: after a run, any time later, or of two stores without a run.

Classes (docs/explanation/sync.md): *matched*; *missing* and *different* fail; *changing* = the source moved on;
*foreign* = others changed the target.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from journal.chain import Entry
from migrator.ahead import called_ahead
from migrator.model import KINDS, READ_BUMPED_FIELDS, Corrupt, Memory, Relationship, differing_fields, digest
from migrator.models import Finding, VerificationResult
from migrator.plan import bumped_of, bumped_text, bumped_values, digest_if_any, is_written
from migrator.reading import Later
from migrator.scan import MAX_FINDINGS

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

    from journal.chain import StoredEntry
    from journal.store import Journal
    from migrator.backends.base import Backend, Digested, Raw, Source
    from migrator.hooks import Hooks
    from migrator.lease import Lease
    from migrator.model import Kind, Record

_IN_SCOPE = frozenset({"created", "updated", "unchanged"})
_DELETED = frozenset({"deleted"})
_MANGLED = frozenset({"different", "missing"})  #: what a failed verification journalled after the write


class Expected(NamedTuple):
    """What the journal says of one record in the run's scope."""

    action: str
    before_digest: str | None
    after_digest: str | None
    bumped: Mapping[str, object] | None = None


def expected_of(entry: StoredEntry) -> Expected:
    """Return what an entry says."""
    return Expected(entry.action, entry.before_digest, entry.after_digest, bumped_of(entry))


@dataclass(slots=True)
class Tally:
    """Counts and findings while a verification runs."""

    matched: int = 0
    different: int = 0
    missing: int = 0
    foreign: int = 0
    changing: int = 0
    findings: list[Finding] = field(default_factory=list)

    def add(self, what: str, kind: Kind, identity: str, reason: str = "", fields: str = "") -> None:
        """Count one record that is not matched."""
        setattr(self, what, getattr(self, what) + 1)
        if len(self.findings) < MAX_FINDINGS:
            self.findings.append(Finding(kind=kind, id=identity, what=what, field=fields, reason=reason))

    def result(self) -> VerificationResult:
        """Return the outcome: only missing and different fail."""
        return VerificationResult(
            status="failed" if self.missing or self.different else "passed",
            matched=self.matched,
            different=self.different,
            missing=self.missing,
            foreign=self.foreign,
            changing=self.changing,
            findings=tuple(self.findings),
        )


def _wanted(records: Iterable[Record]) -> dict[str, Relationship | None]:
    return {record.id: record if isinstance(record, Relationship) else None for record in records}


def _only_bumped(record: Record, target: Record | Corrupt) -> bool:
    """Return whether two records differ only in what reading a memory changes in the target."""
    if isinstance(target, Corrupt) or not isinstance(record, Memory):
        return False
    return set(differing_fields(record, target)) <= READ_BUMPED_FIELDS


def _fields(one: Record, other: Record | Corrupt | None) -> str:
    return "" if other is None or isinstance(other, Corrupt) else ", ".join(differing_fields(one, other))


class InRun:
    """The verification inside a run: the source, read anew, against the target, under the marker."""

    def __init__(
        self,
        source: Source,
        target: Backend,
        *,
        planned: Callable[[Kind, list[str]], Mapping[str, Expected]],
        out_of_scope: Mapping[Kind, set[str]],
        in_scope: Mapping[Kind, int],
        written: Callable[[Kind], Iterator[dict[str, Expected]]],
        deleted: Callable[[Kind], Iterator[dict[str, Expected]]],
        lease: Lease | None,
        same_server: Callable[[], bool],
        hooks: Hooks,
        size: int,
    ) -> None:
        self._source = source
        self._target = target
        self._planned = planned
        self._out_of_scope = out_of_scope
        self._in_scope = in_scope
        self._written = written
        self._deleted = deleted
        self._lease = lease
        self._same_server = same_server
        self._hooks = hooks
        self._size = size
        self._tally = Tally()
        #: What does not read back as it was written, or is missing: for the journal.
        self.odd: list[Entry] = []
        #: (kind, id, reason) of what moved on in the source since it was read.
        self.changing: list[tuple[Kind, str, str]] = []

    def __call__(self) -> VerificationResult:
        """Compare every record in the run's scope, every property, by digest."""
        self._source.release_snapshot()
        for kind in KINDS:
            seen = self._compare_all(kind)
            gone = self._in_scope[kind] - seen
            if gone > 0:
                # The source lost records since they were imported: it moved on, which is no error.
                compared = self._compare_gone(kind)
                self._tally.changing += max(gone - compared, 0)
            for chunk in self._deleted(kind):
                self._hooks.check()
                self._compare_deleted(kind, chunk)
        return self._tally.result()

    def _compare_all(self, kind: Kind) -> int:
        seen = 0
        look_up, overlaps = partial(self._looked_up, kind), self._target.overlaps
        for inside, there in called_ahead(look_up, self._inside(kind), overlaps=overlaps):
            odd = [item for item in inside if there.get(item.id) != item.digest]
            self._tally.matched += len(inside) - len(odd)
            seen += len(inside) - len(odd)
            if odd:
                seen += self._resolve(kind, odd)
            self._hooks.report("verify", kind, seen, self._in_scope[kind])
        return seen

    def _inside(self, kind: Kind) -> Iterator[list[Digested]]:
        outside = self._out_of_scope[kind]
        for chunk in self._source.scan_digests(kind, self._size):
            self._hooks.check()
            yield [item for item in chunk if item.id not in outside] if outside else chunk

    def _looked_up(self, kind: Kind, items: list[Digested]) -> dict[str, str]:
        return self._target.lookup_digests(kind, {item.id: item.hint for item in items})

    def _resolve(self, kind: Kind, odd: list[Digested]) -> int:
        entries = self._planned(kind, [item.id for item in odd])
        there = self._target.lookup(kind, {item.id: item.hint for item in odd})
        seen = 0
        for record in self._records(kind, odd):
            entry = entries.get(record.id)
            if entry is None:
                self._moved(kind, record.id, "new in the source since it was read")
                continue
            if entry.action not in _IN_SCOPE:
                continue
            seen += 1
            self._classify(kind, record, entry, there.get(record.id))
        return seen

    def _records(self, kind: Kind, items: list[Digested]) -> Iterator[Record]:
        """Yield the records; one that has gone from the source, or cannot be read any more, is counted as gone."""
        raws = self._source.lookup(kind, {item.id: item.hint for item in items if item.record is None})
        for item in items:
            raw = raws.get(item.id)
            record = self._source.form.decode(kind, raw) if item.record is None and raw is not None else item.record
            if record is not None and not isinstance(record, Corrupt):
                yield record

    def _classify(self, kind: Kind, record: Record, entry: Expected, raw: Raw | None) -> None:
        add = self._tally.add
        if raw is None:
            if self._same_server():
                add("foreign", kind, record.id, "deleted by someone else after it had been written")
            else:
                self.odd.append(Entry(kind, record.id, "missing", None, None))
                add("missing", kind, record.id, "not in the target")
            return
        target = self._target.form.decode(kind, raw)
        now = digest_if_any(target)
        if now == digest(record) or _only_bumped(record, target):
            self._tally.matched += 1
        elif now == entry.after_digest:
            self._moved(kind, record.id, "the source moved on", _fields(record, target))
        elif now == entry.before_digest or (echoed := self._echo(kind, record)) != digest(record):
            # Ours is what the engine makes of it each time; anything else may be somebody's work on top of that.
            ours = now == entry.before_digest or _is_that(target, echoed, record)
            bumped = bumped_text(target) if ours and not isinstance(target, Corrupt) else None
            self.odd.append(Entry(kind, record.id, "different", None, now if ours else None, bumped=bumped))
            add("different", kind, record.id, "does not read back as it was written", _fields(record, target))
        else:
            add("foreign", kind, record.id, "changed by someone else", _fields(record, target))

    def _moved(self, kind: Kind, identity: str, reason: str, fields: str = "") -> None:
        self.changing.append((kind, identity, reason))
        self._tally.add("changing", kind, identity, reason, fields)

    def _compare_gone(self, kind: Kind) -> int:
        """Compare what the journal says was written and the source no longer has; return how many those were."""
        found = 0
        for chunk in self._written(kind):
            there = self._source.lookup(kind, dict.fromkeys(chunk))
            gone = {identity: entry for identity, entry in chunk.items() if identity not in there}
            raws = self._target.lookup(kind, dict.fromkeys(gone))
            for identity, entry in gone.items():
                raw = raws.get(identity)
                self._classify_gone(kind, identity, entry, None if raw is None else self._target.form.decode(kind, raw))
            found += len(gone)
        return found

    def _classify_gone(self, kind: Kind, identity: str, entry: Expected, target: Record | Corrupt | None) -> None:
        add = self._tally.add
        if target is None:
            what = "foreign" if self._same_server() else "missing"
            add(what, kind, identity, "gone from the source, and from the target")
        elif not isinstance(target, Corrupt) and is_written(target, entry.after_digest, entry.bumped):
            self._moved(kind, identity, "gone from the source")
        elif digest_if_any(target) == entry.before_digest:
            add("different", kind, identity, "gone from the source, and was never written")
        else:
            add("foreign", kind, identity, "gone from the source, and changed by someone else in the target")

    def _compare_deleted(self, kind: Kind, chunk: Mapping[str, Expected]) -> None:
        """Compare what the run deleted: it must be absent."""
        back = self._source.lookup(kind, dict.fromkeys(chunk))
        there = self._target.lookup(kind, dict.fromkeys(chunk))
        for identity, entry in chunk.items():
            raw = there.get(identity)
            now = None if raw is None else digest_if_any(self._target.form.decode(kind, raw))
            if identity in back:
                self._moved(kind, identity, "there again in the source since it was deleted")
            elif raw is None:
                self._tally.matched += 1
            elif now == entry.before_digest:
                self.odd.append(Entry(kind, identity, "different", None, now))
                self._tally.add("different", kind, identity, "was deleted, and is still there")
            else:
                self._tally.add("foreign", kind, identity, "made again by someone else after it had been deleted")

    def _echo(self, kind: Kind, record: Record) -> str | None:
        """Return the digest of the record written once more, to a scratch place: what the engine makes of it."""
        marker = None if self._lease is None else self._lease.echo_marker()
        if marker is None:
            return digest(record)  # nothing was written by this run: what stands there is somebody else's
        raw = self._target.echo(kind, self._target.form.encode(record), marker)
        return None if raw is None else digest_if_any(self._target.form.decode(kind, raw))


def _is_that(target: Record | Corrupt, written: str | None, record: Record) -> bool:
    return not isinstance(target, Corrupt) and is_written(target, written, bumped_values(record))


def verify_later(
    journal: Journal, run_id: str, source: Backend | None, target: Backend, hooks: Hooks, size: int
) -> VerificationResult:
    """Compare what a run's journal says with both stores, any time later; writes nothing.

    ``source`` None = it cannot be reached: then only the target is compared with the journal.
    """
    tally, opened = Tally(), journal.state(run_id).opened
    by_id = Later(source, target, journal.bases(opened.pair), size) if source is not None and opened else None
    for kind in KINDS:
        done = 0
        for chunk in _later_scope(journal, run_id, kind, by_id, size):
            hooks.check()
            _compare_later(kind, chunk, by_id, target, tally)
            done += len(chunk)
            hooks.report("verify", kind, done, None)
    return tally.result()


def _later_scope(
    journal: Journal, run_id: str, kind: Kind, source: Later | None, size: int
) -> Iterator[dict[str, Expected]]:
    """Yield the run's rows in chunks; a run without rows found all equal, so what it read is its scope."""
    if source is not None and not journal.state(run_id).batches:
        for found in source.bases(kind):
            yield {i: Expected("unchanged", None, b.digest, b.bumped) for i, b in found.items() if b.digest}
        return
    yield from written_rows(journal, run_id, kind, size, _IN_SCOPE | _MANGLED | _DELETED)


def written_rows(
    journal: Journal, run_id: str, kind: Kind, size: int, actions: Collection[str] = _IN_SCOPE | _MANGLED
) -> Iterator[dict[str, Expected]]:
    """Yield what stands of a run's rows of some actions, in chunks; by default what must be in the target."""
    chunk: dict[str, Expected] = {}
    for entry in journal.applied_entries(run_id, kind):
        if entry.action in actions:
            chunk[entry.entity_id] = expected_of(entry)
        if len(chunk) >= size:
            yield chunk
            chunk = {}
    if chunk:
        yield chunk


def deleted_rows(journal: Journal, run_id: str, kind: Kind, size: int) -> Iterator[dict[str, Expected]]:
    """Yield what stands of a run's deletions, in chunks; nothing is read where the run made none."""
    made = journal.state(run_id).counts().get(kind, {})
    return written_rows(journal, run_id, kind, size, _DELETED) if made.get("deleted") else iter(())


def _compare_later(
    kind: Kind, chunk: Mapping[str, Expected], source: Later | None, target: Backend, tally: Tally
) -> None:
    sources = {} if source is None else source.records(kind, chunk)
    hints = {i: record if isinstance(record, Relationship) else None for i, record in sources.items()}
    there = target.lookup(kind, {identity: hints.get(identity) for identity in chunk})
    for identity, entry in chunk.items():
        raw = there.get(identity)
        if entry.action in _DELETED:
            _compare_deleted_later(kind, identity, tally, back=identity in sources, there=raw is not None)
            continue
        if raw is None:
            tally.add("missing", kind, identity, "not in the target")
            continue
        record = target.form.decode(kind, raw)
        if isinstance(record, Corrupt):
            tally.add("different", kind, identity, record.reason)
        elif entry.action in _MANGLED and (source is None or digest_if_any(sources.get(identity)) != digest(record)):
            tally.add("different", kind, identity, "did not read back as it was written, when the run was verified")
        elif entry.action in _MANGLED:
            tally.matched += 1
        elif not is_written(record, entry.after_digest, entry.bumped):
            tally.add("foreign", kind, identity, "changed in the target since the run")
        elif source is not None and digest_if_any(sources.get(identity)) != entry.after_digest:
            tally.add("changing", kind, identity, "changed in the source since the run")
        else:
            tally.matched += 1


def _compare_deleted_later(kind: Kind, identity: str, tally: Tally, *, back: bool, there: bool) -> None:
    if there:
        tally.add("foreign", kind, identity, "made again in the target since the run deleted it")
    elif back:
        tally.add("changing", kind, identity, "there again in the source since the run deleted it")
    else:
        tally.matched += 1


def verify_stores(source: Backend, target: Backend, hooks: Hooks, size: int) -> VerificationResult:
    """Compare two stores without a run: matched, different, missing; ``foreign`` counts the target's extras."""
    tally = Tally()
    inventory, theirs = source.inventory(), target.inventory()
    for kind in KINDS:
        total = inventory.memories if kind == "memory" else inventory.relationships
        found = 0
        done = 0
        for chunk in source.scan(kind, size):
            hooks.check()
            records = [item for item in chunk if not isinstance(item, Corrupt)]
            for bad in chunk:
                if isinstance(bad, Corrupt):
                    tally.add("different", kind, bad.id, f"the source's record cannot be read: {bad.reason}")
            there = target.lookup(kind, _wanted(records))
            found += len(there)
            for record in records:
                raw = there.get(record.id)
                if raw is None:
                    tally.add("missing", kind, record.id, "not in the target")
                    continue
                other = target.form.decode(kind, raw)
                if digest_if_any(other) == digest(record):
                    tally.matched += 1
                else:
                    tally.add("different", kind, record.id, "", _fields(record, other))
            done += len(chunk)
            hooks.report("verify", kind, done, total)
        extras = (theirs.memories if kind == "memory" else theirs.relationships) - found
        tally.foreign += max(extras, 0)
    return tally.result()

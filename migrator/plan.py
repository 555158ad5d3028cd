"""What a run decides per record, and how the writes are grouped. Pure over what was read (docs/explanation/sync.md)."""

from __future__ import annotations

import json
import marshal
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from journal.chain import Entry
from migrator.backends.base import Row
from migrator.codec import dump_raw
from migrator.model import (
    READ_BUMPED_FIELDS,
    Corrupt,
    Memory,
    Relationship,
    differing_fields,
    digest,
    encode,
    field_digests,
)
from migrator.times import parse_time

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import datetime

    from journal.bases import Base
    from journal.chain import StoredEntry
    from migrator.backends.base import Form, Operation, Raw
    from migrator.model import Kind, Record
    from migrator.models import ConflictPolicy

DecidedAction = Literal["created", "updated", "unchanged", "conflict", "foreign"]

DELETED_IN_TARGET = "deleted in the target"
#: No edge has an ``updated_at``; invalidating one sets ``valid_until`` alone.
_EDGE_CHANGES = ("created_at", "last_validated", "recorded_at", "valid_until")
END_IS_MISSING = "an end is not in the target"


@dataclass(frozen=True, slots=True)
class Planned:
    """One record's decision. ``row`` and ``group`` are None where nothing is written."""

    record: Record
    action: str
    entry: Entry | None  #: None: nothing to journal (unchanged, and the journal knows it already)
    row: Row | None = None
    group: tuple[Operation, str] | None = None  #: operation and shape: what a batch has in common (I8)


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What was read about one record beside the source: the target's record and digest, and the pair's base."""

    target: Record | Corrupt | None
    target_digest: str | None
    base: Base | None
    pair: str = ""  #: this one, for people
    rivals: frozenset[str] = frozenset()  #: other pairs of this journal that hold the id in this target


def _older(record: Record, than: Record) -> bool:
    mine, theirs = (parse_time(one.properties.get("updated_at")) for one in (record, than))
    return mine is not None and theirs is not None and mine < theirs


def _same_place(record: Record, target: Record) -> bool:
    return not isinstance(record, Memory) or (isinstance(target, Memory) and set(record.labels) == set(target.labels))


def decide(record: Record, source_digest: str, known: Known) -> tuple[DecidedAction, str]:  # noqa: C901 - a table
    """Return the table's decision for one record, before the conflict policy, and the reason of a conflict."""
    target, base = known.target, known.base
    if target is None:
        return ("created", "") if base is None else ("conflict", DELETED_IN_TARGET)
    if isinstance(target, Corrupt):
        return "conflict", f"the target's record cannot be read: {target.reason}"
    if known.target_digest == source_digest:
        return "unchanged", ""
    fields = differing_fields(record, target)
    named = "differs in " + ", ".join(fields)
    if not _same_place(record, target):
        return "conflict", f"stands in the target under the label {':'.join(target.labels)}"  # type: ignore[union-attr]
    if known.rivals:
        return "conflict", f"{named}; sources differ: {known.pair} and {', '.join(sorted(known.rivals))}"
    if base is None:
        return "conflict", named
    if source_digest == base.digest:
        if set(fields) <= READ_BUMPED_FIELDS:
            return "unchanged", ""
        # What was open stays open until both sides are equal or someone has decided.
        return ("foreign" if base.open is None else "conflict"), f"changed in the target: {named}"
    if not is_written(target, base.digest, base.bumped):
        return "conflict", f"changed on both sides: {named}"
    if _older(record, target):
        return "conflict", "source is older"
    return "updated", ""


def newer_side(source: Record, target: Record) -> Literal["source", "target"] | None:
    """Return which of two records that differ was changed last, by its own times; None where they do not say."""
    mine, theirs = _last_change(source), _last_change(target)
    if mine is None or theirs is None or mine == theirs:
        return None
    return "source" if mine > theirs else "target"


def _last_change(record: Record) -> datetime | None:
    names = ("updated_at",) if isinstance(record, Memory) else _EDGE_CHANGES
    times = (parse_time(record.properties.get(name)) for name in names)
    return max((moment for moment in times if moment is not None), default=None)


def digest_if_any(record: Record | Corrupt | None) -> str | None:
    """Return the digest of a record; None where there is none, or none that can be read."""
    return None if record is None or isinstance(record, Corrupt) else digest(record)


def is_written(record: Record, written_digest: str | None, bumped: Mapping[str, object] | None) -> bool:
    """Return whether a record is what was written, but for the fields that reading a memory bumps.

    ``bumped`` holds the values that those fields had when it was written.
    """
    if digest(record) == written_digest:
        return True
    if not isinstance(record, Memory) or bumped is None:
        return False
    kept = {name: value for name, value in record.properties.items() if name not in READ_BUMPED_FIELDS}
    return digest(Memory(record.id, record.labels, {**kept, **bumped})) == written_digest


def bumped_values(record: Record) -> dict[str, object] | None:
    """Return the values of the fields that reading bumps, for the journal; None for an edge."""
    if not isinstance(record, Memory):
        return None
    return {name: record.properties[name] for name in READ_BUMPED_FIELDS if name in record.properties}


def bumped_of(entry: StoredEntry) -> dict[str, object] | None:
    """Return the values that an entry's record had in the fields that reading bumps, as it was written."""
    return None if entry.bumped is None else dict(json.loads(entry.bumped))


def fields_to_write(record: Record, known: Known) -> list[str]:
    """Return the fields in which the target is to become the source, key by key.

    The fields that reading bumps are written only where the source changed them since the base.
    """
    assert known.target is not None  # noqa: S101 - an update has a target
    assert not isinstance(known.target, Corrupt)  # noqa: S101 - neither a corrupt one
    fields = differing_fields(record, known.target)
    before = known.base.bumped if known.base is not None else None
    if before is None or not isinstance(record, Memory):
        return fields
    same_as_base = {name for name in READ_BUMPED_FIELDS if record.properties.get(name) == before.get(name)}
    return [name for name in fields if name not in same_as_base]


class Planner:
    """Turns records of one kind and what was read about them into rows and journal entries."""

    def __init__(self, form: Form, policy: ConflictPolicy, pair: str = "") -> None:
        self._form = form
        self._pair = pair
        self._policy = policy

    def create(self, kind: Kind, record: Record, source_digest: str) -> Planned:
        """Return the plan for a record that is absent."""
        raw = self._form.encode(record)
        entry = Entry(kind, record.id, "created", None, source_digest, None, None, None, bumped_text(record))
        return Planned(record, "created", entry, Row(record.id, None, raw), ("create", self._form.shape(kind, raw)))

    def plan(self, kind: Kind, record: Record, raw: Raw | None, base: Base | None, rivals: frozenset[str]) -> Planned:
        """Return the plan for one record; ``raw`` is what the target holds under its id."""
        source_digest = digest(record)
        target = None if raw is None else self._form.decode(kind, raw)
        target_digest = digest_if_any(target)
        known = Known(target=target, target_digest=target_digest, base=base, pair=self._pair, rivals=rivals)
        action, reason = decide(record, source_digest, known)
        if action == "conflict":
            action, reason = self._by_policy(record, target, reason)
        if action == "created":
            return self.create(kind, record, source_digest)
        if action == "updated":
            assert raw is not None  # noqa: S101 - decided from a target that is there
            return self._update(kind, record, raw, known)
        if action == "unchanged" and raw is not None and self._respellable(kind, record, raw):
            return self._update(kind, record, raw, known, respell=True)
        if action == "unchanged":
            if base is not None and base.digest == source_digest and base.open is None:
                return Planned(record, action, None)
            entry = Entry(kind, record.id, action, target_digest, source_digest, None, None, None, bumped_text(record))
            return Planned(record, action, entry)
        if action == "foreign":
            return Planned(record, action, self._noted(kind, record, action, target_digest, source_digest, reason))
        return self.conflict(kind, record, target_digest, source_digest, reason)

    def _by_policy(self, record: Record, target: Record | Corrupt | None, reason: str) -> tuple[DecidedAction, str]:
        """Return what becomes of a conflict."""
        if target is None:
            return ("created", "") if self._policy == "overwrite" else ("conflict", reason)
        if isinstance(target, Corrupt) or not _same_place(record, target):
            return "conflict", reason
        newer = newer_side(record, target) if self._policy == "newest" else None
        if self._policy == "overwrite" or newer == "source":
            return "updated", ""
        return ("foreign", f"newer in the target: {reason}") if newer == "target" else ("conflict", reason)

    def _respellable(self, kind: Kind, record: Record, raw: Raw) -> bool:
        """Tell whether the client cannot read what is there, but could read the same record as it is written here."""
        readable = self._form.readable
        return not readable(kind, raw) and readable(kind, self._form.encode(record))

    def conflict(
        self,
        kind: Kind,
        record: Record,
        target_digest: str | None,
        source_digest: str,
        reason: str,
    ) -> Planned:
        """Return a conflict: left alone, reported, kept open."""
        entry = self._noted(kind, record, "conflict", target_digest, source_digest, reason)
        return Planned(record, "conflict", entry)

    @staticmethod
    def _noted(
        kind: Kind,
        record: Record,
        action: str,
        target_digest: str | None,
        source_digest: str,
        reason: str,
    ) -> Entry:
        return Entry(kind, record.id, action, target_digest, source_digest, None, None, reason, None)

    def _update(self, kind: Kind, record: Record, raw: Raw, known: Known, *, respell: bool = False) -> Planned:
        source = self._form.encode(record)
        fields = sorted(field_digests(record)) if respell else fields_to_write(record, known)
        new = self._form.graft(kind, raw, source, fields)
        after = self._form.decode(kind, new)
        assert not isinstance(after, Corrupt)  # noqa: S101 - made of two forms that decode
        digests = field_digests(after)
        written = json.dumps({name: digests.get(name) for name in fields}, sort_keys=True)
        entry = Entry(
            kind,
            record.id,
            "updated",
            known.target_digest,
            digest(record),
            dump_raw(raw),
            written,
            None,
            bumped_text(record),
        )
        moved = isinstance(record, Relationship) and {":type", ":from", ":to"} & set(fields)
        if moved and (problems := self._form.problems(known.target)):  # type: ignore[arg-type] # not Corrupt, as above
            # It would be deleted and made anew, and a rollback could not make the old one again.
            reason = f"what stands there could not be put back: {problems[0].reason}"
            return self.conflict(kind, record, known.target_digest, digest(record), reason)
        operation: Operation = "replace" if moved else "update"
        return Planned(record, "updated", entry, Row(record.id, raw, new), (operation, self._form.shape(kind, new)))


#: What ``encode`` writes as the standard library does, and faster; NaN it would write as null.
_PLAIN = frozenset({str, int})


def bumped_text(record: Record) -> str | None:
    """Return :func:`bumped_values` as JSON; None where they have none."""
    values = bumped_values(record)
    if values is None:
        return None
    try:
        return encode(values).decode() if _PLAIN.issuperset(map(type, values.values())) else json.dumps(values)
    except TypeError:
        return None


@dataclass(slots=True)
class Groups:
    """Collects plans until a homogeneous batch is full; bounded by ``limit`` over all groups.

    ``most_bytes``: a batch is full, too, when its values come to so many, about; 0 = never.
    """

    size: int
    limit: int
    most_bytes: int = 0
    _weights: Counter[tuple[Operation, str]] = field(default_factory=Counter)
    _groups: dict[tuple[Operation, str], list[Planned]] = field(default_factory=dict)
    _held: int = 0

    def add(self, planned: Planned) -> Iterator[tuple[tuple[Operation, str], list[Planned]]]:
        """Take one plan; yield the groups that are full now, or the largest where too much is held."""
        assert planned.group is not None  # noqa: S101 - only writing plans are grouped
        group = self._groups.setdefault(planned.group, [])
        group.append(planned)
        self._held += 1
        if self.most_bytes and planned.row is not None:
            self._weights[planned.group] += len(marshal.dumps(planned.row.new))  # the fastest to tell it
        if len(group) >= self.size or self._weights[planned.group] > self.most_bytes > 0:
            yield self._take(planned.group)
        elif self._held >= self.limit:
            yield self._take(max(self._groups, key=lambda key: len(self._groups[key])))

    def flush(self) -> Iterator[tuple[tuple[Operation, str], list[Planned]]]:
        """Yield what is left, in the order in which the groups began."""
        for key in list(self._groups):
            yield self._take(key)

    def _take(self, key: tuple[Operation, str]) -> tuple[tuple[Operation, str], list[Planned]]:
        taken = self._groups.pop(key)
        self._weights.pop(key, None)
        self._held -= len(taken)
        return key, taken


def counts_of(entries: Sequence[Entry]) -> dict[str, int]:
    """Return how many entries there are of each action."""
    return dict(Counter(entry.action for entry in entries))

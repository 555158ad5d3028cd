"""The scan before the first write: everything that cannot be moved exactly is found here and named."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from migrator.errors import LimitHit, StoreRefused
from migrator.model import KINDS, Corrupt, Relationship
from migrator.models import Finding, ValidationResult

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from migrator.backends.base import Backend, Form, Inventory, Source
    from migrator.hooks import Hooks
    from migrator.model import Kind, Record
    from migrator.reading import Reading

MAX_FINDINGS = 100


@dataclass(slots=True)
class Scanned:
    """What the scan found. ``quarantined`` holds every id that cannot be moved, per kind, with field and reason.

    Memory: one string per memory id of the source, while the scan runs, to find dangling relationships.
    """

    inventory: Inventory
    quarantined: dict[Kind, dict[str, tuple[str, str]]] = field(
        default_factory=lambda: {"memory": {}, "relationship": {}}
    )
    #: Every id that was read, in whatever state, None for those that cannot be read; where it was asked for, and the
    #: whole source was read.
    present: dict[Kind, set[str | None]] | None = None
    #: Of edges without id: the id made of one now → the id that the pair knows it by.
    known_as: Mapping[str, str] = field(default_factory=dict)
    empty: bool = False  #: the source holds no memories
    read: dict[Kind, int] = field(default_factory=lambda: {"memory": 0, "relationship": 0})
    warnings: list[str] = field(default_factory=list)

    def rename(self, known_as: Mapping[str, str]) -> None:
        """Call edges without id what the pair calls them."""
        self.known_as = known_as
        edges = self.quarantined["relationship"]
        for made, known in known_as.items():
            if made in edges:
                edges[known] = edges.pop(made)
            if self.present is not None:
                self.present["relationship"].discard(made)
                self.present["relationship"].add(known)

    def result(self) -> ValidationResult:
        """Return the findings for people, at most ``MAX_FINDINGS`` of them named."""
        found = [
            Finding(kind=kind, id=identity, what="quarantined", field=name, reason=reason)
            for kind in KINDS
            for identity, (name, reason) in self.quarantined[kind].items()
        ]
        return ValidationResult(
            memories=self.read["memory"],
            relationships=self.read["relationship"],
            problems=len(found),
            findings=tuple(found[:MAX_FINDINGS]),
            warnings=tuple(self.warnings),
        )


#: A source without snapshots may be written to between its count and its scan: then both are done again.
_SCANS = 3


def scan_source(source: Reading, target: Backend, size: int, hooks: Hooks, *, listing: bool = False) -> Scanned:
    """Read once what the run is to read, and check every record against what the target can hold.

    ``listing``: ``present`` is wanted, for deletions. Raises StoreRefused (LimitHit where listing) where the source's
    own count is not what was read, StoreRefused where an id stands twice.
    """
    for _ in range(_SCANS):
        scanned = _scan(source, target.form, size, hooks, listing=listing)
        counted: dict[Kind, int] = {
            "memory": scanned.inventory.memories,
            "relationship": scanned.inventory.relationships,
        }
        if source.interval is not None or scanned.read == counted:
            source.match(target)
            scanned.rename(source.known_as)
            if source.interval is None:
                _warn(scanned)
            return scanned
    raise _short(counted, scanned.read, listing=listing)


def _short(counted: dict[Kind, int], read: dict[Kind, int], *, listing: bool) -> StoreRefused | LimitHit:
    msg = f"the source counts {_pair(counted)}, but {_pair(read)} could be read"
    hint = "is another client writing to it? start again later; nothing was written"
    return LimitHit(msg, hint=hint) if listing else StoreRefused(msg, hint=hint)


def counted_ids(source: Source, size: int, hooks: Hooks, known_as: Mapping[str, str]) -> dict[Kind, set[str | None]]:
    """Return every id of the source, in whatever state the record is, None for those that cannot be read.

    LimitHit where its count is not what was read. ``known_as``: see :class:`Scanned`.
    """
    for _ in range(_SCANS):
        inventory = source.inventory()
        counted: dict[Kind, int] = {"memory": inventory.memories, "relationship": inventory.relationships}
        read: dict[Kind, int] = dict.fromkeys(KINDS, 0)
        present: dict[Kind, set[str | None]] = {kind: set() for kind in KINDS}
        for kind in KINDS:
            for chunk in source.scan(kind, size):
                hooks.check()
                present[kind].update(
                    known_as.get(name, name) if name is not None else None for name in map(_name, chunk)
                )
                read[kind] += len(chunk)
        if read == counted:
            return present
    raise _short(counted, read, listing=True)


def _pair(counts: dict[Kind, int]) -> str:
    return f"{counts['memory']} memories and {counts['relationship']} relationships"


def _scan(source: Reading, form: Form, size: int, hooks: Hooks, *, listing: bool) -> Scanned:
    inventory = source.inventory()
    for kind in KINDS:
        duplicates = inventory.duplicates.get(kind, ())
        if duplicates:
            msg = f"{len(duplicates)} {kind} ids stand more than once in the source: {', '.join(duplicates[:5])}"
            raise StoreRefused(msg, hint="give each its own id, then start again; nothing was written")
    whole = source.interval is None
    present: dict[Kind, set[str | None]] | None = {kind: set() for kind in KINDS} if listing and whole else None
    scanned = Scanned(inventory=inventory, present=present, empty=source.empty)
    source.begin()
    ids, lost_beside = source.ends_beside(form, size)
    for record in _records(source, form, "memory", size, hooks, scanned):
        ids.add(record.id)
    lost = scanned.quarantined["memory"]
    for edge in _records(source, form, "relationship", size, hooks, scanned):
        assert isinstance(edge, Relationship)  # noqa: S101 - by the kind that was asked for
        for end, name in ((edge.from_id, ":from"), (edge.to_id, ":to")):
            if end not in ids or end in lost:
                unmovable = end in lost or end in lost_beside
                reason = "its memory is quarantined" if unmovable else "dangling: its memory is not in the source"
                scanned.quarantined["relationship"].setdefault(edge.id, (name, f"{reason}: {end}"))
    return scanned


def _records(source: Reading, form: Form, kind: Kind, size: int, hooks: Hooks, scanned: Scanned) -> Iterator[Record]:
    total = scanned.inventory.memories if kind == "memory" else scanned.inventory.relationships
    quarantined = scanned.quarantined[kind]
    for chunk in source.scan(kind, size):
        hooks.check()
        if scanned.present is not None:
            scanned.present[kind].update(map(_name, chunk))
        source.see(kind, chunk)
        for item in chunk:
            if isinstance(item, Corrupt):
                quarantined[item.id] = ("", item.reason)
                continue
            found = unstorable(form, item)
            if found is not None:
                quarantined[item.id] = found
            yield item
        scanned.read[kind] += len(chunk)
        hooks.report("scan", kind, scanned.read[kind], total)


def unstorable(form: Form, record: Record) -> tuple[str, str] | None:
    """Return the field and the reasons for which a form cannot hold a record exactly; None where it can."""
    problems = form.problems(record)
    # Several fields may have one reason.
    return (problems[0].field, "; ".join(dict.fromkeys(one.reason for one in problems))) if problems else None


def _name(item: Record | Corrupt) -> str | None:
    return None if isinstance(item, Corrupt) and not item.named else item.id


def _warn(scanned: Scanned) -> None:
    inventory = scanned.inventory
    if inventory.other_nodes or inventory.other_relationships:
        labels = ", ".join(f"{count} {label}" for label, count in sorted(inventory.other_nodes.items()))
        scanned.warnings.append(
            f"left out: {labels or 'no nodes'} and {inventory.other_relationships} relationships at them"
            " (--all-labels carries them)"
        )
    if not inventory.memories:
        scanned.warnings.append("the source holds no memories")

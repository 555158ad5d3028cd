"""What one run works with: both stores, the journal, what it is to do, and what was counted of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from migrator.deletions import Absent
from migrator.lease import Lease
from migrator.model import KINDS
from migrator.models import Finding, no_counts
from migrator.scan import MAX_FINDINGS

if TYPE_CHECKING:
    from journal.store import Journal
    from migrator.backends.base import Backend
    from migrator.hooks import Hooks
    from migrator.model import Kind
    from migrator.models import MigrationOptions
    from migrator.reading import Reading
    from migrator.resume import Phase
    from migrator.scan import Scanned
    from migrator.sync import Scope


@dataclass(slots=True, kw_only=True)
class Run:
    """Everything one run works with; made by the manager."""

    journal: Journal | None  #: None: there is none yet, and this is a dry run
    run_id: str
    pair: str
    target_store: str
    source: Reading
    scope: Scope
    target: Backend
    options: MigrationOptions
    hooks: Hooks
    scanned: Scanned
    owner: str
    target_was_empty: bool
    resumed: bool = False  #: whether an earlier pass has decided some of it, which this one does not read again
    absent: Absent = field(default_factory=Absent)  #: what --delete is about
    counts: dict[Kind, dict[str, int]] = field(default_factory=lambda: {kind: no_counts() for kind in KINDS})
    findings: list[Finding] = field(default_factory=list)
    changing: int = 0  #: findings of that kind, of which the result may not name any
    warnings: list[str] = field(default_factory=list)
    out_of_scope: dict[Kind, set[str]] = field(default_factory=lambda: {kind: set() for kind in KINDS})

    def reset(self) -> None:
        """Forget what was counted: the source is about to be read from its beginning."""
        for kind in KINDS:
            self.counts[kind] = no_counts()
            self.out_of_scope[kind] = set()
        self.findings.clear()
        self.changing = 0
        skipped = self.scanned.inventory
        self.counts["memory"]["skipped"] = sum(skipped.other_nodes.values())
        self.counts["relationship"]["skipped"] = skipped.other_relationships
        self.counts["memory"]["read"] = self.counts["memory"]["skipped"]
        self.counts["relationship"]["read"] = self.counts["relationship"]["skipped"]

    def count(self, kind: Kind, action: str) -> None:
        """Count one id that was read and decided."""
        counts = self.counts[kind]
        counts["read"] += 1
        counts[action] += 1

    def find(self, kind: Kind, identity: str, what: str, name: str, reason: str) -> None:
        """Keep a finding for the result; the journal has them all."""
        self.out_of_scope[kind].add(identity)
        self.changing += what == "changing"
        if len(self.findings) < MAX_FINDINGS:
            self.findings.append(Finding(kind=kind, id=identity, what=what, field=name, reason=reason))

    @property
    def batch_size(self) -> int:
        """The number of records in a batch: as asked for, else as the target likes it."""
        return self.options.batch_size or self.target.batch_size

    @property
    def history(self) -> Journal:
        """The journal of a run that writes."""
        assert self.journal is not None  # noqa: S101 - only a dry run may lack one
        return self.journal

    def lease(self, phase: Phase = "forward") -> Lease:
        """Return a new lease on the target."""
        return Lease(
            self.history,
            self.run_id,
            self.target,
            phase,
            owner=self.owner,
            require_durable=self.options.require_durable,
            monotonic=self.hooks.monotonic,
        )

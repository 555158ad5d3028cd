"""The verification of a run: what is compared, what the journal keeps of it, and when the run has failed by it."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from journal import events
from journal.chain import Entry
from migrator.errors import VerificationFailed
from migrator.model import KINDS
from migrator.models import VerificationResult, verification_counts
from migrator.verify import Expected, InRun, deleted_rows, expected_of, written_rows

if TYPE_CHECKING:
    from migrator.lease import Lease
    from migrator.model import Kind
    from migrator.run import Run


def verify_run(run: Run, lease: Lease) -> VerificationResult:
    """Compare what the run brought and journal what was found; skipped with --no-verify."""
    if not run.options.verify:
        run.warnings.append("not verified (--no-verify)")
        return VerificationResult(status="skipped")
    state = run.history.state(run.run_id)
    if not run.resumed and not state.last_planned and state.identity == run.target.identity():
        return _told(run, _as_decided(run))
    run.history.index_run(run.run_id)
    bases = run.history.bases(run.pair, exclude=run.run_id)

    def planned(kind: Kind, ids: list[str]) -> dict[str, Expected]:
        known = {i: Expected("unchanged", None, base.digest) for i, base in bases.get(kind, ids).items()}
        return known | {i: expected_of(e) for i, e in run.history.decided(run.run_id, kind, ids).items()}

    scope = ("created", "updated", "unchanged")
    opened_on = state.identity
    compare = InRun(
        run.source,
        run.target,
        planned=planned,
        out_of_scope=run.out_of_scope,
        in_scope={kind: sum(run.counts[kind][key] for key in scope) for kind in KINDS},
        lease=lease if lease.held else None,
        written=lambda kind: written_rows(run.history, run.run_id, kind, run.batch_size),
        deleted=lambda kind: deleted_rows(run.history, run.run_id, kind, run.batch_size),
        same_server=lease.proves if lease.held else lambda: run.target.identity() == opened_on,
        hooks=run.hooks,
        size=run.batch_size,
    )
    verification = compare()
    for kind in KINDS:
        # A resume repairs these, and a rollback knows them for ours although they are not what was meant.
        lease.note(kind, [entry for entry in compare.odd if entry.kind == kind])
        # Open until a later run has seen both sides equal.
        moved = [(identity, reason) for one, identity, reason in compare.changing if one == kind]
        lease.note(kind, [Entry(kind, identity, "changing", reason=reason) for identity, reason in moved])
    return _told(run, verification)


def _as_decided(run: Run) -> VerificationResult:
    """Return the verification of a run that wrote nothing: what it read was compared by digest as it was decided."""
    return VerificationResult(status="passed", matched=sum(run.counts[kind]["unchanged"] for kind in KINDS))


def _told(run: Run, verification: VerificationResult) -> VerificationResult:
    """Say what was found, and journal it."""
    if verification.foreign:
        run.warnings.append(f"{verification.foreign} records were changed in the target by others during the run")
    if verification.changing:
        run.warnings.append(f"{verification.changing} records changed in the source during the run")
    run.history.append(
        run.run_id,
        events.VerifyResult(
            **verification_counts(verification), findings=[asdict(one) for one in verification.findings]
        ),
    )
    return verification


def refuse_failed(run: Run, verification: VerificationResult) -> None:
    """Raise VerificationFailed, with the run's findings led by the verification's, where it failed."""
    if verification.status != "failed":
        return
    run.findings[:0] = verification.findings
    first = verification.findings[0]
    msg = f"verification failed: {verification.missing} missing, {verification.different} different"
    msg += f"; first: {first.kind} {first.id} {first.field}".rstrip()
    raise VerificationFailed(msg, hint=f"`memmig journal show {run.run_id}` lists them")


def verification_of(event: events.VerifyResult) -> VerificationResult:
    """Return what the journal keeps of a verification; its findings are left out."""
    return VerificationResult(**verification_counts(event))

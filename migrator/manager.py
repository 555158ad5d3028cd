"""The phases of a run, over two stores and a journal. Synchronous core; ``MigrationManager`` is the async edge.

Every function raises an error of ``migrator.errors``. One that is raised after a run had begun carries the run's result
document as its attribute ``result``.
"""

from __future__ import annotations

import asyncio
import uuid
from contextlib import ExitStack
from dataclasses import asdict, fields, replace
from typing import TYPE_CHECKING, Any

from journal import events
from journal.chain import Entry
from journal.store import Journal
from migrator.checks import probe, run_unlock, run_verify, run_verify_stores
from migrator.engine import Forward, Run, persist
from migrator.errors import (
    ConflictFound,
    Interrupted,
    MemmigError,
    NoSuchRun,
    StoreRefused,
    TargetChanged,
    Unstorable,
    UsageError,
    VerificationFailed,
)
from migrator.hooks import Hooks
from migrator.model import KINDS
from migrator.models import MigrationOptions, MigrationResult, ValidationResult, VerificationResult
from migrator.places import default_journal
from migrator.scan import scan_source
from migrator.standing import kept_config, kept_options, open_run
from migrator.stores import Stores, code_version, config_of, connect, no_secrets, open_stores, owner_of, plain_config
from migrator.takeback import close_left, refuse_alien_marker, rollback_lease, rollback_of, run_rollback
from migrator.verify import Expected, InRun, expected_of, written_rows

if TYPE_CHECKING:
    from pathlib import Path

    from journal.state import RunState
    from migrator.lease import Lease
    from migrator.model import Kind
    from migrator.models import BackendConfig
    from migrator.scan import Scanned
    from migrator.stores import Secrets

__all__ = [
    "MigrationManager",
    "probe",
    "run_migrate",
    "run_resume",
    "run_rollback",
    "run_unlock",
    "run_validate",
    "run_verify",
    "run_verify_stores",
]

#: Written, journalled and read back again; measured with bench/run.py on 2 cores, SQLite and FalkorDB.
_WRITES_PER_SECOND = 12_000


def _result(run: Run, status: str, **changes: Any) -> MigrationResult:  # noqa: ANN401 - fields of the result
    counts = run.counts
    left = any(counts[kind][key] for kind in KINDS for key in ("conflict", "quarantined", "retained"))
    left = left or any(one.what == "changing" for one in run.findings)
    base = MigrationResult(
        run_id=run.run_id,
        status=status,  # type: ignore[arg-type]
        memories=counts["memory"],
        relationships=counts["relationship"],
        warnings=tuple(run.warnings),
        findings=tuple(run.findings),
        exit_code=10 if left else 0,
    )
    return replace(base, **changes)


# --- migrate and resume ---------------------------------------------------------------------------------------------


def run_migrate(
    source: BackendConfig,
    target: BackendConfig,
    options: MigrationOptions,
    *,
    journal_path: Path,
    hooks: Hooks | None = None,
    resume: bool | str = False,
) -> MigrationResult:
    """Move what ``source`` holds into ``target``; ``resume`` goes on with the pair's open run (or the one named).

    Raises UnfinishedRun where an open run stands in the way and ``resume`` was not asked for.
    """
    hooks = hooks or Hooks()
    options.validate()
    options = replace(options, on_conflict="skip") if options.skip_duplicates else options
    source = replace(source, all_labels=options.all_labels)
    target = replace(target, all_labels=options.all_labels)
    if options.dry_run:
        return _dry_run(source, target, options, journal_path, hooks)
    started, opened_at = hooks.monotonic(), hooks.clock()
    with ExitStack() as stack:
        # An existing journal is locked first, so that last night's run is noticed at once; a new one is made last, so
        # that bad input leaves no file behind.
        journal = stack.enter_context(Journal.open(journal_path)) if journal_path.exists() else None
        ends = stack.enter_context(ExitStack())
        stores = open_stores(ends, source, target, "write")
        state = None if journal is None else open_run(journal, stores, resume)
        if state is not None and state.opened is not None:
            options = kept_options(state, options)
            kept = kept_config(state.opened.source, source), kept_config(state.opened.target, target)
            if kept != (source, target):
                ends.close()
                source, target = kept
                stores = open_stores(ends, source, target, "write")
        stores.source.read_ahead(digests=False)
        scanned, empty = _preflight(stores, options, hooks, resuming=state is not None)
        stores.source.read_ahead(digests=True)
        if journal is None:
            journal = stack.enter_context(Journal.open(journal_path))
        run_id = str(uuid.uuid4()) if state is None else state.run_id
        run = _make_run(journal, run_id, stores, options, hooks, scanned, empty=empty)
        close_left(journal, stores.target, stores.target_store, hooks)
        if state is None:
            refuse_alien_marker(stores.target)
            opened = events.RunOpened(
                source={**plain_config(source), "version": stores.source_info.version},
                target={
                    **plain_config(target),
                    "version": stores.target_info.version,
                    "identity": stores.target.identity(),
                },
                pair=stores.pair,
                source_store=stores.source_store,
                target_store=stores.target_store,
                options=asdict(options),
                code_version=code_version(),
                ceiling=opened_at.isoformat(),
                full=options.since is None,
                since=options.since,
            )
            journal.append(run_id, opened)
        return _carry_out(run, started)


def _make_run(
    journal: Journal | None,
    run_id: str,
    stores: Stores,
    options: MigrationOptions,
    hooks: Hooks,
    scanned: Scanned,
    *,
    empty: bool,
) -> Run:
    warnings = [*stores.source_info.warnings, *stores.target_info.warnings, *scanned.warnings]
    warnings += [] if journal is None else journal.warnings
    return Run(
        journal=journal,
        run_id=run_id,
        pair=stores.pair,
        target_store=stores.target_store,
        source=stores.source,
        target=stores.target,
        options=options,
        hooks=hooks,
        scanned=scanned,
        owner="" if journal is None else owner_of(journal),
        target_was_empty=empty,
        warnings=warnings,
    )


def _preflight(stores: Stores, options: MigrationOptions, hooks: Hooks, *, resuming: bool) -> tuple[Scanned, bool]:
    """Scan the source and look at the target; nothing is written. Raises Unstorable, StoreRefused."""
    scanned = scan_source(stores.source, stores.target.form, stores.batch_size(options), hooks)
    found = scanned.result()
    if found.problems and options.on_unstorable == "stop":
        first = found.findings[0]
        more = f" (and {found.problems - 1} more)" if found.problems > 1 else ""
        where = f"{first.kind} {first.id}" + (f", {first.field}" if first.field else "")
        msg = f"cannot be stored as it is: {where}: {first.reason}{more}"
        hint = "nothing was written; see all with --dry-run, or leave them out with --on-unstorable quarantine"
        raise Unstorable(msg, hint=hint, findings=found.findings)
    inventory = stores.target.inventory()
    for kind in KINDS:
        duplicates = inventory.duplicates.get(kind, ())
        if duplicates:
            msg = f"{kind} ids stand more than once in the target: {', '.join(duplicates[:5])}"
            raise StoreRefused(msg, hint="give each its own id first; nothing was written")
    stores.target.release_snapshot()
    nodes = inventory.memories + sum(inventory.other_nodes.values())
    empty = not resuming and not nodes and not inventory.relationships and not inventory.other_relationships
    return scanned, empty


def _carry_out(run: Run, started: float) -> MigrationResult:
    lease = run.lease()
    try:
        persist(run.target, Forward(run, lease), lambda: lease.applied_batches)
        verification = _verify_in_run(run, lease)
        _refuse_failed(run, verification)
        return _finish(run, lease, verification, started)
    except (VerificationFailed, ConflictFound) as error:
        take_back = run.options.rollback_on_failure or isinstance(error, ConflictFound)
        failed = VerificationResult(status="failed") if isinstance(error, VerificationFailed) else VerificationResult()
        state = run.history.state(run.run_id)
        if state.verification is not None and isinstance(error, VerificationFailed):
            failed = _verification_of(state.verification)
        seconds = run.hooks.monotonic() - started
        if take_back:
            _take_back(run, error.message)
            state = run.history.state(run.run_id)
            error.result = _result(run, state.status, verification=failed, seconds=seconds, exit_code=error.exit_code)
        else:
            error.hint = (
                f"the target is left for a look: `memmig resume {run.run_id}` or `memmig rollback {run.run_id}`"
            )
            error.result = _result(run, "failed", verification=failed, seconds=seconds, exit_code=error.exit_code)
        raise
    except MemmigError as error:
        _attach(error, run, run.hooks.monotonic() - started)
        raise


def _refuse_failed(run: Run, verification: VerificationResult) -> None:
    if verification.status != "failed":
        return
    run.findings[:0] = verification.findings
    first = verification.findings[0]
    msg = f"verification failed: {verification.missing} missing, {verification.different} different"
    msg += f"; first: {first.kind} {first.id} {first.field}".rstrip()
    raise VerificationFailed(msg, hint=f"`memmig journal show {run.run_id}` lists them")


def _attach(error: MemmigError, run: Run, seconds: float) -> None:
    status = "interrupted" if isinstance(error, Interrupted) else "failed"
    if isinstance(error, Interrupted):
        error.hint = f"`memmig resume {run.run_id}` goes on, `memmig rollback {run.run_id}` takes it back"
    elif not isinstance(error, (TargetChanged, StoreRefused)):
        error.hint = (
            f"{error.hint}; then `memmig resume {run.run_id}`" if error.hint else f"`memmig resume {run.run_id}`"
        )
    error.result = _result(run, status, seconds=seconds, exit_code=error.exit_code)


def _verification_of(event: events.VerifyResult) -> VerificationResult:
    return VerificationResult(
        status="failed" if event.status == "failed" else "passed",
        matched=event.matched,
        different=event.different,
        missing=event.missing,
        foreign=event.foreign,
        changing=event.changing,
    )


def _verify_in_run(run: Run, lease: Lease) -> VerificationResult:
    if not run.options.verify:
        run.warnings.append("not verified (--no-verify)")
        return VerificationResult(status="skipped")
    run.history.index_run(run.run_id)
    bases = run.history.bases(run.pair, exclude=run.run_id)

    def planned(kind: Kind, ids: list[str]) -> dict[str, Expected]:
        known = {i: Expected("unchanged", None, base.digest) for i, base in bases.get(kind, ids).items()}
        return known | {i: expected_of(e) for i, e in run.history.decided(run.run_id, kind, ids).items()}

    scope = ("created", "updated", "unchanged")
    opened_on = run.history.state(run.run_id).identity
    compare = InRun(
        run.source,
        run.target,
        planned=planned,
        out_of_scope=run.out_of_scope,
        in_scope={kind: sum(run.counts[kind][key] for key in scope) for kind in KINDS},
        lease=lease if lease.held else None,
        written=lambda kind: written_rows(run.history, run.run_id, kind, run.batch_size),
        same_server=lease.proves if lease.held else lambda: run.target.identity() == opened_on,
        hooks=run.hooks,
        size=run.batch_size,
    )
    verification = compare()
    for kind in KINDS:
        # A resume repairs these, and a rollback knows them for ours although they are not what was meant.
        odd = [(identity, found) for one, identity, found in compare.mangled if one == kind]
        lease.note(kind, [Entry(kind, i, "different" if found else "missing", None, found) for i, found in odd])
        # Open until a later run has seen both sides equal.
        moved = [(identity, reason) for one, identity, reason in compare.changing if one == kind]
        lease.note(kind, [Entry(kind, identity, "changing", reason=reason) for identity, reason in moved])
    if verification.foreign:
        run.warnings.append(f"{verification.foreign} records were changed in the target by others during the run")
    if verification.changing:
        run.warnings.append(f"{verification.changing} records changed in the source during the run")
    run.history.append(
        run.run_id,
        events.VerifyResult(
            status=verification.status,
            matched=verification.matched,
            different=verification.different,
            missing=verification.missing,
            foreign=verification.foreign,
            changing=verification.changing,
            findings=[asdict(one) for one in verification.findings],
        ),
    )
    return verification


def _finish(run: Run, lease: Lease, verification: VerificationResult, started: float) -> MigrationResult:
    seconds = run.hooks.monotonic() - started
    durability = "unverified" if lease.durable is False else "durable"
    if durability == "unverified":
        run.warnings.append("the target's durability could not be had: what was written may be lost if its server dies")
    run.history.append(
        run.run_id,
        events.RunFinished(
            status="finished",
            memories=run.counts["memory"],
            relationships=run.counts["relationship"],
            watermark=None,
            seconds=seconds,
            durability=durability,
        ),
    )
    try:
        # Safe to repeat: a release compares the whole marker, and one that lands late finds none, or another's.
        persist(run.target, lease.release, lambda: 0)
    except MemmigError as error:
        # The run is done; the marker alone is left.
        run.warnings.append(f"the marker is still in the target ({error.message}); `memmig resume` takes it out")
    return _result(run, "finished", verification=verification, durability=durability, seconds=seconds)


def _take_back(run: Run, reason: str) -> None:
    run.history.append(run.run_id, events.RollbackOpened(reason=reason, force=False))
    rollback = rollback_of(run.history, run.run_id, run.target, run.hooks, run.batch_size)
    rollback.run(rollback_lease(rollback, run.history, run.hooks))
    for kind in KINDS:
        for key in ("deleted", "restored", "retained"):
            run.counts[kind][key] = rollback.counts[kind][key]
    run.findings += rollback.findings


def _dry_run(
    source: BackendConfig, target: BackendConfig, options: MigrationOptions, journal_path: Path, hooks: Hooks
) -> MigrationResult:
    """Read both sides and decide, writing nothing anywhere."""
    started = hooks.monotonic()
    with ExitStack() as stack:
        stores = open_stores(stack, source, target, "dry")
        scanned = scan_source(stores.source, stores.target.form, stores.batch_size(options), hooks)
        journal = None
        if journal_path.exists():
            journal = stack.enter_context(Journal.open(journal_path, mode="read"))
            open_run(journal, stores, resume=False)
        refuse_alien_marker(stores.target, journal="" if journal is None else journal.id)
        run = _make_run(journal, "", stores, options, hooks, scanned, empty=False)
        Forward(run, None)()
        found = scanned.result()
        seconds = hooks.monotonic() - started
        result = _result(run, "dry-run", seconds=seconds, estimate=_estimate(run, seconds))
        if found.problems and options.on_unstorable == "stop":
            result = replace(result, exit_code=Unstorable.exit_code)
        elif options.on_conflict == "fail" and any(run.counts[kind]["conflict"] for kind in KINDS):
            result = replace(result, exit_code=ConflictFound.exit_code)
        return result


def _remove_left_markers(left: list[RunState], journal_path: Path, hooks: Hooks, secrets: Secrets) -> None:
    """Take out the markers of runs that were closed, but died before they could."""
    for state in left:
        if state.opened is not None:
            with ExitStack() as stack:
                journal = stack.enter_context(Journal.open(journal_path))
                target = connect(secrets(config_of(state.opened.target), "to"), "to")
                stack.callback(target.close)
                target.open("write")
                close_left(journal, target, state.opened.target_store, hooks)


def _estimate(run: Run, seconds: float) -> float:
    """Return about how long the run would take: it reads both sides once more than the dry run, and writes."""
    writes = sum(run.counts[kind][key] for kind in KINDS for key in ("created", "updated"))
    return 2 * seconds + writes / _WRITES_PER_SECOND


def run_validate(
    source: BackendConfig, target: BackendConfig, options: MigrationOptions, *, hooks: Hooks | None = None
) -> ValidationResult:
    """Read the whole source and say what the target cannot hold exactly; writes nothing anywhere."""
    options.validate()
    source = replace(source, all_labels=options.all_labels)
    target = replace(target, all_labels=options.all_labels)
    with ExitStack() as stack:
        stores = open_stores(stack, source, target, "dry")
        size = stores.batch_size(options)
        return scan_source(stores.source, stores.target.form, size, hooks or Hooks()).result()


def run_resume(
    run_id: str | None,
    *,
    journal_path: Path,
    hooks: Hooks | None = None,
    secrets: Secrets = no_secrets,
    batch_size: int | None = None,
) -> MigrationResult | None:
    """Go on with an open run (None: the only one); return None where nothing is open.

    Raises UsageError with the list where several are open, NoSuchRun for an unknown id.
    """
    if not journal_path.exists():
        if run_id is not None:
            msg = f"there is no journal at {journal_path}"
            raise NoSuchRun(msg, hint="give the journal with --journal")
        return None
    with Journal.open(journal_path, mode="read") as journal:
        if run_id is None:
            states = journal.runs()
            open_runs = [state for state in states if state.unfinished]
            left = [state for state in states if state.claimed and not state.released]
            if not open_runs:
                journal.close()
                _remove_left_markers(left, journal_path, hooks or Hooks(), secrets)
                return None
            if len(open_runs) > 1:
                msg = "several runs are open: " + ", ".join(state.run_id for state in open_runs)
                raise UsageError(msg, hint="name one: `memmig resume RUN-ID`")
            state = open_runs[0]
        else:
            state = journal.state(journal.resolve(run_id))
        opened = state.opened
    if opened is None:
        msg = f"run {state.run_id} never began"
        raise NoSuchRun(msg, hint="start a new one with `memmig migrate`")
    known = {f.name for f in fields(MigrationOptions)}
    options = MigrationOptions(**{key: value for key, value in opened.options.items() if key in known})
    if batch_size is not None:
        options = replace(options, batch_size=batch_size)
    return run_migrate(
        secrets(config_of(opened.source), "from"),
        secrets(config_of(opened.target), "to"),
        options,
        journal_path=journal_path,
        hooks=hooks,
        resume=state.run_id,
    )


class MigrationManager:
    """The library's edge for callers in an event loop; every method runs the synchronous core in a thread."""

    def __init__(
        self, journal_path: Path | None = None, *, hooks: Hooks | None = None, secrets: Secrets = no_secrets
    ) -> None:
        """Use this journal, or the one that the command line uses by default."""
        self._journal_path = journal_path or default_journal()
        self._hooks = hooks or Hooks()
        self._secrets = secrets

    async def migrate(
        self, source: BackendConfig, target: BackendConfig, options: MigrationOptions | None = None
    ) -> MigrationResult:
        """Move ``source`` into ``target``; see :func:`run_migrate`."""
        return await asyncio.to_thread(
            run_migrate,
            source,
            target,
            options or MigrationOptions(),
            journal_path=self._journal_path,
            hooks=self._hooks,
        )

    async def validate(
        self, source: BackendConfig, target: BackendConfig, options: MigrationOptions | None = None
    ) -> ValidationResult:
        """Say what of ``source`` the target cannot hold exactly; see :func:`run_validate`."""
        return await asyncio.to_thread(run_validate, source, target, options or MigrationOptions(), hooks=self._hooks)

    async def resume(self, run_id: str | None = None) -> MigrationResult | None:
        """Go on with an open run; see :func:`run_resume`."""
        return await asyncio.to_thread(
            run_resume, run_id, journal_path=self._journal_path, hooks=self._hooks, secrets=self._secrets
        )

    async def rollback(self, run_id: str, *, force: bool = False, cascade: bool = False) -> MigrationResult:
        """Undo what a run did; see :func:`run_rollback`."""
        return await asyncio.to_thread(
            run_rollback,
            run_id,
            journal_path=self._journal_path,
            hooks=self._hooks,
            force=force,
            cascade=cascade,
            secrets=self._secrets,
        )

    async def verify(self, run_id: str) -> MigrationResult:
        """Compare what a run wrote with both stores as they are now; see :func:`run_verify`."""
        return await asyncio.to_thread(
            run_verify, run_id, journal_path=self._journal_path, hooks=self._hooks, secrets=self._secrets
        )

"""The phases of a run, over two stores and a journal. Synchronous core; ``MigrationManager`` is the async edge.

Every function raises an error of ``migrator.errors``. One that is raised after a run had begun carries the run's result
document as its attribute ``result``.
"""

from __future__ import annotations

import asyncio
import uuid
from contextlib import ExitStack
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from journal import events
from journal.store import Journal
from migrator.checks import probe, run_unlock, run_verify, run_verify_stores
from migrator.deletions import find_absent, refuse_suspect, refuse_too_many
from migrator.engine import Forward
from migrator.errors import (
    ConflictFound,
    Interrupted,
    MemmigError,
    NoSuchRun,
    StoreRefused,
    TargetChanged,
    UsageError,
    VerificationFailed,
)
from migrator.hooks import Hooks
from migrator.model import KINDS
from migrator.models import MigrationOptions, VerificationResult
from migrator.places import default_journal
from migrator.preflight import begin_reading, dry_run, make_run, preflight, result_of, run_validate
from migrator.reconnect import persist
from migrator.since import parse_since
from migrator.standing import began_with, kept_config, kept_options, open_run, saying_how_to_go_on
from migrator.stores import (
    code_version,
    config_of,
    connect,
    fingerprint,
    no_secrets,
    open_stores,
    plain_config,
    refuse_one_file,
)
from migrator.sync import durability_of, reached
from migrator.takeback import (
    close_left,
    refuse_alien_marker,
    rollback_lease,
    rollback_of,
    run_rollback,
    say_how_to_go_on,
)
from migrator.times import time_text
from migrator.verification import refuse_failed, verification_of, verify_run

if TYPE_CHECKING:
    from pathlib import Path

    from journal.state import RunState
    from migrator.lease import Lease
    from migrator.models import BackendConfig, MigrationResult, ValidationResult
    from migrator.run import Run
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
    started, opened_at = hooks.monotonic(), hooks.clock()
    if options.since is not None:
        parse_since(options.since, opened_at)
    options = replace(options, on_conflict="skip") if options.skip_duplicates else options
    source = replace(source, all_labels=options.all_labels)
    target = replace(target, all_labels=options.all_labels)
    refuse_one_file("journal", journal_path, (source.path, target.path))
    if options.dry_run:
        return dry_run(source, target, options, journal_path, hooks)
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
        run_id = str(uuid.uuid4()) if state is None else state.run_id
        reading, scope, there = begin_reading(
            journal, run_id, stores, source, options, hooks, now=opened_at, state=state
        )
        if scope.full:
            stores.source.read_ahead(digests=False)
        with saying_how_to_go_on(state):
            scanned, empty = preflight(stores, reading, options, hooks, resuming=state is not None, there=there)
            refuse_suspect(journal, stores, options, scanned)
        if scope.full:
            stores.source.read_ahead(digests=True)
        if journal is None:
            refuse_alien_marker(stores.target)
            journal = stack.enter_context(Journal.open(journal_path))
        run = make_run(journal, run_id, stores, options, hooks, scanned, reading, scope, empty=empty)
        run.absent = find_absent(journal, stores, options, scanned, hooks, run_id, resumed=state is not None)
        refuse_too_many(run, resumed=state is not None)
        close_left(journal, stores.target, stores.target_store, hooks)
        if state is None:
            refuse_alien_marker(stores.target)
            opened = events.RunOpened(
                source={
                    **plain_config(source),
                    "version": stores.source_info.version,
                    "fingerprint": fingerprint(stores.source_info),
                },
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
                full=scope.full,
                since=None if scope.since is None else time_text(scope.since),
            )
            journal.append(run_id, opened)
        return _carry_out(run, started)


def _carry_out(run: Run, started: float) -> MigrationResult:
    lease = run.lease()
    try:
        persist(run.target, Forward(run, lease), lambda: lease.applied_batches)
        verification = verify_run(run, lease)
        refuse_failed(run, verification)
        return _finish(run, lease, verification, started)
    except (VerificationFailed, ConflictFound) as error:
        take_back = run.options.rollback_on_failure or isinstance(error, ConflictFound)
        failed = VerificationResult(status="failed") if isinstance(error, VerificationFailed) else VerificationResult()
        state = run.history.state(run.run_id)
        if state.verification is not None and isinstance(error, VerificationFailed):
            failed = verification_of(state.verification)
        seconds = run.hooks.monotonic() - started
        if take_back:
            try:
                _take_back(run, error.message)
            except MemmigError as worse:
                say_how_to_go_on(worse, run.run_id)
                status, code = run.history.state(run.run_id).status, worse.exit_code
                worse.result = result_of(run, status, verification=failed, seconds=seconds, exit_code=code)
                raise
            state = run.history.state(run.run_id)
            error.result = result_of(run, state.status, verification=failed, seconds=seconds, exit_code=error.exit_code)
        else:
            error.hint = (
                f"the target is left for a look: `memmig resume {run.run_id}` or `memmig rollback {run.run_id}`"
            )
            error.result = result_of(run, "failed", verification=failed, seconds=seconds, exit_code=error.exit_code)
        raise
    except MemmigError as error:
        _attach(error, run, run.hooks.monotonic() - started)
        raise


def _attach(error: MemmigError, run: Run, seconds: float) -> None:
    status = "interrupted" if isinstance(error, Interrupted) else "failed"
    if isinstance(error, Interrupted):
        error.hint = f"`memmig resume {run.run_id}` goes on, `memmig rollback {run.run_id}` takes it back"
    elif not isinstance(error, (TargetChanged, StoreRefused)):
        error.hint = (
            f"{error.hint}; then `memmig resume {run.run_id}`" if error.hint else f"`memmig resume {run.run_id}`"
        )
    error.result = result_of(run, status, seconds=seconds, exit_code=error.exit_code)


def _finish(run: Run, lease: Lease, verification: VerificationResult, started: float) -> MigrationResult:
    seconds = run.hooks.monotonic() - started
    durability = durability_of(run.history, run.pair, lease.durable)
    if durability == "unverified":
        run.warnings.append("the target's durability could not be had: what was written may be lost if its server dies")
    watermark, why = reached(run.scope, run.source.stamps, verification, durability)
    run.warnings += why
    run.history.append(
        run.run_id,
        events.RunFinished(
            status="finished",
            memories=run.counts["memory"],
            relationships=run.counts["relationship"],
            watermark=watermark,
            seconds=seconds,
            durability=durability,
        ),
    )
    try:
        # Safe to repeat: a release compares the whole marker, and one that lands late finds none, or another's.
        persist(run.target, lease.release, lambda: 0)
    except MemmigError as error:
        # The run is done; the marker alone is left.
        run.warnings.append(f"the marker may still be in the target ({error.message}); `memmig resume` takes it out")
    scope = run.scope
    return result_of(
        run,
        "finished",
        verification=verification,
        durability=durability,
        watermark=watermark or scope.watermark,
        last_full=scope.ceiling.isoformat() if scope.full else scope.full_at,
        seconds=seconds,
    )


def _take_back(run: Run, reason: str) -> None:
    run.history.append(run.run_id, events.RollbackOpened(reason=reason, force=False))
    rollback = rollback_of(run.history, run.run_id, run.target, run.hooks, run.batch_size)
    rollback.run(rollback_lease(rollback, run.history, run.hooks))
    for kind in KINDS:
        for key in ("deleted", "restored", "retained"):
            run.counts[kind][key] = rollback.counts[kind][key]
    run.findings += rollback.findings


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
    options = began_with(opened)
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

"""Taking runs back, phase by phase: which run, on which store, under which lease."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING

from journal import events
from journal.store import Journal
from migrator.errors import (
    Interrupted,
    JournalNotWritable,
    MemmigError,
    NoSuchRun,
    OutcomeUnknown,
    RollbackRefused,
    StoreRefused,
    StoreUnreachable,
    TargetFull,
)
from migrator.hooks import Hooks
from migrator.lease import Lease
from migrator.model import KINDS
from migrator.models import MigrationResult
from migrator.rollback import Rollback
from migrator.scan import MAX_FINDINGS
from migrator.stores import config_of, connect, no_secrets, owner_of, store_name

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from migrator.backends.base import Backend, StoreInfo
    from migrator.stores import Secrets


def rollback_of(
    journal: Journal, run_id: str, target: Backend, hooks: Hooks, batch_size: int, *, force: bool = False
) -> Rollback:
    """Return the rollback of an opened run."""
    opened = journal.state(run_id).opened
    assert opened is not None  # noqa: S101 - only opened runs are taken back
    return Rollback(
        journal=journal,
        run_id=run_id,
        target=target,
        hooks=hooks,
        pair=opened.pair,
        target_store=opened.target_store,
        force=force,
        batch_size=batch_size,
    )


def rollback_lease(rollback: Rollback, journal: Journal, hooks: Hooks) -> Lease:
    """Return the lease under which a rollback writes."""
    return Lease(
        journal,
        rollback.run_id,
        rollback.target,
        "rollback",
        owner=owner_of(journal),
        on_release=rollback.drop_schema,
        monotonic=hooks.monotonic,
    )


def run_rollback(
    run_id: str,
    *,
    journal_path: Path,
    hooks: Hooks | None = None,
    dry_run: bool = False,
    force: bool = False,
    cascade: bool = False,
    secrets: Secrets = no_secrets,
) -> MigrationResult:
    """Undo exactly what a run did. Rolling back twice equals once.

    Raises RollbackRefused where later runs wrote the same ids, unless ``cascade`` takes those back first, newest first.
    The result is that of the named run; what was retained of the others is among its findings.
    """
    hooks = hooks or Hooks()
    with open_journal(journal_path, read=dry_run) as journal:
        run_id = journal.resolve(run_id)
        journal.whole(run_id)
        later = _in_the_way(journal, run_id)
        if later and not cascade:
            msg = f"later runs wrote the same ids: {', '.join(later)}"
            raise RollbackRefused(msg, hint="roll those back first, or all of them with --cascade")
        for one in later:
            journal.whole(one)
        done = [
            _roll_back_one(journal, one, hooks, secrets, dry_run=dry_run, force=force)
            for one in (*reversed(later), run_id)
        ]
        return _together(done)


def _in_the_way(journal: Journal, run_id: str) -> list[str]:
    """Return the later runs that wrote the same ids, those that wrote the ids of these, and so on; oldest first."""
    found: set[str] = set()
    asked = [run_id]
    while asked:
        new = set(journal.later_writers(asked.pop())) - found
        found |= new
        asked += new
    return [state.run_id for state in journal.runs() if state.run_id in found]


def _together(results: Sequence[MigrationResult]) -> MigrationResult:
    """Return the last result with what has to be known of the others, which were taken back before it."""
    *earlier, last = results
    if not earlier:
        return last
    names = ", ".join(result.run_id for result in earlier)
    said = f"taken back first: {names}"
    if last.status == "dry-run":
        said = f"would be taken back first, and stand in what was counted here: {names}"
    return replace(
        last,
        warnings=(*last.warnings, said),
        findings=tuple(finding for result in (last, *earlier) for finding in result.findings)[:MAX_FINDINGS],
        exit_code=max(result.exit_code for result in results),
    )


def open_journal(path: Path, *, read: bool) -> Journal:
    """Open a journal that must be there; NoSuchRun otherwise."""
    if not path.exists():
        msg = f"there is no journal at {path}"
        raise NoSuchRun(msg, hint="give the journal with --journal")
    return Journal.open(path, mode="read" if read else "write")


def _roll_back_one(
    journal: Journal, run_id: str, hooks: Hooks, secrets: Secrets, *, dry_run: bool, force: bool
) -> MigrationResult:
    started = hooks.monotonic()
    state = journal.state(run_id)
    if state.opened is None:
        msg = f"run {run_id} never began"
        raise NoSuchRun(msg, hint="`memmig journal list` shows the runs")
    config = secrets(config_of(state.opened.target), "to")
    with ExitStack() as stack:
        target = connect(config, "to")
        stack.callback(target.close)
        info = target.open("dry" if dry_run else "write")
        if store_name(info) != state.opened.target_store:
            msg = f"the target is {store_name(info)}, the run wrote to {state.opened.target_store}"
            raise StoreRefused(msg, hint="give the store that the run wrote to")
        size = state.opened.options.get("batch_size") or target.batch_size
        rollback = rollback_of(journal, run_id, target, hooks, size, force=force)
        if dry_run:
            rollback.run(None)
            return _rollback_result(rollback, "dry-run", info, hooks.monotonic() - started)
        close_left(journal, target, state.opened.target_store, hooks, but=run_id)
        refuse_alien_marker(target, journal=journal.id, run=run_id)
        begun = state.rollback if state.status == "rolling-back" else None
        if begun is None or begun.force != force:
            reason = "asked for" if begun is None else begun.reason
            journal.append(run_id, events.RollbackOpened(reason=reason, force=force))
        lease = rollback_lease(rollback, journal, hooks)
        try:
            rollback.run(lease)
        except MemmigError as error:
            error.result = _rollback_result(rollback, "interrupted", info, hooks.monotonic() - started, lease)
            say_how_to_go_on(error, run_id)
            raise
        status = journal.state(run_id).status
        return _rollback_result(rollback, status, info, hooks.monotonic() - started, lease)


def say_how_to_go_on(error: MemmigError, run_id: str) -> None:
    """Make an error's hint say that the rollback which it ended goes on when it is asked for again."""
    on = f"`memmig rollback {run_id}` goes on"
    if isinstance(error, Interrupted) or not error.hint:
        error.hint = on
    elif isinstance(error, (TargetFull, JournalNotWritable, StoreUnreachable, OutcomeUnknown)):
        error.hint = f"{error.hint}; then {on}"


def _rollback_result(
    rollback: Rollback, status: str, info: StoreInfo, seconds: float, lease: Lease | None = None
) -> MigrationResult:
    counts = rollback.counts
    return MigrationResult(
        run_id=rollback.run_id,
        status=status,  # type: ignore[arg-type]
        memories=counts["memory"],
        relationships=counts["relationship"],
        durability="unverified" if lease is None or lease.durable is False else "durable",
        seconds=seconds,
        warnings=info.warnings,
        findings=tuple(rollback.findings),
        exit_code=10 if any(counts[kind]["retained"] for kind in KINDS) else 0,
    )


def close_left(journal: Journal, target: Backend, target_store: str, hooks: Hooks, but: str = "") -> None:
    """Take the marker out that a closed run of ours left when its process died between its last event and this.

    ``but``: a run that is about to be taken back, whose marker will be needed.
    """
    # A server that died after the release may show the marker again: what stands there counts, not only the journal.
    there = target.markers()
    standing = {marker.run for marker in there if marker.journal == journal.id}
    for state in journal.runs():
        if state.opened is None or state.opened.target_store != target_store or state.unfinished:
            continue
        if state.run_id == but:
            continue
        gone = state.claimed and not state.released and not there
        if state.run_id not in standing and not gone:
            continue
        if state.rollback is None:
            Lease(journal, state.run_id, target, "forward", owner=owner_of(journal)).settle()
        else:
            rollback = rollback_of(journal, state.run_id, target, hooks, 1_000)
            rollback_lease(rollback, journal, hooks).settle()


def refuse_alien_marker(target: Backend, *, journal: str = "", run: str = "") -> None:
    """Raise StoreRefused, naming the owner, where a marker stands in the target that is not of this journal and run.

    ``run`` "" = any run of the journal; ``journal`` "" = no marker at all may stand there.
    """
    for marker in target.markers():
        if journal and marker.journal == journal and run in {"", marker.run}:
            continue
        msg = f"run {marker.run} holds the target, by the journal {marker.owner}"
        raise StoreRefused(msg, hint="finish or roll back that run there, or `memmig unlock --to …`")

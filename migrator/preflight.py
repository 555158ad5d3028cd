"""Before the first write: pre-flight, validation, and the dry run, which ends there."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from journal.store import Journal
from migrator.ahead import begun
from migrator.deletions import Absent, find_absent, refuse_suspect, too_many
from migrator.engine import Forward
from migrator.errors import ConflictFound, LimitHit, StoreRefused, Unstorable
from migrator.hooks import Hooks
from migrator.model import KINDS
from migrator.models import MigrationResult
from migrator.reading import Reading
from migrator.run import Run
from migrator.scan import scan_source
from migrator.standing import open_run
from migrator.stores import open_stores, owner_of
from migrator.sync import lost, scope_of
from migrator.takeback import refuse_alien_marker
from migrator.watermark import Stamps

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from journal.state import RunState
    from migrator.backends.base import Backend, Inventory
    from migrator.models import BackendConfig, MigrationOptions, ValidationResult
    from migrator.scan import Scanned
    from migrator.stores import Stores
    from migrator.sync import Scope

#: Written, journalled and read back again; measured with bench/run.py on 2 cores, SQLite and FalkorDB.
_WRITES_PER_SECOND = 12_000


def begin_reading(
    journal: Journal | None,
    run_id: str,
    stores: Stores,
    source: BackendConfig,
    options: MigrationOptions,
    hooks: Hooks,
    *,
    now: datetime,
    state: RunState | None = None,
) -> tuple[Reading, Scope, Inventory | None]:
    """Fix what the run reads, and choose it where that is not everything. Writes nothing.

    Returns what stands in the target, too, where that had to be asked.
    """
    scope = scope_of(options, now, journal=journal, stores=stores, source=source, state=state)
    bases = None if journal is None else journal.bases(stores.pair, exclude=run_id)
    reading = Reading(stores.source, scope.stamps(hooks.clock()), scope.interval, bases)
    if journal is None or scope.full:
        return reading, scope, None
    with begun(stores.target.inventory, overlaps=stores.target.overlaps) as look:
        reading.choose(hooks, stores.batch_size(options))
        there = look()
    stores.target.release_snapshot()
    why = lost(journal, stores.pair, there) if state is None else None
    if why is not None:
        scope = scope.everything(why)
        return Reading(stores.source, scope.stamps(hooks.clock()), scope.interval, bases), scope, None
    journal.expect(stores.pair, run_id, stores.target_store, reading.chosen)
    return reading, scope, there


def preflight(
    stores: Stores,
    reading: Reading,
    options: MigrationOptions,
    hooks: Hooks,
    *,
    resuming: bool,
    there: Inventory | None = None,
) -> tuple[Scanned, bool]:
    """Scan the source and look at the target; nothing is written. Raises Unstorable, StoreRefused.

    ``there``: what stands in the target, where that is known.
    """
    size = stores.batch_size(options)
    scanned = scan_source(reading, stores.target, size, hooks, listing=options.delete)
    found = scanned.result()
    if found.problems and options.on_unstorable == "stop":
        first = found.findings[0]
        more = f" (and {found.problems - 1} more)" if found.problems > 1 else ""
        where = f"{first.kind} {first.id}" + (f", {first.field}" if first.field else "")
        msg = f"cannot be stored as it is: {where}: {first.reason}{more}"
        hint = "nothing was written; see all with --dry-run, or leave them out with --on-unstorable quarantine"
        raise Unstorable(msg, hint=hint, findings=found.findings)
    inventory = _checked(stores.target, there)
    nodes = inventory.memories + sum(inventory.other_nodes.values())
    empty = not resuming and not nodes and not inventory.relationships and not inventory.other_relationships
    return scanned, empty


def _checked(target: Backend, there: Inventory | None) -> Inventory:
    """Return what stands in the target; StoreRefused where ids stand there more than once, or are too long."""
    inventory = there or target.inventory()
    for kind in KINDS:
        duplicates = inventory.duplicates.get(kind, ())
        if duplicates:
            msg = f"{kind} ids stand more than once in the target: {', '.join(duplicates[:5])}"
            raise StoreRefused(msg, hint="give each its own id first; nothing was written")
    target.missing_schema()  # refuses what nothing can be made over, before a run is opened
    target.release_snapshot()
    return inventory


def make_run(
    journal: Journal | None,
    run_id: str,
    stores: Stores,
    options: MigrationOptions,
    hooks: Hooks,
    scanned: Scanned,
    reading: Reading,
    scope: Scope,
    *,
    empty: bool,
) -> Run:
    """Return a run over open stores, with everything that they, the scan and the journal warn of."""
    warnings = [*stores.source_info.warnings, *stores.target_info.warnings, *scanned.warnings]
    warnings += [*scope.warnings, *reading.warnings]
    warnings += [] if journal is None else journal.warnings
    return Run(
        journal=journal,
        run_id=run_id,
        pair=stores.pair,
        target_store=stores.target_store,
        source=reading,
        scope=scope,
        target=stores.target,
        options=options,
        hooks=hooks,
        scanned=scanned,
        owner="" if journal is None else owner_of(journal),
        target_was_empty=empty,
        warnings=warnings,
    )


def result_of(run: Run, status: str, **changes: Any) -> MigrationResult:  # noqa: ANN401 - fields of the result
    """Return the result of a run as it stands; ``changes`` are fields of the result."""
    counts = run.counts
    left = any(counts[kind][key] for kind in KINDS for key in ("conflict", "quarantined", "retained"))
    left = left or run.changing > 0
    base = MigrationResult(
        run_id=run.run_id,
        status=status,  # type: ignore[arg-type]
        memories=counts["memory"],
        relationships=counts["relationship"],
        watermark=run.scope.watermark,
        last_full=run.scope.full_at,
        warnings=tuple(run.warnings),
        findings=tuple(run.findings),
        exit_code=10 if left else 0,
    )
    return replace(base, **changes)


def dry_run(
    source: BackendConfig, target: BackendConfig, options: MigrationOptions, journal_path: Path, hooks: Hooks
) -> MigrationResult:
    """Read both sides and decide, writing nothing anywhere. Refuses, and ends with, what the run would."""
    started = hooks.monotonic()
    with ExitStack() as stack:
        stores = open_stores(stack, source, target, "dry")
        journal = None
        if journal_path.exists():
            journal = stack.enter_context(Journal.open(journal_path, mode="read"))
            open_run(journal, stores, resume=False)
        reading, scope, there = begin_reading(journal, "", stores, source, options, hooks, now=hooks.clock())
        size = stores.batch_size(options)
        scanned = scan_source(reading, stores.target, size, hooks, listing=options.delete)
        found = scanned.result()
        stopped = found.problems > 0 and options.on_unstorable == "stop"
        if not stopped:
            # What the run would meet next.
            _checked(stores.target, there)
            refuse_alien_marker(stores.target, journal="" if journal is None else journal.id)
        limit, absent = "", Absent()
        try:
            refuse_suspect(journal, stores, options, scanned)
            absent = find_absent(journal, stores, options, scanned, hooks)
        except LimitHit as error:
            limit = error.message
        run = make_run(journal, "", stores, options, hooks, scanned, reading, scope, empty=False)
        run.absent = absent
        Forward(run, None)()
        limit = limit or too_many(run)
        run.warnings += [limit] if limit else []
        seconds = hooks.monotonic() - started
        result = result_of(run, "dry-run", seconds=seconds, estimate=_estimate(run, seconds))
        if stopped:
            result = replace(result, exit_code=Unstorable.exit_code)
        elif limit:
            result = replace(result, exit_code=LimitHit.exit_code)
        elif options.on_conflict == "fail" and any(run.counts[kind]["conflict"] for kind in KINDS):
            result = replace(result, exit_code=ConflictFound.exit_code)
        return result


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
        hooks = hooks or Hooks()
        now = hooks.clock()
        return scan_source(Reading(stores.source, Stamps(now, now)), stores.target, size, hooks).result()

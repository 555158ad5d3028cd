"""Looking at stores and runs without changing them; and taking a left marker out by hand."""

from __future__ import annotations

import os
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from migrator.errors import NoSuchRun, StoreRefused, StoreUnreachable, VerificationFailed
from migrator.hooks import Hooks
from migrator.models import MigrationResult, no_counts
from migrator.stores import config_of, connect, no_secrets, open_stores
from migrator.takeback import open_journal
from migrator.verify import verify_later, verify_stores

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from migrator.backends.base import Backend, Marker
    from migrator.models import BackendConfig, MigrationOptions, VerificationResult
    from migrator.stores import Secrets


def run_verify(
    run_id: str, *, journal_path: Path, hooks: Hooks | None = None, secrets: Secrets = no_secrets
) -> MigrationResult:
    """Compare what a run wrote with both stores as they are now; writes nothing. Raises VerificationFailed."""
    hooks = hooks or Hooks()
    started = hooks.monotonic()
    with ExitStack() as stack:
        journal = stack.enter_context(open_journal(journal_path, read=True))
        run_id = journal.resolve(run_id)
        state = journal.whole(run_id)
        if state.opened is None:
            msg = f"run {run_id} never began"
            raise NoSuchRun(msg, hint="`memmig journal list` shows the runs")
        target = connect(secrets(config_of(state.opened.target), "to"), "to")
        stack.callback(target.close)
        warnings = list(target.open("read").warnings)
        source: Backend | None = connect(secrets(config_of(state.opened.source), "from"), "from")
        assert source is not None  # noqa: S101 - just made
        stack.callback(source.close)
        try:
            warnings += source.open("read").warnings
        except StoreUnreachable as error:
            warnings.append(f"the source is not there, so the target was compared with the journal only: {error}")
            source = None
        size = state.opened.options.get("batch_size") or target.batch_size
        verification = verify_later(journal, run_id, source, target, hooks, size)
        return _verified(run_id, verification, warnings, hooks.monotonic() - started)


def run_verify_stores(
    source: BackendConfig, target: BackendConfig, options: MigrationOptions, *, hooks: Hooks | None = None
) -> MigrationResult:
    """Compare two stores without a run; writes nothing. Raises VerificationFailed."""
    hooks = hooks or Hooks()
    started = hooks.monotonic()
    source = replace(source, all_labels=options.all_labels)
    target = replace(target, all_labels=options.all_labels)
    with ExitStack() as stack:
        stores = open_stores(stack, source, target, "read")
        verification = verify_stores(stores.source, stores.target, hooks, stores.batch_size(options))
        warnings = [*stores.source_info.warnings, *stores.target_info.warnings]
        return _verified("", verification, warnings, hooks.monotonic() - started)


def _verified(
    run_id: str, verification: VerificationResult, warnings: Sequence[str], seconds: float
) -> MigrationResult:
    failed = verification.status == "failed"
    result = MigrationResult(
        run_id=run_id,
        status="failed" if failed else "finished",
        memories=no_counts(),
        relationships=no_counts(),
        verification=verification,
        seconds=seconds,
        warnings=tuple(warnings),
        exit_code=VerificationFailed.exit_code if failed else 0,
    )
    if failed:
        msg = f"verification failed: {verification.missing} missing, {verification.different} different"
        # What a run wrote and somebody deleted is left alone by the next one, unless it is told otherwise.
        hint = (
            "`memmig migrate` between the two stores brings what is missing; with `--on-conflict overwrite` also what"
        )
        hint += " was deleted or changed in the target"
        error = VerificationFailed(msg, hint=hint)
        error.result = result
        raise error
    return result


def probe(config: BackendConfig) -> dict[str, Any]:
    """Look at one store without leaving a trace: version, place, counts, warnings."""
    backend = connect(config, "from")
    try:
        info = backend.open("read")
        inventory = backend.inventory()
        return {
            "kind": info.kind,
            "place": info.place,
            "version": info.version,
            "layout": info.layout,
            "writable": _writable(config, backend),
            "durability": info.durability,
            "memories": inventory.memories,
            "relationships": inventory.relationships,
            "other_nodes": dict(inventory.other_nodes),
            "warnings": list(info.warnings),
        }
    finally:
        backend.close()


def _writable(config: BackendConfig, backend: Backend) -> bool:
    if config.path is not None:
        return os.access(config.path, os.W_OK) and os.access(config.path.parent, os.W_OK)
    try:
        backend.open("write")
    except StoreRefused:
        return False
    return True


def run_unlock(config: BackendConfig, confirm: Callable[[Marker], bool]) -> Marker | None:
    """Remove a left marker after ``confirm`` said yes to it; None where there is none or it was declined."""
    backend = connect(config, "to")
    try:
        backend.open("write")
        for marker in backend.markers():
            if confirm(marker) and backend.swap_marker(marker, None):
                return marker
        return None
    finally:
        backend.close()

"""``memmig unlock``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from migrator.cli import log
from migrator.cli.group import ALWAYS, STORES, Command
from migrator.cli.options import global_options, settings, target_options
from migrator.cli.output import escape
from migrator.cli.runner import output_of
from migrator.cli.stores import target_of
from migrator.errors import UsageError

if TYPE_CHECKING:
    from migrator.backends.base import Marker


@click.command(cls=Command, codes=(*ALWAYS, *STORES, 31))
@target_options
@global_options
@click.pass_context
def unlock(ctx: click.Context, /, **given: Any) -> int:  # noqa: ANN401 - click's values
    """Take a marker out of a store, whoever holds it.

    Only for a marker whose journal is lost: a run that is still going on is stopped by it, and a journal that still
    exists is the better way (memmig resume or memmig rollback there). Asks for the run's id before it does anything.
    """
    log.configure(settings(ctx))
    output = output_of(ctx)
    target = target_of(given)
    seen: list[str] = []

    def confirm(marker: Marker) -> bool:
        seen.append(marker.run)
        output.complaint(f"marker of run {escape(marker.run)}")
        output.complaint(f"held by {escape(marker.owner)}, epoch {marker.epoch}, batch {marker.batch}")
        sys.stderr.write("type the run id to take it out: ")
        sys.stderr.flush()
        return sys.stdin.readline().strip() == marker.run

    from migrator.manager import run_unlock

    removed = run_unlock(target, confirm)
    if seen and not removed:
        message = "not confirmed: the marker stays"
        raise UsageError(message, hint="type the run id exactly as it is shown")
    if output.as_json:
        output.document({"removed": bool(removed), "run_id": seen[0] if seen else None})
    else:
        output.line("the marker is gone" if removed else "there is no marker in this store")
    return 0

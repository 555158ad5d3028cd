"""``memmig journal prune``: the one command that writes to a journal without a run."""

from __future__ import annotations

import re
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import click

from migrator.cli import log
from migrator.cli.group import ALWAYS, JOURNAL, Command
from migrator.cli.options import global_options, settings
from migrator.cli.output import escape, shorten
from migrator.cli.runner import output_of
from migrator.errors import UsageError

if TYPE_CHECKING:
    from journal.prune import Keep


@click.command(cls=Command, codes=(*ALWAYS, *JOURNAL, 52))
@click.option(
    "--keep", required=True, metavar="90d|N", help="Runs that stay whole: those of the last 90 days, or the newest N."
)
@click.option("--dry-run", is_flag=True, help="Write nothing; show what would go.")
@global_options
@click.pass_context
def prune(ctx: click.Context, /, keep: str, *, dry_run: bool) -> int:
    """Drop what no later run needs of older runs. They cannot be taken back any more.

    What later runs go by stays, and so do open runs. The journal is written anew, checked, and replaced in one step.
    """
    wanted = _keep(keep)

    from migrator.takeback import open_journal

    log.configure(settings(ctx))
    output = output_of(ctx)
    place = settings(ctx).journal
    with open_journal(place, read=dry_run) as found:
        before = place.stat().st_size
        report = found.prune(wanted, dry_run=dry_run)
    if output.as_json:
        after = before if dry_run else place.stat().st_size
        output.document({"dry_run": dry_run, **asdict(report), "bytes": (before, after)})
    for run_id in report.held:
        why = "it, or an earlier run on its target, is open, or was taken back after a run that stays had begun"
        output.note(f"run {escape(run_id)} stays: {why}")
    if not report.pruned:
        output.line("nothing to prune")
        return 0
    for run_id in report.pruned:
        output.line(f"{'would prune' if dry_run else 'pruned'} run {escape(run_id)}", indent=4)
    for what, (old, new) in (("events", report.events), ("entries", report.entries)):
        output.line(f"{what}: {old} before, {new} {'would stay' if dry_run else 'now'}", indent=4)
    return 0


def _keep(text: str) -> Keep:
    from journal.prune import Keep

    found = re.fullmatch("([0-9]{1,5})(d?)", text)
    if found is None:
        message = f"--keep is a number of runs or of days, not {shorten(text)!r}"
        raise UsageError(message, hint="for example --keep 30 (the newest 30 runs) or --keep 90d")
    number = int(found[1])
    return Keep(since=datetime.now(UTC) - timedelta(days=number)) if found[2] else Keep(runs=number)

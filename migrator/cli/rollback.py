"""``memmig rollback``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from migrator.cli.group import ALWAYS, INTERRUPTED, JOURNAL, STORES, Command
from migrator.cli.options import global_options, password_files, settings
from migrator.cli.runner import run
from migrator.cli.stores import secrets_from

if TYPE_CHECKING:
    from migrator.hooks import Hooks
    from migrator.models import MigrationResult


@click.command(cls=Command, codes=(*ALWAYS, 10, *STORES, 31, *JOURNAL, 51, 52, *INTERRUPTED))
@click.argument("run_id", metavar="RUN-ID")
@click.option("--dry-run", is_flag=True, help="Write nothing anywhere; show what would be taken back.")
@click.option("--force", is_flag=True, help="Take back records that someone changed since, too.")
@click.option("--cascade", is_flag=True, help="Take later runs that wrote the same ids back first.")
@password_files
@global_options
@click.pass_context
def rollback(ctx: click.Context, /, run_id: str, **given: Any) -> int:  # noqa: ANN401 - click's values
    """Take a run back: what it made goes, what it changed is as it was, to the last byte.

    Memories that someone changed since, or attached a relationship to, are left alone and listed (exit code 10).
    Twice is the same as once.
    """

    def call(hooks: Hooks) -> MigrationResult | None:
        from migrator.manager import run_rollback

        return run_rollback(
            run_id,
            journal_path=settings(ctx).journal,
            hooks=hooks,
            dry_run=given["dry_run"],
            force=given["force"],
            cascade=given["cascade"],
            secrets=secrets_from(given),
        )

    return run(ctx, call)

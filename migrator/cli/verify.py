"""``memmig verify``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from migrator.cli.group import ALWAYS, INTERRUPTED, JOURNAL, STORES, Command
from migrator.cli.options import global_options, settings, source_options, target_options
from migrator.cli.runner import run
from migrator.cli.stores import secrets_from, source_of, target_of
from migrator.errors import UsageError
from migrator.models import MigrationOptions

if TYPE_CHECKING:
    from migrator.hooks import Hooks
    from migrator.models import MigrationResult

_STORES = ("source", "from_path", "from_uri", "from_layout", "target", "to_path", "to_uri", "layout")


@click.command(cls=Command, codes=(*ALWAYS, *STORES, 30, *JOURNAL, 52, *INTERRUPTED))
@click.argument("run_id", required=False, metavar="[RUN-ID]")
@source_options
@target_options
@click.option("--layout", type=click.Choice(["0.12", "0.13"]), help="The SQLite target's layout.")
@click.option("--all-labels", is_flag=True, help="Compare nodes that are not memories, too.")
@global_options
@click.pass_context
def verify(ctx: click.Context, /, run_id: str | None, **given: Any) -> int:  # noqa: ANN401 - click's values
    """Compare every property of every record. Writes nothing.

    With RUN-ID: what that run brought, against the journal and both stores. With --from and --to: two stores.
    """
    named = [key for key in _STORES if given[key] is not None]
    if run_id is not None and named:
        message = "a run's stores are known from the journal"
        raise UsageError(message, hint="give RUN-ID, or --from and --to, not both")
    if run_id is None and not named:
        message = "what to verify is missing"
        raise UsageError(message, hint="give RUN-ID (memmig journal list shows them), or --from and --to")

    def of_run(hooks: Hooks) -> MigrationResult | None:
        from migrator.manager import run_verify

        return run_verify(
            str(run_id),
            journal_path=settings(ctx).journal,
            hooks=hooks,
            secrets=secrets_from(given),
        )

    if run_id is not None:
        return run(ctx, of_run)
    source, target = source_of(given), target_of(given)

    def of_stores(hooks: Hooks) -> MigrationResult | None:
        from migrator.manager import run_verify_stores

        return run_verify_stores(source, target, MigrationOptions(all_labels=given["all_labels"]), hooks=hooks)

    return run(ctx, of_stores)

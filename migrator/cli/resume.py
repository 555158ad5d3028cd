"""``memmig resume``: an alias of ``memmig migrate --resume``."""

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

NOTHING_OPEN = "no run is open: nothing to resume"


@click.command(cls=Command, codes=(*ALWAYS, 10, *STORES, 22, 24, 30, 31, 32, *JOURNAL, 52, *INTERRUPTED))
@click.argument("run_id", required=False, metavar="[RUN-ID]")
@click.option("--batch-size", type=click.IntRange(1, 100_000), default=None, metavar="N", help="Records in a batch.")
@click.option("--verbose", is_flag=True, help="Say more about what happens.")
@password_files
@global_options
@click.pass_context
def resume(ctx: click.Context, /, run_id: str | None, **given: Any) -> int:  # noqa: ANN401 - click's values
    """Go on with a run that was interrupted, with the options of its beginning.

    Without RUN-ID: the one that is open. The journal knows the stores; passwords come from MEMMIG_FROM_PASSWORD and
    MEMMIG_TO_PASSWORD, from a file, or a prompt.
    """

    def call(hooks: Hooks) -> MigrationResult | None:
        from migrator.manager import run_resume

        return run_resume(
            run_id,
            journal_path=settings(ctx).journal,
            hooks=hooks,
            secrets=secrets_from(given),
            batch_size=given["batch_size"],
        )

    return run(ctx, call, verbose=given["verbose"], nothing=NOTHING_OPEN)

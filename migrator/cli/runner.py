"""What every command that works on stores does around its one call of the manager."""

from __future__ import annotations

import gc
import signal
from typing import TYPE_CHECKING

from migrator.cli import log
from migrator.cli.options import settings
from migrator.cli.output import Output, summary
from migrator.cli.progress import reporter
from migrator.cli.signals import Stop

if TYPE_CHECKING:
    from collections.abc import Callable

    import click

    from migrator.hooks import Hooks
    from migrator.models import MigrationResult

_BY_SIGNAL = 128
_GC_OBJECTS = 100_000


def output_of(ctx: click.Context) -> Output:
    """Return where this call writes."""
    chosen = settings(ctx)
    return Output(as_json=chosen.json, quiet=chosen.quiet)


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
        result = call(Hooks(progress=progress, stop=stop))
    if result is None:
        output.note(nothing)
        if output.as_json:
            summary(output, MigrationResult(run_id="", status="finished", warnings=(nothing,)))
        return 0
    summary(output, result)
    if result.status == "interrupted":
        return _BY_SIGNAL + (stop.signal or signal.SIGINT)
    return result.exit_code

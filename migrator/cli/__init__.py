"""The command line: one file per command, and the one place that catches errors.

Nothing here imports a driver, SQLAlchemy, Alembic or rich before a command needs it.
"""

from __future__ import annotations

import signal
import sys
import traceback
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from migrator import urls
from migrator.cli import log
from migrator.cli.group import LazyGroup
from migrator.cli.options import global_options
from migrator.cli.output import Call, Output, document, escape, findings, prepare_streams, summary
from migrator.errors import Interrupted, MemmigError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_BY_SIGNAL = 128
_BUG = 1

_COMMANDS = {
    "migrate": ("migrator.cli.migrate", "migrate", "Move memories from one store to another."),
    "resume": ("migrator.cli.resume", "resume", "Go on with a run that was interrupted."),
    "rollback": ("migrator.cli.rollback", "rollback", "Take a run back, exactly."),
    "verify": ("migrator.cli.verify", "verify", "Compare stores, record by record."),
    "journal": ("migrator.cli.journal", "journal", "Look into the journal."),
    "backends": ("migrator.cli.backends", "backends", "What is installed, reachable and writable."),
    "unlock": ("migrator.cli.unlock", "unlock", "Take another journal's marker out of a store."),
    "profile": ("migrator.cli.profiles", "profile", "Named settings of migrate."),
    "demo": ("migrator.cli.demo", "demo", "See it work on a sample store."),
}


@click.command(
    cls=LazyGroup,
    lazy=_COMMANDS,
    name="memmig",
    no_args_is_help=False,
    invoke_without_command=True,
    subcommand_metavar="COMMAND [ARGS]...",
)
@global_options
@click.pass_context
def root(ctx: click.Context) -> None:
    """Move an agent's graph memories between stores: journaled, verified, resumable, and taken back exactly.

    Global options may stand before or after the command.
    """
    if ctx.invoked_subcommand is None:
        message = "the command is missing"
        raise UsageError(message, hint=f"one of {', '.join(_COMMANDS)}; see memmig --help")


def main(arguments: Sequence[str] | None = None, *, prepare: Callable[[], None] = lambda: None) -> int:
    """Run memmig and return its exit code (docs/reference/exit-codes.md). The only place that catches errors.

    ``prepare`` is called first, so that its errors are caught here, too.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    prepare_streams()
    # What the options mean is not known yet when click refuses them; files and profiles may add to it.
    output = Output(as_json="--json" in given, quiet="--quiet" in given)
    try:
        prepare()
        code = root.main(given, prog_name="memmig", standalone_mode=False, obj=Call(tuple(given), output))
    except MemmigError as error:
        return _report(output, error, debug="--debug" in given)
    except click.ClickException as error:
        return _report(output, _usage(error), debug="--debug" in given)
    except (click.Abort, KeyboardInterrupt):
        message = "interrupted"
        return _report(output, Interrupted(message, hint="nothing was going on that could be resumed"), debug=False)
    except Exception as error:  # noqa: BLE001 - the boundary: whatever is left is a bug, and said to be one
        return _report(output, error, debug="--debug" in given)
    return code if type(code) is int else 0


def _usage(error: click.ClickException) -> UsageError:
    message = " ".join(error.format_message().split())
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "memmig"
    return UsageError(message[:1].lower() + message[1:].rstrip("."), hint=f"see {command} --help")


def exit_code(error: BaseException) -> int:
    """Return the exit code of an error."""
    if isinstance(error, Interrupted):
        return _BY_SIGNAL + (error.signal or signal.SIGINT)
    return error.exit_code if isinstance(error, MemmigError) else _BUG


def describe(error: BaseException) -> dict[str, Any]:
    """Return an error as the JSON document shows it: name, exit code, message, hint. No password in any of them."""
    if isinstance(error, MemmigError):
        message, hint = error.message, error.hint
    else:
        message = f"unexpected {type(error).__name__}: {error}"
        hint = "this is a bug in memmig: run again with --debug and report what it says"
    return {
        "name": type(error).__name__,
        "exit_code": exit_code(error),
        "message": urls.redact(message),
        "hint": urls.redact(hint or "add --debug to see more"),
        **_named(error),
    }


def _named(error: BaseException) -> dict[str, Any]:
    found = getattr(error, "findings", ())
    return {"findings": [asdict(finding) for finding in found]} if found else {}


def _report(output: Output, error: BaseException, *, debug: bool) -> int:
    shown = describe(error)
    result = getattr(error, "result", None)
    if result is not None:
        log.ended(result)
    log.record("command.failed", log.ERROR, **shown)
    if output.as_json:
        output.document(({} if result is None else document(result)) | {"error": shown})
    else:
        if result is not None:
            summary(output, result)
        for line in findings(getattr(error, "findings", ())):
            output.line(line)
    if debug:
        trace = urls.redact("".join(traceback.format_exception(error)))
        for line in trace.splitlines():
            output.complaint(escape(line))
    output.complaint(f"error: {escape(shown['message'])}")
    output.complaint(f"hint: {escape(shown['hint'])}")
    return exit_code(error)


__all__ = ["describe", "exit_code", "main", "root"]

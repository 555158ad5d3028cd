"""click's classes as memmig needs them: commands that load when they are called, help that ends with exit codes."""

from __future__ import annotations

import shutil
from difflib import get_close_matches
from importlib import import_module
from typing import TYPE_CHECKING, Any

import click

from migrator import errors

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

DONE, TO_LOOK_AT = 0, 10
_MOST_COLUMNS = 100

#: Every command: these can happen before a store or a journal is looked at.
ALWAYS = (0, 1, 2)
STORES = (20, 21, 33)
JOURNAL = (40, 41, 42, 43)
INTERRUPTED = (130, 143)


def _classes(root: type[errors.MemmigError]) -> Iterator[type[errors.MemmigError]]:
    yield root
    for child in root.__subclasses__():
        yield from _classes(child)


def exit_codes() -> dict[int, str]:
    """Return every exit code and what it means: those of the error classes, and the two of a run that came through."""
    found = {cls.exit_code: cls.meaning for cls in _classes(errors.MemmigError)}
    found[DONE] = "done, nothing to look at"
    found[TO_LOOK_AT] = "done, but there are conflicts, quarantined or retained records"
    found[143] = found[130]
    return dict(sorted(found.items()))


class Formatter(click.HelpFormatter):
    """Help in the terminal's width, which click never makes narrower than 50 columns."""

    def __init__(self, **_: Any) -> None:  # noqa: ANN401 - click's arguments, all replaced
        columns = min(shutil.get_terminal_size().columns, _MOST_COLUMNS)
        super().__init__(width=max(columns - 1, 30))

    def write_dl(self, rows: Iterable[tuple[str, str]], col_max: int = 30, col_spacing: int = 2) -> None:
        """Write a definition list whose first column leaves room for the second one."""
        super().write_dl(rows, col_max=min(col_max, self.width // 3), col_spacing=col_spacing)


class Context(click.Context):
    """A context that writes help with :class:`Formatter`."""

    formatter_class = Formatter


class Command(click.Command):
    """A command whose help ends with its exit codes."""

    context_class = Context

    def __init__(self, *arguments: Any, codes: Sequence[int] = ALWAYS, **options: Any) -> None:  # noqa: ANN401
        super().__init__(*arguments, **options)
        self.codes = codes

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the exit codes."""
        super().format_epilog(ctx, formatter)
        write_codes(formatter, self.codes)


def write_codes(formatter: click.HelpFormatter, codes: Sequence[int]) -> None:
    """Write a list of exit codes with their meanings."""
    meanings = exit_codes()
    with formatter.section("Exit codes"):
        formatter.write_dl([(str(code), meanings[code]) for code in sorted(set(codes))])


class LazyGroup(click.Group):
    """A group that imports a command's file when the command is called.

    ``lazy`` maps a command's name to its module, the command's name there, and its short help.
    """

    context_class = Context

    def __init__(self, *arguments: Any, lazy: dict[str, tuple[str, str, str]], **options: Any) -> None:  # noqa: ANN401
        super().__init__(*arguments, **options)
        self.lazy = lazy

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Return the names in the table's order."""
        return list(self.lazy)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's signature
        """Import and return a command."""
        if cmd_name not in self.lazy:
            return None
        module, attribute, _ = self.lazy[cmd_name]
        command = getattr(import_module(module), attribute)
        assert isinstance(command, click.Command)  # noqa: S101 - narrows what the table promises
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command, or say which one is nearest."""
        if args and args[0] not in self.lazy and not args[0].startswith("-"):
            near = get_close_matches(args[0], self.lazy, n=1, cutoff=0.5)
            message = f"no such command: {args[0]}"
            hint = f"did you mean {ctx.command_path} {near[0]}?" if near else f"see {ctx.command_path} --help"
            raise errors.UsageError(message, hint=hint)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Write the table: help must not import what it describes."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, short) for name, (_, _, short) in self.lazy.items()])

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write every exit code there is."""
        super().format_epilog(ctx, formatter)
        write_codes(formatter, list(exit_codes()))

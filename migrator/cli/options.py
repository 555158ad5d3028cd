"""Options that several commands share, and what they mean together."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from migrator.cli.config import CONFIG, PROFILE, TYPED, read_config
from migrator.cli.output import words_of
from migrator.places import default_journal

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The global options of one call."""

    journal: Path
    json: bool = False
    quiet: bool = False
    debug: bool = False
    log_file: Path | None = None


def settings(ctx: click.Context) -> Settings:
    """Return the global options, wherever they stood."""
    meta = ctx.find_root().meta

    def chosen(name: str) -> Any:  # noqa: ANN401 - any option's value
        return next((meta[key + name] for key in (TYPED, PROFILE, CONFIG) if meta.get(key + name) is not None), None)

    journal, log_file = chosen("journal"), chosen("log_file")
    return Settings(
        journal=Path(journal) if journal else default_journal(),
        json=bool(chosen("json")),
        quiet=bool(chosen("quiet")),
        debug=bool(chosen("debug")),
        log_file=Path(log_file) if log_file else None,
    )


def version() -> str:
    """Return memmig's version; a checkout that is not installed has none."""
    from importlib.metadata import PackageNotFoundError
    from importlib.metadata import version as installed

    try:
        return installed("memmig")
    except PackageNotFoundError:
        return "0+source"


def _remember(ctx: click.Context, param: click.Parameter, value: Any) -> None:  # noqa: ANN401 - any option's value
    name = param.name or ""
    source = ctx.get_parameter_source(name)
    if source is ParameterSource.DEFAULT or value is None:
        return
    prefix = CONFIG if source is ParameterSource.DEFAULT_MAP else TYPED
    meta = ctx.find_root().meta
    # A variable is seen before and after the command: it never beats an option.
    if source is ParameterSource.COMMANDLINE or prefix + name not in meta:
        meta[prefix + name] = value


def _show_version(ctx: click.Context, _param: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        if "--json" in words_of(ctx):
            import json

            click.echo(json.dumps({"version": version()}))
        else:
            click.echo(f"memmig {version()}")
        ctx.exit()


type Decorated = Callable[..., Any]

_FILE = click.Path(path_type=Path, dir_okay=False)

_GLOBAL = (
    click.option("--config", metavar="FILE", type=_FILE, is_eager=True, envvar="MEMMIG_CONFIG", expose_value=False,
                 callback=read_config,
                 help="TOML file with defaults and profiles. Default: MEMMIG_CONFIG, or one in your config folder."),
    click.option("--journal", metavar="PATH", type=click.Path(path_type=Path), envvar="MEMMIG_JOURNAL",
                 expose_value=False, callback=_remember,
                 help="The journal. Default: MEMMIG_JOURNAL, or a file in your state folder."),
    click.option("--log-file", metavar="FILE", type=_FILE, expose_value=False, callback=_remember,
                 help="Append what happens as JSON lines."),
    click.option("--json", is_flag=True, expose_value=False, callback=_remember,
                 help="Write exactly one JSON document to stdout."),
    click.option("--quiet", is_flag=True, expose_value=False, callback=_remember,
                 help="Say nothing where nothing changed; else a line, and what wants a look."),
    click.option("--debug", is_flag=True, expose_value=False, callback=_remember,
                 help="Show tracebacks and all log events."),
    click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_show_version,
                 help="Show the version and end."),
)  # fmt: skip

_SOURCE = (
    click.option("--from", "source", metavar="BACKEND|URL",
                 help="The source. Default: memorygraph's own environment variables."),
    click.option("--from-path", metavar="PATH", help="The source's file."),
    click.option("--from-uri", metavar="URL", help="The source's URL."),
    click.option("--from-layout", type=click.Choice(["0.12", "0.13"]), help="The SQLite source's layout."),
    click.option("--from-password-file", metavar="FILE", type=_FILE,
                 help="File (mode 0600) with the source's password."),
)  # fmt: skip

_TARGET = (
    click.option("--to", "target", metavar="BACKEND|URL", help="The target."),
    click.option("--to-path", metavar="PATH", help="The target's file."),
    click.option("--to-uri", metavar="URL", help="The target's URL."),
    click.option("--to-password-file", metavar="FILE", type=_FILE, help="File (mode 0600) with the target's password."),
)  # fmt: skip

_PASSWORD_FILES = (_SOURCE[-1], _TARGET[-1])


def _all(options: tuple[Callable[[Decorated], Decorated], ...]) -> Callable[[Decorated], Decorated]:
    def decorate(function: Decorated) -> Decorated:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


#: --journal, --json, …: on the program and on every command.
global_options = _all(_GLOBAL)
#: source, from_path, from_uri, from_layout, from_password_file
source_options = _all(_SOURCE)
#: target, to_path, to_uri, to_password_file
target_options = _all(_TARGET)
#: from_password_file, to_password_file: for commands that know their stores from the journal.
password_files = _all(_PASSWORD_FILES)

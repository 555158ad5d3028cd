"""Options that several commands share, and what they mean together."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from migrator import errors
from migrator.places import default_journal

if TYPE_CHECKING:
    from collections.abc import Callable

_KEY = "memmig."
_FROM_CONFIG = "memmig.config.journal"
_SECRET_WORDS = ("password", "token", "secret")


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
    journal = meta.get(_KEY + "journal") or meta.get(_FROM_CONFIG)
    return Settings(
        journal=Path(journal) if journal else default_journal(),
        json=meta.get(_KEY + "json", False),
        quiet=meta.get(_KEY + "quiet", False),
        debug=meta.get(_KEY + "debug", False),
        log_file=meta.get(_KEY + "log_file"),
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
    meta = ctx.find_root().meta
    # A variable or a configuration file is seen before and after the command: it never beats an option.
    if source is ParameterSource.COMMANDLINE or _KEY + name not in meta:
        meta[_KEY + name] = value


def _show_version(ctx: click.Context, _param: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        if "--json" in (ctx.find_root().obj or ()):
            import json

            click.echo(json.dumps({"version": version()}))
        else:
            click.echo(f"memmig {version()}")
        ctx.exit()


def _read_config(ctx: click.Context, _param: click.Parameter, value: Path | None) -> None:
    if value is None or ctx.resilient_parsing:
        return
    import tomllib

    try:
        tree = tomllib.loads(value.read_text("utf-8"))
    except OSError as error:
        message = f"the configuration file {value} cannot be read: {error.strerror}"
        raise errors.UsageError(message, hint="give the path of a readable TOML file to --config") from error
    except ValueError as error:
        message = f"the configuration file {value} is not TOML: {error}"
        raise errors.UsageError(
            message, hint='write for example: journal = "/path" and [migrate] batch-size = 500'
        ) from error
    whole = _underscored(tree)
    general = {key: item for key, item in whole.items() if not isinstance(item, dict)}
    tables = {key: item for key, item in whole.items() if isinstance(item, dict)}
    root = ctx.find_root()
    _check_keys(value, general, {p.name for p in root.command.params})
    _check_keys(value, tables, set(getattr(root.command, "lazy", ())))
    if ctx is root:
        # "journal" is an option and a command: as a default for click it could only be one of them.
        ctx.meta[_FROM_CONFIG] = general.pop("journal", None)
        ctx.default_map = general | tables
        return
    mine = tables.get(ctx.info_name or "", {})
    _check_keys(value, mine, {p.name for p in ctx.command.params})
    ctx.default_map = general | mine


def _underscored(tree: dict[str, Any]) -> dict[str, Any]:
    return {key.replace("-", "_"): _underscored(item) if isinstance(item, dict) else item for key, item in tree.items()}


def _check_keys(path: Path, tree: dict[str, Any], known: set[str | None]) -> None:
    for key in tree:
        name = key.replace("-", "_")
        if any(word in name.lower() for word in _SECRET_WORDS) and not name.endswith("_file"):
            message = f"the configuration file {path} holds a secret: {key}"
            raise errors.UsageError(message, hint="put it into a MEMMIG_… variable or a password file with mode 0600")
        if name not in known:
            message = f"the configuration file {path} holds an unknown key: {key}"
            raise errors.UsageError(
                message, hint="keys are named as the options are, in a table named as the command is"
            )


type Decorated = Callable[..., Any]

_FILE = click.Path(path_type=Path, dir_okay=False)

_GLOBAL = (
    click.option("--config", metavar="FILE", type=_FILE, is_eager=True, expose_value=False, callback=_read_config,
                 help="TOML file with defaults of options."),
    click.option("--journal", metavar="PATH", type=click.Path(path_type=Path), envvar="MEMMIG_JOURNAL",
                 expose_value=False, callback=_remember,
                 help="The journal. Default: MEMMIG_JOURNAL, or a file in your state folder."),
    click.option("--log-file", metavar="FILE", type=_FILE, expose_value=False, callback=_remember,
                 help="Append what happens as JSON lines."),
    click.option("--json", is_flag=True, expose_value=False, callback=_remember,
                 help="Write exactly one JSON document to stdout."),
    click.option("--quiet", is_flag=True, expose_value=False, callback=_remember,
                 help="Say nothing but errors; results only as --json."),
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

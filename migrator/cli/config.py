"""The configuration file: defaults of options, a table per command, and profiles."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from click.core import ParameterSource

from migrator import errors
from migrator.cli.output import words_of
from migrator.places import default_config
from migrator.profiles import looks_secret, nearest

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    import click

#: Prefixes of the global options in the root context's ``meta``: what was typed or stands in a variable wins.
TYPED, PROFILE, CONFIG = "memmig.typed.", "memmig.profile.", "memmig.config."
_FILE = "memmig.file"


@dataclass(frozen=True, slots=True)
class File:
    """The configuration file of this call: its path, which need not exist, and its profiles as TOML gave them."""

    path: Path
    profiles: dict[str, Any]


def config_file(ctx: click.Context) -> File:
    """Return the configuration file that was read."""
    found = ctx.find_root().meta.get(_FILE)
    return found if isinstance(found, File) else File(default_config(), {})


def read_config(ctx: click.Context, param: click.Parameter, value: Path | None) -> None:
    """Take defaults from the file that ``--config`` or a variable names, else from the user's own where there is one.

    The callback of ``--config``, which stands on the program and on every command.
    """
    root = ctx.find_root()
    typed = any(word == "--config" or word.startswith("--config=") for word in words_of(ctx))
    if ctx.resilient_parsing or (
        typed and ctx.get_parameter_source(param.name or "") is not ParameterSource.COMMANDLINE
    ):
        return
    if not typed and ctx is not root:
        return  # the program itself has read it
    place = value or default_config()
    if value is not None or place.exists():
        _use(ctx, place)


def _use(ctx: click.Context, place: Path) -> None:
    tree = _tree(place)
    root = ctx.find_root()
    found = tree.pop("profiles", {})
    if not isinstance(found, dict):
        message = f"in the configuration file {place} profiles is not a table"
        raise errors.UsageError(message, hint="write for example [profiles.nightly]")
    root.meta[_FILE] = File(place, found)
    whole = _underscored(tree)
    general = {key: item for key, item in whole.items() if not isinstance(item, dict)}
    tables = {key: item for key, item in whole.items() if isinstance(item, dict)}
    _check_keys(place, general, {p.name or "" for p in root.command.params})
    _check_keys(place, tables, {*getattr(root.command, "lazy", ()), "profiles"})
    for name, table in tables.items():
        # A command's table is looked at when it is called: [profile.x] would pass unseen.
        for nested in (key for key, item in table.items() if isinstance(item, dict)):
            message = f"the configuration file {place} holds an unknown table: {name}.{nested}"
            raise errors.UsageError(message, hint=f"did you mean profiles.{nested}?")
    if ctx is root:
        # "journal" is an option and a command: as a default for click it could only be one of them.
        ctx.meta[CONFIG + "journal"] = general.pop("journal", None)
        ctx.default_map = general | tables
        return
    mine = tables.get(ctx.info_name or "", {})
    _check_keys(place, mine, {p.name or "" for p in ctx.command.params})
    ctx.default_map = general | mine


def _tree(place: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(place.read_text("utf-8"))
    except OSError as error:
        message = f"the configuration file {place} cannot be read: {error.strerror}"
        raise errors.UsageError(message, hint="give the path of a readable TOML file to --config") from error
    except ValueError as error:
        message = f"the configuration file {place} is not TOML: {error}"
        raise errors.UsageError(
            message, hint='write for example: journal = "/path" and [migrate] batch-size = 500'
        ) from error


def _underscored(tree: dict[str, Any]) -> dict[str, Any]:
    return {key.replace("-", "_"): _underscored(item) if isinstance(item, dict) else item for key, item in tree.items()}


def _check_keys(path: Path, tree: dict[str, Any], known: Collection[str]) -> None:
    for key in tree:
        if looks_secret(key) and not key.endswith("_file"):
            message = f"the configuration file {path} holds a secret: {key}"
            raise errors.UsageError(message, hint="put it into a MEMMIG_… variable or a password file with mode 0600")
        if key not in known:
            message = f"the configuration file {path} holds an unknown key: {key}"
            raise errors.UsageError(message, hint=nearest(key, known))

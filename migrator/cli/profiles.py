"""Profiles on the command line: ``migrate --profile``, and ``memmig profile list|check``."""

from __future__ import annotations

import os
import shlex
import stat
import subprocess
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from migrator import profiles
from migrator.cli.config import PROFILE, TYPED, config_file
from migrator.cli.group import ALWAYS, Command, LazyGroup
from migrator.cli.options import global_options
from migrator.cli.output import escape
from migrator.cli.runner import output_of
from migrator.cli.stores import only_line, read_password, source_of, target_of
from migrator.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from migrator.cli.config import File
    from migrator.cli.stores import Secret
    from migrator.models import Role
    from migrator.profiles import Profile, Reference, Value

_HERE = "migrator.cli.profiles"
_COMMANDS = {
    "list": (_HERE, "list_profiles", "Every profile of the configuration file."),
    "check": (_HERE, "check", "Whether profiles are right, and their secrets can be had."),
}
#: Options that say which profile it is, or nothing about a run.
_NOT_IN_A_PROFILE = frozenset({"profile", "config", "version", "help"})
_COMMAND_SECONDS = 60

#: Options that an option stands for instead of.
_RIVALS: dict[str, frozenset[str]] = {
    "full": frozenset({"since", "overlap", "full_every"}),
    "since": frozenset({"full"}),
    "skip_duplicates": frozenset({"on_conflict"}),
    "on_conflict": frozenset({"skip_duplicates"}),
    "keep_on_failure": frozenset({"rollback_on_failure"}),
    "rollback_on_failure": frozenset({"keep_on_failure"}),
}
_FROM = frozenset({"source", "from_path", "from_uri"})
_TO = frozenset({"target", "to_path", "to_uri"})
#: The same of a profile: a store that is named elsewhere takes nothing of the profile's, least of all its password.
_INSTEAD: dict[str, frozenset[str]] = {
    **_RIVALS,
    **dict.fromkeys(_FROM, _FROM | {"from_layout", "from_secret"}),
    **dict.fromkeys(_TO, _TO | {"layout", "to_secret"}),
    "from_password_file": frozenset({"from_secret"}),
    "to_password_file": frozenset({"to_secret"}),
}


def options_by_key(command: click.Command) -> dict[str, click.Option]:
    """Return the long options of ``migrate`` by the keys that they have in a profile."""
    return {
        name.removeprefix("--").replace("-", "_"): option
        for option in command.params
        if isinstance(option, click.Option)
        for name in option.opts
        if name.startswith("--")
        and option.name not in _NOT_IN_A_PROFILE
        # A file with a password is read as the other references to secrets are.
        and not profiles.looks_secret(name)
    }


def with_profile(ctx: click.Context, given: dict[str, Any]) -> dict[str, Any]:
    """Return click's values of ``migrate``, completed by the profile that they name, if any.

    What was given, or stands in a variable, wins over the profile, and that over the file's table for the command.
    """
    found: dict[str, Any] = {}
    if given["profile"]:
        file = config_file(ctx)
        profile = profiles.find(given["profile"], file.profiles, options_by_key(ctx.command))
        found = _values(ctx, ctx.command, profile) | _secrets(file, profile)
    names = [param.name or "" for param in ctx.command.params]
    typed = {name for name in names if ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE}
    # Those that stood before the command, or in a variable.
    typed |= {name for name in names if TYPED + name in ctx.find_root().meta}
    left = {name: value for name, value in found.items() if name not in typed | _of(_INSTEAD, typed)}
    for name in left.keys() - given.keys() - {"from_secret", "to_secret"}:
        ctx.find_root().meta[PROFILE + name] = left[name]
    displaced = _of(_RIVALS, typed | {name for name, value in left.items() if value}) - typed
    return {name: None if name in displaced else value for name, value in given.items()} | left


def _of(rivals: Mapping[str, frozenset[str]], names: Iterable[str]) -> frozenset[str]:
    return frozenset[str]().union(*(rivals.get(name, ()) for name in names))


def _values(ctx: click.Context, command: click.Command, profile: Profile) -> dict[str, Any]:
    """Return the values of a profile as click would have made them of the command line, by parameter."""
    options = options_by_key(command)
    return {
        str(options[key].name): _value(ctx, options[key], value, f"the profile {profile.name} says of {key}")
        for key, value in profile.values.items()
    }


def _value(ctx: click.Context, option: click.Option, value: Value, what: str) -> Any:  # noqa: ANN401 - click's own
    if isinstance(value, bool):
        # ``resume`` is an option with a value, and does without one.
        if not (option.is_flag or isinstance(option.flag_value, str)):
            message = f"{what} what is no value"
            raise UsageError(message, hint=f'write for example {option.opts[0].removeprefix("--")} = "…"')
        return value if option.is_flag else option.flag_value if value else None
    if option.is_flag:
        message = f"{what} what is neither true nor false"
        raise UsageError(message, hint="write true or false without quotation marks")
    try:
        return option.type.convert(value, option, ctx)
    except click.BadParameter as error:
        message = f"{what}: {' '.join(error.message.split()).rstrip('.')}"
        raise UsageError(message, hint="see memmig migrate --help") from error


def _secrets(file: File, profile: Profile) -> dict[str, Any]:
    return {f"{role}_secret": _secret(file, profile, role, found) for role, found in profile.secrets.items()}


def _secret(file: File, profile: Profile, role: Role, reference: Reference) -> Secret:
    what = f"{role}_password_{reference.means} of the profile {profile.name}"
    if reference.means == "file":
        return partial(read_password, Path(reference.what).expanduser())
    if reference.means == "env":
        return partial(_from_variable, what, reference.what)
    return partial(_from_command, what, reference.what, file.path)


def _from_variable(what: str, name: str) -> str:
    found = os.environ.get(name)
    if not found:
        # The name is not shown: someone may have written the password there.
        message = f"{what} names a variable that is not set"
        raise UsageError(message, hint="set the variable, or write the name of another one")
    return found


def _from_command(what: str, command: str, place: Path) -> str:
    _refuse_others_commands(place)
    try:
        words = shlex.split(command)
        # Without a shell. Its complaints are not shown: nobody knows what they hold.
        done = subprocess.run(  # noqa: S603 - the user's own configuration file names it
            words, stdin=subprocess.DEVNULL, capture_output=True, timeout=_COMMAND_SECONDS, check=False
        )
    except (OSError, ValueError, IndexError, subprocess.TimeoutExpired) as error:
        message = f"{what} cannot be run: {getattr(error, 'strerror', None) or type(error).__name__}"
        # The error itself, which a traceback would show, repeats the command.
        raise UsageError(message, hint="it is run without a shell; try it in a terminal") from None
    if done.returncode:
        message = f"{what} ended with {done.returncode}"
        raise UsageError(message, hint="it is run without a shell; try it in a terminal")
    return only_line(done.stdout, f"what {what} prints")


def _refuse_others_commands(place: Path) -> None:
    status = place.stat()
    if status.st_uid not in {os.getuid(), 0} or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        message = f"the configuration file {place} names a command, and others can write it"
        raise UsageError(message, hint=f"chmod go-w {place}")


# --- commands -------------------------------------------------------------------------------------------------------


@click.command(
    cls=LazyGroup,
    lazy=_COMMANDS,
    name="profile",
    no_args_is_help=False,
    invoke_without_command=True,
    subcommand_metavar="COMMAND [ARGS]...",
)
@global_options
@click.pass_context
def profile(ctx: click.Context) -> None:
    """Named settings of migrate: [profiles.NAME] in the configuration file.

    memmig migrate --profile NAME takes them; options on the command line win.
    """
    if ctx.invoked_subcommand is None:
        message = "the command for profiles is missing"
        raise UsageError(message, hint=f"one of {', '.join(_COMMANDS)}; see memmig profile --help")


def _migrate() -> click.Command:
    from migrator.cli.migrate import migrate

    return migrate


@click.command(cls=Command, codes=ALWAYS)
@global_options
@click.pass_context
def list_profiles(ctx: click.Context) -> int:
    """Show every profile. Where passwords are to be had is not shown."""
    output = output_of(ctx)
    file = config_file(ctx)
    known = options_by_key(_migrate())
    found = [profiles.read(name, table, known) for name, table in file.profiles.items()]
    if output.as_json:
        output.document([_document(one) for one in found])
    for one in found:
        output.line(escape(one.name))
        for key, value in one.values.items():
            text = value if isinstance(value, str) else str(value).lower()
            output.line(f"  {key} = {escape(text)}", indent=4)
    if not found:
        output.note(f"no profiles in {escape(str(file.path))}")
    return 0


def _document(profile: Profile) -> dict[str, Any]:
    stores: dict[str, Value | None] = {side: profile.values.get(side) for side in profiles.SIDES}
    return {"name": profile.name, **stores, "options": {k: v for k, v in profile.values.items() if k not in stores}}


@click.command(cls=Command, codes=ALWAYS)
@click.argument("names", nargs=-1, metavar="[NAME]...")
@global_options
@click.pass_context
def check(ctx: click.Context, /, names: tuple[str, ...]) -> int:
    """Check profiles, default all: keys, values, stores' names, and that passwords can be had. Looks at no store.

    memmig migrate --profile NAME --dry-run tries the stores, too.
    """
    output = output_of(ctx)
    file = config_file(ctx)
    checked = names or tuple(file.profiles)
    for name in checked:
        _check(ctx, file, name)
        output.line(f"{escape(name)} is right")
    if output.as_json:
        output.document([{"name": name, "ok": True} for name in checked])
    if not checked:
        output.note(f"no profiles in {escape(str(file.path))}")
    return 0


def _check(ctx: click.Context, file: File, name: str) -> None:
    from migrator.cli.migrate import options_of

    command = _migrate()
    found = profiles.find(name, file.profiles, options_by_key(command))
    nothing = command.make_context("migrate", [], resilient_parsing=True).params
    given = {**nothing, **_values(ctx, command, found), **_secrets(file, found)}
    try:
        options_of(given).validate()
        source_of(given)
        target_of(given)
    except UsageError as error:
        message = f"the profile {name}: {error.message}"
        raise UsageError(message, hint=error.hint) from error

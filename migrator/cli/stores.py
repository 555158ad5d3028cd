"""From options to stores: which one is meant, and the secrets that belong to it."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from migrator import urls
from migrator.errors import UsageError
from migrator.models import BackendConfig, BackendType

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from migrator.models import Layout, Role

_LONGEST_PASSWORD_FILE = 4_096

#: Called when the password is needed; UsageError (2) where it cannot be had.
type Secret = Callable[[], str]


def store(
    role: Role,
    *,
    name: str | None,
    path: str | None,
    uri: str | None,
    layout: Layout | None = None,
    all_labels: bool = False,
    secret: Secret | None = None,
) -> BackendConfig:
    """Return the store that ``--from|--to``, ``-path``, ``-uri`` mean, checked and with its secrets.

    Only a source may be left out: then memorygraph's environment variables say where it is. UsageError (2) otherwise.
    """
    parts = _parts(role, name, path, uri)
    config = BackendConfig(**parts, layout=layout, all_labels=all_labels)
    if config.backend is BackendType.MEMORY:
        message = "a store of the backend memory lives in one process and is gone when memmig ends"
        raise UsageError(message, hint=f"give a file or a server to --{role}")
    config.validate()
    return fill_secrets(config, role, secret=secret)


def source_of(given: Mapping[str, Any]) -> BackendConfig:
    """Return the source that a command's options mean."""
    return store(
        "from",
        name=given["source"],
        path=given["from_path"],
        uri=given["from_uri"],
        layout=given["from_layout"],
        all_labels=given["all_labels"],
        secret=secret_of(given, "from"),
    )


def target_of(given: Mapping[str, Any]) -> BackendConfig:
    """Return the target that a command's options mean; not every command has all of them."""
    return store(
        "to",
        name=given["target"],
        path=given["to_path"],
        uri=given["to_uri"],
        layout=given.get("layout"),
        all_labels=given.get("all_labels", False),
        secret=secret_of(given, "to"),
    )


def _parts(role: Role, name: str | None, path: str | None, uri: str | None) -> dict[str, Any]:
    named = name is not None
    if path is not None and (uri is not None or (named and "://" in str(name))):
        message = f"--{role}-path and a URL say the same thing twice"
        raise UsageError(message, hint=f"leave --{role}-path away")
    if uri is not None:
        if named and "://" in str(name):
            message = f"--{role} and --{role}-uri are both URLs"
            raise UsageError(message, hint=f"leave --{role}-uri away")
        if "://" not in uri:
            message = f"--{role}-uri takes a URL"
            raise UsageError(message, hint=f"for example --{role}-uri falkordb://localhost:6379/memorygraph")
        return _with_default_path(role, urls.parse(uri, backend=urls.backend_of(name) if name is not None else None))
    if name is not None and "://" in name:
        return _with_default_path(role, urls.parse(name))
    if name is None and path is None and role == "to":
        message = "the target is missing"
        raise UsageError(message, hint="give --to, for example --to sqlite:///new.db")
    parts = urls.from_environment(role, backend=None if name is None else urls.backend_of(name))
    if path is not None:
        if not urls.is_file(str(parts["backend"])):
            message = f"{parts['backend']} is a server, not a file"
            raise UsageError(message, hint=f"use --{role}-uri, or --{role} sqlite --{role}-path PATH")
        parts["path"] = urls.file_path(path)
    return parts


def _with_default_path(role: Role, parts: dict[str, Any]) -> dict[str, Any]:
    """``sqlite:///`` is as good as ``sqlite``."""
    backend = str(parts["backend"])
    if urls.is_file(backend) and "path" not in parts:
        return urls.from_environment(role, backend=backend)
    return parts


def fill_secrets(config: BackendConfig, role: Role, *, secret: Secret | None = None) -> BackendConfig:
    """Return the store with user and password from ``secret``, the environment or a prompt, as far as they are needed.

    A prompt only where a user is named, nothing else knows the password, and someone sits at the terminal.
    """
    if config.path is not None or config.password:
        if secret is not None:
            message = f"where a password is to be had is given for {config.backend}, which takes none"
            raise UsageError(message, hint=f"leave --{role}-password-file, or the profile's {role}_password_…, away")
        return config
    known = urls.credentials(role, config.backend, user=config.user)
    user = known.get("user", config.user)
    if secret is not None:
        password = secret()
    else:
        password = known.get("password", "")
        if user and not password and sys.stdin.isatty() and sys.stderr.isatty():
            import click

            place = f"{config.host}:{config.port}"
            password = click.prompt(
                f"password of {user} at {place}", hide_input=True, default="", err=True, show_default=False
            )
    return replace(config, user=user, password=password)


def secret_of(given: Mapping[str, Any], role: Role) -> Secret | None:
    """Return how a command's options, or its profile (``from_secret``, ``to_secret``), say where a password is."""
    file = given.get(f"{role}_password_file")
    secret: Secret | None = partial(read_password, file) if file is not None else given.get(f"{role}_secret")
    return secret


def secrets_from(given: Mapping[str, Any]) -> Callable[[BackendConfig, Role], BackendConfig]:
    """Return the function that fills in the secrets of stores which a journal names, by a command's options."""

    def fill(config: BackendConfig, role: Role) -> BackendConfig:
        return fill_secrets(config, role, secret=secret_of(given, role))

    return fill


def read_password(path: Path) -> str:
    """Return a password file's one line. UsageError (2) for one that others may read, an empty or a missing one."""
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            if stat.S_IMODE(status.st_mode) & 0o077:
                message = f"the password file {path} can be read by others (mode {stat.S_IMODE(status.st_mode):04o})"
                raise UsageError(message, hint=f"chmod 600 {path}")
            content = file.read(_LONGEST_PASSWORD_FILE + 1)
    except OSError as error:
        message = f"the password file {path} cannot be read: {error.strerror}"
        raise UsageError(message, hint="give the path of a file with the password in its only line") from error
    return only_line(content, f"the password file {path}")


def only_line(content: bytes, what: str) -> str:
    """Return the one line of text that a password is; UsageError (2), naming ``what``, where it is not one."""
    try:
        password = content.decode().removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError as error:
        message = f"{what} is not UTF-8 text"
        raise UsageError(message, hint="the password is to be its only line") from error
    if not password or "\n" in password or len(content) > _LONGEST_PASSWORD_FILE:
        message = f"{what} does not hold exactly one line"
        raise UsageError(message, hint="the password is to be its only line")
    return password

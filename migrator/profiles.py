"""Profiles: named settings of ``migrate``, as a configuration file holds them. Pure.

``[profiles.NAME]`` holds ``from``, ``to`` and any other long option of ``migrate``, written with underscores, and one
reference to a secret per side: ``from_password_env``, ``from_password_file`` or ``from_password_command``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, datetime, time
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Literal

from migrator import urls
from migrator.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from migrator.models import Role

type Value = str | bool
type Means = Literal["env", "file", "command"]

SIDES: tuple[Role, ...] = ("from", "to")
_MEANS: tuple[Means, ...] = ("env", "file", "command")
_URLS = frozenset({"from", "to", "from_uri", "to_uri"})
_SECRET_WORDS = ("password", "passwd", "token", "secret")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """Where a password is to be had: the name of a variable, a file of one line, or a command that prints it."""

    means: Means
    what: str = field(repr=False)  #: someone may have written the password itself here


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """What a profile says. ``values`` are texts (numbers and times too), and booleans for flags."""

    name: str
    values: dict[str, Value]  #: by the option's name with underscores: ``from``, ``batch_size``
    secrets: dict[Role, Reference]


def nearest(key: str, known: Collection[str]) -> str:
    """Return a hint that names the nearest right key, or says what keys are."""
    near = get_close_matches(key.lower(), known, n=1, cutoff=0.5)
    return f"did you mean {near[0]}?" if near else "keys are named as the options are: see memmig migrate --help"


def looks_secret(key: str) -> bool:
    """Return whether a key sounds as if its value were a secret."""
    return any(word in key.lower() for word in _SECRET_WORDS)


def read(name: str, table: Any, known: Collection[str]) -> Profile:  # noqa: ANN401 - any TOML value
    """Return the profile of a table; ``known`` are the options that a profile may hold.

    UsageError (2) for an unknown key, naming the nearest right one, for a password in the clear, which no message
    repeats, and for what is no text, number, time or boolean.
    """
    if not isinstance(table, dict):
        message = f"the profile {name} is not a table"
        raise UsageError(message, hint=f"write [profiles.{name}] and its keys below")
    references = {f"{side}_password_{means}": (side, means) for side in SIDES for means in _MEANS}
    values: dict[str, Value] = {}
    secrets: dict[Role, Reference] = {}
    for key, value in table.items():
        if key in references:
            side, means = references[key]
            if side in secrets:
                message = f"the profile {name} says twice where the password of --{side} is"
                raise UsageError(message, hint=f"leave one of {', '.join(k for k in table if k in references)} away")
            secrets[side] = Reference(means=means, what=_text(name, key, value))
        elif key in known:
            values[key] = value if isinstance(value, bool) else _text(name, key, value)
        elif looks_secret(key):
            message = f"the profile {name} holds a secret: {key}"
            raise UsageError(message, hint=_hint(_side_of(key)))
        else:
            message = f"the profile {name} holds an unknown key: {key}"
            raise UsageError(message, hint=nearest(key, [*known, *references]))
    return Profile(name=name, values=values, secrets=secrets)


def _text(name: str, key: str, value: object) -> str:
    if isinstance(value, (datetime, date, time)):
        return value.isoformat()
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        message = f"the profile {name} says of {key} what is neither a text nor a number"
        raise UsageError(message, hint=f'write {key} = "…"')
    if isinstance(value, str) and (urls.redact(value) != value or (key in _URLS and urls.may_hold_password(value))):
        message = f"the profile {name} holds what may be a password in the URL of {key}"
        raise UsageError(message, hint=_hint(_side_of(key)))
    return str(value)


def _side_of(key: str) -> Role:
    return "to" if key.startswith("to") else "from"


def _hint(side: Role) -> str:
    return f"name where it is instead: {', '.join(f'{side}_password_{means}' for means in _MEANS)}"


def find(name: str, tables: Mapping[str, Any], known: Collection[str]) -> Profile:
    """Return one of the profiles; UsageError (2), naming the nearest, where there is none of that name."""
    if name not in tables:
        near = get_close_matches(name, tables, n=1, cutoff=0.5)
        message = f"there is no profile {name}"
        raise UsageError(message, hint=f"did you mean {near[0]}?" if near else "memmig profile list shows them")
    return read(name, tables[name], known)

"""Exact reading and byte-keeping editing of the JSON objects that SQLite stores keep in text columns. Pure.

orjson is ten times as fast as the standard library, but it reads integers outside 64 bits as floats, takes the last of
duplicate keys without a word, and refuses NaN, Infinity, 1e400 and lone surrogates (measured, orjson 3.11). So its
answer is used only where none of that can have happened.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import orjson

from migrator.model import MAX_DEPTH, too_deep

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_INT64 = float(1 << 63)
_DOUBT = -(1 << 60)
_BLANKS = " \t\n\r"


class NotAnObjectError(ValueError):
    """The text is no JSON object that can be read exactly; the message says why, for people."""


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        msg = "its JSON has a key twice"
        raise NotAnObjectError(msg)
    return found


_exact = json.JSONDecoder(object_pairs_hook=_pairs)
_plain = json.JSONDecoder()


def _read_exactly(text: str) -> dict[str, Any]:
    try:
        found = _exact.decode(text)
    except NotAnObjectError:
        raise
    except RecursionError:
        msg = "its JSON is nested too deep"
        raise NotAnObjectError(msg) from None
    except ValueError as error:
        msg = f"its JSON does not parse: {error}"
        raise NotAnObjectError(msg) from None
    if type(found) is not dict:
        msg = "its JSON is no object"
        raise NotAnObjectError(msg)
    if any(map(too_deep, found.values())):
        msg = "its JSON is nested too deep"
        raise NotAnObjectError(msg)
    return found


def _keys_within(value: Any, room: int = MAX_DEPTH) -> int:  # noqa: ANN401 - any JSON value
    """Count the keys in lists and maps; hugely negative where it is too deep, or a float may have been an integer."""
    kind = type(value)
    if kind is list or kind is dict:
        if not room:
            return _DOUBT
        keys = 0
        for inner in value.values() if kind is dict else value:
            keys += _keys_within(inner, room - 1)
        return keys + (len(value) if kind is dict else 0)
    if kind is float and not -_INT64 < value < _INT64:
        return _DOUBT
    return 0


def read_object(text: str) -> dict[str, Any]:
    """Return the JSON object in a text, every value exact. Raises NotAnObjectError, duplicate keys included."""
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError:
        return _read_exactly(text)
    if type(found) is not dict:
        return _read_exactly(text)
    keys = len(found)
    for value in found.values():
        kind = type(value)
        if kind is float:
            if not -_INT64 < value < _INT64:
                return _read_exactly(text)
        elif kind is list or kind is dict:
            keys += _keys_within(value)
    # Every key is followed by a quote and a colon; in a string that quote is escaped. Where blanks may stand before a
    # colon, or a backslash may be the last character of a key, the count proves nothing.
    if " :" in text or "\n" in text or "\t" in text or "\r" in text:
        return _read_exactly(text)
    colons = text.count('":')
    if colons != keys and ('\\\\":' in text or colons - text.count('\\":') != keys):
        return _read_exactly(text)
    return found


def write(value: Any, exactly: Callable[[Any], str]) -> str:  # noqa: ANN401 - any JSON value
    """Return a value as JSON text, keys sorted; by ``exactly`` where orjson would refuse it or write NaN as null."""
    try:
        text = orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()
    except TypeError:
        return exactly(value)
    return exactly(value) if "null" in text else text


def _members(text: str) -> dict[str, str]:
    """Return the text of each member (``"key": value``) of a JSON object that can be read."""
    found: dict[str, str] = {}
    at = _next(text, text.index("{") + 1)
    while text[at] != "}":
        key, after = _plain.raw_decode(text, at)
        _, end = _plain.raw_decode(text, _next(text, _next(text, after) + 1))
        found[key] = text[at:end]
        at = _next(text, end)
        if text[at] == ",":
            at = _next(text, at + 1)
    return found


def _next(text: str, at: int) -> int:
    while text[at] in _BLANKS:
        at += 1
    return at


def graft(onto: str, source: str, fields: Iterable[str]) -> str:
    """Return the object ``onto`` with the named members as they stand in ``source`` (absent there = removed).

    All other members keep their bytes and their order. Both texts must be readable by :func:`read_object`.
    """
    there, given = _members(onto), _members(source)
    for name in fields:
        if name in given:
            there[name] = given[name]
        else:
            there.pop(name, None)
    return "{" + ", ".join(there.values()) + "}"

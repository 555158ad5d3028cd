"""What one cell of a SQLite row can hold exactly, and how times stand in it. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from migrator.model import MAX_DEPTH
from migrator.times import instant_text, is_python_utc, parse_time, time_text

if TYPE_CHECKING:
    from migrator.model import Value

_NUMBER = re.compile(r"[ \t\n\v\f\r]*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?[ \t\n\v\f\r]*", re.ASCII)
#: Python writes integers of up to 4,300 digits as text.
_WIDEST_INT_BITS = 14_000
_PAIR = re.compile("[\ud800-\udbff][\udc00-\udfff]")


def becomes_number(text: str) -> bool:
    """Tell whether NUMERIC affinity would turn a text into a number (https://www.sqlite.org/datatype3.html, 3)."""
    return _NUMBER.fullmatch(text) is not None


def text_problem(value: str) -> str:
    """Say why a text cannot stand in a column; usually "". Lone surrogates have no UTF-8."""
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            return "a lone surrogate cannot be stored as text"
    return ""


def _joined(value: str) -> str:
    """Say whether JSON's escapes would make one character of two lone surrogates; usually ""."""
    if text_problem(value) and _PAIR.search(value):
        return "JSON would join two lone surrogates to one character"
    return ""


def json_problem(value: Value, *, finite: bool, room: int = MAX_DEPTH) -> str:
    """Say why a value cannot be written as JSON and read back exactly; usually "". ``room``: levels still allowed."""
    kind = type(value)
    if kind is str:
        return "" if value.isascii() else _joined(value)
    if kind is float:
        return "JSON has no NaN and no infinity" if finite and value - value != 0 else ""
    if kind is list or kind is dict:
        return _nested_problem(value, finite=finite, room=room)
    if kind is int:
        return "an integer of more than 4,000 digits" if value.bit_length() >= _WIDEST_INT_BITS else ""
    if kind is bool or value is None:
        return ""
    return f"a value of type {kind.__name__} cannot be stored as JSON"


def _nested_problem(value: Value, *, finite: bool, room: int) -> str:
    if not room:
        return "nested too deep"
    if type(value) is dict:
        for key in value:
            if type(key) is not str:
                return "a map's key is no text"
            if not key.isascii() and (reason := _joined(key)):
                return reason
    for item in value.values() if type(value) is dict else value:
        if reason := json_problem(item, finite=finite, room=room - 1):
            return reason
    return ""


def stamp(value: Value) -> str | None:
    """Return the row's bookkeeping time (``YYYY-MM-DD HH:MM:SS``, UTC) of a time field's value, where it is one."""
    if type(value) is str:
        if is_python_utc(value):
            return f"{value[:10]} {value[11:19]}"
        text = instant_text(value)
        return None if text is None else f"{text[:10]} {text[11:19]}"
    moment = parse_time(value)
    return None if moment is None else moment.isoformat(" ")[:19]


def time_cell(value: Value) -> Value:
    """Return a time field's value as the clients read it: a number since 1970 becomes ISO-8601 text."""
    if value is None or type(value) is str:
        return value
    moment = parse_time(value)
    return value if moment is None else time_text(moment)

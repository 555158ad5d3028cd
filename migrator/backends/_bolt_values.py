"""What Bolt has a type for and JSON has not: times, durations, points. As a stored form carries them, exactly. Pure.

``{NATIVE: its name, "value": [the fields of its Bolt structure]}``. The driver's own objects are no way there and back:
they take ``Z`` for the zone ``[UTC]``, cut offsets to minutes, and know the years 1 to 9999 alone [measured, 6.4.1].
"""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from migrator.backends._cypher import NATIVE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from migrator.model import Value

#: Bolt's structures that may be values of properties (Bolt 5: date-times are in UTC). Others are no values.
_NAMES = {
    b"I": "date-time",
    b"i": "date-time of a zone",
    b"d": "local date-time",
    b"D": "date",
    b"T": "time",
    b"t": "local time",
    b"E": "duration",
    b"X": "point",
    b"Y": "point in space",
    b"V": "vector",
}
_TAGS = {name: tag for tag, name in _NAMES.items()}
_PLAIN = frozenset({str, int, float, bool, bytes, type(None)})
_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - offsets are added by hand, to the nanosecond
_DAY = 86_400_000_000_000


class _Native(dict[str, Any]):
    """What a reader made of a structure. Its type tells it from a map that a user wrote, whatever stands in that."""


def readers() -> dict[bytes, Callable[..., Value]]:
    """Return for each tag of a structure what makes of its fields what :func:`frozen` knows for a native."""
    return {tag: partial(_carried, name) for tag, name in _NAMES.items()}


def _carried(name: str, *fields: Value) -> Value:
    return _Native({NATIVE: name, "value": list(fields)})


def frozen(properties: dict[str, Value]) -> dict[str, Value]:
    """Return the stored form of a map of properties, as :func:`readers` and the driver gave it.

    A map with the key of a native is ``{NATIVE: "map", "value": the map}``, so that no map can be taken for one.
    """
    values = properties.values()
    if all(type(one) in _PLAIN or (type(one) is list and _PLAIN.issuperset(map(type, one))) for one in values):
        return properties
    return {name: _freeze(value) for name, value in properties.items()}


def _freeze(value: Value) -> Value:
    if type(value) is list:
        return value if _PLAIN.issuperset(map(type, value)) else [_freeze(item) for item in value]
    if type(value) is _Native:
        return dict(value)
    if type(value) is not dict:
        return value
    inner = {name: _freeze(item) for name, item in value.items()}
    return {NATIVE: "map", "value": inner} if NATIVE in inner else inner


def thawed(properties: Mapping[str, Value]) -> dict[str, Any]:
    """Return properties of a stored form as the driver takes them."""
    values = properties.values()
    if not any(type(value) is dict or (type(value) is list and _nested(value)) for value in values):
        return dict(properties)
    return {name: _thaw(value) for name, value in properties.items()}


def _nested(items: Iterable[Value]) -> bool:
    return any(type(item) is dict or type(item) is list for item in items)


def _thaw(value: Value) -> Any:  # noqa: ANN401 - whatever the driver takes
    if type(value) is list:
        return [_thaw(item) for item in value]
    if type(value) is not dict:
        return value
    if NATIVE not in value:
        return {name: _thaw(item) for name, item in value.items()}
    if value[NATIVE] == "map":
        return {name: _thaw(item) for name, item in value["value"].items()}
    from neo4j._codec.packstream import Structure

    return Structure(_TAGS[value[NATIVE]], *value["value"])


def time_text(native: Mapping[str, Value], *, instant: bool) -> str | None:
    """Return the ISO-8601 text of a native time, nothing rounded; None for what is no time, and for impossible years.

    ``instant`` = in a field that is an instant: without the zone's name, which says nothing more there.
    """
    make = _TEXTS.get(native.get(NATIVE, ""))
    if make is None:
        return None
    try:
        text = make(*native["value"])
    except OverflowError:
        return None
    return text.partition("[")[0] if instant else text


def _date_time(seconds: int, nanoseconds: int, offset: int) -> str:
    return f"{_local(seconds + offset, nanoseconds)}{_offset(offset)}"


def _zoned(seconds: int, nanoseconds: int, zone: str) -> str:
    import pytz  # type: ignore[import-untyped]

    moment = _EPOCH + timedelta(seconds=seconds)
    try:
        ahead = pytz.timezone(zone).fromutc(moment).utcoffset()
    except (pytz.UnknownTimeZoneError, OverflowError):
        ahead = None
    offset = 0 if ahead is None else int(ahead.total_seconds())
    return f"{_date_time(seconds, nanoseconds, offset)}[{zone}]"


def _local(seconds: int, nanoseconds: int) -> str:
    return (_EPOCH + timedelta(seconds=seconds)).isoformat() + _fraction(nanoseconds)


def _date(days: int) -> str:
    return (_EPOCH + timedelta(days=days)).date().isoformat()


def _time(nanoseconds: int, offset: int) -> str:
    return f"{_local_time(nanoseconds)}{_offset(offset)}"


def _local_time(nanoseconds: int) -> str:
    seconds, rest = divmod(nanoseconds % _DAY, 1_000_000_000)
    return f"{_EPOCH + timedelta(seconds=seconds):%H:%M:%S}{_fraction(rest)}"


def _duration(months: int, days: int, seconds: int, nanoseconds: int) -> str:
    total = seconds * 1_000_000_000 + nanoseconds
    whole, rest = divmod(abs(total), 1_000_000_000)
    return f"P{months}M{days}DT{'-' if total < 0 else ''}{whole}{_fraction(rest)}S"


def _fraction(nanoseconds: int) -> str:
    if not nanoseconds:
        return ""
    micro, rest = divmod(nanoseconds, 1_000)
    return f".{nanoseconds:09}" if rest else f".{micro:06}"


def _offset(seconds: int) -> str:
    minutes, rest = divmod(abs(seconds), 60)
    text = f"{'-' if seconds < 0 else '+'}{minutes // 60:02}:{minutes % 60:02}"
    return f"{text}:{rest:02}" if rest else text


_TEXTS: dict[str, Callable[..., str]] = {
    "date-time": _date_time,
    "date-time of a zone": _zoned,
    "local date-time": _local,
    "date": _date,
    "time": _time,
    "local time": _local_time,
    "duration": _duration,
}

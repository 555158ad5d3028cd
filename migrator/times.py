"""What counts as a time, and its canonical text. Pure."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from migrator.model import Value

_INT64 = 1 << 63
_TIME = re.compile(
    r"\d{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01])[T ](?:[01]\d|2[0-3]):[0-5]\d"
    r"(?::[0-5]\d(?:\.\d{1,6})?)?(?:Z|[+-](?:[01]\d|2[0-3]):[0-5]\d)?",
    re.ASCII,
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_PYTHON_TIME = len("2025-01-31T12:34:56.123456+00:00")
_EPOCH_MICROSECONDS_FROM = 10**14
_EPOCH_MILLISECONDS_FROM = 10**11


@lru_cache(maxsize=8192)
def _parse_time_text(text: str) -> datetime | None:
    if not _TIME.fullmatch(text):
        return None
    try:
        moment = datetime.fromisoformat(text)
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def parse_time(value: Value) -> datetime | None:
    """Return the UTC instant of a time field's value, or None where it is not one, or finer than a microsecond.

    Text: ``YYYY-MM-DD(T| )HH:MM[:SS[.f…]][Z|±HH:MM]``, up to 6 digits of fraction, without zone = UTC.
    Numbers since 1970: at least 1e14 = microseconds, at least 1e11 = milliseconds, else seconds (by magnitude).
    """
    if type(value) is str:
        return _parse_time_text(value)
    if type(value) is float and value.is_integer() and abs(value) < _INT64:
        value = int(value)
    if type(value) is not int:
        return None
    size = abs(value)
    factor = 1 if size >= _EPOCH_MICROSECONDS_FROM else 1_000 if size >= _EPOCH_MILLISECONDS_FROM else 1_000_000
    try:
        return _EPOCH + timedelta(microseconds=value * factor)
    except OverflowError:
        return None


def time_text(moment: datetime) -> str:
    """Return the canonical text of an instant: UTC, microseconds, ``Z``."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ").zfill(27)


def is_python_utc(text: str) -> bool:
    """Tell whether a text is what Python writes for an instant in UTC: but for its zone, that is canonical already."""
    if len(text) != _PYTHON_TIME or text[10] != "T" or not text.endswith("+00:00") or not _TIME.fullmatch(text):
        return False
    try:
        datetime.fromisoformat(text)  # such a day exists
    except ValueError:
        return False
    return True


@lru_cache(maxsize=8192)
def instant_text(text: str) -> str | None:
    """Return the canonical text of the instant that a text is (see :func:`parse_time`), or None."""
    if is_python_utc(text):
        return text[:26] + "Z"
    moment = _parse_time_text(text)
    if moment is None:
        return None
    return f"{moment.isoformat()[:19]}.{moment.microsecond:06d}Z"

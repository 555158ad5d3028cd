"""How ``--since`` and lengths of time are written, by users and for them. Pure; imported by the command line."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from migrator.errors import UsageError
from migrator.times import parse_time

#: A ``--since`` that means the pair's watermark.
LAST = "last"

_SINCE_HINT = "for example: --since last, 2026-01-31, 2026-01-31T08:00, 2026-01-31T08:00:00+01:00, 36h, 7d"
_SPAN_HINT = "for example: 90s, 5m, 36h, 7d, 2w"
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_SPAN = re.compile(r"(\d{1,6})\s*([smhdw])", re.ASCII)
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)


def parse_span(text: str, option: str) -> timedelta:
    """Return a length of time such as ``36h`` (s, m, h, d, w; ``0`` for none); UsageError, naming the option."""
    found = _SPAN.fullmatch(text.strip())
    if text.strip() == "0":
        return timedelta()
    if found is None:
        msg = f"{option} is no length of time: {text!r}"
        raise UsageError(msg, hint=_SPAN_HINT)
    return timedelta(**{_UNITS[found[2]]: int(found[1])})


def parse_since(text: str, now: datetime) -> datetime | None:
    """Return the UTC instant that ``--since`` means at ``now``; None for ``last``. Without a zone a time is UTC.

    UsageError for anything else, and for a time that has not come yet.
    """
    wanted = text.strip()
    if wanted == LAST:
        return None
    if _SPAN.fullmatch(wanted):
        try:
            return now - parse_span(wanted, "--since")
        except OverflowError as error:
            msg = f"--since is too long ago: {text!r}"
            raise UsageError(msg, hint=_SINCE_HINT) from error
    moment = parse_time(f"{wanted}T00:00" if _DAY.fullmatch(wanted) else wanted)
    if moment is None:
        msg = f"--since is no time: {text!r}"
        raise UsageError(msg, hint=_SINCE_HINT)
    if moment > now:
        msg = f"--since has not come yet: {text!r}; it is {now.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
        raise UsageError(msg, hint=_SINCE_HINT)
    return moment


def ago(now: datetime, moment: datetime | None) -> str:
    """Return how long ago something was, for people: ``3 d ago``."""
    if moment is None:
        return "unknown"
    hours = max(int((now - moment).total_seconds()), 0) // 3600
    return f"{hours // 24} d ago" if hours >= 48 else f"{hours} h ago"  # noqa: PLR2004 - two days

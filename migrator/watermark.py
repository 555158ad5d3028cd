"""Which times include a record in a ``--since`` run, and which raise the watermark. Pure.

The rules are those of docs/explanation/sync.md: when in doubt a record is read, and the watermark stays lower.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Literal

from migrator.model import KINDS, TIME_FIELDS, Corrupt
from migrator.times import parse_time, time_text

if TYPE_CHECKING:
    from migrator.model import Kind, Properties, Record

DEFAULT_OVERLAP = timedelta(minutes=5)

#: Times that a clock made when something happened: only these raise the watermark.
RAISING = ("created_at", "updated_at", "recorded_at", "last_validated", "last_accessed")
#: Times that include a record: all that are known of its kind.
INCLUDING = {kind: tuple(sorted(TIME_FIELDS[kind] | {"updated_at"})) for kind in KINDS}

Unsure = Literal["missing", "unreadable", "number", "without zone"]

_ZONED = re.compile(r".*(?:Z|[+-]\d{2}:\d{2})", re.ASCII | re.DOTALL)
_SECONDS = len("2025-01-31T12:34:56")


def sure_time(value: object) -> datetime | Unsure:
    """Return the instant of a stamp, or why it is not sure: unreadable, a number of some unit, without a zone."""
    if type(value) in {int, float}:
        return "number"
    moment = parse_time(value)
    if moment is None or type(value) is not str:
        return "unreadable"
    return moment if _ZONED.fullmatch(value) else "without zone"


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """What a ``--since`` run reads. Closed below, and it begins ``overlap`` earlier than asked for."""

    since: datetime
    overlap: timedelta = DEFAULT_OVERLAP

    @property
    def begin(self) -> datetime:
        """The first instant that is included."""
        earliest = datetime.min.replace(tzinfo=UTC)
        return self.since - self.overlap if self.since - earliest > self.overlap else earliest

    def includes(self, kind: Kind, properties: Properties) -> bool | Unsure:
        """Return whether a record belongs to the interval, or for want of what it is read to be sure."""
        begin, unsure, seen, inside = self.begin, None, False, False
        for name in INCLUDING[kind]:
            value = properties.get(name)
            if value is not None:
                seen = True
                moment = sure_time(value)
                if isinstance(moment, str):
                    unsure = unsure or moment
                elif moment >= begin:
                    inside = True
        return unsure or inside if seen else "missing"


@dataclass(slots=True)
class Stamps:
    """The latest time of records, up to our clock when the run was opened; times later than ``now`` are counted."""

    ceiling: datetime
    now: datetime
    latest: datetime | None = None
    future: int = 0  #: sightings of records with a time later than ``now``
    first_future: str = ""  #: the first of them: kind, id and time
    _seconds: str = field(default="")  #: of ``latest``: what sorts as the times do, where a text ends in UTC

    def begin(self) -> None:
        """Hear that all is read from its beginning (again)."""
        self.future, self.first_future = 0, ""

    def see(self, item: Record | Corrupt) -> None:
        """Look at one record. Only texts with a zone count: other times may lie hours beside what they seem."""
        if isinstance(item, Corrupt):
            return
        later = False
        properties = item.properties
        for name in RAISING:
            value = properties.get(name)
            if type(value) is not str:
                continue
            # Most are older than the latest: those are told by their text alone, as parsing takes ten times as long.
            if value[:_SECONDS] < self._seconds and value[10:11] == "T" and value.endswith(("+00:00", "Z")):
                continue
            moment = sure_time(value)
            if isinstance(moment, str):
                continue
            if moment > self.ceiling:
                later = later or moment > self.now
                if later and not self.first_future:
                    self.first_future = f"{item.id}, {name} {value}"
            elif self.latest is None or moment > self.latest:
                self.latest = moment
                self._seconds = time_text(moment)[:_SECONDS]
        self.future += later

    @property
    def warnings(self) -> list[str]:
        """What to say about times that lie in the future."""
        if not self.future:
            return []
        count = "a record has a time" if self.future == 1 else f"{self.future} records have times"
        return [f"{count} later than this machine's clock: {self.first_future}; the watermark does not follow"]


def raised(watermark: str | None, *, since: datetime | None, latest: datetime | None) -> str | None:
    """Return the watermark that a run sets which read everything (``since`` None), or what changed since then.

    None leaves it where it was: nothing had a time, or there is a gap between the watermark and the interval.
    """
    before = parse_time(watermark)
    if since is not None and (before is None or since > before):
        return None
    reached = [moment for moment in (before, latest) if moment is not None]
    return time_text(max(reached)) if reached else None

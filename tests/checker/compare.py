"""Compares two stores in full, property by property, and names every difference.

An implementation of its own of what counts as equal: absent = null = the default for nine fields, known lists and the
metadata object also as JSON text, known times as instants of a microsecond, known numbers by value where that is
exact; everything else verbatim, floats bit by bit.
"""

from __future__ import annotations

import json
import math
import re
import struct
from collections import Counter
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any

from tests.checker.graphserver import Native

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from tests.checker.rawstore import Contents, RawMemory, RawRelationship

type Normal = tuple[Any, ...]

_LISTS = {"tags", *(f"context_{name}" for name in ("files_involved", "languages", "frameworks", "technologies"))}
_TIMES = {
    "memory": {"created_at", "updated_at", "last_accessed", "context_timestamp"},
    "relationship": {"created_at", "last_validated", "valid_from", "valid_until", "recorded_at"},
}
_FLOATS = {
    "memory": {"importance", "confidence", "effectiveness"},
    "relationship": {"strength", "confidence", "success_rate"},
}
_INTS = {
    "memory": {"usage_count", "version"},
    "relationship": {"evidence_count", "validation_count", "counter_evidence_count"},
}
_DEFAULTS: dict[str, dict[str, Any]] = {
    "memory": {"tags": [], "importance": 0.5, "confidence": 0.8, "usage_count": 0, "version": 1},
    "relationship": {
        "strength": 0.5,
        "confidence": 0.8,
        "evidence_count": 1,
        "validation_count": 0,
        "counter_evidence_count": 0,
    },
}


@dataclass(frozen=True, slots=True, order=True)
class Difference:
    """``what``: missing, extra, different, duplicate, corrupt or leftover. ``left`` and ``right`` are for people."""

    kind: str
    what: str
    id: str
    field: str = ""
    left: str = ""
    right: str = ""


# --- values ---------------------------------------------------------------------------------------------------------


def _verbatim(value: Any) -> Normal:
    if isinstance(value, bool):
        return ("bool", value)
    if isinstance(value, int):
        return ("int", value)
    if isinstance(value, float):
        return ("float", "nan" if math.isnan(value) else struct.pack(">d", value))
    if isinstance(value, list):
        return ("list", *map(_verbatim, value))
    if isinstance(value, dict):
        return ("object", *sorted((key, _verbatim(item)) for key, item in value.items()))
    if isinstance(value, Native):
        return ("native", value.sort, value.value) if value.text is None else ("str", value.text)
    return (type(value).__name__, value)


_TIME = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[T ](\d\d):(\d\d)(?::(\d\d)(?:\.(\d{1,6}))?)?(?:(Z)|([+-])(\d\d):(\d\d))?", re.ASCII
)


def instant(value: Any) -> int | None:
    """Return microseconds since 1970 in UTC, or None where the value is no time, or one finer than a microsecond."""
    if isinstance(value, Native) and isinstance(value.value, int):
        return value.value * 1_000_000
    if isinstance(value, Native):
        value = value.value if str(value.sort).partition(" ")[0] in ("DateTime", "LocalDateTime") else None
    if isinstance(value, int | float) and not isinstance(value, bool):
        if not math.isfinite(value) or int(value) != value:
            return None
        size = abs(value)
        return int(value) * (1 if size >= 10**14 else 1_000 if size >= 10**11 else 1_000_000)
    found = _TIME.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        return None
    year, month, day, hour, minute, second, fraction, _, sign, zone_hours, zone_minutes = found.groups()
    if int(hour) > 23 or int(minute) > 59 or int(second or 0) > 59:
        return None
    if sign and (int(zone_hours) > 23 or int(zone_minutes) > 59):
        return None
    try:
        days = date(int(year), int(month), int(day)).toordinal() - date(1970, 1, 1).toordinal()
    except ValueError:
        return None
    offset = (int(zone_hours) * 60 + int(zone_minutes)) * (-1 if sign == "-" else 1) if sign else 0
    seconds = days * 86_400 + int(hour) * 3_600 + (int(minute) - offset) * 60 + int(second or 0)
    return seconds * 1_000_000 + int((fraction or "0").ljust(6, "0"))


def _refuse_constant(name: str) -> Any:
    raise ValueError(name)


def _parsed(value: Any, wanted: type) -> Any:
    """Return what a JSON text of the wanted type says, anything else as it is."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(dict(pairs)) < len(pairs):
            raise ValueError
        return dict(pairs)

    if isinstance(value, str):
        try:
            found = json.loads(value, object_pairs_hook=unique, parse_constant=_refuse_constant)
        except (ValueError, RecursionError):
            return value
        if isinstance(found, wanted):
            return found
    return value


def normal(kind: str, key: str, value: Any) -> Normal:
    """Return the comparable form of one property."""
    if key in _TIMES[kind]:
        moment = instant(value)
        if moment is not None:
            return ("time", moment)
    if kind == "memory" and key in _LISTS:
        value = _parsed(value, list)
    if kind == "memory" and key == "context_additional_metadata":
        value = _parsed(value, dict)
    if key in _FLOATS[kind] and type(value) is int:
        try:
            value = float(value) if int(float(value)) == value else value
        except OverflowError:
            return _verbatim(value)
    whole = key in _INTS[kind] and type(value) is float and value.is_integer() and abs(value) < 2**63
    if whole and struct.pack(">d", value) != struct.pack(">d", -0.0):
        value = int(value)
    return _verbatim(value)


def fields_of(kind: str, properties: dict[str, Any]) -> dict[str, Normal]:
    """Return the comparable form of a record's properties: what is absent, null or the default is left out."""
    found = {key: normal(kind, key, value) for key, value in properties.items() if value is not None and key != "id"}
    for key, default in _DEFAULTS[kind].items():
        if found.get(key) == normal(kind, key, default):
            del found[key]
    return found


# --- stores ---------------------------------------------------------------------------------------------------------


def _memory_fields(memory: RawMemory) -> dict[str, Normal]:
    return fields_of("memory", memory.properties) | {":labels": tuple(sorted(memory.labels))}


def _relationship_fields(edge: RawRelationship) -> dict[str, Normal]:
    ends = {":type": (edge.type,), ":from": (edge.from_id,), ":to": (edge.to_id,)}
    return fields_of("relationship", edge.properties) | ends


def _by_id(
    kind: str, records: Iterable[Any], form: Callable[[Any], dict[str, Normal]], side: str
) -> tuple[dict[Any, dict[str, Normal]], list[dict[str, Normal]], list[Difference]]:
    found: dict[Any, dict[str, Normal]] = {}
    without: list[dict[str, Normal]] = []
    problems = []
    for record in records:
        if record.id is None:
            without.append(form(record))
        elif record.id in found:
            problems.append(Difference(kind, "duplicate", str(record.id), side))
        else:
            found[record.id] = form(record)
    return found, without, problems


def _shorten(value: Normal | None) -> str:
    text = "absent" if value is None else repr(value)
    return text if len(text) < 200 else text[:200] + "…"


def _compare_kind(
    kind: str, left: Iterable[Any], right: Iterable[Any], form: Callable[[Any], dict[str, Normal]]
) -> list[Difference]:
    ours, nameless, found = _by_id(kind, left, form, "left")
    theirs, nameless_right, more = _by_id(kind, right, form, "right")
    found += more
    for key in ours.keys() - theirs.keys():
        found.append(Difference(kind, "missing", str(key)))
    extra = theirs.keys() - ours.keys()
    # An edge without id gets one on its way: what is left over on the right must hold the same edges.
    wanted = Counter(tuple(sorted(fields.items())) for fields in nameless)
    wanted.subtract(Counter(tuple(sorted(fields.items())) for fields in nameless_right))
    for key in sorted(extra, key=str):
        content = tuple(sorted(theirs[key].items()))
        if wanted[content] > 0:
            wanted[content] -= 1
        else:
            found.append(Difference(kind, "extra", str(key)))
    for content, count in wanted.items():
        if count:
            found.append(Difference(kind, "missing" if count > 0 else "extra", "", str(count), _shorten(content)))
    for key in ours.keys() & theirs.keys():
        one, other = ours[key], theirs[key]
        for name in one.keys() | other.keys():
            if one.get(name) != other.get(name):
                shown = _shorten(one.get(name)), _shorten(other.get(name))
                found.append(Difference(kind, "different", str(key), name, *shown))
    return found


def compare(
    left: Contents, right: Contents, *, without: Collection[tuple[str, Any]] = (), all_labels: bool = False
) -> list[Difference]:
    """Return every difference between a source and what was made of it, sorted; an empty list = equal.

    ``without``: (kind, id) of source records that are expected to be absent on the right. ``all_labels``: nodes of
    other labels and edges at them belong to the comparison. Corrupt rows count as differences on the right, and on the
    left unless they are in ``without``.
    """
    excluded = set(without)
    memories, edges = list(left.memories), list(left.relationships)
    their_memories, their_edges = list(right.memories), list(right.relationships)
    if all_labels:
        memories += left.other_nodes
        edges += left.other_relationships
        their_memories += right.other_nodes
        their_edges += right.other_relationships
    memories = [memory for memory in memories if ("memory", memory.id) not in excluded]
    edges = [edge for edge in edges if ("relationship", edge.id) not in excluded]
    found = _compare_kind("memory", memories, their_memories, _memory_fields)
    found += _compare_kind("relationship", edges, their_edges, _relationship_fields)
    found += [Difference(kind, "corrupt", str(key), "right", right=why) for kind, key, why in right.corrupt]
    found += [
        Difference(kind, "corrupt", str(key), "left", left=why)
        for kind, key, why in left.corrupt
        if (kind, key) not in excluded
    ]
    found += [Difference("store", "leftover", name) for name in right.leftovers]
    return sorted(found)

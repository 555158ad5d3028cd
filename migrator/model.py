"""Records, their canonical form, and its digest. Pure: no I/O, no clock, no configuration.

Adapters (``migrator.backends``) turn what a store holds into the canonical form and back; digests are taken over the
canonical form only, so equal memories have equal digests in every store. docs/reference/canonical-form.md describes
the encoding so that another program can recompute a digest.
"""

from __future__ import annotations

import json
import re
import struct
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import sha256
from types import NoneType
from typing import TYPE_CHECKING, Any, Literal

import orjson

from migrator.times import instant_text, parse_time, time_text

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Names the canonical encoding; the first item of what is hashed. Journals keep digests for years:
#: any change to the encoding needs a new name, and code that still computes the old one.
ENCODING = "memmig-record-1"

Kind = Literal["memory", "relationship"]
KINDS: tuple[Kind, Kind] = ("memory", "relationship")

#: str, int, float, bool, bytes, list, dict with str keys; None only inside lists and dicts.
type Value = Any
type Properties = dict[str, Value]


@dataclass(frozen=True, slots=True)
class Memory:
    """A node. ``properties`` is flat, without ``id``, in canonical form (see :func:`canonical`)."""

    id: str
    labels: tuple[str, ...]
    properties: Properties
    known_digest: str | None = field(default=None, init=False, repr=False, compare=False)  #: see :func:`with_digest`


@dataclass(frozen=True, slots=True)
class Relationship:
    """A directed edge. ``properties`` is flat, without ``id``, in canonical form (see :func:`canonical`)."""

    id: str
    type: str
    from_id: str
    to_id: str
    properties: Properties
    known_digest: str | None = field(default=None, init=False, repr=False, compare=False)  #: see :func:`with_digest`


type Record = Memory | Relationship


@dataclass(frozen=True, slots=True, kw_only=True)
class Corrupt:
    """Something that a store holds and that is no record, such as JSON that does not parse or a row without an id.

    ``raw`` is the stored form as far as it could be read (typed as a record's values are), for quarantine.
    """

    kind: Kind
    id: str
    reason: str
    raw: dict[str, Value]
    named: bool = True  #: False: its id cannot be read, and ``id`` says where it stands


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Why one record cannot be stored exactly: which field, and a reason that a user understands."""

    kind: Kind
    id: str
    field: str
    reason: str


# --- the known fields -----------------------------------------------------------------------------------------------

#: Lists that a store may hold as JSON text (memorygraph 0.12 writes an empty one as the text "[]").
LIST_FIELDS = frozenset(
    {"tags", "context_files_involved", "context_languages", "context_frameworks", "context_technologies"}
)
OBJECT_FIELDS = frozenset({"context_additional_metadata"})
FLOAT_FIELDS: dict[Kind, frozenset[str]] = {
    "memory": frozenset({"importance", "confidence", "effectiveness"}),
    "relationship": frozenset({"strength", "confidence", "success_rate"}),
}
INT_FIELDS: dict[Kind, frozenset[str]] = {
    "memory": frozenset({"usage_count", "version"}),
    "relationship": frozenset({"evidence_count", "validation_count", "counter_evidence_count"}),
}
TIME_FIELDS: dict[Kind, frozenset[str]] = {
    "memory": frozenset({"created_at", "updated_at", "last_accessed", "context_timestamp"}),
    "relationship": frozenset({"created_at", "last_validated", "valid_from", "valid_until", "recorded_at"}),
}
#: What layout 0.13 cannot leave out: its column defaults. Absent and default are the same in the canonical form.
DEFAULTS: dict[Kind, dict[str, Value]] = {
    "memory": {"tags": [], "importance": 0.5, "confidence": 0.8, "usage_count": 0, "version": 1},
    "relationship": {
        "strength": 0.5,
        "confidence": 0.8,
        "evidence_count": 1,
        "validation_count": 0,
        "counter_evidence_count": 0,
    },
}
#: Reading a memory bumps these in the target; a difference in them alone is no foreign change (docs: sync).
READ_BUMPED_FIELDS = frozenset({"usage_count", "last_accessed"})

#: Lists and maps nested deeper than this are no values: without a limit the form would depend on the stack's size.
MAX_DEPTH = 100

_INT64 = 1 << 63
_TEXTS = frozenset({str})


def too_deep(value: Value, levels: int = MAX_DEPTH) -> bool:
    """Return whether lists and maps are nested more than ``levels`` deep in a value."""
    kind = type(value)
    if kind is not list and kind is not dict:
        return False
    return levels == 0 or any(too_deep(item, levels - 1) for item in (value if kind is list else value.values()))


def _coerce_float(value: Value) -> Value:
    if type(value) is int:
        try:
            number = float(value)
        except OverflowError:
            return value
        return number if int(number) == value else value
    return value


def _coerce_int(value: Value) -> Value:
    # -0.0 keeps its sign only as a float.
    if type(value) is float and value.is_integer() and abs(value) < _INT64 and (value or str(value) == "0.0"):
        return int(value)
    return value


def _no_constant(name: str) -> Value:
    raise ValueError(name)


def _no_duplicates(pairs: list[tuple[str, Value]]) -> dict[str, Value]:
    found = dict(pairs)
    if len(found) != len(pairs):
        msg = "duplicate key"
        raise ValueError(msg)
    return found


_decode_json = json.JSONDecoder(parse_constant=_no_constant, object_pairs_hook=_no_duplicates).decode


def _from_text(value: Value, wanted: type) -> Value:
    """Parse JSON text of the wanted type; anything else stays what it is: NaN, duplicate keys, too deep a nesting."""
    if type(value) is not str:
        return value
    if value == "[]":  # by far the most common texts
        return [] if wanted is list else value
    if value == "{}":
        return {} if wanted is dict else value
    try:
        parsed = _decode_json(value)
    except (ValueError, RecursionError):
        return value
    return parsed if type(parsed) is wanted and not too_deep(parsed) else value


def _coerce_list(value: Value) -> Value:
    if type(value) is list:
        return value
    if type(value) is str and value != "[]":
        # orjson is exact where nothing but texts is in the list; else it may round numbers or drop duplicate keys.
        try:
            parsed = orjson.loads(value)
        except orjson.JSONDecodeError:
            return _from_text(value, list)
        if type(parsed) is list and _TEXTS.issuperset(map(type, parsed)):
            return parsed
    return _from_text(value, list)


def _coerce_object(value: Value) -> Value:
    return value if type(value) is dict else _from_text(value, dict)


def _coercions(kind: Kind) -> tuple[tuple[str, type, Any], ...]:
    found: list[tuple[str, type, Any]] = [(field, float, _coerce_float) for field in sorted(FLOAT_FIELDS[kind])]
    found += [(field, int, _coerce_int) for field in sorted(INT_FIELDS[kind])]
    if kind == "memory":
        found += [(field, list, _coerce_list) for field in sorted(LIST_FIELDS)]
        found += [(field, dict, _coerce_object) for field in sorted(OBJECT_FIELDS)]
    return tuple(found)


#: Per kind: field, the type that needs nothing done, and what makes other types that one where that is exact.
_COERCIONS: dict[Kind, tuple[tuple[str, type, Any], ...]] = {kind: _coercions(kind) for kind in KINDS}


@lru_cache(maxsize=1024)
def _canonical_steps(kind: Kind, names: tuple[str, ...], types: tuple[type, ...]) -> tuple[tuple[str, Any], ...]:
    """Return what is to be done to properties of these names and types: coercions, or None for one that is left out.

    Records of a store have few such shapes, and looking one up costs less than asking about every field again.
    """
    by_name = dict(zip(names, types, strict=True))
    left_out: list[tuple[str, Any]] = [(name, None) for name, sort in by_name.items() if sort is NoneType]
    left_out += [("id", None)] if by_name.get("id", NoneType) is not NoneType else []
    wrong = [(name, coerce) for name, wanted, coerce in _COERCIONS[kind] if by_name.get(name, wanted) is not wanted]
    return (*left_out, *(step for step in wrong if by_name[step[0]] is not NoneType))


def canonical(kind: Kind, stored: Mapping[str, Value]) -> Properties:
    """Return the canonical properties of a flat map: nulls and ``id`` left out, known fields typed where exact.

    Texts of times stay as they were read (only :func:`digest` normalises them), and so does everything unknown.
    """
    found = dict(stored)
    for name, coerce in _canonical_steps(kind, tuple(found), tuple(map(type, found.values()))):
        if coerce is None:
            del found[name]
        else:
            found[name] = coerce(found[name])
    return found


# --- digests --------------------------------------------------------------------------------------------------------

_double = struct.Struct(">d").pack
_NAN = {"f": "7ff8000000000000"}
_OWN_TAGS = frozenset({str, int, bool, NoneType})


def _tagged(value: Value) -> Value:
    kind = type(value)
    if kind is str or kind is int or kind is bool or value is None:
        return value
    if kind is float:
        return _tagged_float(value)
    if kind is list:
        return value if _TEXTS.issuperset(map(type, value)) else [_tagged(item) for item in value]
    if kind is dict:
        return {"m": {key: _tagged(item) for key, item in value.items()}}
    if kind is bytes:
        return {"b": value.hex()}
    msg = f"no canonical encoding for {kind.__name__}"
    raise TypeError(msg)


def _tagged_float(value: float) -> dict[str, str]:
    return {"f": _double(value).hex()} if value == value else _NAN  # noqa: PLR0124 - the NaN test


def _tagged_time_text(value: str) -> Value:
    text = instant_text(value)
    return value if text is None else {"t": text}


def _tagged_time(value: Value) -> Value:
    moment = parse_time(value)
    return _tagged(value) if moment is None else {"t": time_text(moment)}


@lru_cache(maxsize=1024)
def _tagging_steps(
    kind: Kind, names: tuple[str, ...], types: tuple[type, ...]
) -> tuple[tuple[tuple[str, Any], ...], tuple[tuple[str, Value], ...]]:
    """Return for properties of these names and types what tags each that is not its own tag, and the possible defaults.

    Records of a store have few such shapes, and looking one up costs less than asking about every field again.
    """
    steps: list[tuple[str, Any]] = []
    for name, sort in zip(names, types, strict=True):
        if name in TIME_FIELDS[kind]:
            steps.append((name, _tagged_time_text if sort is str else _tagged_time))
        elif sort is float:
            steps.append((name, _tagged_float))
        elif sort not in _OWN_TAGS:
            steps.append((name, _tagged))
    by_name = dict(zip(names, types, strict=True))
    defaults = tuple((name, value) for name, value in DEFAULTS[kind].items() if by_name.get(name) is type(value))
    return tuple(steps), defaults


def _tagged_properties(kind: Kind, properties: Properties) -> dict[str, Value]:
    steps, defaults = _tagging_steps(kind, tuple(properties), tuple(map(type, properties.values())))
    found = dict(properties)
    for name, tag in steps:
        found[name] = tag(found[name])
    for name, default in defaults:
        if properties[name] == default:
            del found[name]
    return found


def _quoted(text: str) -> str:
    # The standard library's escapes for what JSON must escape are those of RFC 8785; lone surrogates become \udxxx.
    quoted = json.dumps(text, ensure_ascii=False)
    return re.sub("[\ud800-\udfff]", lambda found: f"\\u{ord(found[0]):04x}", quoted)


def _dumps(value: Value) -> str:
    """Encode as ``orjson.dumps(value, OPT_SORT_KEYS)`` does, for what orjson refuses (lone surrogates, huge ints)."""
    if type(value) is str:
        return _quoted(value)
    if type(value) is list:
        return "[" + ",".join(map(_dumps, value)) + "]"
    if type(value) is dict:
        keys = sorted(value, key=lambda key: key.encode("utf-8", "surrogatepass"))
        return "{" + ",".join(f"{_quoted(key)}:{_dumps(value[key])}" for key in keys) + "}"
    return json.dumps(value)


def encode(value: Value) -> bytes:
    """Return the canonical JSON of str, int, bool, None, and lists and dicts of them: UTF-8, keys sorted, no blanks."""
    try:
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    except TypeError:
        return _dumps(value).encode()


def canonical_encoding(record: Record) -> bytes:
    """Return the bytes whose SHA-256 is the record's digest."""
    if type(record) is Memory:
        properties = _tagged_properties("memory", record.properties)
        return encode([ENCODING, "memory", record.id, sorted(record.labels), properties])
    assert type(record) is Relationship  # noqa: S101 - narrows the union
    properties = _tagged_properties("relationship", record.properties)
    return encode([ENCODING, "relationship", record.id, record.type, record.from_id, record.to_id, properties])


def digest(record: Record) -> str:
    """Return the record's digest: 64 hexadecimal digits of the SHA-256 over its canonical encoding."""
    return record.known_digest or sha256(canonical_encoding(record)).hexdigest()


def with_digest[R: (Memory, Relationship)](record: R, known: str) -> R:
    """Return the record itself, which is new, and whose digest was computed before: in another process."""
    object.__setattr__(record, "known_digest", known)
    return record


def kind_of(record: Record) -> Kind:
    """Return ``memory`` or ``relationship``."""
    return "memory" if type(record) is Memory else "relationship"


def field_digests(record: Record) -> dict[str, str]:
    """Return a digest per field: one per canonical property, and ``:labels``, ``:type``, ``:from``, ``:to``.

    Two records of one id have equal digests exactly when these maps are equal; the keys that differ name the fields.
    A property whose own name begins with a colon is the field with one more colon (see :func:`property_of`).
    """
    if type(record) is Memory:
        tagged = _tagged_properties("memory", record.properties)
        rest: dict[str, Value] = {":labels": sorted(record.labels)}
    else:
        assert type(record) is Relationship  # noqa: S101 - narrows the union
        tagged = _tagged_properties("relationship", record.properties)
        rest = {":type": record.type, ":from": record.from_id, ":to": record.to_id}
    fields = {f":{key}" if key.startswith(":") else key: value for key, value in tagged.items()}
    return {key: sha256(encode(value)).hexdigest() for key, value in (fields | rest).items()}


def property_of(field: str) -> str | None:
    """Return the name of the property that a field is, or None for ``:labels``, ``:type``, ``:from`` and ``:to``."""
    if field.startswith("::"):
        return field[1:]
    return None if field.startswith(":") else field


def same_value(one: object, other: object) -> bool:
    """Return whether two values are equal to the last bit: types, signs of zero and NaN included."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same_value(value, other[key]) for key, value in one.items())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same_value, one, other))
    return repr(one) == repr(other) if isinstance(one, float) else one == other


def differing_fields(one: Record, other: Record) -> list[str]:
    """Return the names of the fields in which two records differ, sorted; empty exactly when the digests are equal."""
    left, right = field_digests(one), field_digests(other)
    return sorted(key for key in left.keys() | right.keys() if left.get(key) != right.get(key))

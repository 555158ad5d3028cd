"""The stored form of a graph store: labels or type and ends, and flat properties. Pure.

A node is ``{"labels": [sorted], "properties": {…, the id property included}}``, an edge ``{"type", "from", "to",
"properties": {…}}``. What a store cannot hold exactly is described by :class:`Limits`.
"""

from __future__ import annotations

import json
import re
import uuid
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING

from migrator.backends.base import HIDDEN_BY_TAGS
from migrator.model import (
    LIST_FIELDS,
    OBJECT_FIELDS,
    Corrupt,
    Kind,
    Memory,
    Problem,
    Relationship,
    canonical,
    digest,
    property_of,
    too_deep,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from migrator.backends.base import Raw
    from migrator.model import Record, Value

INT64 = 1 << 63

#: What may stand between back-ticks. Not the back-tick: FalkorDB has no escape for it. Not the backslash: Neo4j decodes
#: ``\\u0060`` in a name before it parses. Not what a text file or a terminal would change.
_NAME = re.compile(r"[^`\\\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]{1,512}")
#: Labels that are ours: the marker's, and a scratch node's.
MARKER_LABEL = "_Memmig"
SCRATCH_LABEL = "_MemmigScratch"

#: Key of a value that a stored form can show but not carry: ``{NATIVE: what it is, "value": …}``.
NATIVE = "$native"
#: Key of an edge's stored form whose id stands nowhere but was made by :func:`edge_id`.
MADE_ID = "made_id"

_EDGE_IDS = uuid.UUID("6f1b2c1e-3c5b-5c0e-9d0a-5f1a3f4a7b10")
_SCALARS = frozenset({str, int, float, bool})
_NUMBERS = frozenset({int, float})
_BYTES_OF_A_CHARACTER = 4


@lru_cache(maxsize=4096)
def quoted(name: Value) -> str:
    """Return a label, type or property name between back-ticks. ValueError for one outside the allow-list."""
    if type(name) is not str or not _NAME.fullmatch(name):
        message = f"{name!r} cannot be a name in Cypher"
        raise ValueError(message)
    return f"`{name}`"


def edge_id(edge: Relationship, ordinal: int) -> str:
    """Return the id of an edge without one: the same in every scan, as long as its store keeps the order of equals.

    UUIDv5 of (from, type, to, canonical properties, ordinal among equal ones in the scan's order).
    """
    anonymous = Relationship("", edge.type, edge.from_id, edge.to_id, edge.properties)
    return str(uuid.uuid5(_EDGE_IDS, f"{digest(anonymous)}:{ordinal}"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a graph store cannot hold exactly. The defaults are FalkorDB's, measured on 4.16.3 and 4.22.1."""

    id_bytes: int = 4096  #: longer ids are never found
    blank_ids: bool = False  #: whether the index tells ids with white space at an end from others, and finds U+0001
    list_depth: int = 4  #: lists within lists; deeper ones are not read back exactly
    uniform_lists: bool = False  #: all items of a list are of one type: [1, 2.5] would become [1.0, 2.5]
    nulls_in_lists: bool = False
    list_integers: int = 64  #: bits of integers in a list of nothing but numbers
    nul: bool = False  #: NUL in texts
    not_finite: bool = False  #: NaN and infinities
    binary: bool = False  #: bytes, outside lists
    maps: bool = False  #: maps are read; nothing writes them, as no client knows them
    index_bytes: int = 0  #: of all values of a record in one index together; 0 = no limit
    #: Indexes with that limit: kind, label or type, properties.
    indexed: tuple[tuple[Kind, str, tuple[str, ...]], ...] = ()

    def missed_id(self, identity: str) -> str:
        """Return why the index on ids never finds this one, or finds another one for it; "" where it finds it."""
        if not identity:
            return "an empty id is never found by the store's index"
        if len(identity) * 4 > self.id_bytes and len(identity.encode()) > self.id_bytes:
            return f"ids of more than {self.id_bytes} bytes do not fit the store's index"
        if not self.blank_ids and identity != identity.strip():
            return "the store's index takes an id with leading or trailing white space for the one without"
        if not self.blank_ids and "\x01" in identity:
            return "the store's index never finds an id with the character U+0001"
        return ""


@dataclass(frozen=True, slots=True)
class CypherForm:
    """Between a graph store's form and the canonical one."""

    label: str = "Memory"
    id_property: str = "id"
    limits: Limits = field(default_factory=Limits)

    # --- reading ---

    def decode(self, kind: Kind, raw: Raw) -> Record | Corrupt:
        """See :class:`~migrator.backends.base.Form`."""
        properties: dict[str, Value] = raw["properties"]
        identity = properties.get(self.id_property)
        if kind == "relationship" and identity is None:
            identity = raw.get(MADE_ID)
        if type(identity) is not str or not identity:
            reason = "has no id" if identity is None else f"its id is no text but {identity!r}"
            return Corrupt(kind=kind, id=str(identity), reason=reason, raw=raw)
        natives: dict[str, Value] = {}
        for name, value in properties.items():
            if (type(value) is dict or type(value) is list) and (found := self._native(value)):
                natives[name] = self.carried(kind, name, value)
                if natives[name] is None:
                    reason = f"{name}: a value of type {found} cannot be read exactly"
                    return Corrupt(kind=kind, id=identity, reason=reason, raw=raw)
        properties = properties | natives if natives else properties
        if self.id_property != "id":
            if "id" in properties:
                reason = f"has both {self.id_property} and id"
                return Corrupt(kind=kind, id=identity, reason=reason, raw=raw)
            properties = {name: value for name, value in properties.items() if name != self.id_property}
        if kind == "memory":
            return Memory(identity, tuple(sorted(raw["labels"])), canonical(kind, properties))
        if type(raw["from"]) is not str or type(raw["to"]) is not str:
            return Corrupt(kind=kind, id=identity, reason="an end of it has no id", raw=raw)
        return Relationship(identity, raw["type"], raw["from"], raw["to"], canonical(kind, properties))

    def carried(self, kind: Kind, name: str, value: Value) -> Value:  # noqa: ARG002 - what other stores ask for
        """Return the canonical value of one that holds natives, or None where it has none."""
        return None

    def _native(self, value: Value) -> str:
        """Return the type of a value that the canonical form does not have, or ""."""
        if type(value) is dict:
            if NATIVE in value or not self.limits.maps:
                return str(value.get(NATIVE, "map"))
            return next(filter(None, map(self._native, value.values())), "")
        if type(value) is list and not _SCALARS.issuperset(map(type, value)):
            return next(filter(None, map(self._native, value)), "")
        return ""

    def readable(self, kind: Kind, raw: Raw) -> bool:
        """Return whether the client can read it: 0.12 takes a memory with ``tags`` as text for missing [measured]."""
        return kind != "memory" or type(raw["properties"].get("tags", [])) is list

    def shape(self, kind: Kind, raw: Raw) -> str:
        """See :class:`~migrator.backends.base.Form`."""
        return ":".join(raw["labels"]) if kind == "memory" else str(raw["type"])

    # --- writing ---

    def encode(self, record: Record) -> Raw:
        """See :class:`~migrator.backends.base.Form`."""
        if isinstance(record, Memory):
            properties = {
                name: value if type(value) in _SCALARS else self._stored(name, value)
                for name, value in record.properties.items()
            }
            return {"labels": sorted(set(record.labels)), "properties": {self.id_property: record.id, **properties}}
        return {
            "type": record.type,
            "from": record.from_id,
            "to": record.to_id,
            "properties": {self.id_property: record.id, **record.properties},
        }

    def graft(self, kind: Kind, onto: Raw, source: Raw, fields: Sequence[str]) -> Raw:  # noqa: ARG002 - Form's signature
        """See :class:`~migrator.backends.base.Form`."""
        properties = dict(onto["properties"])
        grafted = {**onto, "properties": properties}
        for name in fields:
            key = property_of(name)
            if key is None:
                grafted[name[1:]] = source[name[1:]]
            elif key in source["properties"]:
                properties[key] = source["properties"][key]
            else:
                properties.pop(key, None)
        return grafted

    def problems(self, record: Record) -> Sequence[Problem]:
        """See :class:`~migrator.backends.base.Form`."""
        found = list(self._problems(record))
        if not found:
            return ()
        kind: Kind = "memory" if isinstance(record, Memory) else "relationship"
        return [Problem(kind=kind, id=record.id, field=name, reason=reason) for name, reason in found]

    def _problems(self, record: Record) -> Iterator[tuple[str, str]]:  # noqa: C901, PLR0912 - a list of rules
        if isinstance(record, Memory):
            yield from self._id_problems(record.id)
            if not record.labels:
                yield ":labels", "a node without a label cannot be found again"
            for name in record.labels:
                if not _is_name(name) or ":" in name:
                    yield ":labels", f"{name!r} cannot be a label here"
                elif name in (MARKER_LABEL, SCRATCH_LABEL):
                    yield ":labels", f"the label {name} is memmig's own"
            if self.label in record.labels and type(record.properties.get("tags", [])) is not list:
                yield "tags", HIDDEN_BY_TAGS
        else:
            if not record.id or self._text_problem(record.id):
                yield self.id_property, self._text_problem(record.id) or "an empty id is no id"
            if not _is_name(record.type):
                yield ":type", f"{record.type!r} cannot be a relationship type here"
        for name, value in record.properties.items():
            if _is_plain(value) and _is_name(name) and name != self.id_property:
                continue
            if not _is_name(name):
                yield name, "the name cannot be quoted safely in Cypher"
            elif name == self.id_property:
                yield name, "the store keeps the id under this name"
            elif reason := self._value_problem(name, value):
                yield name, reason
        if self.limits.index_bytes:
            yield from self._index_problems(record)

    def _index_problems(self, record: Record) -> Iterator[tuple[str, str]]:
        """Name what a store's own index would refuse, late and for the whole batch."""
        kind: Kind = "memory" if isinstance(record, Memory) else "relationship"
        shapes = record.labels if isinstance(record, Memory) else (record.type,)
        for names in _indexes(self.limits.indexed, kind, shapes):
            values = [record.id if name == self.id_property else record.properties.get(name) for name in names]
            room = self.limits.index_bytes // len(names)
            if None in values or all(_is_short(value, room) for value in values):
                continue
            stored = [self._stored(name, value) for name, value in zip(names, values, strict=True)]
            size = sum(map(index_size, stored))
            if size > self.limits.index_bytes and names != (self.id_property,):
                reason = f"{size} bytes are too much for the index on {', '.join(names)} ({self.limits.index_bytes})"
                yield names[-1], reason

    def _id_problems(self, identity: str) -> Iterator[tuple[str, str]]:
        reason = self._text_problem(identity) or self.limits.missed_id(identity)
        if reason:
            yield self.id_property, reason

    def _value_problem(self, name: str, value: Value) -> str:
        """Return why a property's value cannot be stored exactly, or ""."""
        kind = type(value)
        if kind is str:
            return self._text_problem(value)
        if kind is float:
            return "" if self.limits.not_finite or value - value == 0 else f"the store cannot hold {value!r}"
        if kind is bool:
            return ""
        if kind is int:
            return "" if -INT64 <= value < INT64 else f"{value} is outside 64 bits: the store would change it"
        if name in OBJECT_FIELDS or (name in LIST_FIELDS and name != "tags" and kind is list):
            stored = self._stored(name, value)
            if type(stored) is str:
                if not value:
                    return ""  # an empty list or map
                return "" if canonical("memory", {name: stored}) == {name: value} and not _unclean(value) else _NO_JSON
        if kind is list:
            return self._list_problem(value)
        if kind is bytes and self.limits.binary:
            return ""
        return f"the store cannot hold a value of type {'map' if kind is dict else kind.__name__}"

    def _list_problem(self, items: list[Value]) -> str:
        if all(map(_is_plain, items)):
            return ""
        if too_deep(items, self.limits.list_depth):
            return f"lists nested more than {self.limits.list_depth} deep are not read back exactly"
        kinds = set(map(type, items))
        if bytes in kinds:
            return "the store cannot hold bytes in a list"
        if self.limits.uniform_lists and len(kinds) > 1 and None not in items:
            return "the store holds lists of one type only: it would change or refuse this one"
        narrow = self.limits.list_integers
        least = -1 << (narrow - 1)
        if kinds <= _NUMBERS and any(type(item) is int and not least <= item <= ~least for item in items):
            return f"the store would cut an integer in a list of numbers to {narrow} bits"
        for item in items:
            if item is None:
                if not self.limits.nulls_in_lists:
                    return "the store cannot hold a list with null in it"
            elif reason := self._value_problem("", item):
                return f"in a list: {reason}"
        return ""

    def _text_problem(self, text: str) -> str:
        if self.limits.nul and "\0" in text:
            text = text.replace("\0", "")
        return text_problem(text)

    def _stored(self, name: str, value: Value) -> Value:
        """Return a memory's value as 0.12 writes it: maps, and context lists empty or of no scalars, as text.

        As text also such a list that the store would change.
        """
        kind = type(value)
        if kind is dict and name in OBJECT_FIELDS:
            return _json(value)
        if kind is list and name in LIST_FIELDS and name != "tags":
            scalars = value and all(type(item) in _SCALARS for item in value)
            native = scalars and not (self.limits.uniform_lists and len(set(map(type, value))) > 1)
            return value if native else _json(value)
        return value


_NO_JSON = "the value has no JSON text that reads back the same"


def _unclean(value: Value) -> bool:
    """Return whether something in a value is no JSON: NaN and infinities, bytes."""
    if type(value) is dict:
        return any(map(_unclean, value.values()))
    if type(value) is list:
        return any(map(_unclean, value))
    return type(value) is bytes or (type(value) is float and value - value != 0)


def _json(value: Value) -> Value:
    # Escaped to ASCII, so that NUL and lone surrogates are no problem of the store.
    if not value:
        return str(value)
    try:
        return json.dumps(value)
    except (TypeError, ValueError, RecursionError):
        return value


def _is_plain(value: Value) -> bool:
    """Return whether a value is a text that every store holds, as nearly all are: told by the fastest questions."""
    return type(value) is str and value.isascii() and "\0" not in value


def _is_short(value: Value, room: int) -> bool:
    """Return whether a value surely takes up to so many bytes, told without measuring it."""
    return len(value) * _BYTES_OF_A_CHARACTER <= room if type(value) is str else type(value) in _NUMBERS


@lru_cache(maxsize=256)
def _indexes(
    indexed: tuple[tuple[Kind, str, tuple[str, ...]], ...], kind: Kind, shapes: tuple[str, ...]
) -> tuple[tuple[str, ...], ...]:
    """Return the properties of each index that a record of a kind and of these labels, or this type, stands in."""
    return tuple(names for of, shape, names in indexed if of == kind and shape in shapes)


@lru_cache(maxsize=4096)
def _is_name(name: str) -> bool:
    return _NAME.fullmatch(name) is not None


def text_problem(text: str) -> str:
    """Return why a graph store cannot hold a text, or ""."""
    if "\0" in text:
        return "the store cannot hold NUL in a text"
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            return "the text has lone surrogates, which have no UTF-8"
    return ""


def index_size(value: Value) -> int:
    """Return the bytes of a value in Neo4j's range index.

    [measured on 5.26: texts of 8,164 bytes, lists of 371 texts of 20 bytes, of 1,020 numbers fit, one more does not]
    """
    kind = type(value)
    if kind is str:
        return len(value) if value.isascii() else len(value.encode("utf-8", "replace"))
    if kind is list:
        return sum(index_size(item) + 2 * (type(item) is str) for item in value)
    return 1 if kind is bool else 8 if kind in _NUMBERS else len(value) if kind is bytes else 0

"""The values that nasty stores are made of. ``...`` as a property's value = the record has no such property."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, get_args

#: A store that holds things by the same rules. Memgraph from 3.7.0 on cuts integers in lists of numbers to 32 bits.
Target = Literal["sqlite-0.12", "sqlite-0.13", "falkor", "neo4j", "memgraph", "memgraph-3.7"]
TARGETS: tuple[Target, ...] = get_args(Target)

#: Ids that every store can hold and find.
IDS = [
    "CASE",
    "case",
    "Case",
    "hub'\"id",
    "back\\slash\\",
    "new\nline",
    "tab\tid",
    "caf\u00e9",
    "cafe\u0301",
    "1",
    "01",
    "1.0",
    "1e0",
    "`tick`",
    "$rows",
    "{id}",
    "null",
    "true",
    "[]",
    "\U0001f9e0\u200d\u2695",
    "\u202eRTL \u05d0\u05d1",
    "red\x1b[31m",
    "a b",
    "%s",
    "'; DROP TABLE nodes; --",
    "*/ RETURN 1 //",
    "L" * 4_000,
    "\ufb01\ufe0f\uffff",
    "_Memmig",
    "-",
]

TEXTS = [
    "plain",
    "",
    "emoji \U0001f389\U0001f468\u200d\U0001f469\u200d\U0001f467",
    "\u05e9\u05dc\u05d5\u05dd \u202eright\u202c \u0645\u0631\u062d\u0628\u0627",
    "e\u0301\u0323\u0302 combining",
    "\x1b[2J\x1b[31mred\x07\x1b]0;title\x07",
    '{"looks": "like JSON"}',
    "[]",
    "[1, 2",
    "null",
    "back\\slash \\u0041 \\ud800 \\",
    "quote ' \" ` $param {x}",
    "line\nfeed\r\nand\ttab \u2028\u2029",
    " spaces at both ends ",
    "\ufeffbom \ufffd \uffff \U0010ffff",
    "\x01\x02\x7f\x80\x9f",
    "1700000000",
    "NaN",
]

FLOATS: list[Any] = [
    0.1 + 0.2,
    1 / 3,
    5e-324,
    2.2250738585072014e-308,
    1.5e-310,
    1e308,
    1.7976931348623157e308,
    -1.7976931348623157e308,
    0.9999999999999999,
    1.0000000000000002,
    123456789012345.67,
    1e22,
    9007199254740993.0,
    0.0,
    0,
    1,
    2**53,
]

INTS: list[Any] = [0, 1, 2**31, 2**53 + 1, 2**63 - 1, -(2**63), 3.0]

TYPES = ["task", "solution", "Weird Type", "\u00fcn\u00efcode", "MATCH", "a-b", "conversation", "x.y"]

TIMES: list[Any] = [
    "2025-01-01T00:00:00Z",
    "2025-01-01T00:00:00.000Z",
    "2025-06-30T23:59:59.5+05:30",
    "2025-06-30T23:59:59.123456-08:00",
    "2025-06-30 23:59:59",
    "2025-06-30T23:59",
    "2025-06-30T23:59:59.1234567+00:00",
    "2025-06-30T23:59:59.123456789Z",
    "0001-01-01T00:00:00+00:00",
    "9999-12-31T23:59:59.999999+00:00",
    "1969-12-31T23:59:59.999999Z",
    "yesterday",
    "2025-02-30T00:00:00Z",
    1_700_000_000,
    1_700_000_000_123,
    1_700_000_000_123_456,
]

METADATA: list[dict[str, Any]] = [
    {},
    {"k": 1, "nested": {"a": [1, 2.5, None, True, {}], "": "empty key"}},
    {"float": 0.1 + 0.2, "int": 2**63 - 1, "zero": -0.0, "max": 1.7976931348623157e308},
    {"emoji": "\U0001f389", "text": '{"a": 1}', "b": [], "a.b": {"c": None}},
]


@dataclass(frozen=True, slots=True)
class Special:
    """Changes to a plain record that some targets cannot hold; ``id`` and ``type`` where they are the trouble."""

    properties: dict[str, Any]
    unstorable: tuple[Target, ...]
    why: str
    id: str | None = None
    type: str | None = field(default=None)


_13: tuple[Target, ...] = ("sqlite-0.13",)
_FALKOR: tuple[Target, ...] = ("falkor",)
_NEO4J: tuple[Target, ...] = ("neo4j",)
_MEMGRAPHS: tuple[Target, ...] = ("memgraph", "memgraph-3.7")
_CYPHER: tuple[Target, ...] = (*_FALKOR, *_NEO4J, *_MEMGRAPHS)
_ALL_BUT_12: tuple[Target, ...] = (*_13, *_CYPHER)
_NAN, _INF = float("nan"), float("inf")

SPECIALS = [
    Special({"x_text": "v"}, _13, "no column"),
    Special({"x_int": 7, "x_float": 0.1 + 0.2, "x_bool": True}, _13, "no column"),
    Special({"x_texts": ["a", ""], "x_flags": [True, False], "x_empty": []}, _13, "no column"),
    Special({"x_floats": [1.0, 2.5, 0.1 + 0.2]}, _13, "no column"),
    Special({"x_mixed": ["a", 1, 2.5, True]}, (*_13, *_NEO4J), "a list of mixed types"),
    Special({"x_ints": [1, 2**40, 2**63 - 1]}, (*_13, "memgraph-3.7"), "integers in lists are cut"),
    Special({"x_small_ints": [1, -5]}, _13, "no column"),
    Special({"x_numbers": [1, 2.5]}, (*_13, *_NEO4J), "a list of integers and floats becomes one of floats"),
    Special({"x_nested": [["a"], ["b", [0.1 + 0.2]]]}, (*_13, *_NEO4J), "a list in a list"),
    Special({"we ird": 1}, _13, "no column"),
    Special({"tick`key": 1}, _ALL_BUT_12, "a backtick in a name"),
    Special({"tick\\u0060key": 1}, _ALL_BUT_12, "an escaped backtick in a name"),
    Special({"": 1}, _ALL_BUT_12, "an empty name"),
    Special({"nul\0name": 1}, _ALL_BUT_12, "NUL in a name"),
    Special({"x_map": {"a": 1}}, _ALL_BUT_12, "a map in an unknown property"),
    Special({"x_null": [1, None]}, (*_13, *_FALKOR, *_NEO4J), "null in a list"),
    Special({"x_maps": [{"a": 1}]}, _ALL_BUT_12, "maps in a list"),
    Special({"importance": _NAN}, (*_13, *_FALKOR), "NaN"),
    Special({"x_nan": _NAN}, (*_13, *_FALKOR), "NaN"),
    Special({"importance": _INF}, _FALKOR, "infinite"),
    Special({"importance": -_INF}, _FALKOR, "infinite"),
    Special({"x_infinite": [_INF]}, (*_13, *_FALKOR), "infinite"),
    Special({"x_zero": [-0.0, 5e-324]}, _13, "no column"),
    Special({"usage_count": 2**63}, _ALL_BUT_12, "beyond 64 bits"),
    Special({"usage_count": 2**70}, _ALL_BUT_12, "beyond 64 bits"),
    Special({"x_big": 2**64}, _ALL_BUT_12, "beyond 64 bits"),
    Special({"x_small": -(2**63) - 1}, _ALL_BUT_12, "beyond 64 bits"),
    Special({"content": "a\0b"}, _FALKOR, "NUL"),
    Special({"tags": ["a\0b"]}, _FALKOR, "NUL"),
    Special({"title": "lone \ud800 surrogate"}, _ALL_BUT_12, "lone surrogate"),
    Special({"importance": -0.0}, _13, "-0.0"),
    Special({"importance": True}, _13, "not the column's type"),
    Special({"importance": "0.8"}, _13, "not the column's type"),
    Special({"importance": 2**53 + 1}, _13, "rounded"),
    Special({"effectiveness": "high"}, _13, "not the column's type"),
    Special({"usage_count": 1.5}, _13, "not the column's type"),
    Special({"title": 5}, _13, "not the column's type"),
    Special({"title": ...}, _13, "nothing is invented"),
    Special({"type": ...}, _13, "nothing is invented"),
    Special({"created_at": ...}, _13, "nothing is invented"),
    Special({}, _CYPHER, "an empty id", id=""),
    Special({}, _FALKOR, "an id of 5,000 bytes", id="i" * 5_000),
    Special({}, (*_FALKOR, *_NEO4J), "an id of 9,000 bytes", id="i" * 9_000),
    Special({"context_project_path": "p" * 9_000}, _NEO4J, "too large for the client's index"),
    Special({}, _FALKOR, "a leading space", id=" leading"),
    Special({}, _FALKOR, "a trailing space", id="trailing "),
    Special({}, _FALKOR, "a trailing newline", id="trailing\n"),
    Special({}, _FALKOR, "NUL in the id", id="nul\0id"),
]

SPECIALS_AT_EDGES = [
    Special({"x_text": "v"}, _13, "no column"),
    Special({"x_numbers": [1, 2.5]}, (*_13, *_NEO4J), "a list of integers and floats becomes one of floats"),
    Special({"x_ints": [2**40]}, (*_13, "memgraph-3.7"), "integers in lists are cut"),
    Special({"strength": _NAN}, (*_13, *_FALKOR), "NaN"),
    Special({"strength": -0.0}, _13, "-0.0"),
    Special({"strength": True}, _13, "not the column's type"),
    Special({"context": 5}, _13, "not the column's type"),
    Special({"context": "a\0b"}, _FALKOR, "NUL"),
    Special({"evidence_count": 2**63}, _ALL_BUT_12, "beyond 64 bits"),
    Special({"x_map": {"a": 1}}, _ALL_BUT_12, "a map in an unknown property"),
    Special({"last_validated": ...}, _13, "nothing is invented"),
    Special({"created_at": ...}, _13, "nothing is invented"),
    Special({}, _CYPHER, "a backtick in a type", type="TICK`TYPE"),
    Special({}, _CYPHER, "an escaped backtick in a type", type="TICK\\u0060TYPE"),
    Special({}, _CYPHER, "an empty type", type=""),
    Special({}, _FALKOR, "NUL in the id", id="nul\0edge"),
]

#: (id, bytes of the properties column, why): rows of layout 0.12 that are no memories.
BROKEN_ROWS: list[tuple[str | None, bytes, str]] = [
    ("broken-json", b'{"id": "broken-json", ', "JSON does not parse"),
    ("broken-text", b"hello", "JSON does not parse"),
    ("broken-empty", b"", "JSON does not parse"),
    ("broken-list", b"[1, 2]", "JSON is not an object"),
    ("broken-null", b"null", "JSON is not an object"),
    ("broken-twice", b'{"id": "broken-twice", "title": "a", "title": "b"}', "duplicate key"),
    ("broken-id", b'{"id": "another"}', "JSON has another id"),
    ("broken-utf8", b'{"id": "broken-utf8", "title": "\xff\xfe"}', "invalid UTF-8"),
    (None, b'{"title": "no id"}', "no id"),
]

#: (id, from, to, bytes of the properties column, why)
BROKEN_RELATIONSHIPS: list[tuple[str, str, str, bytes, str]] = [
    ("dangling-to", "CASE", "nobody", b"{}", "an end is missing"),
    ("dangling-from", "nobody", "CASE", b"{}", "an end is missing"),
    ("dangling-both", "nobody", "noone", b"{}", "an end is missing"),
    ("broken-edge-json", "CASE", "case", b"{", "JSON does not parse"),
    ("broken-edge-twice", "CASE", "case", b'{"a": 1, "a": 1}', "duplicate key"),
    ("broken-edge-id", "CASE", "case", b'{"id": "another"}', "JSON has another id"),
]

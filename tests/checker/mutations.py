"""Records, and seeded changes of one of them: those that the checker must find, and those that it must not report."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.nasty import Edge, Memory

if TYPE_CHECKING:
    from collections.abc import Callable

TIME = "2025-06-30T12:00:00.123456+00:00"


def a_memory(identity: str, **changes: Any) -> Memory:
    properties = {
        "type": "task",
        "title": "title",
        "content": "some content",
        "tags": ["a", "b"],
        "importance": 0.1 + 0.2,
        "confidence": 0.7,
        "usage_count": 3,
        "created_at": TIME,
        "updated_at": TIME,
        "context_files_involved": [],
        "context_languages": ["py", "go"],
        "context_additional_metadata": {"k": [1, 2.5, None]},
        "context_timestamp": TIME,
        "x_int": 1,
        "x_float": 1.5,
        "x_zero": 0.0,
        "x_text": "[]",
        "x_nan": math.nan,
        "x_time": TIME,
        "x_flag": True,
        "x_list": [],
    }
    return Memory(identity, properties | changes)


def an_edge(identity: str, **changes: Any) -> Edge:
    times = dict.fromkeys(("created_at", "last_validated", "valid_from", "recorded_at"), TIME)
    properties = times | {"strength": 0.5, "evidence_count": 2, "valid_until": TIME, "invalidated_by": "e2"}
    return Edge(identity, "CAUSES", "m1", "m2", properties | changes)


@dataclass(slots=True)
class Row:
    """The one row that is changed: the JSON of a memory or a relationship, and its columns."""

    json: dict[str, Any]
    columns: dict[str, Any]


type Change = Callable[[Row], object]


def _set(**values: Any) -> Change:
    return lambda row: row.json.update(values)


def _column(**values: Any) -> Change:
    return lambda row: row.columns.update(values)


def _drop(name: str) -> Change:
    return lambda row: row.json.pop(name)


def _swap_ends(row: Row) -> None:
    row.columns |= {"from_id": "m2", "to_id": "m1"}


def _last_bit(value: float) -> float:
    number: int = struct.unpack(">q", struct.pack(">d", value))[0]
    changed: float = struct.unpack(">d", struct.pack(">q", number ^ 1))[0]
    return changed


#: table, change, the field that must be named.
FOUND: dict[str, tuple[str, Change, str]] = {
    "one character of the content": ("nodes", _set(content="some contenT"), "content"),
    "a space at the end": ("nodes", _set(title="title "), "title"),
    "composed and decomposed": ("nodes", _set(title="titl\u00e9"), "title"),
    "an emptied text": ("nodes", _set(title=""), "title"),
    "type": ("nodes", _set(type="fix"), "type"),
    "the order of tags": ("nodes", _set(tags=["b", "a"]), "tags"),
    "a tag twice": ("nodes", _set(tags=["a", "b", "b"]), "tags"),
    "tags gone": ("nodes", _drop("tags"), "tags"),
    "a list's order": ("nodes", _set(context_languages=["go", "py"]), "context_languages"),
    "the last bit of a known float": ("nodes", _set(importance=_last_bit(0.1 + 0.2)), "importance"),
    "a rounded float": ("nodes", _set(importance=0.3), "importance"),
    "the last bit of an unknown float": ("nodes", _set(x_float=_last_bit(1.5)), "x_float"),
    "an unknown int made a float": ("nodes", _set(x_int=1.0), "x_int"),
    "an unknown flag made a number": ("nodes", _set(x_flag=1), "x_flag"),
    "a known float made a text": ("nodes", _set(confidence="0.7"), "confidence"),
    "the sign of zero": ("nodes", _set(x_zero=-0.0), "x_zero"),
    "NaN made null": ("nodes", _set(x_nan=None), "x_nan"),
    "NaN made infinite": ("nodes", _set(x_nan=math.inf), "x_nan"),
    "a text made a list": ("nodes", _set(x_text=[]), "x_text"),
    "an unknown empty list gone": ("nodes", _drop("x_list"), "x_list"),
    "a context list gone": ("nodes", _drop("context_files_involved"), "context_files_involved"),
    "microseconds lost": ("nodes", _set(updated_at="2025-06-30T12:00:00.123000+00:00"), "updated_at"),
    "another instant": ("nodes", _set(created_at="2025-06-30T12:00:00.123456+01:00"), "created_at"),
    "an unknown time spelled otherwise": ("nodes", _set(x_time=TIME.replace("+00:00", "Z")), "x_time"),
    "a property dropped": ("nodes", _drop("x_int"), "x_int"),
    "a property added": ("nodes", _set(x_new="v"), "x_new"),
    "null in the metadata gone": (
        "nodes",
        _set(context_additional_metadata={"k": [1, 2.5]}),
        "context_additional_metadata",
    ),
    "a number in the metadata": (
        "nodes",
        _set(context_additional_metadata={"k": [1.0, 2.5, None]}),
        "context_additional_metadata",
    ),
    "usage": ("nodes", _set(usage_count=4), "usage_count"),
    "label": ("nodes", _column(label="Entity"), ""),
    "JSON broken": ("nodes", _column(properties="{"), ""),
    "another memory's id": ("nodes", _column(id="m9"), ""),
    "ends swapped": ("relationships", _swap_ends, ":from"),
    "another end": ("relationships", _column(to_id="m3"), ":to"),
    "relationship type": ("relationships", _column(rel_type="SOLVES"), ":type"),
    "type's case": ("relationships", _column(rel_type="causes"), ":type"),
    "the valid_until column alone": ("relationships", _column(valid_until="2025-07-01T00:00:00Z"), "valid_until"),
    "validity reopened": ("relationships", _column(valid_until=None), "valid_until"),
    "invalidated_by": ("relationships", _column(invalidated_by=None), "invalidated_by"),
    "recorded_at invented": ("relationships", _column(recorded_at="2026-01-01 00:00:00"), "recorded_at"),
    "strength": ("relationships", _set(strength=0.5000000000000001), "strength"),
    "evidence made the default": ("relationships", _drop("evidence_count"), "evidence_count"),
    "last_validated gone": ("relationships", _drop("last_validated"), "last_validated"),
    "a dangling end": ("relationships", _column(to_id="nobody"), ""),
}

HARMLESS: dict[str, tuple[str, Change]] = {
    "an empty list as a list": ("nodes", _set(context_files_involved=[])),
    "a list as text": ("nodes", _set(context_languages='["py", "go"]')),
    "metadata as an object": ("nodes", _set(context_additional_metadata={"k": [1, 2.5, None]})),
    "metadata spelled otherwise": ("nodes", _set(context_additional_metadata='{ "k" : [1,2.50,null] }')),
    "Z for +00:00": ("nodes", _set(created_at="2025-06-30T12:00:00.123456Z")),
    "another offset": ("nodes", _set(created_at="2025-06-30T14:30:00.123456+02:30")),
    "no zone, a space": ("nodes", _set(updated_at="2025-06-30 12:00:00.123456")),
    "microseconds since 1970": ("nodes", _set(updated_at=1_751_284_800_123_456)),
    "a default filled in": ("nodes", _set(version=1)),
    "null for absent": ("nodes", _set(summary=None)),
    "a known int as a float": ("nodes", _set(usage_count=3.0)),
    "the order of keys": ("nodes", lambda row: row.json.update(title=row.json.pop("title"))),
    "the row's own times": ("nodes", _column(created_at="1999-01-01", updated_at="1999-01-01")),
    "the default strength dropped": ("relationships", _drop("strength")),
    "stale JSON": ("relationships", _set(valid_until=None, invalidated_by="x", recorded_at="1999-01-01")),
    "a column's time spelled otherwise": ("relationships", _column(valid_until="2025-06-30T12:00:00.123456Z")),
    "the row's created_at": ("relationships", _column(created_at="1999-01-01")),
}

#: Statements, and what they change in a graph.
GRAPH_CHANGES = {
    "an edge dropped": "MATCH ()-[r:CAUSES {id: 'e1'}]->() DELETE r",
    "an edge turned round": "MATCH (a)-[r:CAUSES]->(b) CREATE (b)-[x:CAUSES]->(a) SET x = properties(r) DELETE r",
    "the last bits of a float": "MATCH (m {id: 'm1'}) SET m.importance = 0.3",
    "the last bits of a list's float": "MATCH (m {id: 'm1'}) SET m.x_list = [1, [0.3]]",
    # FalkorDB ignores SET where the value is equal by number (1 and 1.0, 0.0 and -0.0), so it goes first.
    "an int made a float": "MATCH (m {id: 'm1'}) SET m.x_int = null WITH m SET m.x_int = 1.0",
    "a sign lost": "MATCH (m {id: 'm1'}) SET m.x_zero = null WITH m SET m.x_zero = 0.0",
    "a second memory of an id": "CREATE (:Memory {id: 'm1'})",
    "a marker left": "CREATE (:_Memmig {run: 'x'})",
    "another label": "MATCH (m {id: 'm1'}) SET m:Other",
    "another property on an edge": "MATCH ()-[r {id: 'e1'}]->() SET r.strength = 0.25",
}

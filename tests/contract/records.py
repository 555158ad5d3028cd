"""Records for the contract suite: plain ones that every store holds, and nasty ones made by chance."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from migrator.model import DEFAULTS, Kind, Memory, Record, Relationship, canonical
from tests import nasty_values

CREATED = "2025-01-02T03:04:05.678901+00:00"


def memory(identity: str, **changes: Any) -> Memory:
    """A memory that every store can hold; a change to None takes the property away."""
    properties = {
        "type": "solution",
        "title": f"title of {identity[:20]}",
        "content": "some content",
        "created_at": CREATED,
        "updated_at": CREATED,
    }
    return Memory(identity, ("Memory",), canonical("memory", DEFAULTS["memory"] | properties | changes))


def edge(identity: str, start: str, end: str, kind: str = "SOLVES", **changes: Any) -> Relationship:
    """A relationship that every store can hold."""
    times = {"created_at": CREATED, "last_validated": CREATED, "valid_from": CREATED, "recorded_at": CREATED}
    stored = DEFAULTS["relationship"] | times | {"context": "because"} | changes
    return Relationship(identity, kind, start, end, canonical("relationship", stored))


_text = st.one_of(
    st.text(max_size=20),
    st.sampled_from(nasty_values.TEXTS),
    st.text(st.characters(categories=("Cs", "Cc", "Zs")), max_size=2),
)
_float = st.one_of(st.floats(), st.sampled_from(nasty_values.FLOATS))
_int = st.one_of(st.integers(), st.sampled_from(nasty_values.INTS))
_scalar = st.one_of(_text, _float, _int, st.booleans())
_json = st.recursive(
    st.one_of(_scalar, st.none()),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(_text, inner, max_size=3)),
    max_leaves=6,
)
_object = st.dictionaries(_text, _json, max_size=3)
_texts = st.lists(_text, max_size=3)
_time = st.sampled_from(nasty_values.TIMES)
_anything = st.one_of(_scalar, _texts, st.lists(_scalar, max_size=3), _json, st.binary(max_size=3))
#: Mostly of the known type, sometimes anything at all.
_lie = st.one_of(_anything, st.just("[]"), st.just("{}"), st.just('["a"]'), st.just('{"a": 1, "a": 2}'))


def _mostly(usual: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(usual, usual, usual, _lie)


_MEMORY_FIELDS = {
    "title": _mostly(_text),
    "content": _mostly(_text),
    "summary": _mostly(_text),
    "tags": _mostly(_texts),
    "importance": _mostly(_float),
    "confidence": _mostly(_float),
    "effectiveness": _mostly(_float),
    "usage_count": _mostly(_int),
    "version": _mostly(_int),
    "updated_by": _mostly(_text),
    "created_at": _mostly(_time),
    "last_accessed": _mostly(_time),
    "context_timestamp": _mostly(_time),
    "context_languages": _mostly(_texts),
    "context_files_involved": _mostly(_texts),
    "context_additional_metadata": _mostly(_object),
    "context_tenant_id": _mostly(_text),
    "context_unknown": _anything,
}
_EDGE_FIELDS = {
    "strength": _mostly(_float),
    "confidence": _mostly(_float),
    "success_rate": _mostly(_float),
    "evidence_count": _mostly(_int),
    "validation_count": _mostly(_int),
    "context": _mostly(_text),
    "created_at": _mostly(_time),
    "valid_from": _mostly(_time),
    "valid_until": _mostly(_time),
    "invalidated_by": _mostly(_text),
}
#: Names of unknown properties: also those of columns, and with a colon before them those of the forms' own fields.
_NAMES = ["x", ":x", "::x", ":labels", "::labels", ":type", ":from", "label", "from_id", "we ird", "properties"]
_unknown = st.dictionaries(st.sampled_from(_NAMES), _anything, max_size=2)
ids = st.one_of(st.sampled_from(nasty_values.IDS), st.text(max_size=10), st.uuids().map(str))


@st.composite
def records(draw: st.DrawFn, kind: Kind) -> Record:
    """Any record in canonical form, storable or not."""
    fields = _MEMORY_FIELDS if kind == "memory" else _EDGE_FIELDS
    chosen = draw(st.lists(st.sampled_from(sorted(fields)), unique=True, max_size=6))
    changes = {name: draw(fields[name]) for name in chosen} | draw(st.one_of(st.just({}), _unknown))
    identity = draw(ids)
    if kind == "memory":
        return memory(identity, **changes)
    return edge(identity, draw(ids), draw(ids), draw(st.sampled_from(["SOLVES", "CAUSES", "x_1"])), **changes)

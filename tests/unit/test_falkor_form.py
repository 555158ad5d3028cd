from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from migrator.backends._cypher import MADE_ID, NATIVE, CypherForm, edge_id, quoted
from migrator.backends._falkor_read import _joined, _rounded
from migrator.backends._falkor_wire import parse, render
from migrator.model import Corrupt, Memory, Relationship, digest

FORM = CypherForm()


def _memory(name: str = "m", /, **properties: Any) -> Memory:
    return Memory(name, ("Memory",), properties)


class _Liar(str):
    __slots__ = ()

    def __str__(self) -> str:
        return '" DELETE n //'


class _Number(int):
    def __repr__(self) -> str:
        return "1 MATCH (n) DELETE n"


@pytest.mark.parametrize("value", [object(), _Liar("x"), _Number(1), b"x", (1,), {1: 2}, {"a`b": 1}, {_Liar("k"): 1}])
def test_only_exact_types_are_rendered(value: Any) -> None:
    for wrapped in (value, [value], {"k": value}):
        with pytest.raises((TypeError, ValueError)):
            render(wrapped)


@pytest.mark.parametrize("value", ["\0", math.nan, math.inf, -math.inf, 2**63, -(2**63) - 1])
def test_what_would_be_changed_on_the_way_is_not_rendered(value: Any) -> None:
    with pytest.raises(ValueError, match=r".+"):
        render(value)


@pytest.mark.parametrize("name", ["", "a`b", "a\\u0060b", "a\0", "a\nb", "\ud800", "x" * 513, 5, None])
def test_names_outside_the_allow_list_are_not_quoted(name: Any) -> None:
    with pytest.raises(ValueError, match="cannot be a name"):
        quoted(name)


def test_natives_are_named_not_guessed() -> None:
    found = FORM.decode("memory", {"labels": ["Memory"], "properties": {"id": "a", "p": parse([11, ["1.5", "2"]])}})
    assert isinstance(found, Corrupt)
    assert found.reason == "p: a value of type point cannot be read exactly"
    assert found.raw["properties"]["p"] == {NATIVE: "point", "value": ["1.5", "2"]}


@given(st.floats(allow_nan=False, allow_infinity=False).filter(lambda x: abs(x) < 1e290))
def test_two_halves_of_15_digits_are_the_float(value: float) -> None:
    big = 134217729.0 * value
    half = value - (big - (big - value))
    assert repr(_joined(float(f"{value:.15g}"), float(f"{half:.15g}"))) == repr(value)


def test_one_half_alone_is_not_enough() -> None:
    assert float(f"{0.1 + 0.2:.15g}") == 0.3 != 0.1 + 0.2
    assert _rounded(0.3) != 0.3


def test_what_0_12_writes_as_text_is_text_and_comes_back() -> None:
    record = _memory(
        tags=[],
        context_files_involved=[],
        context_languages=["a", 1],
        context_frameworks=[{"a": None}],
        context_additional_metadata={"k": [1.5, "\0\ud800"]},
        other=[],
        nested=[[1], [2.0, [True]]],
    )
    raw = FORM.encode(record)
    assert FORM.problems(record) == ()
    assert raw["labels"] == ["Memory"]
    assert raw["properties"] == {
        "id": "m",
        "tags": [],
        "context_files_involved": "[]",
        "context_languages": ["a", 1],
        "context_frameworks": '[{"a": null}]',
        "context_additional_metadata": '{"k": [1.5, "\\u0000\\ud800"]}',
        "other": [],
        "nested": [[1], [2.0, [True]]],
    }
    decoded = FORM.decode("memory", raw)
    assert isinstance(decoded, Memory)
    assert digest(decoded) == digest(record)


@pytest.mark.parametrize(
    ("record", "field", "word"),
    [
        (_memory(""), "id", "empty"),
        (_memory("x" * 4097), "id", "4096"),
        (_memory("é" * 2049), "id", "4096"),
        (_memory(" a"), "id", "white space"),
        (_memory("a\n"), "id", "white space"),
        (_memory("a\x01b"), "id", "U+0001"),
        (_memory("a\0"), "id", "NUL"),
        (_memory("\udc00"), "id", "surrogates"),
        (Memory("m", (), {}), ":labels", "label"),
        (Memory("m", ("A`B",), {}), ":labels", "label"),
        (Memory("m", ("A:B",), {}), ":labels", "label"),
        (Memory("m", ("_Memmig",), {}), ":labels", "memmig's own"),
        (_memory(x="\0"), "x", "NUL"),
        (_memory(x="\ud800"), "x", "surrogates"),
        (_memory(x=math.nan), "x", "nan"),
        (_memory(x=-math.inf), "x", "inf"),
        (_memory(x=2**63), "x", "64 bits"),
        (_memory(x={"a": 1}), "x", "map"),
        (_memory(x=b"x"), "x", "bytes"),
        (_memory(x=[1, None]), "x", "null"),
        (_memory(x=[{"a": 1}]), "x", "map"),
        (_memory(x=[[math.nan]]), "x", "nan"),
        (_memory(x=[[[[[1.5]]]]]), "x", "deep"),
        (_memory(tags=["a", None]), "tags", "null"),
        (_memory(context_additional_metadata={"a": math.nan}), "context_additional_metadata", "JSON"),
        (Memory("m", ("Memory",), {"": 1}), "", "quoted"),
        (Memory("m", ("Memory",), {"a`b": 1}), "a`b", "quoted"),
        (Memory("m", ("Memory",), {"a\\u0060b": 1}), "a\\u0060b", "quoted"),
        (Relationship("", "T", "a", "b", {}), "id", "empty"),
        (Relationship("e", "", "a", "b", {}), ":type", "type"),
        (Relationship("e", "A`B", "a", "b", {}), ":type", "type"),
        (Relationship("e", "T", "a", "b", {"x": {"a": 1}}), "x", "map"),
    ],
)
def test_what_cannot_be_stored_is_named(record: Memory | Relationship, field: str, word: str) -> None:
    problems = FORM.problems(record)
    assert [(problem.id, problem.field) for problem in problems] == [(record.id, field)]
    assert word in problems[0].reason


def test_nothing_else_is_refused() -> None:
    odd = {"we ird-é": 1, "select": 2, "1": 3, "n": 'x"\\`\n', "\u05d0": [True, 1, 1.0, "1", [[]]]}
    assert FORM.problems(_memory("ID with inner space and Ünï", **odd)) == ()
    assert FORM.problems(Relationship(" e ", "TYPE with space:x", "a", "b", odd)) == ()
    assert FORM.problems(_memory("x" * 4096, low=-(2**63), high=2**63 - 1, zero=-0.0, tiny=5e-324)) == ()


@pytest.mark.parametrize("identity", [None, 5, "", True])
def test_a_node_without_a_text_as_id_is_corrupt(identity: Any) -> None:
    found = FORM.decode("memory", {"labels": ["Memory"], "properties": {"id": identity}})
    assert isinstance(found, Corrupt)


def test_an_edge_without_id_is_a_record_only_where_one_was_made() -> None:
    raw = {"type": "T", "from": "a", "to": "b", "properties": {}}
    assert isinstance(FORM.decode("relationship", raw), Corrupt)
    assert FORM.decode("relationship", {**raw, MADE_ID: "x"}) == Relationship("x", "T", "a", "b", {})


def test_made_ids_depend_on_content_and_place_alone() -> None:
    one, same = (Relationship(name, "T", "a", "b", {"x": 1}) for name in ("", "other"))
    assert edge_id(one, 0) == edge_id(same, 0) == "b03f30a8-ac0e-5373-837f-f7dffcb4443c"
    others = [Relationship("", "U", "a", "b", {"x": 1}), Relationship("", "T", "b", "a", {"x": 1})]
    others.append(Relationship("", "T", "a", "b", {"x": 1.0}))
    assert len({edge_id(one, 0), edge_id(one, 1), *(edge_id(other, 0) for other in others)}) == 5


def test_graft_takes_named_fields_and_keeps_the_rest() -> None:
    onto = {"type": "T", "from": "a", "to": "b", "properties": {"id": "e", "keep": 1, "drop": 2, ":odd": 3}}
    source = {"type": "U", "from": "a", "to": "c", "properties": {"id": "e", "keep": 9, "new": 4, ":odd": 5}}
    grafted = FORM.graft("relationship", onto, source, [":type", ":to", "drop", "new", "::odd"])
    assert grafted == {
        "type": "U", "from": "a", "to": "c", "properties": {"id": "e", "keep": 1, ":odd": 5, "new": 4},
    }  # fmt: skip
    assert onto["properties"] == {"id": "e", "keep": 1, "drop": 2, ":odd": 3}


def test_tags_as_text_hide_a_memory_from_its_client() -> None:
    raw = {"labels": ["Memory"], "properties": {"id": "a", "tags": "[]"}}
    assert not FORM.readable("memory", raw)
    assert FORM.readable("memory", {"labels": ["Memory"], "properties": {"id": "a", "tags": []}})


def test_label_and_id_property_are_settings() -> None:
    form = CypherForm("Entity", "uuid")
    record = Memory("u1", ("Entity",), {"name": "n"})
    raw = form.encode(record)
    assert raw == {"labels": ["Entity"], "properties": {"uuid": "u1", "name": "n"}}
    assert form.decode("memory", raw) == record
    both = form.decode("memory", {"labels": ["Entity"], "properties": {"uuid": "u1", "id": "x"}})
    assert isinstance(both, Corrupt)

"""The canonical form, held against docs/reference/canonical-form.md and the implementation written from it."""

from __future__ import annotations

import json
import math
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from migrator.model import (
    DEFAULTS,
    FLOAT_FIELDS,
    INT_FIELDS,
    KINDS,
    LIST_FIELDS,
    MAX_DEPTH,
    OBJECT_FIELDS,
    TIME_FIELDS,
    Kind,
    Memory,
    Record,
    Relationship,
    Value,
    canonical,
    canonical_encoding,
    differing_fields,
    digest,
    kind_of,
    property_of,
)
from migrator.times import parse_time, time_text
from tests import independent_digest

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "canonical-form.md"

# --- strategies -----------------------------------------------------------------------------------------------------

any_text = st.one_of(
    st.text(st.characters(exclude_categories=()), max_size=8),  # lone surrogates and control characters included
    st.sampled_from(
        ["", "\ud83d\ude00", "\x00", "\x7f\u2028\u2029/<>&", '\b\t\n\f\r\x0b\x1f"\\', "é e\u0301", "\U0010ffff"]
    ),
)
integers = st.one_of(
    st.integers(-3, 3),
    st.integers(),
    st.sampled_from([2**31, 2**53, 2**53 + 1, 2**63 - 1, 2**63, -(2**63), 2**64, 10**308, 2**1023, 2**1024, 10**400]),
    st.sampled_from([10**11 - 1, 10**11, 10**14 - 1, 10**14, 253402300799, 253402300800, 253402300799999999]),
    st.integers(-62135596801, -62135596799),
)
floats = st.one_of(
    st.floats(),
    st.integers(-3, 3).map(float),
    st.sampled_from([0.0, -0.0, math.nan, -math.nan, math.inf, -math.inf, 5e-324, 2.2250738585072014e-308, 0.1 + 0.2]),
    st.sampled_from(
        [0.5, 0.8, 1.7e9, 1.7e12, 1.7e15, 1.5e9 + 0.5, 2.0**62, 2.0**63, -(2.0**63), 1.7976931348623157e308]
    ),
)
scalars = st.one_of(any_text, integers, floats, st.booleans(), st.binary(max_size=5))
values = st.recursive(
    st.one_of(scalars, st.none()),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(any_text, inner, max_size=4)),
    max_leaves=6,
)


def two(low: int, high: int) -> st.SearchStrategy[str]:
    return st.integers(low, high).map("{:02}".format)


dates = st.builds(
    "{}-{}-{}".format, st.sampled_from(["2024", "0001", "9999", "0000", "1969", "999"]), two(0, 13), two(0, 32)
)
zones = st.one_of(
    st.sampled_from(["", "Z", "z", "+00:00", "-00:00", "+0000", "+24:00", "+05:60", "UTC", " Z", "+05:30:15", "\n"]),
    st.builds("{}{}:{}".format, st.sampled_from("+-"), two(0, 23), two(0, 59)),
)
fractions = st.one_of(st.just(""), st.text("0123456789٣", min_size=1, max_size=7).map(".{}".format), st.just(",5"))
times = st.one_of(
    st.builds(
        lambda date, gap, hour, minute, second, zone: f"{date}{gap}{hour}:{minute}{second}{zone}",
        dates,
        st.sampled_from("TTTT t"),
        two(0, 24),
        two(0, 60),
        st.one_of(st.just(""), st.builds(":{}{}".format, two(0, 60), fractions)),
        zones,
    ),
    st.datetimes().map(lambda moment: moment.isoformat() + "Z"),
    st.datetimes(timezones=st.just(UTC)).map(datetime.isoformat),
)

SPECIAL_TEXTS = (
    "[]", "{}", " [ ]\n", "[ 1 , 2.50 ]", "[1e999]", "[-0, -0.0, 1E2, 1e+2]", "[NaN]", "[Infinity]", "[-Infinity]",
    '{"a":1,"a":1}', '{"a":{"b":1,"b":2}}', '[{"a":1,"\\u0061":2}]', "[01]", "[1.]", "[.5]", "[+1]", "[1,]", "[,]",
    '["\\ud83d\\ude00"]', '["\\ud83d"]', '["\\ud83d\\u0041"]', '["\\ud83d\\ud83d\\ude00"]', '["\\ude00"]',
    '["\x1f"]', '["\x7f"]', '["\\x"]', '["\\u12g4"]', '["a"', '["a"]x', "\ufeff[]", "\x0b[]", "\xa0[]", "[nul]",
    "[null, true, false]", '"[]"', "null", "1", "[" * 100 + "]" * 100, "[" * 101 + "]" * 101, "[" * 9000,
    "[" + "9" * 4300 + "]", "[" + "9" * 4301 + "]", "[-" + "9" * 4300 + "]", "[" + "9" * 5000 + ".0]",
    "[0." + "1" * 5000 + "]",
)  # fmt: skip

json_texts = st.one_of(
    values.filter(lambda value: type(value) is not bytes).map(lambda value: json.dumps(value, default=str)),
    st.lists(any_text, max_size=3).map(json.dumps),
    st.dictionaries(any_text, st.one_of(any_text, integers, floats), max_size=3).map(json.dumps),
    st.lists(any_text, max_size=2).map(lambda value: json.dumps(value, ensure_ascii=False)),
    st.sampled_from(SPECIAL_TEXTS),
)


def stored_properties(kind: Kind) -> st.SearchStrategy[dict[str, Value]]:
    """Draw properties as a store may hold them: known fields with right and wrong values, and unknown ones."""

    def some(keys: frozenset[str], *likely: st.SearchStrategy[Value]) -> st.SearchStrategy[dict[str, Value]]:
        return st.dictionaries(st.sampled_from(sorted(keys)), st.one_of(*likely, *likely, values), max_size=2)

    parts = [
        some(TIME_FIELDS[kind], times, integers, floats),
        some(FLOAT_FIELDS[kind] | INT_FIELDS[kind], integers, floats),
        some(LIST_FIELDS | OBJECT_FIELDS, json_texts, st.lists(any_text, max_size=2)),
        st.dictionaries(
            st.sampled_from(sorted(DEFAULTS[kind])), st.sampled_from([0, 1, True, 0.5, 0.8, "[]", [], -0.0, 1.0])
        ),
        st.dictionaries(st.one_of(any_text, st.sampled_from(["id", ":type", "title", "Title"])), values, max_size=3),
    ]
    return st.tuples(*parts).map(lambda found: {key: value for part in found for key, value in part.items()})


type Plain = tuple[Any, ...]
memories = st.tuples(
    st.just("memory"), any_text, st.lists(any_text, max_size=3).map(tuple), stored_properties("memory")
)
relationships = st.tuples(
    st.just("relationship"), any_text, any_text, any_text, any_text, stored_properties("relationship")
)


def as_record(plain: Plain) -> Record:
    kind: Kind = plain[0]
    properties = canonical(kind, plain[-1])
    if kind == "memory":
        return Memory(plain[1], plain[2], properties)
    return Relationship(plain[1], plain[2], plain[3], plain[4], properties)


# --- two implementations ----------------------------------------------------------------------------------------------

PER_EXAMPLE = 10


@pytest.mark.parametrize("examples", [550, pytest.param(1_500, marks=pytest.mark.long)])
@pytest.mark.parametrize("plain_records", [memories, relationships], ids=KINDS)
def test_a_program_written_from_the_page_agrees_on_10_000_records(
    plain_records: st.SearchStrategy[Plain], examples: int
) -> None:
    seen = 0

    @settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(plain_records, min_size=PER_EXAMPLE, max_size=PER_EXAMPLE))
    def agree(drawn: list[Plain]) -> None:
        nonlocal seen
        for plain in drawn:
            seen += 1
            assert canonical_encoding(as_record(plain)).decode() == independent_digest.line(plain)
            assert digest(as_record(plain)) == independent_digest.digest(plain)

    agree()
    assert seen >= 5_000  # of each kind


@pytest.mark.parametrize("text", SPECIAL_TEXTS, ids=lambda text: repr(text[:30]))
def test_they_agree_on_what_is_json(text: str) -> None:
    for wrapped in (text, f'{{"a":{text}}}', f"[{text}]"):
        plain = ("memory", "m", (), {"tags": wrapped, "context_additional_metadata": wrapped})
        assert canonical_encoding(as_record(plain)).decode() == independent_digest.line(plain)


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 0x10FFFF))
@example(0xD800)
@example(0xDFFF)
def test_they_agree_on_every_kind_of_code_point(code: int) -> None:
    for code_point in {code, code % 0x100, 0xD7F0 + code % 0x820}:
        text = chr(code_point)
        plain = ("memory", text, (text,), {text: [text, {text: text}]})
        assert canonical_encoding(as_record(plain)).decode() == independent_digest.line(plain)


def test_the_example_of_the_page_is_true() -> None:
    stored = {
        "title": "Café",
        "importance": 1,
        "confidence": 0.8,
        "tags": '["a"]',
        "created_at": "2024-05-01 12:00:00+02:00",
        "weight": 1,
    }
    record = as_record(("memory", "m1", ("Memory",), stored))
    blocks = re.findall(r"```\n(.*?)\n```", PAGE.read_text("utf-8"), re.DOTALL)
    assert blocks[-2:] == [canonical_encoding(record).decode(), digest(record)]


# --- the form, case by case -------------------------------------------------------------------------------------------


def same(kind: Kind, one: dict[str, Value], other: dict[str, Value]) -> bool:
    def name(properties: dict[str, Value]) -> str:
        plain = (
            ("memory", "i", ("Memory",), properties)
            if kind == "memory"
            else ("relationship", "i", "T", "a", "b", properties)
        )
        return digest(as_record(plain))

    return name(one) == name(other)


@pytest.mark.parametrize(
    ("kind", "one", "other"),
    [
        ("memory", {"summary": None}, {}),
        ("memory", {"id": "another"}, {}),
        ("memory", {"tags": "[]", "importance": 0.5, "confidence": 0.8, "usage_count": 0.0, "version": 1}, {}),
        ("relationship", {"strength": 0.5, "evidence_count": 1.0, "counter_evidence_count": 0}, {}),
        ("memory", {"importance": 1}, {"importance": 1.0}),
        ("memory", {"usage_count": 3.0}, {"usage_count": 3}),
        ("memory", {"context_languages": '["a", "b"]'}, {"context_languages": ["a", "b"]}),
        (
            "memory",
            {"context_additional_metadata": '{"a": {"b": 1}}'},
            {"context_additional_metadata": {"a": {"b": 1}}},
        ),
        ("memory", {"created_at": "2024-01-01T00:00:00Z"}, {"created_at": "2024-01-01 01:00+01:00"}),
        ("memory", {"created_at": "2024-01-01T00:00:00"}, {"created_at": 1704067200}),
        ("memory", {"updated_at": 1704067200000}, {"updated_at": 1704067200000000.0}),
        ("memory", {"x": math.nan}, {"x": -math.nan}),
        ("memory", {"x": {"a": 1, "b": 2}}, {"x": {"b": 2, "a": 1}}),
    ],
)
def test_equal_in_the_canonical_form(kind: Kind, one: dict[str, Value], other: dict[str, Value]) -> None:
    assert same(kind, one, other)


@pytest.mark.parametrize(
    ("kind", "one", "other"),
    [
        ("memory", {"context_languages": []}, {}),
        ("memory", {"x": []}, {"x": "[]"}),
        ("memory", {"x": 1}, {"x": 1.0}),
        ("memory", {"x": 1}, {"x": True}),
        ("memory", {"x": 0.0}, {"x": -0.0}),
        ("memory", {"x": b"a"}, {"x": {"b": "61"}}),
        ("memory", {"x": 1.0}, {"x": {"f": "3ff0000000000000"}}),
        ("memory", {"created_at": "2024-01-01T00:00:00Z"}, {"created_at": {"t": "2024-01-01T00:00:00.000000Z"}}),
        ("memory", {"x": "2024-01-01T00:00:00Z"}, {"x": "2024-01-01T00:00:00+00:00"}),
        ("memory", {"created_at": "2024-01-01T00:00:00.1234567Z"}, {"created_at": "2024-01-01T00:00:00.1234568Z"}),
        ("memory", {"usage_count": -0.0}, {"usage_count": 0}),
        ("memory", {"version": True}, {"version": 1}),
        ("memory", {"importance": 2**53 + 1}, {"importance": 2**53}),
        ("memory", {"x": "\ud83d\ude00"}, {"x": "\U0001f600"}),
        ("memory", {"tags": ["a", "b"]}, {"tags": ["b", "a"]}),
        ("relationship", {"tags": "[]"}, {}),
        ("relationship", {"importance": 0.5}, {}),
    ],
)
def test_different_in_the_canonical_form(kind: Kind, one: dict[str, Value], other: dict[str, Value]) -> None:
    assert not same(kind, one, other)


@pytest.mark.parametrize(
    "record",
    [
        Memory("b", ("Memory",), {}),
        Memory("a", (), {}),
        Memory("a", ("Memory", "Other"), {}),
        Relationship("a", "T", "x", "y", {}),
        Relationship("a", "T", "y", "x", {}),
        Relationship("a", "U", "x", "y", {}),
    ],
)
def test_what_names_a_record_is_in_its_digest(record: Record) -> None:
    assert digest(record) != digest(Memory("a", ("Memory",), {}))
    assert digest(record) != digest(Relationship("a", "T", "x", "z", {}))


def test_the_order_of_labels_is_not_in_the_digest() -> None:
    assert digest(Memory("a", ("B", "A"), {})) == digest(Memory("a", ("A", "B"), {}))


def test_too_deep_a_text_stays_text() -> None:
    deepest, deeper = "[" * MAX_DEPTH + "]" * MAX_DEPTH, "[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1)
    assert type(canonical("memory", {"tags": deepest})["tags"]) is list
    assert canonical("memory", {"tags": deeper})["tags"] == deeper


# --- times ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("2024-02-29T23:59:59.999999Z", "2024-02-29T23:59:59.999999Z"),
        ("2024-02-29 23:59+05:30", "2024-02-29T18:29:00.000000Z"),
        ("0001-01-01T00:00:00.1", "0001-01-01T00:00:00.100000Z"),
        (0, "1970-01-01T00:00:00.000000Z"),
        (-1, "1969-12-31T23:59:59.000000Z"),
        (99_999_999_999, "5138-11-16T09:46:39.000000Z"),
        (100_000_000_000, "1973-03-03T09:46:40.000000Z"),
        (100_000_000_000_000, "1973-03-03T09:46:40.000000Z"),
        (1.7e9, "2023-11-14T22:13:20.000000Z"),
    ],
)
def test_times(value: Value, text: str) -> None:
    moment = parse_time(value)
    assert moment is not None
    assert moment.tzinfo is UTC
    assert time_text(moment) == text


@pytest.mark.parametrize(
    "value",
    [
        "", "2024-02-30T00:00:00Z", "2024-01-01", "2024-01-01t00:00:00z", "2024-01-01T24:00:00Z",
        "2024-01-01T00:00:60Z", "2024-01-01T00:00:00.1234567Z", "2024-01-01T00:00:00+0100", "0000-01-01T00:00:00Z",
        "0001-01-01T00:00:00+00:01", "9999-12-31T23:59:59-00:01", "2024-01-01T00:00:00Z\n", "٢٠٢٤-01-01T00:00:00Z",
        "1700000000", True, None, [], {}, b"", 1.5, math.nan, math.inf, 10**30, -(10**30), 1e300,
    ],
)  # fmt: skip
def test_what_is_no_time(value: Value) -> None:
    assert parse_time(value) is None


# --- which fields differ ----------------------------------------------------------------------------------------------


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_fields_differ_exactly_when_digests_do(data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(KINDS))
    one = data.draw(memories if kind == "memory" else relationships)
    other = data.draw(st.one_of(st.just(one), memories if kind == "memory" else relationships))
    left, right = (
        as_record((one[0], "same", *one[2:])),
        as_record((other[0], "same", *other[2:-1], one[-1] | other[-1])),
    )
    assert (differing_fields(left, right) == []) == (digest(left) == digest(right))
    assert kind_of(left) == kind


def test_differing_fields_are_named() -> None:
    one = Relationship("r", "T", "a", "b", {"x": 1, "strength": 0.5, ":type": 1})
    other = Relationship("r", "U", "b", "b", {"x": 1.0, ":type": 2})
    assert differing_fields(one, other) == ["::type", ":from", ":type", "x"]
    assert [property_of(name) for name in differing_fields(one, other)] == [":type", None, None, "x"]
    assert differing_fields(Memory("m", ("A",), {}), Memory("m", ("B",), {"y": "1"})) == [":labels", "y"]

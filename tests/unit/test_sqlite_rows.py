"""SQLite rows: what is corrupt, what columns change without a word, and what the client's spelling is."""

from __future__ import annotations

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from migrator.backends import _sqlite_json as text_json
from migrator.backends._sqlite_forms import Form012, Form013
from migrator.backends.sqlite import SqliteBackend
from migrator.model import Corrupt, Memory, Relationship, digest
from migrator.models import BackendConfig, BackendType
from tests.contract.records import CREATED, edge, memory

if TYPE_CHECKING:
    from collections.abc import Iterator

    from migrator.model import Kind

DATA = Path(__file__).parents[1] / "data"
NODE = "INSERT INTO nodes (id, label, properties) VALUES (?, 'Memory', ?)"
EDGE = (
    "INSERT INTO relationships (id, from_id, to_id, rel_type, properties, valid_from, valid_until, recorded_at, "
    "invalidated_by) VALUES (?, 'a', 'b', 'SOLVES', ?, ?, ?, ?, ?)"
)


@pytest.fixture
def old(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    """A connection to a copy of the real 0.12 store, emptied."""
    with closing(
        sqlite3.connect(shutil.copy(DATA / "memorygraph-0.12.db", tmp_path / "0.12.db"), isolation_level=None)
    ) as it:
        it.execute("DELETE FROM relationships")
        it.execute("DELETE FROM nodes")
        yield it


def scanned(connection: sqlite3.Connection, kind: Kind, size: int = 100, **more: Any) -> list[Any]:
    path = Path(connection.execute("SELECT file FROM pragma_database_list").fetchone()[0])
    store = SqliteBackend(BackendConfig(backend=BackendType.SQLITE, path=path, **more), role="from")
    store.open("read")
    found = [record for page in store.scan(kind, size) for record in page]
    store.close()
    return found


class TestCorrupt:
    def test_only_the_bad_rows_are_corrupt(self, old: sqlite3.Connection) -> None:
        bad: list[tuple[Any, Any]] = [
            ("no json", "{not json"),
            ("list", "[1, 2]"),
            ("text", '"text"'),
            ("null", "null"),
            ("twice", '{"id": "twice", "title": "one", "title": "two"}'),
            ("twice, blanks", '{"title" : "one", "x": "say \\"k\\": v", "title": "two"}'),
            ("twice within", '{"x": {"a": 1, "a": 2}}'),
            ("other id", '{"id": "another"}'),
            ("number id", '{"id": 5}'),
            ("deep", '{"x": ' + "[" * 5_000 + "]" * 5_000 + "}"),
            ("rather deep", '{"x": ' + "[" * 300 + "]" * 300 + "}"),
            ("blob", b'{"title": "bytes"}'),
            (None, "{}"),
            (b"blob id", "{}"),
            ("empty", ""),
        ]
        for n, (name, text) in enumerate(bad):
            old.execute(NODE, (f"good{n}", json.dumps({"id": f"good{n}", "title": "t"})))
            old.execute(NODE, (name, text))
        old.execute("INSERT INTO nodes (id, label, properties) VALUES ('utf8', 'Memory', CAST(x'7b22ff227d' AS TEXT))")
        old.execute("INSERT INTO nodes (id, label, properties) VALUES (CAST(x'ff' AS TEXT), 'Memory', '{}')")
        for size in (1, 7, 100):
            found = scanned(old, "memory", size)
            assert [record.id for record in found if isinstance(record, Memory)] == [
                f"good{n}" for n in range(len(bad))
            ]
            corrupt = [record for record in found if isinstance(record, Corrupt)]
            assert len(corrupt) == len(bad) + 2
            assert all(record.reason and set(record.raw) >= {"id", "properties"} for record in corrupt)
            named = [record.id for record in corrupt]
            assert [name for name in named if name.startswith("rowid:")] == ["rowid:26", "rowid:28", "rowid:32"]
            assert len(set(named)) == len(named)

    def test_edges(self, old: sqlite3.Connection) -> None:
        times = (CREATED, None, CREATED, None)
        old.execute(EDGE, ("good", "{}", *times))
        old.execute(EDGE, ("twice", '{"context": "a", "context": "b"}', *times))
        old.execute(EDGE, ("blob", "{}", b"2025", None, CREATED, None))
        found = scanned(old, "relationship")
        assert [type(record) for record in found] == [Relationship, Corrupt, Corrupt]
        assert "valid_from" in found[2].reason

    def test_013_context(self, tmp_path: Path) -> None:
        path = shutil.copy(DATA / "memorygraph-0.13.db", tmp_path / "0.13.db")
        with closing(sqlite3.connect(path, isolation_level=None)) as new:
            for rowid, context in enumerate(("{", "[]", '{"a": 1, "a": 2}', b"{}"), start=1):
                new.execute("UPDATE memories SET context = ? WHERE rowid = ?", (context, rowid))
            found = scanned(new, "memory")
        assert [isinstance(record, Corrupt) for record in found] == [True] * 4 + [False] * 196


class TestExactReading:
    def test_the_columns_are_the_truth_for_four_fields(self, old: sqlite3.Connection) -> None:
        stale = {
            "id": "e",
            "valid_from": "stale",
            "valid_until": "stale",
            "recorded_at": "stale",
            "invalidated_by": "x",
        }
        old.execute(EDGE, ("e", json.dumps(stale), CREATED, None, "2025-05-05T00:00:00Z", None))
        old.execute(EDGE, ("f", "{}", CREATED, "2026-01-01T00:00:00Z", CREATED, "e"))
        one, other = scanned(old, "relationship")
        assert one.properties == {"valid_from": CREATED, "recorded_at": "2025-05-05T00:00:00Z"}
        assert other.properties["valid_until"] == "2026-01-01T00:00:00Z"
        assert other.properties["invalidated_by"] == "e"

    def test_numbers_and_texts_that_the_fast_reader_would_change(self, old: sqlite3.Connection) -> None:
        text = (
            '{"nan": NaN, "inf": -Infinity, "big": 18446744073709551616, "low": -9223372036854775809, '
            '"list": [123456789012345678901234567890, 1e400], "lone": "\\ud800", "zero": -0.0, "tiny": 5e-324, '
            '"max": 18446744073709551615, "real": 1e30, "say": "\\"k\\": 1 : \\\\", "deep": {"a": {"b": [{"c": 1}]}}}'
        )
        old.execute(NODE, ("a", text))
        for name in ("nan", "inf", "big", "low", "list", "lone"):
            whole = json.loads(text)
            old.execute(NODE, (name, json.dumps({name: whole[name]})))
        expected = json.loads(text)
        first, *rest = scanned(old, "memory")
        assert repr(sorted(first.properties.items())) == repr(sorted(expected.items()))
        for record in rest:
            assert repr(record.properties) == repr({record.id: expected[record.id]})

    @settings(max_examples=300, deadline=None)
    @given(
        st.dictionaries(
            st.one_of(st.text(max_size=4), st.sampled_from(['"', "\\", '":', "a :", '\\"', "\n"])),
            st.recursive(
                st.one_of(st.integers(), st.floats(), st.text(max_size=5), st.sampled_from(['":', " :", '\\":', '"'])),
                lambda inner: st.one_of(
                    st.lists(inner, max_size=2), st.dictionaries(st.text(max_size=2), inner, max_size=2)
                ),
                max_leaves=4,
            ),
            max_size=4,
        ),
        st.sampled_from([(",", ":"), (", ", ": "), (" ,\n", " : ")]),
        st.booleans(),
    )
    def test_objects_are_read_as_the_standard_library_reads_them(
        self, value: dict[str, Any], separators: tuple[str, str], ascii_only: bool
    ) -> None:
        text = json.dumps(value, separators=separators, ensure_ascii=ascii_only)
        assert repr(text_json.read_object(text)) == repr(json.loads(text))
        if value:
            key = json.dumps(next(iter(value)), ensure_ascii=ascii_only)
            doubled = text[:-1] + separators[0] + key + separators[1] + "1}"
            with pytest.raises(text_json.NotAnObjectError):
                text_json.read_object(doubled)

    def test_labels_and_dangling_edges(self, old: sqlite3.Connection) -> None:
        old.execute(NODE, ("a", "{}"))
        old.execute("INSERT INTO nodes (id, label, properties) VALUES ('b', 'Entity', '{}')")
        old.execute(EDGE, ("to entity", "{}", CREATED, None, CREATED, None))
        old.execute(EDGE, ("dangling", "{}", CREATED, None, CREATED, None))
        old.execute("UPDATE relationships SET to_id = 'nowhere' WHERE id = 'dangling'")
        assert [record.id for record in scanned(old, "relationship")] == ["dangling"]
        assert [record.labels for record in scanned(old, "memory")] == [("Memory",)]
        assert [record.labels for record in scanned(old, "memory", all_labels=True)] == [("Memory",), ("Entity",)]
        assert len(scanned(old, "relationship", all_labels=True)) == 2

    def test_pages_are_bounded_by_size_of_the_rows(self, old: sqlite3.Connection) -> None:
        for n in range(20):
            old.execute(NODE, (f"m{n}", json.dumps({"content": "x" * 1_000_000})))
        path = Path(old.execute("SELECT file FROM pragma_database_list").fetchone()[0])
        store = SqliteBackend(BackendConfig(backend=BackendType.SQLITE, path=path), role="from")
        store.open("read")
        sizes = [len(page) for page in store.scan("memory", 1_000)]
        store.close()
        assert sum(sizes) == 20
        assert max(sizes) <= 5


class TestForm012:
    form = Form012("Memory")

    def test_is_spelled_as_its_client_does(self) -> None:
        record = memory(
            "a", tags=[], context_languages=[], context_frameworks=["x"], context_additional_metadata={"k": [1, None]}
        )
        raw = self.form.encode(record)
        stored = json.loads(raw["properties"])
        assert stored["id"] == "a"
        assert (stored["tags"], stored["context_languages"], stored["context_frameworks"]) == ([], "[]", ["x"])
        assert stored["context_additional_metadata"] == '{"k": [1, null]}'
        assert (raw["created_at"], raw["updated_at"]) == ("2025-01-02 03:04:05", "2025-01-02 03:04:05")
        assert self.form.encode(memory("a", created_at="yesterday"))["created_at"] is None
        assert raw["properties"].isascii() == json.dumps("é").isascii()

    def test_tags_as_text_are_not_readable(self) -> None:
        raw = self.form.encode(memory("a", tags=["x"]))
        assert self.form.readable("memory", raw)
        for text in ('"[\\"x\\"]"', '"[]"'):
            hidden = raw | {"properties": raw["properties"].replace('["x"]', text)}
            assert hidden != raw
            assert not self.form.readable("memory", hidden)

    @pytest.mark.parametrize("field", ["valid_from", "recorded_at"])
    def test_no_time_of_validity_is_invented(self, field: str) -> None:
        absent: dict[str, Any] = {field: None}
        assert [problem.field for problem in self.form.problems(edge("e", "a", "b", **absent))] == [field]

    def test_text_that_would_become_a_number_is_a_problem(self, old: sqlite3.Connection) -> None:
        for text in (
            "2025",
            " 12 ",
            "1e5",
            "-1.5",
            ".5",
            "0012",
            "+7",
            "12abc",
            "0x10",
            "1_000",
            "nan",
            "inf",
            "",
            "1.",
        ):
            old.execute("DELETE FROM relationships")
            old.execute(EDGE, ("e", "{}", text, None, CREATED, None))
            changed = old.execute("SELECT typeof(valid_from) FROM relationships").fetchone()[0] != "text"
            assert bool(self.form.problems(edge("e", "a", "b", valid_from=text))) is changed, text

    def test_lone_surrogates_survive_unless_json_would_join_them(self) -> None:
        kept = memory("a", summary="x\udc00\ud800 \ud800x")
        assert not self.form.problems(kept)
        assert digest(self.form.decode("memory", self.form.encode(kept))) == digest(kept)  # type: ignore[arg-type]
        for changes in ({"summary": "\ud800\udc00"}, {"x": [{"\ud800\udc00": 1}]}, {"\ud800\udc00": 1}):
            assert self.form.problems(memory("a", **changes)), changes

    def test_values_that_the_fast_encoder_would_change_are_written_exactly(self) -> None:
        for value in (float("nan"), float("inf"), [1.5, float("-inf")], [None], 1 << 64, [-(1 << 70)], "\ud800", -0.0):
            record = memory("a", x=value, title="null")
            decoded = self.form.decode("memory", self.form.encode(record))
            assert digest(decoded) == digest(record), value  # type: ignore[arg-type]

    def test_epoch_numbers_become_text_with_the_same_digest(self) -> None:
        record = edge("e", "a", "b", valid_from=1_700_000_000, recorded_at=1_700_000_000_123)
        raw = self.form.encode(record)
        assert (raw["valid_from"], raw["recorded_at"]) == ("2023-11-14T22:13:20.000000Z", "2023-11-14T22:13:20.123000Z")
        assert digest(self.form.decode("relationship", raw)) == digest(record)  # type: ignore[arg-type]

    def test_graft_keeps_the_bytes_of_all_else(self) -> None:
        raw = self.form.encode(memory("a"))
        raw["properties"] = '{"z":1.50, "n": 1e3 ,"title" : "old", "\\u0061": "\\u00e9", "label": "x"}'
        source = self.form.encode(memory("a", title="new", tags=["t"]))
        grafted = self.form.graft("memory", raw, source, ["title", "label", "tags"])
        assert grafted["properties"] == '{"z":1.50, "n": 1e3, "title":"new", "\\u0061": "\\u00e9", "tags":["t"]}'
        assert grafted["label"] == "Memory"


class TestForm013:
    form = Form013("Memory")

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("importance", "0.8"),
            ("importance", True),
            ("importance", -0.0),
            ("importance", float("nan")),
            ("importance", 2**53 + 1),
            ("title", 5),
            ("title", "\ud800"),
            ("title", None),
            ("usage_count", 1.5),
            ("usage_count", 2**63),
            ("usage_count", True),
            ("tags", "not a list"),
            ("tags", [float("nan")]),
            ("context_x", float("inf")),
            ("context_x", b"bytes"),
            ("unknown", "x"),
            ("context", "x"),
            ("created_at", True),
        ],
    )
    def test_what_a_column_would_change_is_a_problem(self, field: str, value: Any) -> None:
        problems = self.form.problems(memory("a", **{field: value}))
        assert [problem.field for problem in problems] == [field]
        assert problems[0].reason

    def test_labels_have_no_column(self) -> None:
        assert self.form.problems(Memory("a", ("Memory", "Other"), memory("a").properties))[0].field == ":labels"
        assert self.form.problems(Memory("a", ("Other",), memory("a").properties))[0].field == ":labels"

    def test_defaults_are_written_out_and_read_as_absent(self) -> None:
        bare = memory("a", tags=None, importance=None, confidence=None, usage_count=None, version=None)
        raw = self.form.encode(bare)
        assert (raw["tags"], raw["importance"], raw["version"]) == ("[]", 0.5, 1)
        assert digest(self.form.decode("memory", raw)) == digest(bare)  # type: ignore[arg-type]
        assert not self.form.problems(bare)

    def test_context_is_nested(self) -> None:
        raw = self.form.encode(memory("a", context_languages=["é"], context_new_key={"m": 1}))
        assert raw["context"] == '{"languages":["é"],"new_key":{"m":1}}'
        assert self.form.encode(memory("a"))["context"] is None
        source = self.form.encode(memory("a", context_b=2))
        onto = self.form.encode(memory("a")) | {"context": '{"a":1.0,"c":"x"}'}
        assert self.form.graft("memory", onto, source, ["context_b", "context_c"])["context"] == '{"a":1.0, "b":2}'

    def test_a_time_in_numbers_becomes_text(self) -> None:
        assert (
            self.form.encode(memory("a", last_accessed=1_700_000_000))["last_accessed"] == "2023-11-14T22:13:20.000000Z"
        )

"""The query that finds what a ``--since`` run may want: it never leaves out what the exact filter includes."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from migrator.backends._sqlite_since import rowids
from migrator.backends.base import Wanted
from migrator.backends.registry import open_backend
from migrator.model import KINDS, Corrupt
from migrator.models import BackendConfig, BackendType
from migrator.watermark import Interval
from tests.stores import SCHEMA_012, SCHEMA_013

if TYPE_CHECKING:
    from pathlib import Path

    from migrator.model import Kind

SINCE = datetime(2026, 2, 1, tzinfo=UTC)
INTERVAL = Interval(since=SINCE)

#: Times before and after, in the shapes that occur, at the edges of what is a time, and beyond.
TIMES: list[Any] = [
    None,
    "2026-01-31T23:54:59.999999+00:00",
    "2026-01-31T23:55:00+00:00",
    "2026-01-31T23:55:00.000Z",
    "2026-01-31T23:54:59.999Z",
    "2026-01-31T23:54:59Z",
    "2020-02-29T00:00:00Z",
    "2020-02-30T00:00:00Z",
    "2021-02-29T00:00:00+00:00",
    "2020-00-10T00:00:00Z",
    "2020-13-10T00:00:00Z",
    "2020-10-00T00:00:00Z",
    "2020-04-31T00:00:00.123456+00:00",
    "2020-01-01T24:00:00Z",
    "2020-01-01T29:00:00Z",
    "2020-01-01T23:60:00Z",
    "2020-01-01T00:00:00",
    "2020-01-01 00:00:00",
    "2020-01-01 00:00:00Z",
    "2020-01-01T00:00Z",
    "2020-01-01T00:00:00.1234567Z",
    "2020-01-01T00:00:00.1Z",
    "2020-01-01T00:00:00+05:30",
    "2026-01-31T20:00:00-12:00",
    "2026-02-01T05:00:00+12:00",
    "2020-01-01T00:00:00Zz",
    "2020-01-01T00:00:00z",
    "0999-01-01T00:00:00Z",
    "\uff12020-01-01T00:00:00Z",
    "2099-01-01T00:00:00Z",
    "",
    "soon",
    1_577_836_800,
    1577836800.5,
    True,
    [],
    ["2020-01-01T00:00:00Z"],
    {"at": "2020-01-01T00:00:00Z"},
]
times = st.sampled_from(TIMES)
MEMORY = ("created_at", "updated_at", "last_accessed", "context_timestamp")
EDGE = ("created_at", "last_validated", "valid_from", "valid_until", "recorded_at", "updated_at")


def found(path: Path, kind: Kind, *, narrowed: bool, ids: tuple[str, ...] = ()) -> set[str]:
    """Return the ids (of corrupt rows, too) that a scan yields; without the query those that the exact filter takes."""
    backend = open_backend(BackendConfig(backend=BackendType.SQLITE, path=path), role="from")
    backend.open("read")
    try:
        if narrowed:
            backend.narrow(Wanted(since=INTERVAL.begin, memories=ids, relationships=ids))
            return {item.id for page in backend.scan(kind, 3) for item in page}
        items = (item for page in backend.scan(kind, 100) for item in page)
        return {
            item.id for item in items if isinstance(item, Corrupt) or INTERVAL.includes(kind, item.properties)
        } | set(ids)
    finally:
        backend.close()


def cell(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, (list, dict)) else value


def make_012(path: Path, memories: list[dict[str, Any]], edges: list[dict[str, Any]]) -> None:
    path.unlink(missing_ok=True)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.executescript(SCHEMA_012)
        rows = [(f"m{n}", "Memory", json.dumps({"id": f"m{n}", **one})) for n, one in enumerate(memories)]
        connection.executemany("INSERT INTO nodes (id, label, properties) VALUES (?, ?, ?)", rows)
        for number, one in enumerate(edges):
            inside = json.dumps({name: one[name] for name in ("created_at", "last_validated", "updated_at")})
            columns = [cell(one[name]) for name in ("valid_from", "valid_until", "recorded_at")]
            if columns[0] is not None and columns[2] is not None:
                connection.execute(
                    "INSERT INTO relationships (id, from_id, to_id, rel_type, properties, valid_from, valid_until,"
                    " recorded_at) VALUES (?, 'm0', 'm0', 'X', ?, ?, ?, ?)",
                    (f"e{number}", inside, *columns),
                )


slow = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])


@slow
@given(
    st.lists(st.fixed_dictionaries(dict.fromkeys(MEMORY, times)), min_size=1, max_size=8),
    st.lists(st.fixed_dictionaries(dict.fromkeys(EDGE, times)), max_size=8),
)
def test_layout_012_leaves_out_nothing_that_is_wanted(
    tmp_path: Path, memories: list[dict[str, Any]], edges: list[dict[str, Any]]
) -> None:
    path = tmp_path / "s.db"
    make_012(path, memories, edges)
    for kind in KINDS:
        assert found(path, kind, narrowed=True) >= found(path, kind, narrowed=False)


@slow
@given(
    st.lists(st.fixed_dictionaries(dict.fromkeys(MEMORY, times)), min_size=1, max_size=8),
    st.lists(st.fixed_dictionaries(dict.fromkeys(EDGE, times)), max_size=8),
)
def test_layout_013_leaves_out_nothing_that_is_wanted(
    tmp_path: Path, memories: list[dict[str, Any]], edges: list[dict[str, Any]]
) -> None:
    path = tmp_path / "s.db"
    path.unlink(missing_ok=True)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.executescript(SCHEMA_013)
        for number, one in enumerate(memories):
            context = None if one["context_timestamp"] is None else json.dumps({"timestamp": one["context_timestamp"]})
            values = [cell(one[name]) for name in ("created_at", "updated_at", "last_accessed")]
            connection.execute(
                "INSERT OR IGNORE INTO memories (id, type, title, content, created_at, updated_at, last_accessed,"
                " context) VALUES (?, 'task', '', '', ?, ?, ?, ?)",
                (f"m{number}", *values, context),
            )
        for number, one in enumerate(edges):
            values = [cell(one[name]) for name in EDGE[:-1]]
            connection.execute(
                "INSERT OR IGNORE INTO relationships (id, from_id, to_id, rel_type, created_at, last_validated,"
                " valid_from, valid_until, recorded_at) VALUES (?, 'm0', 'm0', 'X', ?, ?, ?, ?, ?)",
                (f"e{number}", *values),
            )
    for kind in KINDS:
        assert found(path, kind, narrowed=True) >= found(path, kind, narrowed=False)


def test_it_leaves_out_what_is_surely_earlier_and_takes_what_is_asked_for_by_id(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    early, late = dict.fromkeys(MEMORY, "2020-01-01T00:00:00+00:00"), dict.fromkeys(MEMORY, "2099-01-01T00:00:00Z")
    edge = dict.fromkeys(EDGE, "2020-01-01T00:00:00.000Z")
    make_012(path, [early] * 10 + [late] + [early], [edge] * 5 + [{**edge, "valid_until": "2099-01-01T00:00:00Z"}])
    assert found(path, "memory", narrowed=True) == {"m10"}
    assert found(path, "memory", narrowed=True, ids=("m0", "m3", "m11", "none")) == {"m0", "m3", "m10", "m11"}
    assert found(path, "relationship", narrowed=True) == {"e5"}


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("properties", "{"),
        ("properties", "[]"),
        ("properties", '"text"'),
        ("properties", '{"id": "other", "updated_at": "2020-01-01T00:00:00Z"}'),
        ("properties", '{"updated_at": "2020-01-01T00:00:00Z", "importance": NaN}'),
        ("properties", b'{"updated_at": "2020-01-01T00:00:00Z"}'),
        ("id", b"m0"),
        ("id", None),
    ],
)
def test_a_row_that_is_no_record_is_not_left_out(tmp_path: Path, column: str, value: object) -> None:
    path = tmp_path / "s.db"
    make_012(path, [{"updated_at": "2020-01-01T00:00:00Z"}] * 3, [])
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(f"UPDATE nodes SET {column} = ? WHERE id = 'm0'", (value,))
    assert found(path, "memory", narrowed=True) >= found(path, "memory", narrowed=False)


def test_names_with_escapes_and_times_with_nul_are_let_through(tmp_path: Path) -> None:
    """JSON spells a name in many ways, and SQLite's patterns end at NUL."""
    path = tmp_path / "s.db"
    make_012(path, [], [])
    late, early = "2026-03-01T00:00:00+00:00", "2020-01-01T00:00:00+00:00"
    texts = [
        f'{{"id": "m0", "created_at": "{early}", "updated\\u005fat": "{late}"}}',
        f'{{"id": "m1", "created_at": "{early}\\u0000"}}',
        f'{{"id": "m2", "created_at": "{early}"}}',
        f'{{"id": "m3", "created_at": "{early}", "title": "na\\u00efve \\u65e5\\u001f"}}',
        f'{{"id": "m4", "title": "na\\u00efve", "created_at": "{early}", "\\u0075pdated_at": "{late}"}}',
        f'{{"id": "m5", "created_at": "{early}", "updated_a\\u0074": "{late}"}}',
    ]
    with closing(sqlite3.connect(path)) as connection, connection:
        rows = [(f"m{number}", "Memory", text) for number, text in enumerate(texts)]
        connection.executemany("INSERT INTO nodes (id, label, properties) VALUES (?, ?, ?)", rows)
    assert found(path, "memory", narrowed=False) == {"m0", "m1", "m4", "m5"}
    assert found(path, "memory", narrowed=True) == {"m0", "m1", "m4", "m5"}
    with closing(sqlite3.connect(path)) as connection:
        wanted = Wanted(since=INTERVAL.begin, memories=set(), relationships=set())
        assert len(rowids(connection, "0.12", "memory", wanted, None)) == 4, "escapes of other letters cost nothing"

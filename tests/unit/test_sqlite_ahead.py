"""A second process that reads a large source: the same records, once each, whatever becomes of it."""

from __future__ import annotations

import os
import signal
import sqlite3
from typing import TYPE_CHECKING

import pytest

from migrator.backends import _reader as ahead
from migrator.backends.sqlite import SqliteBackend
from migrator.model import KINDS, Corrupt, Relationship, canonical_encoding, digest
from migrator.models import BackendConfig, BackendType
from tests.large import make_large_012

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from migrator.model import Kind, Record

MANY = 4_000


@pytest.fixture(autouse=True)
def _small_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ahead, "WORTH_IT", 10)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return a store with many records, and some that need care."""
    place = tmp_path / "source.db"
    make_large_012(place, MANY, MANY, seed=3)
    with sqlite3.connect(place) as connection:
        for number, text in enumerate(('{"x": NaN, "y": 18446744073709551616}', '{"x": "\\ud800"}', "{broken")):
            connection.execute(
                "INSERT INTO nodes (id, label, properties) VALUES (?, 'Memory', ?)", (f"n{number}", text)
            )
        connection.execute("INSERT INTO nodes (id, label, properties) VALUES ('n9', 'Memory', CAST(x'7bff7d' AS TEXT))")
    connection.close()
    return place


@pytest.fixture
def source(path: Path) -> Iterator[SqliteBackend]:
    """Return the store, open, with a second process."""
    backend = SqliteBackend(BackendConfig(backend=BackendType.SQLITE, path=path), role="from")
    backend.open("read")
    backend.read_ahead(digests=True)
    yield backend
    backend.close()


def _reader(source: SqliteBackend) -> ahead.Reader:
    reader = source._ahead
    assert reader is not None
    return reader


def _all(backend: SqliteBackend, kind: Kind) -> list[Record | Corrupt]:
    return [item for page in backend.scan(kind, 700) for item in page]


def _here(path: Path, kind: Kind) -> list[Record | Corrupt]:
    alone = SqliteBackend(BackendConfig(backend=BackendType.SQLITE, path=path), role="from")
    alone.open("read")
    found = _all(alone, kind)
    alone.close()
    return found


def _same(found: list[Record | Corrupt], path: Path, kind: Kind) -> bool:
    """Compare by repr, as NaN equals nothing."""
    return list(map(repr, found)) == list(map(repr, _here(path, kind)))


def test_the_same_records_in_the_same_order_with_their_digests(source: SqliteBackend, path: Path) -> None:
    for _ in range(2):
        source.release_snapshot()
        for kind in KINDS:
            found = _all(source, kind)
            assert _same(found, path, kind)
            records = [item for item in found if not isinstance(item, Corrupt)]
            assert all(record.known_digest for record in records), "the second process computed it"
            for record, alone in zip(records, _here(path, kind), strict=False):
                assert not isinstance(alone, Corrupt)
                assert canonical_encoding(record) == canonical_encoding(alone)
                assert digest(record) == digest(alone)
    assert source._ahead is not None


def _digests(backend: SqliteBackend, kind: Kind) -> list[tuple[str, str]]:
    return [(item.id, item.digest) for page in backend.scan_digests(kind, 700) for item in page]


def test_digests_alone_are_those_of_the_records(source: SqliteBackend, path: Path) -> None:
    for kind in KINDS:
        sound = [one for one in _here(path, kind) if not isinstance(one, Corrupt)]
        assert _digests(source, kind) == [(one.id, digest(one)) for one in sound]
        hints = [item.hint for page in source.scan_digests(kind, 700) for item in page]
        ends = [(one.type, one.from_id, one.to_id) if isinstance(one, Relationship) else None for one in sound]
        assert [None if hint is None else (hint.type, hint.from_id, hint.to_id) for hint in hints] == ends
    assert source._ahead is not None


def test_a_reader_that_is_killed_costs_and_doubles_no_digest(source: SqliteBackend, path: Path) -> None:
    found = []
    for number, page in enumerate(source.scan_digests("memory", 700)):
        found += [(item.id, item.digest) for item in page]
        if number == 1:
            os.kill(_reader(source)._process.pid, signal.SIGKILL)
    assert source._ahead is None
    assert found == [(one.id, digest(one)) for one in _here(path, "memory") if not isinstance(one, Corrupt)]


def test_a_reader_that_is_killed_costs_and_doubles_no_record(source: SqliteBackend, path: Path) -> None:
    process = _reader(source)._process
    found = []
    for number, page in enumerate(source.scan("memory", 700)):
        found += page
        if number == 1:
            os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert len(found) == MANY + 4
    assert _same(found, path, "memory")
    assert source._ahead is None
    assert _same(_all(source, "relationship"), path, "relationship")


def test_a_scan_that_is_given_up_leaves_no_old_pages_to_the_next(source: SqliteBackend, path: Path) -> None:
    first = source.scan("memory", 700)
    next(first)
    first.close()  # type: ignore[attr-defined]  # a generator
    assert _same(_all(source, "relationship"), path, "relationship")


def test_the_process_ends_with_the_backend(source: SqliteBackend) -> None:
    process = _reader(source)._process
    assert process.poll() is None
    source.close()
    assert process.returncode is not None


def test_the_process_ends_by_itself_when_nobody_asks_any_more(source: SqliteBackend) -> None:
    reader = _reader(source)
    reader._input.close()
    assert reader._process.wait(10) == 0


def test_ctrl_c_does_not_end_it(source: SqliteBackend, path: Path) -> None:
    pages = source.scan("memory", 700)
    found = next(pages)
    os.kill(_reader(source)._process.pid, signal.SIGINT)
    found += [item for page in pages for item in page]
    assert _same(found, path, "memory")
    assert source._ahead is not None


def _to_wal(path: Path) -> sqlite3.Connection:
    writer = sqlite3.connect(path, isolation_level=None)
    writer.execute("PRAGMA journal_mode=WAL")
    return writer


def test_what_a_client_commits_meanwhile_is_not_seen(path: Path) -> None:
    """Both processes read the same copy."""
    _to_wal(path).close()
    expected = list(map(repr, _here(path, "memory")))
    backend = SqliteBackend(BackendConfig(backend=BackendType.SQLITE, path=path), role="from")
    backend.open("read")
    backend.read_ahead(digests=True)
    assert backend._ahead is not None
    client = _to_wal(path)
    client.execute("INSERT INTO nodes (id, label, properties) VALUES ('new', 'Memory', '{}')")
    assert list(map(repr, _all(backend, "memory"))) == expected
    client.close()
    assert list(map(repr, _all(backend, "memory"))) == expected
    backend.close()


def test_the_store_of_a_live_client_is_read_by_one_process(path: Path) -> None:
    client = _to_wal(path)
    client.execute("INSERT INTO nodes (id, label, properties) VALUES ('new', 'Memory', '{}')")
    backend = SqliteBackend(BackendConfig(backend=BackendType.SQLITE, path=path), role="from")
    backend.open("read")
    backend.read_ahead(digests=True)
    assert backend._ahead is None
    backend.close()
    client.close()


def test_small_stores_start_no_process(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ahead, "WORTH_IT", 3 * MANY)
    backend = SqliteBackend(BackendConfig(backend=BackendType.SQLITE, path=path), role="from")
    backend.open("read")
    backend.read_ahead(digests=True)
    assert backend._ahead is None
    backend.close()


def test_an_interpreter_that_cannot_be_started_is_done_without(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for executable in ("/nowhere/python", "/bin/false"):
        monkeypatch.setattr("sys.executable", executable)
        backend = SqliteBackend(BackendConfig(backend=BackendType.SQLITE, path=path), role="from")
        backend.open("read")
        backend.read_ahead(digests=True)
        assert _same(_all(backend, "memory"), path, "memory")
        backend.close()

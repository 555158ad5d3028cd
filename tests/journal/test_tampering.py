"""Whoever changes a journal is found out."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from sqlalchemy.exc import IntegrityError

from journal import Journal
from journal.errors import JournalDamaged
from tests.journal.support import OTHER, RUN, plain, sample, tamper

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    place = tmp_path / "journal.db"
    sample(place, (RUN, OTHER))
    return place


def problems(path: Path) -> tuple[str, ...]:
    with Journal.open(path, mode="look") as journal:
        return journal.check().problems


def test_untouched_journal_passes(path: Path) -> None:
    tamper(path)
    assert problems(path) == ()


@pytest.mark.parametrize("verb", ["UPDATE {} SET run_id = 'x'", "DELETE FROM {}"])
@pytest.mark.parametrize("table", ["events", "entries"])
def test_append_only(path: Path, verb: str, table: str) -> None:
    before = plain(path, f"SELECT * FROM {table}")
    with closing(sqlite3.connect(path)) as connection, pytest.raises(sqlite3.IntegrityError, match="append-only"):
        connection.execute(verb.format(table))
    assert plain(path, f"SELECT * FROM {table}") == before


CHANGES = {
    "payload": (
        "UPDATE events SET payload = replace(payload, '\"created\":5', '\"created\":6') WHERE seq = 5",
        "event 5",
    ),
    "hash": ("UPDATE events SET hash = '" + "0" * 64 + "' WHERE seq = 3", "event 3"),
    "time": ("UPDATE events SET recorded_at = '2020-01-01T00:00:00.000000Z' WHERE seq = 5", "event 5"),
    "event gone": ("DELETE FROM events WHERE seq = 6", "event 6"),
    "entry": ("UPDATE entries SET after_digest = 'e' WHERE entity_id = '1-2-3'", "batch 2"),
    "before-image": ("UPDATE entries SET before_image = '{}' WHERE entity_id = '1-2-3'", "batch 2"),
    "bumped": ("UPDATE entries SET bumped = '{}' WHERE entity_id = '1-3-3'", "batch 3"),
    "entry gone": ("DELETE FROM entries WHERE entity_id = '2-3-4'", "has 4 entries, its plan says 5"),
    "entry of another batch": ("UPDATE entries SET batch = 1 WHERE entity_id = '1-2-0'", "batch 1"),
    "whole batch gone": ("DELETE FROM entries WHERE batch = 2 AND run_id = '" + RUN + "'", "batch 2"),
    "entry invented": (
        "INSERT INTO entries (run_id, batch, phase, kind, entity_id, action) VALUES ('ghost', 1, '', '', 'x', '')",
        "ghost",
    ),
    "projection": ("UPDATE batches SET status = 'lost' WHERE batch = 3 AND run_id = '" + RUN + "'", "batch 3"),
    "place of a batch": ("UPDATE batches SET first_entry = 2 WHERE batch = 3 AND run_id = '" + RUN + "'", "batch 3"),
    "projection gone": ("DELETE FROM batches WHERE batch = 3 AND run_id = '" + RUN + "'", "batch 3"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_check_names_what_was_changed(path: Path, change: str) -> None:
    statement, named = CHANGES[change]
    tamper(path, statement)
    found = problems(path)
    assert found
    assert any(named in problem for problem in found), found


def test_swapped_batches_are_found(path: Path) -> None:
    tamper(
        path,
        f"UPDATE entries SET batch = -1 WHERE batch = 1 AND run_id = '{RUN}'",
        f"UPDATE entries SET batch = 1 WHERE batch = 2 AND run_id = '{RUN}'",
        f"UPDATE entries SET batch = 2 WHERE batch = -1 AND run_id = '{RUN}'",
    )
    assert {problem for problem in problems(path) if "batch 1" in problem or "batch 2" in problem}


@pytest.mark.parametrize("name", ["events_no_update", "entries_no_delete"])
def test_missing_trigger_is_found(path: Path, name: str) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"DROP TRIGGER {name}")
    assert problems(path) == (f"{name} is missing or was altered",)


def test_broken_chain_is_never_written_on_but_can_be_read(path: Path) -> None:
    tamper(path, CHANGES["payload"][0])
    with pytest.raises(JournalDamaged, match="event 5"):
        Journal.open(path)
    with pytest.raises(JournalDamaged, match="event 5"):
        Journal.open(path, mode="read")
    with Journal.open(path, mode="look") as journal:
        assert journal.damaged is not None
        assert "event 5" in journal.damaged
        assert len(journal.runs()) == 2


def test_changed_entry_of_the_last_batches_stops_writing(path: Path) -> None:
    tamper(path, CHANGES["entry"][0])
    with pytest.raises(JournalDamaged, match="batch 2"):
        Journal.open(path)


def test_replacing_a_row_over_our_own_connection_is_refused(path: Path) -> None:
    statement = "INSERT OR REPLACE INTO events SELECT * FROM events WHERE seq = 2"
    with (
        Journal.open(path) as journal,
        pytest.raises(IntegrityError, match="append-only"),
        journal._database.transaction() as connection,
    ):
        connection.exec_driver_sql(statement)

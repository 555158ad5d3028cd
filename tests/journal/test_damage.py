"""A damaged journal: every command that relies on it says so and changes nothing, or is not affected.

Damage to the file itself is always found (its content is bound by hashes and compared by plain SQL here, too). What a
damaged or lost log leaves is an older journal, whole in itself: the marker in the target stops what must not go on.
"""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from journal.chain import StoredEntry
from tests.journal.damage import DAMAGED, Desk, Judge, flipped, flips, records
from tests.journal.support import tamper

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_JOURNAL = "state/journal.db"
_WAL = "state/journal.db-wal"
_PAGE = 4096
_FRAME = _PAGE + 24
_LOG_HEADER = 32
SHARDS = 4
FLIPS = 24  #: places in each page of the whole run


def _desk(folder: Path, *, is_open: bool) -> Desk:
    desk = Desk(folder, is_open)
    desk.make()
    return desk


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    """The journal of a finished run, at rest."""
    desk = _desk(tmp_path_factory.mktemp("finished"), is_open=False)
    desk.listen()
    return desk


@pytest.fixture(scope="module")
def half(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    """The journal of a run that was killed half-way, without a log."""
    desk = _desk(tmp_path_factory.mktemp("half"), is_open=True)
    desk.empty_log()
    desk.listen()
    return desk


@pytest.fixture(scope="module")
def logged(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    """The journal of a run that was killed half-way, and its log, which holds nearly all of it."""
    desk = _desk(tmp_path_factory.mktemp("logged"), is_open=True)
    assert len(desk.files[_WAL]) > 50 * _FRAME
    return desk


@pytest.fixture
def desk(request: pytest.FixtureRequest) -> Desk:
    found: Desk = request.getfixturevalue(request.param)
    found.put()
    return found


@pytest.fixture
def judge(desk: Desk) -> Judge:
    return Judge(desk)


BOTH = pytest.mark.parametrize("desk", ["finished", "half"], indirect=True)
FINISHED = pytest.mark.parametrize("desk", ["finished"], indirect=True)
HALF = pytest.mark.parametrize("desk", ["half"], indirect=True)
LOGGED = pytest.mark.parametrize("desk", ["logged"], indirect=True)


# --- the file ---------------------------------------------------------------------------------------------------------


def _flip_pages(desk: Desk, judge: Judge, number: int, shard: int = 0, shards: int = 1) -> None:
    data = desk.files[_JOURNAL]
    for page in range(shard, len(data) // _PAGE, shards):
        for at in flips(data, page, number):
            for bits in (0xFF, 1 << at % 8) if number >= FLIPS else (0xFF,):
                desk.put({**desk.files, _JOURNAL: flipped(data, at, bits)})
                judge.damaged(f"page {page + 1}, byte {at % _PAGE}, bits {bits:02x}")


@BOTH
def test_a_flipped_byte_in_every_page(desk: Desk, judge: Judge) -> None:
    _flip_pages(desk, judge, 1)
    assert judge.named > 10
    judge.report("a flipped byte in every page")


@pytest.mark.long
@BOTH
@pytest.mark.parametrize("shard", range(SHARDS))
def test_flipped_bytes_all_over_every_page(desk: Desk, judge: Judge, shard: int) -> None:
    _flip_pages(desk, judge, FLIPS, shard, SHARDS)
    assert judge.named > 50
    judge.report("flipped bytes and bits all over every page")


@FINISHED
@pytest.mark.parametrize("at", [32, 36])
def test_a_list_of_free_pages_that_contradicts_its_length(desk: Desk, judge: Judge, at: int) -> None:
    """SQLite's own check passes it, and the next write fails."""
    desk.put({**desk.files, _JOURNAL: flipped(desk.files[_JOURNAL], at)})
    judge.damaged(f"byte {at}")
    assert judge.named == 1


@pytest.mark.long
@FINISHED
def test_every_byte_of_the_files_header(desk: Desk, judge: Judge) -> None:
    data = desk.files[_JOURNAL]
    for at in range(100):
        desk.put({**desk.files, _JOURNAL: flipped(data, at)})
        judge.damaged(f"byte {at}")
    judge.report("every byte of the header")


def _lengths(data: bytes, step: int) -> Iterator[int]:
    yield from (1, 17, 99, 511, len(data) - 1, len(data) - _PAGE, len(data) - _PAGE + 1)
    yield from range(_PAGE, len(data) - _PAGE, step)


def _truncate(desk: Desk, judge: Judge, step: int) -> None:
    data = desk.files[_JOURNAL]
    for length in _lengths(data, step):
        desk.put({**desk.files, _JOURNAL: data[:length]})
        judge.damaged(f"{length} bytes")
    assert not judge.unaffected
    judge.report("a truncated tail")


@FINISHED
def test_a_truncated_tail(desk: Desk, judge: Judge) -> None:
    _truncate(desk, judge, 6 * _PAGE)


@pytest.mark.long
@HALF
def test_a_truncated_tail_at_many_lengths(desk: Desk, judge: Judge) -> None:
    _truncate(desk, judge, 1_365)


@FINISHED
def test_a_page_that_is_lost_as_zeros_or_swapped_with_another(desk: Desk, judge: Judge) -> None:
    data = desk.files[_JOURNAL]
    for page in range(1, len(data) // _PAGE, 4):
        start, end = page * _PAGE, (page + 1) * _PAGE
        desk.put({**desk.files, _JOURNAL: data[:start] + bytes(_PAGE) + data[end:]})
        judge.damaged(f"page {page + 1} as zeros")
    a, b, c, d = data[: 2 * _PAGE], data[2 * _PAGE : 3 * _PAGE], data[3 * _PAGE : 4 * _PAGE], data[4 * _PAGE :]
    desk.put({**desk.files, _JOURNAL: a + c + b + d})
    judge.damaged("pages 3 and 4 swapped")


# --- rows -------------------------------------------------------------------------------------------------------------

_SWAP = (
    "UPDATE events SET seq = -1 WHERE seq = {0}",
    "UPDATE events SET seq = {0} WHERE seq = {1}",
    "UPDATE events SET seq = {1} WHERE seq = -1",
)
_SWAP_PAYLOADS = (
    "UPDATE events SET payload = (SELECT e.payload FROM events e WHERE e.seq = 25 - events.seq) WHERE seq IN (12, 13)",
)
_UPDATED = "entity_id = 'm03' AND action = 'updated'"
_IMAGE = "UPDATE entries SET before_image = replace(before_image, 'an older title', 'an other title') WHERE "
_COLUMNS = ", ".join(StoredEntry._fields[1:])
_TWICE = f"INSERT INTO entries SELECT seq + 1000, {_COLUMNS} FROM entries LIMIT 1"
ROWS = {
    "swapped events": [text.format(12, 13) for text in _SWAP],
    "swapped events of long ago": [text.format(3, 4) for text in _SWAP],
    "swapped payloads": _SWAP_PAYLOADS,
    "a deleted event": ("DELETE FROM events WHERE seq = 9",),
    "a deleted first event": ("DELETE FROM events WHERE seq = 1",),
    "an event whose type is another": ("UPDATE events SET type = 'batch.refused' WHERE type = 'batch.applied'",),
    "an event that nobody knows": ("UPDATE events SET type = 'batch.baked' WHERE seq = 11",),
    "a deleted entry": (f"DELETE FROM entries WHERE {_UPDATED}",),
    "an entry twice": (_TWICE,),
    "all entries deleted": ("DELETE FROM entries",),
    "an edited before-image": (f"{_IMAGE}{_UPDATED}",),
    "a before-image as bytes": (f"UPDATE entries SET before_image = CAST(before_image AS BLOB) WHERE {_UPDATED}",),
    "a before-image that is no text": (f"UPDATE entries SET before_image = x'ff' WHERE {_UPDATED}",),
    "a hash that is none": ("UPDATE events SET hash = 'x' WHERE seq = 5",),
    "a number as text": ("UPDATE events SET version = 'x' WHERE seq = 5",),
    "a batch that failed": ("UPDATE batches SET status = 'refused' WHERE batch = 2",),
    "a batch of another place": ("UPDATE batches SET first_entry = first_entry + 1 WHERE batch = 2",),
    "a batch whose number is none": ("UPDATE batches SET batch = 'x' WHERE batch = 2",),
    "a batch that is gone": ("DELETE FROM batches WHERE batch = 3",),
    "a table without a column": ("ALTER TABLE entries DROP COLUMN bumped",),
    "a table that is gone": ("DROP VIEW applied_entries", "DROP VIEW taken_back", "DROP TABLE batches"),
    "a view that shows less": (
        "DROP VIEW applied_entries",
        "CREATE VIEW applied_entries AS SELECT * FROM entries WHERE 0",
    ),
}


@pytest.mark.parametrize("change", ROWS)
@BOTH
def test_rows_that_were_changed(desk: Desk, judge: Judge, change: str) -> None:
    tamper(desk.journal, *ROWS[change])
    judge.damaged(change)
    assert judge.named == 1


@FINISHED
def test_a_before_image_that_was_edited_long_before_the_end_is_never_put_back(desk: Desk) -> None:
    """More than ten batches were planned since."""
    tamper(desk.journal, f"{_IMAGE}{_UPDATED}")
    after = records(desk.target)
    ran = desk.call("rollback", desk.run_id, "--json")
    assert (ran.code, ran.document["error"]["name"]) == (41, "JournalDamaged")
    assert "the entries of batch " in ran.document["error"]["message"]
    assert f"of run {desk.run_id} are not those of its plan" in ran.document["error"]["message"]
    assert records(desk.target) == after


@FINISHED
def test_check_says_from_where_on_it_is_broken_and_shows_the_rest(desk: Desk) -> None:
    tamper(desk.journal, "UPDATE events SET recorded_at = '2020-01-01T00:00:00.000000Z' WHERE seq = 30")
    ran = desk.call("journal", "check", "--json")
    assert ran.code == 41
    assert "hash chain is broken from event 30 (batch." in ran.document["error"]["message"]
    shown = desk.call("journal", "events")
    assert shown.code == 41
    assert "event 30" in shown.err
    assert len(shown.out.splitlines()) > 40, "people may look at what is left"
    assert json.loads(desk.call("journal", "events", "--json").out).keys() == {"error"}, "programs may not"


# --- the log ----------------------------------------------------------------------------------------------------------


def _truth(desk: Desk) -> list[tuple[int, str]]:
    desk.put()
    ran = desk.call("journal", "events", "--json")
    return [(one["seq"], one["type"]) for one in json.loads(ran.out)]


def _damage_the_log(desk: Desk, judge: Judge, step: int) -> None:
    log, truth = desk.files[_WAL], _truth(desk)
    for length in range(0, len(log), step):
        desk.put({**desk.files, _WAL: log[:length]})
        judge.log(f"a log of {length} bytes", truth)
    for at in range(_LOG_HEADER + 100, len(log), step):
        desk.put({**desk.files, _WAL: flipped(log, at)})
        judge.log(f"a log with another byte {at}", truth)
    for at in range(_LOG_HEADER):
        if at % 4 == 0 or step < _FRAME:
            desk.put({**desk.files, _WAL: flipped(log, at)})
            judge.log(f"a log with another byte {at}", truth)
    assert judge.behind > 3


@LOGGED
def test_a_lost_log(desk: Desk, judge: Judge) -> None:
    truth = _truth(desk)
    desk.put({name: data for name, data in desk.files.items() if name != _WAL})
    judge.log("no log", truth)
    assert judge.unaffected == 0
    judge.report("a lost log")


@LOGGED
def test_a_damaged_log(desk: Desk, judge: Judge) -> None:
    _damage_the_log(desk, judge, 18 * _FRAME + 77)
    judge.report("a damaged log")


@pytest.mark.long
@LOGGED
def test_a_log_that_is_damaged_everywhere(desk: Desk, judge: Judge) -> None:
    _damage_the_log(desk, judge, _FRAME - 5)
    judge.report("a log damaged in every frame")


@LOGGED
def test_a_journal_that_lost_its_log_is_still_the_same_journal(desk: Desk) -> None:
    """What a new journal begins with never stands in the log alone: the file would be taken for a new one."""
    desk.put({name: data for name, data in desk.files.items() if name != _WAL})
    assert desk.call("journal", "check").code == 0
    refused = desk.call(*desk.migrate, "--json")
    assert (refused.code, refused.document["error"]["name"]) == (21, "StoreRefused")
    assert desk.run_id in refused.document["error"]["message"]


# --- backups ----------------------------------------------------------------------------------------------------------


@BOTH
def test_a_backup_is_restored(desk: Desk, tmp_path: Path) -> None:
    backup = tmp_path / "backup.db"
    assert desk.call("journal", "backup", str(backup)).code == 0
    desk.put({**desk.files, _JOURNAL: flipped(desk.files[_JOURNAL], 2 * _PAGE + 40)})
    assert desk.call("journal", "check").code in DAMAGED
    for words in (*desk.reading, *desk.writing):
        desk.put({**desk.files, _JOURNAL: backup.read_bytes()})
        assert desk.answer(words) == desk.answers[words], words
    assert desk.call("journal", "check").code == 0


@FINISHED
def test_a_damaged_journal_is_not_backed_up_as_if_it_were_whole(desk: Desk, tmp_path: Path) -> None:
    tamper(desk.journal, *ROWS["a deleted entry"])
    ran = desk.call("journal", "backup", str(tmp_path / "backup.db"))
    assert ran.code == 41
    assert list(tmp_path.iterdir()) == []


def test_a_backup_that_is_older_than_the_target_stops_the_resume(half: Desk, tmp_path: Path) -> None:
    """The backup was made half-way; the run went on, and was killed again."""
    from tests.crash.worlds import KILLED
    from tests.running import memmig

    half.put()
    backup = tmp_path / "backup.db"
    assert half.call("journal", "backup", str(backup)).code == 0
    fault = {"MEMMIG_FAULT": "write:5:after"}
    ran = memmig("resume", "--journal", half.journal, cwd=half.folder, environment=fault)
    assert ran.code == KILLED, ran.err
    target = records(half.target)
    half.put({"target.db": half.target.read_bytes(), _JOURNAL: backup.read_bytes()})
    with closing(sqlite3.connect(half.target)) as connection:
        marker = connection.execute("SELECT * FROM _memmig").fetchall()
    for words in (("resume",), ("rollback", half.run_id)):
        refused = half.call(*words, "--json")
        assert (refused.code, refused.document["error"]["name"]) == (31, "TargetChanged")
        assert "restored from an older copy" in refused.document["error"]["message"]
        assert records(half.target) == target
    with closing(sqlite3.connect(half.target)) as connection:
        assert connection.execute("SELECT * FROM _memmig").fetchall() == marker

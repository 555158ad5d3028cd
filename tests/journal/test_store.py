from __future__ import annotations

import time
from datetime import UTC, datetime
from subprocess import check_output
from sys import executable
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import orjson
import pytest
from freezegun import freeze_time

from journal import Entry, Journal, entries_digest
from journal.errors import JournalLocked, NoSuchRun
from journal.events import BatchApplied, BatchRefused, MarkerReleased, SchemaPlanned
from tests.journal.support import OTHER, RUN, THIRD, apply, entry, opened, plain, plan, sample

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with Journal.open(tmp_path / "journal.db") as found:
        found.append(RUN, opened())
        yield found


def ids(entries: Any) -> list[str]:
    return [row.entity_id for row in entries]


def test_errors_cost_no_import_of_the_database_library() -> None:
    code = (
        "import sys, journal.errors, journal; print(any(m.startswith(('sqlalchemy', 'alembic')) for m in sys.modules))"
    )
    assert check_output([executable, "-c", code], text=True).strip() == "False"


def test_plain_sql_shows_one_row_per_id(tmp_path: Path) -> None:
    sample(tmp_path / "journal.db", rows=2, batches=2)
    rows = plain(tmp_path / "journal.db", "SELECT run_id, batch, kind, entity_id, action FROM applied_entries")
    assert rows == [(RUN, b, "memory", f"1-{b}-{n}", "created") for b in (1, 2) for n in (0, 1)]


def test_entry_keeps_every_field(journal: Journal) -> None:
    full = Entry("relationship", "é\0😀", "updated", "a", "b", b'{"x":1}', '{"f":"d"}', "why", b'{"n":1}')
    apply(journal, RUN, 1, [full, entry("")])
    found = journal.batch_entries(RUN, 1)
    assert found[0][4:] == ("relationship", "é\0😀", "updated", "a", "b", '{"x":1}', '{"f":"d"}', "why", '{"n":1}')
    assert found[0][:4] == (1, RUN, 1, "forward")
    assert journal.find("é\0😀") == [found[0]]
    assert found[1].entity_id == ""


def test_digest_of_entries_is_documented_json() -> None:
    # Written from the docstring, not from the code.
    from hashlib import sha256

    text = f'["memmig-entries-1",[["{RUN}",7,"rollback","memory","x","deleted",null,"d","{{}}",null,"why",null]]]'
    row = Entry("memory", "x", "deleted", None, "d", "{}", None, "why")
    assert entries_digest(RUN, 7, "rollback", [row]) == sha256(text.encode()).hexdigest()


def test_times_are_ours_and_utc(tmp_path: Path) -> None:
    with freeze_time("2026-03-04T05:06:07.000008Z"), Journal.open(tmp_path / "journal.db") as journal:
        journal.append(RUN, opened())
        assert journal.state(RUN).opened_at == datetime(2026, 3, 4, 5, 6, 7, 8, tzinfo=UTC)


def test_entries_that_are_not_the_plans_are_refused_whole(journal: Journal) -> None:
    rows = [entry("a"), entry("b")]
    for wrong in ([], rows[:1], rows[::-1], [*rows, entry("c")], [rows[0], entry("b", digest="e")]):
        with pytest.raises(ValueError, match="not those of its plan"):
            journal.append(RUN, plan(RUN, 1, rows), entries=wrong)
    with pytest.raises(ValueError, match="exactly one plan"):
        journal.append(RUN, MarkerReleased(), entries=rows)
    assert journal.state(RUN).batches == {}
    apply(journal, RUN, 1, rows)
    assert journal.check().ok


def test_outcome_of_an_unknown_batch_is_refused_and_nothing_of_the_transaction_stays(journal: Journal) -> None:
    with pytest.raises(ValueError, match="never planned a batch 9"):
        journal.append(RUN, SchemaPlanned(steps=[]), BatchApplied(batch=9))
    assert [stored.event for stored in journal.events(RUN)] == [opened()]
    journal.append(RUN, MarkerReleased())
    assert journal.check().ok


def test_a_batch_number_is_never_used_twice(journal: Journal) -> None:
    apply(journal, RUN, 1, [entry("a")])
    with pytest.raises(JournalLocked, match="used twice"):
        apply(journal, RUN, 1, [entry("b")])
    with pytest.raises(JournalLocked):
        journal.append(RUN, MarkerReleased())
    assert journal.check().ok


def test_runs_are_found_by_the_beginning_of_their_id(journal: Journal) -> None:
    journal.append(OTHER, opened())
    journal.append(THIRD, opened())
    assert journal.resolve(RUN) == RUN
    assert journal.resolve("1700") == THIRD
    assert [state.run_id for state in journal.runs()] == [RUN, OTHER, THIRD]
    for unknown, why in (("", "no run"), ("170", "no run"), ("%%%%", "no run"), ("____", "no run"), ("0f00", "2 runs")):
        with pytest.raises(NoSuchRun, match=why) as error:
            journal.state(unknown)
        assert error.value.exit_code == 52


def test_entries_both_ways_and_only_of_what_is_asked(journal: Journal) -> None:
    apply(journal, RUN, 1, [entry("a"), entry("b")])
    apply(journal, RUN, 2, [entry("c", "unchanged")], writes=False)
    journal.append(RUN, plan(RUN, 3, [entry("d")]), BatchRefused(batch=3, reason=""), entries=[entry("d")])
    apply(journal, RUN, 4, [entry("a", "deleted")], rollback=True)
    assert ids(journal.entries(RUN)) == ["a", "b", "c", "d"]
    assert ids(journal.entries(RUN, order="desc")) == ["d", "c", "b", "a"]
    assert ids(journal.entries(RUN, statuses=["refused"])) == ["d"]
    assert ids(journal.entries(RUN, phase="rollback")) == ["a"]
    assert ids(journal.entries(RUN, phase=None)) == ["a", "b", "c", "d", "a"]


def test_entries_stream_while_appends_go_on(journal: Journal) -> None:
    apply(journal, RUN, 1, [entry(f"{n:05}") for n in range(2500)])
    seen = []
    for number, row in enumerate(journal.entries(RUN, order="desc")):
        seen.append(row.entity_id)
        if number % 1000 == 0:
            apply(journal, RUN, 2 + number, [entry(row.entity_id, "deleted")], rollback=True)
    assert seen == [f"{n:05}" for n in reversed(range(2500))]
    assert journal.check().ok


def test_export_is_json_in_order(journal: Journal) -> None:
    apply(journal, RUN, 1, [entry("a", before_image='{"x": 1}')])
    journal.append(OTHER, opened())
    lines = [orjson.loads(orjson.dumps(record)) for record in journal.export(RUN)]
    assert [line.get("type") or line["entity_id"] for line in lines] == [
        *("run.opened", "batch.planned", "a", "batch.applied")
    ]
    assert lines[2]["before_image"] == '{"x": 1}'
    assert len(list(journal.export())) == 6


def test_two_commits_per_batch_are_cheap(journal: Journal) -> None:
    times = []
    for batch in range(1, 41):
        rows = [entry(str(uuid4()), written="{}", bumped='{"usage_count":0}') for _ in range(1000)]
        begin = time.perf_counter()
        apply(journal, RUN, batch, rows)
        times.append(time.perf_counter() - begin)
    median = sorted(times)[20] * 1000
    print(f"journal: {median:.1f} ms per batch of 1,000 (plan, entries, outcome)")
    # A bound that only a mistake breaks (a commit per row, dictionaries, an index of random ids), not a busy machine.
    assert median < 100

"""Pruning: what goes, what stays, and that no later run can tell the difference."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from journal import Entry, Journal, Keep, RunState
from journal.errors import JournalDamaged, JournalLocked, NoSuchRun
from journal.events import (
    BatchApplied,
    BatchesLost,
    BatchRefused,
    EpochPlanned,
    MarkerReleased,
    RollbackFinished,
    RollbackOpened,
    RunClaimed,
    RunFinished,
    TargetDurable,
)
from journal.prune import choose
from tests.journal.support import apply, entry, opened, plain, plan, tamper

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

START = datetime(2026, 1, 1, 2, tzinfo=UTC)
PAIRS = {"a → x": "x", "b → x": "x", "a → y": "y"}
IDS = ("i", "j", "k", "l")


class Clock:
    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        self.now += timedelta(seconds=1)
        return self.now


def run_name(number: int) -> str:
    return f"{number:08x}-0000-4000-8000-000000000000"


def finished(**counts: int) -> RunFinished:
    return RunFinished(
        status="finished",
        memories=counts,
        relationships={},
        watermark="2026-01-01T00:00:00Z",
        seconds=1.0,
        durability="durable",
    )


def a_run(
    journal: Journal, number: int, rows: Sequence[Entry], pair: str = "a → x", *, marker: bool = True, end: bool = True
) -> str:
    """Write a run as the engine does."""
    run = run_name(number)
    journal.append(run, opened(pair, PAIRS[pair]))
    if marker:
        journal.append(run, EpochPlanned(epoch=1, purpose="claim"), RunClaimed(epoch=1, identity="s", marker={}))
    apply(journal, run, 1, rows, writes=marker)
    journal.append(run, TargetDurable(batch=1, durable=True, evidence={}))
    if end:
        journal.append(run, finished(created=len(rows)))
        if marker:
            journal.append(run, MarkerReleased())
    return run


def nights(path: Path, clock: Clock | None = None, number: int = 3) -> list[str]:
    """Write some nights of one pair: everything is made in the first and changed in each later one."""
    clock = clock or Clock()
    found = []
    for n in range(1, number + 1):
        with Journal.open(path, clock=clock) as journal:
            action = "created" if n == 1 else "updated"
            rows = [entry(one, action, f"{n}" * 64, before_image='{"v":1}') for one in IDS]
            found.append(a_run(journal, n, rows))
        clock.now += timedelta(days=1)
    return found


def prune(path: Path, clock: Clock | None = None, **keep: Any) -> Any:
    with Journal.open(path, clock=clock or Clock()) as journal:
        return journal.prune(Keep(**keep))


def test_what_goes_and_what_stays(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    first, second, third = nights(path)
    with Journal.open(path) as journal:
        name, old_hash = journal.id, plain(path, "SELECT hash FROM events ORDER BY seq DESC LIMIT 1")[0][0]
        dry = journal.prune(Keep(runs=1), dry_run=True)
    before = path.read_bytes()
    report = prune(path, runs=1)
    assert report == dry
    assert path.read_bytes() != before
    assert (report.pruned, report.held) == ((first, second), ())
    # Of each id the row that made it and the one that is its base; the third night is whole.
    assert report.entries == (12, 4 + 4 + 4)
    with Journal.open(path, mode="read") as journal:
        assert journal.check().ok
        assert journal.id == name
        assert [state.run_id for state in journal.runs()] == [first, second, third]
        assert [state.status for state in journal.runs()] == ["finished"] * 3
        assert [state.pruned is not None for state in journal.runs()] == [True, True, False]
        assert journal.state(first).counts() == {"memory": {"created": 4}}
        assert journal.bases("a → x").get("memory", ["i"])["i"].created
        with pytest.raises(NoSuchRun, match="was pruned"):
            journal.whole(second)
        assert journal.whole(third).run_id == third
    ((event_type, payload),) = plain(path, "SELECT type, payload FROM events WHERE seq = 1")
    assert event_type == "journal.anchored"
    assert (json.loads(payload)["journal_id"], json.loads(payload)["anchor"]) == (name, old_hash)
    assert path.stat().st_mode & 0o777 == 0o600
    assert sorted(one.name for one in tmp_path.iterdir()) == ["journal.db", "journal.db.lock"]


def test_dry_run_writes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    nights(path)
    before = path.read_bytes(), path.stat().st_mtime_ns
    with Journal.open(path, mode="read") as journal:
        assert len(journal.prune(Keep(runs=0), dry_run=True).pruned) == 3
    assert (path.read_bytes(), path.stat().st_mtime_ns) == before


def test_a_second_time_changes_nothing_and_a_later_one_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    clock = Clock()
    nights(path, clock)
    prune(path, clock, runs=2)
    before = path.stat().st_ino, plain(path, "SELECT * FROM events")
    assert prune(path, clock, runs=2).pruned == ()
    assert (path.stat().st_ino, plain(path, "SELECT * FROM events")) == before
    with Journal.open(path, clock=clock) as journal:
        assert journal.prune(Keep(runs=2), dry_run=True).entries == (12, 12)
    report = prune(path, clock, runs=0)
    assert len(report.pruned) == 2
    assert report.entries == (12, 4 + 4), "what the second night wrote is nobody's base any more"
    with Journal.open(path, clock=clock) as journal:
        assert journal.check().ok
        assert journal.state(run_name(1)).counts() == {"memory": {"created": 4}}
        a_run(journal, 9, [entry("i", "updated", "9" * 64)])
        assert journal.check().ok


def test_what_happened_since_stays(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    clock = Clock()
    first, second, third = nights(path, clock)
    with Journal.open(path) as journal:
        states = journal.runs()
    for days, going in ((0.5, [first]), (1.5, [first, second]), (9, [first, second, third]), (-1, [])):
        assert choose(states, Keep(since=START + timedelta(days=days)), {})[0] == going
    with Journal.open(path, clock=clock) as journal:
        journal.append(first, RollbackOpened(reason="", force=False))
        journal.append(first, RollbackFinished(memories={}, relationships={}, retained=0))
        assert choose(journal.runs(), Keep(since=START + timedelta(days=2)), {})[0] == [], "taken back on the third day"


def test_open_runs_stay_and_so_do_later_ones_on_their_target(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    with Journal.open(path) as journal:
        a_run(journal, 1, [entry("i")])
        stays = [
            a_run(journal, 2, [entry("j")], "a → y", end=False),
            a_run(journal, 3, [entry("k")], "a → y"),
        ]
        a_run(journal, 4, [entry("i", "updated")], "b → x")
        rows = list(journal.entries(stays[0]))
    report = prune(path)
    assert (report.pruned, report.held) == ((run_name(1), run_name(4)), tuple(stays))
    with Journal.open(path) as journal:
        assert [row[1:] for row in journal.entries(stays[0])] == [row[1:] for row in rows]
        assert [one.event.type for one in journal.events(stays[0])][:3] == [
            "run.opened",
            "epoch.planned",
            "run.claimed",
        ]
        assert journal.state(stays[0]).epoch_planned == 1


def test_a_run_that_was_taken_back_while_a_later_one_stood_stays_with_it(tmp_path: Path) -> None:
    """Its rollback alone tells that what the later one found equal says nothing any more."""
    path = tmp_path / "journal.db"
    with Journal.open(path) as journal:
        write_history(journal, TAKEN_BACK_AFTER_A_LATER_RUN_FOUND_IT_EQUAL)
        assert journal.bases("a → x").get("memory", ["i"])["i"].digest == "1-1-i"
    report = prune(path, runs=1)
    assert (report.pruned, report.held) == ((run_name(1),), (run_name(2),))
    with Journal.open(path) as journal:
        assert journal.bases("a → x").get("memory", ["i"])["i"].digest == "1-1-i"
    assert prune(path, runs=0).pruned == (run_name(2), run_name(3))
    with Journal.open(path) as journal:
        assert journal.bases("a → x").get("memory", ["i"])["i"].digest == "1-1-i"


def test_a_marker_that_was_not_released_holds_its_run(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    with Journal.open(path) as journal:
        run = a_run(journal, 1, [entry("i")], end=False)
        journal.append(run, finished(created=1))
    assert prune(path).held == (run,)


def test_open_ids_and_quarantined_records_stay(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    rows = [entry("i", "conflict", None, reason="why"), entry("j", "quarantined", None, before_image='{"raw":"j"}')]
    with Journal.open(path) as journal:
        a_run(journal, 1, [entry("i"), entry("k")])
        a_run(journal, 2, rows, marker=False)
    prune(path)
    with Journal.open(path) as journal:
        assert journal.bases("a → x").get("memory", ["i"])["i"].open == "conflict"
        (found,) = journal.find("j")
        assert (found.action, found.before_image) == ("quarantined", '{"raw":"j"}')


def test_a_damaged_journal_is_not_pruned(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    nights(path, number=60)
    tamper(path, "UPDATE entries SET action = 'updated' WHERE seq = 1")
    before = path.read_bytes()
    with pytest.raises(JournalDamaged), Journal.open(path) as journal:
        journal.prune(Keep(runs=1))
    assert path.read_bytes() == before
    assert not path.with_name("journal.db.pruned").exists()


def test_a_reader_is_not_pulled_the_file_away(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    nights(path)
    with Journal.open(path) as journal:
        with Journal.open(path, mode="read") as reader:
            assert len(reader.runs()) == 3
            with pytest.raises(JournalLocked, match="journal"):
                journal.prune(Keep(runs=1))
            assert len(reader.runs()) == 3
        assert not path.with_name("journal.db.pruned").exists()
    with Journal.open(path) as journal:
        assert [state.pruned for state in journal.runs()] == [None] * 3
    assert len(prune(path, runs=1).pruned) == 2


def test_a_reader_at_rest_sees_the_new_file(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    nights(path)
    with Journal.open(path, mode="read") as reader:
        assert reader.bases("a → x").get("memory", ["i"])["i"].digest == "3" * 64
        prune(path, runs=1)
        assert [state.pruned is not None for state in reader.runs()] == [True, True, False]
        assert reader.bases("a → x").get("memory", ["i"])["i"].digest == "3" * 64


# --- no later run can tell ------------------------------------------------------------------------------------------

ACTIONS = ("created", "updated", "unchanged", "deleted", "conflict", "quarantined", "foreign", "changing")
BATCHES = st.lists(
    st.tuples(
        st.dictionaries(st.sampled_from(IDS[:2]), st.sampled_from(ACTIONS), min_size=1),
        st.sampled_from(("applied", "applied", "applied", "noted", "refused", "lost", "void")),
    ),
    max_size=3,
)
TAKEN_BACK = st.dictionaries(
    st.sampled_from(IDS[:2]), st.sampled_from(("deleted", "restored", "unchanged", "retained"))
)
RUNS = st.lists(
    st.tuples(
        st.sampled_from(sorted(PAIRS)),
        BATCHES,
        st.none() | TAKEN_BACK,
        st.sampled_from(("ended", "ended", "open")),
        st.sampled_from((0, 0, 1, 2)),  # runs that come before its rollback
    ),
    min_size=1,
    max_size=7,
)


def write_history(journal: Journal, history: Any) -> None:
    later: dict[int, list[Any]] = {}  # by the run after which the rollback comes
    for number, (pair, batches, taken_back, end, wait) in enumerate(history, 1):
        run = run_name(number)
        journal.append(run, opened(pair, PAIRS[pair]))
        at = 0
        for at, (actions, outcome) in enumerate(batches, 1):
            rows = [
                entry(one, action, None if action == "deleted" else f"{number}-{at}-{one}", bumped=f'{{"n":{at}}}')
                for one, action in actions.items()
            ]
            writes = outcome not in {"noted", "void"}
            journal.append(run, plan(run, at, rows, writes=writes), entries=rows)
            if outcome == "refused":
                journal.append(run, BatchRefused(batch=at, reason=""))
            elif writes:
                apply_outcome(journal, run, at)
            if outcome in {"lost", "void"}:
                names: dict[str, list[int]] = {"lost": [], "void": []} | {outcome: [at]}
                journal.append(run, BatchesLost(m=0, evidence={}, **names))
        if taken_back is not None:
            after = number + wait if end == "ended" else number
            later.setdefault(min(after, len(history)), []).append((run, at, taken_back, end))
        if end == "ended" and (taken_back is None or wait):
            journal.append(run, finished())
        for due in later.pop(number, []):
            take_back(journal, *due)


def take_back(journal: Journal, run: str, at: int, taken_back: Mapping[str, str], end: str) -> None:
    journal.append(run, RollbackOpened(reason="", force=False))
    for kept in (False, True):
        rows = [entry(one, what, None) for one, what in taken_back.items() if (what == "retained") == kept]
        if rows:
            at += 1
            apply(journal, run, at, rows, rollback=True, writes=not kept)
    if end == "ended":
        journal.append(run, RollbackFinished(memories={}, relationships={}, retained=0))


def apply_outcome(journal: Journal, run: str, batch: int) -> None:
    journal.append(run, BatchApplied(batch=batch))


def answers(journal: Journal, whole: list[str]) -> dict[str, Any]:
    """Ask everything that a later run, or a rollback of one that is whole, asks about ids."""
    found: dict[str, Any] = {}
    for pair, target in PAIRS.items():
        for exclude in (None, *whole):
            found[f"bases {pair} {exclude}"] = journal.bases(pair, exclude=exclude).get("memory", IDS)
        found[f"kept {pair}"] = list(journal.bases(pair).all("memory"))
        found[f"number {pair}"] = journal.bases(pair).kept({"memory": 0, "relationship": 0})
        found[f"open {pair}"] = journal.bases(pair).open_ids()
        found[f"holders {pair}"] = journal.other_holders(pair, target, "memory", IDS)
    for run in whole:
        found[f"later {run}"] = journal.later_writers(run)
        for phase in ("forward", "rollback"):
            found[f"decided {run} {phase}"] = content(journal.decided(run, "memory", IDS, phase))
        repeated = journal.repeated(run, "memory", IDS)
        found[f"repeated {run}"] = {one: [row[1:] for row in rows] for one, rows in repeated.items()}
        found[f"entries {run}"] = [row[1:] for row in journal.entries(run, phase=None)]
        found[f"state {run}"] = shown(journal.state(run))
    found["in step"] = journal.in_step()
    found["runs"] = [(state.run_id, state.status, state.counts(), state.opened) for state in journal.runs()]
    found["ends"] = [(state.finished, state.finished_at, state.rollback_finished_at) for state in journal.runs()]
    return found


def content(rows: dict[str, Any]) -> dict[str, Any]:
    return {one: row[1:] for one, row in rows.items()}


def shown(state: RunState) -> dict[str, Any]:
    return {name: getattr(state, name) for name in RunState.__slots__}


DELETED_AND_THEN_IN_CONFLICT: Any = [
    ("a → x", [({"i": "created"}, "applied")], None, "ended", 0),
    ("a → x", [({"i": "deleted"}, "applied")], None, "ended", 0),
    ("a → x", [({"i": "conflict"}, "noted")], None, "ended", 0),
]
TAKEN_BACK_AND_RETAINED: Any = [
    ("a → x", [({"i": "created", "j": "created"}, "applied")], {"i": "deleted", "j": "retained"}, "ended", 0),
    ("a → x", [({"i": "foreign"}, "noted")], None, "ended", 0),
]
TAKEN_BACK_AFTER_A_LATER_RUN_FOUND_IT_EQUAL: Any = [
    ("a → x", [({"i": "created"}, "applied")], None, "ended", 0),
    ("a → x", [({"i": "updated"}, "applied")], {"i": "restored"}, "ended", 1),
    ("a → x", [({"i": "unchanged"}, "noted")], None, "ended", 0),
]


@settings(max_examples=30, deadline=None)
@example(history=TAKEN_BACK_AFTER_A_LATER_RUN_FOUND_IT_EQUAL, keep=1, again=0)
@example(history=DELETED_AND_THEN_IN_CONFLICT, keep=0, again=0)
@example(history=TAKEN_BACK_AND_RETAINED, keep=1, again=0)
@given(history=RUNS, keep=st.integers(0, 5), again=st.integers(0, 5))
def test_no_later_run_can_tell(tmp_path_factory: pytest.TempPathFactory, history: Any, keep: int, again: int) -> None:
    path = tmp_path_factory.mktemp("journal") / "journal.db"
    clock = Clock()
    with Journal.open(path, clock=clock) as journal:
        write_history(journal, history)
    for runs in (keep, again):
        with Journal.open(path, clock=clock) as journal:
            going = journal.prune(Keep(runs=runs), dry_run=True).pruned
            whole = [s.run_id for s in journal.runs() if s.run_id not in going and s.pruned is None]
            before = answers(journal, whole)
        report = prune(path, clock, runs=runs)
        assert report.pruned == going
        with Journal.open(path, clock=clock) as journal:
            assert answers(journal, whole) == before
            check = journal.check()
            assert check.problems == ()
            assert (check.events, check.entries) == (report.events[1], report.entries[1])

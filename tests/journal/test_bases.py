"""What earlier runs say about an id (docs: sync)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from journal import Entry, Journal
from journal.events import BatchesLost, BatchRefused
from tests.journal.support import OTHER, RUN, THIRD, apply, entry, opened, plain, plan

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PAIR = "a → b"


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with Journal.open(tmp_path / "journal.db") as found:
        for run_id in (RUN, OTHER):
            found.append(run_id, opened())
        yield found


def base(journal: Journal, entity_id: str) -> tuple[str, bool, str, str | None] | None:
    found = journal.bases(PAIR).get("memory", [entity_id, "somebody else"])
    assert set(found) <= {entity_id}
    if not found:
        return None
    one = found[entity_id]
    return one.digest, one.created, one.run_id, one.open


def test_latest_row_that_shows_equality_is_the_base(journal: Journal) -> None:
    apply(journal, RUN, 1, [entry("x", digest="1")])
    apply(journal, OTHER, 1, [entry("x", "updated", digest="2", bumped='{"usage_count": 3}')])
    assert base(journal, "x") == ("2", True, OTHER, None)
    assert journal.bases(PAIR).get("memory", ["x"])["x"].bumped == {"usage_count": 3}
    assert journal.bases(PAIR).get("relationship", ["x"]) == {}


def test_what_was_equal_before_is_not_ours(journal: Journal) -> None:
    apply(journal, RUN, 1, [entry("x", "unchanged", digest="1")], writes=False)
    assert base(journal, "x") == ("1", False, RUN, None)


def test_conflict_leaves_the_base_and_keeps_the_id_open(journal: Journal) -> None:
    apply(journal, RUN, 1, [entry("x", digest="1")])
    apply(journal, OTHER, 1, [entry("x", "conflict", digest="9"), entry("y", "conflict", digest="9")], writes=False)
    assert base(journal, "x") == ("1", True, RUN, "conflict")
    assert base(journal, "y") is None


def test_deleted_has_no_base_and_a_found_one_later_is_not_ours(journal: Journal) -> None:
    apply(journal, RUN, 1, [entry("x", digest="1"), entry("y", digest="1")])
    apply(journal, OTHER, 1, [entry("x", "deleted", None), entry("y", "deleted", None)])
    assert base(journal, "x") is None
    journal.append(THIRD, opened())
    apply(journal, THIRD, 1, [entry("y", "unchanged", digest="2")], writes=False)
    with Journal.open(journal.path, mode="read") as reader:
        assert base(reader, "y") == ("2", False, THIRD, None)


def test_refused_lost_and_pending_rows_do_not_count(journal: Journal) -> None:
    journal.append(RUN, plan(RUN, 1, [entry("refused")]), entries=[entry("refused")])
    journal.append(RUN, BatchRefused(batch=1, reason=""))
    apply(journal, RUN, 2, [entry("lost")])
    apply(journal, RUN, 3, [entry("void", "unchanged")], writes=False)
    journal.append(RUN, BatchesLost(m=0, evidence={}, lost=[2], void=[3]))
    journal.append(RUN, plan(RUN, 4, [entry("pending")]), entries=[entry("pending")])
    found = journal.bases(PAIR).get("memory", ["refused", "lost", "void", "pending"])
    assert found == {}
    assert list(journal.applied_entries(RUN, "memory")) == []
    assert plain(journal.path, "SELECT * FROM applied_entries") == []


def test_taken_back_rows_do_not_count_and_retained_ones_stay_open(journal: Journal) -> None:
    apply(journal, RUN, 1, [entry("x", digest="1"), entry("y", digest="1")])
    apply(journal, OTHER, 1, [entry(one, "updated", digest="2") for one in ("x", "y", "z")])
    apply(journal, OTHER, 2, [entry("x", "restored", None)], rollback=True)
    apply(journal, OTHER, 3, [entry("y", "retained", None)], rollback=True, writes=False)
    assert base(journal, "x") == ("1", True, RUN, None)
    assert base(journal, "y") == ("2", True, OTHER, "retained")
    assert [row.entity_id for row in journal.applied_entries(OTHER, "memory")] == ["y", "z"]


def test_a_lost_rollback_takes_nothing_back(journal: Journal) -> None:
    apply(journal, RUN, 1, [entry("x", digest="1")])
    apply(journal, RUN, 2, [entry("x", "deleted", None)], rollback=True)
    journal.append(RUN, BatchesLost(m=1, evidence={}, lost=[2], void=[]))
    assert base(journal, "x") == ("1", True, RUN, None)


def test_excluded_run_and_other_pairs_do_not_count(journal: Journal) -> None:
    journal.append(THIRD, opened("c → b"))
    apply(journal, RUN, 1, [entry("x", digest="1")])
    apply(journal, OTHER, 1, [entry("x", "updated", digest="2")])
    apply(journal, THIRD, 1, [entry("x", "updated", digest="3")])
    assert journal.bases(PAIR, exclude=OTHER).get("memory", ["x"])["x"].digest == "1"
    assert journal.bases("new → b").get("memory", ["x"]) == {}
    assert base(journal, "x") == ("2", True, OTHER, None)


def test_other_holders(journal: Journal) -> None:
    journal.append(THIRD, opened("c → b"))
    apply(journal, RUN, 1, [entry("x"), entry("y", "conflict")])
    assert journal.other_holders("c → b", "b", "memory", ["x", "y", "z"]) == {"x": {PAIR}}
    assert journal.other_holders(PAIR, "b", "memory", ["x"]) == {}
    assert journal.other_holders("c → b", "elsewhere", "memory", ["x"]) == {}


def test_other_holders_see_a_run_that_was_opened_since(journal: Journal) -> None:
    assert journal.other_holders(PAIR, "b", "memory", ["x"]) == {}
    journal.append(THIRD, opened("c → b"))
    apply(journal, THIRD, 1, [entry("x")])
    assert journal.other_holders(PAIR, "b", "memory", ["x"]) == {"x": {"c → b"}}


def test_many_ids_at_once(journal: Journal) -> None:
    names = [f"{n:06}" for n in range(3000)]
    apply(journal, RUN, 1, [entry(one, digest=one) for one in names])
    found = journal.bases(PAIR).get("memory", names[::-1])
    assert {one: found[one].digest for one in found} == {one: one for one in names}
    assert [row.entity_id for row in journal.applied_entries(RUN, "memory")] == names


def test_what_a_run_decided(journal: Journal) -> None:
    apply(journal, RUN, 1, [entry("x"), entry("y", "conflict", reason="why")])
    apply(journal, RUN, 2, [entry("x", "updated")])
    apply(journal, OTHER, 1, [entry("z")])
    found = journal.decided(RUN, "memory", ["x", "y", "z"])
    assert {one: (row.batch, row.action, row.reason) for one, row in found.items()} == {
        "x": (2, "updated", None),
        "y": (1, "conflict", "why"),
    }
    apply(journal, RUN, 3, [entry("z")])
    assert "z" not in journal.decided(RUN, "memory", ["z"])
    journal.index_run(RUN)
    assert "z" in journal.decided(RUN, "memory", ["z"])


@pytest.mark.parametrize(
    ("action", "writes", "later"),
    [
        ("updated", True, [OTHER]),
        ("deleted", True, [OTHER]),
        ("unchanged", True, []),
        ("unchanged", False, []),
        ("conflict", False, []),
    ],
)
def test_later_writers(journal: Journal, action: str, writes: bool, later: list[str]) -> None:
    apply(journal, RUN, 1, [entry("x"), entry("y")])
    apply(journal, OTHER, 1, [entry("x", action)], writes=writes)
    assert journal.later_writers(RUN) == later
    assert journal.later_writers(OTHER) == []


def test_later_writers_that_do_not_count(journal: Journal) -> None:
    journal.append(THIRD, opened("a → c", target_store="c"))
    apply(journal, RUN, 1, [entry("x"), entry("y"), entry("seen", "unchanged")])
    apply(journal, THIRD, 1, [entry("x")])
    apply(journal, OTHER, 1, [Entry("relationship", "x", "created", None, "d"), entry("seen", "updated"), entry("z")])
    assert journal.later_writers(RUN) == []
    apply(journal, OTHER, 3, [entry("y", "updated")])
    assert journal.later_writers(RUN) == [OTHER]
    apply(journal, OTHER, 4, [entry(one, "restored", None) for one in ("y", "z")], rollback=True)
    assert journal.later_writers(RUN) == []


def test_a_refused_row_of_ours_is_no_reason_to_refuse_a_rollback(journal: Journal) -> None:
    """It is proven not to be in the target, so a rollback does not look at it."""
    journal.append(RUN, plan(RUN, 1, [entry("x")]), BatchRefused(batch=1, reason=""), entries=[entry("x")])
    apply(journal, OTHER, 1, [entry("x")])
    assert journal.later_writers(RUN) == []


def test_a_run_taken_back_is_in_nobodys_way(journal: Journal) -> None:
    apply(journal, RUN, 1, [entry("x")])
    apply(journal, RUN, 2, [entry("x", "deleted", None)], rollback=True)
    apply(journal, OTHER, 1, [entry("x")])
    assert journal.later_writers(RUN) == []

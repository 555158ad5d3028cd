"""The resume table's rows in terms of what a real run saw, written from the page and not from the code.

A test names the rows that it is about by the marker ``row``; what its runs really saw decides whether it is right. The
table of docs/explanation/crash-safety.md comes from those markers.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping

type Seen = dict[str, Any]

_UNKNOWN = -1


@dataclass(slots=True)
class Watched:
    """One run of memmig, as it was seen from outside, and the decisions that it recorded."""

    command: str
    opened: frozenset[str]  #: the runs that were in the journal when it began
    finished: frozenset[str]  #: … those that were finished
    taking_back: frozenset[str]  #: … those whose rollback was opened and not finished
    code: int = 0
    decisions: list[tuple[str, Seen]] = field(default_factory=list)  #: the action, and what was seen
    points: list[str] = field(default_factory=list)  #: fault points, in the order in which they were passed


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the table: when a decision falls into it, and what it may lead to, in a run and in a rollback."""

    name: str
    seen: str  #: in the words of the page
    forward: str
    back: str
    falls: Callable[[Seen, Watched], bool]  #: asked of every decision
    actions: tuple[str, str]  #: what a decision that falls into it must be, in a run and in a rollback; "" = none is


def _same(seen: Seen) -> bool:
    return seen["identity_held"] in (None, seen["identity"])


def _open(seen: Seen) -> bool:
    """Tell whether a marker stands in the target of a run, or rollback, that is not closed, and is not of long ago."""
    return seen["marker"] is not None and not seen["closed"] and not _late(seen)


def _late(seen: Seen) -> bool:
    marker = seen["marker"]
    return bool(marker) and not seen["closed"] and _same(seen) and marker["epoch"] < seen["epoch_held"]


def _at(seen: Seen) -> int:
    """Return m where the marker is ours and known, else ``_UNKNOWN``."""
    marker = seen["marker"]
    known = not marker["batch"] or seen["plans"].get(marker["digest"]) == marker["batch"]
    return int(marker["batch"]) if known else _UNKNOWN


ROWS = (
    Row(
        "never-opened",
        "no `run.opened` in the journal",
        "a new run",
        "nothing to do",
        lambda _seen, _watched: False,
        ("", ""),
    ),
    Row(
        "never-held",
        "the marker was never held, and none stands in the target",
        "claim it before the first batch",
        "nothing is undone",
        lambda seen, _: seen["marker"] is None and not seen["held"] and _same(seen),
        ("claim", "claim"),
    ),
    Row(
        "agree",
        "p = j = m",
        "go on after the last batch",
        "undo",
        lambda seen, _: _open(seen) and _same(seen) and _at(seen) == seen["planned"] == seen["applied"],
        ("continue", "continue"),
    ),
    Row(
        "never-landed",
        "p > j, m = j",
        "it never landed, and never will: plan anew",
        "it is not there",
        lambda seen, _: _open(seen) and _same(seen) and _at(seen) == seen["applied"] < seen["planned"],
        ("replan", "replan"),
    ),
    Row(
        "landed",
        "m = p > j, with the digest of that plan",
        "it landed: record it",
        "record it, and undo it too",
        lambda seen, _: _open(seen) and _same(seen) and _at(seen) == seen["planned"] > seen["applied"],
        ("recover", "recover"),
    ),
    Row(
        "other-digest",
        "a digest of none of our plans",
        "another journal wrote here: stop (31)",
        "stop (31)",
        lambda seen, _: (
            _open(seen)
            and seen["marker"]["batch"] in range(1, seen["last_number"] + 1)
            and seen["marker"]["digest"] not in seen["plans"]
        ),
        ("stop-digest", "stop-digest"),
    ),
    Row(
        "lost",
        "another server identity, or m < j",
        "acknowledged batches are lost: record that, believe nothing since the last barrier, plan anew, warn",
        "record that, decide by content",
        lambda seen, _: (
            (_open(seen) and _at(seen) != _UNKNOWN and (not _same(seen) or _at(seen) < seen["applied"]))
            or (
                seen["marker"] is None
                and not _same(seen)
                and not seen["closed"]
                and not (seen["held"] and seen["released"])
            )
        ),
        ("lost", "lost claim"),
    ),
    Row(
        "late",
        "an epoch below the last acknowledged one, same identity",
        "a claim of long ago, or an older copy of the target: stop (31)",
        "its batch number means nothing: decide by content",
        lambda seen, _: _late(seen),
        ("stop-removed", "lost"),
    ),
    Row(
        "removed",
        "the marker is gone, same identity, the run is not finished",
        "somebody removed it: stop (31)",
        "go on, believing no recorded batch of the rollback",
        lambda seen, watched: (
            seen["marker"] is None
            and seen["held"]
            and not seen["released"]
            and not seen["closed"]
            and seen["run"] not in watched.finished
            and _same(seen)
        ),
        ("stop-removed", "claim"),
    ),
    Row(
        "released",
        "the marker is gone after `run.finished` (in a rollback: or after `rollback.finished`)",
        "it was released: record it",
        "claim it again and undo; after `rollback.finished`: record the release",
        lambda seen, watched: (
            seen["marker"] is None
            and seen["held"]
            and (seen["closed"] or seen["released"] or seen["run"] in watched.finished)
        ),
        ("released", "claim released"),
    ),
    Row(
        "newer",
        "m > p, beyond every plan of the journal",
        "the journal is older than the target: stop (31)",
        "stop (31)",
        lambda seen, _: _open(seen) and seen["marker"]["batch"] > seen["last_number"],
        ("stop-newer", "stop-newer"),
    ),
    Row(
        "left",
        "finished, and the marker still stands",
        "remove it",
        "raise it and undo; after `rollback.finished`: remove it",
        lambda seen, watched: (
            seen["marker"] is not None and (seen["closed"] or seen["run"] in watched.finished) and _same(seen)
        ),
        ("remove", "continue remove replan recover"),
    ),
    Row(
        "rollback-opened",
        "`rollback.opened`, and not finished",
        "refused: finish the rollback (50)",
        "go on",
        lambda _seen, _watched: False,
        ("", ""),
    ),
)
#: Every cell that a test must hit: a row in a run, and in a rollback.
PHASES = ("run", "rollback")
CELLS = tuple(f"{row.name} {phase}" for row in ROWS for phase in PHASES)


def cells(watched: Watched) -> set[str]:
    """Return the cells that a run hit. Raises AssertionError where a decision fits no row, or is not the row's."""
    found = set()
    if watched.command == "resume" and not watched.opened:
        found.add("never-opened run")
    if watched.command == "rollback" and not watched.opened:
        found.add("never-opened rollback")
    if watched.taking_back:
        found |= {"rollback-opened run"} if watched.command == "resume" and watched.code else set()
        found |= {"rollback-opened rollback"} if watched.command == "rollback" and not watched.code else set()
    for action, seen in watched.decisions:
        here = seen["phase"] == "rollback"
        rows = [row for row in ROWS if row.falls(seen, watched)]
        assert rows, f"a decision that fits no row: {action} {seen}"
        for row in rows:
            assert action in row.actions[here].split(), f"{action} in the row {row.name}: {seen}"
            found.add(f"{row.name} {'rollback' if here else 'run'}")
    return found


def lacking(said: Iterable[str], watched: Iterable[Watched]) -> set[str]:
    """Return the cells that a test said it hits and did not. Raises AssertionError like :func:`cells`."""
    hit: set[str] = set()
    for one in watched:
        hit |= cells(one)
    assert set(said) <= set(CELLS), f"no such cell: {set(said) - set(CELLS)}"
    return set(said) - hit


def table(tests: Mapping[str, Collection[str]]) -> str:
    """Return the documentation's table: each row, and the tests that hit it in a run and in a rollback."""
    lines = ["| seen | a resume | a rollback | hit in a run by | hit in a rollback by |", "|---|---|---|---|---|"]
    for row in ROWS:
        hit = [", ".join(f"`{test}`" for test in sorted(tests[f"{row.name} {phase}"])) for phase in PHASES]
        lines.append(f"| {row.seen} | {row.forward} | {row.back} | {hit[0]} | {hit[1]} |")
    return "\n".join(lines) + "\n"

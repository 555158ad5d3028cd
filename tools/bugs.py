"""What a seeded bug is: a change of text, and the suite that must be red with it."""

from __future__ import annotations

from dataclasses import dataclass

WRITING = "tests/contract/test_writing.py"


@dataclass(frozen=True, slots=True)
class Edit:
    """A text that stands exactly once in a file, and what it becomes."""

    file: str
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Mutation:
    """A bug, and the tests that must fail with it: a file or test of pytest's, and a keyword where only some count."""

    bug: str
    edits: tuple[Edit, ...]
    suite: str
    keyword: str = ""


def bug_in(bug: str, file: str, old: str, new: str, suite: str, keyword: str = "") -> Mutation:
    """Return a bug that is one change of text."""
    return Mutation(bug, (Edit(file, old, new),), suite, keyword)

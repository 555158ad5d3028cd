"""The root of memmig's one error tree, and the errors of the journal.

The root stands here because ``journal`` imports nothing of ``migrator``; ``migrator.errors`` extends it.
One class = one message form = one exit code (the table in docs/reference/exit-codes.md is made from the classes).
"""

from __future__ import annotations

from typing import Any, ClassVar


class MemmigError(Exception):
    """An error that a user can act on.

    ``message`` says in one line what happened, ``hint`` in one line what to do next.
    Neither ever holds a password.
    """

    exit_code: ClassVar[int] = 1
    meaning: ClassVar[str] = "unexpected error (a bug)"

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.result: Any = None  #: the run's result document, where a run had begun or was verified


class JournalLocked(MemmigError):
    """A live process holds the journal's lock."""

    exit_code = 40
    meaning = "journal locked by a live process"


class JournalDamaged(MemmigError):
    """The file is no journal, or its hash chain, triggers or rows are broken. Never repaired automatically."""

    exit_code = 41
    meaning = "journal damaged or not a journal"


class JournalTooNew(MemmigError):
    """The journal was written by a newer memmig."""

    exit_code = 42
    meaning = "journal from a newer memmig"


class JournalNotWritable(MemmigError):
    """The journal cannot be written: file system full, I/O error, no permission."""

    exit_code = 43
    meaning = "the journal can't be written: full, I/O error"


class NoSuchRun(MemmigError):
    """No run or id of that name is in the journal."""

    exit_code = 52
    meaning = "no such run or id in the journal"

"""The error tree: one class, one meaning, one exit code. The CLI is the only place that catches its root."""

from __future__ import annotations

from typing import TYPE_CHECKING

from journal.errors import (
    JournalDamaged,
    JournalLocked,
    JournalNotWritable,
    JournalTooNew,
    MemmigError,
    NoSuchRun,
)

if TYPE_CHECKING:
    from collections.abc import Sequence


class UsageError(MemmigError):
    """A wrong option, URL, profile or combination of them."""

    exit_code = 2
    meaning = "usage"


class StoreUnreachable(MemmigError):
    """A store cannot be reached or signed in to, its file is missing, or its driver is not installed."""

    exit_code = 20
    meaning = "a store cannot be reached, signed in to, or its driver is missing"


class StoreRefused(MemmigError):
    """A store is there but is not one to work on."""

    exit_code = 21
    meaning = "a store is refused: unknown layout, not writable, source = target, another run's marker"


class Unstorable(MemmigError):
    """Records cannot be stored in the target as they are. Raised before the first write."""

    exit_code = 22
    meaning = "records cannot be stored as they are; nothing was written"

    def __init__(self, message: str, *, hint: str = "", findings: Sequence[object] = ()) -> None:
        super().__init__(message, hint=hint)
        self.findings = findings  #: up to 100 ``Finding``: id, field and reason of each


class LimitHit(MemmigError):
    """A safety limit stopped the run before it wrote."""

    exit_code = 23
    meaning = "a limit was hit: --max-delete, empty or truncated source"


class ConflictFound(MemmigError):
    """A conflict under ``--on-conflict fail``."""

    exit_code = 24
    meaning = "a conflict under --on-conflict fail: what the run wrote was taken back"


class VerificationFailed(MemmigError):
    """The target does not hold what the source holds."""

    exit_code = 30
    meaning = "verification failed"


class TargetChanged(MemmigError):
    """The target was changed or fenced under the run; nothing more is written."""

    exit_code = 31
    meaning = "the target was changed or fenced under the run"


class NotDurable(MemmigError):
    """The durability barrier was denied and ``--require-durable`` was given."""

    exit_code = 32
    meaning = "durability could not be had (--require-durable)"


class TargetFull(MemmigError):
    """The target refuses to write: full, out of memory, locked for more than 10 s. Nothing of the request stays."""

    exit_code = 33
    meaning = "the target refuses to write: full, out of memory, locked for > 10 s"


class UnfinishedRun(MemmigError):
    """An unfinished run stands for this pair or on this target."""

    exit_code = 50
    meaning = "an unfinished run stands for this pair or on this target: resume it or roll it back"


class RollbackRefused(MemmigError):
    """A later run wrote the same ids."""

    exit_code = 51
    meaning = "rollback refused: a later run wrote the same ids"


class Interrupted(MemmigError):
    """SIGINT or SIGTERM: the batch was ended, the run can be resumed."""

    exit_code = 130
    meaning = "interrupted; can be resumed"

    def __init__(self, message: str, *, hint: str = "", signal: int = 2) -> None:
        super().__init__(message, hint=hint)
        self.signal = signal


class OutcomeUnknown(MemmigError):
    """A request was sent and no answer came: it may have landed, it may land later, or never.

    Not for users: the engine reconnects, raises the epoch and reads the marker before it believes anything (I7).
    """

    exit_code = 20
    meaning = StoreUnreachable.meaning


__all__ = [
    "ConflictFound",
    "Interrupted",
    "JournalDamaged",
    "JournalLocked",
    "JournalNotWritable",
    "JournalTooNew",
    "LimitHit",
    "MemmigError",
    "NoSuchRun",
    "NotDurable",
    "OutcomeUnknown",
    "RollbackRefused",
    "StoreRefused",
    "StoreUnreachable",
    "TargetChanged",
    "TargetFull",
    "UnfinishedRun",
    "Unstorable",
    "UsageError",
    "VerificationFailed",
]

"""memmig as a library: moves graph memories between stores; journaled, verified, resumable, and taken back exactly.

``await MigrationManager().migrate(source, target, options)`` is for callers in an event loop; beneath it the core is
synchronous (``migrator.manager``). Names are loaded when they are first used, so that ``memmig --help`` stays light.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from migrator.errors import (
        ConflictFound,
        Interrupted,
        JournalDamaged,
        JournalLocked,
        JournalNotWritable,
        JournalTooNew,
        LimitHit,
        MemmigError,
        NoSuchRun,
        NotDurable,
        OutcomeUnknown,
        RollbackRefused,
        StoreRefused,
        StoreUnreachable,
        TargetChanged,
        TargetFull,
        UnfinishedRun,
        Unstorable,
        UsageError,
        VerificationFailed,
    )
    from migrator.manager import MigrationManager
    from migrator.model import Corrupt, Memory, Problem, Relationship, digest
    from migrator.models import (
        BackendConfig,
        BackendType,
        Finding,
        MigrationOptions,
        MigrationResult,
        ValidationResult,
        VerificationResult,
    )

_PLACES = {
    "migrator.manager": ("MigrationManager",),
    "migrator.model": ("Corrupt", "Memory", "Problem", "Relationship", "digest"),
    "migrator.models": (
        "BackendConfig",
        "BackendType",
        "Finding",
        "MigrationOptions",
        "MigrationResult",
        "ValidationResult",
        "VerificationResult",
    ),
    "migrator.errors": (
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
    ),
}
_PLACE_OF = {name: place for place, names in _PLACES.items() for name in names}


def __getattr__(name: str) -> object:
    if name not in _PLACE_OF:
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    return getattr(import_module(_PLACE_OF[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_PLACE_OF})


__all__ = [
    "BackendConfig",
    "BackendType",
    "ConflictFound",
    "Corrupt",
    "Finding",
    "Interrupted",
    "JournalDamaged",
    "JournalLocked",
    "JournalNotWritable",
    "JournalTooNew",
    "LimitHit",
    "MemmigError",
    "Memory",
    "MigrationManager",
    "MigrationOptions",
    "MigrationResult",
    "NoSuchRun",
    "NotDurable",
    "OutcomeUnknown",
    "Problem",
    "Relationship",
    "RollbackRefused",
    "StoreRefused",
    "StoreUnreachable",
    "TargetChanged",
    "TargetFull",
    "UnfinishedRun",
    "Unstorable",
    "UsageError",
    "ValidationResult",
    "VerificationFailed",
    "VerificationResult",
    "digest",
]

"""What the journal's tests write into journals."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

from journal import Entry, Journal, entries_digest
from journal.events import BatchApplied, BatchPlanned, RollbackApplied, RollbackPlanned, RunOpened

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

RUN = "0f000000-0000-4000-8000-000000000001"
OTHER = "0f000000-0000-4000-8000-000000000002"
THIRD = "17000000-0000-4000-8000-000000000003"


def opened(pair: str = "a → b", target_store: str = "b") -> RunOpened:
    return RunOpened(
        source={"kind": "sqlite"},
        target={"kind": "sqlite"},
        pair=pair,
        source_store=pair.split(" ", maxsplit=1)[0],
        target_store=target_store,
        options={"on_conflict": "skip"},
        code_version="0",
        ceiling="2026-01-01T00:00:00.000000Z",
        full=True,
        since=None,
    )


def entry(entity_id: str, action: str = "created", digest: str | None = "d" * 64, **more: Any) -> Entry:
    return Entry("memory", entity_id, action, None, digest, **more)


def plan(
    run_id: str, batch: int, rows: Sequence[Entry], *, rollback: bool = False, writes: bool = True
) -> BatchPlanned | RollbackPlanned:
    counts: dict[str, int] = {}
    for row in rows:
        counts[row.action] = counts.get(row.action, 0) + 1
    event = RollbackPlanned if rollback else BatchPlanned
    return event(
        batch=batch,
        kind="memory",
        operation="create",
        shape="Memory",
        rows=len(rows),
        digest=entries_digest(run_id, batch, event.phase, rows),
        writes=writes,
        counts=counts,
    )


def apply(
    journal: Journal, run_id: str, batch: int, rows: Iterable[Entry], *, rollback: bool = False, writes: bool = True
) -> None:
    """Append a batch as the engine does: the plan with its entries, then the outcome."""
    listed = list(rows)
    journal.append(run_id, plan(run_id, batch, listed, rollback=rollback, writes=writes), entries=listed)
    if writes:
        journal.append(run_id, RollbackApplied(batch=batch) if rollback else BatchApplied(batch=batch))


def sample(path: Path, runs: Sequence[str] = (RUN,), batches: int = 3, rows: int = 5) -> None:
    """Write a journal with some runs."""
    with Journal.open(path) as journal:
        for run_id in runs:
            journal.append(run_id, opened())
            for batch in range(1, batches + 1):
                apply(journal, run_id, batch, [entry(f"{run_id[-1]}-{batch}-{row}") for row in range(rows)])


def tamper(path: Path, *statements: str) -> None:
    """Change a journal behind its back, as somebody with an SQL shell can: triggers are taken away and put back."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        triggers = connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
        for name, _ in triggers:
            connection.execute(f"DROP TRIGGER {name}")
        for statement in statements:
            assert connection.execute(statement).rowcount != 0, statement
        for _, sql in triggers:
            connection.execute(sql)


def plain(path: Path, query: str) -> list[tuple[Any, ...]]:
    """Ask a closed journal by plain SQL."""
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(query).fetchall()

"""How events and entries get into the tables: numbered, chained, and projected into ``batches``."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC
from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy import update

from journal import state, tables
from journal.chain import NO_HASH, event_hash
from journal.events import Planned, to_payload

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from sqlalchemy import Connection, Table

    from journal.chain import EntryRow
    from journal.events import Event


@dataclass(frozen=True, slots=True, kw_only=True)
class Tip:
    """Where a journal ends: seq and hash of its last event, seq of its last entry."""

    seq: int = 0
    hash: str = NO_HASH
    entry: int = 0


class EventColumns(NamedTuple):
    """A row of the table ``events`` without what its place in the chain gives it."""

    run_id: str
    version: int
    type: str
    type_version: int
    recorded_at: str
    payload: str


def columns_of(run_id: str, version: int, event: Event, at: datetime) -> EventColumns:
    """Return what an event looks like in the table."""
    recorded_at = at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    return EventColumns(run_id, version, event.type, event.type_version, recorded_at, to_payload(event).decode())


def insert_event(connection: Connection, tip: Tip, columns: EventColumns, event: Event) -> Tip:
    """Append an event and what it means for ``batches``; the entries of a plan must follow at once."""
    numbered = (tip.seq + 1, *columns)
    found = event_hash(tip.hash, numbered)
    connection.exec_driver_sql(_insert_sql(tables.events), (*numbered, found))
    _project(connection, columns.run_id, event, tip.entry + 1)
    return replace(tip, seq=tip.seq + 1, hash=found)


def insert_entries(connection: Connection, tip: Tip, rows: Sequence[EntryRow]) -> Tip:
    """Append the entries of the plan that was inserted last."""
    if rows:
        numbered = [(number, *row) for number, row in enumerate(rows, tip.entry + 1)]
        connection.exec_driver_sql(_insert_sql(tables.entries), numbered)
    return replace(tip, entry=tip.entry + len(rows))


def _project(connection: Connection, run_id: str, event: Event, first_entry: int) -> None:
    if isinstance(event, Planned):
        values = (
            *(run_id, event.batch, event.phase, event.kind, event.operation, event.shape, event.rows, event.digest),
            *(event.writes, state.planned_status(event), first_entry),
        )
        connection.exec_driver_sql(_insert_sql(tables.batches), values)
    table = tables.batches
    for number, status in state.outcomes(event):
        named = update(table).where(table.c.run_id == run_id, table.c.batch == number).values(status=status)
        if connection.execute(named).rowcount != 1:
            msg = f"run {run_id} never planned a batch {number}"
            raise ValueError(msg)


_SQL: dict[str, str] = {}


def _insert_sql(table: Table) -> str:
    """Return the statement for a whole row, which the driver takes as a tuple: a third of the cost of dictionaries."""
    if table.name not in _SQL:
        names = ", ".join(column.name for column in table.c)
        _SQL[table.name] = f"INSERT INTO {table.name} ({names}) VALUES ({', '.join('?' * len(table.c))})"
    return _SQL[table.name]

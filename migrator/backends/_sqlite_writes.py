"""What happens inside one SQLite transaction: guards, rows, marker, tables. Works on a connection that is given."""

from __future__ import annotations

import contextlib
import os
import re
import sqlite3
from operator import itemgetter
from typing import TYPE_CHECKING

from migrator.backends import _sqlite_file as files
from migrator.backends import _sqlite_reads as reads
from migrator.backends import _sqlite_schema as schema
from migrator.backends.base import Durability, Marker, SchemaStep, WriteOutcome
from migrator.errors import OutcomeUnknown, StoreRefused, TargetFull

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from migrator.backends.base import Batch, Raw, Row
    from migrator.model import Value
    from migrator.models import Layout

_ECHO = "_memmig_echo"
_THERE_ALREADY = frozenset({"SQLITE_CONSTRAINT_PRIMARYKEY", "SQLITE_CONSTRAINT_UNIQUE"})


class Refused(Exception):
    """Leaves a transaction without a trace; ``outcome`` says why."""

    def __init__(self, outcome: WriteOutcome) -> None:
        super().__init__(outcome.value)
        self.outcome = outcome


class Echoed(Exception):
    """Carries what was read back out of a transaction that is not to be committed."""

    def __init__(self, raw: Raw) -> None:
        super().__init__("echoed")
        self.raw = raw


@contextlib.contextmanager
def transaction(connection: sqlite3.Connection, path: Path) -> Iterator[None]:
    """Run a block under BEGIN IMMEDIATE and commit it; any exception rolls back and goes on.

    A driver's error becomes TargetFull or StoreRefused (nothing stays). Where a COMMIT failed and SQLite no longer says
    that the transaction is open, it may have landed: TargetFull for what the disk refused, else OutcomeUnknown.
    """
    committing = False
    try:
        connection.execute("BEGIN IMMEDIATE")
        yield
        committing = True
        connection.execute("COMMIT")
    except sqlite3.Error as error:
        known = files.translated(error, path, writing=True)
        if committing and not connection.in_transaction:
            message = f"{path}: it is not known whether the commit landed ({error})"
            if isinstance(known, TargetFull):
                # There is no server that could come back: the run ends, and its resume reads the marker.
                raise TargetFull(message, hint=known.hint) from error
            raise OutcomeUnknown(message, hint="resume the run") from error
        _roll_back(connection)
        raise known from error
    except BaseException:
        _roll_back(connection)
        raise


def _roll_back(connection: sqlite3.Connection) -> None:
    # SQLite rolls back by itself after some errors (disk full, I/O).
    if connection.in_transaction:
        with contextlib.suppress(sqlite3.Error):
            connection.execute("ROLLBACK")


# --- the marker -----------------------------------------------------------------------------------------------------


def _cells(marker: Marker) -> tuple[Value, ...]:
    return tuple(getattr(marker, name) for name in schema.MARKER_COLUMNS)


def swap_marker(connection: sqlite3.Connection, expected: Marker | None, new: Marker | None) -> bool:
    """Compare all markers with the expected one and put the new one in its place."""
    there = reads.markers(connection)
    if there != ([] if expected is None else [expected]) and (new is not None or expected not in there):
        return False
    if expected is not None and len(there) > 1:
        # Another's stands beside it, put there by a program that does not know this table: only ours goes.
        named = " AND ".join(f"{name} = ?" for name in schema.MARKER_COLUMNS)
        connection.execute(f"DELETE FROM {schema.MARKER_TABLE} WHERE {named}", _cells(expected))
        return True
    connection.execute(f"DROP TABLE IF EXISTS {schema.MARKER_TABLE}")
    if new is not None:
        connection.execute(schema.CREATE_MARKER)
        marks = ",".join("?" * len(schema.MARKER_COLUMNS))
        connection.execute(f"INSERT INTO {schema.MARKER_TABLE} VALUES ({marks})", _cells(new))
    return True


# --- batches --------------------------------------------------------------------------------------------------------


def apply(connection: sqlite3.Connection, layout: Layout, batch: Batch, expected: Marker, *, label: str | None) -> None:
    """Check the marker and every guard, write all rows, move the marker. Raises Refused: nothing stays.

    ``label``: what the ends of an edge must have; None = whatever they have.
    """
    if reads.markers(connection) != [expected]:
        raise Refused(WriteOutcome.MARKER_REFUSED)
    if not _guards_hold(connection, layout, batch, label):
        raise Refused(WriteOutcome.ROWS_REFUSED)
    table, columns = schema.TABLES[layout][batch.kind], schema.names(layout, batch.kind)
    if batch.operation == "create":
        marks = ",".join("?" * len(columns))
        take = itemgetter(*columns)
        cells = [take(row.new) for row in batch.rows if row.new is not None]
        try:
            connection.executemany(f"INSERT OR ABORT INTO {table} ({', '.join(columns)}) VALUES ({marks})", cells)
        except sqlite3.IntegrityError as error:
            if error.sqlite_errorname in _THERE_ALREADY:
                raise Refused(WriteOutcome.ROWS_REFUSED) from error
            raise
    elif batch.operation == "delete":
        connection.executemany(f"DELETE FROM {table} WHERE id = ?", [(row.id,) for row in batch.rows])
    else:
        for row in batch.rows:
            _update(connection, table, row)
    moved = (batch.number, batch.digest)
    connection.execute(f"UPDATE {schema.MARKER_TABLE} SET batch = ?, digest = ?", moved)


def _update(connection: sqlite3.Connection, table: str, row: Row) -> None:
    old, new = row.expected or {}, row.new or {}
    changed = [name for name in new if not _same_cell(old[name], new[name])]
    if changed:
        sets = ", ".join(f"{name} = ?" for name in changed)
        connection.execute(f"UPDATE {table} SET {sets} WHERE id = ?", (*(new[name] for name in changed), row.id))


def _same_cell(one: Value, other: Value) -> bool:
    return type(one) is type(other) and bool(one == other)


def _same_row(one: Raw, other: Raw) -> bool:
    return one == other and all(type(value) is type(other[name]) for name, value in one.items())


def _guards_hold(connection: sqlite3.Connection, layout: Layout, batch: Batch, label: str | None) -> bool:
    """Tell whether every row of a batch may be written: prior state, ends, and no edge at what is deleted."""
    tables, kind = schema.TABLES[layout], batch.kind
    ids = [row.id for row in batch.rows]
    if len(set(ids)) != len(ids) or any(row.new is not None and row.new["id"] != row.id for row in batch.rows):
        return False
    if batch.operation == "create":
        if (
            not _refuses_twins(connection, tables[kind])
            and next(reads.select(connection, "id", tables[kind], "id", ids), None) is not None
        ):
            return False
    else:
        there = reads.rows(connection, tables[kind], schema.names(layout, kind), ids)
        for row in batch.rows:
            found = there.get(row.id)
            if found is None or row.expected is None or not _same_row(found, row.expected):
                return False
    if kind == "memory" and batch.operation == "delete":
        return not reads.attached(connection, ids, 1)
    if kind == "relationship" and batch.operation in {"create", "replace"}:
        ends = {row.new[end] for row in batch.rows if row.new is not None for end in ("from_id", "to_id")}
        # A row of another label is somebody else's, whatever its id. Layout 0.13 has memories only.
        scoped = label is not None and layout == "0.12"
        rows = reads.select(connection, "label" if scoped else "1", tables["memory"], "id", ends)
        return len([one for (one,) in rows if not scoped or one == label]) == len(ends)
    return True


def _refuses_twins(connection: sqlite3.Connection, table: str) -> bool:
    """Tell whether the insertion itself refuses an id that is there, which saves half of a batch's time.

    So it is where the id is the table's key; OR ABORT is stronger than the key's own conflict clause, not so a trigger.
    """
    triggers = "SELECT 1 FROM sqlite_master WHERE type = 'trigger' AND tbl_name = ? COLLATE NOCASE"
    if connection.execute(triggers, (table,)).fetchone():
        return False
    return any(column.key and column.name == "id" for column in schema.table_columns(connection, table))


def echo(connection: sqlite3.Connection, table: str, columns: Sequence[str], raw: Raw, marker: Marker) -> None:
    """Raise Echoed with what a table of the same definition makes of a row; Refused where the marker is not ours."""
    if reads.markers(connection) != [marker]:
        raise Refused(WriteOutcome.MARKER_REFUSED)
    sql = connection.execute("SELECT sql FROM sqlite_master WHERE type = 'table' AND name = ?", (table,)).fetchone()[0]
    connection.execute(re.sub(r"^CREATE TABLE\s+(\"[^\"]+\"|\S+?)\s*\(", f"CREATE TEMP TABLE {_ECHO} (", sql))
    marks = ",".join("?" * len(columns))
    connection.execute(f"INSERT INTO temp.{_ECHO} ({', '.join(columns)}) VALUES ({marks})", itemgetter(*columns)(raw))
    raise Echoed(next(iter(reads.rows(connection, f"temp.{_ECHO}", columns, [raw["id"]]).values())))


def barrier(connection: sqlite3.Connection, path: Path) -> Durability:
    """Move a WAL into the file, and synchronise the folder so that the file's own name survives a power cut."""
    mode = connection.execute("PRAGMA journal_mode").fetchone()[0]
    evidence: dict[str, Value] = {"journal_mode": mode, "synchronous": "FULL"}
    if mode == "wal":
        busy, frames, moved = connection.execute("PRAGMA wal_checkpoint(FULL)").fetchone()
        # A reader may keep the checkpoint from ending; each commit in the WAL was synchronised all the same.
        evidence |= {"checkpoint": "FULL", "busy": busy, "frames": frames, "moved": moved}
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    return Durability(durable=mode in {"wal", "delete", "truncate", "persist"}, evidence=evidence)


# --- schema ---------------------------------------------------------------------------------------------------------


def table_names(connection: sqlite3.Connection) -> set[str]:
    """Return all tables but SQLite's own; the marker's is among them."""
    sql = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'"
    return {name for (name,) in connection.execute(sql)}


def file_steps(path: Path) -> list[SchemaStep]:
    """Return the step that makes the file; one without a byte that stood there is emptied again, not removed."""
    if not path.exists():
        return [SchemaStep(name="file", kind="file", create="", drop="unlink")]
    if not path.stat().st_size:
        return [SchemaStep(name="file", kind="file", create="", drop="truncate")]
    return []


def make_file(path: Path) -> bool:
    """Make the file with no bytes; False where it has some already."""
    try:
        with contextlib.suppress(FileExistsError):
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o644))
        return path.stat().st_size == 0
    except OSError as error:
        msg = f"{path} cannot be made: {error.strerror}"
        raise StoreRefused(msg, hint="check the folder") from error


def create(connection: sqlite3.Connection, steps: Sequence[SchemaStep]) -> list[SchemaStep]:
    """Create the tables and indexes that are not there; return those."""
    there = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
    made = [step for step in steps if step.kind != "file" and step.name not in there]
    for step in made:
        connection.execute(step.create)
    return made


def drop(connection: sqlite3.Connection, steps: Sequence[SchemaStep]) -> None:
    """Drop tables and indexes, newest first: all of them, or none where one of the tables has rows."""
    there = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
    mine = [step for step in steps if step.kind != "file" and step.name in there]
    data = {name for layout in schema.TABLES.values() for name in layout.values()}
    for step in mine:
        if step.name in data and connection.execute(f"SELECT EXISTS (SELECT 1 FROM {step.name})").fetchone()[0]:
            return
    for step in reversed(mine):
        connection.execute(f"DROP {step.kind.upper()} IF EXISTS {step.name}")


def drop_file(connection: sqlite3.Connection, path: Path, step: SchemaStep) -> bool:
    """Remove a file in which no table is left, while nobody can make one; False where it stays. Close it then.

    A file that another process has locked stays, too.
    """
    if table_names(connection):
        return False
    try:
        # Or closing the connection would bring what is in the WAL back into a file that was emptied.
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.execute("BEGIN EXCLUSIVE")
        empty = not table_names(connection)
        if empty:
            remove_file(path, step)
    except sqlite3.OperationalError:
        return False
    finally:
        _roll_back(connection)
    return empty


def remove_file(path: Path, step: SchemaStep) -> None:
    """Take a file without tables away, with what SQLite left beside it; or leave it with no bytes, as it was found.

    TargetFull where the system refuses; repeatable, as the file itself goes last.
    """
    try:
        for suffix in ("-wal", "-shm", "-journal"):
            files.beside(path, suffix).unlink(missing_ok=True)
        if step.drop == "truncate":
            with contextlib.suppress(FileNotFoundError):
                os.truncate(path, 0)
        else:
            path.unlink(missing_ok=True)
    except OSError as error:
        message = f"{path} cannot be removed: {error.strerror}"
        raise TargetFull(message, hint="check its folder and its disk") from error

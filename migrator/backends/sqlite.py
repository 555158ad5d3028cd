"""memorygraph's SQLite files, both layouts, as source and as target."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
from bisect import bisect_left
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from migrator.backends import _reader as ahead
from migrator.backends import _sqlite_file as files
from migrator.backends import _sqlite_reads as reads
from migrator.backends import _sqlite_schema as schema
from migrator.backends import _sqlite_since as since
from migrator.backends import _sqlite_writes as writes
from migrator.backends._sqlite_connections import Connections
from migrator.backends._sqlite_forms import Form012, Form013
from migrator.backends._sqlite_layout import NEWEST, Detected, detect
from migrator.backends.base import (
    ATTACHED,
    Durability,
    Inventory,
    Marker,
    SchemaStep,
    StoreInfo,
    WriteOutcome,
    digested,
)
from migrator.model import KINDS, Corrupt, digest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from migrator.backends.base import Access, Batch, Digested, Form, Raw, Wanted
    from migrator.model import Kind, Record, Relationship
    from migrator.models import BackendConfig, Role

_FIRST_ROWID = -(1 << 63)


class SqliteBackend:
    """A SQLite file. ``role`` says whether a missing or empty file is an error (``from``) or a store to make (``to``).

    Reading leaves no trace (see ``_sqlite_file``); a target is written with ``synchronous=FULL``, its journal mode as
    found, and foreign keys not enforced: both layouts cascade, which would delete what others made.
    """

    batch_size = 3_000
    batch_bytes = 0
    overlaps = False  #: connections stay in their thread
    snapshots = True

    form: Form

    def __init__(self, config: BackendConfig, *, role: Role, private: bool = False) -> None:
        """Make it; ``private``: the file is a copy of our own, which nobody else opens."""
        config.validate()
        self._config = config
        self._role = role
        self._path = Path(os.path.realpath(Path(config.path or "").expanduser()))
        self._found = Detected(layout=config.layout or NEWEST, memories=False, relationships=False)
        self._open = Connections(self._path, held=role == "from" and not private)
        self._others: tuple[sqlite3.Connection, int] | None = None
        self._ahead: ahead.Reader | None = None
        self._digests_ahead = True
        self._wanted: Wanted | None = None
        self._chosen: dict[Kind, list[int]] = {}
        self._file_step: SchemaStep | None = None
        self.form = self._rows = self._new_form()

    # --- opening ----------------------------------------------------------------------------------------------------

    def open(self, access: Access) -> StoreInfo:
        """Look at the file; for ``write`` also take and give back its write lock. Makes nothing."""
        self.close()
        exists = files.examine(self._path, self._role)
        if access != "read":
            files.refuse_unwritable(self._path)
        self._found = Detected(layout=self._config.layout or NEWEST, memories=False, relationships=False)
        if exists:
            connection = self._open.connect_writer() if access == "write" else self._open.reader()
            with self._open.translating(writing=False):
                self._found = detect(connection, self._path, self._role, self._config.layout)
            self._open.refuse_truncated()
        self.form = self._rows = self._new_form()
        return StoreInfo(
            kind="sqlite",
            place=str(self._path),
            version=f"SQLite {sqlite3.sqlite_version}",
            layout=self._found.layout,
            exists=exists,
            durability="every commit is synchronised to disk",
            warnings=self._found.warnings,
        )

    def _new_form(self) -> Form012 | Form013:
        label = self._config.label
        if self._found.layout == "0.12":
            return Form012(label, all_labels=self._config.all_labels)
        required: dict[Kind, frozenset[str]] = {}
        if self._role == "to" and self._found.memories:
            connection = self._open.reader()
            for kind in KINDS:
                there = schema.table_columns(connection, schema.TABLES["0.13"][kind])
                required[kind] = frozenset(column.name for column in there if column.required)
        return Form013(label, required=required)

    def narrow(self, wanted: Wanted | None) -> None:
        """Leave out by the query what is surely not wanted; nothing that is read so fast needs a copy."""
        self._wanted = wanted
        self._open.brief = wanted is not None

    def release_snapshot(self) -> None:
        """End the read snapshot, if any."""
        self._open.release_snapshot()

    def close(self) -> None:
        """Close every connection and remove temporary copies."""
        if self._ahead is not None:
            self._ahead.close()
            self._ahead = None
        self._open.close()

    def identity(self) -> str:
        """Return a constant: a file has no running server that could lose what it acknowledged."""
        return "sqlite"

    def _table(self, kind: Kind) -> str:
        return schema.TABLES[self._found.layout][kind]

    def _has(self, kind: Kind) -> bool:
        return self._found.memories if kind == "memory" else self._found.relationships

    # --- reading ----------------------------------------------------------------------------------------------------

    def inventory(self) -> Inventory:
        """Count rows by SQL, in the snapshot of ``scan``; a target's is released at once, as its clients would wait."""
        if not self._found.memories:
            return Inventory(memories=0, relationships=0)
        with self._open.translating(writing=False):
            connection = self._open.snapshot()
            label = self._config.label if self._other_nodes(connection) else None
            edges = self._found.relationships
            found = reads.inventory(connection, self._table("memory"), relationships=edges, label=label)
        self._open.believe()
        if self._role == "to":
            self._open.release_snapshot()
        return found

    def _other_nodes(self, connection: sqlite3.Connection) -> int:
        """Count the nodes out of the scope, once per snapshot."""
        if self._found.layout == "0.13" or self._config.all_labels:
            return 0
        if self._others is None or self._others[0] is not connection:
            sql = "SELECT (SELECT count(*) FROM nodes) - (SELECT count(*) FROM nodes WHERE label = ?)"
            self._others = connection, int(connection.execute(sql, (self._config.label,)).fetchone()[0])
        return self._others[1]

    def read_ahead(self, *, digests: bool) -> None:
        """Have a second process read what ``scan`` yields from now on, where the source is large and at rest."""
        self._digests_ahead = digests
        if self._ahead is not None:
            return
        found = self.inventory()
        if found.memories + found.relationships < ahead.WORTH_IT or not self._open.steady():
            return
        with contextlib.suppress(ahead.ReaderLostError):
            self._ahead = ahead.Reader(
                partial(SqliteBackend, replace(self._config, path=self._open.path), role="from", private=True)
            )

    def shows(self, signature: object) -> bool:
        """Take a new snapshot, and tell whether it shows what a steady reading with this signature shows."""
        self.release_snapshot()
        self.inventory()
        return self._open.steady() and self._open.signature == signature

    def scan(self, kind: Kind, size: int) -> Iterator[list[Record | Corrupt]]:
        """Yield pages in the order of ``rowid``, found by key, so that no page costs more than another."""
        return self._pages(kind, size, lambda reader, at: reader.scan(kind, at, digests=self._digests_ahead), list)

    def scan_digests(self, kind: Kind, size: int) -> Iterator[list[Digested]]:
        """Yield digests; a second process keeps the records to itself, as handing them over costs half of the time."""
        return self._pages(kind, size, lambda reader, at: reader.scan_digests(kind, at), digested)

    def _pages[Item](
        self,
        kind: Kind,
        size: int,
        ahead_of: Callable[[ahead.Reader, files.Signature | None], Iterator[list[Item]]],
        of: Callable[[list[Record | Corrupt]], list[Item]],
    ) -> Iterator[list[Item]]:
        done = 0
        if self._ahead is not None:
            for page in self._scan_ahead(self._ahead, ahead_of):
                done += len(page)
                yield page
            if self._ahead is not None:
                return
        for page in map(of, self._scan_here(kind, size)):
            fresh = page[done:]
            done = max(done - len(page), 0)
            if fresh:
                yield fresh

    def _scan_ahead[Item](
        self,
        reader: ahead.Reader,
        ahead_of: Callable[[ahead.Reader, files.Signature | None], Iterator[list[Item]]],
    ) -> Iterator[list[Item]]:
        """Yield what the second process reads; on its failure, or where the scan is given up, end it."""
        complete = False
        with self._open.translating(writing=False):
            self._open.snapshot()
        try:
            if self._open.steady():
                for page in ahead_of(reader, self._open.signature):
                    self._open.believe()
                    with self._open.translating(writing=False):
                        self._open.snapshot()
                    yield page
                complete = True
        except ahead.ReaderLostError:
            pass
        finally:
            if not complete:
                reader.close()
                self._ahead = None

    def _scan_here(self, kind: Kind, size: int) -> Iterator[list[Record | Corrupt]]:
        last = _FIRST_ROWID
        if self._wanted is not None and self._has(kind):
            with self._open.translating(writing=False):
                connection = self._open.snapshot()
                scope = (reads.scope(kind), self._config.label) if self._other_nodes(connection) else None
                self._chosen[kind] = since.rowids(connection, self._found.layout, kind, self._wanted, scope)
        while self._has(kind):
            with self._open.translating(writing=False):
                page, last = self._page(kind, size, last)
            if not page:
                return
            yield page

    def _page(self, kind: Kind, size: int, last: int) -> tuple[list[Record | Corrupt], int]:
        connection = self._open.snapshot()
        columns = ", ".join(f"r.{name}" for name in self._rows.columns[kind])
        scoped = bool(self._other_nodes(connection))
        # Without NOT INDEXED the index on label would be walked, and every row looked up.
        where = f"r.rowid {'>=' if last == _FIRST_ROWID else '>'} ?" + (f" AND {reads.scope(kind)}" if scoped else "")
        arguments = [last, *([self._config.label] if scoped else [])]
        if self._wanted is not None:
            chosen = self._chosen[kind]
            start = bisect_left(chosen, last if last == _FIRST_ROWID else last + 1)
            where += " AND r.rowid IN (SELECT value FROM json_each(?))"
            arguments.append(json.dumps(chosen[start : start + size]))
        arguments.append(size)
        sql = f"FROM {self._table(kind)} AS r NOT INDEXED WHERE {where} ORDER BY r.rowid LIMIT ?"
        try:
            rows = connection.execute(f"SELECT {columns}, r.rowid {sql}", arguments)
            found = reads.page(self._rows, kind, rows)
        except sqlite3.OperationalError as error:
            if "decode" not in str(error):
                raise
            found = reads.page(
                self._rows, kind, reads.carefully(connection, self._rows.columns[kind], sql, tuple(arguments))
            )
        self._open.believe()
        self._open.snapshot()
        return found if found[0] else (found[0], last)

    def lookup(self, kind: Kind, wanted: Mapping[str, Relationship | None]) -> dict[str, Raw]:
        """Return the rows of these ids by primary key; the hints are not needed."""
        if not self._has(kind):
            return {}
        with self._open.translating(writing=False):
            return reads.rows(self._open.reader(), self._table(kind), self._rows.columns[kind], wanted)

    def lookup_digests(self, kind: Kind, wanted: Mapping[str, Relationship | None]) -> dict[str, str]:
        """Decode each row as it comes, without a stored form in between."""
        if not self._has(kind):
            return {}
        read = self._rows.reader(kind)
        with self._open.translating(writing=False):
            rows = reads.cells(self._open.reader(), self._table(kind), self._rows.columns[kind], wanted)
        return {record.id: digest(record) for record in map(read, rows) if not isinstance(record, Corrupt)}

    def attached(self, memory_ids: Sequence[str], shown: int = ATTACHED) -> dict[str, list[str]]:
        """Return the edges at these memories, found by the indexes on both ends."""
        if not self._found.relationships:
            return {}
        with self._open.translating(writing=False):
            return reads.attached(self._open.reader(), memory_ids, shown)

    def markers(self) -> list[Marker]:
        """Return the rows of ``_memmig``."""
        if self._open.writer is None and not files.examine(self._path, self._role):
            return []
        with self._open.translating(writing=False):
            return reads.markers(self._open.reader())

    # --- writing ----------------------------------------------------------------------------------------------------

    def swap_marker(self, expected: Marker | None, new: Marker | None) -> bool:
        """Compare and set the marker's one row; its table comes and goes with it."""
        if self._open.writer is None and expected is None and new is None:
            return True
        if self._open.writer is None and expected is not None:
            return False
        with self._open.transaction() as connection:
            swapped = writes.swap_marker(connection, expected, new)
        if swapped and new is None and self._file_step is not None:
            self._drop_file(self._file_step)
        return swapped

    def write(self, batch: Batch, expected: Marker) -> WriteOutcome:
        """Apply a batch under BEGIN IMMEDIATE: marker, guards, rows, marker."""
        if self._open.writer is None or not self._has(batch.kind):
            return WriteOutcome.MARKER_REFUSED
        try:
            with self._open.transaction() as connection:
                label = None if self._config.all_labels else self._config.label
                writes.apply(connection, self._found.layout, batch, expected, label=label)
        except writes.Refused as refused:
            return refused.outcome
        return WriteOutcome.APPLIED

    def echo(self, kind: Kind, raw: Raw, marker: Marker) -> Raw | None:
        """Write the row into an empty table of the same definition, read it, and roll back."""
        if self._open.writer is None:
            return None
        try:
            with self._open.transaction() as connection:
                writes.echo(connection, self._table(kind), self._rows.columns[kind], raw, marker)
        except writes.Refused:
            return None
        except writes.Echoed as echoed:
            return echoed.raw
        return None

    def barrier(self) -> Durability:
        """Checkpoint a WAL; without one every commit was synchronous already. The folder is synchronised, too."""
        if self._open.writer is None:
            return Durability(durable=False, evidence={"reason": "the file is not open for writing"})
        try:
            return writes.barrier(self._open.writer, self._path)
        except (sqlite3.Error, OSError) as error:
            return Durability(durable=False, evidence={"reason": str(error)})

    # --- schema -----------------------------------------------------------------------------------------------------

    def missing_schema(self) -> list[SchemaStep]:
        """Return all of the layout, the file included, where it is absent; nothing where a layout is there."""
        if self._found.memories:
            return []
        return [*writes.file_steps(self._path), *schema.steps(self._found.layout)]

    def apply_schema(self, steps: Sequence[SchemaStep]) -> list[SchemaStep]:
        """Make the file, and all tables and indexes in one transaction."""
        made = [step for step in steps if step.kind == "file" and writes.make_file(self._path)]
        if self._open.writer is None:
            self._open.connect_writer()
        with self._open.transaction() as connection:
            made += writes.create(connection, steps)
        with self._open.translating(writing=False):
            self._found = detect(self._open.reader(), self._path, self._role, self._found.layout)
        self.form = self._rows = self._new_form()
        return made

    def drop_schema(self, steps: Sequence[SchemaStep]) -> None:
        """Drop what is empty; a file goes at once, or with the marker where that is all it still holds."""
        writer = self._open.writer
        if writer is None:
            if not self._path.exists() or all(step.kind != "file" for step in steps):
                return
            # Made, and no table in it yet when the run ended.
            writer = self._open.connect_writer()
        with self._open.transaction() as connection:
            writes.drop(connection, steps)
            self._found = replace(self._found, memories=False, relationships=False)
        tables = writes.table_names(writer)
        kept = {kind: schema.TABLES[self._found.layout][kind] in tables for kind in KINDS}
        self._found = replace(self._found, memories=kept["memory"], relationships=kept["relationship"])
        self._file_step = next((step for step in steps if step.kind == "file"), None)
        if self._file_step is not None:
            self._drop_file(self._file_step)

    def _drop_file(self, step: SchemaStep) -> None:
        self.release_snapshot()
        if self._open.writer is not None and writes.drop_file(self._open.writer, self._path, step):
            self.close()
            self._file_step = None

"""What earlier runs know of an id: the base of a pair, who else holds it, what a run has decided already.

Each question about ids is answered from a temporary table that one pass over the entries fills, sorted by id, so memory
stays bounded and a journal without earlier runs costs nothing.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import bindparam, text

from journal import reader
from journal.chain import StoredEntry

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from journal.engine import Database
    from journal.events import Phase

#: Ids in one query; SQLite's default allows 999 parameters in old versions.
_IDS = 500
#: Ids from which on sorting the whole journal is quicker than reading it for these alone.
_FEW = 20_000

_EQUAL = "('created', 'updated', 'unchanged')"
_OPEN = "('conflict', 'quarantined', 'retained', 'changing')"
_WRITTEN = "('created', 'updated', 'deleted', 'restored')"

# One row per id: where its facts stand in ``entries``. Rows that a rollback retained keep their id open; that others
# changed the target (``foreign``) settles nothing.
# What later runs found equal to a record that was taken back after that says nothing of what stands there now.
_FILL_BASES = """
INSERT INTO {table} WITH undone AS MATERIALIZED (
    SELECT e.kind, e.entity_id, e.seq, (SELECT min(first_entry) FROM batches WHERE run_id = e.run_id) AS since
    FROM entries e JOIN batches b ON b.run_id = e.run_id AND b.batch = e.batch
    WHERE e.run_id IN :runs AND e.phase = 'rollback' AND e.action IN ('deleted', 'restored') AND b.status = 'applied'
)
SELECT kind, entity_id,
    max(CASE WHEN phase = 'forward' AND action IN {equal} AND after_digest IS NOT NULL THEN seq ELSE 0 END),
    max(CASE WHEN phase = 'forward' AND action = 'created' THEN seq ELSE 0 END),
    max(CASE WHEN phase = 'forward' AND action = 'deleted' THEN seq ELSE 0 END),
    max(CASE WHEN action <> 'foreign' THEN seq ELSE 0 END), max(seq)
FROM (
    SELECT seq, phase, kind, entity_id, action, after_digest FROM applied_entries AS a WHERE run_id IN :runs
    AND NOT (action IN {equal} AND EXISTS (
        SELECT 1 FROM undone u
        WHERE u.kind = a.kind AND u.entity_id = a.entity_id AND a.seq > u.since AND a.seq < u.seq
    ))
    UNION ALL
    SELECT e.seq, e.phase, e.kind, e.entity_id, e.action, e.after_digest
    FROM entries e JOIN batches b ON b.run_id = e.run_id AND b.batch = e.batch
    WHERE e.run_id IN :runs AND e.phase = 'rollback' AND e.action = 'retained' AND b.status = 'applied'
) AS standing
{among} GROUP BY kind, entity_id
"""
# Of few ids in a long journal only their own rows are worth sorting.
_AMONG = "WHERE entity_id IN (SELECT value FROM json_each(:among))"
_GET_OPEN = """
SELECT t.kind, t.entity_id FROM {table} t JOIN entries l ON l.seq = t.open_seq WHERE l.action IN {open}
"""
_PERHAPS_OPEN = "SELECT DISTINCT entity_id FROM entries WHERE run_id IN :runs AND action IN {open}"
# At least as many as are kept: without sorting, and with an id counted once for each of its rows.
_COUNT_ROWS = "SELECT kind, count(*) FROM entries WHERE run_id IN :runs AND action IN {equal} GROUP BY kind"
_COUNT_KEPT = """
SELECT t.kind, count(*) FROM {table} t JOIN entries l ON l.seq = t.open_seq
WHERE t.equal_seq > t.deleted_seq AND NOT (l.action = 'conflict' AND l.before_digest IS NULL) GROUP BY t.kind
"""
#: The columns of that table, in the order in which they are filled.
_BASE_SEQS = ("equal_seq", "created_seq", "deleted_seq", "open_seq", "last_seq")
_PAGE_SEQS = """
SELECT * FROM {table} WHERE (kind, entity_id) > (:kind, :after) ORDER BY kind, entity_id LIMIT :size
"""
_GET_BASES = """
SELECT t.entity_id, e.after_digest, t.created_seq > t.deleted_seq, e.run_id,
    CASE WHEN l.action IN {open} THEN l.action END, e.bumped
FROM {table} t JOIN entries e ON e.seq = t.equal_seq JOIN entries l ON l.seq = t.open_seq
WHERE t.kind = :kind AND t.equal_seq > t.deleted_seq AND t.entity_id IN :ids
"""
_PAGE_BASES = """
SELECT entity_id, created_seq > deleted_seq FROM {table}
WHERE kind = :kind AND equal_seq > deleted_seq AND entity_id >= :after ORDER BY entity_id LIMIT :size
"""
_FILL_DECIDED = """
INSERT INTO {table} SELECT kind, entity_id, max(seq) FROM applied_entries
WHERE run_id = :run AND action <> 'changing' GROUP BY kind, entity_id
"""
_FILL_UNDONE = """
INSERT INTO {table} SELECT e.kind, e.entity_id, max(e.seq) FROM entries e
JOIN batches b ON b.run_id = e.run_id AND b.batch = e.batch
WHERE e.run_id = :run AND e.phase = 'rollback' AND b.status = 'applied'
AND e.action IN ('deleted', 'restored', 'unchanged') GROUP BY e.kind, e.entity_id
"""
_FILL_REPEATED = """
INSERT INTO {table} SELECT e.kind, e.entity_id, group_concat(e.seq) FROM entries e
JOIN batches b ON b.run_id = e.run_id AND b.batch = e.batch
WHERE e.run_id = :run AND e.phase = 'forward' AND b.status IN ('planned', 'applied', 'void')
GROUP BY e.kind, e.entity_id HAVING count(*) > 1
"""
_GET_REPEATED = "SELECT t.seqs FROM {table} t WHERE t.kind = :kind AND t.entity_id IN :ids"
_GET_DECIDED = """
SELECT e.* FROM {table} t JOIN entries e ON e.seq = t.last_seq
WHERE t.kind = :kind AND t.entity_id IN :ids
"""
_PAGE_DECIDED = """
SELECT e.* FROM {table} t JOIN entries e ON e.seq = t.last_seq
WHERE t.kind = :kind AND t.entity_id >= :after ORDER BY t.entity_id LIMIT :size
"""
# The rows that a rollback of the run would take back: all but those that are proven not to be in the target.
_LATER_WRITERS = """
SELECT DISTINCT a.run_id FROM applied_entries a JOIN batches b ON b.run_id = a.run_id AND b.batch = a.batch
WHERE b.writes AND a.run_id IN :later AND a.action IN {written} AND (a.kind, a.entity_id) IN (
    SELECT e.kind, e.entity_id FROM entries e
    JOIN batches w ON w.run_id = e.run_id AND w.batch = e.batch
    WHERE e.run_id = :run AND e.phase = 'forward' AND w.writes AND e.action IN {written}
    AND w.status IN ('planned', 'applied', 'void')
    AND (e.kind, e.entity_id) NOT IN (SELECT kind, entity_id FROM taken_back WHERE run_id = :run)
)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Base:
    """What a pair knows of an id."""

    digest: str  #: at which the pair last saw both sides equal
    created: bool  #: the pair created it in the target, and that was neither rolled back nor deleted
    run_id: str  #: of the row that says so
    open: str | None  #: conflict, quarantined, retained or changing, where that is what last became of the id
    bumped: dict[str, Any] | None = None  #: what reading a memory changes, as it was at the base


class _IdTable:
    """A temporary table keyed by (kind, entity_id), filled once; anew when the database was opened anew."""

    def __init__(self, database: Database, name: str, columns: str, fill: str, **parameters: Any) -> None:  # noqa: ANN401
        self._database = database
        self._name = name
        self._columns = columns
        self._fill = fill
        self._parameters = parameters
        self._among = ""
        self._generation = -1

    def limit(self, ids: Collection[str] | None) -> None:
        """Fill it anew before the next question: with the rows of these ids only, or with all."""
        self._among = "" if ids is None else _AMONG
        self._parameters.pop("among", None)
        if ids is not None:
            self._parameters["among"] = json.dumps(list(ids))
        self.refresh()

    def all(self, query: str, **names: str) -> list[Any]:
        """Return the rows of a query with ``{table}``."""
        self._build()
        return self._database.rows(text(query.format(table=self._name, **names)))

    def rows(self, query: str, kind: str, ids: Sequence[str], **names: str) -> Iterator[Any]:
        """Yield the rows of a query with ``{table}``, ``:kind`` and ``:ids`` for any number of ids."""
        statement = text(query.format(table=self._name, **names)).bindparams(bindparam("ids", expanding=True))
        for start in range(0, len(ids), _IDS):
            chunk = list(ids[start : start + _IDS])
            self._build()
            yield from self._database.rows(statement, {"kind": kind, "ids": chunk})

    def page(self, query: str, kind: str, after: str) -> list[Any]:
        """Return the next rows of a query with ``{table}``, ``:kind``, ``:after`` and ``:size``."""
        self._build()
        parameters = {"kind": kind, "after": after, "size": reader.PAGE_ENTRIES}
        return self._database.rows(text(query.format(table=self._name)), parameters)

    def refresh(self) -> None:
        """Fill it anew before the next question."""
        self._generation = -1

    def _build(self) -> None:
        if self._generation == self._database.generation:
            return
        fill = text(self._fill.format(table=self._name, equal=_EQUAL, among=self._among))
        for key, value in self._parameters.items():
            fill = fill.bindparams(bindparam(key, expanding=isinstance(value, list)))
        with self._database.transaction() as connection:
            connection.exec_driver_sql(f"DROP TABLE IF EXISTS {self._name}")
            connection.exec_driver_sql(
                f"CREATE TEMPORARY TABLE {self._name} (kind TEXT NOT NULL, entity_id TEXT NOT NULL, {self._columns}, "
                "PRIMARY KEY (kind, entity_id)) WITHOUT ROWID"
            )
            connection.execute(fill, self._parameters)
        self._generation = self._database.generation


class Bases:
    """The bases of one pair, as of when it was first asked."""

    def __init__(self, database: Database, name: str, runs: Sequence[str]) -> None:
        """Answer for these runs of the pair, by a temporary table of this name."""
        columns = ", ".join(f"{name} INTEGER" for name in _BASE_SEQS)
        self._database = database
        self._runs = list(runs)
        self._table = _IdTable(database, name, columns, _FILL_BASES, runs=self._runs)
        self._expected: set[str] | None = None

    def expect(self, ids: Collection[str]) -> None:
        """Hear that, of memories and relationships, only these ids and those of earlier calls will be asked for.

        Worth it where they are few: then a long journal is not sorted. Other ids are answered, too, at that cost.
        """
        known = self._expected or set()
        if len(known) + len(ids) > _FEW:
            self._expected = None
            self._table.limit(None)
        elif self._expected is None or not known.issuperset(ids):
            self._expected = known.union(ids)
            self._table.limit(self._expected)

    def open_ids(self) -> dict[str, set[str]]:
        """Return per kind the ids that are open: what last became of them is a conflict or the like."""
        found: dict[str, set[str]] = {"memory": set(), "relationship": set()}
        query = text(_PERHAPS_OPEN.format(open=_OPEN)).bindparams(bindparam("runs", expanding=True))
        perhaps = [row[0] for row in self._database.rows(query, {"runs": self._runs})] if self._runs else []
        if perhaps:
            self.expect(perhaps)
            for kind, entity_id in self._table.all(_GET_OPEN, open=_OPEN):
                found[kind].add(entity_id)
        return found

    def kept(self, enough: Mapping[str, int]) -> dict[str, int]:
        """Return {kind: how many ids the pair keeps in the target}, or more where there is ``enough`` of each for that.

        What was deleted in the target, as far as the pair knows, is left out.
        """
        if not self._runs:
            return {"memory": 0, "relationship": 0}
        query = text(_COUNT_ROWS.format(equal=_EQUAL)).bindparams(bindparam("runs", expanding=True))
        rows = {kind: int(number) for kind, number in self._database.rows(query, {"runs": self._runs})}
        if any(enough[kind] < number for kind, number in rows.items()):
            self._expected = None
            self._table.limit(None)
            rows = {kind: int(number) for kind, number in self._table.all(_COUNT_KEPT)}
        return {"memory": 0, "relationship": 0} | rows

    def get(self, kind: str, ids: Sequence[str]) -> dict[str, Base]:
        """Return the bases of these ids; those without one (never equal, or deleted since) are left out."""
        if not self._runs:
            return {}
        if self._expected is not None and not self._expected.issuperset(ids):
            self.expect(ids)
        return {
            entity_id: Base(
                digest=digest,
                created=bool(created),
                run_id=run_id,
                open=is_open,
                bumped=None if bumped is None else json.loads(bumped),
            )
            for entity_id, digest, created, run_id, is_open, bumped in self._table.rows(
                _GET_BASES, kind, ids, open=_OPEN
            )
        }

    def all(self, kind: str) -> Iterator[tuple[str, bool]]:
        """Yield (id, whether the pair created it) of every base of a kind, ordered by id, in bounded memory."""
        after = ""
        if self._expected is not None:
            self._expected = None
            self._table.limit(None)
        while self._runs and (page := self._table.page(_PAGE_BASES, kind, after)):
            yield from ((identity, bool(created)) for identity, created in page)
            after = page[-1][0] + "\0"

    def seqs(self) -> Iterator[int]:
        """Yield the places of all entries that the answers rest on; some twice."""
        kind = after = ""
        while self._runs and (page := self._table.page(_PAGE_SEQS, kind, after)):
            for _, _, *found in page:
                yield from filter(None, found)
            kind, after = page[-1][:2]


class Decided:
    """What one run has decided: its latest applied entry per id, as of when it was first asked or refreshed.

    ``phase`` rollback: what its rollbacks took back, or found undone.
    """

    def __init__(self, database: Database, name: str, run_id: str, phase: Phase) -> None:
        """Answer for this run, by a temporary table of this name."""
        fill = _FILL_DECIDED if phase == "forward" else _FILL_UNDONE
        self._table = _IdTable(database, name, "last_seq INTEGER", fill, run=run_id)

    def refresh(self) -> None:
        """See what was applied up to now."""
        self._table.refresh()

    def all(self, kind: str) -> Iterator[StoredEntry]:
        """Yield the entry of every id, ordered by id, in bounded memory."""
        after = ""
        while page := self._table.page(_PAGE_DECIDED, kind, after):
            yield from map(StoredEntry._make, page)
            # The first text that is greater.
            after = page[-1].entity_id + "\0"

    def get(self, kind: str, ids: Sequence[str]) -> dict[str, StoredEntry]:
        """Return {id: last applied entry} for those of these ids that the run decided."""
        entries = map(StoredEntry._make, self._table.rows(_GET_DECIDED, kind, ids))
        return {entry.entity_id: entry for entry in entries}


class Repeated:
    """The ids of which one run has more than one row that it may have to take back, or beside such a one."""

    def __init__(self, database: Database, name: str, run_id: str) -> None:
        """Answer for this run, by a temporary table of this name."""
        self._database = database
        self._table = _IdTable(database, name, "seqs TEXT", _FILL_REPEATED, run=run_id)

    def refresh(self) -> None:
        """See what was planned up to now."""
        self._table.refresh()

    def get(self, kind: str, ids: Sequence[str]) -> dict[str, list[StoredEntry]]:
        """Return {id: its rows, oldest first} for those of these ids that have several."""
        seqs = [int(seq) for row in self._table.rows(_GET_REPEATED, kind, ids) for seq in row[0].split(",")]
        found: dict[str, list[StoredEntry]] = {}
        for entry in reader.entries_at(self._database, seqs):
            found.setdefault(entry.entity_id, []).append(entry)
        return found


def later_writers(database: Database, run_id: str) -> list[str]:
    """Return the later runs on the same target that wrote an id that this run meant to write, oldest first."""
    opened = reader.openings(database)
    own = next((number for number, (name, _) in enumerate(opened) if name == run_id), None)
    if own is None:
        return []
    target = opened[own][1].target_store
    later = [name for name, run in opened[own + 1 :] if run.target_store == target]
    if not later:
        return []
    query = text(_LATER_WRITERS.format(written=_WRITTEN)).bindparams(bindparam("later", expanding=True))
    found = {row[0] for row in database.rows(query, {"later": later, "run": run_id})}
    return [name for name in later if name in found]

"""Stored forms of the two SQLite layouts: a row's columns, to and from the canonical form. Pure.

A ``Raw`` is the row as a dict of its columns. Layout 0.12 keeps the properties as one JSON text, layout 0.13 as columns
and a nested ``context`` object. What SQLite's column affinity would change without a word is a problem here.
"""

from __future__ import annotations

import json
from itertools import compress
from operator import itemgetter
from typing import TYPE_CHECKING, Any, ClassVar

from migrator.backends import _sqlite_cells as cells
from migrator.backends import _sqlite_json as text_json
from migrator.backends._sqlite_schema import columns, names
from migrator.backends.base import HIDDEN_BY_TAGS
from migrator.model import (
    DEFAULTS,
    KINDS,
    LIST_FIELDS,
    OBJECT_FIELDS,
    TIME_FIELDS,
    Corrupt,
    Memory,
    Problem,
    Relationship,
    canonical,
    kind_of,
    property_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from migrator.backends.base import Raw
    from migrator.model import Kind, Properties, Record, Value
    from migrator.models import Layout

#: One row's values in the order of the table's columns.
type Cells = tuple[Value, ...]

_ENDS = {":labels": "label", ":type": "rel_type", ":from": "from_id", ":to": "to_id"}
_INT64 = 1 << 63

_python_text = json.JSONEncoder(sort_keys=True).encode
_strict_python_text = json.JSONEncoder(sort_keys=True, allow_nan=False).encode
_javascript_text = json.JSONEncoder(sort_keys=True, allow_nan=False, ensure_ascii=False, separators=(",", ":")).encode
_javascript_ascii = json.JSONEncoder(sort_keys=True, allow_nan=False, separators=(",", ":")).encode


class _SqliteForm:
    """What both layouts share. ``decode`` of a row that is no record gives Corrupt with the row as it is."""

    layout: ClassVar[Layout]

    def __init__(self, label: str, *, all_labels: bool = False) -> None:
        self.label = label
        self.all_labels = all_labels
        self.columns: dict[Kind, tuple[str, ...]] = {kind: names(self.layout, kind) for kind in KINDS}
        self._cells: dict[Kind, Callable[[Raw], Cells]] = {kind: itemgetter(*self.columns[kind]) for kind in KINDS}
        self._readers: dict[Kind, Callable[[Cells], Record | Corrupt]] = {
            "memory": self._memory,
            "relationship": self._relationship,
        }

    def _memory(self, row: Cells) -> Memory | Corrupt:
        raise NotImplementedError

    def _relationship(self, row: Cells) -> Relationship | Corrupt:
        raise NotImplementedError

    def reader(self, kind: Kind) -> Callable[[Cells], Record | Corrupt]:
        """Return the function that decodes one row, given as values in the order of the columns."""
        return self._readers[kind]

    def cells(self, kind: Kind, raw: Raw) -> Cells:
        """Return a stored form's values in the order of the columns."""
        return self._cells[kind](raw)

    def decode(self, kind: Kind, raw: Raw) -> Record | Corrupt:
        """Return the canonical record of a row."""
        return self._readers[kind](self._cells[kind](raw))

    def _corrupt(self, kind: Kind, row: Cells, reason: str) -> Corrupt:
        raw = dict(zip(self.columns[kind], row, strict=True))
        name = row[0] if type(row[0]) is str else ""
        return Corrupt(kind=kind, id=name, reason=reason, raw=raw)

    def _wrong_cells(self, kind: Kind, row: Cells, required: Sequence[str]) -> Corrupt:
        for name, value in zip(self.columns[kind], row, strict=True):
            if type(value) is bytes or (name in required and type(value) is not str):
                what = "is empty (NULL)" if value is None else f"holds {type(value).__name__}, not text"
                return self._corrupt(kind, row, f"column {name} {what}, or is not valid UTF-8")
        return self._corrupt(kind, row, "not a row of this layout")

    def _shared_problems(self, kind: Kind, record: Record) -> list[Problem]:
        found = []
        if type(record) is Memory:
            texts = {"id": record.id}
            if len(record.labels) != 1:
                labels = ", ".join(record.labels) or "none"
                found.append(self._problem(kind, record, ":labels", f"SQLite holds exactly one label, not {labels}"))
            else:
                texts[":labels"] = record.labels[0]
                if record.labels[0] != self.label and not (self.all_labels and self.layout == "0.12"):
                    reason = f"only nodes with the label {self.label} can be stored here"
                    found.append(self._problem(kind, record, ":labels", reason))
        else:
            assert type(record) is Relationship  # noqa: S101 - narrows the union
            texts = {"id": record.id, ":type": record.type, ":from": record.from_id, ":to": record.to_id}
        for field, value in texts.items():
            if reason := cells.text_problem(value):
                found.append(self._problem(kind, record, field, reason))
        return found

    @staticmethod
    def _problem(kind: Kind, record: Record, field: str, reason: str) -> Problem:
        return Problem(kind=kind, id=record.id, field=field, reason=reason)


class Form012(_SqliteForm):
    """Layout 0.12: ``properties`` is a JSON text; an edge's four times of validity are the columns', not the JSON's."""

    layout = "0.12"
    _TRUE_COLUMNS = ("valid_from", "valid_until", "recorded_at", "invalidated_by")
    #: Columns that follow a property of their name.
    _DATA_COLUMNS: ClassVar[dict[Kind, tuple[str, ...]]] = {
        "memory": ("created_at", "updated_at"),
        "relationship": ("created_at", *_TRUE_COLUMNS),
    }

    def _memory(self, row: Cells) -> Memory | Corrupt:
        name, label, text = row[0], row[1], row[2]
        if type(name) is not str or type(label) is not str or type(text) is not str:
            return self._wrong_cells("memory", row, ("id", "label", "properties"))
        try:
            stored = text_json.read_object(text)
        except text_json.NotAnObjectError as error:
            return self._corrupt("memory", row, str(error))
        inner = stored.get("id")
        if inner != name and inner is not None:
            return self._corrupt("memory", row, "the id in its JSON is not the row's id")
        return Memory(name, (label,), canonical("memory", stored))

    def _relationship(self, row: Cells) -> Relationship | Corrupt:
        name, from_id, to_id, edge_type, text, _, valid_from, valid_until, recorded_at, invalidated_by = row
        if (
            type(name) is not str
            or type(from_id) is not str
            or type(to_id) is not str
            or type(edge_type) is not str
            or type(text) is not str
            or bytes in map(type, row)
        ):
            return self._wrong_cells("relationship", row, ("id", "from_id", "to_id", "rel_type", "properties"))
        try:
            stored = text_json.read_object(text)
        except text_json.NotAnObjectError as error:
            return self._corrupt("relationship", row, str(error))
        inner = stored.get("id")
        if inner != name and inner is not None:
            return self._corrupt("relationship", row, "the id in its JSON is not the row's id")
        stored["valid_from"] = valid_from
        stored["valid_until"] = valid_until
        stored["recorded_at"] = recorded_at
        stored["invalidated_by"] = invalidated_by
        return Relationship(name, edge_type, from_id, to_id, canonical("relationship", stored))

    def encode(self, record: Record) -> Raw:
        """Return the row; its own ``created_at`` and ``updated_at`` are the record's, so that nothing needs a clock."""
        stored = {"id": record.id, **record.properties}
        if type(record) is Memory:
            for field in LIST_FIELDS & stored.keys():
                if stored[field] == [] and field != "tags":
                    stored[field] = "[]"
            for field in OBJECT_FIELDS & stored.keys():
                stored[field] = self._object_text(stored[field])
            return {
                "id": record.id,
                "label": record.labels[0],
                "properties": text_json.write(stored, _python_text),
                "created_at": cells.stamp(stored.get("created_at")),
                "updated_at": cells.stamp(stored.get("updated_at")),
            }
        assert type(record) is Relationship  # noqa: S101 - narrows the union
        return {
            "id": record.id,
            "from_id": record.from_id,
            "to_id": record.to_id,
            "rel_type": record.type,
            "properties": text_json.write(stored, _python_text),
            "created_at": cells.stamp(stored.get("created_at")),
            "valid_from": cells.time_cell(stored.get("valid_from")),
            "valid_until": cells.time_cell(stored.get("valid_until")),
            "recorded_at": cells.time_cell(stored.get("recorded_at")),
            "invalidated_by": stored.get("invalidated_by"),
        }

    @staticmethod
    def _object_text(value: Value) -> Value:
        # A map with NaN would not be read back from text as a map: it stays JSON within the JSON.
        try:
            return text_json.write(value, _strict_python_text) if type(value) is dict else value
        except ValueError:
            return value

    def graft(self, kind: Kind, onto: Raw, source: Raw, fields: Sequence[str]) -> Raw:
        """Return ``onto`` with the named properties of ``source``; other members of the JSON keep their bytes."""
        found = dict(onto)
        plain = [name for name in map(property_of, fields) if name is not None]
        if plain:
            found["properties"] = text_json.graft(onto["properties"], source["properties"], plain)
        columns = {_ENDS[field] for field in fields if property_of(field) is None}
        for column in columns.union(name for name in plain if name in self._DATA_COLUMNS[kind]):
            found[column] = source[column]
        return found

    def problems(self, record: Record) -> Sequence[Problem]:
        """Name what the row cannot hold: times of validity that are missing or become numbers, and what is no JSON."""
        kind = kind_of(record)
        found = self._shared_problems(kind, record)
        for field, value in record.properties.items():
            if type(value) is str and value.isascii() and field.isascii():
                continue
            reason = cells.json_problem(value, finite=False) or cells.json_problem(field, finite=False)
            if reason:
                found.append(self._problem(kind, record, field, reason))
        if type(record) is Memory and self.label in record.labels and type(record.properties.get("tags")) is str:
            found.append(self._problem(kind, record, "tags", HIDDEN_BY_TAGS))
        if kind == "relationship":
            for field in self._TRUE_COLUMNS:
                if reason := self._column_problem(field, record.properties.get(field)):
                    found.append(self._problem(kind, record, field, reason))
        return found

    @staticmethod
    def _column_problem(field: str, value: Value) -> str:
        if value is None:
            return "layout 0.12 needs a value, and none is invented" if field in {"valid_from", "recorded_at"} else ""
        cell = value if field == "invalidated_by" else cells.time_cell(value)
        if type(cell) is not str:
            return "the column holds text only"
        if field != "invalidated_by" and cells.becomes_number(cell):
            return "SQLite would turn this text into a number"
        return cells.text_problem(cell)

    def readable(self, kind: Kind, raw: Raw) -> bool:
        """Return whether the 0.12 client can read the row: with ``tags`` as text it takes a memory for missing."""
        if kind != "memory" or ('"tags": "' not in raw["properties"] and '"tags":"' not in raw["properties"]):
            return True
        return type(text_json.read_object(raw["properties"]).get("tags")) is not str

    def shape(self, kind: Kind, raw: Raw) -> str:
        """Return the edge type, or the label."""
        found: str = raw["label"] if kind == "memory" else raw["rel_type"]
        return found


class Form013(_SqliteForm):
    """Layout 0.13: a column per property; ``context`` is the object of a memory's ``context_*`` properties."""

    layout = "0.13"
    _STRUCTURE = frozenset({"id", "from_id", "to_id", "rel_type"})

    def __init__(self, label: str, *, required: Mapping[Kind, frozenset[str]] | None = None) -> None:
        super().__init__(label)
        self._affinity: dict[Kind, dict[str, str]] = {
            kind: {c.name: c.affinity for c in columns("0.13", kind) if c.name not in self._STRUCTURE} for kind in KINDS
        }
        del self._affinity["memory"]["context"]
        #: NOT NULL, as the file has it.
        self._required: dict[Kind, frozenset[str]] = {
            kind: (required or {}).get(kind) or frozenset(c.name for c in columns("0.13", kind) if c.required)
            for kind in KINDS
        }
        self._plans: dict[tuple[Kind, tuple[type, ...]], tuple[tuple[str, ...], tuple[bool, ...]] | None] = {}

    def _plan(self, kind: Kind, types: tuple[type, ...]) -> tuple[tuple[str, ...], tuple[bool, ...]] | None:
        """Return keys and mask of the columns that are properties in rows of these types; None for no record."""
        found: tuple[tuple[str, ...], tuple[bool, ...]] | None = None
        by_name = dict(zip(self.columns[kind], types, strict=True))
        sound = all(by_name[name] is str for name in self._STRUCTURE & by_name.keys()) and bytes not in types
        if sound:
            mask = tuple(name in self._affinity[kind] and by_name[name] is not type(None) for name in by_name)
            found = tuple(compress(by_name, mask)), mask
        self._plans[kind, types] = found
        return found

    def _properties(self, kind: Kind, row: Cells) -> Properties | None:
        types = tuple(map(type, row))
        try:
            plan = self._plans[kind, types]
        except KeyError:
            plan = self._plan(kind, types)
        return None if plan is None else dict(zip(plan[0], compress(row, plan[1]), strict=True))

    def _memory(self, row: Cells) -> Memory | Corrupt:
        stored = self._properties("memory", row)
        if stored is None:
            return self._wrong_cells("memory", row, ("id",))
        context = row[-1]
        if context is not None:
            try:
                inner = text_json.read_object(context)
            except text_json.NotAnObjectError as error:
                return self._corrupt("memory", row, f"column context: {error}")
            for key, value in inner.items():
                stored["context_" + key] = value
        return Memory(row[0], (self.label,), canonical("memory", stored))

    def _relationship(self, row: Cells) -> Relationship | Corrupt:
        stored = self._properties("relationship", row)
        if stored is None:
            return self._wrong_cells("relationship", row, ("id", "from_id", "to_id", "rel_type"))
        return Relationship(row[0], row[3], row[1], row[2], canonical("relationship", stored))

    def encode(self, record: Record) -> Raw:
        """Return the row; a column that must not be empty has the canonical default where the record has no value."""
        kind = kind_of(record)
        given = DEFAULTS[kind] | record.properties
        found: dict[str, Any] = dict.fromkeys(self.columns[kind])
        found["id"] = record.id
        times = TIME_FIELDS[kind]
        for name in self._affinity[kind]:
            value = given.get(name)
            found[name] = cells.time_cell(value) if name in times else value
        if type(record) is Memory:
            found["tags"] = self._json_text(given["tags"])
            context = {name[8:]: value for name, value in record.properties.items() if name.startswith("context_")}
            if context:
                found["context"] = self._json_text(context)
        elif type(record) is Relationship:
            found |= {"from_id": record.from_id, "to_id": record.to_id, "rel_type": record.type}
        return found

    @staticmethod
    def _json_text(value: Value) -> str:
        text = text_json.write(value, _javascript_text)
        return _javascript_ascii(value) if cells.text_problem(text) else text

    def graft(self, kind: Kind, onto: Raw, source: Raw, fields: Sequence[str]) -> Raw:
        """Return ``onto`` with the named properties of ``source``; other members of ``context`` keep their bytes."""
        found = dict(onto)
        inner = [field[8:] for field in fields if kind == "memory" and field.startswith("context_")]
        if inner:
            found["context"] = text_json.graft(onto["context"] or "{}", source["context"] or "{}", inner)
        for field in fields:
            name = property_of(field)
            column = _ENDS[field] if name is None else name
            if column in found and (name is None or name in self._affinity[kind]):
                found[column] = source[column]
        return found

    def problems(self, record: Record) -> Sequence[Problem]:
        """Name every property without a column, of another type than its column, or missing where one is needed."""
        kind = kind_of(record)
        found = self._shared_problems(kind, record)
        affinities, times = self._affinity[kind], TIME_FIELDS[kind]
        for field, value in record.properties.items():
            affinity = affinities.get(field)
            if affinity is None:
                inner = kind == "memory" and field.startswith("context_")
                reason = "layout 0.13 has no column for it"
                if inner:
                    reason = cells.json_problem(value, finite=True) or cells.json_problem(field, finite=True)
            elif field == "tags" and kind == "memory":
                reason = cells.json_problem(value, finite=True) if type(value) is list else HIDDEN_BY_TAGS
            else:
                reason = self._cell_problem(affinity, cells.time_cell(value) if field in times else value)
            if reason:
                found.append(self._problem(kind, record, field, reason))
        absent = self._required[kind] - record.properties.keys() - DEFAULTS[kind].keys() - self._STRUCTURE
        found += [
            self._problem(kind, record, field, "layout 0.13 needs a value, and none is invented")
            for field in sorted(absent)
        ]
        return found

    @staticmethod
    def _cell_problem(affinity: str, value: Value) -> str:
        if affinity == "TEXT":
            return cells.text_problem(value) if type(value) is str else "the column holds text only"
        if affinity == "INTEGER":
            fits = type(value) is int and -_INT64 <= value < _INT64
            return "" if fits else "the column holds integers of 64 bits only"
        if type(value) is not float:
            return "the column holds floating-point numbers only"
        if value != value:  # noqa: PLR0124 - the NaN test
            return "SQLite turns NaN into NULL"
        return "SQLite turns -0.0 into 0.0" if value == 0 and str(value) == "-0.0" else ""

    def readable(self, kind: Kind, raw: Raw) -> bool:
        """Return whether the 0.13 client can read the row: ``tags`` must be the JSON text of a list."""
        return kind != "memory" or type(canonical(kind, {"tags": raw["tags"]}).get("tags")) is list

    def shape(self, kind: Kind, raw: Raw) -> str:
        """Return the edge type, or the label, which this layout does not store."""
        return self.label if kind == "memory" else raw["rel_type"]

"""The rows of a SQLite file that a ``--since`` run may want, found by a query.

It leaves out a row only where all its times are surely earlier (``migrator.watermark``): texts of the shapes that
memorygraph writes, in UTC, of a day that there is. Whatever else stands in a row lets it through to the exact filter.
Two kinds of corrupt rows are left out, too, where their times are earlier: JSON that names a key twice, and texts that
are no UTF-8; a full comparison finds them. For 100,000 memories it takes SQLite 0.3 s, and Python would take 2 s.
"""

from __future__ import annotations

import json
from datetime import UTC
from typing import TYPE_CHECKING

from migrator.backends._sqlite_schema import TABLES
from migrator.watermark import INCLUDING

if TYPE_CHECKING:
    import sqlite3
    from datetime import datetime

    from migrator.backends.base import Wanted
    from migrator.model import Kind
    from migrator.models import Layout

_SECOND = "[12][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9]T[012][0-9]:[0-5][0-9]:[0-5][0-9]"
_SHAPES = (
    f"{_SECOND}.[0-9][0-9][0-9][0-9][0-9][0-9]+00:00",
    f"{_SECOND}+00:00",
    f"{_SECOND}.[0-9][0-9][0-9]Z",
    f"{_SECOND}Z",
)

#: Where the times of a record stand that are columns; the others are in the JSON.
_COLUMNS: dict[Layout, dict[Kind, tuple[str, ...]]] = {
    "0.12": {"memory": (), "relationship": ("valid_from", "valid_until", "recorded_at")},
    "0.13": {
        "memory": ("created_at", "updated_at", "last_accessed"),
        "relationship": ("created_at", "last_validated", "valid_from", "valid_until", "recorded_at"),
    },
}
#: The column with JSON that holds the others, and by what their names are longer than they are there.
_JSON: dict[Layout, dict[Kind, tuple[str, str]]] = {
    "0.12": {"memory": ("properties", ""), "relationship": ("properties", "")},
    "0.13": {"memory": ("context", "context_"), "relationship": ("", "")},
}
_TEXTS: dict[Kind, tuple[str, ...]] = {
    "memory": ("id",),
    "relationship": ("id", "from_id", "to_id", "rel_type"),
}


def rowids(
    connection: sqlite3.Connection, layout: Layout, kind: Kind, wanted: Wanted, scope: tuple[str, str] | None
) -> list[int]:
    """Return the rows that may be wanted, in order; ``scope``: a condition on ``r`` and its parameter, None for all."""
    query = _query(layout, kind, wanted.since, "" if scope is None else f" WHERE {scope[0]}")
    parameters = (*([] if scope is None else [scope[1]]), json.dumps(list(wanted.ids(kind))))
    return sorted(row[0] for row in connection.execute(query, parameters))


def _query(layout: Layout, kind: Kind, since: datetime, scoped: str) -> str:
    columns = _COLUMNS[layout][kind]
    document, prefix = _JSON[layout][kind]
    places = [f"r.{name}" for name in columns]
    texts = (*_TEXTS[kind], *(["properties"] if layout == "0.12" else []))
    sound = [f"typeof(r.{name}) = 'text'" for name in texts]
    if document:
        inside = [name for name in INCLUDING[kind] if name not in columns and name.startswith(prefix)]
        places += [_member(document, name, prefix) for name in inside]
        # SQLite does not see through escapes of a name's letters or of "_", and takes NUL for the end of a time.
        sound.append(f"({document} GLOB '*\\u00[0567]*') IS NOT TRUE")
    if layout == "0.12":
        sound += ["json_valid(properties)", f"coalesce({_member('properties', 'id')}, r.id) = r.id"]
    elif document:
        sound.append(f"({document} IS NULL OR json_valid({document}))")
    earlier = since.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S").zfill(19)
    named = ", ".join(f"{place} AS t{number}" for number, place in enumerate(places))
    times = [f"t{number}" for number in range(len(places))]
    one = " OR ".join(f"{time} IS NOT NULL" for time in times)
    all_earlier = " AND ".join(f"({time} IS NULL OR {_surely(time, earlier)})" for time in times)
    return (
        # Materialized, or each mention of a time would look into the JSON again.
        f"WITH times AS MATERIALIZED (SELECT r.rowid AS number, r.id AS id, {' AND '.join(sound)} AS sound, {named}"
        f" FROM {TABLES[layout][kind]} AS r NOT INDEXED{scoped})"
        f" SELECT number FROM times WHERE (sound AND ({one}) AND {all_earlier}) IS NOT TRUE"
        " OR id IN (SELECT value FROM json_each(?))"
    )


def _member(document: str, name: str, prefix: str = "") -> str:
    """Return what stands in a JSON document; what is none is asked for nothing, as that would be an error."""
    return f"CASE WHEN json_valid({document}) THEN json_extract({document}, '$.{name.removeprefix(prefix)}') END"


def _surely(time: str, earlier: str) -> str:
    """Return the condition that a text is a time that Python reads, too, and earlier."""
    # Without a modifier SQLite gives back 30 February as it came.
    shaped = " OR ".join(f"{time} GLOB '{shape}'" for shape in _SHAPES)
    day = (
        f"substr({time}, 6, 2) BETWEEN '01' AND '12' AND substr({time}, 9, 2) BETWEEN '01' AND '28'"
        f" OR date(substr({time}, 1, 10), '+0 days') = substr({time}, 1, 10)"
    )
    # GLOB ends at NUL.
    whole = f"instr({time}, char(0)) = 0"
    return f"({whole} AND {time} < '{earlier}' AND ({shaped}) AND substr({time}, 12, 2) < '24' AND ({day}))"

"""Which of memorygraph's two layouts a SQLite file has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from migrator.backends._sqlite_schema import MARKER_TABLE, TABLES, misfit, table_columns
from migrator.errors import StoreRefused

if TYPE_CHECKING:
    import sqlite3
    from pathlib import Path

    from migrator.models import Layout, Role

NEWEST: Layout = "0.13"
_SAY_WHICH = "say which with --from-layout or --layout"


@dataclass(frozen=True, slots=True, kw_only=True)
class Detected:
    """What stands in a file: its layout, and whether the tables of memories and relationships are there."""

    layout: Layout
    memories: bool
    relationships: bool
    warnings: tuple[str, ...] = ()


def user_tables(connection: sqlite3.Connection) -> set[str]:
    """Return the names of the tables that are neither SQLite's own nor the marker's."""
    rows = connection.execute(
        "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'"
    )
    return {name for (name,) in rows} - {MARKER_TABLE}


def _has_rows(connection: sqlite3.Connection, table: str) -> bool:
    return bool(connection.execute(f'SELECT EXISTS (SELECT 1 FROM "{table}")').fetchone()[0])


def detect(connection: sqlite3.Connection, path: Path, role: Role, wanted: Layout | None) -> Detected:
    """Find the layout of an open file; a target without tables gets the wanted one, else the newest.

    Raises StoreRefused for other tables, both layouts with rows, a target of another layout than wanted, and tables
    whose columns are not the layout's.
    """
    tables = user_tables(connection)
    if not tables and role == "to":
        return Detected(layout=wanted or NEWEST, memories=False, relationships=False)
    found: list[Layout] = [layout for layout in TABLES if TABLES[layout]["memory"] in tables]
    if not found:
        message = f"{path} is a SQLite file, but not memorygraph's: it has neither a table nodes nor memories"
        raise StoreRefused(message, hint="check the path")
    edges = table_columns(connection, "relationships")
    warnings: tuple[str, ...] = ()
    layout = found[0]
    if len(found) > 1:
        layout, warnings = _of_both(connection, path, role, wanted)
    if wanted is not None and wanted != layout:
        msg = f"{path} has layout {layout}, not {wanted}"
        raise StoreRefused(msg, hint=f"leave the layout away, or give {layout}")
    if reason := misfit(layout, "memory", table_columns(connection, TABLES[layout]["memory"])):
        msg = f"{path}: table {TABLES[layout]['memory']} {reason}"
        raise StoreRefused(msg, hint="this layout is not known")
    reason = misfit(layout, "relationship", edges) if edges else "is missing"
    if reason:
        other = any(not misfit(one, "relationship", edges) for one in TABLES)
        if len(found) == 1 or role == "to" or not other:
            msg = f"{path}: table relationships {reason}"
            raise StoreRefused(msg, hint=f"not a complete store of layout {layout}")
        warnings += (f"{path}: its relationships are the other layout's and are not read as layout {layout}",)
    return Detected(layout=layout, memories=True, relationships=not reason, warnings=warnings)


def _of_both(
    connection: sqlite3.Connection, path: Path, role: Role, wanted: Layout | None
) -> tuple[Layout, tuple[str, ...]]:
    filled: list[Layout] = [layout for layout in TABLES if _has_rows(connection, TABLES[layout]["memory"])]
    if len(filled) > 1:
        if wanted is None:
            msg = f"{path} holds memories in both layouts, 0.12 and 0.13"
            raise StoreRefused(msg, hint=_SAY_WHICH)
        return wanted, (f"{path} holds memories in both layouts; only {wanted} is used",)
    if not filled:
        fits: list[Layout] = [
            x for x in TABLES if not misfit(x, "relationship", table_columns(connection, "relationships"))
        ]
        return (fits or [wanted or NEWEST])[0], (f"{path} has the tables of both layouts, all empty",)
    layout = wanted if wanted is not None and role == "from" else filled[0]
    other = TABLES["0.13" if filled[0] == "0.12" else "0.12"]["memory"]
    return layout, (f"{path} has the tables of both layouts; {other} is empty, so it is a store of layout {filled[0]}",)

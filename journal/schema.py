"""Making and upgrading the journal's schema. Alembic is imported only when a journal is not of today's revision."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import inspect

import journal
from journal import tables
from journal.errors import JournalDamaged, JournalTooNew, NoSuchRun

if TYPE_CHECKING:
    from alembic.config import Config
    from sqlalchemy import Connection

    from journal.engine import Database


def migrations_folder() -> Path:
    """Return the folder of the migrations: beside this package in a wheel, else at the top of the checkout."""
    here = Path(journal.__file__).resolve().parent
    shipped = here / "_alembic"
    return shipped if shipped.is_dir() else here.parent / "alembic"


def alembic_config(connection: Connection) -> Config:
    """Return the configuration that drives Alembic over a connection, without an ini file."""
    from alembic.config import Config

    config = Config()
    # Alembic's configuration is interpolated: a per cent sign in the path must be doubled.
    config.set_main_option("script_location", str(migrations_folder()).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


def revision_of(connection: Connection, path: Path) -> str | None:
    """Return the journal's revision, None for an empty database; JournalDamaged for a database that is no journal."""
    names = set(inspect(connection).get_table_names())
    if not names:
        if (connection.exec_driver_sql("PRAGMA page_count").scalar() or 0) > 1:
            # A journal that was never used has one page at most: what it held cannot be found any more.
            msg = f"{path} holds pages and no tables"
            raise JournalDamaged(msg, hint="go on with a backup, or give another path with --journal")
        return None
    if not names >= tables.OWN_TABLES:
        raise no_journal(path)
    revision: str | None = connection.execute(tables.VERSION_QUERY).scalar()
    if revision is None:
        raise no_journal(path)
    return revision


def no_journal(path: Path) -> JournalDamaged:
    """Return the error for a database that is something else."""
    return JournalDamaged(f"{path} is a database, but no journal", hint="give another path with --journal")


def is_older(connection: Connection, revision: str) -> bool:
    """Return whether a journal can be upgraded, False for today's revision; JournalTooNew for an unknown one."""
    if revision == tables.REVISION:
        return False
    from alembic.script import ScriptDirectory

    known = ScriptDirectory.from_config(alembic_config(connection)).walk_revisions()
    if revision in {script.revision for script in known}:
        return True
    msg = f"the journal has schema {revision}; this memmig knows schemas up to {tables.REVISION}"
    raise JournalTooNew(msg, hint="use the newer memmig that wrote this journal")


def create(connection: Connection) -> None:
    """Make today's schema in an empty database, within the caller's transaction."""
    tables.metadata.create_all(connection)
    for statement in tables.STATEMENTS:
        connection.exec_driver_sql(statement)


def upgrade(connection: Connection) -> None:
    """Run the migrations from the journal's revision to today's, within the caller's transaction."""
    from alembic import command

    command.upgrade(alembic_config(connection), tables.REVISION)


def differences(connection: Connection) -> list[str]:
    """Return what is wrong with the tables, triggers and views of a journal of today's revision."""
    query = "SELECT type, name, sql FROM sqlite_master WHERE type <> 'index'"
    found = {row[1]: (row[0], row[2]) for row in connection.exec_driver_sql(query)}
    problems = [
        f"{name} is missing or was altered"
        for name, sql in tables.objects().items()
        if " ".join(str(found.get(name, ("", ""))[1]).split()) != " ".join(sql.split())
    ]
    ours = {name for name, (sort, _) in found.items() if sort in {"trigger", "view"}}
    problems += [f"{name} does not belong in a journal" for name in sorted(ours - set(tables.EXTRAS))]
    return problems


def prepare_to_read(database: Database) -> None:
    """Bring a journal that is only read to today's schema: an older one in a temporary copy, its file untouched.

    NoSuchRun where it is empty, JournalTooNew where it is newer.
    """
    path = database.path
    with database.transaction() as connection:
        revision = revision_of(connection, path)
        if revision is None:
            msg = f"the journal {path} is empty"
            raise NoSuchRun(msg, hint="nothing was journalled there yet")
        older = is_older(connection, revision)
    if older:
        database.change_copy(upgrade)


def prepare(database: Database) -> None:
    """Bring a journal that is open for writing to today's schema; an older one is copied first."""
    path = database.path
    with database.transaction() as connection:
        revision = revision_of(connection, path)
        if revision is None:
            create(connection)
        older = revision is not None and is_older(connection, revision)
    if older:
        # A copy left by an upgrade that did not end is replaced: the journal itself is still what it was.
        database.copy_to(path.with_name(f"{path.name}.before-{tables.REVISION}"), replace=True)
        with database.transaction() as connection:
            upgrade(connection)

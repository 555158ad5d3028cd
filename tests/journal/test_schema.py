from __future__ import annotations

import re
import shutil
from typing import TYPE_CHECKING

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from alembic import command
from journal import Journal, schema, tables
from journal.engine import Database
from journal.errors import JournalNotWritable, JournalTooNew
from journal.lock import make_file
from tests.journal.support import RUN, apply, entry, plain, sample, tamper
from tests.running import listing

if TYPE_CHECKING:
    from pathlib import Path

_OBJECTS = "SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY type, name"
_NEXT = '''"""A later schema, of the tests."""
from alembic import op
revision = "0002"
down_revision = "0001"
def upgrade():
    op.execute("CREATE TABLE later (x INTEGER)")
'''


def objects(path: Path) -> list[tuple[str, ...]]:
    """Return the schema without the layout of its text."""
    return [tuple(re.sub(r"\s+", " ", str(part)) for part in row) for row in plain(path, _OBJECTS)]


@pytest.fixture
def migrated(tmp_path: Path) -> Path:
    """Return an empty journal made by the migrations alone."""
    path = tmp_path / "migrated.db"
    make_file(path)
    database = Database(path, writable=True)
    with database.transaction() as connection:
        command.upgrade(schema.alembic_config(connection), "head")
    database.close()
    return path


@pytest.fixture
def later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make this memmig one whose journals have one migration more."""
    folder = tmp_path / "100 % later"
    shutil.copytree(schema.migrations_folder(), folder, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "versions" / "0002_later.py").write_text(_NEXT)
    monkeypatch.setattr(schema, "migrations_folder", lambda: folder)
    monkeypatch.setattr(tables, "REVISION", "0002")


def test_fresh_schema_is_what_all_migrations_make(tmp_path: Path, migrated: Path) -> None:
    sample(tmp_path / "fresh.db", runs=())
    assert objects(tmp_path / "fresh.db") == objects(migrated)


def test_autogenerate_finds_nothing(migrated: Path) -> None:
    database = Database(migrated, writable=True)
    with database.transaction() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, tables.metadata) == []
    database.close()


def test_the_newest_migration_is_todays_revision(migrated: Path) -> None:
    database = Database(migrated, writable=True)
    with database.transaction() as connection:
        scripts = ScriptDirectory.from_config(schema.alembic_config(connection))
        assert scripts.get_heads() == [tables.REVISION]
    database.close()


def test_downgrade_leaves_nothing(migrated: Path) -> None:
    database = Database(migrated, writable=True)
    with database.transaction() as connection:
        command.downgrade(schema.alembic_config(connection), "base")
    database.close()
    assert [row[1] for row in objects(migrated)] == ["sqlite_autoindex_alembic_version_1", "alembic_version"]


def test_newer_journal_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    sample(path)
    tamper(path, "UPDATE alembic_version SET version_num = '9999'")
    before = path.read_bytes()
    for mode in ("write", "read"):
        with pytest.raises(JournalTooNew, match="9999"):
            Journal.open(path, mode=mode)
    assert path.read_bytes() == before


def test_older_journal_is_copied_then_upgraded(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    path = tmp_path / "journal.db"
    sample(path)
    before = plain(path, "SELECT * FROM entries")
    request.getfixturevalue("later")
    with Journal.open(path) as journal:
        assert journal.check().problems == ()
        assert journal.state(RUN).last_applied == 3
    copy = tmp_path / "journal.db.before-0002"
    assert copy.stat().st_mode & 0o777 == 0o600
    for place, revision in ((path, "0002"), (copy, "0001")):
        assert plain(place, "SELECT version_num FROM alembic_version") == [(revision,)]
        assert plain(place, "SELECT * FROM entries") == before


@pytest.mark.parametrize("killed", [False, True], ids=["at rest", "with a log that a killed process left"])
def test_older_journal_is_read_through_an_upgraded_copy(
    tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, *, killed: bool
) -> None:
    (tmp_path / "made").mkdir()
    sample(tmp_path / "made" / "journal.db")
    folder, temporary = tmp_path / "found", tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    with Journal.open(tmp_path / "made" / "journal.db") as journal:
        if killed:
            apply(journal, RUN, 4, [entry("late")])
            shutil.copytree(tmp_path / "made", folder)
    if not killed:
        shutil.copytree(tmp_path / "made", folder)
    (folder / "journal.db.lock").unlink()
    before = listing(folder)
    assert any(name.endswith("-wal") for name in before) == killed
    request.getfixturevalue("later")
    with Journal.open(folder / "journal.db", mode="read") as journal:
        assert journal.check().problems == ()
        assert journal.state(RUN).last_applied == (4 if killed else 3)
        assert len(list(journal.entries(RUN))) == (16 if killed else 15)
        assert len(list(temporary.iterdir())) == 1
        with pytest.raises(JournalNotWritable):
            journal.append(RUN)
    assert listing(folder) == before
    assert list(temporary.iterdir()) == []


def test_failed_upgrade_leaves_the_older_journal_whole(
    tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "journal.db"
    sample(path)
    before = objects(path)
    request.getfixturevalue("later")
    broken = schema.migrations_folder() / "versions" / "0002_later.py"
    broken.write_text(_NEXT + '    op.execute("CREATE TABLE later (x INTEGER)")\n')
    with pytest.raises(Exception, match="already exists"):
        Journal.open(path)
    assert objects(path) == before
    monkeypatch.undo()
    with Journal.open(path) as journal:
        assert journal.check().ok


def test_migration_survives_a_journal_that_holds_rows(tmp_path: Path) -> None:
    sample(tmp_path / "journal.db")
    with Journal.open(tmp_path / "journal.db") as journal:
        assert [e.entity_id for e in journal.batch_entries(RUN, 1)] == [entry(f"1-1-{n}").entity_id for n in range(5)]

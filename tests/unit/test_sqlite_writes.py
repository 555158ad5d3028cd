"""SQLite as a target: full disks, locks, unknown outcomes, killed creators, and what is left of others' things."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from migrator.backends import _sqlite_file as files
from migrator.backends import _sqlite_writes as writes
from migrator.backends.base import SchemaStep, WriteOutcome
from migrator.backends.sqlite import SqliteBackend
from migrator.errors import OutcomeUnknown, TargetFull
from migrator.models import BackendConfig, BackendType
from tests.contract.holder import MARKER, Holder, Place, hold
from tests.contract.records import edge, memory

if TYPE_CHECKING:
    from collections.abc import Iterator

    from migrator.models import Layout

ROOT = Path(__file__).parents[2]


@pytest.fixture(params=["0.12", "0.13"])
def holder(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Holder]:
    layout: Layout = request.param
    config = BackendConfig(backend=BackendType.SQLITE, path=tmp_path / "t.db", layout=layout)
    held = hold(Place(name=f"sqlite-{layout}", config=config, shared=True, folder=tmp_path))
    yield held
    held.close()


def writer(holder: Holder) -> sqlite3.Connection:
    assert isinstance(holder.backend, SqliteBackend)
    assert holder.backend._open.writer is not None
    return holder.backend._open.writer


def path_of(holder: Holder) -> Path:
    assert holder.place.config.path is not None
    return holder.place.config.path


class TestTrouble:
    def test_a_full_disk_leaves_nothing_of_the_batch(self, holder: Holder) -> None:
        holder.create(memory("a"))
        before = holder.contents()
        connection = writer(holder)
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count={pages + 2}")
        with pytest.raises(TargetFull):
            holder.send(holder.create_batch([memory(f"m{n}", content="x" * 10_000) for n in range(50)]))
        assert holder.contents() == before
        connection.execute("PRAGMA max_page_count=100000")
        holder.create(memory("after"))

    def test_a_lock_that_stays_is_33_and_nothing_is_written(
        self, holder: Holder, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(files, "BUSY_SECONDS", 0.2)
        writer(holder).execute("PRAGMA busy_timeout=200")
        batch = holder.create_batch([memory("a")])
        with closing(sqlite3.connect(path_of(holder), isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(TargetFull, match="locked"):
                holder.send(batch)
            other.execute("ROLLBACK")
            other.execute("BEGIN")
            other.execute("SELECT count(*) FROM relationships").fetchone()
            with pytest.raises(TargetFull, match="locked"):
                holder.send(batch)
        assert holder.scanned("memory") == []
        assert holder.send(batch) is WriteOutcome.APPLIED

    def test_a_commit_that_may_have_landed_is_unknown(self, tmp_path: Path) -> None:
        with closing(sqlite3.connect(tmp_path / "x.db", isolation_level=None)) as connection:
            connection.execute("CREATE TABLE t (x)")
            with pytest.raises(OutcomeUnknown), writes.transaction(connection, tmp_path / "x.db"):
                # A commit within makes the one at the end fail, with no transaction open any more.
                connection.commit()

    def test_a_row_that_the_file_refuses_takes_the_batch_back(self, holder: Holder) -> None:
        table = "nodes" if holder.place.name.endswith("0.12") else "memories"
        refuse = f"CREATE TRIGGER t BEFORE INSERT ON {table} WHEN NEW.id = 'bad' BEGIN SELECT RAISE(ABORT, 'no'); END"
        with closing(sqlite3.connect(path_of(holder))) as other:
            other.execute(refuse)
        before = holder.contents()
        with pytest.raises(Exception, match="no"):
            holder.send(holder.create_batch([memory("a"), memory("bad"), memory("c")]))
        assert holder.contents() == before


class TestConnection:
    def test_is_durable_and_cascades_nothing(self, holder: Holder) -> None:
        found = {
            name: writer(holder).execute(f"PRAGMA {name}").fetchone()[0] for name in ("synchronous", "foreign_keys")
        }
        assert found == {"synchronous": 2, "foreign_keys": 0}

    def test_deleting_an_edge_leaves_what_names_it(self, holder: Holder) -> None:
        holder.create(memory("a"), memory("b"), edge("e", "a", "b"), edge("f", "a", "b", invalidated_by="e"))
        before = holder.contents()["relationship"]["f"]
        assert holder.send(holder.delete_batch("relationship", ["e"])) is WriteOutcome.APPLIED
        assert holder.contents()["relationship"] == {"f": before}

    @pytest.mark.parametrize("mode", ["wal", "delete", "truncate"])
    def test_the_journal_mode_stays_as_found(self, holder: Holder, mode: str) -> None:
        holder.close()
        with closing(sqlite3.connect(path_of(holder))) as other:
            other.execute(f"PRAGMA journal_mode={mode}")
        holder.backend.open("write")
        holder.create(memory("a"))
        found = holder.backend.barrier()
        assert found.durable
        assert found.evidence["journal_mode"] == ("delete" if mode == "truncate" else mode)
        holder.close()
        data = path_of(holder).read_bytes()
        assert (data[18] == 2) is (mode == "wal")
        assert [path.name for path in path_of(holder).parent.iterdir()] == ["t.db"]

    def test_updates_touch_only_what_differs(self, holder: Holder) -> None:
        """A column that a trigger of others watches is not set when its value stays."""
        column = "created_at"
        table = "nodes" if holder.place.name.endswith("0.12") else "memories"
        holder.create(memory("a"))
        with closing(sqlite3.connect(path_of(holder))) as other:
            other.execute(
                f"CREATE TRIGGER t BEFORE UPDATE OF {column} ON {table} BEGIN SELECT RAISE(ABORT, 'touched'); END"
            )
        change = holder.change(memory("a"), memory("a", title="new"))
        assert holder.send(change) is WriteOutcome.APPLIED

    def test_an_alien_marker_table_is_no_marker_of_ours(self, holder: Holder) -> None:
        assert holder.backend.swap_marker(holder.marker, None)
        with closing(sqlite3.connect(path_of(holder), isolation_level=None)) as other:
            assert not other.execute("SELECT 1 FROM sqlite_master WHERE name = '_memmig'").fetchone()
        assert holder.backend.swap_marker(None, MARKER)
        with closing(sqlite3.connect(path_of(holder), isolation_level=None)) as other:
            other.execute("INSERT INTO _memmig SELECT 'alien', run, epoch, batch, digest, owner FROM _memmig")
        assert len(holder.backend.markers()) == 2
        batch = holder.create_batch([memory("a")])
        assert holder.backend.write(batch, MARKER) is WriteOutcome.MARKER_REFUSED
        assert not holder.backend.swap_marker(MARKER, replace(MARKER, epoch=2))
        assert holder.scanned("memory") == []


class TestMaking:
    def new(self, path: Path) -> SqliteBackend:
        return SqliteBackend(BackendConfig(backend=BackendType.SQLITE, path=path), role="to")

    def test_nothing_is_made_before_apply(self, tmp_path: Path) -> None:
        store = self.new(tmp_path / "t.db")
        assert not store.open("write").exists
        assert [step.name for step in store.missing_schema()][:2] == ["file", "memories"]
        assert list(tmp_path.iterdir()) == []
        assert not store.swap_marker(MARKER, None)
        assert store.swap_marker(None, None)
        store.close()

    def test_an_empty_file_is_left_empty_again(self, tmp_path: Path) -> None:
        path = tmp_path / "t.db"
        path.touch()
        store = self.new(path)
        store.open("write")
        made = store.apply_schema(store.missing_schema())
        assert path.stat().st_size
        store.drop_schema(made)
        store.close()
        assert path.stat().st_size == 0

    def test_others_tables_and_rows_stay(self, tmp_path: Path) -> None:
        path = tmp_path / "t.db"
        store = self.new(path)
        store.open("write")
        made = store.apply_schema(store.missing_schema())
        with closing(sqlite3.connect(path)) as other:
            other.execute("CREATE TABLE theirs (x)")
        store.drop_schema(made)
        store.close()
        with closing(sqlite3.connect(path)) as other:
            assert other.execute("SELECT name FROM sqlite_master").fetchall() == [("theirs",)]

    def test_an_existing_layout_is_left_as_it_is(self, tmp_path: Path) -> None:
        path = Path(shutil.copy(ROOT / "tests/data/memorygraph-0.12.db", tmp_path / "t.db"))
        with closing(sqlite3.connect(path)) as other:
            other.execute("DROP INDEX idx_rel_type")
        store = self.new(path)
        store.open("write")
        assert store.missing_schema() == []
        store.close()

    def test_a_killed_creator_leaves_a_new_store(self, tmp_path: Path) -> None:
        path = tmp_path / "t.db"
        script = (
            "import os, sys, pathlib\n"
            "from migrator.backends import _sqlite_writes as writes\n"
            "from migrator.backends.sqlite import SqliteBackend\n"
            "from migrator.models import BackendConfig, BackendType\n"
            "b = SqliteBackend(BackendConfig(backend=BackendType.SQLITE, path=pathlib.Path(sys.argv[1])), role='to')\n"
            "b.open('write')\n"
            "create = writes.create\n"
            "def killed(connection, steps):\n"
            "    create(connection, steps[:5])\n"
            "    os.kill(os.getpid(), 9)\n"
            "writes.create = killed\n"
            "b.apply_schema(b.missing_schema())\n"
        )
        done = subprocess.run([sys.executable, "-c", script, str(path)], check=False, cwd=ROOT)
        assert done.returncode == -9
        assert path.exists()
        store = self.new(path)
        assert not store.open("write").exists
        steps = store.missing_schema()
        assert store.apply_schema(steps) == steps
        planned: list[Any] = [SchemaStep(name="file", kind="file", create="", drop="unlink"), *steps[1:]]
        store.drop_schema(planned)
        store.close()
        assert not os.listdir(tmp_path)  # noqa: PTH208 - a plain look at the folder


def test_a_table_without_a_key_is_guarded_all_the_same(tmp_path: Path) -> None:
    """Its insertion refuses nothing; a table that its client made refuses by its key."""
    path = tmp_path / "t.db"
    holder = hold(
        Place(
            name="sqlite-0.12",
            config=BackendConfig(backend=BackendType.SQLITE, path=path, layout="0.12"),
            shared=True,
            folder=tmp_path,
        )
    )
    for keyless in (False, True):
        if keyless:
            connection = writer(holder)
            for table in ("nodes", "relationships"):
                connection.execute(f"CREATE TABLE plain AS SELECT * FROM {table}")
                connection.execute(f"DROP TABLE {table}")
                connection.execute(f"ALTER TABLE plain RENAME TO {table}")
        holder.create(memory(f"a{keyless}"))
        before = holder.contents()
        assert holder.send(holder.create_batch([memory(f"a{keyless}", content="other")])) is WriteOutcome.ROWS_REFUSED
        assert holder.contents() == before
    holder.close()


@pytest.mark.parametrize(
    "change",
    ["ON CONFLICT REPLACE", "ON CONFLICT IGNORE", "ON CONFLICT ROLLBACK", "index", "trigger"],
)
def test_no_table_makes_a_create_take_the_place_of_what_is_there(tmp_path: Path, change: str) -> None:
    """Whatever its own key, index or trigger would do with a second row of an id."""
    config = BackendConfig(backend=BackendType.SQLITE, path=tmp_path / "t.db", layout="0.12")
    holder = hold(Place(name="sqlite-0.12", config=config, shared=True, folder=tmp_path))
    connection = writer(holder)
    if change == "index":
        connection.execute("CREATE UNIQUE INDEX theirs ON nodes (id)")
    elif change == "trigger":
        connection.execute(
            "CREATE TRIGGER theirs BEFORE INSERT ON nodes WHEN EXISTS (SELECT 1 FROM nodes WHERE id = NEW.id) BEGIN"
            " UPDATE nodes SET properties = NEW.properties WHERE id = NEW.id; SELECT RAISE(IGNORE); END"
        )
    else:
        made = connection.execute("SELECT sql FROM sqlite_master WHERE name = 'nodes'").fetchone()[0]
        connection.execute("DROP TABLE nodes")
        connection.execute(made.replace("PRIMARY KEY", f"PRIMARY KEY {change}"))
    holder.create(memory("a"))
    before = holder.contents()
    assert holder.send(holder.create_batch([memory("a", content="ours")])) is WriteOutcome.ROWS_REFUSED
    assert holder.contents() == before
    holder.close()

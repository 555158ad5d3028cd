"""Opening SQLite files: what is refused and how, which layout, and that reading leaves nothing behind."""

from __future__ import annotations

import hashlib
import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from migrator.backends import _sqlite_file as files
from migrator.backends import _sqlite_schema as schema
from migrator.backends import _sqlite_writes as writes
from migrator.backends.sqlite import SqliteBackend
from migrator.errors import MemmigError, StoreRefused, StoreUnreachable, TargetFull
from migrator.model import KINDS, Relationship
from migrator.models import BackendConfig, BackendType
from tests.contract.records import memory

if TYPE_CHECKING:
    from collections.abc import Iterator

    from migrator.backends.base import SchemaStep
    from migrator.models import Layout, Role

DATA = Path(__file__).parents[1] / "data"
REAL: dict[Layout, Path] = {"0.12": DATA / "memorygraph-0.12.db", "0.13": DATA / "memorygraph-0.13.db"}
COUNTS = {"0.12": (300, 364), "0.13": (200, 239)}
LAYOUTS: list[Layout] = ["0.12", "0.13"]


def backend(path: Path, role: Role = "from", layout: Layout | None = None) -> SqliteBackend:
    return SqliteBackend(BackendConfig(backend=BackendType.SQLITE, path=path, layout=layout), role=role)


def counts(path: Path, layout: Layout | None = None) -> tuple[int, int]:
    store = backend(path, layout=layout)
    try:
        store.open("read")
        found = store.inventory()
        pages = [sum(map(len, store.scan(kind, 100))) for kind in KINDS]
        assert pages == [found.memories, found.relationships]
        return found.memories, found.relationships
    finally:
        store.close()


def _read(store: SqliteBackend, role: Role) -> None:
    store.open("read" if role == "from" else "write")
    for kind in KINDS:
        list(store.scan(kind, 100))


def refused(path: Path, role: Role = "from", layout: Layout | None = None) -> MemmigError:
    store = backend(path, role, layout)
    with closing(store), pytest.raises(MemmigError) as caught:
        _read(store, role)
    assert "\n" not in caught.value.message
    assert caught.value.hint
    return caught.value


def trace(folder: Path) -> dict[str, tuple[str, int]]:
    return {
        path.name: (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns)
        for path in folder.iterdir()
        if path.is_file()
    }


def run(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)


@pytest.fixture(params=LAYOUTS)
def real(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return Path(shutil.copy(REAL[request.param], tmp_path / "store.db"))


class TestRefusals:
    def test_bad_files_have_their_codes(self, tmp_path: Path) -> None:
        text, empty, folder = tmp_path / "text", tmp_path / "empty", tmp_path / "folder"
        text.write_text("dear diary, " * 1_000)
        empty.touch()
        folder.mkdir()
        assert type(refused(tmp_path / "absent")) is StoreUnreachable
        for path in (text, empty, folder):
            assert type(refused(path)) is StoreRefused
        for path in (text, folder):
            assert type(refused(path, "to")) is StoreRefused

    @pytest.mark.parametrize("part", [0.999, 0.9, 0.5, 0.2])
    def test_a_truncated_file_is_refused(self, real: Path, part: float) -> None:
        size = real.stat().st_size
        for cut in (int(size * part), int(size * part) // 4096 * 4096, 50, 100, 4096):
            os.truncate(real, size)
            shutil.copy(REAL["0.12" if size == REAL["0.12"].stat().st_size else "0.13"], real)
            os.truncate(real, cut)
            assert type(refused(real)) is StoreRefused
            assert type(refused(real, "to")) is StoreRefused

    def test_garbage_behind_a_header_is_refused(self, real: Path) -> None:
        data = bytearray(real.read_bytes())
        data[100:] = bytes(byte ^ 0x5A for byte in data[100:])
        real.write_bytes(data)
        assert type(refused(real)) is StoreRefused

    def test_damage_in_the_middle_is_refused_while_scanning(self, real: Path) -> None:
        data = bytearray(real.read_bytes())
        for page in range(8, len(data) // 4096, 3):
            data[page * 4096 : page * 4096 + 4096] = b"\xff" * 4096
        real.write_bytes(data)
        assert type(refused(real)) is StoreRefused

    def test_other_tables_are_no_store(self, tmp_path: Path) -> None:
        path = tmp_path / "other.db"
        run(path, "CREATE TABLE notes (id TEXT)")
        assert type(refused(path)) is StoreRefused
        assert type(refused(path, "to")) is StoreRefused

    def test_a_table_with_other_columns_is_refused(self, real: Path) -> None:
        run(real, "ALTER TABLE relationships ADD COLUMN surprise TEXT")
        assert "surprise" in refused(real).message
        run(real, "ALTER TABLE relationships DROP COLUMN surprise", "DROP TABLE relationships")
        assert type(refused(real)) is StoreRefused

    def test_a_target_in_a_missing_or_read_only_folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        assert type(refused(tmp_path / "no" / "store.db", "to")) is StoreRefused
        with pytest.raises(StoreRefused):
            backend(tmp_path / "no" / "store.db", "to").open("dry")
        (tmp_path / "file").write_text("x")
        assert type(refused(tmp_path / "file" / "store.db", "to")) is StoreRefused
        # Root may write into every folder, so the system's answer stands in for a read-only one.
        monkeypatch.setattr(os, "access", lambda _, mode: not mode & os.W_OK)
        assert type(refused(tmp_path / "store.db", "to")) is StoreRefused
        assert list(tmp_path.iterdir()) == [tmp_path / "file"]


class TestLayouts:
    def test_real_stores(self, tmp_path: Path) -> None:
        for layout, path in REAL.items():
            copy = Path(shutil.copy(path, tmp_path / "a ?#%41 b.db"))
            store = backend(copy)
            assert store.open("read").layout == layout
            store.close()
            assert counts(copy) == COUNTS[layout]

    def test_a_new_target_has_the_newest_layout_or_the_wanted(self, tmp_path: Path) -> None:
        (tmp_path / "empty").touch()
        run(tmp_path / "tableless", "CREATE TABLE x (y)", "DROP TABLE x")
        for name in ("absent", "empty", "tableless"):
            assert backend(tmp_path / name, "to").open("read").layout == "0.13"
            assert backend(tmp_path / name, "to", "0.12").open("read").layout == "0.12"

    def test_another_layout_than_the_target_has_is_refused(self, tmp_path: Path) -> None:
        for layout, other in (("0.12", "0.13"), ("0.13", "0.12")):
            copy = Path(shutil.copy(REAL[layout], tmp_path / layout))  # type: ignore[index]
            assert type(refused(copy, "to", other)) is StoreRefused  # type: ignore[arg-type]

    def test_a_012_file_that_013_opened_is_a_012_store(self, tmp_path: Path) -> None:
        copy = Path(shutil.copy(REAL["0.12"], tmp_path / "both.db"))
        run(copy, *(step.create for step in schema.steps("0.13") if step.name == "memories"))
        for role in ("from", "to"):
            store = backend(copy, role)
            info = store.open("read")
            assert info.layout == "0.12"
            assert "both layouts" in info.warnings[0]
            store.close()
        assert counts(copy) == COUNTS["0.12"]
        assert type(refused(copy, "to", "0.13")) is StoreRefused

    def test_both_layouts_with_rows_need_a_word(self, tmp_path: Path) -> None:
        copy = Path(shutil.copy(REAL["0.12"], tmp_path / "both.db"))
        run(
            copy,
            *(step.create for step in schema.steps("0.13") if step.name == "memories"),
            "INSERT INTO memories (id, type, title, content, created_at, updated_at) VALUES (1, 2, 3, 4, 5, 6)",
        )
        assert "--from-layout" in refused(copy).hint
        assert type(refused(copy, "to")) is StoreRefused
        assert counts(copy, "0.12") == COUNTS["0.12"]
        assert counts(copy, "0.13") == (1, 0)

    @pytest.mark.parametrize("layout", LAYOUTS)
    def test_what_we_make_is_what_the_client_makes(self, tmp_path: Path, layout: Layout) -> None:
        store = backend(tmp_path / "new.db", "to", layout)
        store.open("write")
        store.apply_schema(store.missing_schema())
        store.close()
        pragmas = ["table_info(%s)", "foreign_key_list(%s)"]
        found = []
        for path in (tmp_path / "new.db", REAL[layout]):
            with closing(sqlite3.connect(f"file:{path}?immutable=1", uri=True)) as connection:
                names = connection.execute("SELECT type, name, tbl_name FROM sqlite_master ORDER BY 1, 2").fetchall()
                tables = [name for kind, name, _ in names if kind == "table"]
                details = [connection.execute(f"PRAGMA {p % t}").fetchall() for t in tables for p in pragmas]
                indexes = connection.execute(
                    "SELECT sql FROM sqlite_master WHERE type = 'index' AND sql > '' ORDER BY name"
                )
                found.append((names, details, [" ".join(sql.split()) for (sql,) in indexes]))
        assert found[0] == found[1]


class TestDryRun:
    def test_it_reads_from_the_file_which_columns_must_not_be_empty(self, tmp_path: Path) -> None:
        with closing(sqlite3.connect(tmp_path / "t.db")) as connection:
            for step in schema.steps("0.13"):
                connection.execute(step.create.replace("summary TEXT,", "summary TEXT NOT NULL,"))
        for access in ("read", "write"):
            store = backend(tmp_path / "t.db", "to")
            store.open(access)
            assert [problem.field for problem in store.form.problems(memory("a"))] == ["summary"]
            store.close()


class TestDroppingTheFile:
    @pytest.mark.parametrize("mode", ["delete", "wal"])
    @pytest.mark.parametrize("size", [None, 0], ids=["absent before", "empty before"])
    def test_it_is_as_before(self, tmp_path: Path, mode: str, size: int | None) -> None:
        path = tmp_path / "new.db"
        if size == 0:
            path.touch()
        store = backend(path, "to")
        store.open("write")
        steps = store.missing_schema()
        store.apply_schema(steps)
        run(path, f"PRAGMA journal_mode={mode}")
        store.drop_schema(steps)
        store.close()
        assert {name.name: name.stat().st_size for name in tmp_path.iterdir()} == (
            {} if size is None else {"new.db": 0}
        )

    def test_a_table_made_in_between_keeps_it(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = tmp_path / "new.db"
        store = backend(path, "to")
        store.open("write")
        steps = store.missing_schema()
        store.apply_schema(steps)
        names = writes.table_names
        asked = 0

        def slow(connection: sqlite3.Connection) -> set[str]:
            nonlocal asked
            found, asked = names(connection), asked + 1
            if not found and asked == 2:
                run(path, "CREATE TABLE memories (id)", "INSERT INTO memories VALUES ('theirs')")
            return found

        monkeypatch.setattr(writes, "table_names", slow)
        store.drop_schema(steps)
        store.close()
        assert asked == 3
        with closing(sqlite3.connect(path)) as connection:
            assert connection.execute("SELECT id FROM memories").fetchone() == ("theirs",)

    def test_nobody_can_make_a_table_while_it_goes(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = tmp_path / "new.db"
        store = backend(path, "to")
        store.open("write")
        steps = store.missing_schema()
        store.apply_schema(steps)
        remove = writes.remove_file

        def locked_out(place: Path, step: SchemaStep) -> None:
            with closing(sqlite3.connect(place, timeout=0)) as other, pytest.raises(sqlite3.OperationalError):
                other.execute("CREATE TABLE theirs (id)")
            remove(place, step)

        monkeypatch.setattr(writes, "remove_file", locked_out)
        store.drop_schema(steps)
        assert not path.exists()


class TestTraces:
    def test_reading_a_wal_file_that_nobody_has_open_leaves_nothing(self, real: Path) -> None:
        run(real, "PRAGMA journal_mode=WAL")
        before = trace(real.parent)
        assert counts(real) in COUNTS.values()
        assert trace(real.parent) == before

    def test_a_left_wal_without_shm_is_read_through_a_copy(self, real: Path) -> None:
        table = "nodes" if counts(real) == COUNTS["0.12"] else "memories"
        run(real, "PRAGMA journal_mode=WAL")
        folder = real.parent / "crashed"
        folder.mkdir()
        with closing(sqlite3.connect(real, isolation_level=None)) as writer:
            writer.execute(f"UPDATE {table} SET id = 'moved' WHERE rowid = 1")
            for suffix in ("", "-wal"):
                shutil.copy(f"{real}{suffix}", f"{folder / real.name}{suffix}")
        before = trace(folder)
        assert len(before) == 2
        store = backend(folder / real.name)
        store.open("read")
        assert store.lookup("memory", {"moved": None}), "what stands in the -wal is part of the store"
        store.close()
        assert trace(folder) == before

    @pytest.mark.parametrize("after", ["nothing", "a client"])
    def test_a_killed_clients_wal_and_shm_stay_as_they_are(self, real: Path, after: str) -> None:
        table = "nodes" if counts(real) == COUNTS["0.12"] else "memories"
        script = (
            "import os, sqlite3, sys\n"
            "c = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
            "c.execute('PRAGMA journal_mode=WAL')\n"
            f"c.execute(\"UPDATE {table} SET id = 'moved' WHERE rowid = 1\")\n"
            "os.kill(os.getpid(), 9)\n"
        )
        subprocess.run([sys.executable, "-c", script, str(real)], check=False)
        before = trace(real.parent)
        assert len(before) == 3
        store = backend(real)
        store.open("read")
        assert store.lookup("memory", {"moved": None})
        assert trace(real.parent) == before
        if after == "a client":
            with closing(sqlite3.connect(real, isolation_level=None)) as client:
                client.execute(f"UPDATE {table} SET id = 'again' WHERE rowid = 1")
                assert store.lookup("memory", {"again": None}), "a look-up sees what is committed now"
        store.close()

    def test_a_hot_journal_is_rolled_back_in_a_copy_only(self, real: Path) -> None:
        expected = counts(real)
        table = "nodes" if expected == COUNTS["0.12"] else "memories"
        script = (
            "import os, sqlite3, sys\n"
            "c = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
            "c.execute('PRAGMA cache_size=1')\n"
            "c.execute('BEGIN IMMEDIATE')\n"
            f"c.execute('DELETE FROM {table}')\n"
            "os.kill(os.getpid(), 9)\n"
        )
        subprocess.run([sys.executable, "-c", script, str(real)], check=False)
        before = trace(real.parent)
        assert f"{real.name}-journal" in before
        assert counts(real) == expected
        assert trace(real.parent) == before

    def test_a_live_writer_does_not_move_the_snapshot(self, real: Path) -> None:
        expected = counts(real)
        run(real, "PRAGMA journal_mode=WAL")
        with closing(sqlite3.connect(real, isolation_level=None)) as writer:
            writer.execute("DELETE FROM relationships WHERE rowid = 1")
            store = backend(real)
            store.open("read")
            assert store.inventory().relationships == expected[1] - 1
            pages = store.scan("relationship", 10)
            first = next(pages)
            writer.execute("DELETE FROM relationships WHERE rowid > 5")
            assert len(first) + sum(map(len, pages)) == expected[1] - 1
            assert store.lookup("relationship", {first[-1].id: None}) == {}, "a look-up sees what is committed now"
            store.release_snapshot()
            assert store.inventory().relationships == 4
            store.close()

    def test_a_client_that_opens_writes_and_closes_meanwhile_is_not_seen(self, real: Path) -> None:
        run(real, "PRAGMA journal_mode=WAL")
        store = backend(real)
        store.open("read")
        pages = store.scan("memory", 10)
        next(pages)
        run(real, "UPDATE relationships SET rel_type = 'X'", "PRAGMA wal_checkpoint(TRUNCATE)")
        assert list(pages)

        def types() -> set[str]:
            found = [one for page in store.scan("relationship", 10) for one in page]
            return {one.type for one in found if isinstance(one, Relationship)}

        assert "X" not in types()
        store.release_snapshot()
        assert types() == {"X"}
        store.close()

    def test_symlinks_name_the_same_place(self, real: Path) -> None:
        link = real.parent / "link.db"
        link.symlink_to(real)
        assert backend(link).open("read").place == backend(real).open("read").place == str(real.resolve())


class TestLocks:
    @pytest.fixture
    def locked(self, real: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
        monkeypatch.setattr(files, "BUSY_SECONDS", 0.2)
        with closing(sqlite3.connect(real, isolation_level=None)) as holder:
            holder.execute("BEGIN EXCLUSIVE")
            yield real
            holder.execute("ROLLBACK")

    def test_a_locked_target_is_33_and_a_locked_source_20(self, locked: Path) -> None:
        assert type(refused(locked, "to")) is TargetFull
        assert type(refused(locked)) is StoreUnreachable

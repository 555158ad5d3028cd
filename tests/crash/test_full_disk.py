"""A disk that is full when a FalkorDBLite file is saved: the run says so, its server stays, a resume completes it."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psutil
import pytest

from tests import engines
from tests.crash.served import LiteWorld
from tests.crash.tally import Tally

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.skipif(not engines.live("falkordblite"), reason="FalkorDBLite is not live here")


@dataclass(slots=True)
class TinyWorld(LiteWorld):
    """Its target is on a disk of its own, of 128 kB."""

    @property
    def disk(self) -> Path:
        return self.folder / "disk"

    @property
    def url(self) -> str:
        return f"falkordblite:///{self.disk}/target.db"

    def occupy(self) -> Path:
        """Leave no room, and return the file to remove for some."""
        filler = self.disk / "filler"
        with filler.open("wb") as out:
            try:
                while True:
                    os.write(out.fileno(), bytes(4096))
            except OSError:
                return filler


@pytest.fixture
def tiny(tmp_path: Path) -> Iterator[TinyWorld]:
    """Give a world of which an undisturbed run has been seen."""
    world = TinyWorld(tmp_path)
    world.disk.mkdir()
    mounted = ["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", str(world.disk)]
    if subprocess.run(mounted, capture_output=True, check=False).returncode:
        pytest.skip("no small file system can be mounted here (needs root)")
    try:
        world.prepare()
        yield world
    finally:
        world.end()
        subprocess.run(["umount", "-l", world.disk], check=True)


@pytest.mark.parametrize("hit", [1, 2])
def test_a_save_that_fails_ends_the_run_and_a_resume_completes_it(tiny: TinyWorld, hit: int) -> None:
    tiny.reset()
    with tiny.stopped(*tiny.migrate_words(), fault=f"barrier:{hit}:before") as (_, future):
        filler = tiny.occupy()
    ran = future.result()
    assert ran.code == 33, ran.err + ran.out
    server = tiny.server_pid()
    assert server is not None
    assert psutil.pid_exists(server)
    assert ran.err.count("error:") == 1
    assert "target.db cannot be saved" in ran.err
    assert "make room on its disk" in ran.err
    assert f"process {server}" in ran.err
    assert f"memmig resume {tiny.run_ids()[0]}" in ran.err
    again = tiny.run("resume")
    assert again.code == 33, "the disk is as full as it was"
    assert tiny.server_pid() == server
    filler.unlink()
    tiny.finish()
    assert tiny.server_pid() is None
    tiny.ended_as_undisturbed(Tally(tiny.kind))
    tiny.journal_is_sound()
    assert not tiny.events("batches.lost")
    assert {file.name for file in tiny.disk.iterdir()} == {"target.db"}

"""A limit of a file's size, which cuts writes in the middle, and a full file system, at one size after another."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from tests.checker.rawstore import path_of
from tests.iofaults.worlds import FaultWorld, count, ended_cleanly

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.iofaults.forks import Forks
    from tests.running import Ran

_PAGE = 4096
_DISK = 1 << 20
_OTHERS = 1 << 20
_PLACES = pytest.mark.parametrize("place", ["journal", "target"])


@dataclass(slots=True)
class LimitedWorld(FaultWorld):
    """A world whose journal or target is on a disk of its own, where there is one; a large target on request."""

    disk: Path | None = None
    place: str = "journal"
    large: bool = False

    @property
    def url(self) -> str:
        """The target."""
        return f"sqlite:///{self.disk if self.disk and self.place == 'target' else self.here}/target.db"

    @property
    def journal(self) -> Path:
        """The journal's place."""
        return (self.disk if self.disk and self.place == "journal" else self.here) / "state" / "journal.db"

    def reset(self) -> None:
        """Begin a new story on an empty disk."""
        if self.disk:
            for left in self.disk.iterdir():
                shutil.rmtree(left) if left.is_dir() else left.unlink()
        FaultWorld.reset(self)

    def fill(self) -> None:
        """Put the earlier records into the target, and others' own beside them where it is to be large."""
        FaultWorld.fill(self)
        if self.large:
            with closing(sqlite3.connect(path_of(self.url))) as connection, connection:
                connection.execute("INSERT INTO their_table VALUES (2, zeroblob(?))", (_OTHERS,))

    def leave(self, room: int) -> Path:
        """Fill the disk but for some bytes; return the file to remove for more."""
        assert self.disk
        filler = self.disk / "filler"
        with filler.open("wb") as out:
            try:
                while True:
                    os.write(out.fileno(), bytes(_PAGE))
            except OSError:
                os.ftruncate(out.fileno(), max(filler.stat().st_size - room, 0))
        return filler


def _ends_cleanly(world: FaultWorld, ran: Ran, place: str, what: str, *, directly: bool) -> None:
    """``directly``: the run is taken back without a resume."""
    ended_cleanly(ran, place)
    world.claims_hold()
    world.journal_is_sound()
    if directly:
        world.taken_back()
    else:
        world.recovered()
    count(what, ran)


def _limits(world: LimitedWorld, place: str, first: int, step: int) -> None:
    for size in range(first, first + _DISK, step):
        world.reset()
        ran = world.run(*world.migrate_words(), largest=size)
        if not ran.code:
            assert size > first, "no write was refused: this proves nothing"
            return
        try:
            _ends_cleanly(world, ran, place, f"file-size limit, {place}", directly=size % 2 == 0)
        except AssertionError as error:
            error.add_note(f"{size} bytes, exit {ran.code}: {ran.err}")
            raise
    pytest.fail("the run never came through")


def _limited(place: str, folder: Path, forks: Forks) -> tuple[LimitedWorld, int]:
    """Return a world, and a size from which on a limit is met by the writes to a place alone."""
    world = LimitedWorld(folder / "w", "sqlite-0.12", forks=forks, place=place, large=place == "target")
    world.prepare()
    return world, path_of(world.url).stat().st_size - _PAGE + 1


@_PLACES
def test_a_limit_of_size_ends_cleanly(place: str, tmp_path: Path, forks: Forks) -> None:
    world, first = _limited(place, tmp_path, forks)
    _limits(world, place, first, 60_013 if place == "journal" else 11_003)


@pytest.mark.long
@_PLACES
def test_every_limit_of_size_ends_cleanly(place: str, tmp_path: Path, forks: Forks) -> None:
    world, first = _limited(place, tmp_path, forks)
    # Odd: beside the pages, and in the middle of the log's frames.
    _limits(world, place, first, 4_999 if place == "journal" else 1_021)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MB."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={_DISK}", "tmpfs", place], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("no small file system can be mounted here (needs root): a limit of a file's size stands for it")
    yield place
    subprocess.run(["umount", "-l", place], check=True)


def _rooms(world: LimitedWorld, first: int, step: int) -> None:
    world.prepare()
    for room in range(first, _DISK, step):
        world.reset()
        filler = world.leave(room)
        ran = world.run(*world.migrate_words())
        filler.unlink()
        if not ran.code:
            assert room > first, "the disk was never full: this proves nothing"
            return
        try:
            _ends_cleanly(world, ran, world.place, f"full disk, {world.place}", directly=room // step % 2 == 1)
        except AssertionError as error:
            error.add_note(f"{room} bytes free, exit {ran.code}: {ran.err}")
            raise
    pytest.fail("the run never came through")


@_PLACES
def test_a_full_disk_ends_cleanly(place: str, disk: Path, tmp_path: Path, forks: Forks) -> None:
    world = LimitedWorld(tmp_path / "w", "sqlite-0.12", forks=forks, place=place, disk=disk)
    _rooms(world, 0, 20 * _PAGE if place == "journal" else 4 * _PAGE)


@pytest.mark.long
@_PLACES
@pytest.mark.parametrize("kind", ["sqlite-0.12", "sqlite-0.12 wal", "sqlite-0.13 (new)"])
def test_every_full_disk_ends_cleanly(kind: str, place: str, disk: Path, tmp_path: Path, forks: Forks) -> None:
    world = LimitedWorld(tmp_path / "w", kind, fresh="new" in kind, forks=forks, place=place, disk=disk)
    _rooms(world, 0, (2 if place == "journal" else 1) * _PAGE)

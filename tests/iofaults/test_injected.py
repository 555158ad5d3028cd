"""Calls on the journal and on a SQLite target that fail, one after the other, until a run meets no fault any more."""

from __future__ import annotations

import os
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING

import pytest

from tests import engines
from tests.iofaults.strace import Fault
from tests.iofaults.worlds import count, ended_cleanly

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tests.iofaults.worlds import FaultWorld
    from tests.running import Ran

pytestmark = pytest.mark.skipif(not engines.live("strace"), reason=engines.reason("strace"))

OLD, WAL, NEW = "sqlite-0.12", "sqlite-0.12 wal", "sqlite-0.13 (new)"
BOTH = ("journal", "target")
#: Parts that take every so-and-so-many-th call take each with this.
EACH = os.environ.get("MEMMIG_IO_STEP") == "1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Faults that differ by their number only. ``how`` ends with + where all later calls fail, too."""

    kind: str
    command: str  #: which is struck: migrate, resume or rollback
    place: str
    call: str
    how: str
    step: int

    def __str__(self) -> str:
        return f"{self.kind} {self.command} {self.place} {self.call} {self.how}"

    def faults(self) -> Iterator[Fault]:
        step = 1 if EACH else self.step
        # Each part begins elsewhere, so that together they strike more of the calls than each does.
        first = 1 + len(str(self)) % step
        for when in range(first, 10_000, step):
            yield Fault(call=self.call, how=self.how.rstrip("+"), when=when, persistent=self.how.endswith("+"))


def _parts(
    kind: str, places: Iterable[str], calls: str, hows: str, *, step: int = 1, command: str = "migrate"
) -> list[Part]:
    chosen = product(places, calls.split(), hows.split())
    return [Part(kind=kind, command=command, place=place, call=call, how=how, step=step) for place, call, how in chosen]


SOME = [
    *_parts(OLD, ["journal"], "fdatasync openat", "EIO", step=5),
    *_parts(OLD, ["journal"], "pwrite64", "ENOSPC+ short", step=45),
    *_parts(OLD, ["target"], "fdatasync unlink", "EIO+", step=8),
    *_parts(OLD, ["target"], "fsync", "EIO"),
    *_parts(WAL, ["target"], "pwrite64", "ENOSPC", step=40),
    *_parts(NEW, ["target"], "openat", "EIO", step=6),
    *_parts(OLD, BOTH, "fdatasync", "EIO", step=10, command="rollback"),
    *_parts(NEW, ["target"], "unlink", "EIO", command="rollback"),
]
ALL = [
    *_parts(OLD, BOTH, "pwrite64 fdatasync", "EIO"),
    *_parts(OLD, BOTH, "pwrite64", "EIO+ ENOSPC ENOSPC+ short short+", step=9),
    *_parts(OLD, BOTH, "fdatasync", "EIO+ ENOSPC", step=3),
    *_parts(OLD, BOTH, "openat", "EIO EIO+ ENOSPC"),
    *_parts(OLD, BOTH, "unlink", "EIO EIO+"),
    *_parts(OLD, ["journal"], "ftruncate", "EIO EIO+"),
    *_parts(OLD, ["target"], "fsync", "EIO EIO+"),
    *_parts(WAL, ["target"], "pwrite64 fdatasync", "EIO ENOSPC+", step=5),
    *_parts(WAL, ["target"], "openat ftruncate", "EIO"),
    *_parts(NEW, BOTH, "pwrite64", "EIO ENOSPC+", step=11),
    *_parts(NEW, ["target"], "fdatasync openat", "EIO EIO+", step=2),
    *_parts(OLD, BOTH, "pwrite64", "EIO ENOSPC+", step=9, command="rollback"),
    *_parts(OLD, BOTH, "fdatasync openat unlink", "EIO", command="rollback"),
    *_parts(NEW, ["target"], "unlink fdatasync", "EIO EIO+", step=2, command="rollback"),
    *_parts(OLD, BOTH, "pwrite64", "EIO", step=13, command="resume"),
    *_parts(OLD, BOTH, "fdatasync", "EIO", step=3, command="resume"),
]


def _by_kind(parts: list[Part]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(
        ("world", "part"), [pytest.param(part.kind, part, id=str(part)) for part in parts], indirect=["world"]
    )


@_by_kind(SOME)
def test_a_failing_call_ends_cleanly(world: FaultWorld, part: Part) -> None:
    _all_end_cleanly(world, part)


@pytest.mark.long
@_by_kind(ALL)
def test_every_failing_call_ends_cleanly(world: FaultWorld, part: Part) -> None:
    _all_end_cleanly(world, part)


def _all_end_cleanly(world: FaultWorld, part: Part) -> None:
    found = 0
    for fault in part.faults():
        ran, struck = _struck(world, part, fault)
        if not struck:
            assert ran.code == 0, ran.err
            break
        try:
            _ends_cleanly(world, part, ran, directly=fault.when % 3 == 0)
        except AssertionError as error:
            error.add_note(f"{part}: {fault}, exit {ran.code}: {ran.err}")
            raise
        count(f"{part.kind}, {part.command}, {part.place}", ran)
        found += 1
    assert found, "nothing was struck: this part proves nothing"


def _struck(world: FaultWorld, part: Part, fault: Fault) -> tuple[Ran, int]:
    """Run a story up to the command that is struck, and that one under strace."""
    world.reset()
    words = world.migrate_words()
    if part.command == "rollback":
        assert world.migrate().code == 0
        words = ("rollback", world.run_ids()[0])
    elif part.command == "resume":
        # In the middle of the batches.
        ran, _ = world.traced(Fault(call="fdatasync", how="EIO", when=20), "target", *words)
        assert ran.code == 33, ran.err
        words = ("resume",)
    return world.traced(fault, part.place, *words)


def _ends_cleanly(world: FaultWorld, part: Part, ran: Ran, *, directly: bool) -> None:
    """``directly``: the run is taken back without a resume."""
    back = part.command == "rollback"
    ended_cleanly(ran, part.place, opening=part.call == "openat")
    world.says_how_to_go_on(ran, "rollback" if back else "run")
    world.claims_hold(rolling_back=back)
    world.journal_is_sound()
    if not ran.code and not ran.document["warnings"]:
        assert world.snapshot() == (world.before if back else world.wanted)
    if back or directly:
        world.taken_back()
    else:
        world.recovered()


@pytest.mark.parametrize("world", [OLD], indirect=True)
def test_a_journal_that_gets_no_log_is_refused(world: FaultWorld) -> None:
    """SQLite goes on without one, and says so after its answer to the switch; readers would read half a commit."""
    world.reset()
    ran, struck = world.traced(Fault(call="fdatasync", how="EIO", when=1), "journal", *world.migrate_words())
    assert struck == 1
    assert ran.code == 43, ran.err
    world.recovered()


@pytest.mark.parametrize("world", [NEW], indirect=True)
def test_a_file_that_was_made_and_got_no_table_is_taken_back(world: FaultWorld) -> None:
    world.reset()
    ran, struck = world.traced(Fault(call="fdatasync", how="EIO", when=1), "target", *world.migrate_words())
    assert (ran.code, struck) == (33, 1), ran.err
    world.taken_back()


@pytest.mark.parametrize("world", [OLD], indirect=True)
@pytest.mark.parametrize("place", BOTH)
def test_nothing_is_renamed(world: FaultWorld, place: str) -> None:
    fault = Fault(call="rename,renameat,renameat2", how="EIO", when=1, persistent=True)
    world.reset()
    ran, struck = world.traced(fault, place, *world.migrate_words())
    assert (ran.code, struck) == (0, 0)


@pytest.mark.parametrize("world", [OLD], indirect=True)
@pytest.mark.parametrize(
    ("call", "step"), [("openat", 1), ("pwrite64", 7), ("fdatasync", 1), ("unlink", 1), ("link,linkat", 1)]
)
def test_a_copy_of_the_journal_is_complete_or_not_there(world: FaultWorld, call: str, step: int) -> None:
    world.reset()
    assert world.migrate().code == 0
    world.backup.parent.mkdir()
    for when in range(1, 10_000, step):
        fault = Fault(call=call, how="ENOSPC", when=when)
        ran, struck = world.traced(fault, "backup", "journal", "backup", world.backup)
        if not struck:
            assert when > 1
            break
        ended_cleanly(ran, "backup")
        if not world.backup.exists():
            assert ran.code, fault
            assert world.run("journal", "backup", world.backup).code == 0
        assert world.run("journal", "check", journal=world.backup).code == 0
        world.backup.unlink()
        count("journal backup", ran)
    world.journal_is_sound()

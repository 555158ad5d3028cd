"""Journals of real runs to be damaged, and the judgement on what memmig then says and does.

The command line is called within this process: a tenth of a second each would not allow for thousands of calls.
"""

from __future__ import annotations

import io
import json
import random
import re
import sqlite3
from contextlib import closing, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from migrator.cli import main
from tests import figures
from tests.crash.worlds import KILLED, THEIRS, earlier_records, source_records
from tests.nasty import write_012
from tests.running import Ran, memmig

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

#: What says that a journal is not whole: damaged, or of a schema that nobody knows.
DAMAGED = frozenset({41, 42})
#: An older journal, as it is after its log was lost: nothing is open, a fence in the target, no such run.
BEHIND = frozenset({20, 21, 31, 50, 52})
_HEADER = 100
_TABLES = ("alembic_version", "events", "entries", "batches")
_LONG = "a long text that overflows its page; " * 300


def call(*words: str | Path) -> Ran:
    """Run memmig in this process."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = main([str(word) for word in words])
    return Ran(code, out.getvalue(), err.getvalue())


def content(path: Path) -> Any:
    """Return everything that a SQLite file holds, as plain SQL shows it; the error where it cannot be read."""
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro&immutable=1", uri=True)) as connection:
            connection.text_factory = bytes
            found = {"schema": connection.execute("SELECT type, name, sql FROM sqlite_master ORDER BY 1, 2").fetchall()}
            for sort, name, sql in found["schema"]:
                if sort == b"table" and b"VIRTUAL" not in sql:
                    found[name.decode()] = sorted(map(repr, connection.execute(f'SELECT * FROM "{name.decode()}"')))
            indexed = "SELECT run_id, version, seq FROM events INDEXED BY sqlite_autoindex_events_1 ORDER BY 1, 2"
            if "events" in found:
                found["by the index"] = connection.execute(indexed).fetchall()
            return found
    except (sqlite3.Error, UnicodeDecodeError) as error:
        return str(error)


def records(path: Path) -> Any:
    """Return what a target holds beside the marker."""
    found = content(path)
    assert isinstance(found, dict), found
    found.pop("_memmig", None)
    found["schema"] = [row for row in found["schema"] if b"_memmig" not in row[1]]
    return found


@dataclass(slots=True)
class Desk:
    """A folder with source, target and journal of one run, put back as often as wanted."""

    folder: Path
    open: bool  #: the run was killed half-way; otherwise it is finished
    run_id: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    before: Any = None  #: the target's records before the run
    after: Any = None  #: and after an undisturbed one
    answers: dict[tuple[str, ...], str] = field(default_factory=dict)  #: of the undamaged journal
    whole: Any = None  #: its content

    @property
    def journal(self) -> Path:
        return self.folder / "state" / "journal.db"

    @property
    def wal(self) -> Path:
        return self.journal.with_name("journal.db-wal")

    @property
    def target(self) -> Path:
        return self.folder / "target.db"

    @property
    def migrate(self) -> tuple[str, ...]:
        stores = ("--from", f"sqlite:///{self.folder}/source.db", "--to", f"sqlite:///{self.target}")
        return ("migrate", *stores, "--on-conflict", "overwrite", "--batch-size", "2")

    @property
    def reading(self) -> list[tuple[str, ...]]:
        """Every command that reads the journal and writes nothing."""
        shown = [("list",), ("show",), ("show", self.run_id), ("events",), ("find", "m03"), ("export",)]
        found = [("journal", *words) for words in shown]
        return [*found, ("rollback", self.run_id, "--dry-run"), ("verify", self.run_id), (*self.migrate, "--dry-run")]

    @property
    def writing(self) -> list[tuple[str, ...]]:
        """Every command that writes what the journal says."""
        found = [self.migrate, ("rollback", self.run_id)]
        return [*found, ("resume",), ("resume", self.run_id)] if self.open else found

    def call(self, *words: str) -> Ran:
        return call(*words, "--journal", self.journal)

    def make(self) -> None:
        """Run, and keep the files."""
        memories, edges = source_records()
        write_012(self.folder / "source.db", memories, edges)
        earlier = earlier_records()
        earlier[0][1].properties["content"] = _LONG
        write_012(self.target, *earlier)
        self.before = records(self.target)
        undisturbed = call(*self.migrate, "--journal", self.folder / "other.db")
        assert undisturbed.code == 0, undisturbed.err
        self.after = records(self.target)
        self.target.unlink()
        write_012(self.target, *earlier)
        if self.open:
            fault = {"MEMMIG_FAULT": "write:6:after"}
            ran = memmig(*self.migrate, "--journal", self.journal, cwd=self.folder, environment=fault)
            assert ran.code == KILLED, ran.err
        else:
            assert self.call(*self.migrate).code == 0
        self.keep()
        self.run_id = json.loads(self.call("journal", "list", "--json").out)[0]["run_id"]

    def keep(self) -> None:
        """Make what is there what is put back."""
        names = [
            "target.db",
            *(
                f"state/{place.name}"
                for place in self.journal.parent.iterdir()
                if place.suffix == ".db" or place == self.wal
            ),
        ]
        self.files = {name: (self.folder / name).read_bytes() for name in names}

    def empty_log(self) -> None:
        """Move what the log holds into the journal's file, as the next writer would."""
        with closing(sqlite3.connect(self.journal)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self.keep()

    def put(self, files: dict[str, bytes] | None = None) -> None:
        """Put these files there (the kept ones), and nothing beside them."""
        files = self.files if files is None else files
        for place in (*self.journal.parent.iterdir(), *self.folder.glob("target.db?*")):
            if str(place.relative_to(self.folder)) not in files:
                place.unlink()
        for name, data in files.items():
            (self.folder / name).write_bytes(data)

    def now(self) -> dict[str, bytes]:
        """Return target and journal as they are; who locked it last says nothing."""
        beside = [f"state/{place.name}" for place in self.journal.parent.iterdir() if place.suffix != ".lock"]
        return {name: (self.folder / name).read_bytes() for name in ["target.db", *beside]}

    def listen(self) -> None:
        """Hear what each command says of the undamaged journal."""
        self.put()
        self.whole = content(self.journal)
        for words in (*self.reading, *self.writing):
            self.put()
            self.answers[words] = self.answer(words)

    def answer(self, words: tuple[str, ...]) -> str:
        """Return exit code, output and resulting target of a command, without times and new ids."""
        ran = self.call(*words)
        told = re.sub(r"[0-9a-f-]{36}|[0-9.]+ s\b|[\d-]*T?\d\d:\d\d:\d\d(\.\d+)?|[\d,.]+/s", "*", ran.out)
        return f"{ran.code} {told} {records(self.target)}"


@dataclass(slots=True)
class Judge:
    """Judges damaged journals, and counts."""

    desk: Desk
    named: int = 0  #: refused, by every command
    unaffected: int = 0
    behind: int = 0  #: an older journal, by which the protocol decides

    def report(self, what: str) -> None:
        """Add the counts to the report."""
        numbers = {"named": self.named, "not affected": self.unaffected, "older journals": self.behind}
        figures.count(f"journal damage, {what}", numbers)

    def damaged(self, case: str) -> None:
        """Judge the journal that is there, whose file itself was damaged."""
        desk, found = self.desk, self.desk.now()
        whole = content(desk.journal) == desk.whole
        check = desk.call("journal", "check")
        assert check.code in {0, *DAMAGED}, f"{case}: {check}"
        assert whole or check.code, f"{case}: nobody notices"
        for words in (*desk.reading, *desk.writing):
            if check.code:
                self._refused(case, words, found)
            else:
                desk.put(found)
                assert desk.answer(words) == desk.answers[words], f"{case}: {words}"
        self.named += bool(check.code)
        self.unaffected += not check.code

    def _refused(self, case: str, words: tuple[str, ...], found: dict[str, bytes]) -> None:
        desk = self.desk
        ran = desk.call(*words)
        assert ran.code in DAMAGED, f"{case}: {words}: {ran}"
        assert ran.err.count("error: ") == 1, f"{case}: {words}: {ran}"
        assert desk.now() == found, f"{case}: {words} changed a file"

    def log(self, case: str, truth: list[tuple[Any, ...]]) -> None:
        """Judge a journal whose log was damaged: what is left is an older journal, or the same."""
        desk, found = self.desk, self.desk.now()
        check = desk.call("journal", "check", "--json")
        assert check.code in {0, 41, 52}, f"{case}: {check}"
        if check.code == 0:
            seen = desk.call("journal", "events", "--json")
            hashes = [(one["seq"], one["type"]) for one in seen.document]  # type: ignore[index]
            assert hashes == truth[: len(hashes)], case
            self.unaffected += len(hashes) == len(truth)
            self.behind += len(hashes) < len(truth)
        else:
            self.named += 1
        half = records(desk.target)
        for words in (*desk.reading, *desk.writing):
            desk.put(found)
            ran = desk.call(*words)
            assert ran.code in {0, 10, *DAMAGED, *BEHIND}, f"{case}: {words}: {ran}"
            now = records(desk.target)
            wanted = [half]
            if words[0] in {"migrate", "resume"}:
                wanted.append(desk.after)
            elif words[0] == "rollback":
                wanted.append(desk.before)
            assert now in wanted, f"{case}: {words} left {ran.code} and something else"


def flips(data: bytes, page: int, number: int) -> Iterator[int]:
    """Give places in a page whose byte is to be flipped: its header and pointers, and some of all others."""
    size = int.from_bytes(data[16:18]) or 65536
    start = page * size
    chance = random.Random(page)
    head = list(range(_HEADER + 16)) if page == 0 else list(range(16))
    used = [at for at in range(size) if data[start + at]]
    some = chance.sample(head, min(len(head), number // 3)) + chance.sample(used, min(len(used), number - number // 3))
    yield from sorted({start + at for at in some})


def flipped(data: bytes, at: int, bits: int = 0xFF) -> bytes:
    """Return the bytes with one of them changed."""
    return data[:at] + bytes([data[at] ^ bits]) + data[at + 1 :]


__all__ = ["THEIRS", "Desk", "Judge", "call", "content", "flipped", "flips", "records"]

"""What the histories are made of: targets that others write to directly, and the plain model of who wrote what."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from copy import deepcopy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from migrator.model import KINDS
from tests.engine.conftest import Fate, edge, memory
from tests.nasty import write_012

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from migrator.backends.memory import MemoryStore
    from migrator.model import Kind
    from migrator.models import Finding

type Key = tuple[Kind, str]
type Stored = Any
type Plain = tuple[Any, ...]

NODE = "INSERT OR REPLACE INTO nodes VALUES (?, 'Memory', ?, '2000-01-01 00:00:00', '2000-01-01 00:00:00')"
_COLUMNS = "id, from_id, to_id, rel_type, properties, created_at, valid_from, recorded_at"
EDGE = f"INSERT OR REPLACE INTO relationships ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, '2000-01-01 00:00:00', ?, ?)"
_MOMENT = "2025-01-01T00:00:00+00:00"


class Place(Protocol):
    """A target as its other clients see it."""

    def all(self) -> dict[Key, Stored]:
        """Return everything as it is stored."""

    def plain(self, key: Key, stored: Stored) -> Plain:
        """Return what two records of any store have in common when they are equal."""

    def put(self, key: Key, record: dict[str, Any]) -> None:
        """Create or replace a record, given as the in-memory store has it."""

    def delete(self, key: Key) -> None:
        """Delete a record."""

    def markers(self) -> int:
        """Return how many markers there are."""


def plain(key: Key, record: dict[str, Any]) -> Plain:
    """Return what :meth:`Place.plain` does for a record as the in-memory store has it."""
    ends = () if key[0] == "memory" else (record["type"], record["from"], record["to"])
    return (*ends, *sorted(record["properties"].items()))


@dataclass(frozen=True, slots=True)
class InMemory:
    """The in-memory store."""

    store: MemoryStore

    def all(self) -> dict[Key, Stored]:
        return deepcopy({(kind, name): raw for kind in KINDS for name, raw in self.store.held(kind).items()})

    def plain(self, key: Key, stored: Stored) -> Plain:
        return plain(key, stored)

    def put(self, key: Key, record: dict[str, Any]) -> None:
        self.store.held(key[0])[key[1]] = deepcopy(record)

    def delete(self, key: Key) -> None:
        del self.store.held(key[0])[key[1]]

    def markers(self) -> int:
        return len(self.store.markers)


@dataclass(frozen=True, slots=True)
class InFile:
    """A SQLite file of layout 0.12."""

    path: Path

    def __post_init__(self) -> None:
        write_012(self.path, [], [])

    def _do(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(self.path)) as connection, connection:
            return connection.execute(statement, values).fetchall()

    def all(self) -> dict[Key, Stored]:
        found: dict[Key, Stored] = {("memory", row[0]): row for row in self._do("SELECT * FROM nodes")}
        return found | {("relationship", row[0]): row for row in self._do("SELECT * FROM relationships")}

    def plain(self, key: Key, stored: Stored) -> Plain:
        inside = json.loads(stored[2 if key[0] == "memory" else 4])
        ends = () if key[0] == "memory" else (stored[3], stored[1], stored[2])
        properties = {name: value for name, value in inside.items() if name != "id" and value is not None}
        if key[0] == "relationship":
            properties |= {"valid_from": stored[6], "recorded_at": stored[8]}
        return (*ends, *sorted(properties.items()))

    def put(self, key: Key, record: dict[str, Any]) -> None:
        inside = json.dumps({"id": key[1], **record["properties"]})
        if key[0] == "memory":
            self._do(NODE, key[1], inside)
        else:
            self._do(EDGE, key[1], record["from"], record["to"], record["type"], inside, _MOMENT, _MOMENT)

    def delete(self, key: Key) -> None:
        self._do(f"DELETE FROM {'nodes' if key[0] == 'memory' else 'relationships'} WHERE id = ?", key[1])

    def markers(self) -> int:
        there = self._do("SELECT 1 FROM sqlite_master WHERE name = '_memmig'")
        return len(self._do("SELECT 1 FROM _memmig")) if there else 0


def made(key: Key, tag: str, ends: tuple[str, str] = ("", "")) -> dict[str, Any]:
    """Return a record whose content says who wrote it."""
    if key[0] == "memory":
        return memory(key[1], content=tag)
    # Layout 0.12 has none without these two.
    return edge(key[1], *ends, context=tag, valid_from=_MOMENT, recorded_at=_MOMENT)


def hanging(place: Place, name: str) -> list[Key]:
    """Return the edges at a memory."""
    everything = place.all().items()
    return [key for key, stored in everything if key[0] == "relationship" and name in place.plain(key, stored)[1:3]]


@dataclass
class Chance(Fate):
    """A fate that lets somebody else act before one of the steps."""

    act_at: int = 0
    act: Callable[[], None] = lambda: None

    def around(self, name: str, call: Callable[[], Any]) -> Any:
        if len(self.hits) + 1 == self.act_at:
            self.act()
        return super().around(name, call)


@dataclass
class Model:
    """Who wrote what last, as far as the promise goes: nothing else of how memmig decides is known here."""

    place: Place
    theirs: dict[Key, Stored | None] = field(default_factory=dict)  #: what others left under an id; None: deleted
    moves: dict[Key, int] = field(default_factory=dict)  #: when they last did something to it
    now: int = 0
    #: Run → the target as it was when it opened; None where it is no longer what a rollback would lead to.
    before: dict[str, tuple[int, dict[Key, Stored]] | None] = field(default_factory=dict)

    def touched(self, key: Key) -> None:
        """Note that others wrote to an id."""
        self.now += 1
        self.moves[key] = self.now
        self.theirs[key] = self.place.all().get(key)

    def forget(self, key: Key) -> None:
        """Note that what others left is equal to what the source holds: it is the pair's from now on."""
        self.theirs.pop(key, None)

    def opened(self, run_id: str, target: dict[Key, Stored], at: int) -> None:
        """Note the target as it was when a run began."""
        self.before.setdefault(run_id, (at, target))

    def keeps_what_others_did(self) -> None:
        """Nothing foreign is lost, overwritten or brought back; nothing dangles."""
        there = self.place.all()
        for key, stored in self.theirs.items():
            assert there.get(key) == stored, f"{key}: others left {stored}, there is {there.get(key)}"
        for key, stored in there.items():
            if key[0] == "relationship":
                for end in self.place.plain(key, stored)[1:3]:
                    assert ("memory", end) in there, f"{key} dangles at {end}"

    def arrived(self, source: MemoryStore, reported: int, *, exactly: bool) -> None:
        """Everything in the source is in the target, or was reported as not being there.

        Not ``exactly``: others may have made equal what a run had reported before it died and was resumed.
        """
        there = self.place.all()
        keys: list[Key] = [(kind, name) for kind in KINDS for name in source.held(kind)]
        different = [
            key
            for key in keys
            if key not in there or self.place.plain(key, there[key]) != plain(key, source.held(key[0])[key[1]])
        ]
        enough = len(different) == reported if exactly else len(different) <= reported
        assert enough, f"{different} are not what the source holds, {reported} were reported"

    def taken_back(self, run_id: str, retained: tuple[Finding, ...]) -> None:
        """What the run did and nobody touched since is as it was, or was reported."""
        opened = self.before.get(run_id)
        if opened is None:
            return
        began, before = opened
        named = {(finding.kind, finding.id) for finding in retained if finding.what == "retained"}
        there = self.place.all()
        for key in before.keys() | there.keys():
            if self.moves.get(key, 0) <= began and key not in named:
                assert there.get(key) == before.get(key), f"{key} is not as it was before run {run_id}"
        if not named:
            self.before[run_id] = None

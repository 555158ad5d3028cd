"""The dry run's truth: every file on either side is the same before and after, and its counts are the run's.

The data folders of a Bolt server are its own affair; what is in it is read by the independent checker.
"""

from __future__ import annotations

from contextlib import ExitStack
from itertools import product
from typing import TYPE_CHECKING, Any

import pytest

from tests import engines
from tests.crash.worlds import earlier_records, source_records
from tests.integration.stores_of_all_kinds import KINDS, Place, Places
from tests.running import Ran, listing, memmig

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from _pytest.mark import ParameterSet

    from tests.engines import FalkorServer


def _pairs() -> Iterator[ParameterSet]:
    """Yield every pair; by default each kind is looked at as a source and as a target, and as one not yet there."""
    first = {kind.split("-")[0]: kind for kind in reversed(KINDS)}.values()
    for kind, to in product(KINDS, KINDS):
        enough = {kind, to} <= {*first} and (kind == to or KINDS[0] in (kind, to))
        yield pytest.param(kind, to, marks=() if enough else pytest.mark.long)


@pytest.fixture(scope="module")
def servers() -> Iterator[dict[str, FalkorServer]]:
    """One server for each side: its data folder is part of what must not change."""
    if not (engines.live("falkordb") and engines.live("falkordblite")):
        pytest.skip("FalkorDB and FalkorDBLite are not both live here")
    # Else what is written while the file is being synced gets into it up to two seconds late.
    at_once = ("--appendfsync", "always")
    with ExitStack() as stack:
        sides = ("source", "target")
        yield {side: stack.enter_context(engines.falkordb_server("aof", options=at_once)) for side in sides}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where everything of a test is that is no server's, with a folder for each side and for the program's own."""
    for name in ("source", "target", "home", "tmp"):
        (tmp_path / name).mkdir()
    return tmp_path


def _everything(folder: Path, servers: dict[str, FalkorServer]) -> dict[str, Any]:
    found: dict[str, Any] = {"here": listing(folder)}
    for side, server in servers.items():
        # The log of its connections, and what it notes of queries that it was asked (telemetry), are the server's own
        # affair: of the append-only file the commands on graphs count.
        own = {"log", *(f"appendonlydir/{file.name}" for file in server.folder.glob("appendonlydir/*.incr.aof"))}
        found[side] = {name: one for name, one in listing(server.folder).items() if name not in own}
        for file in sorted(server.folder.glob("appendonlydir/*.incr.aof")):
            found[f"{side} {file.name}"] = file.read_bytes().count(b"GRAPH.")
        with server.client() as client:
            found[f"{side} graphs"] = sorted(client.execute_command("GRAPH.LIST"))
    return found


@pytest.mark.parametrize(("kind", "to"), list(_pairs()))
def test_a_dry_run_changes_no_file_and_counts_what_the_run_counts(
    servers: dict[str, FalkorServer], folder: Path, request: pytest.FixtureRequest, kind: str, to: str
) -> None:
    places = Places(folder, request)

    def place(kind: str, side: str) -> Place:
        if kind == "falkordb":
            return Place(kind, f"falkordb://127.0.0.1:{servers[side].port}/dry-{folder.name}")
        return places.new(kind, f"{side}/store")

    source, target = place(kind, "source"), place(to, "target")
    source.write(*source_records())
    if kind != to:
        target.write(*earlier_records())  # else the target is yet to be made

    def run(*more: str) -> Ran:
        words = ("migrate", "--from", source.url, "--to", target.url, *target.layout, "--json", *more)
        journal = ("--journal", folder / "state" / "journal.db")
        secrets = source.secrets("FROM") | target.secrets("TO")
        return memmig(*words, *journal, cwd=folder, environment=secrets | {"TMPDIR": str(folder / "tmp")})

    for policy, code in (("skip", 0 if kind == to else 10), ("overwrite", 0)):
        before, states = _everything(folder, servers), (source.state(), target.state())
        dry = run("--dry-run", "--on-conflict", policy)
        assert _everything(folder, servers) == before
        assert (source.state(), target.state()) == states
        real = run("--on-conflict", policy)
        assert (dry.code, real.code) == (code, code), dry.err + real.err
        assert dry.document["status"] == "dry-run"
        for name in ("memories", "relationships"):
            assert dry.document[name] == real.document[name]
            assert dry.document[name]["read"]

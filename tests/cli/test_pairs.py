"""``memmig backends --matrix``: every pair, how it is tested, and the drivers."""

from __future__ import annotations

import json
from itertools import product
from typing import TYPE_CHECKING

from tests.integration.stores_of_all_kinds import KINDS
from tests.running import ROOT

if TYPE_CHECKING:
    from tests.cli.conftest import Memmig

ENDS = ["sqlite 0.12", "sqlite 0.13", "falkordblite", "falkordb", "neo4j", "memgraph"]


def test_every_pair_says_how_it_is_tested(memmig: Memmig) -> None:
    done = memmig("backends", "--matrix", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout)
    assert set(found) == {"pairs", "drivers"}
    cells = {(source, target): text for source, row in found["pairs"].items() for target, text in row.items()}
    assert list(cells) == list(product(ENDS, ENDS))
    live = {pair for pair, text in cells.items() if text == "tested live in CI"}
    # What it says is what the matrix of the test suite goes over.
    always = [kind.replace("-", " ") for kind in KINDS if kind != "memgraph"]
    assert live == set(product(always, always))
    assert {cells[pair] for pair in cells.keys() - live} == {"tested when a server is given"}
    assert all("memgraph" in pair for pair in cells.keys() - live)


def test_the_drivers_are_named(memmig: Memmig) -> None:
    drivers = json.loads(memmig("backends", "--matrix", "--json").stdout)["drivers"]
    assert list(drivers) == ["sqlite", "falkordblite", "falkordb", "neo4j", "memgraph"]
    assert drivers["neo4j"] == drivers["memgraph"]
    assert drivers["neo4j"]["version"].startswith("neo4j ")
    assert drivers["sqlite"]["install"] == ""
    assert drivers["falkordblite"]["install"] == "pip install 'memmig[falkordblite]'"


def test_the_table_fits_a_narrow_terminal(memmig: Memmig) -> None:
    done = memmig("backends", "--matrix", COLUMNS="40")
    lines = done.stdout.splitlines()
    assert done.returncode == 0
    assert max(map(len, lines)) <= 40
    rows = {line[2:14].strip(): line[14:].split() for line in lines[1:7]}
    assert list(rows) == ENDS
    assert rows["neo4j"] == ["L"] * 5 + ["s"]
    assert "L = tested live in CI" in lines
    assert "s = tested when a server is given" in lines


def test_the_readme_has_the_same_table(memmig: Memmig) -> None:
    pairs = json.loads(memmig("backends", "--matrix", "--json").stdout)["pairs"]
    letters = {"tested live in CI": "**L**", "tested when a server is given": "s"}
    rows = [[source, *(letters[text] for text in row.values())] for source, row in pairs.items()]
    table = (ROOT / "README.md").read_text("utf-8").split("## Every pair")[1].split("\n##")[0]
    shown = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines() if "|" in line]
    assert [cell.lower() for cell in shown[0][1:]] == list(pairs)
    assert [[row[0].lower(), *row[1:]] for row in shown[2:]] == rows

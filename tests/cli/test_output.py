"""What reaches a terminal."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import unicodedata
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from migrator.cli import describe
from migrator.cli.output import Output, counts_table, escape, findings, fold, shorten, summary
from migrator.cli.progress import Lines, line
from migrator.errors import StoreUnreachable
from migrator.hooks import Progress
from migrator.models import Finding, MigrationResult, no_counts

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

NASTY = "a\x1b[31mred\x07\r\n\t\x9b2J\u202edesrever\u2066x\u2069\ufeff\u2028\x00\ud800 \U000e0041z"


@given(st.text(st.characters()))
def test_nothing_that_steers_a_terminal_passes(text: str) -> None:
    shown = escape(text)
    assert not [
        c for c in shown if unicodedata.category(c) in {"Cc", "Cf", "Cs", "Zl", "Zp"} and c not in "\u200c\u200d"
    ]
    if text.isprintable():
        assert shown == text


def test_what_is_escaped_can_be_seen() -> None:
    shown = escape(NASTY)
    for part in ("\\x1b[31mred\\x07\\r\\n\\t\\x9b2J", "\\u202edesrever", "\\ufeff\\u2028\\x00\\ud800", "\\U000e0041z"):
        assert part in shown
    assert escape("שלום 👩‍👩‍👧 é") == "שלום 👩‍👩‍👧 é"


def test_long_texts_are_shortened_and_say_so() -> None:
    assert len(shorten("x" * 1_000_000)) == 199
    assert "…" in shorten("x" * 1_000)


def test_a_result_with_nasty_findings_is_harmless(capsys: pytest.CaptureFixture[str]) -> None:
    result = MigrationResult(
        run_id="r",
        status="finished",
        findings=(Finding(kind="memory", id=NASTY, what="conflict", field=NASTY, reason=NASTY),),
        warnings=(NASTY,),
    )
    summary(Output(), result)
    people = capsys.readouterr()
    summary(Output(as_json=True), result)
    program = capsys.readouterr()
    for text in (people.out, people.err, program.out):
        assert not set(text) & set("\x1b\x07\x9b\u202e\ufeff\ud800")
    assert "conflict memory a\\x1b" in " ".join(people.out.split()), "wherever the terminal's width breaks the line"
    assert json.loads(program.out)["findings"][0]["id"] == NASTY


def test_a_result_fits_into_40_columns(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    counts = dict.fromkeys(no_counts(), 123_456_789)
    found = Finding(kind="relationship", id="x" * 36, what="conflict", reason="both sides changed " * 5)
    result = MigrationResult(
        run_id="12345678-1234-1234-1234-123456789012",
        status="rolled-back-with-retained",
        memories=counts,
        relationships=counts,
        findings=(found,),
        warnings=("something " * 10,),
    )
    summary(Output(), result)
    shown = capsys.readouterr()
    assert max(map(len, (shown.out + shown.err).splitlines())) <= 40
    assert max(map(len, counts_table({"memories": counts, "relationships": counts}))) <= 40


def test_lines_for_programs_are_not_folded(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    Output().line("word " * 100)
    assert len(capsys.readouterr().out.splitlines()) == 1
    assert fold("word " * 100, 0, 2) == "word " * 100
    assert all(len(text) <= 40 for text in fold("word " * 100 + "x" * 100, 40, 4).splitlines())


def test_findings_name_field_and_reason() -> None:
    found = [Finding(kind="memory", id="i", what="quarantined", field="title", reason="a NUL")]
    assert list(findings(found)) == ["quarantined memory i, title: a NUL"]


def test_an_error_never_shows_a_password() -> None:
    shown = describe(StoreUnreachable("no redis://me:hunter22@h:1", hint="try redis://me:hunter22@h"))
    assert "hunter22" not in json.dumps(shown)
    assert (shown["name"], shown["exit_code"]) == ("StoreUnreachable", 20)
    bug = describe(RuntimeError("at bolt://u:hunter22@h"))
    assert "hunter22" not in json.dumps(bug)
    assert (bug["name"], bug["exit_code"]) == ("RuntimeError", 1)


def test_progress_in_plain_lines() -> None:
    told: list[str] = []
    now = iter([0.0, 1.0, 6.0, 6.5, 7.0])
    lines = Lines(told.append, lambda: next(now))
    for done in (0, 1_000, 6_000):
        lines(Progress(phase="import", kind="memory", done=done, total=12_000))
    lines(Progress(phase="import", kind="memory", done=6_100, total=12_000))
    lines(Progress(phase="import", kind="relationship", done=0, total=None))
    assert told == [
        "import: memories of 12000",
        "import: 6000 of 12000 memories, 1000/s, 6 s left",
        "import: relationships",
    ]
    assert line(Progress(phase="scan", kind="memory", done=7, total=None), 0.0, 0) == "scan: 7 memories"


@pytest.mark.parametrize("columns", ["40", "120"])
def test_progress_on_a_terminal_is_a_bar_within_its_width(
    columns: str, tmp_path: Path, environment: Mapping[str, str]
) -> None:
    script = """
import io, sys, time
class Terminal(io.TextIOWrapper):
    def isatty(self): return True
sys.stderr = Terminal(io.FileIO(2, "w", closefd=False), write_through=True)
from migrator.cli.output import Output
from migrator.cli.progress import reporter
from migrator.hooks import Progress
with reporter(Output()) as report:
    for done in range(0, 1001, 100):
        report(Progress(phase="import", kind="relationship", done=done, total=1000)); time.sleep(0.03)
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**environment, "COLUMNS": columns, "TERM": "xterm", "NO_COLOR": "1"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "import relationships" in done.stderr
    assert "/s" in done.stderr
    assert not re.search(r"\x1b\[[0-9;]*[3-4][0-7]m", done.stderr), "NO_COLOR is honoured"
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", done.stderr)
    frames = re.split(r"[\r\n]+", plain)
    assert max(map(len, frames)) <= int(columns)
    # Nothing is cut off: name, how far, rate and time left stand in one line.
    assert [
        frame for frame in frames if re.search(r"^import relationships .*\d+(%|/1000) +\d+/s +\d+:\d\d:\d\d", frame)
    ]


def test_a_reader_that_goes_away_is_no_error(tmp_path: Path, environment: Mapping[str, str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-m", "migrator", "backends", "--matrix", "--json"],
        env=environment,
        cwd=tmp_path,
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_terminal_that_knows_no_unicode_is_no_error(tmp_path: Path, environment: Mapping[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "migrator", "journal", "find", "é→😀", "--journal", "é→😀.db"],
        env={**environment, "PYTHONIOENCODING": "ascii"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 52
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("closing", [">&-", ">&- 2>&-", "2>&-"])
def test_closed_streams_are_no_error(closing: str, tmp_path: Path, environment: Mapping[str, str]) -> None:
    command = f'"{sys.executable}" -m migrator backends --matrix {closing}'
    assert subprocess.run(["sh", "-c", command], env=environment, cwd=tmp_path, check=False).returncode == 0


def test_a_full_disk_behind_stdout_is_said(tmp_path: Path, environment: Mapping[str, str]) -> None:
    for arguments in (["--json"], []):
        command = f'"{sys.executable}" -m migrator backends --matrix {" ".join(arguments)} >/dev/full'
        done = subprocess.run(
            ["sh", "-c", command], env=environment, cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == 1
        assert done.stderr.startswith("error: the result cannot be written: ")
        assert len(done.stderr.splitlines()) == 2

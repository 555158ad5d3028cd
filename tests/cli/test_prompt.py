"""The prompt for a password, on a real pseudo-terminal and without one."""

from __future__ import annotations

import os
import pty
import secrets
import select
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from tests import engines

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from tests.cli.conftest import Memmig

pytestmark = pytest.mark.skipif(not engines.live("falkordb"), reason="FalkorDB is not live here")
PASSWORD = secrets.token_urlsafe()
_SECONDS = 60
#: Makes its standard input the terminal that /dev/tty means, then becomes memmig.
_AT_TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.executable, [sys.executable, "-m", "migrator", *sys.argv[1:]])
"""


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """Name a user of a server that wants a password, and a graph with one memory."""
    with engines.falkordb_server("none", password=PASSWORD) as server:
        server.query("g", "CREATE (:Memory {id: 'a', type: 'task', title: 't', content: 'c'})")
        yield f"falkordb://default@127.0.0.1:{server.port}/g"


def _words(url: str) -> list[str]:
    return ["migrate", "--from", url, "--to", "sqlite:///target.db", "--layout", "0.12", "--journal", "journal.db"]


def _at_a_terminal(arguments: list[str], environment: Mapping[str, str], folder: Path, answer: str) -> tuple[int, str]:
    """Run memmig at a terminal of its own; answer the prompt; return its exit code and all that the terminal showed."""
    terminal, inside = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", _AT_TERMINAL, *arguments],
        cwd=folder,
        env=dict(environment),
        stdin=inside,
        stdout=inside,
        stderr=inside,
        start_new_session=True,
    )
    os.close(inside)
    shown, answered, until = b"", False, time.monotonic() + _SECONDS
    try:
        while time.monotonic() < until:
            if not select.select([terminal], [], [], 1)[0]:
                continue
            try:
                piece = os.read(terminal, 4096)
            except OSError:  # Linux says so where the other side has closed it
                break
            if not piece:
                break
            shown += piece
            if b"password of" in shown and not answered:
                answered = True
                time.sleep(0.2)  # echo is off once the prompt waits, a moment after it is shown
                os.write(terminal, answer.encode() + b"\n")
        return process.wait(_SECONDS), shown.decode()
    finally:
        process.kill()
        process.wait()
        os.close(terminal)


def test_a_prompt_is_shown_echoes_nothing_and_works(url: str, tmp_path: Path, environment: Mapping[str, str]) -> None:
    code, shown = _at_a_terminal(_words(url), environment, tmp_path, PASSWORD)
    assert code == 0, shown
    assert shown.count("password of default at 127.0.0.1:") == 1
    assert PASSWORD not in shown
    assert (tmp_path / "target.db").exists()
    for path in tmp_path.rglob("*"):
        assert path.is_dir() or PASSWORD.encode() not in path.read_bytes(), path


def test_a_wrong_answer_is_one_line_and_never_shown(url: str, tmp_path: Path, environment: Mapping[str, str]) -> None:
    wrong = secrets.token_urlsafe()
    code, shown = _at_a_terminal(_words(url), environment, tmp_path, wrong)
    assert code == 20, shown
    assert shown.count("error:") == 1
    assert "refuses to sign in" in shown
    assert wrong not in shown
    assert not (tmp_path / "target.db").exists()


def test_without_a_terminal_nobody_is_asked(url: str, tmp_path: Path, memmig: Memmig) -> None:
    done = memmig(*_words(url), stdin=f"{PASSWORD}\n")
    assert done.returncode == 20
    assert "password of" not in done.stderr + done.stdout
    assert done.stderr.count("error:") == 1
    assert "refuses to sign in" in done.stderr
    assert "user and password" in done.stderr
    assert not (tmp_path / "target.db").exists()


def test_a_file_with_the_password_is_asked_before_anybody(
    url: str, tmp_path: Path, environment: Mapping[str, str]
) -> None:
    file = tmp_path / "password"
    file.write_text(f"{PASSWORD}\n")
    file.chmod(0o600)
    words = [*_words(url), "--from-password-file", str(file)]
    code, shown = _at_a_terminal(words, environment, tmp_path, "")
    assert code == 0, shown
    assert "password of" not in shown

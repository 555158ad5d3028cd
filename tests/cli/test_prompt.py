"""The prompt for a password, on a real pseudo-terminal and without one."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

import pytest

from tests import engines
from tests.terminal import at_a_terminal

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from tests.cli.conftest import Memmig

pytestmark = pytest.mark.skipif(not engines.live("falkordb"), reason="FalkorDB is not live here")
PASSWORD = secrets.token_urlsafe()
_PROMPT = "password of"


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """Name a user of a server that wants a password, and a graph with one memory."""
    with engines.falkordb_server("none", password=PASSWORD) as server:
        server.query("g", "CREATE (:Memory {id: 'a', type: 'task', title: 't', content: 'c'})")
        yield f"falkordb://default@127.0.0.1:{server.port}/g"


def _words(url: str) -> list[str]:
    return ["migrate", "--from", url, "--to", "sqlite:///target.db", "--layout", "0.12", "--journal", "journal.db"]


def test_a_prompt_is_shown_echoes_nothing_and_works(url: str, tmp_path: Path, environment: Mapping[str, str]) -> None:
    code, shown = at_a_terminal(_words(url), environment, tmp_path, prompt=_PROMPT, answer=PASSWORD)
    assert code == 0, shown
    assert shown.count("password of default at 127.0.0.1:") == 1
    assert PASSWORD not in shown
    assert (tmp_path / "target.db").exists()
    for path in tmp_path.rglob("*"):
        assert path.is_dir() or PASSWORD.encode() not in path.read_bytes(), path


def test_a_wrong_answer_is_one_line_and_never_shown(url: str, tmp_path: Path, environment: Mapping[str, str]) -> None:
    wrong = secrets.token_urlsafe()
    code, shown = at_a_terminal(_words(url), environment, tmp_path, prompt=_PROMPT, answer=wrong)
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
    code, shown = at_a_terminal(words, environment, tmp_path, prompt=_PROMPT, answer="")
    assert code == 0, shown
    assert "password of" not in shown

"""Wrong calls: two lines, exit code 2, one JSON document where it was asked for, and nothing left behind."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Memmig

TO = ["--to", "sqlite:///t.db"]
WRONG = [
    [],
    ["journal"],
    ["migrat"],
    ["journal", "lst"],
    ["migrate"],
    ["migrate", "--nonsense"],
    ["migrate", *TO, "extra"],
    ["migrate", *TO, "--batch-size", "0"],
    ["migrate", *TO, "--batch-size", "many"],
    ["migrate", *TO, "--layout", "0.14"],
    ["migrate", *TO, "--on-conflict", "ask"],
    ["migrate", *TO, "--skip-duplicates", "--on-conflict", "fail"],
    ["migrate", *TO, "--keep-on-failure", "--rollback-on-failure"],
    ["migrate", "--to", "sqlite"],
    ["migrate", "--to", "memory"],
    ["migrate", "--to", "postgres://localhost"],
    ["migrate", "--to", "sqlte:///t.db"],
    ["migrate", "--to", "t.db"],
    ["migrate", *TO, "--to-path", "t.db"],
    ["migrate", "--to", "falkordb", "--to-path", "t.db"],
    ["migrate", "--to", "falkordb", "--to-uri", "sqlite:///t.db"],
    ["migrate", "--to", "falkordb://h:1", "--layout", "0.12"],
    ["migrate", *TO, "--from", "sqlite:///s.db", "--from-uri", "sqlite:///s.db"],
    ["migrate", *TO, "--to-password-file", "p"],
    ["migrate", "--resume", "--no-verify"],
    ["migrate", *TO, "--since", "yesterday"],
    ["migrate", *TO, "--since", "2026-13-01"],
    ["migrate", *TO, "--since", "2999-01-01", "--from", "sqlite:///s.db"],
    ["migrate", *TO, "--since", "last", "--overlap", "a while"],
    ["migrate", *TO, "--since", "last", "--full-every", "sometimes"],
    ["migrate", *TO, "--since", "last", "--full"],
    ["migrate", "--resume", "12345678", "--from", "sqlite:///s.db"],
    ["migrate", "--profile", "x"],
    ["profile"],
    ["profile", "lst"],
    ["profile", "check", "x"],
    ["verify"],
    ["verify", "1234", *TO],
    ["rollback"],
    ["journal", "find"],
    ["journal", "prune"],
    *(["journal", "prune", "--keep", one] for one in ("", "d", "-1", "90 days", "1.5d", "99999999999d", "\u0663")),
    ["unlock"],
    ["--config", "absent.toml", "journal", "list"],
    ["journal", "list", "--log-file", "absent/log"],
    ["migrate", *TO, "--delete", "--max-delete", "most"],
    ["migrate", *TO, "--max-delete", "5%"],
]


@pytest.mark.parametrize("arguments", WRONG, ids=lambda words: " ".join(words) or "nothing")
def test_a_wrong_call_is_two_lines_and_2(arguments: list[str], memmig: Memmig, tmp_path: Path) -> None:
    done = memmig(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    error, hint = done.stderr.splitlines()
    assert error.startswith("error: ")
    assert hint.startswith("hint: ")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("arguments", WRONG, ids=lambda words: " ".join(words) or "nothing")
@pytest.mark.parametrize("first", [True, False])
def test_a_wrong_call_is_one_json_document(arguments: list[str], first: bool, memmig: Memmig) -> None:
    done = memmig(*(["--json", *arguments] if first else [*arguments, "--json"]))
    document = json.loads(done.stdout)
    assert list(document) == ["error"]
    assert set(document["error"]) == {"name", "exit_code", "message", "hint"}
    assert (document["error"]["name"], document["error"]["exit_code"]) == ("UsageError", 2)
    assert all("\n" not in document["error"][key] and document["error"][key] for key in ("message", "hint"))
    assert done.returncode == 2


@pytest.mark.parametrize(
    ("arguments", "near"),
    [
        (["migrat"], "memmig migrate"),
        (["journal", "lst"], "memmig journal list"),
        (["migrate", "--to", "sqlte:///t.db"], "sqlite://"),
        (["migrate", "--to", "falkor"], "falkordb"),
        (["migrate", "--too", "x"], "--to"),
    ],
)
def test_the_nearest_right_one_is_named(arguments: list[str], near: str, memmig: Memmig) -> None:
    assert near in memmig(*arguments).stderr


@pytest.mark.parametrize(
    "content",
    ["journal = 5 5", "nonsense = 1", "[migrate]\nnonsense = 1", "to-password = 'x'", "[nonsense]\na = 1"],
)
def test_a_wrong_configuration_file_is_refused(content: str, memmig: Memmig, tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text(content)
    done = memmig("migrate", *TO, "--config", "c.toml")
    assert done.returncode == 2
    assert "c.toml" in done.stderr


@pytest.mark.parametrize("first", [True, False])
def test_a_configuration_file_gives_defaults(first: bool, memmig: Memmig, tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text('journal = "there.db"\n[migrate]\nsince = "then"\n')
    words = ["migrate", *TO]
    done = memmig(*(["--config", "c.toml", *words] if first else [*words, "--config", "c.toml"]))
    assert "--since is no time: 'then'" in done.stderr
    done = memmig(*(["--config", "c.toml", "journal", "list"] if first else ["journal", "list", "--config", "c.toml"]))
    assert "there.db" in done.stderr


@pytest.mark.parametrize("place", ["before", "after", "variable"])
def test_the_journal_is_where_the_options_say(place: str, memmig: Memmig) -> None:
    calls = {
        "before": memmig("--journal", "here.db", "journal", "list", MEMMIG_JOURNAL="else.db"),
        "after": memmig("journal", "list", "--journal", "here.db", MEMMIG_JOURNAL="else.db"),
        "variable": memmig("journal", "list", MEMMIG_JOURNAL="here.db"),
    }
    assert calls[place].returncode == 52
    assert "here.db" in calls[place].stderr

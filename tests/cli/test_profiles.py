"""Profiles: what a file may say, what wins over what, and that no password stands in one."""

from __future__ import annotations

import json
import os
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import pytest

from migrator.cli.migrate import migrate
from migrator.cli.profiles import options_by_key
from migrator.profiles import Reference, read
from tests.engines import falkordb_server, live

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.cli.conftest import Done, Memmig
    from tests.engines import FalkorServer

SECRET = f"s3cr3t{uuid.uuid4().hex}"
STORES = 'from = "sqlite:///source.db"\nto = "sqlite:///target.db"\n'

type Configure = Callable[[str], Path]


@pytest.fixture
def configure(tmp_path: Path) -> Configure:
    """Writes the user's own configuration file."""

    def write(text: str) -> Path:
        place = tmp_path / "home" / ".config" / "memmig" / "config.toml"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
        return place

    return write


def refusal(done: Done) -> str:
    assert (done.returncode, done.stdout) == (2, ""), done
    error, hint = done.stderr.splitlines()
    assert SECRET not in done.stderr
    return f"{error} {hint}"


# --- where the file is ----------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("source")
def test_the_file_is_where_it_belongs_and_never_in_the_working_directory(memmig: Memmig, tmp_path: Path) -> None:
    text = f"[profiles.nightly]\n{STORES}"
    for name in ("config.toml", "memmig.toml", ".memmig.toml", "memmig/config.toml"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert "no profile nightly" in refusal(memmig("migrate", "--profile", "nightly"))
    assert "no profile nightly" in refusal(memmig("migrate", "--profile", "nightly", XDG_CONFIG_HOME="."))
    elsewhere = tmp_path / "else" / "where.toml"
    elsewhere.parent.mkdir()
    elsewhere.write_text(text)
    named: list[tuple[list[str], dict[str, str]]] = [
        (["--config", "else/where.toml"], {}),
        (["--config=else/where.toml"], {}),
        ([], {"MEMMIG_CONFIG": str(elsewhere)}),
        ([], {"XDG_CONFIG_HOME": str(tmp_path)}),
    ]
    for words, variables in named:
        for arguments in ([*words, "profile", "list", "--json"], ["profile", "list", "--json", *words]):
            done = memmig(*arguments, **variables)
            assert [one["name"] for one in json.loads(done.stdout)] == ["nightly"], (arguments, variables)
        done = memmig("migrate", "--profile", "nightly", "--dry-run", "--json", *words, **variables)
        assert json.loads(done.stdout)["memories"]["created"] == 300, done


def test_an_explicit_file_stands_for_the_own_one(memmig: Memmig, configure: Configure, tmp_path: Path) -> None:
    configure('log-file = "own.log"\njournal = "own.db"\n[profiles.own]\nto = "sqlite:///t.db"\n')
    (tmp_path / "other.toml").write_text('[profiles.other]\nto = "sqlite:///t.db"\n')
    for words in (["--config", "other.toml", "profile", "list"], ["profile", "list", "--config", "other.toml"]):
        assert memmig(*words).stdout == "other\n  to = sqlite:///t.db\n"
    done = memmig("journal", "list", "--config", "other.toml")
    assert (done.returncode, "own.db" in done.stderr) == (52, False)
    assert not (tmp_path / "own.log").exists()
    assert "own.db" in memmig("journal", "list").stderr


def test_a_missing_own_file_is_no_error_and_a_missing_named_one_is(memmig: Memmig) -> None:
    done = memmig("profile", "list", "--json")
    assert (done.returncode, json.loads(done.stdout)) == (0, [])
    assert "no profiles in" in memmig("profile", "list").stderr
    assert "absent.toml" in refusal(memmig("profile", "list", MEMMIG_CONFIG="absent.toml"))


# --- what it may say ------------------------------------------------------------------------------------------------


def test_every_long_option_of_migrate_is_a_key() -> None:
    keys = options_by_key(migrate)
    assert {"from", "to", "from_path", "since", "on_conflict", "no_verify", "journal", "log_file", "quiet"} <= set(keys)
    options = {name for param in migrate.params for name in param.opts if name.startswith("--")}
    left = {name for name in options if name[2:].replace("-", "_") not in keys}
    # The files with passwords are keys, too: they are read with the other references to secrets.
    assert left == {"--profile", "--config", "--version", "--from-password-file", "--to-password-file"}
    assert isinstance(keys["batch_size"], click.Option)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("on_conflit = 'skip'", "did you mean on_conflict?"),
        ("batch-size = 5", "did you mean batch_size?"),
        ("form = 'sqlite'", "did you mean from?"),
        ("to_pasword_env = 'X'", "did you mean to_password_env?"),
        ("profile = 'x'", "unknown key: profile"),
        ("config = 'x'", "unknown key: config"),
        ("zzzzzzzz = 1", "memmig migrate --help"),
        ("on_conflict = 'ask'", "on_conflict: 'ask' is not one of"),
        ("batch_size = 0", "batch_size: 0 is not in the range"),
        ("batch_size = true", "batch_size"),
        ("no_verify = 'yes'", "no_verify what is neither true nor false"),
        ("full = 1", "full what is neither true nor false"),
        ("from = ['sqlite']", "from what is neither a text nor a number"),
        ("on_conflict = 'fail'\nskip_duplicates = true", "contradict each other"),
        ("from = 'sqlite:///s.db'\nfrom_uri = 'sqlite:///s.db'", "--from-uri"),
        ("layout = '0.14'", "layout: '0.14' is not one of"),
    ],
)
def test_what_a_profile_must_not_say(line: str, says: str, memmig: Memmig, configure: Configure) -> None:
    place = configure(f"[profiles.nightly]\nto = 'sqlite:///t.db'\n{line}\n")
    for words in (["profile", "check", "nightly"], ["profile", "check"], ["migrate", "--profile", "nightly"]):
        assert says in refusal(memmig(*words)), words
    assert not list(place.parents[3].glob("*.db*"))


@pytest.mark.parametrize(
    "text", ["profiles = 5", "[profiles]\nnightly = 5", "[profil.x]\nto = 'sqlite:///t.db'", "[profile.x]\nto = 'x'"]
)
def test_what_is_no_profile(text: str, memmig: Memmig, configure: Configure) -> None:
    configure(text)
    assert "hint" in refusal(memmig("profile", "check"))


def test_the_nearest_profile_is_named(memmig: Memmig, configure: Configure) -> None:
    configure(f"[profiles.nightly]\n{STORES}")
    for words in (["migrate", "--profile", "nightli"], ["profile", "check", "nigthly"]):
        assert "did you mean nightly?" in refusal(memmig(*words))


def test_values_are_texts_and_flags() -> None:
    table = {"since": __import__("datetime").date(2026, 1, 2), "batch_size": 5, "full": True, "to_password_env": "X"}
    found = read("p", table, ("since", "batch_size", "full"))
    assert found.values == {"since": "2026-01-02", "batch_size": "5", "full": True}
    assert found.secrets == {"to": Reference(means="env", what="X")}
    assert "X" not in repr(found)


def test_list_and_check(memmig: Memmig, configure: Configure) -> None:
    configure(
        f"[profiles.nightly]\n{STORES}on_conflict = 'newest'\nbatch_size = 7\n[profiles.my-laptop]\nto = 'sqlite:///t.db'\n"
    )
    shown = json.loads(memmig("profile", "list", "--json").stdout)
    assert shown == [
        {
            "name": "nightly",
            "from": "sqlite:///source.db",
            "to": "sqlite:///target.db",
            "options": {"on_conflict": "newest", "batch_size": "7"},
        },
        {"name": "my-laptop", "from": None, "to": "sqlite:///t.db", "options": {}},
    ]
    assert memmig("profile", "check", "my-laptop").stdout == "my-laptop is right\n"
    done = memmig("profile", "check", "my-laptop", "--json")
    assert json.loads(done.stdout) == [{"name": "my-laptop", "ok": True}]
    assert max(map(len, memmig("profile", "list", COLUMNS="40").stdout.splitlines())) <= 40


# --- what wins ------------------------------------------------------------------------------------------------------


def migrated(memmig: Memmig, *words: str, **variables: str) -> dict[str, Any]:
    """Run a profile and return what its journal keeps of the run."""
    done = memmig("migrate", "--profile", "nightly", "--json", *words, **variables)
    assert done.returncode == 0, done.stdout
    named = words[words.index("--journal") :][:2] if "--journal" in words else ()
    shown = memmig("journal", "show", "--json", *named, **variables)
    found: dict[str, Any] = json.loads(shown.stdout)
    return found


@pytest.mark.usefixtures("source")
def test_options_win_over_the_profile_and_it_over_the_file(
    memmig: Memmig, configure: Configure, tmp_path: Path
) -> None:
    configure(
        'journal = "general.db"\n[migrate]\nbatch-size = 11\nall-labels = true\non-conflict = "fail"\n'
        f'[profiles.nightly]\n{STORES}batch_size = 22\non_conflict = "overwrite"\n'
    )
    run = migrated(memmig)
    assert (tmp_path / "general.db").exists()
    assert run["options"]["batch_size"] == 22
    assert run["options"]["on_conflict"] == "overwrite"
    assert run["options"]["all_labels"] is True
    run = migrated(memmig, "--batch-size", "33", "--skip-duplicates", "--to", "sqlite:///other.db")
    assert run["options"]["batch_size"] == 33
    assert run["options"]["on_conflict"] == "skip"
    assert run["target"].endswith("/other.db")
    assert run["source"].endswith("/source.db")
    run = migrated(memmig, "--journal", "given.db", "--to-path", "third.db")
    assert run["target"].endswith("/third.db")
    assert (tmp_path / "given.db").exists()


@pytest.mark.usefixtures("source")
def test_global_options_of_a_profile(memmig: Memmig, configure: Configure, tmp_path: Path) -> None:
    configure(
        f'journal = "general.db"\n[profiles.nightly]\n{STORES}journal = "own.db"\nlog_file = "own.log"\njson = true\n'
    )
    done = memmig("migrate", "--profile", "nightly")
    assert json.loads(done.stdout)["memories"]["created"] == 300
    assert (tmp_path / "own.db").exists()
    assert (tmp_path / "own.log").exists()
    assert not (tmp_path / "general.db").exists()
    (tmp_path / "source.db").unlink()
    failed = memmig("migrate", "--profile", "nightly", MEMMIG_JOURNAL="variable.db")
    assert (failed.returncode, json.loads(failed.stdout)["error"]["name"]) == (20, "StoreUnreachable")
    done = memmig("migrate", "--profile", "nightly", "--log-file", "given.log", "--journal", "given.db")
    assert (tmp_path / "given.log").exists()


@pytest.mark.usefixtures("source")
def test_full_overrides_a_profiles_since(memmig: Memmig, configure: Configure) -> None:
    configure(f'[profiles.nightly]\n{STORES}since = "last"\nfull_every = "7d"\noverlap = "1h"\n')
    run = migrated(memmig, "--full")
    assert run["options"]["since"] is None
    assert run["options"]["full"] is True


@pytest.mark.usefixtures("source")
def test_a_profile_can_resume(memmig: Memmig, configure: Configure) -> None:
    configure(f"[profiles.nightly]\n{STORES}resume = true\nbatch_size = 50\n")
    killed = memmig("migrate", "--profile", "nightly", MEMMIG_FAULT="write:3")
    assert killed.returncode < 0
    done = memmig("migrate", "--profile", "nightly", "--json")
    assert (done.returncode, json.loads(done.stdout)["status"]) == (0, "finished")
    (run,) = json.loads(memmig("journal", "list", "--json").stdout)
    assert run["status"] == "finished"
    assert migrated(memmig)["memories"]["unchanged"] == 300, "with nothing open it is a new run"


# --- secrets --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line",
    [
        "from = 'falkordb://me:{}@host'",
        "from = 'neo4j://:{}@host'",
        "to_uri = 'rediss://me:{}@host/g'",
        "to = 'falkordb://host?password={}'",
        "to = 'falkordb://host?auth={}'",
        "to = 'falkordb://host/g#password={}'",
        "to = 'falkordb://host/g?{}'",
        "to = '//me:{}@host'",
        "to = 'me:{}@host'",
        "to = 'falkordb:me:{}@host'",
        "to = 'falkordb://me%3A{}@host'",
        "to = 'sqlite:///t.db#password={}'",
        "to_password = '{}'",
        "password = '{}'",
        "from_token = '{}'",
        "to_password_evn = '{}'",
        "to_password_env = '{}'",
        "to_password_command = '{}'",
        "to_password_env = 'X'\nto_password_file = '{}'",
    ],
)
def test_a_password_in_the_clear_is_refused_and_not_repeated(line: str, memmig: Memmig, configure: Configure) -> None:
    given = line.partition(" ")[0]
    to = "" if given in {"to", "to_uri"} else "to = 'falkordb://me@127.0.0.1:1/g'\n"
    configure(f"[profiles.nightly]\n{to}{line.format(SECRET)}\n")
    for words in (["profile", "check"], ["migrate", "--profile", "nightly"], ["profile", "check", "--debug"]):
        done = memmig(*words)
        assert done.returncode == 2
        assert SECRET not in done.stdout + done.stderr
    shown = memmig("profile", "list", "--json")
    assert SECRET not in shown.stdout + shown.stderr


def test_what_looks_like_a_password_in_a_path_is_the_path() -> None:
    paths = {"from": "sqlite:////srv/a:b@c/x#1=2.db", "to": "falkordblite:///me:you@there.db"}
    assert read("p", paths, ("from", "to")).values == paths


def test_a_command_in_a_file_that_others_can_write_is_not_run(
    memmig: Memmig, configure: Configure, tmp_path: Path
) -> None:
    place = configure("[profiles.p]\nto = 'falkordb://me@127.0.0.1:1/g'\nto_password_command = 'touch ran'\n")
    place.chmod(0o666)
    assert "others can write it" in refusal(memmig("profile", "check"))
    assert not (tmp_path / "ran").exists()
    place.chmod(0o644)
    assert "exactly one line" in refusal(memmig("profile", "check"))
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize("command", ["false", "no-such-program-anywhere", "", "'", "printf 'two\\nlines\\n'"])
def test_a_command_that_gives_no_password(command: str, memmig: Memmig, configure: Configure) -> None:
    written = json.dumps(command)
    configure(f"[profiles.p]\nto = 'falkordb://me@127.0.0.1:1/g'\nto_password_command = {written}\n")
    assert "to_password_command of the profile p" in refusal(memmig("profile", "check"))


def test_a_file_store_takes_no_password(memmig: Memmig, configure: Configure) -> None:
    configure("[profiles.p]\nto = 'sqlite:///t.db'\nto_password_env = 'HOME'\n")
    assert "takes none" in refusal(memmig("profile", "check"))


@pytest.fixture(scope="module")
def server() -> Iterator[FalkorServer]:
    if not live("falkordb"):
        pytest.skip("no FalkorDB server here")
    with falkordb_server(password=SECRET) as found:
        yield found


@pytest.mark.usefixtures("source")
def test_a_password_from_each_place(memmig: Memmig, configure: Configure, server: FalkorServer, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    file = tmp_path / "home" / "password"
    file.write_text(f"{SECRET}\n")
    file.chmod(0o600)
    references = {
        "env": ("TEAM_PASSWORD", {"TEAM_PASSWORD": SECRET}),
        "file": ("~/password", {}),
        "command": (f"cat '{file}'", {}),
    }
    for means, (what, variables) in references.items():
        graph = f"falkordb://127.0.0.1:{server.port}/{uuid.uuid4().hex}"
        configure(
            f'[profiles.nightly]\nfrom = "sqlite:///source.db"\nto = "{graph}"\nto_password_{means} = "{what}"\n'
            f'journal = "{means}.db"\nlog_file = "{means}.log"\n'
        )
        assert memmig("profile", "check", **variables).returncode == 0
        done = memmig("migrate", "--profile", "nightly", "--json", "--debug", **variables)
        assert (done.returncode, json.loads(done.stdout)["memories"]["created"]) == (0, 300), done.stderr
        assert SECRET not in done.stdout + done.stderr
        # A store that is named on the command line never gets the password of the profile's one.
        other = memmig("migrate", "--profile", "nightly", "--to", f"{graph}2", **variables)
        assert other.returncode == 20
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or path == file or SECRET.encode() not in path.read_bytes(), path
    assert os.environ.get("TEAM_PASSWORD") is None

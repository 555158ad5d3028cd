"""A password is never in an output, a log, the journal, a file, or a process's arguments."""

from __future__ import annotations

import json
import uuid
from typing import TYPE_CHECKING

import pytest

from tests.engines import falkordb_server, live

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.cli.conftest import Done, Memmig
    from tests.engines import FalkorServer

SECRET = f"s3cr3t-{uuid.uuid4().hex}"
#: Nothing listens there.
NOBODY = "falkordb://me@127.0.0.1:1/g"


def silent(done: Done, folder: Path) -> None:
    """Check that the secret is nowhere."""
    assert SECRET not in done.stdout + done.stderr
    for path in folder.rglob("*"):
        if path.is_file() and path.name != "password":
            assert SECRET.encode() not in path.read_bytes(), path


@pytest.fixture(scope="module")
def server() -> Iterator[FalkorServer]:
    if not live("falkordb"):
        pytest.skip("no FalkorDB server here")
    with falkordb_server(password=SECRET) as found:
        yield found


@pytest.mark.parametrize("side", ["from", "to"])
@pytest.mark.parametrize("form", ["falkordb://me:{}@h", "rediss://:{}@h/g", "bolt://u:{}@h:1", "nonsense://u:{}@h"])
def test_a_password_in_an_argument_is_refused_and_not_repeated(
    side: str, form: str, memmig: Memmig, tmp_path: Path
) -> None:
    other = {"from": "to", "to": "from"}[side]
    store = form.format(SECRET)
    for arguments in (
        [f"--{side}", store],
        [f"--{side}-uri", store],
        [f"--{side}", "falkordb", f"--{side}-uri", store],
    ):
        for extra in ([], ["--json"], ["--debug"]):
            done = memmig("migrate", *arguments, f"--{other}", "sqlite:///x.db", *extra)
            assert done.returncode == 2
            silent(done, tmp_path)
    if not form.startswith("nonsense"):
        done = memmig("migrate", f"--{side}", store, f"--{other}", "sqlite:///x.db")
        assert "MEMMIG_TO_PASSWORD" in done.stderr
    for command in (["verify", f"--{side}", store], ["backends", store], ["unlock", "--to", store], [store]):
        done = memmig(*command, "--debug")
        assert done.returncode == 2
        silent(done, tmp_path)


@pytest.mark.parametrize(
    ("mode", "content", "code"),
    [
        (0o644, SECRET, 2),
        (0o640, SECRET, 2),
        (0o600, "", 2),
        (0o600, f"{SECRET}\n{SECRET}\n", 2),
        (0o600, f"{SECRET}\n", 20),
        (0o400, SECRET, 20),
    ],
    # Made at run time, so it may not stand in a test's name: the workers would collect different tests.
    ids=["readable by all", "readable by the group", "empty", "two lines", "own", "own, read only"],
)
@pytest.mark.usefixtures("source")
def test_a_password_file_is_for_its_owner_only(
    mode: int, content: str, code: int, memmig: Memmig, tmp_path: Path
) -> None:
    place = tmp_path / "password"
    place.write_text(content)
    place.chmod(mode)
    done = memmig("migrate", "--from", "sqlite:///source.db", "--to", NOBODY, "--to-password-file", "password")
    assert done.returncode == code
    assert ("chmod 600" in done.stderr) == (mode in {0o644, 0o640})
    silent(done, tmp_path)


def test_a_missing_password_file_is_named(memmig: Memmig) -> None:
    done = memmig("migrate", "--from", "sqlite:///s.db", "--to", NOBODY, "--to-password-file", "absent")
    assert done.returncode == 2
    assert "absent" in done.stderr


@pytest.mark.usefixtures("source")
def test_a_run_with_a_password_leaves_it_nowhere(memmig: Memmig, server: FalkorServer, tmp_path: Path) -> None:
    place = f"falkordb://127.0.0.1:{server.port}/{uuid.uuid4().hex}"
    move = ["migrate", "--from", "sqlite:///source.db", "--to", place, "--json", "--debug", "--log-file", "log"]
    for variables in ({}, {"MEMMIG_TO_PASSWORD": "wrong"}, {"MEMMIG_FROM_PASSWORD": SECRET}):
        refused = memmig(*move, **variables)
        assert refused.returncode == 20
        silent(refused, tmp_path)

    done = memmig(*move, MEMMIG_TO_PASSWORD=SECRET)
    assert done.returncode == 0, done.stderr
    silent(done, tmp_path)
    run_id = json.loads(done.stdout)["run_id"]

    # The journal does not know it, so whoever goes on has to bring it again: here each way that there is.
    assert memmig("verify", run_id).returncode == 20
    (tmp_path / "password").write_text(f"{SECRET}\n")
    (tmp_path / "password").chmod(0o600)
    in_url = f"redis://:{SECRET}@127.0.0.1:{server.port}"
    for variables in ({"MEMMIG_TO_PASSWORD": SECRET}, {"FALKORDB_PASSWORD": SECRET}, {"MEMORY_FALKORDB_URI": in_url}):
        checked = memmig("verify", run_id, "--json", **variables)
        assert (checked.returncode, json.loads(checked.stdout)["verification"]["matched"]) == (0, 664)
        silent(checked, tmp_path)
    for command in (["journal", "show"], ["journal", "list", "--json"], ["journal", "export"], ["journal", "events"]):
        silent(memmig(*command), tmp_path)
    back = memmig("rollback", run_id, "--to-password-file", "password", "--json")
    assert (back.returncode, json.loads(back.stdout)["status"]) == (0, "rolled-back")
    silent(back, tmp_path)


def test_backends_looks_with_memorygraphs_own_password(memmig: Memmig, server: FalkorServer, tmp_path: Path) -> None:
    in_url = f"redis://:{SECRET}@127.0.0.1:{server.port}"
    done = memmig("backends", "--json", "--debug", MEMORY_FALKORDB_URI=in_url)
    silent(done, tmp_path)
    # Signing in worked; the graph is not there.
    found = next(one for one in json.loads(done.stdout) if one["backend"] == "falkordb")
    assert "no graph" in found["error"]["message"]

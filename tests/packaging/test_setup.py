"""The scripts behind ``make``: they find a Python wherever it is, and say in one line when there is none."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]


@pytest.fixture
def bare(tmp_path: Path) -> dict[str, str]:
    """Return the environment of a machine that has a shell and no Python at all."""
    tools = tmp_path / "tools"
    tools.mkdir()
    for tool in ("sh", "cat", "cksum", "ls", "uname"):
        found = shutil.which(tool)
        assert found
        (tools / tool).symlink_to(found)
    return {"PATH": str(tools), "HOME": str(tmp_path / "home of someone")}


def script(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n", "utf-8")
    path.chmod(0o755)


def find(environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    if list(Path("/").glob("opt/pyenv/versions/3.1[2-9]*")) or list(
        Path("/").glob("usr/local/pyenv/versions/3.1[2-9]*")
    ):
        pytest.skip("this machine has a Python in a place that the search looks at")
    command = ["/bin/sh", "tools/python.sh"]
    return subprocess.run(command, cwd=CHECKOUT, env=environment, capture_output=True, text=True, check=False)


def real(path: str) -> Path:
    return Path(path.strip()).resolve()


RUNS = f'exec "{sys.executable}" "$@"'
NOT_ACTIVE = "echo 'pyenv: python3.12: command not found' >&2; exit 127"


def test_none(bare: dict[str, str]) -> None:
    done = find(bare)
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(r"memmig: no Python >= 3\.12 .* install one .*\n", done.stderr)


def test_one_that_is_too_old_is_none(bare: dict[str, str]) -> None:
    # What an older Python does with the question: it answers nothing.
    script(Path(bare["PATH"]) / "python3", "exit 0")
    assert find(bare).returncode == 1


def test_on_the_path(bare: dict[str, str]) -> None:
    script(Path(bare["PATH"]) / "python3.13", NOT_ACTIVE)
    script(Path(bare["PATH"]) / "python3", RUNS)
    assert real(find(bare).stdout) == real(sys.executable)


@pytest.mark.parametrize("root", ["HOME", "PYENV_ROOT"])
def test_a_version_of_pyenv_that_is_not_active(bare: dict[str, str], root: str, tmp_path: Path) -> None:
    script(Path(bare["PATH"]) / "python3.12", NOT_ACTIVE)
    versions = Path(bare["HOME"]) / ".pyenv" if root == "HOME" else tmp_path / "py env"
    script(versions / "versions" / "3.12.0" / "bin" / "python", "exit 1")  # a broken one
    script(versions / "versions" / "3.12.7" / "bin" / "python", RUNS)
    done = find(bare if root == "HOME" else bare | {"PYENV_ROOT": str(versions)})
    assert real(done.stdout) == real(sys.executable), done.stderr


def test_by_uv(bare: dict[str, str], tmp_path: Path) -> None:
    script(tmp_path / "uv's" / "python", RUNS)
    script(Path(bare["PATH"]) / "uv", f'[ "$1 $2" = "python find" ] && echo "{tmp_path}/uv\'s/python"')
    assert real(find(bare).stdout) == real(sys.executable)


def test_the_one_that_was_asked_for_or_none(bare: dict[str, str]) -> None:
    script(Path(bare["PATH"]) / "python3", RUNS)
    done = find(bare | {"MEMMIG_PYTHON": "/nowhere/python"})
    assert done.returncode == 1
    assert done.stderr.startswith("memmig: MEMMIG_PYTHON=/nowhere/python is not")


def test_an_environment_is_never_made_over_something_else(bare: dict[str, str], tmp_path: Path) -> None:
    script(Path(bare["PATH"]) / "python3", RUNS)
    precious = tmp_path / "precious" / "file"
    precious.parent.mkdir()
    precious.write_text("mine", "utf-8")
    environment = bare | {"MEMMIG_VENV": str(precious.parent)}
    command = ["/bin/sh", "tools/environment.sh", "demo"]
    done = subprocess.run(command, cwd=CHECKOUT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "is in the way" in done.stderr
    assert precious.read_text("utf-8") == "mine"


def test_make_help_names_every_target() -> None:
    make = shutil.which("make")
    if make is None:
        pytest.skip("make is not installed")
    shown = subprocess.run(
        [make, "help"], cwd=CHECKOUT, env=os.environ, capture_output=True, text=True, check=True
    ).stdout
    for target in ("demo", "test", "test-long", "bench", "lint", "typecheck", "fmt", "clean", "help"):
        assert re.search(rf"make {target} +\w", shown)

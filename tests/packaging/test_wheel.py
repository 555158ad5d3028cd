"""The built wheel, installed and run outside the checkout: what users get, not what developers see."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]
STORE_012 = CHECKOUT / "tests" / "data" / "memorygraph-0.12.db"


@dataclass(frozen=True, slots=True)
class Installed:
    """memmig as installed from its wheel."""

    root: Path
    wheel: Path
    sdist: Path
    python: Path
    memmig: Path

    def run(self, *command: str | Path, ends: int = 0) -> str:
        """Run a command in an empty folder without anything of the checkout in reach; return its stdout."""
        work = self.root / "work"
        work.mkdir(exist_ok=True)
        kept = {key: os.environ[key] for key in ("PATH", "LANG", "LC_ALL", "TMPDIR") if key in os.environ}
        environment = kept | {"HOME": str(self.root / "home"), "MEMMIG_JOURNAL": str(self.root / "journal" / "j.db")}
        done = subprocess.run(
            [str(part) for part in command], cwd=work, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == ends, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    root = tmp_path_factory.mktemp("installed from the wheel")  # blanks in a path must not matter
    build = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(root / "dist"), str(CHECKOUT)]
    built = subprocess.run(build, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    (wheel,) = (root / "dist").glob("*.whl")
    (sdist,) = (root / "dist").glob("*.tar.gz")

    venv.create(root / "venv", with_pip=True)
    python = root / "venv" / "bin" / "python"
    install = [str(python), "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", str(wheel)]
    subprocess.run(install, check=True, capture_output=True)
    # The dependencies are those of the tests' environment (no network); that environment's own link to the checkout is
    # a .pth file, and such files count only in a site folder, which this path is not.
    (own,) = (root / "venv" / "lib").glob("python*/site-packages")
    (own / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n", "utf-8")
    (root / "home").mkdir()
    return Installed(root, wheel, sdist, python, root / "venv" / "bin" / "memmig")


def test_the_code_under_test_is_the_wheels(installed: Installed) -> None:
    code = "import json, sys, migrator, journal; print(json.dumps([sys.path, migrator.__file__, journal.__file__]))"
    path, *files = json.loads(installed.run(installed.python, "-c", code))
    assert all(Path(file).is_relative_to(installed.root / "venv") for file in files)
    assert not [entry for entry in path if entry and Path(entry) == CHECKOUT]


def test_the_wheel_holds_the_migrations_the_types_and_nothing_else(installed: Installed) -> None:
    names = zipfile.ZipFile(installed.wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"migrator", "journal"}
    assert {"migrator/py.typed", "journal/py.typed", "journal/_alembic/env.py"} <= set(names)
    shipped = {Path(name).name for name in names if name.startswith("journal/_alembic/versions/")}
    assert shipped
    assert shipped == {file.name for file in (CHECKOUT / "alembic" / "versions").glob("*.py")}
    assert [name for name in names if name.endswith("licenses/LICENSE")]


def test_the_source_archive_holds_what_it_takes_to_test_it(installed: Installed) -> None:
    with tarfile.open(installed.sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"pyproject.toml", "Makefile", "README.md", "alembic/env.py", "tests/packaging/test_wheel.py"} <= names
    assert not [name for name in names if "__pycache__" in name or name.startswith((".venv", ".git/"))]


def test_help_and_version(installed: Installed) -> None:
    assert "migrate" in installed.run(installed.memmig, "--help")
    version = installed.wheel.name.split("-")[1]
    assert version in installed.run(installed.memmig, "--version")
    assert version in installed.run(installed.python, "-m", "migrator", "--version")


def test_demo(installed: Installed) -> None:
    before = set(installed.root.rglob("*"))
    installed.run(installed.memmig, "demo")
    assert STORE_012.exists()
    demo = installed.root / "work" / "memmig-demo"
    left = {path for path in set(installed.root.rglob("*")) - before if path != demo and demo not in path.parents}
    # Byte code is the interpreter's, not ours.
    assert not [path for path in left if "__pycache__" not in path.parts and path.suffix != ".pyc"]


def test_a_run_and_its_way_back(installed: Installed) -> None:
    source, target = installed.root / "source.db", installed.root / "target.db"
    shutil.copy(STORE_012, source)
    stores = ("--from", f"sqlite:///{source}", "--to", f"sqlite:///{target}", "--layout", "0.13")
    result = json.loads(installed.run(installed.memmig, "migrate", *stores, "--json"))
    assert (result["status"], result["verification"]["status"]) == ("finished", "passed")
    with sqlite3.connect(source) as connection:
        (memories,) = connection.execute("SELECT count(*) FROM nodes WHERE label = 'Memory'").fetchone()
    connection.close()
    assert result["memories"]["created"] == memories > 0
    (run,) = json.loads(installed.run(installed.memmig, "journal", "list", "--json"))
    assert run["run_id"] == result["run_id"]
    back = json.loads(installed.run(installed.memmig, "rollback", result["run_id"], "--json"))
    assert back["status"] == "rolled-back"
    assert not target.exists()

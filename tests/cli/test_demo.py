"""The demo tells the truth, is quick, and touches nothing outside its folder."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Memmig


def test_the_demo_runs_twice_in_a_row(memmig: Memmig, tmp_path: Path) -> None:
    for _ in range(2):
        began = time.monotonic()
        done = memmig("demo", COLUMNS="40")
        assert done.returncode == 0, done.stderr
        assert time.monotonic() - began < 20
        assert "Taken back, exactly" in done.stdout
        assert max(map(len, done.stdout.splitlines())) <= 40
        left = sorted(path.name for path in (tmp_path / "memmig-demo").iterdir())
        assert {"journal.db", "memories-0.12.db"} <= set(left)
        assert "memories-0.13.db" not in left
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "home") == ["memmig-demo"]
    assert not [path for path in tmp_path.glob("home/**/*") if path.is_file()]


def test_a_temporary_demo_leaves_nothing(memmig: Memmig, tmp_path: Path) -> None:
    done = memmig("demo", "--temporary", "--json", TMPDIR=str(tmp_path))
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["target_as_before"] is True
    assert found["steps"]["migrate"]["memories"]["created"] == 300
    assert found["steps"]["again"]["memories"]["unchanged"] == 300
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


@pytest.mark.parametrize("name", ["mine.txt", "graph.db", "journal.db", "memories-0.13.db"])
def test_a_folder_of_somebody_else_is_left_alone(name: str, memmig: Memmig, tmp_path: Path) -> None:
    (tmp_path / "memmig-demo").mkdir()
    (tmp_path / "memmig-demo" / name).write_text("mine")
    assert memmig("demo").returncode == 2
    assert [path.name for path in (tmp_path / "memmig-demo").iterdir()] == [name]
    assert (tmp_path / "memmig-demo" / name).read_text() == "mine"

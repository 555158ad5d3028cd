"""A journal may stand in a folder whose name is no UTF-8; its path is part of the marker's owner."""

from __future__ import annotations

import os
import shutil
import sys
from typing import TYPE_CHECKING

import pytest

from tests.running import memmig
from tests.stores import STORE_013

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.skipif(sys.platform == "darwin", reason="file names are UTF-8 there")
def test_a_journal_whose_path_is_no_utf8(tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"\xff")
    folder.mkdir()
    shutil.copyfile(STORE_013, tmp_path / "s.db")
    words = ("migrate", "--from", "sqlite:///s.db", "--to", "sqlite:///t.db", "--json", "--journal", folder / "j.db")
    done = memmig(*words, cwd=tmp_path)
    assert done.code == 0, done.err
    assert done.document["memories"]["created"] == 200

"""The table in docs/explanation/sync.md names tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_every_test_that_the_page_names_exists() -> None:
    page = (ROOT / "docs" / "explanation" / "sync.md").read_text("utf-8")
    named = set(re.findall(r"`(test_\w+)`", page.partition("## What holds each line")[2]))
    there = {
        name
        for file in ROOT.glob("tests/**/test_*.py")
        for name in re.findall(r"^def (test_\w+)\(", file.read_text(), re.MULTILINE)
    }
    assert len(named) > 50
    assert named - there == set()

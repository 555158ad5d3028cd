"""The world of the engine's tests, and places of every kind, for the nights of a sync."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.engine.conftest import world
from tests.integration.stores_of_all_kinds import Places

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["world"]


@pytest.fixture
def places(tmp_path: Path, request: pytest.FixtureRequest) -> Places:
    return Places(tmp_path, request)

"""Places of every kind."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.integration.stores_of_all_kinds import Places

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def places(tmp_path: Path, request: pytest.FixtureRequest) -> Places:
    return Places(tmp_path, request)

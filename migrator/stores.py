"""Both ends of a run: opening them, naming them, and what the journal keeps of their configuration."""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from dataclasses import dataclass, fields
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from migrator.backends import registry
from migrator.errors import StoreRefused, UsageError
from migrator.models import BackendConfig, BackendType

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from contextlib import ExitStack

    from journal.store import Journal
    from migrator.backends.base import Access, Backend, StoreInfo
    from migrator.models import MigrationOptions, Role

#: Fills in user and password of a store that the journal names without them.
type Secrets = Callable[[BackendConfig, Role], BackendConfig]

_NOT_JOURNALLED = {"password"}


def no_secrets(config: BackendConfig, _role: Role) -> BackendConfig:
    """Return the configuration as it is."""
    return config


#: What a store's file, or a journal, may have beside it.
_BESIDE = ("", "-wal", "-shm", "-journal", ".lock", ".settings")


def refuse_one_file(what: str, path: Path, others: Iterable[Path | None]) -> None:
    """Raise UsageError where a journal or log file and another file are one, or one is what the other has beside it."""
    for other in others:
        if other is not None and any(_one_file(one, two) for one in _files(path) for two in _files(other)):
            msg = f"the {what} {path} and {other} are one file, or one would overwrite the other"
            raise UsageError(msg, hint=f"give the {what} a path of its own")


def _files(path: Path) -> list[Path]:
    place = path.expanduser().resolve()
    return [place.with_name(place.name + end) for end in _BESIDE]


def _one_file(one: Path, other: Path) -> bool:
    with suppress(OSError):
        return one == other or one.samefile(other)
    return False


def connect(config: BackendConfig, role: Role) -> Backend:
    """Return an unopened backend for a valid configuration."""
    config.validate()
    return registry.open_backend(config, role=role)


@dataclass(slots=True)
class Stores:
    """Both ends of a run, open."""

    source: Backend
    target: Backend
    source_info: StoreInfo
    target_info: StoreInfo

    @property
    def source_store(self) -> str:
        """The source's name."""
        return store_name(self.source_info)

    @property
    def target_store(self) -> str:
        """The target's name."""
        return store_name(self.target_info)

    def batch_size(self, options: MigrationOptions) -> int:
        """Return the number of records in a batch: as asked for, else as the target likes it."""
        return options.batch_size or self.target.batch_size

    @property
    def pair(self) -> str:
        """The name of source → target."""
        return f"{self.source_store} -> {self.target_store}"


def store_name(info: StoreInfo) -> str:
    """Return the name of a store: kind, canonical place, and its own identity where it has a lasting one."""
    name = f"{info.kind}:{info.place}"
    return f"{name}#{info.lasting_identity}" if info.lasting_identity else name


def fingerprint(info: StoreInfo) -> dict[str, str]:
    """Return by what a store is known again, beside its place: for the journal, as JSON values."""
    return {"layout": info.layout, "identity": info.lasting_identity}


def open_stores(stack: ExitStack, source: BackendConfig, target: BackendConfig, access: Access) -> Stores:
    """Open the source for reading and the target for ``access``; both are closed with ``stack``.

    Raises StoreRefused where both are one store, by any spelling; the backends' errors where one is not to be had.
    """
    if source.path is not None and target.path is not None and source.backend is target.backend:
        _refuse_same_file(source.path, target.path, source, target)
    one, other = connect(source, "from"), connect(target, "to")
    stack.callback(one.close)
    source_info = one.open("read")
    stack.callback(other.close)
    target_info = other.open(access)
    stores = Stores(one, other, source_info, target_info)
    if stores.source_store == stores.target_store or _one_server(stores, source):
        _refuse_same(source, target)
    return stores


def _one_server(stores: Stores, source: BackendConfig) -> bool:
    """Tell whether both ends are one graph of one running server, whatever its host is called."""
    if source.path is not None or stores.source_info.kind != stores.target_info.kind:
        return False
    names = {info.place.rpartition("/")[2] for info in (stores.source_info, stores.target_info)}
    return len(names) == 1 and stores.source.identity() == stores.target.identity()


def _refuse_same_file(one: Path, other: Path, source: BackendConfig, target: BackendConfig) -> None:
    try:
        same = one.exists() and other.exists() and one.samefile(other)
    except OSError:
        return
    if same or one.resolve() == other.resolve():
        _refuse_same(source, target)


def _refuse_same(source: BackendConfig, target: BackendConfig) -> None:
    if target.layout is not None and source.backend is BackendType.SQLITE:
        hint = (
            f"migrate to a new file, then swap: `memmig migrate --from sqlite:///OLD --to sqlite:///NEW"
            f" --layout {target.layout}`, then `mv NEW OLD`"
        )
    else:
        hint = "give another target"
    msg = "source and target are the same store"
    raise StoreRefused(msg, hint=hint)


def plain_config(config: BackendConfig) -> dict[str, Any]:
    """Return a configuration without secrets, as JSON values, for the journal."""
    found = {f.name: getattr(config, f.name) for f in fields(config) if f.name not in _NOT_JOURNALLED}
    found["backend"] = str(config.backend)
    found["path"] = None if config.path is None else str(config.path.resolve())
    return found


def config_of(plain: Mapping[str, Any]) -> BackendConfig:
    """Return the configuration that :func:`plain_config` wrote, without secrets."""
    known = {f.name for f in fields(BackendConfig)}
    values = {key: value for key, value in plain.items() if key in known}
    path = values.get("path")
    return BackendConfig(
        **{**values, "backend": BackendType(values["backend"]), "path": None if path is None else Path(path)}
    )


def code_version() -> str:
    """Return memmig's version, as installed."""
    try:
        return version("memmig")
    except PackageNotFoundError:
        return "0+unknown"


def owner_of(journal: Journal) -> str:
    """Return who holds a marker, for people: host and journal. Always text that has UTF-8, as stores want it."""
    path = os.fsencode(str(journal.path)).decode("utf-8", "backslashreplace")
    return f"{socket.gethostname()}:{path}"

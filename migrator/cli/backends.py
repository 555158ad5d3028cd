"""``memmig backends``."""

from __future__ import annotations

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

_SHOWN = tuple(backend for backend in BackendType if backend is not BackendType.MEMORY)


@click.command(cls=Command, codes=(*ALWAYS, *STORES))
@click.argument("stores", nargs=-1, metavar="[BACKEND|URL]...")
@click.option("--matrix", is_flag=True, help="Show which stores can be moved into which.")
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


def _matrix(output: Output) -> None:
    def word(source: BackendType, target: BackendType) -> str:
        if not (registry.available(source) and registry.available(target)):
            return "not yet"
        return "needs driver" if registry.missing_driver(source) or registry.missing_driver(target) else "yes"

    table = {str(source): {str(target): word(source, target) for target in _SHOWN} for source in _SHOWN}
    if output.as_json:
        output.document(table)
        return
    # One letter a column: the whole table has to fit into 40 columns.
    output.line(f"{'from / to':<14}" + "".join(f"{number:>4}" for number in range(1, len(_SHOWN) + 1)))
    for number, (source, row) in enumerate(table.items(), 1):
        output.line(f"{number} {source:<12}" + "".join(f"{text[0]:>4}" for text in row.values()))
    used = {text for row in table.values() for text in row.values()}
    meanings = {"yes": "y = yes", "not yet": "n = not yet", "needs driver": "n = needs a driver"}
    output.line("; ".join(meanings[text] for text in meanings if text in used))

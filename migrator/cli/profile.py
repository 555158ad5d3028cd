"""``memmig profile``: not yet."""

from __future__ import annotations

import click

from migrator.cli.group import ALWAYS, Command
from migrator.cli.options import global_options
from migrator.models import not_yet


@click.command(cls=Command, codes=ALWAYS)
@click.argument("words", nargs=-1, metavar="list | check NAME")
@global_options
def profile(words: tuple[str, ...]) -> int:  # noqa: ARG001 - accepted, so that the answer is "not yet"
    """Named settings (not yet)."""
    what = "memmig profile"
    raise not_yet(what)

"""Figures that tests measured: a line each, printed together when the run ends, whichever worker measured them."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_lines: list[str] = []
_counts: dict[str, Counter[str]] = {}


def add(line: str) -> None:
    """Have a line printed when the run ends, such as "neo4j: 412 fault points hit, 412 recovered"."""
    _lines.append(line)


def count(name: str, numbers: Mapping[str, int]) -> None:
    """Add to the numbers of the line that begins with ``name``, whichever tests and workers they come from."""
    _counts.setdefault(name, Counter()).update(numbers)


class Figures:
    """A plugin: takes the lines from xdist's workers to the process that prints."""

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        output: dict[str, Any] | None = getattr(session.config, "workeroutput", None)
        if output is not None:
            output["figures"] = list(_lines)
            output["counts"] = {name: dict(numbers) for name, numbers in _counts.items()}

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        output = getattr(node, "workeroutput", {})
        lines: Iterable[str] = output.get("figures", ())
        _lines.extend(lines)
        for name, numbers in output.get("counts", {}).items():
            count(name, numbers)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        counted = (
            f"{name}: " + ", ".join(f"{number} {what}" for what, number in numbers.items())
            for name, numbers in _counts.items()
        )
        lines = sorted([*_lines, *counted])
        if lines:
            terminalreporter.section("figures")
            for line in lines:
                terminalreporter.write_line(line)

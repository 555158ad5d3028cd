"""Figures that tests measured: a line each, printed together when the run ends, whichever worker measured them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterable

_lines: list[str] = []


def add(line: str) -> None:
    """Have a line printed when the run ends, such as "neo4j: 412 fault points hit, 412 recovered"."""
    _lines.append(line)


class Figures:
    """A plugin: takes the lines from xdist's workers to the process that prints."""

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        output: dict[str, Any] | None = getattr(session.config, "workeroutput", None)
        if output is not None:
            output["figures"] = list(_lines)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        lines: Iterable[str] = getattr(node, "workeroutput", {}).get("figures", ())
        _lines.extend(lines)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if _lines:
            terminalreporter.section("figures")
            for line in sorted(_lines):
                terminalreporter.write_line(line)

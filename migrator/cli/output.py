"""What memmig writes: results to stdout, all else to stderr. Text from stores never reaches a terminal raw."""

from __future__ import annotations

import json
import os
import shutil
import sys
import textwrap
import unicodedata
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from migrator.errors import MemmigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import click

    from migrator.models import Finding, MigrationResult

_ESCAPED = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
#: Format characters that join letters and emoji; without them many scripts are not legible. They move nothing.
_JOINERS = frozenset("\u200c\u200d")
_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
_MANY = 20
_CHANGED = ("created", "updated", "deleted", "restored")
_TO_LOOK_AT = ("conflict", "quarantined", "retained")


def _escape_one(character: str) -> str:
    if character in _SHORT:
        return _SHORT[character]
    number = ord(character)
    return f"\\x{number:02x}" if number <= 0xFF else f"\\u{number:04x}" if number <= 0xFFFF else f"\\U{number:08x}"  # noqa: PLR2004 - the widths of Python's escapes


def escape(text: str) -> str:
    """Return one line of text that cannot steer a terminal: control, bidi and other invisible characters are shown."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(_escape_one(c) if unicodedata.category(c) in _ESCAPED and c not in _JOINERS else c for c in text)


def shorten(text: str, most: int = 200) -> str:
    """Escape, and leave out the middle of a text that is longer than ``most`` characters."""
    if len(text) <= most:
        return escape(text)
    half = (most - 1) // 2
    return f"{escape(text[:half])}…{escape(text[-half:])}"


def prepare_streams() -> None:
    """Let nothing that a terminal cannot encode end the program, nor a stream that is closed (``>&-``)."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115 - for the rest of the process
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError):
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # absent on replaced streams


def _columns(stream: TextIO) -> int:
    """Return the width to fold lines at; 0 where lines are for a program."""
    return shutil.get_terminal_size().columns if stream.isatty() or "COLUMNS" in os.environ else 0


class Output:
    """Where one call writes. A reader that goes away ends the writing, never the run; ``broken`` says so."""

    def __init__(self, *, as_json: bool = False, quiet: bool = False) -> None:
        self.as_json = as_json
        self.quiet = quiet
        self.broken = False

    def _write(self, stream: TextIO, text: str) -> None:
        try:
            stream.write(text)
            stream.flush()
        except OSError as error:
            # Python flushes once more at its end and would complain about the same stream.
            with suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
            if stream is not sys.stdout:
                return
            self.broken = True
            if not isinstance(error, BrokenPipeError):
                message = f"the result cannot be written: {error.strerror}"
                raise MemmigError(message, hint="what was done is in the journal: memmig journal show") from error

    def document(self, value: Any) -> None:  # noqa: ANN401 - any JSON
        """Write the one JSON document: ASCII only, so no terminal can be steered by it."""
        self._write(sys.stdout, json.dumps(value, ensure_ascii=True, allow_nan=False, default=str) + "\n")

    def line(self, text: str = "", *, indent: int = 2) -> None:
        """Write a line of results for people; folded where a terminal is narrower."""
        if not self.as_json and not self.quiet:
            self._write(sys.stdout, fold(text, _columns(sys.stdout), indent) + "\n")

    def raw(self, text: str) -> None:
        """Write a line for programs as it is, whatever the options."""
        self._write(sys.stdout, text + "\n")

    def note(self, text: str) -> None:
        """Write a line about the work to stderr."""
        if not self.quiet:
            self._write(sys.stderr, fold(text, _columns(sys.stderr), 2) + "\n")

    def complaint(self, text: str) -> None:
        """Write an error's line to stderr, also when quiet. Never folded: it is one line."""
        self._write(sys.stderr, text + "\n")


@dataclass(frozen=True, slots=True)
class Call:
    """One call of memmig, the root context's ``obj``: its words, and where it writes, errors included."""

    words: tuple[str, ...]
    output: Output


def words_of(ctx: click.Context) -> tuple[str, ...]:
    """Return the words of the call; none where there is no call, as while documentation is made."""
    call = ctx.find_root().obj
    return call.words if isinstance(call, Call) else ()


def fold(text: str, columns: int, indent: int) -> str:
    """Fold a line at ``columns`` (0: not at all), further lines indented."""
    if not columns or len(text) <= columns or columns < _MANY:
        return text
    return textwrap.fill(
        text,
        width=columns,
        subsequent_indent=" " * indent,
        replace_whitespace=False,
        drop_whitespace=True,
        break_on_hyphens=False,
    )


def counts_table(counts: dict[str, dict[str, int]]) -> list[str]:
    """Return the lines of a table of counts per kind: what was read, and every other key that is not zero. 37 wide."""
    memories, relationships = counts.get("memories", {}), counts.get("relationships", {})
    lines = [f"{'':<12}{'memories':>10}{'relationships':>15}"]
    for key in {**memories, **relationships}:
        one, other = memories.get(key, 0), relationships.get(key, 0)
        if one or other or key == "read":
            lines.append(f"{key:<12}{one:>10}{other:>15}")
    return lines


def findings(found: Sequence[Finding]) -> Iterable[str]:
    """Return a line per record that someone should look at."""
    for finding in found:
        field = f", {shorten(finding.field)}" if finding.field else ""
        reason = f": {shorten(finding.reason)}" if finding.reason else ""
        yield f"{escape(finding.what)} {escape(finding.kind)} {shorten(finding.id)}{field}{reason}"


def _headline(result: MigrationResult) -> str:
    run = f"run {escape(result.run_id)} " if result.run_id else ""
    return f"{run}{result.status} in {result.seconds:.1f} s"


def summary(output: Output, result: MigrationResult) -> None:
    """Write a result: the JSON document, or a few lines for people."""
    if output.as_json:
        output.document(document(result))
        return
    if output.quiet:
        for text in brief(result):
            output.raw(text)
        return
    output.line(_headline(result))
    for line in counts_table({"memories": dict(result.memories), "relationships": dict(result.relationships)}):
        output.line(line)
    check = result.verification
    numbers = [f"{getattr(check, key)} {key}" for key in ("matched", "different", "missing", "foreign", "changing")]
    shown = ", ".join(text for text in numbers if not text.startswith("0 "))
    output.line(f"verification {check.status}" + (f": {shown}" if shown else ""))
    if result.estimate is not None:
        output.line(f"the run would take about {result.estimate:.1f} s")
    if result.status != "dry-run":
        output.line(f"durability {result.durability}")
    if result.watermark is not None:
        output.line(f"watermark {escape(result.watermark)}, last full comparison {escape(result.last_full or 'none')}")
    for line in (*findings(result.findings), *findings(check.findings)):
        output.line(line)
    for warning in result.warnings:
        output.note(f"warning: {escape(warning)}")


def brief(result: MigrationResult) -> list[str]:
    """Return what a quiet call says of a result: nothing where nothing changed and nothing wants a look."""
    total = {key: result.memories.get(key, 0) + result.relationships.get(key, 0) for key in _CHANGED + _TO_LOOK_AT}
    told = ", ".join(f"{number} {key}" for key, number in total.items() if number)
    if not told and not result.exit_code:
        return []
    wanting = [finding for finding in result.findings if finding.what != "foreign"]
    return [f"{_headline(result)}: {told or 'nothing changed'}", *findings(wanting)]


def document(result: MigrationResult) -> dict[str, Any]:
    """Return a result's JSON document; a result without a run has the run id null."""
    found = result.as_json()
    found["run_id"] = found["run_id"] or None
    return found

"""Progress on stderr: a bar with rate and time left on a terminal, plain lines now and then elsewhere."""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.progress import TaskID

    from migrator.cli.output import Output
    from migrator.hooks import Progress

_SECONDS_BETWEEN_LINES = 5.0
_WIDE = 70
_PLURAL = {"memory": "memories", "relationship": "relationships"}


@contextmanager
def reporter(output: Output) -> Iterator[Callable[[Progress], None]]:
    """Return the callback for ``Hooks.progress``; the bar is gone when the block ends."""
    if output.quiet:
        yield lambda _: None
    elif sys.stderr.isatty():
        with _bars() as report:
            yield report
    else:
        yield Lines(output.note)


class Lines:
    """A line when a phase of a kind begins to move and every few seconds after."""

    def __init__(self, write: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._write = write
        self._clock = clock
        self._now: tuple[str, str] = ("", "")
        self._began = 0.0
        self._last = 0.0
        self._from = 0

    def __call__(self, progress: Progress) -> None:
        """Write a line if it is time to."""
        at = self._clock()
        if (progress.phase, progress.kind) != self._now:
            self._now, self._began, self._from, self._last = (progress.phase, progress.kind), at, progress.done, at
            whole = "" if progress.total is None else f" of {progress.total}"
            self._write(f"{progress.phase}: {_PLURAL.get(progress.kind, progress.kind)}{whole}")
        elif at - self._last >= _SECONDS_BETWEEN_LINES:
            self._last = at
            self._write(line(progress, at - self._began, progress.done - self._from))


def line(progress: Progress, seconds: float, moved: int) -> str:
    """Return one line: phase, how far, rate, time left. ``moved`` records took ``seconds``."""
    rate = moved / seconds if seconds > 0 else 0.0
    text = f"{progress.phase}: {progress.done}"
    if progress.total is not None:
        text += f" of {progress.total}"
    text += f" {_PLURAL.get(progress.kind, progress.kind)}"
    if rate:
        text += f", {rate:.0f}/s"
        if progress.total is not None and progress.total > progress.done:
            text += f", {(progress.total - progress.done) / rate:.0f} s left"
    return text


@contextmanager
def _bars() -> Iterator[Callable[[Progress], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, ProgressColumn, Task, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars
    from rich.text import Text

    class Rate(ProgressColumn):
        """Records a second."""

        def render(self, task: Task) -> Text:
            return Text(f"{task.speed:.0f}/s" if task.speed else "-/s")

    console = Console(stderr=True)
    columns: list[ProgressColumn] = [TextColumn("{task.description}", markup=False)]
    if console.width >= _WIDE:
        columns += [BarColumn(), TextColumn("{task.completed}/{task.total}", markup=False)]
    else:
        columns.append(TextColumn("{task.percentage:>3.0f}%", markup=False))
    with Bars(*columns, Rate(), TimeRemainingColumn(), console=console, transient=True) as bars:
        tasks: dict[tuple[str, str], TaskID] = {}

        def report(progress: Progress) -> None:
            key = (progress.phase, progress.kind)
            if key not in tasks:
                for task in tasks.values():
                    bars.remove_task(task)
                tasks.clear()
                tasks[key] = bars.add_task(
                    f"{progress.phase} {_PLURAL.get(progress.kind, progress.kind)}", total=progress.total
                )
            bars.update(tasks[key], completed=progress.done, total=progress.total)

        yield report

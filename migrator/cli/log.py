"""Logging is configured here and nowhere else: events to stderr, or as JSON lines to ``--log-file``."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TextIO

from migrator import urls
from migrator.cli.output import escape
from migrator.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, MutableMapping
    from pathlib import Path

    from migrator.cli.options import Settings
    from migrator.hooks import Progress
    from migrator.models import MigrationResult

DEBUG, INFO, WARNING, ERROR, NOTHING = 10, 20, 30, 40, 50


def _redacted(_logger: object, _method: str, event: MutableMapping[str, Any]) -> Mapping[str, Any]:
    return {key: urls.redact(value) if type(value) is str else value for key, value in event.items()}


def _escaped(_logger: object, _method: str, event: MutableMapping[str, Any]) -> Mapping[str, Any]:
    return {key: escape(value) if type(value) is str else value for key, value in event.items()}


#: How files of SQLite and of Redis begin.
_STORES = (b"SQLit", b"REDIS")


def _refuse_store(path: Path) -> None:
    with suppress(OSError):
        # A device, or a pipe, has no beginning.
        if not path.is_file():
            return
        with path.open("rb") as found:
            begins = found.read(5)
        if begins in _STORES:
            message = f"the log file {path} is a store or a journal"
            raise UsageError(message, hint="give another path to --log-file")


def configure(settings: Settings, *, verbose: bool = False) -> None:
    """Send structlog's events where the options say. UsageError (2) for a log file that cannot be written."""
    import structlog

    # What wants to be known stands in the result: without a log file events are for those who ask for them.
    level = DEBUG if settings.debug else INFO if verbose else NOTHING
    stream: TextIO = sys.stderr
    last: list[Any] = [_escaped, structlog.dev.ConsoleRenderer(colors=False)]
    if settings.log_file is not None:
        level = DEBUG if settings.debug else INFO
        _refuse_store(settings.log_file)
        try:
            number = os.open(settings.log_file, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            message = f"the log file {settings.log_file} cannot be written: {error.strerror}"
            raise UsageError(message, hint="give another path to --log-file") from error
        stream = os.fdopen(number, "a", buffering=1, encoding="utf-8", errors="backslashreplace")
        last = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _redacted,
            *last,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(stream),
        cache_logger_on_first_use=False,
    )


def record(event: str, level: int = INFO, **values: Any) -> None:  # noqa: ANN401 - any JSON
    """Log an event, where :func:`configure` was called. A log that cannot be written stops nothing."""
    structlog = sys.modules.get("structlog")
    if structlog is not None and structlog.is_configured():
        with suppress(OSError):
            structlog.get_logger().log(level, event, **values)


def phases(then: Callable[[Progress], None]) -> Callable[[Progress], None]:
    """Return a callback for progress that logs when a phase of a kind begins."""
    now: tuple[str, str] = ("", "")

    def report(progress: Progress) -> None:
        nonlocal now
        if (progress.phase, progress.kind) != now:
            now = (progress.phase, progress.kind)
            record("phase.began", phase=progress.phase, kind=progress.kind, total=progress.total)
        then(progress)

    return report


def ended(result: MigrationResult) -> None:
    """Log a result: what it counted, each warning, and each record that wants a look."""
    shown = result.as_json()
    findings, warnings = shown.pop("findings"), shown.pop("warnings")
    record("run.ended", exit_code=result.exit_code, **shown)
    for warning in warnings:
        record("run.warning", WARNING, run_id=result.run_id, message=warning)
    for finding in findings:
        record("run.finding", WARNING, run_id=result.run_id, **finding)

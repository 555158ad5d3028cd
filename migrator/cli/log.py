"""Logging is configured here and nowhere else: events to stderr, or as JSON lines to ``--log-file``."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any, TextIO

from migrator import urls
from migrator.cli.output import escape
from migrator.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, MutableMapping

    from migrator.cli.options import Settings

_DEBUG, _INFO, _WARNING, _ERROR = 10, 20, 30, 40


def _redacted(_logger: object, _method: str, event: MutableMapping[str, Any]) -> Mapping[str, Any]:
    return {key: urls.redact(value) if type(value) is str else value for key, value in event.items()}


def _escaped(_logger: object, _method: str, event: MutableMapping[str, Any]) -> Mapping[str, Any]:
    return {key: escape(value) if type(value) is str else value for key, value in event.items()}


def configure(settings: Settings, *, verbose: bool = False) -> None:
    """Send structlog's events where the options say. UsageError (2) for a log file that cannot be written."""
    import structlog

    level = _DEBUG if settings.debug else _INFO if verbose else _ERROR if settings.quiet else _WARNING
    stream: TextIO = sys.stderr
    last: list[Any] = [_escaped, structlog.dev.ConsoleRenderer(colors=False)]
    if settings.log_file is not None:
        level = _DEBUG if settings.debug else _INFO
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

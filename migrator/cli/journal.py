"""``memmig journal``: everything here only reads, and takes no lock, so it works beside a run."""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from migrator import urls
from migrator.cli import log
from migrator.cli.group import ALWAYS, JOURNAL, Command, LazyGroup
from migrator.cli.options import global_options, settings
from migrator.cli.output import escape, shorten
from migrator.cli.runner import output_of
from migrator.errors import JournalDamaged, NoSuchRun, UsageError
from migrator.models import no_counts
from migrator.since import ago
from migrator.times import parse_time

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from journal.chain import StoredEntry
    from journal.state import RunState
    from journal.store import Journal
    from journal.watermarks import InStep
    from migrator.cli.output import Output

_HERE = "migrator.cli.journal"
_CODES = (*ALWAYS, *JOURNAL, 52)
_TO_LOOK_AT = frozenset({"conflict", "quarantined", "retained", "changing", "foreign"})
_SHOWN_ENTRIES = 100

_COMMANDS = {
    "show": (_HERE, "show", "One run, or what happened to one id."),
    "list": (_HERE, "list_runs", "Every run."),
    "events": (_HERE, "events", "What happened, step by step."),
    "find": (_HERE, "find", "Every entry of one id."),
    "export": (_HERE, "export", "Events and entries as JSON lines."),
    "check": (_HERE, "check", "Check the whole journal."),
    "backup": (_HERE, "backup", "Write a complete copy."),
    "prune": ("migrator.cli.prune", "prune", "Drop what is not needed any more."),
}


@click.command(
    cls=LazyGroup,
    lazy=_COMMANDS,
    name="journal",
    no_args_is_help=False,
    invoke_without_command=True,
    subcommand_metavar="COMMAND [ARGS]...",
)
@global_options
@click.pass_context
def journal(ctx: click.Context) -> None:
    """Look into the journal. Nothing here but prune changes it; plain SQL can read it, too."""
    if ctx.invoked_subcommand is None:
        message = "the journal's command is missing"
        raise UsageError(message, hint=f"one of {', '.join(_COMMANDS)}; see memmig journal --help")


@contextmanager
def _opened(ctx: click.Context) -> Iterator[tuple[Journal, Output]]:
    """Open the journal. What is left of a damaged one is shown to people, not to programs, and ends with 41."""
    from journal.audit import damaged
    from journal.store import Journal

    log.configure(settings(ctx))
    output = output_of(ctx)
    with Journal.open(settings(ctx).journal, mode="read" if output.as_json else "look") as found:
        if not found.damaged:
            yield found, output
            return
        error = damaged(found.path, found.damaged)
        output.note(f"warning: {escape(error.message)}; what follows may be wrong")
        try:
            yield found, output
        except Exception as other:
            raise error from other
        raise error


# --- runs -----------------------------------------------------------------------------------------------------------


def run_document(state: RunState, in_step: Mapping[str, InStep]) -> dict[str, Any]:
    """Return a run as ``journal list --json`` shows it. Stores are URLs without secrets, times ISO-8601 or null.

    ``pair_watermark`` and ``pair_last_full`` are those of the run's pair of stores as they are now.
    """
    opened, ended = state.opened, state.rollback_finished_at or state.finished_at
    counted = state.counts("rollback" if state.rollback is not None else "forward")
    memories, relationships = counted.get("memory", {}), counted.get("relationship", {})
    if state.finished is not None and state.rollback is None:
        memories, relationships = state.finished.memories, state.finished.relationships
    now = in_step.get("" if opened is None else opened.pair)
    return {
        "run_id": state.run_id,
        "status": state.status,
        "pruned": state.pruned is not None,
        "source": None if opened is None else urls.show(opened.source),
        "target": None if opened is None else urls.show(opened.target),
        "started_at": None if state.opened_at is None else state.opened_at.isoformat(),
        "finished_at": None if ended is None else ended.isoformat(),
        "memories": no_counts() | memories,
        "relationships": no_counts() | relationships,
        "full": opened is not None and opened.full,
        "since": None if opened is None else opened.since,
        "watermark": None if state.finished is None else state.finished.watermark,
        "pair_watermark": None if now is None else now.watermark,
        "pair_last_full": None if now is None else now.full_at,
    }


def _describe(output: Output, run: dict[str, Any]) -> None:
    output.line(f"{escape(run['run_id'])}")
    when = str(run["started_at"] or "?")[:19].replace("T", " ")
    output.line(f"  {run['status']}{', pruned' if run['pruned'] else ''}, began {when} UTC", indent=4)
    output.line(f"  from {escape(str(run['source']))}", indent=4)
    output.line(f"  to {escape(str(run['target']))}", indent=4)
    for kind in ("memories", "relationships"):
        told = ", ".join(f"{number} {key}" for key, number in run[kind].items() if number)
        output.line(f"  {kind}: {told or 'none'}", indent=4)


@click.command(cls=Command, codes=_CODES)
@global_options
@click.pass_context
def list_runs(ctx: click.Context) -> int:
    """Show every run, oldest first."""
    with _opened(ctx) as (found, output):
        in_step = found.in_step()
        runs = [run_document(state, in_step) for state in found.runs()]
    if output.as_json:
        output.document(runs)
    for run in runs:
        _describe(output, run)
    now = datetime.now(UTC)
    for run in {(run["source"], run["target"]): run for run in runs}.values():
        watermark = run["pair_watermark"] or "none, --since last reads everything"
        last = parse_time(run["pair_last_full"])
        output.line(f"{escape(str(run['source']))} to {escape(str(run['target']))}")
        output.line(f"  watermark: {escape(watermark)}", indent=4)
        output.line(f"  last full comparison: {'none' if last is None else ago(now, last)}", indent=4)
    return 0


@click.command(cls=Command, codes=_CODES)
@click.argument("name", required=False, metavar="[RUN-ID|ENTITY-ID]")
@global_options
@click.pass_context
def show(ctx: click.Context, /, name: str | None) -> int:
    """Show one run (default: the last one) with the records to look at, or everything about one id.

    The first characters of a run's id are enough.
    """
    with _opened(ctx) as (found, output):
        run_id = _run_of(found, name)
        if run_id is None:
            _entries(output, str(name), found.find(str(name)))
            return 0
        state = found.state(run_id)
        run = run_document(state, found.in_step())
        check = state.verification
        run["verification"] = None if check is None else asdict(check)
        run["batches"] = {"planned": len(state.batches), "last_applied": state.last_applied}
        run["options"] = {} if state.opened is None else state.opened.options
        entries = found.entries(run_id, phase=None)
        marked = (entry for entry in entries if entry.action in _TO_LOOK_AT)
        if output.as_json:
            run["findings"] = [_finding(entry) for entry in marked]
            output.document(run)
            return 0
        _describe(output, run)
        if check is not None:
            output.line(f"  verification {escape(check.status)}: {check.matched} matched", indent=4)
        for number, entry in enumerate(marked):
            if number == _SHOWN_ENTRIES:
                output.note("more of them with --json")
                break
            reason = f": {shorten(entry.reason)}" if entry.reason else ""
            output.line(f"  {escape(entry.action)} {escape(entry.kind)} {shorten(entry.entity_id)}{reason}", indent=4)
    return 0


def _run_of(found: Journal, name: str | None) -> str | None:
    """Return the run that a user means, or None for the id of a record."""
    if name is None:
        runs = found.runs()
        if not runs:
            message = "the journal holds no run"
            raise NoSuchRun(message, hint="memmig migrate makes one")
        return runs[-1].run_id
    try:
        return found.resolve(name)
    except NoSuchRun:
        return None


def _finding(entry: StoredEntry) -> dict[str, Any]:
    return {
        "kind": entry.kind,
        "id": entry.entity_id,
        "what": entry.action,
        "reason": entry.reason,
        "phase": entry.phase,
        "batch": entry.batch,
    }


# --- entries and events ---------------------------------------------------------------------------------------------


def _entries(output: Output, name: str, entries: list[StoredEntry]) -> None:
    if not entries:
        message = f"no run and no record of that id is in the journal: {shorten(name)}"
        raise NoSuchRun(message, hint="memmig journal list shows the runs")
    if output.as_json:
        output.document([entry._asdict() for entry in entries])
        return
    for entry in entries:
        output.line(f"run {escape(entry.run_id)}")
        output.line(
            f"  batch {entry.batch}, {escape(entry.phase)}: {escape(entry.action)} {escape(entry.kind)}", indent=4
        )
        for what, digest in (("before", entry.before_digest), ("after", entry.after_digest)):
            if digest:
                output.line(f"  {what} {escape(digest)[:16]}", indent=4)
        if entry.reason:
            output.line(f"  {shorten(entry.reason)}", indent=4)


@click.command(cls=Command, codes=_CODES)
@click.argument("entity_id", metavar="ENTITY-ID")
@global_options
@click.pass_context
def find(ctx: click.Context, /, entity_id: str) -> int:
    """Show every entry of a memory's or relationship's id, oldest first."""
    with _opened(ctx) as (found, output):
        _entries(output, entity_id, found.find(entity_id))
    return 0


@click.command(cls=Command, codes=_CODES)
@click.argument("run_id", required=False, metavar="[RUN-ID]")
@global_options
@click.pass_context
def events(ctx: click.Context, /, run_id: str | None) -> int:
    """Show what happened, step by step, in one run or in all."""
    with _opened(ctx) as (found, output):
        stored = found.events(None if run_id is None else found.resolve(run_id))
        if output.as_json:
            output.document(
                [
                    {
                        "seq": one.seq,
                        "run_id": one.run_id or None,
                        "type": one.event.type,
                        "recorded_at": one.recorded_at.isoformat(),
                        "payload": asdict(one.event),
                    }
                    for one in stored
                ]
            )
            return 0
        for one in stored:
            batch = getattr(one.event, "batch", None)
            number = "" if batch is None else f" {batch}"
            output.line(f"{one.seq} {one.recorded_at:%H:%M:%S} {escape(one.run_id[:8])} {one.event.type}{number}")
            if output.broken:
                break
    return 0


@click.command(cls=Command, codes=_CODES)
@click.argument("run_id", required=False, metavar="[RUN-ID]")
@click.option(
    "--output", "place", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="Not to stdout."
)
@global_options
@click.pass_context
def export(ctx: click.Context, /, run_id: str | None, place: Path | None) -> int:
    """Write events and entries, quarantined records included, as JSON lines; with --json as one array."""
    with _opened(ctx) as (found, output):
        records = found.export(None if run_id is None else found.resolve(run_id))
        if place is not None:
            number = _write(place, records)
            if output.as_json:
                output.document({"file": str(place), "records": number})
            output.line(f"{number} records in {escape(str(place))}")
        elif output.as_json:
            output.document(list(records))
        else:
            for record in records:
                output.raw(json.dumps(record))
                if output.broken:
                    break
    return 0


def _write(place: Path, records: Iterator[dict[str, Any]]) -> int:
    number = 0
    try:
        with place.open("x", encoding="utf-8") as file:
            place.chmod(0o600)
            for record in records:
                file.write(json.dumps(record) + "\n")
                number += 1
    except OSError as error:
        message = f"{place} cannot be written: {error.strerror}"
        raise UsageError(message, hint="give the path of a file that does not exist yet") from error
    return number


# --- the file -------------------------------------------------------------------------------------------------------


@click.command(cls=Command, codes=_CODES)
@global_options
@click.pass_context
def check(ctx: click.Context) -> int:
    """Check the whole journal: hash chain, entries, projections, triggers. Changes nothing."""
    from journal.store import Journal

    log.configure(settings(ctx))
    output = output_of(ctx)
    with Journal.open(settings(ctx).journal, mode="look") as found:
        report = found.check()
        shown = {
            "ok": report.ok,
            "events": report.events,
            "batches": report.batches,
            "entries": report.entries,
            "problems": list(report.problems),
        }
        if report.ok:
            if output.as_json:
                output.document(shown)
            output.line(
                f"the journal is whole: {report.events} events, {report.batches} batches, {report.entries} entries"
            )
            return 0
        for problem in report.problems:
            output.line(shorten(problem))
        more = f" (and {len(report.problems) - 1} more)" if len(report.problems) > 1 else ""
        message = f"the journal is damaged: {report.problems[0]}{more}"
        raise JournalDamaged(message, hint="nothing repairs it; keep it, and go on with a backup or a new journal")


@click.command(cls=Command, codes=_CODES)
@click.argument("place", type=click.Path(path_type=Path), metavar="FILE")
@global_options
@click.pass_context
def backup(ctx: click.Context, /, place: Path) -> int:
    """Write a complete copy of the journal, also while a run is going on. A plain copy of the file is not enough."""
    from journal.store import Journal

    log.configure(settings(ctx))
    output = output_of(ctx)
    with Journal.open(settings(ctx).journal, mode="read") as found:
        found.backup(place)
        if output.as_json:
            output.document({"file": str(place)})
        output.line(f"the journal is copied to {escape(str(place))}")
    return 0

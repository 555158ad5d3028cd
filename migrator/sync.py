"""Nights: what a run is to read by what earlier runs of its pair brought, and what it leaves to the next one."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Literal

from migrator.since import ago, parse_since, parse_span
from migrator.stores import plain_config
from migrator.times import parse_time
from migrator.watermark import DEFAULT_OVERLAP, Interval, Stamps, raised

if TYPE_CHECKING:
    from journal.state import RunState
    from journal.store import Journal
    from journal.watermarks import InStep
    from migrator.backends.base import Inventory
    from migrator.models import BackendConfig, MigrationOptions, VerificationResult
    from migrator.stores import Stores

type Durability = Literal["durable", "unverified"]

#: What of a source's configuration decides which records it has.
_WHAT_IS_READ = ("all_labels", "label", "id_property", "layout")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """What one run reads, fixed when it is opened."""

    ceiling: datetime  #: our clock before anything was read: no watermark rises above it
    since: datetime | None = None  #: None: everything
    interval: Interval | None = None
    watermark: str | None = None  #: the pair's, before this run
    full_at: str | None = None  #: the pair's last full comparison, before this run
    warnings: tuple[str, ...] = ()

    @property
    def full(self) -> bool:
        """Whether everything is compared."""
        return self.interval is None

    def everything(self, why: str) -> Scope:
        """Return what a run reads that may leave nothing out after all."""
        return replace(self, since=None, interval=None, warnings=(*self.warnings, _everything(why)))

    def stamps(self, now: datetime) -> Stamps:
        """Return what collects the times of the records that are read."""
        return Stamps(self.ceiling, now)


def _everything(why: str) -> str:
    return f"{why}: everything is compared"


def scope_of(
    options: MigrationOptions,
    now: datetime,
    *,
    journal: Journal | None,
    stores: Stores,
    source: BackendConfig,
    state: RunState | None = None,
) -> Scope:
    """Return what a new run reads, or what ``state``, a run that is resumed, began to read.

    A ``--since`` run reads everything where it cannot know what it may leave out, and warns of it. Raises UsageError
    for a time that has not come yet.
    """
    in_step = None if journal is None else journal.in_step().get(stores.pair)
    known = (in_step.watermark, in_step.full_at) if in_step is not None else (None, None)
    overlap = DEFAULT_OVERLAP if options.overlap is None else parse_span(options.overlap, "--overlap")
    if state is not None and state.opened is not None:
        since, warnings = parse_time(state.opened.since), list[str]()
        ceiling = datetime.fromisoformat(state.opened.ceiling)
    else:
        since, warnings = _begin(options, now, in_step)
        ceiling = now
        lacks = None if since is None or journal is None else _lacks(journal, stores, in_step, source)
        if lacks is not None:
            since = None
            warnings.append(_everything(lacks))
    return Scope(
        ceiling=ceiling,
        since=since,
        interval=None if since is None else Interval(since=since, overlap=overlap),
        watermark=known[0],
        full_at=known[1],
        warnings=tuple(warnings),
    )


def _begin(options: MigrationOptions, now: datetime, in_step: InStep | None) -> tuple[datetime | None, list[str]]:
    """Return where the interval begins, None for everything, and what to say of it."""
    if options.since is None:
        return None, []
    since = parse_since(options.since, now)
    if since is None:
        since = parse_time(None if in_step is None else in_step.watermark)
        if since is None:
            return None, ["no run of this pair has left a watermark: everything is read"]
    if options.full_every is not None:
        last = parse_time(None if in_step is None else in_step.full_at)
        if last is None or now - last >= parse_span(options.full_every, "--full-every"):
            return None, [f"the last full comparison is {ago(now, last)}: everything is compared (--full-every)"]
    return since, []


def _lacks(journal: Journal, stores: Stores, in_step: InStep | None, source: BackendConfig) -> str | None:
    """Return why the target is another than the pair left, or why that says too little of this run, or None."""
    last = None if in_step is None or in_step.run_id is None else journal.state(in_step.run_id)
    if last is not None and last.opened is not None:
        before, now = last.opened.source, plain_config(source)
        changed = [name for name in _WHAT_IS_READ if before.get(name) != now[name]]
        if changed:
            return f"the last run read the source with another choice of {', '.join(changed)}"
    # A file's server is started for each run; another file at the same place shows in the counts.
    server = last is not None and last.opened is not None and last.opened.target.get("path") is None
    if last is not None and server and last.identity != stores.target.identity():
        return "the target's server was started anew, or is another, since the last run"
    return None


def lost(journal: Journal, pair: str, there: Inventory) -> str | None:
    """Return why a target with so much in it cannot be what this pair left, or None."""
    holds = {
        "memory": there.memories + sum(there.other_nodes.values()),
        "relationship": there.relationships + there.other_relationships,
    }
    kept = journal.bases(pair).kept(holds)
    fewer = {kind: kept[kind] - number for kind, number in holds.items() if kept[kind] > number}
    if not fewer:
        return None
    named = ", ".join(f"{number} of kind {kind}" for kind, number in fewer.items())
    return f"the target holds fewer records than this pair brought there ({named})"


def durability_of(journal: Journal, pair: str, barrier: bool | None) -> Durability:
    """Return whether what a run that ends now leaves in the target is durable; ``barrier``: what its own one said.

    A run that wrote nothing took none, and what it found may be what an earlier one could not make durable.
    """
    if barrier is not None:
        return "durable" if barrier else "unverified"
    in_step = journal.in_step().get(pair)
    last = None if in_step is None or in_step.run_id is None else journal.state(in_step.run_id).finished
    return "durable" if last is None or last.durability == "durable" else "unverified"


def reached(
    scope: Scope, stamps: Stamps, verification: VerificationResult, durability: Durability
) -> tuple[str | None, list[str]]:
    """Return the watermark that a run sets as it ends, None where it stays, and why it stays where it could move."""
    found = raised(scope.watermark, since=scope.since, latest=stamps.latest)
    if found is None:
        return None, []
    why = "not verified" if verification.status != "passed" else "" if durability == "durable" else "maybe not durable"
    if not why:
        return found, []
    stays = f"stays at {scope.watermark}" if scope.watermark else "is not set"
    return None, [f"the watermark {stays}: what was brought is {why}"]

"""What can happen in a journal: one frozen dataclass per event, and its payload as JSON. Pure.

Fields hold JSON values only (str, int, float, bool, None, list, dict with str keys). An event's meaning never changes:
a new meaning needs a higher ``type_version``, and code that reads the lower one.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import orjson

from journal.errors import JournalDamaged, JournalTooNew

if TYPE_CHECKING:
    from datetime import datetime

type Json = Any
type Phase = Literal["forward", "rollback"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Root of the events."""

    type: ClassVar[str] = ""
    type_version: ClassVar[int] = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalCreated(Event):
    """The first event of every journal; its run id is empty."""

    type: ClassVar[str] = "journal.created"
    journal_id: str  #: UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalAnchored(JournalCreated):
    """The first event of a journal that was pruned: where the hash chain ended that it goes on from."""

    type: ClassVar[str] = "journal.anchored"
    seq: int  #: of the old journal's last event
    anchor: str  #: that event's hash


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOpened(Event):
    """A run begins. Nothing has been read for it yet."""

    type: ClassVar[str] = "run.opened"
    source: dict[str, Json]  #: fingerprint, without secrets
    target: dict[str, Json]
    pair: str  #: source store → target store, as one name
    source_store: str
    target_store: str
    options: dict[str, Json]
    code_version: str
    ceiling: str  #: ISO-8601 UTC, our clock before anything was read: no watermark rises above it
    full: bool  #: compares everything
    since: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SchemaPlanned(Event):
    """What will be created in the target, written before it is."""

    type: ClassVar[str] = "schema.planned"
    steps: list[dict[str, Json]]


@dataclass(frozen=True, slots=True, kw_only=True)
class SchemaApplied(Event):
    """What the run really created in the target: what a rollback may drop."""

    type: ClassVar[str] = "schema.applied"
    steps: list[dict[str, Json]]


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochPlanned(Event):
    """Written before a claim or raise is sent, so that no epoch of a run is ever used twice."""

    type: ClassVar[str] = "epoch.planned"
    epoch: int
    purpose: str  #: "claim" or "raise"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunClaimed(Event):
    """The marker is held for the first time, by claim or by raise."""

    type: ClassVar[str] = "run.claimed"
    epoch: int
    identity: str  #: of the running server instance
    marker: dict[str, Json]


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochRaised(Event):
    """The marker is held under a higher epoch."""

    type: ClassVar[str] = "epoch.raised"
    epoch: int
    identity: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned(Event):
    """A batch, written in one transaction with its entries, before it is sent."""

    phase: ClassVar[Phase]
    batch: int  #: one sequence per run over forward, non-writing and rollback batches; never reused
    kind: str
    operation: str
    shape: str
    rows: int  #: number of entries
    digest: str  #: ``entries_digest`` of them
    writes: bool  #: False: decisions only, nothing is sent
    counts: dict[str, int]  #: action → number of entries


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchPlanned(Planned):
    """A batch of the run itself."""

    type: ClassVar[str] = "batch.planned"
    phase: ClassVar[Phase] = "forward"


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchApplied(Event):
    """The target acknowledged the batch, or its marker proves it (``recovered``)."""

    type: ClassVar[str] = "batch.applied"
    batch: int
    recovered: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchRefused(Event):
    """The target refused the batch: nothing of it was written."""

    type: ClassVar[str] = "batch.refused"
    batch: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchesLost(Event):
    """The server lost acknowledged batches; decisions since the last barrier are void. Either phase."""

    type: ClassVar[str] = "batches.lost"
    m: int  #: the last batch that the target still has
    evidence: dict[str, Json]
    lost: list[int]  #: writing batches that are gone: the marker proves it
    void: list[int]  #: batches that are no longer believed: decisions, and writes that no marker proves or disproves


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetDurable(Event):
    """A durability barrier, and whether it was had."""

    type: ClassVar[str] = "target.durable"
    batch: int  #: last batch that it covers
    durable: bool
    evidence: dict[str, Json]


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyResult(Event):
    """What the verification of the run found."""

    type: ClassVar[str] = "verify.result"
    status: str
    matched: int
    different: int
    missing: int
    foreign: int
    changing: int
    findings: list[dict[str, Json]]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFinished(Event):
    """The run's forward phase ended."""

    type: ClassVar[str] = "run.finished"
    status: str  #: "finished" or "failed"
    memories: dict[str, int]
    relationships: dict[str, int]
    watermark: str | None
    seconds: float
    durability: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MarkerReleased(Event):
    """The marker is out of the target."""

    type: ClassVar[str] = "marker.released"


@dataclass(frozen=True, slots=True, kw_only=True)
class RollbackOpened(Event):
    """The run is being taken back; once more before its end where ``force`` is another from now on."""

    type: ClassVar[str] = "rollback.opened"
    reason: str
    force: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class RollbackPlanned(Planned):
    """A batch of the rollback."""

    type: ClassVar[str] = "rollback.planned"
    phase: ClassVar[Phase] = "rollback"


@dataclass(frozen=True, slots=True, kw_only=True)
class RollbackApplied(Event):
    """As ``BatchApplied``."""

    type: ClassVar[str] = "rollback.applied"
    batch: int
    recovered: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RollbackRefused(Event):
    """As ``BatchRefused``."""

    type: ClassVar[str] = "rollback.refused"
    batch: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RollbackFinished(Event):
    """The run is taken back, but for ``retained`` records."""

    type: ClassVar[str] = "rollback.finished"
    memories: dict[str, int]
    relationships: dict[str, int]
    retained: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPruned(Event):
    """Most entries of the run are gone, and all before-images that a rollback needs: it stands as it is."""

    type: ClassVar[str] = "run.pruned"
    counts: dict[str, Json]  #: phase → kind → action → number of applied entries before it


EVENT_TYPES: dict[str, type[Event]] = {
    event.type: event
    for event in (
        JournalCreated,
        JournalAnchored,
        RunOpened,
        SchemaPlanned,
        SchemaApplied,
        EpochPlanned,
        RunClaimed,
        EpochRaised,
        BatchPlanned,
        BatchApplied,
        BatchRefused,
        BatchesLost,
        TargetDurable,
        VerifyResult,
        RunFinished,
        MarkerReleased,
        RollbackOpened,
        RollbackPlanned,
        RollbackApplied,
        RollbackRefused,
        RollbackFinished,
        RunPruned,
    )
}


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredEvent:
    """An event with its place in the journal."""

    seq: int
    run_id: str  #: "" for the journal's own
    version: int  #: 1, 2, … within the run
    recorded_at: datetime
    event: Event
    hash: str


def to_payload(event: Event) -> bytes:
    """Return the event's fields as JSON: UTF-8, keys sorted, no blanks. TypeError for what is no JSON value."""
    values = {field.name: getattr(event, field.name) for field in fields(event)}
    try:
        return orjson.dumps(values, option=orjson.OPT_SORT_KEYS)
    except TypeError:
        # A path may hold bytes that are no Unicode, which Python shows as lone surrogates and orjson refuses.
        return json.dumps(values, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def from_payload(event_type: str, type_version: int, payload: str) -> Event:
    """Return the event; JournalTooNew for a type or version unknown here, JournalDamaged where it does not fit."""
    found = EVENT_TYPES.get(event_type)
    if found is None or type_version > found.type_version:
        msg = f"the journal holds an event {event_type} version {type_version}, which this memmig does not know"
        raise JournalTooNew(msg, hint="use the newer memmig that wrote this journal")
    try:
        return found(**json.loads(payload))
    except (ValueError, TypeError) as error:
        msg = f"the payload of an event {event_type} in the journal cannot be read"
        raise JournalDamaged(msg, hint="memmig journal check") from error

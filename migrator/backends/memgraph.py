"""Memgraph: one instance, in memory with a log."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

from migrator.backends._bolt import BoltStore
from migrator.backends._bolt_cypher import Dialect, Statements
from migrator.backends._bolt_wire import Conflict, ServerSaid
from migrator.backends._cypher import SCRATCH_LABEL, Limits, quoted
from migrator.backends.base import Durability, SchemaStep, StoreInfo
from migrator.errors import MemmigError, StoreRefused, StoreUnreachable, TargetFull
from migrator.model import MAX_DEPTH

if TYPE_CHECKING:
    from collections.abc import Sequence

    from migrator.backends.base import Access
    from migrator.models import BackendConfig, Role

DEFAULT_DATABASE = "memgraph"
#: What memorygraph's client makes, but for the unique id.
INDEXED = ("type", "created_at", "tags", "importance", "confidence")
_SCHEMES = {"memgraph": "bolt", "memgraph+s": "bolt+s", "memgraph+ssc": "bolt+ssc"}
_DDL_SECONDS = 10.0
_PROBE = [2**40, 0.1]

DIALECT = Dialect(internal_id="id({0})", is_text="valueType({0}) = 'STRING'", has_edges="degree({0}) > 0")


class Asked:
    """The statements that Memgraph takes outside transactions only, and those that no other store knows."""

    VERSION = "SHOW VERSION"
    STORAGE = "SHOW STORAGE INFO ON CURRENT DATABASE"
    STORAGE_BEFORE_3_11 = "SHOW STORAGE INFO"
    CONFIG = "SHOW CONFIG"
    INDEXES = "SHOW INDEX INFO"
    CONSTRAINTS = "SHOW CONSTRAINT INFO"
    SNAPSHOT = "CREATE SNAPSHOT"
    PING = "RETURN 1"
    PROBE = f"CREATE (n:{SCRATCH_LABEL}) SET n.v = $v, n.f = $f"
    PROBED = f"MATCH (n:{SCRATCH_LABEL}) RETURN n.v, n.f"

    @staticmethod
    def index(verb: str, label: str, name: str) -> str:
        """Make (verb CREATE) or drop (DROP) an index. Its own syntax: Neo4j's is known from 3.10 on only."""
        return f"{verb} INDEX ON :{quoted(label)}({quoted(name)})"

    @staticmethod
    def unique(verb: str, label: str, name: str) -> str:
        """Make or drop a unique constraint, which makes no index."""
        return f"{verb} CONSTRAINT ON (m:{quoted(label)}) ASSERT m.{quoted(name)} IS UNIQUE"


class MemgraphBackend(BoltStore):
    """:class:`~migrator.backends.base.Backend` over a Memgraph instance."""

    kind = "memgraph"
    batch_size = 1_000

    def __init__(self, config: BackendConfig, *, role: Role) -> None:
        statements = Statements(
            label=config.label, id_property=config.id_property, all_labels=config.all_labels, dialect=DIALECT
        )
        limits = Limits(
            id_bytes=1 << 24,
            blank_ids=True,
            list_depth=MAX_DEPTH,
            nulls_in_lists=True,
            nul=True,
            not_finite=True,
            maps=True,
        )
        super().__init__(config, statements, limits, role=role)

    def open(self, access: Access) -> StoreInfo:
        """See :class:`~migrator.backends.base.Backend`."""
        self.close()
        scheme = _SCHEMES.get(self._config.scheme, self._config.scheme) or "bolt"
        database = self._config.graph or DEFAULT_DATABASE
        wire = self._connect(access, scheme, database, name="Memgraph")
        try:
            version = wire.auto(Asked.VERSION, writes=False)[0][0]
            self._check_database(database)
            warnings = self._check_settings()
            if access != "read":
                self._probe()
            self._look_at_indexes()
        except BaseException:
            self.close()
            raise
        return StoreInfo(
            kind=self.kind,
            place=f"{self._address()}/{database}",
            version=f"Memgraph {version}",
            durability="snapshots" if warnings else "write-ahead log, and a snapshot at each barrier",
            warnings=warnings,
        )

    def identity(self) -> str:
        """Return the ``run_id`` that the server sends with each answer: a restarted server has another one."""
        return str(self._wire.summary(Asked.PING).get("run_id", ""))

    # --- what it finds on opening ---

    def _check_database(self, wanted: str) -> None:
        """Refuse a database in analytical mode, and one of another name (the community edition opens its own)."""
        try:
            facts = dict(self._wire.auto(Asked.STORAGE, writes=False))
        except ServerSaid:
            facts = dict(self._wire.auto(Asked.STORAGE_BEFORE_3_11, writes=False))
        name = facts.get("name") or wanted
        if name != wanted:
            message = f"Memgraph at {self._address()} has no database {wanted!r}"
            raise StoreUnreachable(message, hint=f"it has {name}")
        mode = facts.get("storage_mode", "")
        if mode == "IN_MEMORY_ANALYTICAL":
            message = f"Memgraph at {self._address()} is in the mode {mode}: no transactions, and no log"
            raise StoreRefused(message, hint="STORAGE MODE IN_MEMORY_TRANSACTIONAL")

    def _check_settings(self) -> tuple[str, ...]:
        try:
            rows = self._wire.auto(Asked.CONFIG, writes=False)
        except MemmigError:
            return ()  # the user may not see it
        facts = {str(row[0]).replace("-", "_"): str(row[2]).lower() for row in rows}
        if facts.get("storage_properties_on_edges") == "false":
            message = f"Memgraph at {self._address()} keeps no properties of relationships"
            raise StoreRefused(message, hint="start it with --storage-properties-on-edges=true")
        if facts.get("storage_wal_enabled") == "false":
            return ("the server keeps no log (--storage-wal-enabled): a snapshot is taken at barriers",)
        return ()

    def _probe(self) -> None:
        """Write numbers, read them back, and roll that back: from 3.7 on, lists cut integers to 32 bits [measured]."""
        with self._wire.transaction() as transaction:
            transaction.run(Asked.PROBE, {"v": _PROBE, "f": 0.1})
            numbers, number = transaction.run(Asked.PROBED)[0]
        if number != 0.1:  # noqa: PLR2004 - the very value that was written
            message = f"Memgraph at {self._address()} does not keep all bits of numbers"
            raise StoreRefused(message, hint="start it with --storage-floating-point-resolution-bits=64")
        bits = 64 if numbers == _PROBE else 32
        self.form = replace(self.form, limits=replace(self.form.limits, list_integers=bits))

    def _indexed(self) -> set[str]:
        rows = self._wire.auto(Asked.INDEXES, writes=False)
        ours = [row[2] for row in rows if row[0] == "label+property" and row[1] == self._config.label]
        on = [names if type(names) is list else [names] for names in ours]
        return {str(names[0]) for names in on if len(names) == 1}

    def _constrained(self) -> bool:
        rows = self._wire.auto(Asked.CONSTRAINTS, writes=False)
        wanted = ["unique", self._config.label, [self._config.id_property]]
        return any([row[0], row[1], list(row[2])] == wanted for row in rows)

    def _look_at_indexes(self) -> None:
        self._use(indexed=self._config.id_property in self._indexed(), unique=self._constrained())

    # --- durability ---

    def barrier(self) -> Durability:
        """Take a snapshot: acknowledged transactions are synced only every 100,000 of them [documented]."""
        try:
            self._wire.auto(Asked.SNAPSHOT, writes=False)
        except MemmigError as error:
            return Durability(durable=False, evidence={"how": Asked.SNAPSHOT, "reason": error.message})
        return Durability(durable=True, evidence={"how": Asked.SNAPSHOT})

    # --- schema ---

    def missing_schema(self) -> list[SchemaStep]:
        """Return the index and the constraint on ids, and the client's indexes, as far as they are not there.

        StoreRefused where the constraint cannot be made because ids stand more than once.
        """
        label, key = self._config.label, self._config.id_property
        present = self._indexed()
        steps = [self._index_step(name, after_load=False) for name in (key,) if name not in present]
        if not self._constrained():
            if duplicates := self._wire.read(self._say.duplicate_nodes()):
                message = "ids stand more than once: " + ", ".join(repr(row[0]) for row in duplicates)
                raise StoreRefused(message, hint="give each memory its own id, then start again; nothing was written")
            step = SchemaStep(
                name=f"constraint:{label}.{key}",
                kind="constraint",
                create=Asked.unique("CREATE", label, key),
                drop=Asked.unique("DROP", label, key),
            )
            steps.append(step)
        return steps + [self._index_step(name, after_load=True) for name in INDEXED if name not in present]

    def _index_step(self, name: str, *, after_load: bool) -> SchemaStep:
        label = self._config.label
        return SchemaStep(
            name=f"index:{label}.{name}",
            kind="index",
            create=Asked.index("CREATE", label, name),
            drop=Asked.index("DROP", label, name),
            after_load=after_load,
        )

    def apply_schema(self, steps: Sequence[SchemaStep]) -> list[SchemaStep]:
        """See :class:`~migrator.backends.base.Backend`."""
        missing = {step.name for step in self.missing_schema()}
        made = [step for step in steps if step.name in missing]
        for step in made:
            self._define(step.create)
        self._look_at_indexes()
        return made

    def drop_schema(self, steps: Sequence[SchemaStep]) -> None:
        """See :class:`~migrator.backends.base.Backend`."""
        missing = {step.name for step in self.missing_schema()}
        for step in reversed(steps):
            if step.name not in missing:
                self._define(step.drop)
        self._look_at_indexes()

    def _define(self, statement: str) -> None:
        """Change the schema. Any open transaction of another client that writes makes it fail: tried for 10 s."""
        until = time.monotonic() + _DDL_SECONDS
        while True:
            try:
                self._wire.auto(statement, writes=True)
            except Conflict as error:
                if "constraint" in str(error).lower():
                    message = f"the schema could not be changed: {error}"
                    raise StoreRefused(message, hint="ids that stand more than once? nothing was written") from error
                if time.monotonic() > until:
                    message = f"Memgraph at {self._address()} is kept locked by another client: {error}"
                    raise TargetFull(message, hint="end its transaction, then start again") from error
                time.sleep(0.2)
            else:
                return

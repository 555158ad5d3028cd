"""Neo4j: 5.x LTS and the calendar versions."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from migrator.backends._bolt import BoltStore
from migrator.backends._bolt_cypher import Dialect, Statements
from migrator.backends._bolt_wire import AlreadyThere, Conflict
from migrator.backends._cypher import MARKER_LABEL, Limits, index_size, quoted
from migrator.backends.base import Durability, SchemaStep, StoreInfo
from migrator.errors import StoreRefused

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from migrator.backends._bolt_wire import Transact
    from migrator.backends.base import Access
    from migrator.model import Value
    from migrator.models import BackendConfig, Role

DEFAULT_DATABASE = "neo4j"
#: Bytes of one entry of a range index; one more fails late and for the whole batch. [measured on 5.26]
INDEX_BYTES = 8_164
#: What memorygraph's client makes: names and properties of range indexes on the label, and of the full text one. Ours
#: have a chance suffix: whoever makes one of the client's name after ours were planned keeps it, whatever we drop.
_INDEXES = {
    "memory_type_index": "type",
    "memory_created_at_index": "created_at",
    "memory_tags_index": "tags",
    "memory_importance_index": "importance",
    "memory_confidence_index": "confidence",
    "memory_project_path_index": "context_project_path",
}
_TEXT_INDEX = ("memory_content_index", ("title", "content", "summary"))
_COMPONENTS = (
    "CALL dbms.components() YIELD name, versions, edition WHERE name = 'Neo4j Kernel' RETURN versions, edition"
)
_UNIQUE = "memory_id_unique"
_UNIQUE_KINDS = {"UNIQUENESS", "NODE_PROPERTY_UNIQUENESS", "NODE_KEY"}
_SHOW = (
    "SHOW {} YIELD name, type, entityType, labelsOrTypes, properties"
    " RETURN name, type, entityType, labelsOrTypes, properties"
)
_INDEX_SECONDS = 300.0
_INDEX_POLL = 0.05
#: Values that may be too long for an index: by their characters, of up to 4 bytes; numbers have 8.
_LONG = (
    "UNWIND $names AS name WITH n, name, n[name] AS v WHERE v IS NOT NULL WITH name, v WHERE $most < CASE"
    " WHEN v IS :: STRING THEN 4 * size(v)"
    " WHEN v IS :: LIST<STRING NOT NULL> THEN reduce(s = 0, x IN v | s + 4 * size(x) + 2)"
    " WHEN v IS :: LIST<ANY> THEN 8 * size(v) ELSE 0 END RETURN name, v"
)

DIALECT = Dialect(
    internal_id="elementId({0})",
    is_text="{0} STARTS WITH ''",  # null for what is no text
    has_edges="EXISTS {{ ({0})--() }}",
    # Takes the write lock and changes nothing. [measured on 5.26 and 2025.09]
    lock="SET {0} += {{}} ",
    # Removing a label takes a lock that a new edge needs, even where 100 hang there already, for which `lock` does not
    # do. No node but the marker has this one. [measured on 5.26 and 2025.09]
    lock_edges="REMOVE {0}:" + MARKER_LABEL + " ",
    # Without it, what is planned while the store is empty reads all of the index, or all edges, for each row, and that
    # plan is kept for 10 s. [measured on 5.26]
    seek="USING INDEX SEEK {0}:{1}({2}) ",
)


@dataclass(frozen=True, slots=True)
class _Index:
    """An index or constraint that is there: its name, kind, label and properties."""

    name: str
    kind: str  #: RANGE, FULLTEXT, …; UNIQUENESS for a constraint
    entity: str  #: NODE or RELATIONSHIP
    labels: tuple[str, ...]
    properties: tuple[str, ...]


def _indexes(rows: Iterable[Sequence[Any]]) -> Iterator[_Index]:
    """Yield what ``_SHOW`` answered."""
    for name, kind, entity, labels, properties in rows:
        yield _Index(name, kind, entity, tuple(labels or ()), tuple(properties or ()))


class Neo4jBackend(BoltStore):
    """:class:`~migrator.backends.base.Backend` over a Neo4j database."""

    kind = "neo4j"
    _asks_within = True

    def __init__(self, config: BackendConfig, *, role: Role) -> None:
        statements = Statements(
            label=config.label, id_property=config.id_property, all_labels=config.all_labels, dialect=DIALECT
        )
        planned = tuple(("memory", config.label, (name,)) for name in (config.id_property, *_INDEXES.values()))
        limits = Limits(
            id_bytes=INDEX_BYTES,
            blank_ids=True,
            list_depth=1,
            uniform_lists=True,
            nul=True,
            not_finite=True,
            binary=True,
            index_bytes=INDEX_BYTES,
            indexed=planned,  # type: ignore[arg-type]
        )
        super().__init__(config, statements, limits, role=role)
        self._limits = limits
        #: Properties that cannot have an index, as a value that stands there is too long for one.
        self._too_long: set[str] = set()

    def open(self, access: Access) -> StoreInfo:
        """See :class:`~migrator.backends.base.Backend`."""
        self.close()
        wire = self._connect(
            access, self._config.scheme or "neo4j", self._config.graph or DEFAULT_DATABASE, name="Neo4j"
        )
        try:
            identity, name = wire.read("CALL db.info() YIELD id, name RETURN id, name")[0]
            _refuse_system(name)
            versions, edition = wire.read(_COMPONENTS)[0]
            self._check_writable(access)
            self._look_at_indexes()
            warnings = () if access == "read" else tuple(self._hindrances())
            if access == "dry":
                self._refuse_long_ids()
        except BaseException:
            self.close()
            raise
        return StoreInfo(
            kind=self.kind,
            place=f"{self._address()}/{name}",
            version=f"Neo4j {versions[0]} ({edition})",
            lasting_identity=str(identity),
            durability="each commit is synced",
            warnings=warnings,
        )

    def identity(self) -> str:
        """Return the database's id. It survives restarts, which lose nothing that was acknowledged [measured]."""
        return str(self._wire.read("CALL db.info() YIELD id RETURN id")[0][0])

    def barrier(self) -> Durability:
        """Say that a commit is durable: 5,000 nodes of 50 commits were all there after kill -9 [measured]."""
        return Durability(durable=True, evidence={"how": "commit"})

    # --- schema ---

    def _present(self) -> Iterator[_Index]:
        for show in ("INDEXES", "CONSTRAINTS"):
            yield from _indexes(self._wire.read(_SHOW.format(show)))

    def _keeps_unique(self, transaction: Transact) -> bool:
        # DROP CONSTRAINT waits for whoever has made a node with its label. [measured on 5.26]
        return self._are_unique(_indexes(transaction.run(_SHOW.format("CONSTRAINTS"))))

    def _are_unique(self, present: Iterable[_Index]) -> bool:
        return any(one.kind in _UNIQUE_KINDS and self._is_on(one, self._config.id_property) for one in present)

    def _look_at_indexes(self) -> None:
        present = list(self._present())
        ids = [one for one in present if self._is_on(one, self._config.id_property)]
        indexed = any(one.kind == "RANGE" for one in ids)
        self._use(indexed=indexed, unique=self._are_unique(present))
        limited = {
            ("memory" if one.entity == "NODE" else "relationship", label, one.properties)
            for one in present
            if one.kind == "RANGE"
            for label in one.labels
        }
        indexes = tuple(sorted(limited.union(self._limits.indexed)))
        self.form = replace(self.form, limits=replace(self._limits, indexed=indexes))  # type: ignore[arg-type]

    def _is_on(self, index: _Index, *properties: str) -> bool:
        return index.entity == "NODE" and index.labels == (self._config.label,) and index.properties == properties

    def _hindrances(self) -> Iterator[str]:
        """Look for what keeps the schema from being made, and say it."""
        key, label = self._config.id_property, self._config.label
        ranges = [one for one in self._present() if one.kind == "RANGE"]
        wanted = [name for name in (key, *_INDEXES.values()) if not any(self._is_on(one, name) for one in ranges)]
        query = f"MATCH (n:{quoted(label)}) {_LONG}"
        long = self._wire.read(query, {"names": wanted, "most": INDEX_BYTES}) if wanted else []
        self._too_long = {str(name) for name, value in long if index_size(value) > INDEX_BYTES}
        for name in sorted(self._too_long - {key}):
            yield f"the target gets no index on {name}: a value that stands there has more than {INDEX_BYTES} bytes"
        if key not in wanted and not self._unique:
            yield (
                f"the target has an index on {key} but no constraint, and can have none beside it: if another client"
                " makes a memory at the very moment when the run makes it, it stands there twice"
            )

    def _refuse_long_ids(self) -> None:
        key, label = self._config.id_property, self._config.label
        if key in self._too_long:
            message = f"{self._address()} has an {key} of more than {INDEX_BYTES} bytes: no index can have it"
            raise StoreRefused(message, hint=f"give that {label} a shorter one; nothing was written")

    def missing_schema(self) -> list[SchemaStep]:
        """Return the constraint on ids and the indexes that the client makes, as far as none like them are there.

        StoreRefused where the constraint cannot be made because ids stand more than once, or one is too long.
        """
        self._refuse_long_ids()
        present = list(self._present())
        label, key = self._config.label, self._config.id_property
        at = f"FOR (m:{quoted(label)})"
        steps = []
        # With a range index of its own on the ids no constraint can be made, and that index is somebody else's.
        if not any((one.kind == "RANGE" or one.kind in _UNIQUE_KINDS) and self._is_on(one, key) for one in present):
            if duplicates := self._wire.read(self._say.duplicate_nodes()):
                message = "ids stand more than once: " + ", ".join(repr(row[0]) for row in duplicates)
                raise StoreRefused(message, hint="give each memory its own id, then start again; nothing was written")
            name = _name(_UNIQUE)
            create = f"CREATE CONSTRAINT {name} IF NOT EXISTS {at} REQUIRE m.{quoted(key)} IS UNIQUE"
            step = SchemaStep(
                name=f"constraint:{label}.{key}",
                kind="constraint",
                create=create,
                drop=f"DROP CONSTRAINT {name} IF EXISTS",
            )
            steps.append(step)
        for name, wanted in _INDEXES.items():
            if wanted not in self._too_long and not any(
                one.kind == "RANGE" and self._is_on(one, wanted) for one in present
            ):
                on = f"ON (m.{quoted(wanted)})"
                steps.append(_index(f"index:{label}.{wanted}", "INDEX", _name(name), f"{at} {on}"))
        name, texts = _TEXT_INDEX
        if not any(one.kind == "FULLTEXT" and label in one.labels and one.properties == texts for one in present):
            on = f"ON EACH [{', '.join(f'm.{quoted(text)}' for text in texts)}]"
            steps.append(_index(f"fulltext:{label}", "FULLTEXT INDEX", _name(name), f"{at} {on}"))
        return steps

    def apply_schema(self, steps: Sequence[SchemaStep]) -> list[SchemaStep]:
        """See :class:`~migrator.backends.base.Backend`. Waits for the indexes, and drops one that a value does not fit.

        Such a value came after ``open``, which leaves out the indexes that cannot be made.
        """
        missing = {step.name for step in self.missing_schema()}
        made = [step for step in steps if step.name in missing]
        for step in made:
            self._define(step.create)
        states = self._awaited({step.drop for step in made}) if made else {}
        failed = [step for step in made if states.get(step.drop) == "FAILED"]
        self.drop_schema(failed)
        return [step for step in made if step not in failed]

    def _awaited(self, drops: set[str]) -> dict[str, str]:
        """Return the state of each index by what drops it, once none of these is being filled any more."""
        until = time.monotonic() + _INDEX_SECONDS
        while True:
            rows = self._wire.read("SHOW INDEXES YIELD name, state RETURN name, state")
            states = {_drops(name): str(state) for name, state in rows}
            if time.monotonic() > until or "POPULATING" not in {states.get(drop) for drop in drops}:
                return states
            time.sleep(_INDEX_POLL)

    def drop_schema(self, steps: Sequence[SchemaStep]) -> None:
        """See :class:`~migrator.backends.base.Backend`."""
        for step in reversed(steps):
            self._define(step.drop)
        self._look_at_indexes()

    def _define(self, statement: str) -> None:
        try:
            with self._wire.writing() as transaction:
                transaction.run(statement)
                transaction.commit()
        except AlreadyThere:
            return  # a request of ours that was late, or another client, made it in between
        except Conflict as error:
            message = f"the schema could not be changed: {error}"
            raise StoreRefused(message, hint="ids that stand more than once? nothing was written") from error


def _refuse_system(name: str) -> None:
    if name == "system":
        message = "the database system is Neo4j's own"
        raise StoreRefused(message, hint=f"give another, such as {DEFAULT_DATABASE}")


def _index(name: str, kind: str, called: str, on: str) -> SchemaStep:
    return SchemaStep(
        name=name,
        kind="index",
        create=f"CREATE {kind} {called} IF NOT EXISTS {on}",
        drop=_drops(called),
        after_load=True,
    )


def _drops(index: Value) -> str:
    return f"DROP INDEX {index} IF EXISTS"


def _name(wanted: str) -> str:
    """Return a name that nobody else gives to a constraint or index."""
    return f"{wanted}_{secrets.token_hex(4)}"

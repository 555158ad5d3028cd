"""Every statement that is sent to a Bolt store, as text. Pure: values are always parameters, names are quoted.

Rows are maps: ``id`` of the record, ``at`` the internal id of a node that the label's index does not have; an edge's
old ends are ``a`` and ``b``, its new ones ``c`` and ``d``, with ``at_a`` … ``at_d``; ``p`` all properties of what is
new; ``w`` keys to set (null removes), ``z`` keys to remove first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from migrator.backends._cypher import MARKER_LABEL, SCRATCH_LABEL, quoted

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

DUPLICATES = 10
#: A property that the marker always has: setting it there again takes the lock and changes nothing.
LOCK = "memmig_lock"


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """What two servers spell differently; ``{0}`` is a node, an edge or a value."""

    internal_id: str
    is_text: str
    has_edges: str
    #: Take the write lock of a node or edge, and keep others from hanging edges on a node, without changing it.
    #: "" where conflicts are found anyway.
    lock: str = ""
    lock_edges: str = ""
    #: Make the planner look a node of label {1} up by property {2}, whatever it believes of the store's size.
    seek: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Statements:
    """The statements for one label and id property."""

    label: str
    id_property: str
    all_labels: bool
    dialect: Dialect
    indexed: bool = False  #: whether the label's ids have an index

    @property
    def _label(self) -> str:
        return quoted(self.label)

    @property
    def _id(self) -> str:
        return quoted(self.id_property)

    def _internal(self, name: str) -> str:
        return self.dialect.internal_id.format(name)

    def _lock(self, name: str) -> str:
        return self.dialect.lock.format(name)

    # --- counting and scanning ---

    def _scope(self, name: str) -> str:
        return f"({name})" if self.all_labels else f"({name}:{self._label})"

    def _not_ours(self, name: str) -> str:
        return f"NOT ({name}:{MARKER_LABEL} OR {name}:{SCRATCH_LABEL})"

    def _edges(self) -> str:
        return f"MATCH {self._scope('a')}-[r]->{self._scope('b')}"

    def count_nodes(self) -> str:
        """→ number of nodes in the scope."""
        if self.all_labels:
            return f"MATCH (n) WHERE {self._not_ours('n')} RETURN count(n)"
        return f"MATCH (n:{self._label}) RETURN count(n)"

    def count_edges(self) -> str:
        """→ number of edges in the scope."""
        return f"{self._edges()} RETURN count(r)"

    @staticmethod
    def count_all_nodes() -> str:
        """→ number of nodes, ours included."""
        return "MATCH (n) RETURN count(n)"

    @staticmethod
    def count_all_edges() -> str:
        """→ number of edges."""
        return "MATCH ()-[r]->() RETURN count(r)"

    def count_labelled(self) -> str:
        """→ number of nodes with the label."""
        return f"MATCH (n:{self._label}) RETURN count(n)"

    def other_nodes(self) -> str:
        """→ (labels, number) of what the scope leaves out."""
        return f"MATCH (n) WHERE NOT n:{self._label} AND {self._not_ours('n')} RETURN labels(n), count(*)"

    def duplicate_nodes(self) -> str:
        """→ up to 10 ids that stand more than once."""
        ids = f"MATCH {self._scope('n')} WHERE {self._not_ours('n')} WITH n.{self._id} AS i"
        return f"{ids} {self._repeated()}"

    def duplicate_edges(self) -> str:
        """→ up to 10 ids that stand more than once."""
        return f"{self._edges()} WITH r.{self._id} AS i {self._repeated()}"

    def _repeated(self) -> str:
        text = self.dialect.is_text.format("i")
        return f"WHERE {text} WITH i, count(*) AS c WHERE c > 1 RETURN i LIMIT {DUPLICATES}"

    def scan_nodes(self) -> str:
        """→ internal id, labels, properties."""
        where = f" WHERE {self._not_ours('n')}" if self.all_labels else ""
        return f"MATCH {self._scope('n')}{where} RETURN {self._internal('n')}, labels(n), properties(n)"

    def scan_edges(self) -> str:
        """→ internal id, type, from, to, properties."""
        return f"{self._edges()} RETURN {self._internal('r')}, {self._edge_columns('a', 'b')}"

    def _edge_columns(self, start: str, end: str) -> str:
        return f"type(r), {start}.{self._id}, {end}.{self._id}, properties(r)"

    # --- looking up ---

    def other_places(self, *, indexed: bool) -> str:
        """→ (internal id, id) of nodes that the label's index does not have; without an index, of all."""
        where = f"NOT n:{self._label} AND " if indexed else ""
        return f"MATCH (n) WHERE {where}{self._not_ours('n')} RETURN {self._internal('n')}, n.{self._id}"

    def others_with_ids(self) -> str:
        """→ number of nodes without the label that have an id of $ids; reads all nodes.

        WITH: or else Memgraph compares the ids first, of every node [measured: 3.5 s for 0.04 s, of 100,000].
        """
        return f"MATCH (n) WHERE NOT n:{self._label} WITH n WHERE n.{self._id} IN $ids RETURN count(n)"

    def labelled_ids(self) -> str:
        """→ those of $ids that stand in the label, once each."""
        return f"UNWIND $ids AS x MATCH (n:{self._label} {{{self._id}: x}}) RETURN DISTINCT x"

    def edge_ends(self) -> str:
        """→ (id, from, to) of every edge."""
        return f"MATCH (a)-[r]->(b) RETURN r.{self._id}, a.{self._id}, b.{self._id}"

    def _node(self, name: str, wanted: str, *, placed: bool, scoped: bool = False) -> str:
        """Match the node whose id is ``row.<wanted>``; by the internal id, which is a hint, where it is placed.

        ``scoped``: only a node of the scope will do, else any that has the id.
        """
        if placed:
            at = "row.at" if wanted == "id" else f"row.at_{wanted}"
            node = self._scope(name) if scoped else f"({name})"
            return f"MATCH {node} WHERE {self._internal(name)} = {at} AND {name}.{self._id} = row.{wanted} "
        seek = self.dialect.seek.format(name, self._label, self._id) if self.indexed else ""
        return f"MATCH ({name}:{self._label} {{{self._id}: row.{wanted}}}) {seek}"

    def _nodes(self, names: str, ends: Sequence[bool], *, scoped: bool = False) -> str:
        pairs = zip(names, ends, strict=True)
        return "".join(self._node(name, name, placed=placed, scoped=scoped) for name, placed in pairs)

    def _edge(self, ends: Sequence[bool], *, scoped: bool = False) -> str:
        nodes = self._nodes("ab", ends, scoped=scoped)
        return f"UNWIND $rows AS row {nodes}MATCH (a)-[r]->(b) WHERE r.{self._id} = row.id "

    def find_nodes(self, *, placed: bool) -> str:
        """→ labels, properties."""
        return f"UNWIND $rows AS row {self._node('n', 'id', placed=placed)}RETURN labels(n), properties(n)"

    def find_nodes_at_once(self) -> str:
        """→ labels, properties; in one pass over the label, for a store without an index."""
        return f"MATCH (n:{self._label}) WHERE n.{self._id} IN $ids RETURN labels(n), properties(n)"

    def find_edges(self, ends: Sequence[bool]) -> str:
        """→ type, from, to, properties; at the ends that are expected."""
        return f"{self._edge(ends)}RETURN {self._edge_columns('a', 'b')}"

    def find_edges_without_id(self, ends: Sequence[bool]) -> str:
        """→ type, from, to, properties of those of a type between two ends; once for each row."""
        nodes = self._nodes("ab", ends, scoped=True)
        edges = f"MATCH (a)-[r]->(b) WHERE r.{self._id} IS NULL AND type(r) = row.type "
        return f"UNWIND $rows AS row {nodes}{edges}RETURN {self._edge_columns('a', 'b')}"

    def find_edges_anywhere(self) -> str:
        """→ type, from, to, properties; reads all edges."""
        return f"MATCH (a)-[r]->(b) WHERE r.{self._id} IN $ids RETURN {self._edge_columns('a', 'b')}"

    def attached(self, *, placed: bool) -> str:
        """→ id, ids of up to ``$shown`` edges at the node."""
        node = self._node("n", "id", placed=placed)
        ids = f"collect(DISTINCT coalesce(r.{self._id}, ''))[0..$shown]"
        return f"UNWIND $rows AS row {node}MATCH (n)-[r]-() RETURN row.id, {ids}"

    # --- the marker ---

    @staticmethod
    def markers() -> str:
        """→ properties of each marker."""
        return f"MATCH (k:{MARKER_LABEL}) RETURN properties(k)"

    def lock_markers(self) -> str:
        """→ internal id, properties of each marker, its lock being ours from now on."""
        return f"MATCH (k:{MARKER_LABEL}) SET k.{LOCK} = true RETURN {self._internal('k')}, properties(k)"

    @staticmethod
    def move_marker() -> str:
        """→ properties that each marker had, its lock being ours from now on; $new is set."""
        return f"MATCH (k:{MARKER_LABEL}) SET k.{LOCK} = true WITH k, properties(k) AS was SET k += $new RETURN was"

    @staticmethod
    def make_marker() -> str:
        """Make a marker of $new."""
        return f"CREATE (k:{MARKER_LABEL}) SET k = $new, k.{LOCK} = true"

    def remove_marker(self) -> str:
        """Remove the one marker at $at."""
        return f"MATCH (k:{MARKER_LABEL}) WHERE {self._internal('k')} = $at DELETE k"

    # --- guards: what stands there, read behind its lock ---

    def guard_absent_nodes(self) -> str:
        """→ number of nodes with an id of $ids, by the index."""
        return f"UNWIND $ids AS x MATCH (n:{self._label} {{{self._id}: x}}) RETURN count(n)"

    def guard_nodes(self, *, placed: bool) -> str:
        """→ id, labels, properties, whether edges hang on it."""
        node = self._node("n", "id", placed=placed)
        edges = self.dialect.has_edges.format("n")
        return f"UNWIND $rows AS row {node}{self._lock('n')}RETURN row.id, labels(n), properties(n), {edges}"

    def guard_edges(self, ends: Sequence[bool]) -> str:
        """→ id, type, properties."""
        return f"{self._edge(ends)}{self._lock('r')}RETURN row.id, type(r), properties(r)"

    # --- writing: all return (rows, distinct ids) that were written ---

    def create_nodes(self, labels: Iterable[str]) -> str:
        """Make nodes of ``p``."""
        return f"UNWIND $rows AS row CREATE (n:{':'.join(map(quoted, labels))}) SET n = row.p {_WRITTEN}"

    def change_nodes(self, *, placed: bool, add: Iterable[str], remove: Iterable[str], again: bool) -> str:
        """Set ``w`` and labels; ``again``: remove ``z`` first."""
        labels = "".join(f"SET n:{quoted(name)} " for name in add)
        labels += "".join(f"REMOVE n:{quoted(name)} " for name in remove)
        return (
            f"UNWIND $rows AS row {self._node('n', 'id', placed=placed)}{_change('n', again=again)}{labels}{_WRITTEN}"
        )

    def delete_nodes(self, *, placed: bool) -> str:
        """Delete nodes without edges; the server refuses others."""
        return f"UNWIND $rows AS row {self._node('n', 'id', placed=placed)}DELETE n {_WRITTEN}"

    def create_edges(self, shape: str, ends: Sequence[bool]) -> str:
        """Make edges of ``p`` from ``c`` to ``d``, which are in the scope: a node of others is no end of ours."""
        return f"UNWIND $rows AS row {self._new_ends(ends)}{self._new_edge(shape)}{_WRITTEN}"

    def lock_ends(self, *, placed: bool) -> str:
        """→ number of nodes of the scope that were found; nobody can hang an edge on them from now on."""
        lock = self.dialect.lock_edges.format("n")
        return f"UNWIND $rows AS row {self._node('n', 'id', placed=placed, scoped=True)}{lock}RETURN count(n)"

    def guard_absent_edges(self, ends: Sequence[bool]) -> str:
        """→ number of edges between ``c`` and ``d`` that have the id."""
        found = f"MATCH (c)-[o]->(d) WHERE o.{self._id} = row.id RETURN count(o)"
        return f"UNWIND $rows AS row {self._new_ends(ends)}{found}"

    def change_edges(self, ends: Sequence[bool], *, again: bool) -> str:
        """Set ``w``; ``again``: remove ``z`` first."""
        return f"{self._edge(ends)}{_change('r', again=again)}{_WRITTEN}"

    def delete_edges(self, ends: Sequence[bool]) -> str:
        """Delete edges."""
        return f"{self._edge(ends)}DELETE r {_WRITTEN}"

    def replace_edges(self, shape: str, ends: Sequence[bool]) -> str:
        """Delete edges and make them anew of ``p`` from ``c`` to ``d``.

        All four ends are in the scope: what is taken from a node of others could not be put back there.
        """
        new = self._new_ends(ends[2:])
        return f"{self._edge(ends[:2], scoped=True)}WITH row, r {new}DELETE r {self._new_edge(shape)}{_WRITTEN}"

    def _new_ends(self, ends: Sequence[bool]) -> str:
        return self._nodes("cd", ends, scoped=True)

    @staticmethod
    def _new_edge(shape: str) -> str:
        return f"CREATE (c)-[n:{quoted(shape)}]->(d) SET n = row.p "

    # --- scratch ---

    @staticmethod
    def make_scratch(shape: str) -> str:
        """Make a scratch node, or an edge of a type between two, of $p."""
        if not shape:
            return f"CREATE (n:{SCRATCH_LABEL}) SET n = $p"
        return f"CREATE (:{SCRATCH_LABEL})-[n:{quoted(shape)}]->(:{SCRATCH_LABEL}) SET n = $p"

    @staticmethod
    def read_scratch(*, edge: bool) -> str:
        """→ properties."""
        if edge:
            return f"MATCH (:{SCRATCH_LABEL})-[n]->(:{SCRATCH_LABEL}) RETURN properties(n)"
        return f"MATCH (n:{SCRATCH_LABEL}) RETURN properties(n)"

    @staticmethod
    def clear_scratch() -> tuple[str, str]:
        """Remove scratch edges, then nodes."""
        return (
            f"MATCH (:{SCRATCH_LABEL})-[n]->(:{SCRATCH_LABEL}) DELETE n",
            f"MATCH (n:{SCRATCH_LABEL}) DELETE n",
        )

    @staticmethod
    def try_to_write() -> str:
        """Make a node; to be rolled back. Without a label, so that not even the label's name stays."""
        return "CREATE (n) RETURN 1"


_WRITTEN = "RETURN count(*), count(DISTINCT row.id)"


def _change(name: str, *, again: bool) -> str:
    # SET leaves 0.0 where -0.0 is to be: it takes them for equal [measured]. So such keys go first.
    if again:
        return f"SET {name} += row.z WITH row, {name} SET {name} += row.w "
    return f"SET {name} += row.w "

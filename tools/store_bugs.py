"""Bugs in how each engine carries out a batch: marker inside, guards for every row, all or nothing."""

from __future__ import annotations

from tools.bugs import WRITING, Edit, Mutation, bug_in

SQLITE = "migrator/backends/_sqlite_writes.py"
FALKOR = "migrator/backends/_falkor_write.py"
BOLT = "migrator/backends/_bolt_write.py"
CYPHER = "migrator/backends/_bolt_cypher.py"
LIES = f"{WRITING}::TestGuards::test_a_lie_is_refused_and_nothing_changes"

_COMMITTED = 'connection.execute("COMMIT")\n    connection.execute("BEGIN IMMEDIATE")'

STORE_BUGS: tuple[Mutation, ...] = (
    bug_in(
        "in memory: the marker moves although the batch is refused",
        "migrator/backends/memory.py",
        "        held = store.held(batch.kind)\n        if len({row.id",
        "        store.markers = [replace(expected, batch=batch.number, digest=batch.digest)]\n"
        "        held = store.held(batch.kind)\n        if len({row.id",
        LIES,
        "memory",
    ),
    bug_in(
        "SQLite: the marker moves in a transaction of its own",
        SQLITE,
        "    if not _guards_hold(connection, layout, batch, label):\n",
        '    moved = f"UPDATE {schema.MARKER_TABLE} SET batch = ?, digest = ?"\n'
        "    connection.execute(moved, (batch.number, batch.digest))\n"
        f"    {_COMMITTED}\n"
        "    if not _guards_hold(connection, layout, batch, label):\n",
        LIES,
        "sqlite",
    ),
    bug_in(
        "FalkorDB: the marker moves in a query of its own",
        "migrator/backends/_falkor.py",
        "        config = self._config\n        writer = Writer(",
        "        config = self._config\n"
        '        moved = {"batch": batch.number, "digest": batch.digest}\n'
        '        parameters = {"marker": asdict(expected), "moved": moved}\n'
        '        self._wire.write(f"{ONE_MARKER}SET k += $moved RETURN 1", parameters)\n'
        "        expected = replace(expected, batch=batch.number, digest=batch.digest)\n"
        "        writer = Writer(",
        LIES,
        "falkordb and not lite",
    ),
    bug_in(
        "Neo4j: the marker moves in a transaction of its own",
        "migrator/backends/_bolt.py",
        "        try:\n            with self._wire.writing() as transaction:\n                Writer(",
        '        moved = {"batch": batch.number, "digest": batch.digest}\n'
        "        try:\n"
        "            with self._wire.writing() as transaction:\n"
        "                move_marker(transaction, self._say, expected, moved)\n"
        "                transaction.commit()\n"
        "            expected = replace(expected, **moved)\n"
        "            with self._wire.writing() as transaction:\n                Writer(",
        LIES,
        "neo4j",
    ),
    bug_in(
        "SQLite: a raise sets the marker without comparing",
        SQLITE,
        "    if there != ([] if expected is None else [expected]) and (new is not None or expected not in there):\n",
        "    if expected is None and there:\n",
        f"{WRITING}::TestMarker::test_compare_and_set",
        "sqlite",
    ),
    bug_in(
        "SQLite: what a row expects is not compared",
        SQLITE,
        "            if found is None or row.expected is None or not _same_row(found, row.expected):\n",
        "            if found is None:\n",
        LIES,
        "sqlite",
    ),
    bug_in(
        "SQLite: an edge is created without its ends",
        SQLITE,
        "        return len([one for (one,) in rows if not scoped or one == label]) == len(ends)\n",
        "        return len(list(rows)) >= 0\n",
        LIES,
        "sqlite",
    ),
    bug_in(
        "SQLite: INSERT OR REPLACE for INSERT OR ABORT",
        SQLITE,
        'f"INSERT OR ABORT INTO {table} ({',
        'f"INSERT OR REPLACE INTO {table} ({',
        LIES,
        "sqlite",
    ),
    bug_in(
        "FalkorDB: MERGE for CREATE, and no look at what stands there",
        FALKOR,
        '"o IS NULL", f"CREATE (n:{labels}) SET n = row.p"',
        '"true", f"MERGE (n:{labels} {{{key}: row.id}}) SET n = row.p"',
        LIES,
        "falkordb and not lite",
    ),
    bug_in(
        "FalkorDB: rows whose guards do not hold are left out, not the batch",
        FALKOR,
        " AND found = {planned} AND good = {planned} WITH",
        " AND found = {planned} WITH",
        LIES,
        "falkordb and not lite",
    ),
    bug_in(
        "FalkorDB: a node is deleted with its edges",
        FALKOR,
        'guard += " AND indegree(n) + outdegree(n) = 0"\n                write = "DELETE n"',
        'write = "DETACH DELETE n"',
        LIES,
        "falkordb and not lite",
    ),
    bug_in(
        "Neo4j: MERGE for CREATE",
        CYPHER,
        "CREATE (n:{':'.join(map(quoted, labels))}) SET n = row.p",
        "MERGE (n:{':'.join(map(quoted, labels))} {{{self._id}: row.id}}) SET n = row.p",
        LIES,
        "neo4j",
    ),
    Mutation(
        "Neo4j: DETACH DELETE",
        (
            Edit(CYPHER, "DELETE n {_WRITTEN}", "DETACH DELETE n {_WRITTEN}"),
            Edit(BOLT, "if (alone and attached) or not", "if not"),
        ),
        LIES,
        "neo4j",
    ),
    bug_in(
        "Neo4j: what a row expects is not compared",
        BOLT,
        "not same_value(there, expected[identity])",
        "identity not in expected",
        LIES,
        "neo4j",
    ),
)

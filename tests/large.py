"""Large stores of realistic records, made fast, for benchmarks and memory limits."""

from __future__ import annotations

import json
import random
import sqlite3
from typing import TYPE_CHECKING

from tests.stores import SCHEMA_012

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_WORDS = [
    "retry",
    "cache",
    "parser",
    "queue",
    "deploy",
    "vector",
    "token",
    "cursor",
    "schema",
    "timeout",
    "graph",
    "日本語",
    "naïve",
]
_TYPES = ("task", "solution", "problem", "error", "fix", "code_pattern", "workflow", "general")
_RELATIONS = ("SOLVES", "CAUSES", "RELATED_TO", "DEPENDS_ON", "BUILDS_ON", "LEADS_TO")


def _identity(chance: random.Random) -> str:
    text = f"{chance.getrandbits(128):032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def _time(number: int) -> str:
    day = f"2025-{number % 12 + 1:02}-{number % 28 + 1:02}"
    return f"{day}T{number % 24:02}:{number % 60:02}:07.{number % 1000000:06}+00:00"


def make_large_012(path: Path, memories: int, relationships: int, seed: int) -> None:
    """Make a 0.12 store: about 1 kB of JSON per memory and 450 bytes per relationship, 10 % of these invalidated."""
    chance = random.Random(seed)
    # A few hundred texts are enough: only sizes and escapes cost time in a migration.
    contents = [json.dumps(" ".join(chance.choices(_WORDS, k=chance.randrange(5, 50))))[1:-1] for _ in range(500)]
    ids = [_identity(chance) for _ in range(memories)]
    rows = ((identity, _memory(identity, number, chance, contents)) for number, identity in enumerate(ids))
    with sqlite3.connect(path) as connection:
        connection.executescript(SCHEMA_012)
        connection.executemany("INSERT INTO nodes (id, label, properties) VALUES (?, 'Memory', ?)", rows)
        connection.executemany(
            "INSERT INTO relationships (id, from_id, to_id, rel_type, properties, valid_from, valid_until, recorded_at)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            _edges(ids, relationships, chance),
        )
    connection.close()


def _memory(identity: str, number: int, chance: random.Random, contents: list[str]) -> str:
    word = _WORDS[number % 11]
    return (
        f'{{"id": "{identity}", "type": "{_TYPES[number % 8]}", "title": "{word} {number}", '
        f'"content": "{contents[number % 500]}", "tags": ["{word}", "t{number % 50}"], '
        f'"importance": {chance.random()!r}, "confidence": {chance.random()!r}, "usage_count": {number % 60}, '
        f'"created_at": "{_time(number)}", "updated_at": "{_time(number + 1)}", '
        f'"context_project_path": "/srv/app{number % 9}", "context_files_involved": ["src/{word}.py"], '
        f'"context_languages": "[]", "context_frameworks": ["react"], "context_technologies": "[]", '
        f'"context_timestamp": "{_time(number)}", "context_additional_metadata": "{{}}", '
        '"context_visibility": "project"}'
    )


def _edges(ids: list[str], count: int, chance: random.Random) -> Iterator[tuple[str | None, ...]]:
    for number in range(count):
        identity, moment = _identity(chance), _time(number)
        ended = _time(number + 5) if number % 10 == 0 else None
        text = (
            f'{{"strength": {chance.random()!r}, "confidence": {chance.random()!r}, "context": "because {number}", '
            f'"evidence_count": {number % 7 + 1}, "success_rate": null, "created_at": "{moment}", '
            f'"last_validated": "{moment}", "validation_count": 0, "counter_evidence_count": 0, '
            f'"valid_from": "{moment}", "valid_until": null, "recorded_at": "{moment}", "invalidated_by": null, '
            f'"id": "{identity}"}}'
        )
        start, end = ids[number % len(ids)], ids[int(chance.random() * len(ids))]
        yield identity, start, end, _RELATIONS[number % 6], text, moment, ended, moment

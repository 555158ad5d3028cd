"""Runs memorygraph's own client in its own environment, and says what it ought to see."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.checker.compare import instant

if TYPE_CHECKING:
    from tests.checker.rawstore import Contents, RawMemory

HERE = Path(__file__).parent
_TIMES = ("created_at", "updated_at", "last_accessed")
_CONTEXT_LISTS = ("files_involved", "languages", "frameworks", "technologies")
_CONTEXT_TEXTS = (
    *("project_path", "git_commit", "git_branch", "working_directory", "session_id", "user_id"),
    *("tenant_id", "team_id", "created_by"),
)
#: What the client shows at once around a memory.
MOST_RELATED = 20


def client_python(package: str = "memorygraph") -> str:
    """Return the interpreter of the client's environment; skips by name, or fails where engines are required."""
    python = os.environ.get("MEMMIG_CLIENT_PYTHON", "")
    reason = ""
    if not python:
        reason = "memorygraphmcp 0.12.4: MEMMIG_CLIENT_PYTHON names no interpreter"
    elif subprocess.run([python, "-c", f"import {package}"], capture_output=True, check=False).returncode:
        reason = f"memorygraphmcp 0.12.4: no {package} in the environment of {python}"
    if reason and os.environ.get("MEMMIG_REQUIRE_ENGINES"):
        pytest.fail(reason)
    if reason:
        pytest.skip(reason)
    return python


def _run(script: str, words: list[str], text: str, home: Path) -> Any:
    package = {"falkordb": "falkordb", "falkordblite": "redislite"}.get(words[0], "memorygraph")
    ran = subprocess.run(
        [client_python(package), HERE / script, *words],
        input=text,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env={"PATH": os.environ["PATH"], "HOME": str(home), "MEMORY_ALLOW_CYCLES": "true"},
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    return json.loads(ran.stdout)


def seen_by_client(words: list[str], ids: list[str], home: Path) -> dict[str, Any]:
    """Return what the client sees of the given memories (client_reader.py). It may change the store: give a copy."""
    found: dict[str, Any] = _run("client_reader.py", words, json.dumps({"ids": ids}), home)
    return found


def written_by_client(words: list[str], home: Path) -> dict[str, Any]:
    """Make a small store through the client (see client_writer.py)."""
    found: dict[str, Any] = _run("client_writer.py", words, "", home)
    return found


def _list(value: Any) -> Any:
    return json.loads(value) if isinstance(value, str) else value or []


def expected_memory(memory: RawMemory) -> dict[str, Any]:
    """Return the fields that the client shows of a memory, times as microseconds; context None where there is none."""
    stored = memory.properties
    shown: dict[str, Any] = {"id": memory.id, "type": stored["type"]}
    shown |= {key: stored[key].strip() for key in ("title", "content")}
    shown |= {key: stored.get(key) for key in ("summary", "effectiveness")}
    shown["tags"] = [tag.lower().strip() for tag in _list(stored.get("tags")) if tag.strip()]
    for key, default in (("importance", 0.5), ("confidence", 0.8), ("usage_count", 0)):
        shown[key] = default if stored.get(key) is None else stored[key]
    shown |= {key: instant(stored.get(key)) for key in _TIMES}
    context = None
    if any(key.startswith("context_") and value is not None for key, value in stored.items()):
        context = {name: _list(stored.get(f"context_{name}")) for name in _CONTEXT_LISTS}
        context |= {name: stored.get(f"context_{name}") for name in _CONTEXT_TEXTS}
        metadata = stored.get("context_additional_metadata") or {}
        context["additional_metadata"] = json.loads(metadata) if isinstance(metadata, str) else metadata
        context["visibility"] = stored.get("context_visibility") or "project"
        if stored.get("context_timestamp") is not None:
            context["timestamp"] = instant(stored["context_timestamp"])
    return shown | {"context": context}


def _as_shown(memory: dict[str, Any], wanted: dict[str, Any]) -> dict[str, Any]:
    shown = {key: memory[key] for key in wanted}
    shown |= {key: instant(memory[key]) for key in _TIMES}
    if memory["context"] is not None:
        shown["context"] = {key: memory["context"][key] for key in wanted["context"] or memory["context"]}
        if "timestamp" in shown["context"]:
            shown["context"]["timestamp"] = instant(shown["context"]["timestamp"])
    return shown


def _printed(value: Any) -> Any:
    """Return a value as it is after FalkorDB printed its floats with 15 digits, which the client takes as they come."""
    if isinstance(value, float):
        return float(f"{value:.15g}")
    return {key: _printed(item) for key, item in value.items()} if isinstance(value, dict) else value


def differences(source: Contents, seen: dict[str, Any], *, graph: bool) -> list[str]:
    """Return what the client ought to see of a source's records and does not, or sees otherwise.

    ``graph``: the client reads FalkorDB, where it prints floats with 15 digits and shows historic edges among the rest.
    """
    found = [f"the client fails: {error}" for error in seen["errors"]]
    if seen["count"] != len(source.memories):
        found.append(f"the client counts {seen['count']} memories of {len(source.memories)}")
    for memory in source.memories:
        shown = seen["memories"].get(memory.id)
        if shown is None:
            found.append(f"{memory.id}: not there")
            continue
        wanted = expected_memory(memory)
        have = _as_shown(shown, wanted)
        if graph:
            # The metadata is text there, and not printed by the engine.
            wanted |= {key: _printed(value) for key, value in wanted.items() if key != "context"}
        found += [
            f"{memory.id}: {key}: {have[key]!r} for {wanted[key]!r}" for key in wanted if have[key] != wanted[key]
        ]
    for identity, edges in _around(source, graph=graph).items():
        shown_edges = {(kind, end) for kind, end in seen["related"].get(identity, [])}
        expected = {(kind, end) for _, kind, end in edges}
        if (graph or len(edges) < MOST_RELATED) and shown_edges != expected:
            found.append(f"{identity}: relationships {sorted(shown_edges)} for {sorted(expected)}")
        if not shown_edges <= expected:
            found.append(f"{identity}: invented relationships {sorted(shown_edges - expected)}")
    return found + ([] if graph else _history(source, seen))


def _around(source: Contents, *, graph: bool) -> dict[str, set[tuple[str, str, str]]]:
    """Return for each memory what the client shows around it: (edge, its type, the memory that it leads to).

    SQLite: the neighbours over current edges, self-loops left out. FalkorDB: all neighbours.
    """
    found: dict[str, set[tuple[str, str, str]]] = {memory.id: set() for memory in source.memories}
    for edge in source.relationships:
        if graph or (edge.properties.get("valid_until") is None and edge.from_id != edge.to_id):
            found[edge.from_id].add((edge.id, edge.type, edge.to_id))
            found[edge.to_id].add((edge.id, edge.type, edge.from_id))
    return found


def _history(source: Contents, seen: dict[str, Any]) -> list[str]:
    found: list[str] = []
    wanted = {edge.id: edge for edge in source.relationships}
    if wanted.keys() != seen["relationships"].keys():
        found.append(f"relationships: {sorted(wanted.keys() ^ seen['relationships'].keys())}")
    for identity in wanted.keys() & seen["relationships"].keys():
        edge, shown = wanted[identity], seen["relationships"][identity]
        have = [shown["from_memory_id"], shown["to_memory_id"], shown["type"], shown["properties"]["invalidated_by"]]
        if have != [edge.from_id, edge.to_id, edge.type, edge.properties.get("invalidated_by")]:
            found.append(f"{identity}: {have}")
        for key, default in (("strength", 0.5), ("confidence", 0.8), ("evidence_count", 1), ("context", None)):
            value = edge.properties.get(key)
            if shown["properties"][key] != (default if value is None else value):
                found.append(f"{identity}: {key}: {shown['properties'][key]!r} for {value!r}")
        found += [
            f"{identity}: {key}: {shown['properties'][key]!r} for {edge.properties.get(key)!r}"
            for key in ("valid_from", "valid_until", "recorded_at")
            if instant(shown["properties"][key]) != instant(edge.properties.get(key))
        ]
    return found

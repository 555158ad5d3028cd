"""Traces over several nights that once lost an update, a memory, or deleted one: none does any more."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING

import pytest

from migrator import manager
from migrator.backends._cypher import edge_id
from migrator.errors import Interrupted, LimitHit, VerificationFailed
from migrator.model import Relationship, canonical
from migrator.models import BackendConfig, BackendType, VerificationResult
from tests.stores import SCHEMA_012
from tests.sync.conftest import START, stamp

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from tests.sync.conftest import Nights


def _title(nights: Nights, identity: str) -> str:
    return str(nights.there.nodes[identity]["properties"]["title"])


def test_what_was_equal_while_a_run_stood_is_no_base_once_it_is_taken_back(nights: Nights) -> None:
    """Else the target's own old state would be taken for somebody's change, for good."""
    nights.memory("x", title="v1")
    nights.run()
    nights.wait(days=1)
    nights.memory("x", title="v2")
    at = nights.now
    second = nights.run()
    nights.there.nodes["x"]["properties"]["title"] = "team"
    nights.wait(days=1)
    nights.memory("x", title="v3")
    assert nights.run().memories["conflict"] == 1
    nights.memory("x", at=at, title="v2")
    nights.there.nodes["x"]["properties"]["title"] = "v2"
    nights.wait(days=1)
    assert nights.run().memories["unchanged"] == 1
    nights.rollback(second.run_id)
    assert _title(nights, "x") == "v1"
    nights.wait(days=1)
    assert nights.run().memories["updated"] == 1
    assert _title(nights, "x") == "v2"


def test_a_second_rollback_that_takes_what_the_first_retained_clears_the_watermark(nights: Nights) -> None:
    nights.run()
    nights.wait(days=1)
    nights.memory("x")
    second = nights.run()
    nights.there.edges["theirs"] = {"id": "theirs", "type": "T", "from": "x", "to": "a", "properties": {}}
    assert nights.rollback(second.run_id).exit_code == 10
    nights.wait(days=1)
    nights.memory("later")
    nights.run()
    del nights.there.edges["theirs"]
    nights.there.nodes["team"] = {"id": "team", "labels": ["Memory"], "properties": {}}
    nights.rollback(second.run_id)
    assert "x" not in nights.there.nodes
    assert nights.in_step.watermark is None
    nights.wait(days=1)
    nights.run()
    assert "x" in nights.there.nodes


def test_a_resumed_run_that_wrote_nothing_is_verified_by_reading_all(nights: Nights) -> None:
    """What the dead process decided was not read by the one that ends the run."""
    for number in range(6):
        nights.memory(f"m{number}")
    nights.there.nodes.update({name: json.loads(json.dumps(raw)) for name, raw in nights.here.nodes.items()})
    nights.there.edges.update({name: json.loads(json.dumps(raw)) for name, raw in nights.here.edges.items()})
    asked: list[int] = []

    def stop() -> int:
        asked.append(2)
        return 2 if len(asked) > 5 else 0

    with pytest.raises(Interrupted):
        nights.run(None, stop=stop)
    assert nights.last.batches, "something was decided"
    nights.there.nodes["m0"]["properties"]["title"] = "theirs"
    found = nights.run(None, resume=True)
    assert (found.verification.status, found.verification.foreign) == ("passed", 1)


def _source(nights: Nights, path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.executescript(SCHEMA_012)
    nights.source = BackendConfig(backend=BackendType.SQLITE, path=path)
    return connection


def _memory(connection: sqlite3.Connection, name: str, at: datetime | None, label: str = "Memory") -> None:
    times = {} if at is None else {"created_at": stamp(at), "updated_at": stamp(at)}
    found = json.dumps({"id": name, "type": "task", "title": name, "content": "c", **times})
    connection.execute("INSERT INTO nodes (id, label, properties) VALUES (?, ?, ?)", (name, label, found))


def test_a_block_of_other_labels_does_not_end_the_reading(nights: Nights, tmp_path: Path) -> None:
    with closing(_source(nights, tmp_path / "source.db")) as connection:
        _memory(connection, "a", START - timedelta(hours=1))
        nights.run()
        nights.wait(days=1)
        for number in range(7):
            _memory(connection, f"entity{number}", None, "Entity")
        _memory(connection, "behind", nights.now)
        edges = "INSERT INTO relationships (id, from_id, to_id, rel_type, properties) VALUES (?, ?, ?, 'CAUSES', '{}')"
        for number in range(7):
            connection.execute(edges, (f"e{number}", "a", f"entity{number}"))
        connection.execute(edges, ("last", "a", "behind"))
        found = nights.run()
    assert (found.memories["created"], found.relationships["created"]) == (1, 1)
    assert {"a", "behind"} == set(nights.there.nodes)


def test_nothing_is_taken_for_gone_while_an_id_cannot_be_read(nights: Nights, tmp_path: Path) -> None:
    with closing(_source(nights, tmp_path / "source.db")) as connection:
        for number in range(10):
            _memory(connection, f"m{number}", START - timedelta(hours=1))
        nights.run()
        connection.execute("UPDATE nodes SET id = CAST(id AS BLOB) WHERE id = 'm3'")
        for since in (None, "last"):
            nights.wait(days=1)
            with pytest.raises(LimitHit, match="whose id cannot be read"):
                nights.run(since, delete=True, on_unstorable="quarantine")
    assert "m3" in nights.there.nodes


def test_the_limit_is_of_what_the_target_still_holds(nights: Nights) -> None:
    for number in range(100):
        nights.memory(f"m{number}")
    nights.run(batch_size=200)
    for number in range(88):
        del nights.there.nodes[f"m{number}"]
    for number in range(90, 99):
        del nights.here.nodes[f"m{number}"]
    nights.wait(days=1)
    with pytest.raises(LimitHit, match="--max-delete"):
        nights.run(None, delete=True)


def test_another_choice_of_labels_is_compared_in_full(nights: Nights, tmp_path: Path) -> None:
    with closing(_source(nights, tmp_path / "source.db")) as connection:
        _memory(connection, "a", START - timedelta(hours=1))
        _memory(connection, "p", START - timedelta(hours=1), "Project")
        nights.run()
        nights.wait(days=1)
        found = nights.run(all_labels=True)
        assert "p" in nights.there.nodes
        assert any("all_labels" in warning for warning in found.warnings)
        nights.wait(days=1)
        assert not any("all_labels" in warning for warning in nights.run(all_labels=True).warnings)


def _nameless(nights: Nights, at: datetime, note: str) -> str:
    """Write an edge as a store gives one that has no id: under an id made of all that it says."""
    properties = {"created_at": stamp(at), "note": note}
    made = edge_id(Relationship("", "CAUSES", "a", "b", canonical("relationship", properties)), 0)
    nights.here.edges = {made: {"id": made, "type": "CAUSES", "from": "a", "to": "b", "properties": properties}}
    return made


def test_a_conflict_about_an_edge_without_id_stays_open(nights: Nights) -> None:
    nights.here.edges.clear()
    known = _nameless(nights, nights.now, "1")
    nights.run()
    nights.there.edges[known]["properties"]["note"] = "theirs"
    nights.wait(days=1)
    _nameless(nights, nights.now - timedelta(days=1), "2")
    for _ in range(3):
        assert nights.run().exit_code == 10
        nights.wait(days=1)
        nights.memory("c")
    nights.there.edges[known]["properties"]["note"] = "1"
    assert nights.run().exit_code == 0
    assert nights.there.edges[known]["properties"]["note"] == "2"


def test_an_edge_without_id_that_was_deleted_in_the_target_is_a_conflict_until_it_changes(nights: Nights) -> None:
    """The second half is a limit, which docs/explanation/sync.md names."""
    nights.here.edges.clear()
    known = _nameless(nights, nights.now, "1")
    nights.run()
    del nights.there.edges[known]
    nights.wait(days=1)
    assert nights.run(None).relationships["conflict"] == 1
    changed = _nameless(nights, nights.now, "2")
    assert nights.run(None).relationships["created"] == 1
    assert list(nights.there.edges) == [changed]


def test_verify_of_a_quiet_night_knows_an_edge_without_id_by_its_old_id(nights: Nights) -> None:
    nights.here.edges.clear()
    known = _nameless(nights, nights.now, "1")
    nights.run(None)
    assert _nameless(nights, nights.now, "2") != known
    assert nights.run(None).relationships["updated"] == 1
    quiet = nights.run(None)
    assert quiet.relationships["unchanged"] == 1
    verify = partial(manager.run_verify, quiet.run_id, journal_path=nights.journal)
    assert verify().verification == VerificationResult(status="passed", matched=3)
    del nights.there.edges[known]
    with pytest.raises(VerificationFailed, match="1 missing, 0 different"):
        verify()

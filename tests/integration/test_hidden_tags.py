"""Tags that are text: no store's client finds such a memory, so none is written, and none is respelled for ever."""

from __future__ import annotations

import json
import shutil
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from migrator.backends._cypher import CypherForm
from migrator.backends._sqlite_forms import Form012
from migrator.model import Memory
from migrator.plan import Planner
from tests.contract.records import memory
from tests.running import listing, memmig
from tests.stores import STORE_012

if TYPE_CHECKING:
    from pathlib import Path

    from migrator.backends.base import Form

FORMS: list[Form] = [Form012("Memory", all_labels=True), CypherForm()]


def _with_tags(path: Path, tags: str) -> None:
    shutil.copyfile(STORE_012, path)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        identity, text = connection.execute("SELECT id, properties FROM nodes WHERE label = 'Memory'").fetchone()
        changed = json.dumps(json.loads(text) | {"tags": tags})
        connection.execute("UPDATE nodes SET properties = ? WHERE id = ?", (changed, identity))


@pytest.mark.parametrize("there", [False, True], ids=["new target", "stands in the target"])
def test_a_memory_with_text_for_tags_is_never_written(there: bool, tmp_path: Path) -> None:
    _with_tags(tmp_path / "source.db", "abc")
    if there:
        shutil.copyfile(tmp_path / "source.db", tmp_path / "target.db")
    words = ("migrate", "--from", "sqlite:///source.db", "--to", "sqlite:///target.db", "--layout", "0.12", "--json")
    journal = ("--journal", "journal.db")
    before = listing(tmp_path)
    stopped = memmig(*words, *journal, cwd=tmp_path)
    assert stopped.code == 22, stopped.err
    after = listing(tmp_path)
    assert {name: after.get(name) for name in ("source.db", "target.db")} == {
        name: before.get(name) for name in ("source.db", "target.db")
    }
    for run in range(2):
        done = memmig(*words, *journal, "--on-unstorable", "quarantine", cwd=tmp_path)
        assert done.code == 10, done.err
        counts = done.document["memories"]
        assert counts["quarantined"] == 1
        assert counts["updated"] == 0
        if run or there:
            assert (counts["created"], counts["unchanged"]) == (0, 299)


def test_a_list_written_as_text_is_respelled_once(tmp_path: Path) -> None:
    _with_tags(tmp_path / "source.db", '["a"]')
    shutil.copyfile(tmp_path / "source.db", tmp_path / "target.db")
    words = ("migrate", "--from", "sqlite:///source.db", "--to", "sqlite:///target.db", "--layout", "0.12", "--json")
    updated = [memmig(*words, "--journal", "j.db", cwd=tmp_path).document["memories"]["updated"] for _ in range(2)]
    assert updated == [1, 0]


@pytest.mark.parametrize("form", FORMS, ids=["sqlite-0.12", "cypher"])
def test_what_is_no_memory_is_carried_and_left_alone(form: Form) -> None:
    entity = Memory("e", ("Entity",), memory("e", tags="abc").properties)
    assert not form.problems(entity)
    assert [problem.field for problem in form.problems(memory("m", tags="abc"))] == ["tags"]
    planned = Planner(form, "skip").plan("memory", entity, form.encode(entity), None, frozenset())
    assert planned.action == "unchanged"

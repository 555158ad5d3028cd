"""Every statement that the Memgraph backend can send, without a server: checked by rules, and pinned in a golden file.

After a change delete the golden file, run the test, which writes it and fails, and review the difference.
"""

from __future__ import annotations

import ast
import inspect
import re
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from migrator.backends import _bolt, _bolt_lookup, _bolt_wire, _bolt_write, memgraph
from migrator.backends._bolt_cypher import Statements
from migrator.backends.base import SchemaStep
from migrator.backends.memgraph import DIALECT, INDEXED, Asked, MemgraphBackend
from migrator.models import BackendConfig, BackendType

if TYPE_CHECKING:
    from collections.abc import Iterator

GOLDEN = Path(__file__).parent.parent / "data" / "memgraph-statements.txt"
#: What Memgraph takes outside transactions only.
AUTOMATIC = {"VERSION", "STORAGE", "STORAGE_BEFORE_3_11", "CONFIG", "INDEXES", "CONSTRAINTS", "SNAPSHOT"}
FLAGS = (False, True)


def _arguments(name: str) -> list[dict[str, object]]:
    """Return one call of a method of Statements for every text that it can make."""
    both = list(product(FLAGS, repeat=2))
    chosen: dict[str, list[dict[str, object]]] = {
        "other_places": [{"indexed": indexed} for indexed in FLAGS],
        "create_nodes": [{"labels": ["Memory"]}, {"labels": ["Entity", "we ird"]}],
        "change_nodes": [
            {"placed": placed, "add": add, "remove": remove, "again": again}
            for placed, again in both
            for add, remove in (((), ()), (("Extra",), ("we ird",)))
        ],
        "find_edges": [{"ends": ends} for ends in both],
        "find_edges_without_id": [{"ends": ends} for ends in both],
        "guard_edges": [{"ends": ends} for ends in both],
        "guard_absent_edges": [{"ends": ends} for ends in both],
        "delete_edges": [{"ends": ends} for ends in both],
        "create_edges": [{"shape": "SOLVES", "ends": ends} for ends in both],
        "change_edges": [{"ends": ends, "again": again} for ends in both for again in FLAGS],
        "replace_edges": [{"shape": "SOLVES", "ends": ends} for ends in product(FLAGS, repeat=4)],
        "make_scratch": [{"shape": ""}, {"shape": "SOLVES"}],
        "read_scratch": [{"edge": edge} for edge in FLAGS],
    }
    if name in chosen:
        return chosen[name]
    method = getattr(Statements, name)
    if "placed" in inspect.signature(method).parameters:
        return [{"placed": placed} for placed in FLAGS]
    return [{}]


def _rendered() -> Iterator[tuple[str, str]]:
    """Yield where a statement comes from, and its text."""
    for every in FLAGS:
        say = Statements(label="Memory", id_property="id", all_labels=every, dialect=DIALECT)
        for name in sorted(vars(Statements)):
            if name.startswith("_") or not callable(getattr(Statements, name)):
                continue
            for arguments in _arguments(name):
                made = getattr(say, name)(**arguments)
                for text in (made,) if isinstance(made, str) else made:
                    yield f"{name}{' all labels' if every else ''}", text


def _asked() -> dict[str, str]:
    return {name: text for name, text in vars(Asked).items() if name.isupper()}


def _schema() -> list[SchemaStep]:
    backend = MemgraphBackend(BackendConfig(backend=BackendType.MEMGRAPH), role="to")
    steps = [backend._index_step(name, after_load=False) for name in ("id", *INDEXED)]
    create, drop = (Asked.unique(verb, "Memory", "id") for verb in ("CREATE", "DROP"))
    return [*steps, SchemaStep(name="constraint", kind="constraint", create=create, drop=drop)]


def _all() -> list[str]:
    lines = list(dict.fromkeys(f"{text}" for _, text in _rendered()))
    outside = [f"[outside transactions] {text}" for name, text in _asked().items() if name in AUTOMATIC]
    outside += [f"[outside transactions] {text}" for step in _schema() for text in (step.create, step.drop)]
    return lines + [text for name, text in _asked().items() if name not in AUTOMATIC] + outside


def test_statements_are_the_reviewed_ones() -> None:
    text = "\n".join(_all()) + "\n"
    if not GOLDEN.exists():
        GOLDEN.write_text(text)
        pytest.fail(f"{GOLDEN.name} was written anew: review it")
    assert text == GOLDEN.read_text()


#: Pattern that stands in no statement → why.
NEVER = {
    r"(?i)if not exists|if exists": "known from 3.10 on only",
    r"(?i)elementid": "there is none",
    r"(?i)\bexists\s*\{|\bcount\s*\{": "Neo4j's subqueries",
    r"(?i)\brequire\b|\bfor \(": "Neo4j's syntax of indexes and constraints, known from 3.10 on only",
    r"(?i)\bcall\b": "no procedure is needed, and those of Neo4j are not there",
    r"(?i)\bdetach\b": "would take other people's edges along",
    r"(?i)\bskip\b|\border by\b": "slow in pages; one streamed answer is a snapshot",
    r"(?i)\bmerge\b": "makes what a guard should refuse",
    r"(?i)\bset \w+ = \$(?!new\b|p\b)": "a whole map is set on nothing that existed",
    r"(?i)\bload csv|foreach|\bapoc\b|\bmage\b": "not needed",
    r"`[^`]*\\": "a backslash in a name",
}


@pytest.mark.parametrize("pattern", NEVER)
def test_what_never_stands_in_a_statement(pattern: str) -> None:
    found = [text for text in _all() if re.search(pattern, text)]
    assert not found, NEVER[pattern]


def test_schema_and_information_are_asked_outside_transactions_only() -> None:
    special = re.compile(r"^(SHOW|CREATE (INDEX|CONSTRAINT|SNAPSHOT)|DROP|STORAGE|ANALYZE)")
    for text in _all():
        assert bool(special.match(text.removeprefix("[outside transactions] "))) == text.startswith("[outside")
    for method, name in _uses_of_asked():
        assert (method in {"auto", "_define"}) == (name in AUTOMATIC), (method, name)


def _uses_of_asked() -> Iterator[tuple[str, str]]:
    """Yield (method, constant) for each call in the backend's module that is given a constant of Asked."""
    found = 0
    for node in ast.walk(ast.parse(inspect.getsource(memgraph))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            for argument in node.args:
                if isinstance(argument, ast.Attribute) and getattr(argument.value, "id", "") == "Asked":
                    found += 1
                    yield node.func.attr, argument.attr
    assert found >= len(_asked())


@pytest.mark.parametrize("module", [_bolt, _bolt_lookup, _bolt_wire, _bolt_write, memgraph], ids=lambda m: m.__name__)
def test_no_statement_is_made_anywhere_else(module: object) -> None:
    cypher = re.compile(r"\b(MATCH|UNWIND|CREATE|DELETE|RETURN|SET|SHOW|CALL|DROP|REMOVE) [(:A-Z$]")
    tree = ast.parse(inspect.getsource(module))  # type: ignore[arg-type]
    allowed = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef) and node.name == "Asked"]
    inside = {id(child) for node in allowed for child in ast.walk(node)}
    documents = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        if node.body and isinstance(node.body[0], ast.Expr)
    }
    texts = [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
        if id(node) not in inside | documents
    ]
    assert not [text for text in texts if cypher.search(text)]


def test_look_ups_of_ids_use_the_index() -> None:
    """``n.id IN $ids`` scans. It stands only where no index is: of the label, of other nodes, and of edges always."""
    listed = {name for name, text in _rendered() if " IN $" in text}
    assert {name.removesuffix(" all labels") for name in listed} == {
        "find_nodes_at_once",
        "find_edges_anywhere",
        "others_with_ids",
    }


def test_a_marker_that_is_checked_is_set_in_the_same_statement() -> None:
    """A transaction that only reads the marker conflicts with no other: two holders would both write."""
    say = Statements(label="Memory", id_property="id", all_labels=False, dialect=DIALECT)
    for text in (say.move_marker(), say.lock_markers()):
        assert text.index("MATCH (k:_Memmig)") < text.index("SET k.") < text.index("RETURN")

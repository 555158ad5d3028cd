"""Form: between the stored form and the canonical one, purely."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from migrator.backends._cypher import CypherForm
from migrator.backends._sqlite_forms import Form012, Form013
from migrator.backends.memgraph import MemgraphBackend
from migrator.backends.memory import PlainForm
from migrator.backends.neo4j import Neo4jBackend
from migrator.model import KINDS, Kind, Memory, Relationship, differing_fields, digest, kind_of
from migrator.models import BackendConfig, BackendType
from tests.contract.holder import sorted_deep
from tests.contract.records import edge, memory, records

if TYPE_CHECKING:
    from migrator.backends.base import Form
    from migrator.model import Record

FORMS: dict[str, Form] = {
    "plain": PlainForm(),
    "sqlite-0.12": Form012("Memory"),
    "sqlite-0.13": Form013("Memory"),
    "cypher": CypherForm("Memory", "id"),
    "neo4j": Neo4jBackend(BackendConfig(backend=BackendType.NEO4J), role="to").form,
    "memgraph": MemgraphBackend(BackendConfig(backend=BackendType.MEMGRAPH), role="to").form,
}

chance = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
kinds = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture(params=FORMS)
def form(request: pytest.FixtureRequest) -> Form:
    return FORMS[request.param]


def storable(form: Form, record: Record) -> Record:
    """Take away what the form says that it cannot hold."""
    problems = form.problems(record)
    properties = dict(record.properties)
    for problem in problems:
        properties.pop(problem.field, None)
    kept: Record = (
        Memory(record.id, record.labels, properties)
        if isinstance(record, Memory)
        else Relationship(record.id, record.type, record.from_id, record.to_id, properties)
    )
    assume(not problems or not form.problems(kept))
    return kept


class TestForm:
    @kinds
    @chance
    @given(data=st.data())
    def test_gives_back_what_was_put_in(self, form: Form, kind: Kind, data: st.DataObject) -> None:
        record = storable(form, data.draw(records(kind)))
        back = form.decode(kind, form.encode(record))
        assert isinstance(back, Memory | Relationship)
        assert digest(back) == digest(record), differing_fields(back, record)

    @kinds
    @chance
    @given(data=st.data())
    def test_is_the_same_for_equal_records(self, form: Form, kind: Kind, data: st.DataObject) -> None:
        record = storable(form, data.draw(records(kind)))
        turned = dict(reversed(record.properties.items()))
        other: Record = (
            Memory(record.id, record.labels, turned)
            if isinstance(record, Memory)
            else Relationship(record.id, record.type, record.from_id, record.to_id, turned)
        )
        assert repr(sorted_deep(form.encode(record))) == repr(sorted_deep(form.encode(other)))

    @kinds
    @chance
    @given(data=st.data())
    def test_grafts_exactly_the_named_fields(self, form: Form, kind: Kind, data: st.DataObject) -> None:
        one, other = storable(form, data.draw(records(kind))), storable(form, data.draw(records(kind)))
        if isinstance(other, Memory):
            other = Memory(one.id, other.labels, other.properties)
        else:
            other = Relationship(one.id, other.type, other.from_id, other.to_id, other.properties)
        assume(not form.problems(other))
        onto, source = form.encode(one), form.encode(other)
        fields = differing_fields(one, other)
        grafted = form.decode(kind, form.graft(kind, onto, source, fields))
        assert isinstance(grafted, Memory | Relationship)
        assert differing_fields(grafted, other) == []
        assert form.encode(one) == onto or "nan" in repr(onto), "graft must not change what it was given"
        half = fields[::2]
        mixed = form.decode(kind, form.graft(kind, onto, source, half))
        assert isinstance(mixed, Memory | Relationship)
        assert differing_fields(mixed, one) == sorted(half)
        assert differing_fields(mixed, other) == sorted(set(fields) - set(half))

    @pytest.mark.parametrize("name", [":x", "::x", ":labels", ":type", ":from"])
    def test_grafts_properties_that_are_named_like_fields(self, form: Form, name: str) -> None:
        changes = {name: "one", "x": "same"}
        for one in (memory("a", **changes), edge("e", "a", "b", **changes)):
            if form.problems(one):
                pytest.skip("no property of this name can be stored here")
            other = replace(one, properties={**one.properties, name: "other"})
            kind, fields = kind_of(one), differing_fields(one, other)
            assert fields == [f":{name}"]
            grafted = form.decode(kind, form.graft(kind, form.encode(one), form.encode(other), fields))
            assert grafted == other
            gone = replace(one, properties={"x": "same"} | {k: v for k, v in one.properties.items() if k != name})
            assert form.decode(kind, form.graft(kind, form.encode(one), form.encode(gone), fields)) == gone

    def test_grafting_nothing_keeps_every_byte(self, form: Form) -> None:
        raw = form.encode(memory("a", context_languages=["x"], tags=["t"]))
        assert form.graft("memory", raw, form.encode(memory("a", title="other")), []) == raw

    def test_what_it_makes_is_readable_for_the_client(self, form: Form) -> None:
        for tags in ([], ["a", "b"], ["[]"]):
            assert form.readable("memory", form.encode(memory("a", tags=tags)))
        assert form.readable("relationship", form.encode(edge("e", "a", "b")))

    def test_names_the_shape(self, form: Form) -> None:
        assert form.shape("memory", form.encode(memory("a"))) == "Memory"
        assert form.shape("relationship", form.encode(edge("e", "a", "b", "CAUSES"))) == "CAUSES"

    def test_plain_records_have_no_problems(self, form: Form) -> None:
        assert not form.problems(memory("a", tags=["t"], context_languages=["x"], context_additional_metadata={"a": 1}))
        assert not form.problems(edge("e", "a", "b", valid_until="2099-01-01T00:00:00Z"))

"""Writing: the guards, all or nothing, the marker, echo, barrier and schema, with lying inputs."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from migrator.backends.base import Row, WriteOutcome
from migrator.model import DEFAULTS, Memory, digest
from tests.contract.holder import MARKER, Holder, hold
from tests.contract.records import CREATED, edge, memory

if TYPE_CHECKING:
    from collections.abc import Callable

    from migrator.backends.base import Batch, Marker
    from migrator.model import Record
    from tests.contract.holder import Place

APPLIED, ROWS, MARKERS = WriteOutcome.APPLIED, WriteOutcome.ROWS_REFUSED, WriteOutcome.MARKER_REFUSED


@pytest.fixture
def filled(holder: Holder) -> Holder:
    """Three memories, of which two are joined."""
    holder.create(memory("a", tags=["x"]), memory("b"), memory("c"), edge("e", "a", "b"))
    return holder


class TestWrites:
    def test_update_changes_what_is_named_and_nothing_else(self, filled: Holder) -> None:
        new = memory("a", tags=["x", "y"], title="new", summary="added", usage_count=7)
        before = filled.contents()
        assert filled.send(filled.change(memory("a", tags=["x"]), new)) is APPLIED
        assert filled.digests("memory")["a"] == digest(new)
        after = filled.contents()
        for found in (before, after):
            del found["memory"]["a"], found["markers"]
        assert after == before
        back = memory("a", tags=["x"])
        assert filled.send(filled.change(new, back)) is APPLIED
        assert filled.digests("memory")["a"] == digest(back)

    def test_replace_moves_an_edge_and_changes_its_type(self, filled: Holder) -> None:
        moved = edge("e", "c", "a", "CAUSES", context="other")
        assert filled.send(filled.change(edge("e", "a", "b"), moved, operation="replace")) is APPLIED
        assert filled.digests("relationship") == {"e": digest(moved)}
        assert filled.backend.attached(["a", "b", "c"]).keys() == {"a", "c"}

    def test_delete_takes_edges_first_and_then_their_ends(self, filled: Holder) -> None:
        assert filled.send(filled.delete_batch("relationship", ["e"])) is APPLIED
        assert filled.send(filled.delete_batch("memory", ["a", "c"])) is APPLIED
        assert filled.digests("memory").keys() == {"b"}
        assert filled.digests("relationship") == {}

    def test_a_deleted_record_is_put_back_to_the_last_byte(self, filled: Holder) -> None:
        before = filled.contents()["memory"]["c"]
        raw = filled.raw("memory", "c")
        assert filled.send(filled.delete_batch("memory", ["c"])) is APPLIED
        shape = filled.backend.form.shape("memory", raw)
        batch = filled.batch("create", [Row(id="c", expected=None, new=raw)], "memory", shape)
        assert filled.send(batch) is APPLIED
        assert filled.contents()["memory"]["c"] == before

    def test_the_marker_moves_with_each_batch(self, filled: Holder) -> None:
        assert filled.backend.markers() == [filled.marker]
        assert filled.marker.batch == filled.number > 0


def _create_existing(holder: Holder) -> Batch:
    return holder.create_batch([memory("new"), memory("a"), memory("new2")])


def _create_twice(holder: Holder) -> Batch:
    return holder.create_batch([memory("new"), memory("new", title="another")])


def _create_existing_edge(holder: Holder) -> Batch:
    return holder.create_batch([edge("new", "a", "b"), edge("e", "a", "b"), edge("new2", "a", "b")])


def _create_at_absent_end(holder: Holder) -> Batch:
    return holder.create_batch([edge("e1", "a", "b"), edge("e2", "a", "absent"), edge("e3", "b", "a")])


def _create_from_absent_end(holder: Holder) -> Batch:
    return holder.create_batch([edge("e1", "a", "b"), edge("e2", "absent", "b")])


def _delete_with_edge(holder: Holder) -> Batch:
    return holder.delete_batch("memory", ["c", "b"])


def _delete_absent(holder: Holder) -> Batch:
    batch = holder.delete_batch("memory", ["c"])
    raw = holder.backend.form.encode(memory("absent"))
    return replace(batch, rows=[*batch.rows, Row(id="absent", expected=raw, new=None)])


def _delete_changed(holder: Holder) -> Batch:
    batch = holder.delete_batch("memory", ["c"])
    raw = holder.backend.form.encode(memory("c", title="as it was once"))
    return replace(batch, rows=[Row(id="c", expected=raw, new=None)])


def _update_absent(holder: Holder) -> Batch:
    encode = holder.backend.form.encode
    good = holder.change(memory("c"), memory("c", title="new"))
    lie = Row(id="absent", expected=encode(memory("absent")), new=encode(memory("absent", title="new")))
    return replace(good, rows=[*good.rows, lie])


def _update(**believed: object) -> Callable[[Holder], Batch]:
    def lie(holder: Holder) -> Batch:
        encode = holder.backend.form.encode
        good = holder.change(memory("c"), memory("c", title="new"))
        wrong = Row(
            id="a",
            expected=encode(memory("a", **({"tags": ["x"]} | believed))),
            new=encode(memory("a", tags=["x"], title="new")),
        )
        return replace(good, rows=[*good.rows, wrong])

    return lie


def _replace_to_absent_end(holder: Holder) -> Batch:
    return holder.change(edge("e", "a", "b"), edge("e", "a", "absent"), operation="replace")


LIES: dict[str, Callable[[Holder], Batch]] = {
    "an id that exists": _create_existing,
    "an id twice in a batch": _create_twice,
    "an edge id that exists": _create_existing_edge,
    "an edge to nowhere": _create_at_absent_end,
    "an edge from nowhere": _create_from_absent_end,
    "an edge moved to nowhere": _replace_to_absent_end,
    "a deleted memory with an edge": _delete_with_edge,
    "deleting what is absent": _delete_absent,
    "deleting what was changed": _delete_changed,
    "updating what is absent": _update_absent,
    "another title": _update(title="it was another"),
    "a property too many": _update(summary="not there"),
    "a property too few": _update(updated_at="2025-01-02T03:04:05.678902+00:00"),
    "a list in another order": _update(tags=["x", "x"]),
    "an empty list": _update(tags=[]),
    "another number": _update(usage_count=1),
    "a float one bit off": _update(importance=0.5000000000000001),
    "another time zone's text": _update(created_at=CREATED.replace("+00:00", "Z")),
}


class TestGuards:
    @pytest.mark.parametrize("lie", LIES)
    def test_a_lie_is_refused_and_nothing_changes(self, filled: Holder, lie: str) -> None:
        before = filled.contents()
        assert filled.send(LIES[lie](filled)) is ROWS
        assert filled.contents() == before
        assert filled.send(filled.create_batch([memory("after")])) is APPLIED, "the marker is still ours"

    def test_types_are_compared_too(self, filled: Holder) -> None:
        """An expected value that only equals the stored one (1 == 1.0 == True) is a lie."""
        raw = filled.raw("memory", "c")
        batch = filled.change(memory("c"), memory("c", title="new"))
        lying = _with_other_types(raw)
        assert repr(lying) != repr(raw)
        before = filled.contents()
        new = batch.rows[0].new
        assert filled.send(replace(batch, rows=[Row(id="c", expected=lying, new=new)])) is ROWS
        assert filled.contents() == before

    @pytest.mark.parametrize(
        "wrong",
        [
            {"epoch": 2},
            {"epoch": 0},
            {"batch": 99},
            {"run": "another"},
            {"journal": "another"},
            {"digest": "another"},
            {"owner": "another"},
        ],
    )
    def test_another_marker_fences(self, filled: Holder, wrong: dict[str, object]) -> None:
        before = filled.contents()
        marker: Marker = replace(filled.marker, **wrong)  # type: ignore[arg-type]
        for batch in (filled.create_batch([memory("new")]), filled.delete_batch("memory", ["c"])):
            assert filled.backend.write(batch, marker) is MARKERS
        assert filled.contents() == before

    def test_a_batch_sent_again_changes_nothing(self, filled: Holder) -> None:
        held = filled.marker
        batch = filled.change(memory("c"), memory("c", title="new"))
        assert filled.send(batch) is APPLIED
        before = filled.contents()
        assert filled.backend.write(batch, held) is MARKERS
        assert filled.contents() == before

    def test_without_a_marker_nothing_is_written(self, filled: Holder) -> None:
        held = filled.marker
        assert filled.backend.swap_marker(held, None)
        before = filled.contents()
        assert filled.backend.write(filled.create_batch([memory("new")]), held) is MARKERS
        assert filled.contents() == before
        assert filled.backend.markers() == []

    def test_who_was_overtaken_is_fenced(self, filled: Holder) -> None:
        if not filled.place.shared:
            pytest.skip("one process at a time can open this store")
        other = filled.place.backend()
        other.open("write")
        held = filled.marker
        raised = replace(held, epoch=held.epoch + 1)
        assert other.swap_marker(held, raised)
        before = filled.contents()
        assert filled.backend.write(filled.create_batch([memory("late")]), held) is MARKERS
        assert not filled.backend.swap_marker(held, replace(held, epoch=3))
        assert filled.contents() == before
        other.close()

    def test_a_foreign_writer_in_between_is_noticed(self, filled: Holder) -> None:
        """What is planned on what was read is refused once someone else wrote there."""
        planned = filled.change(memory("c"), memory("c", title="ours"))
        assert filled.send(filled.change(memory("c"), memory("c", title="theirs"))) is APPLIED
        before = filled.contents()
        assert filled.send(planned) is ROWS
        assert filled.contents() == before


def _with_other_types(raw: Any) -> Any:
    """Return a stored form in which integers are floats and floats with an integer's value are integers."""
    if isinstance(raw, dict):
        return {key: _with_other_types(value) for key, value in raw.items()}
    if isinstance(raw, bool):
        return raw
    if isinstance(raw, int):
        return float(raw)
    if isinstance(raw, str) and raw.startswith('{"'):
        return raw.replace('"usage_count":0', '"usage_count":0.0')
    return raw


class TestMarker:
    def test_compare_and_set(self, place: Place) -> None:
        held = hold(place)
        one, backend = MARKER, held.backend
        raised = replace(one, epoch=2)
        alien = replace(one, journal="alien")
        for expected, new in ((None, raised), (alien, raised), (raised, one), (alien, None), (raised, None)):
            assert not backend.swap_marker(expected, new)
            assert backend.markers() == [one]
        assert backend.swap_marker(one, raised)
        assert backend.markers() == [raised]
        assert not backend.swap_marker(one, None)
        assert backend.swap_marker(raised, None)
        assert backend.markers() == []
        assert not backend.swap_marker(raised, one)
        assert not backend.swap_marker(raised, None)
        assert backend.swap_marker(None, replace(one, owner='it\'s "quoted" \\ {x} $y `z` \u05d0'))
        assert backend.markers()[0].owner == 'it\'s "quoted" \\ {x} $y `z` \u05d0'
        held.close()

    def test_is_never_a_record(self, holder: Holder) -> None:
        assert holder.backend.inventory().memories == 0
        assert not holder.backend.inventory().other_nodes
        assert holder.scanned("memory") == []


class TestEcho:
    def test_gives_back_what_the_store_makes_of_it_and_leaves_nothing(self, filled: Holder) -> None:
        before = filled.contents()
        records: list[Record] = [memory("c", importance=0.1 + 0.2, summary="s"), edge("x", "a", "b", strength=1 / 3)]
        for record in records:
            kind = "memory" if isinstance(record, Memory) else "relationship"
            raw = filled.backend.form.encode(record)
            echoed = filled.backend.echo(kind, raw, filled.marker)  # type: ignore[arg-type]
            assert echoed is not None
            assert digest(filled.backend.form.decode(kind, echoed)) == digest(record)  # type: ignore[arg-type]
            assert filled.backend.echo(kind, raw, replace(filled.marker, epoch=9)) is None  # type: ignore[arg-type]
        assert filled.contents() == before


class TestBarrier:
    def test_what_was_acknowledged_survives_a_reopening(self, filled: Holder) -> None:
        durability = filled.backend.barrier()
        assert durability.durable
        assert durability.evidence
        before = filled.contents()
        identity = filled.backend.identity()
        assert filled.backend.identity() == identity != ""
        filled.close()
        filled.backend.open("write")
        assert filled.contents() == before


class TestSchema:
    def test_apply_makes_what_is_missing_once(self, place: Place) -> None:
        backend = place.backend()
        backend.open("write")
        steps = backend.missing_schema()
        assert steps
        assert len({step.name for step in steps}) == len(steps)
        assert backend.apply_schema(steps) == steps
        assert backend.missing_schema() == []
        assert backend.apply_schema(steps) == []
        backend.close()
        backend.open("write")
        assert backend.missing_schema() == []
        backend.close()

    def test_drop_takes_away_what_apply_made(self, place: Place) -> None:
        backend = place.backend()
        backend.open("write")
        missing = backend.missing_schema()
        made = backend.apply_schema(missing)
        backend.drop_schema(made)
        backend.drop_schema(made)
        backend.close()
        assert backend.open("write").exists is place.always
        assert [step.name for step in backend.missing_schema()] == [step.name for step in missing]
        backend.close()
        if place.folder is not None and place.name.startswith("sqlite"):
            assert list(place.folder.iterdir()) == []

    def test_drop_under_our_marker_is_complete_once_the_marker_is_gone(self, place: Place) -> None:
        held = hold(place)
        held.create(memory("a"))
        assert held.send(held.delete_batch("memory", ["a"])) is APPLIED
        held.backend.drop_schema(held.steps)
        assert held.backend.swap_marker(held.marker, None)
        held.close()
        assert held.backend.open("write").exists is place.always
        held.close()

    def test_drop_keeps_what_others_put_there(self, filled: Holder) -> None:
        before = filled.contents()
        filled.backend.drop_schema(filled.steps)
        filled.close()
        filled.backend.open("write")
        assert filled.contents() == before
        assert DEFAULTS

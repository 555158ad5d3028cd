"""Reading: open, inventory, scan, lookup, attached."""

from __future__ import annotations

import hashlib
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from migrator.backends.base import WriteOutcome
from migrator.errors import StoreUnreachable
from migrator.model import KINDS, Kind, digest
from tests import nasty_values
from tests.contract.records import edge, memory, records
from tests.contract.test_form import storable

if TYPE_CHECKING:
    from pathlib import Path

    from migrator.model import Record, Relationship
    from tests.contract.holder import Holder, Place


def _traces(folder: Path) -> dict[str, tuple[str, int]]:
    return {
        str(path.relative_to(folder)): (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


class TestOpening:
    def test_an_absent_source_is_unreachable(self, place: Place) -> None:
        if place.name == "memory" or place.always:
            pytest.skip("such a store is always there")
        backend = place.backend("from")
        with pytest.raises(StoreUnreachable):
            backend.open("read")
        backend.close()

    def test_an_absent_target_reads_as_empty_and_stays_absent(self, place: Place) -> None:
        backend = place.backend()
        for access in ("read", "write"):
            info = backend.open("read" if access == "read" else "write")
            assert info.exists is place.always
            assert backend.inventory().memories == backend.inventory().relationships == 0
            for kind in KINDS:
                assert list(backend.scan(kind, 10)) == []
                assert backend.lookup(kind, {"a": None}) == {}
            assert backend.attached(["a"]) == {}
            assert backend.markers() == []
            backend.close()
            if access == "read" and place.folder is not None:
                assert _traces(place.folder) == {}
        assert backend.open("read").exists is place.always
        backend.close()

    def test_reading_leaves_no_trace(self, holder: Holder) -> None:
        holder.create(memory("a"), memory("b"), edge("e", "a", "b"))
        holder.backend.barrier()
        holder.close()
        folder = holder.place.folder
        before = _traces(folder) if folder else None
        reader = holder.place.backend("from")
        assert reader.open("read").exists
        assert reader.inventory().memories == 2
        assert sum(len(page) for kind in KINDS for page in reader.scan(kind, 1)) == 3
        assert reader.lookup("memory", {"a": None})
        assert reader.attached(["a"]) == {"a": ["e"]}
        assert len(reader.markers()) == 1
        reader.close()
        if folder:
            assert _traces(folder) == before

    def test_close_is_idempotent_and_open_may_be_repeated(self, holder: Holder) -> None:
        holder.create(memory("a"))
        holder.backend.barrier()
        holder.backend.close()
        holder.backend.close()
        assert holder.backend.open("write").exists
        assert holder.backend.markers() == [holder.marker]
        assert holder.backend.inventory().memories == 1


class TestScan:
    def test_is_complete_ordered_bounded_and_equal_to_the_inventory(self, holder: Holder) -> None:
        memories = [memory(f"{'mM'[n % 2]}{n % 7}-{n}") for n in range(60)]
        hub = memories[0].id
        edges = [edge(f"e{n}", hub, memories[n % 60].id, "SOLVES" if n % 3 else "CAUSES") for n in range(90)]
        edges += [edge(f"p{n}", hub, memories[1].id) for n in range(20)] + [edge("self", hub, hub)]
        holder.create(*memories, *edges)
        holder.backend.release_snapshot()
        counted = holder.backend.inventory()
        assert (counted.memories, counted.relationships) == (60, 111)
        assert (counted.other_relationships, not any(counted.duplicates.values())) == (0, True)
        expected: dict[Kind, list[Record]] = {"memory": list(memories), "relationship": list(edges)}
        for kind in KINDS:
            pages = list(holder.backend.scan(kind, 25))
            assert max(map(len, pages)) <= 50, "about as many at a time as was asked for"
            found = [record.id for page in pages for record in page]
            assert len(found) == len(expected[kind])
            again = [record.id for page in holder.backend.scan(kind, 25) for record in page]
            assert found == again
            digests = {record.id: digest(record) for record in expected[kind]}
            assert holder.digests(kind) == digests
            seen = [item for page in holder.backend.scan_digests(kind, 25) for item in page]
            assert [item.id for item in seen] == found
            assert {item.id: item.digest for item in seen} == digests
            hints = {item.id: item.hint for item in seen} | {"absent": None}
            assert holder.backend.lookup_digests(kind, hints) == digests
            assert holder.backend.lookup_digests(kind, dict.fromkeys(hints)) == digests
            for item in seen if kind == "relationship" else ():
                ends = next((one.from_id, one.to_id) for one in edges if one.id == item.id)
                assert item.hint is not None
                assert (item.hint.from_id, item.hint.to_id) == ends
        holder.backend.release_snapshot()

    def test_sees_what_was_written_after_release(self, holder: Holder) -> None:
        holder.create(memory("a"))
        assert holder.digests("memory").keys() == {"a"}
        holder.create(memory("b"))
        assert holder.digests("memory").keys() == {"a", "b"}

    def test_other_labels_are_counted_and_left_out(self, holder: Holder) -> None:
        form = holder.backend.form
        other = memory("other")
        object.__setattr__(other, "labels", ("Entity",))
        if holder.place.name != "memory" and not holder.place.name.startswith("sqlite"):
            pytest.skip("graph stores have tests of their own for other labels")
        if holder.place.name == "sqlite-0.13":
            assert form.problems(other), "layout 0.13 has no labels"
            return
        holder.create(memory("a"), memory("b"), other, edge("in", "a", "b"))
        if holder.place.name == "memory":
            holder.create(edge("out", "a", "other"))
        else:  # which hangs no edge on a row of another label: its own client did
            with closing(sqlite3.connect(str(holder.place.config.path))) as client, client:
                columns = "id, from_id, to_id, rel_type, properties"
                client.execute(f"INSERT INTO relationships ({columns}) VALUES ('out', 'a', 'other', 'X', '{{}}')")
        holder.backend.release_snapshot()
        counted = holder.backend.inventory()
        assert (counted.memories, counted.relationships) == (2, 1)
        assert (dict(counted.other_nodes), counted.other_relationships) == ({"Entity": 1}, 1)
        assert holder.digests("memory").keys() == {"a", "b"}
        assert holder.digests("relationship").keys() == {"in"}
        assert holder.backend.lookup("memory", {"other": None}), "an id is found whatever its label"


class TestLookup:
    def test_finds_exactly_the_wanted_ids(self, holder: Holder) -> None:
        odd = ["", " 1", "1\n", "1", "l" * 4_000, "L" * 4_000, "l" * 5_000, "nul\0id", "nul", *nasty_values.IDS]
        memories = {name: memory(name) for name in odd}
        kept = {name: record for name, record in memories.items() if not holder.backend.form.problems(record)}
        assert len(kept) >= len(nasty_values.IDS)
        for name in list(kept)[::2]:
            holder.create(kept[name])
        there = set(list(kept)[::2])
        found = holder.backend.lookup("memory", dict.fromkeys(memories))
        assert found.keys() == there
        for name, raw in found.items():
            record = holder.backend.form.decode("memory", raw)
            assert record.id == name
            assert digest(record) == digest(kept[name])  # type: ignore[arg-type]

    def test_finds_edges_with_and_without_and_with_a_lying_hint(self, holder: Holder) -> None:
        edges = [edge("e1", "a", "b"), edge("E1", "a", "b"), edge("loop", "a", "a", "CAUSES")]
        holder.create(memory("a"), memory("b"), *edges)
        hints: list[dict[str, Relationship | None]] = [dict.fromkeys(("e1", "E1", "loop", "absent"))]
        hints.append({record.id: record for record in edges})
        hints.append({"e1": edge("e1", "b", "a"), "E1": edge("E1", "x", "y"), "loop": edge("loop", "a", "a")})
        for wanted in hints:
            found = holder.backend.lookup("relationship", wanted)
            assert found.keys() == {"e1", "E1", "loop"}
            for record in edges:
                assert digest(holder.backend.form.decode("relationship", found[record.id])) == digest(record)  # type: ignore[arg-type]

    def test_sees_what_is_committed_now_not_the_snapshot(self, holder: Holder) -> None:
        holder.create(memory("a"))
        holder.backend.inventory()
        holder.create(memory("b"))
        assert holder.backend.lookup("memory", {"b": None})

    def test_attached_tells_every_memory_with_edges(self, holder: Holder) -> None:
        names = [f"m{n}" for n in range(5)]
        holder.create(*map(memory, names), edge("e", "m0", "m1"), edge("loop", "m2", "m2"))
        holder.create(*(edge(f"hub{n}", "m3", "m0") for n in range(150)))
        found = holder.backend.attached([*names, "absent"])
        assert found.keys() == {"m0", "m1", "m2", "m3"}
        assert (found["m1"], found["m2"]) == (["e"], ["loop"])
        assert len(found["m3"]) == 100


class TestRoundTrip:
    @settings(
        max_examples=25,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )
    @given(data=st.data())
    def test_what_has_no_problems_comes_back_to_the_last_bit(self, holder: Holder, data: st.DataObject) -> None:
        form = holder.backend.form
        one = storable(form, data.draw(records("memory")))
        other = memory("the other end")
        between = storable(form, data.draw(records("relationship")))
        between = edge("the edge", one.id, other.id, between.type, **_cleared(between))  # type: ignore[union-attr]
        if one.id == other.id or form.problems(between):
            return
        holder.create(one, other, between)
        for record, kind in ((one, "memory"), (between, "relationship")):
            scanned = {found.id: digest(found) for found in holder.scanned(kind)}  # type: ignore[arg-type]
            assert scanned[record.id] == digest(record)
            raw = holder.raw(kind, record.id)  # type: ignore[arg-type]
            assert digest(form.decode(kind, raw)) == digest(record)  # type: ignore[arg-type]
            assert holder.backend.echo(kind, raw, holder.marker) is not None  # type: ignore[arg-type]
        assert holder.send(holder.delete_batch("relationship", ["the edge"])) is WriteOutcome.APPLIED
        assert holder.send(holder.delete_batch("memory", [one.id, other.id])) is WriteOutcome.APPLIED
        assert holder.backend.lookup("memory", {one.id: None}) == {}


def _cleared(record: Record) -> dict[str, object]:
    absent = dict.fromkeys(edge("e", "a", "b").properties)
    return {**absent, **record.properties}

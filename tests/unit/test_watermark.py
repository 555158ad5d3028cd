"""Which times include a record, which raise the watermark, and how they are written on the command line."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from migrator.errors import UsageError
from migrator.model import Corrupt, Memory
from migrator.since import parse_since, parse_span
from migrator.watermark import Interval, Stamps, raised

NOW = datetime(2026, 3, 1, 22, 0, tzinfo=UTC)
SINCE = datetime(2026, 2, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("last", None),
        ("2026-02-01", SINCE),
        ("2026-02-01T08:00", SINCE + timedelta(hours=8)),
        ("2026-02-01 08:00:30", SINCE + timedelta(hours=8, seconds=30)),
        ("2026-02-01T08:00:00Z", SINCE + timedelta(hours=8)),
        ("2026-02-01T08:00:00.5+02:00", SINCE + timedelta(hours=6, milliseconds=500)),
        ("36h", NOW - timedelta(hours=36)),
        ("7d", NOW - timedelta(days=7)),
        ("2w", NOW - timedelta(days=14)),
        ("90 m", NOW - timedelta(minutes=90)),
        ("0", ...),
    ],
)
def test_since_is_last_a_time_or_a_span(text: str, moment: Any) -> None:
    if moment is ...:
        with pytest.raises(UsageError):
            parse_since(text, NOW)
    else:
        assert parse_since(text, NOW) == moment


@pytest.mark.parametrize(
    "text",
    ["", "yesterday", "7", "-7d", "7y", "d", "2026", "2026-02-30", "01.02.2026", "1e3d", "999999w", "LAST", "٣d"],
)
def test_nonsense_is_a_usage_error_with_examples(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_since(text, NOW)
    assert caught.value.exit_code == 2
    assert "7d" in (caught.value.hint or "")


def test_a_time_that_has_not_come_yet_is_refused() -> None:
    with pytest.raises(UsageError, match="2026-03-01T22:00:00Z"):
        parse_since("2026-03-01T22:00:01Z", NOW)
    assert parse_since("2026-03-01T22:00:00Z", NOW) == NOW


def test_spans() -> None:
    assert [parse_span(text, "--x") for text in ("0", "0s", "5m", "1 h")] == [
        timedelta(),
        timedelta(),
        timedelta(minutes=5),
        timedelta(hours=1),
    ]
    with pytest.raises(UsageError, match="--overlap"):
        parse_span("soon", "--overlap")


@pytest.mark.parametrize(
    ("properties", "included"),
    [
        ({"updated_at": "2026-01-31T23:55:00+00:00"}, True),  # closed below, minus the overlap of five minutes
        ({"updated_at": "2026-01-31T23:54:59.999999+00:00"}, False),
        ({"updated_at": "2026-02-01T00:54:59+01:00"}, False),
        ({"updated_at": "2026-01-31T22:55:00-01:00"}, True),
        ({"updated_at": "2020-01-01T00:00:00Z", "last_accessed": "2099-01-01T00:00:00Z"}, True),
        ({"updated_at": "2020-01-01T00:00:00Z", "last_accessed": "2026-02-02T00:00:00Z"}, True),
        ({"created_at": "2020-01-01T00:00:00Z", "context_timestamp": "2026-02-02T00:00:00Z"}, True),
        ({"created_at": "2020-01-01T00:00:00Z", "updated_at": None}, False),
        ({}, "missing"),
        ({"title": "2026-02-02T00:00:00Z"}, "missing"),
        ({"created_at": "2020-01-01T00:00:00Z", "updated_at": "soon"}, "unreadable"),
        ({"updated_at": ["2020-01-01T00:00:00Z"]}, "unreadable"),
        ({"updated_at": 1_577_836_800_000}, "number"),
        ({"updated_at": 1577836800.0}, "number"),
        ({"updated_at": "2020-01-01T00:00:00"}, "without zone"),
    ],
)
def test_what_an_interval_includes(properties: dict[str, Any], included: Any) -> None:
    assert Interval(since=SINCE).includes("memory", properties) == included


def test_all_times_of_an_edge_include_it() -> None:
    before = {"created_at": "2020-01-01T00:00:00Z"}
    for name in ("last_validated", "valid_from", "valid_until", "recorded_at", "updated_at"):
        assert Interval(since=SINCE).includes("relationship", {**before, name: "2099-01-01T00:00:00Z"}) is True
    assert Interval(since=SINCE).includes("relationship", before) is False


def test_an_interval_may_begin_at_the_beginning_of_time() -> None:
    first = datetime.min.replace(tzinfo=UTC)
    assert Interval(since=first).begin == first


def stamps(*records: dict[str, Any], ceiling: datetime = NOW, now: datetime = NOW) -> Stamps:
    found = Stamps(ceiling, now)
    for number, properties in enumerate(records):
        found.see(Memory(f"m{number}", ("Memory",), properties))
    return found


@pytest.mark.parametrize("name", ["created_at", "updated_at", "recorded_at", "last_validated", "last_accessed"])
def test_these_times_raise_the_watermark(name: str) -> None:
    assert stamps({name: "2026-02-01T00:00:00Z"}).latest == SINCE


@pytest.mark.parametrize("name", ["valid_until", "valid_from", "context_timestamp", "title"])
def test_these_do_not(name: str) -> None:
    assert stamps({name: "2026-02-01T00:00:00Z"}).latest is None


@pytest.mark.parametrize("value", ["2026-02-01T00:00:00", 1_769_904_000_000, 1769904000.0, "soon", ["x"], "9999-99-99"])
def test_a_time_that_is_not_sure_does_not_raise_the_watermark(value: Any) -> None:
    found = stamps({"updated_at": "2020-01-01T00:00:00Z"}, {"updated_at": value})
    assert found.latest == datetime(2020, 1, 1, tzinfo=UTC)


def test_a_time_after_the_ceiling_is_warned_about_and_does_not_raise_the_watermark() -> None:
    found = stamps({"updated_at": "2026-02-01T00:00:00Z"}, {"updated_at": "2026-03-01T22:00:00.000001Z"})
    assert found.latest == SINCE
    assert found.future == 1
    assert "m1, updated_at 2026-03-01T22:00:00.000001Z" in found.warnings[0]


def test_a_run_that_is_resumed_later_warns_only_of_what_is_in_the_future_now() -> None:
    found = stamps({"updated_at": "2026-03-01T00:00:00Z"}, ceiling=SINCE, now=NOW)
    assert (found.latest, found.warnings) == (None, [])


def test_a_corrupt_record_has_no_times() -> None:
    found = Stamps(NOW, NOW)
    found.see(Corrupt(kind="memory", id="x", reason="", raw={"updated_at": "2026-02-01T00:00:00Z"}))
    assert found.latest is None


zones = st.sampled_from([UTC, timezone(timedelta(hours=5, minutes=30)), timezone(timedelta(hours=-12))])
moments = st.datetimes(datetime(2025, 12, 30), datetime(2026, 1, 3), timezones=zones)  # noqa: DTZ001 - zones are drawn


@given(st.lists(st.tuples(moments, st.sampled_from(["auto", "milliseconds", "seconds"]), st.booleans()), max_size=8))
def test_the_latest_time_is_the_latest_however_it_is_written(drawn: list[tuple[datetime, Any, bool]]) -> None:
    texts = []
    for moment, precision, as_z in drawn:
        text = (moment.astimezone(UTC) if as_z else moment).isoformat(timespec=precision)
        texts.append(text.replace("+00:00", "Z") if as_z else text)
    found = stamps(*({"created_at": text} for text in texts))
    assert found.latest == max((datetime.fromisoformat(text) for text in texts), default=None)


LATE = datetime(2026, 2, 2, tzinfo=UTC)


@pytest.mark.parametrize(
    ("before", "since", "latest", "after"),
    [
        (None, None, None, None),
        (None, None, SINCE, "2026-02-01T00:00:00.000000Z"),
        (None, SINCE, LATE, None),  # there is a gap before the interval
        ("2026-02-01T00:00:00.000000Z", SINCE, LATE, "2026-02-02T00:00:00.000000Z"),
        ("2026-01-31T23:59:59.999999Z", SINCE, LATE, None),
        ("2026-02-01T00:00:00.000000Z", None, datetime(2026, 1, 1, tzinfo=UTC), "2026-02-01T00:00:00.000000Z"),
        ("2026-02-01T00:00:00.000000Z", None, None, "2026-02-01T00:00:00.000000Z"),
    ],
)
def test_when_a_run_moves_the_watermark(
    before: str | None, since: datetime | None, latest: datetime | None, after: str | None
) -> None:
    assert raised(before, since=since, latest=latest) == after

"""Calls ahead of whoever wants their results."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from migrator.ahead import THREADS, begun, called_ahead

if TYPE_CHECKING:
    from collections.abc import Iterator

_SECONDS = 10.0


def test_results_come_in_the_order_of_the_items_whatever_ends_first() -> None:
    together = threading.Barrier(THREADS, timeout=_SECONDS)
    second = threading.Event()

    def call(item: int) -> int:
        together.wait()  # breaks where fewer than THREADS are under way at once
        if item % 2:
            second.set()
        else:
            assert second.wait(_SECONDS)
            second.clear()
        return item * 10

    items = range(2 * THREADS)
    assert list(called_ahead(call, items, overlaps=True)) == [(item, item * 10) for item in items]


@pytest.mark.parametrize("overlaps", [False, True])
def test_an_error_comes_where_its_result_would(*, overlaps: bool) -> None:
    results = called_ahead(lambda item: 1 // item, [2, 1, 0, 3], overlaps=overlaps)
    assert [next(results), next(results)] == [(2, 0), (1, 1)]
    with pytest.raises(ZeroDivisionError):
        next(results)


@pytest.mark.parametrize("overlaps", [False, True])
def test_no_more_is_taken_than_is_worked_on(*, overlaps: bool) -> None:
    taken: list[int] = []
    threads: set[int] = set()

    def call(_: int) -> None:
        threads.add(threading.get_ident())

    def items() -> Iterator[int]:
        for item in range(100):
            taken.append(item)
            yield item

    results = called_ahead(call, items(), overlaps=overlaps)
    next(results)
    assert len(taken) == (THREADS + 1 if overlaps else 1)
    results.close()  # type: ignore[attr-defined]
    assert (threading.get_ident() in threads) is not overlaps


@pytest.mark.parametrize("overlaps", [False, True])
def test_a_call_is_made_once_and_its_result_or_error_stays(overlaps: bool) -> None:
    made: list[str] = []

    def call() -> int:
        made.append(threading.current_thread().name)
        if len(made) == 2:
            raise ValueError(*made)
        return 7

    with begun(call, overlaps=overlaps) as look:
        assert (look(), look()) == (7, 7)
    assert (made == ["MainThread"]) is not overlaps
    with begun(call, overlaps=overlaps) as look, pytest.raises(ValueError, match=r"Main|ahead"):
        look()


def test_it_goes_on_meanwhile_and_whoever_stops_early_waits() -> None:
    goes, may_end = threading.Event(), threading.Event()
    ended: list[bool] = []

    def call() -> None:
        goes.set()
        ended.append(may_end.wait(10))

    def stop_early() -> None:
        with begun(call, overlaps=True):
            assert goes.wait(10)
            assert not ended
            may_end.set()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stop_early()
    assert ended == [True]

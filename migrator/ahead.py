"""Calls that are carried out ahead of whoever wants their results, in their order."""

from __future__ import annotations

from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from concurrent.futures import Future


#: Calls under way at once: while a server works on one, the other's answer is decoded.
THREADS = 2


def called_ahead[Item, Result](
    call: Callable[[Item], Result], items: Iterable[Item], *, overlaps: bool
) -> Iterator[tuple[Item, Result]]:
    """Yield each item with ``call`` of it; ``overlaps`` = up to ``THREADS`` of them are under way meanwhile.

    Items are taken in the caller's thread. Whoever stops early waits for the calls under way.
    """
    if not overlaps:
        yield from ((item, call(item)) for item in items)
        return
    with ThreadPoolExecutor(THREADS, "memmig-ahead") as pool:
        under_way: deque[tuple[Item, Future[Result]]] = deque()
        for item in items:
            under_way.append((item, pool.submit(call, item)))
            if len(under_way) > THREADS:
                first, result = under_way.popleft()
                yield first, result.result()
        for first, result in under_way:
            yield first, result.result()


@contextmanager
def begun[Result](call: Callable[[], Result], *, overlaps: bool) -> Iterator[Callable[[], Result]]:
    """Begin a call, and give what waits for its result, whenever that is wanted; ``overlaps`` = it goes on meanwhile.

    Whoever stops early waits for it.
    """
    if not overlaps:
        yield cache(call)
        return
    with ThreadPoolExecutor(1, "memmig-ahead") as pool:
        yield pool.submit(call).result

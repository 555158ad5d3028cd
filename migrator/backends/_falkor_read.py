"""Exact, complete reads: pages by internal id, floats to the last bit, answers that a server's limits cut noticed.

Floats. The server prints 15 digits: 0.1 + 0.2 comes back as 0.3, so not even a short text is to be believed [measured].
Each query therefore asks, beside the properties, for the low half of every float, ``x - (c·x - (c·x - x))`` with
c = 2^27 + 1 (Veltkamp's splitting). Both halves have 26 bits at most, which 15 digits name uniquely, and their sum is
the value. One query, so value and half are of one moment. c·x overflows above 1e300: there the same for x·2^-60.
"""

from __future__ import annotations

import math
from fractions import Fraction
from functools import partial
from itertools import batched
from typing import TYPE_CHECKING

from migrator.backends._cypher import MARKER_LABEL, SCRATCH_LABEL, quoted
from migrator.backends._falkor_wire import AnswerTooLarge, Printed
from migrator.errors import StoreRefused

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from migrator.backends._falkor_wire import Wire
    from migrator.model import Value

    type _AskEdges = Callable[[str, str, dict[str, Value]], list[list[Value]]]

_HALF = 26  #: bits
_SCALE = 2.0**60
_NOT_FINITE = frozenset({"inf", "-inf", "nan", "-nan"})
_FIRST_PAGE = 250
_PAGE_BYTES = 8_000_000  #: of text in one answer, about
_DEGREE_PAGE = 5_000
_COLUMN_PAGE = 20_000
_CHUNK = 1_000

#: Not ours: what every scan and count leaves out.
NOT_OURS = "NOT ({0}:" + MARKER_LABEL + " OR {0}:" + SCRATCH_LABEL + ")"


class _MoreColumnsError(Exception):
    """Deeper or scaled halves are needed."""


class _Exact:
    """Asks for the halves, and puts floats together. Remembers how deep this store's lists go."""

    def __init__(self) -> None:
        self._depth = 1
        self._scaled = False

    def columns(self) -> str:
        """Return the columns that go behind ``properties``; they read the list ``vs`` of the property values."""
        scales = ("", f"*{1 / _SCALE!r}") if self._scaled else ("",)
        return "".join(f",{_halves('vs', depth, scale)}" for scale in scales for depth in range(self._depth + 1))

    def restore(self, properties: dict[str, Value], halves: Sequence[Value]) -> dict[str, Value]:
        """Return the properties with exact floats. _MoreColumnsError where other columns must be asked for."""
        count = self._depth + 1
        fixed = self._list(list(properties.values()), halves[:count], halves[count:])
        return dict(zip(properties, fixed, strict=True))

    def _list(self, values: list[Value], plain: Sequence[Value], scaled: Sequence[Value]) -> list[Value]:
        floats = lists = 0
        fixed: list[Value] = []
        for value in values:
            if type(value) is Printed:
                if not plain:
                    self._depth += 1
                    raise _MoreColumnsError
                fixed.append(self._float(value, plain[0][floats], scaled[0][floats] if scaled else None))
                floats += 1
            elif type(value) is list:
                below, below_scaled = [level[lists] for level in plain[1:]], [level[lists] for level in scaled[1:]]
                fixed.append(self._list(value, below, below_scaled))
                lists += 1
            else:
                fixed.append(value)
        return fixed

    def _float(self, text: str, half: str, scaled: str | None) -> float:
        if text in _NOT_FINITE:
            return float(text)
        if half not in _NOT_FINITE:
            value = _joined(float(text), float(half))
            if f"{value:.15g}" == text:
                return value
        if scaled is None:
            self._scaled = True
            raise _MoreColumnsError
        value = _joined(float(Fraction(text) / Fraction(_SCALE)), float(scaled)) * _SCALE
        if f"{value:.15g}" != text:
            message = f"the server prints the number {text} in a way that cannot be read exactly"
            raise StoreRefused(message, hint="report this with the version of the server")
        return value


def _halves(values: str, depth: int, scale: str, name: str = "x") -> str:
    if depth:
        below = _halves(name, depth - 1, scale, name + "x")
        return f"[{name} IN {values} WHERE typeof({name}) = 'List' | {below}]"
    x = f"({name}{scale})"
    return f"[{name} IN {values} WHERE typeof({name}) = 'Float' | {x}-(134217729.0*{x}-(134217729.0*{x}-{x}))]"


def _rounded(value: float) -> float:
    mantissa, exponent = math.frexp(value)
    return math.ldexp(round(math.ldexp(mantissa, _HALF)), exponent - _HALF)


def _joined(printed: float, half: float) -> float:
    if printed - printed != 0:
        return printed
    low = _rounded(half)
    high = _rounded(printed - low)
    # The sign of zero is in the print alone.
    return high + low or printed


class Reader:
    """Reads of one graph. ``limit`` is the server's RESULTSET_SIZE: longer answers are cut without a word; 0 = none."""

    def __init__(self, wire: Wire, *, label: str, id_property: str, limit: int) -> None:
        self._wire = wire
        self._exact = _Exact()
        self._label = label
        self._id = id_property
        self.limit = limit

    def count(self, query: str) -> int:
        """Return the one number that a query gives; 0 for an absent graph."""
        rows = self._wire.read(query)
        return int(rows[0][0]) if rows else 0

    def exact(self, head: str, columns: str, of: str, parameters: dict[str, Value]) -> list[list[Value]]:
        """Return rows of the columns and, last, the exact properties of the node or edge named ``of``.

        ``head`` is what stands before RETURN. AnswerTooLarge where the server's limit may have cut the answer.
        """
        values = f" WITH *, [k IN keys({of}) | {of}[k]] AS vs RETURN {columns}, properties({of})"
        width = columns.count(",") + 1  # columns are plain calls of one argument
        while True:
            rows = self._wire.read(head + values + self._exact.columns(), parameters)
            self.complete(rows)
            try:
                return [[*row[:width], self._exact.restore(row[width], row[width + 1 :])] for row in rows]
            except _MoreColumnsError:
                continue

    def complete(self, rows: Sequence[object]) -> None:
        """Raise AnswerTooLarge where an answer is as long as the server's limit."""
        if self.limit and len(rows) >= self.limit:
            message = f"the server cuts answers at {self.limit} rows (RESULTSET_SIZE)"
            raise AnswerTooLarge(message, hint="set GRAPH.CONFIG SET RESULTSET_SIZE -1")

    def chunked[T](self, items: Sequence[T], ask: Callable[[Sequence[T]], list[list[Value]]]) -> Iterator[list[Value]]:
        """Ask for items in portions, smaller ones where the server gives up, and yield the rows."""
        size = min(_CHUNK, self.limit - 1) if self.limit else _CHUNK
        at = 0
        while at < len(items):
            portion = items[at : at + size]
            try:
                rows = ask(portion)
            except AnswerTooLarge:
                if size == 1:
                    raise
                size = max(1, size // 4)
                continue
            at += len(portion)
            yield from rows

    def nodes(self, size: int, *, every: bool) -> Iterator[list[list[Value]]]:
        """Yield pages of (internal id, labels, properties) in the order of internal ids.

        ``every`` = all nodes but memmig's own, else those with the label. By ranges of id(): comparing strings on an
        index is wrong [measured: lost 2,000 of 3,000 ids].
        """
        match = f"(m) WHERE {NOT_OURS.format('m')} AND" if every else f"(m:{quoted(self._label)}) WHERE"
        yield from self._paged(
            size,
            lambda last, page: self.exact(
                f"MATCH {match} id(m) > $last WITH m LIMIT {page}", "id(m), labels(m)", "m", {"last": last}
            ),
        )

    def _paged(self, size: int, ask: Callable[[int, int], list[list[Value]]]) -> Iterator[list[list[Value]]]:
        """Yield pages whose first column rises, from -1 on, of a size that keeps an answer's text bounded."""
        most = max(1, min(size, self.limit - 1) if self.limit else size)
        page = min(_FIRST_PAGE, most)
        last = -1
        while True:
            try:
                rows = ask(last, page)
            except AnswerTooLarge:
                if page == 1:
                    raise
                page = max(1, page // 4)
                continue
            if not rows:
                return
            for row in rows:
                if row[0] <= last:
                    message = "the server gave a page in another order than by internal id"
                    raise StoreRefused(message, hint="report this with the version of the server")
                last = row[0]
            yield rows
            page = max(1, page // 4) if _text_size(rows) > _PAGE_BYTES else min(most, page * 2)

    def identities(self, where: str) -> Iterator[list[list[Value]]]:
        """Yield pages of (internal id, id) of the nodes ``n`` for which a condition holds."""
        yield from self._paged(
            _COLUMN_PAGE,
            lambda last, page: self._wire.read(
                f"MATCH (n) WHERE id(n) > $last AND {where} RETURN id(n), n.{quoted(self._id)} LIMIT {page}",
                {"last": last},
            ),
        )

    def edges(self, size: int, *, every: bool, ids_only: bool = False) -> Iterator[list[list[Value]]]:
        """Yield pages of (internal id, type, from, to, properties), by ranges of source nodes; hubs in own pages.

        ``every`` = all edges, else those between nodes with the label; ``ids_only`` = their ids instead of properties.
        Work is linear in the edges, but for hubs of more than 5,000 edges, which are sorted once per page.
        """
        ask = self._edge_ids if ids_only else self._edge_rows
        node = "(a)" if every else f"(a:{quoted(self._label)})"
        most = max(1, min(size, self.limit - 1) if self.limit else size)
        degrees = self._paged(
            max(_DEGREE_PAGE, size),
            lambda last, page: self._wire.read(
                f"MATCH {node} WHERE id(a) > $last RETURN id(a), outdegree(a) LIMIT {page}", {"last": last}
            ),
        )
        for rows in degrees:
            for first, last, total in _ranges(rows, most):
                if total <= most:
                    yield from self._edges_from(first, last, partial(ask, every=every))
                    continue
                for page in self._hub(first, most, partial(ask, every=every)):
                    yield from map(list, batched(page, most))

    def _edge_ids(self, where: str, tail: str, parameters: dict[str, Value], *, every: bool) -> list[list[Value]]:
        label, key = "" if every else f":{quoted(self._label)}", quoted(self._id)
        rows = self._wire.read(
            f"MATCH (a{label})-[r]->(b{label}) WHERE {where} WITH a, r, b {tail} "
            f"RETURN id(r), type(r), a.{key}, b.{key}, r.{key}",
            parameters,
        )
        self.complete(rows)
        return rows

    def _edge_rows(self, where: str, tail: str, parameters: dict[str, Value], *, every: bool) -> list[list[Value]]:
        label = "" if every else f":{quoted(self._label)}"
        return self.exact(
            f"MATCH (a{label})-[r]->(b{label}) WHERE {where} WITH a, r, b {tail}",
            f"id(r), type(r), a.{quoted(self._id)}, b.{quoted(self._id)}",
            "r",
            parameters,
        )

    def _edges_from(self, first: int, last: int, ask: _AskEdges) -> Iterator[list[list[Value]]]:
        try:
            rows = ask("id(a) >= $first AND id(a) <= $last", "", {"first": first, "last": last})
        except AnswerTooLarge:
            if first == last:
                yield from self._hub(first, 1, ask)
                return
            middle = (first + last) // 2
            yield from self._edges_from(first, middle, ask)
            yield from self._edges_from(middle + 1, last, ask)
            return
        if rows:
            yield rows

    def _hub(self, node: int, most: int, ask: _AskEdges) -> Iterator[list[list[Value]]]:
        largest = min(max(most, _DEGREE_PAGE), self.limit - 1) if self.limit else max(most, _DEGREE_PAGE)
        yield from self._paged(
            largest if most > 1 else 1,
            lambda last, page: ask(
                "id(a) = $node AND id(r) > $last", f"ORDER BY id(r) LIMIT {page}", {"node": node, "last": last}
            ),
        )


def _ranges(rows: list[list[Value]], most: int) -> Iterator[tuple[int, int, int]]:
    """Pack (node, degree) rows into ranges of nodes with up to ``most`` edges, or one node with more."""
    first, last, total = -1, -1, 0
    for node, degree in rows:
        if not degree:
            continue
        if total and total + degree > most:
            yield first, last, total
            total = 0
        if not total:
            first = node
        last = node
        total += degree
    if total:
        yield first, last, total


def _text_size(rows: list[list[Value]]) -> int:
    return sum(
        len(value) for row in rows if type(row[-1]) is dict for value in row[-1].values() if type(value) in (str, list)
    )

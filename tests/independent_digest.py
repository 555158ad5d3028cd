"""A second implementation of record digests, written from docs/reference/canonical-form.md alone.

It shares no code with memmig on purpose: two programs that agree are the proof that the page is precise enough.
A record is ``("memory", id, labels, properties)`` or ``("relationship", id, type, from_id, to_id, properties)``.
"""

from __future__ import annotations

import calendar
import hashlib
import math
from fractions import Fraction
from typing import Any

MAX_DIGITS = 4300
MAX_DEPTH = 100
DIGITS = "0123456789"

FLOATS = {"memory": {"importance", "confidence", "effectiveness"}, "relationship": {"strength", "confidence"}}
FLOATS["relationship"].add("success_rate")
INTEGERS = {
    "memory": {"usage_count", "version"},
    "relationship": {"evidence_count", "validation_count", "counter_evidence_count"},
}
LISTS = {f"context_{name}" for name in ("files_involved", "languages", "frameworks", "technologies")} | {"tags"}
TIMES = {
    "memory": {"created_at", "updated_at", "last_accessed", "context_timestamp"},
    "relationship": {"created_at", "last_validated", "valid_from", "valid_until", "recorded_at"},
}
ENCODED_DEFAULTS = {
    "memory": {
        "tags": "[]",
        "importance": '{"f":"3fe0000000000000"}',
        "confidence": '{"f":"3fe999999999999a"}',
        "usage_count": "0",
        "version": "1",
    },
    "relationship": {
        "strength": '{"f":"3fe0000000000000"}',
        "confidence": '{"f":"3fe999999999999a"}',
        "evidence_count": "1",
        "validation_count": "0",
        "counter_evidence_count": "0",
    },
}


class NotJson(Exception):
    """The text is not one JSON value as the page wants it."""


class Reader:
    """A JSON reader by hand, strict as RFC 8259 and the page's own exceptions."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0

    def read(self) -> Any:
        value = self.value(0)
        self.blanks()
        if self.at != len(self.text):
            raise NotJson
        return value

    def peek(self) -> str:
        return self.text[self.at] if self.at < len(self.text) else ""

    def take(self, wanted: str) -> bool:
        if self.text.startswith(wanted, self.at):
            self.at += len(wanted)
            return True
        return False

    def need(self, wanted: str) -> None:
        if not self.take(wanted):
            raise NotJson

    def blanks(self) -> None:
        while self.peek() and self.peek() in " \t\n\r":
            self.at += 1

    def value(self, depth: int) -> Any:
        self.blanks()
        for word, meaning in (("true", True), ("false", False), ("null", None)):
            if self.take(word):
                return meaning
        if self.peek() == '"':
            return self.string()
        if self.peek() in ("[", "{"):
            if depth == MAX_DEPTH:
                raise NotJson
            return self.list(depth + 1) if self.peek() == "[" else self.object(depth + 1)
        return self.number()

    def list(self, depth: int) -> list[Any]:
        self.need("[")
        items: list[Any] = []
        self.blanks()
        if self.take("]"):
            return items
        while True:
            items.append(self.value(depth))
            self.blanks()
            if self.take("]"):
                return items
            self.need(",")

    def object(self, depth: int) -> dict[str, Any]:
        self.need("{")
        found: dict[str, Any] = {}
        self.blanks()
        if self.take("}"):
            return found
        while True:
            self.blanks()
            key = self.string()
            self.blanks()
            self.need(":")
            if key in found:
                raise NotJson
            found[key] = self.value(depth)
            self.blanks()
            if self.take("}"):
                return found
            self.need(",")

    def hexadecimal(self) -> int:
        digits = self.text[self.at : self.at + 4]
        if len(digits) != 4 or any(digit not in "0123456789abcdefABCDEF" for digit in digits):
            raise NotJson
        self.at += 4
        return int(digits, 16)

    def string(self) -> str:
        self.need('"')
        found: list[str] = []
        while True:
            char = self.peek()
            if char == "" or ord(char) < 0x20:
                raise NotJson
            self.at += 1
            if char == '"':
                return "".join(found)
            if char != "\\":
                found.append(char)
                continue
            escape = self.peek()
            self.at += 1
            if escape != "u":
                if escape not in set('"\\/bfnrt'):
                    raise NotJson
                found.append({"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}.get(escape, escape))
                continue
            unit = self.hexadecimal()
            if 0xD800 <= unit < 0xDC00 and self.text.startswith("\\u", self.at):
                back = self.at
                self.at += 2
                low = self.hexadecimal()
                if 0xDC00 <= low < 0xE000:
                    unit = 0x10000 + ((unit - 0xD800) << 10) + (low - 0xDC00)
                else:
                    self.at = back
            found.append(chr(unit))

    def digits(self) -> str:
        start = self.at
        while self.peek() and self.peek() in DIGITS:
            self.at += 1
        if start == self.at:
            raise NotJson
        return self.text[start : self.at]

    def number(self) -> int | float:
        start = self.at
        self.take("-")
        whole = self.digits()
        if len(whole) > 1 and whole[0] == "0":
            raise NotJson
        integral = True
        if self.take("."):
            integral = False
            self.digits()
        if self.peek() and self.peek() in "eE":
            integral = False
            self.at += 1
            if not self.take("+"):
                self.take("-")
            self.digits()
        if not integral:
            return float(self.text[start : self.at])
        if len(whole) > MAX_DIGITS:
            raise NotJson
        return int(self.text[start : self.at])


def parsed(text: str, wanted: type) -> Any:
    try:
        value = Reader(text).read()
    except NotJson:
        return text
    return value if type(value) is wanted else text


def canonical_properties(kind: str, stored: dict[str, Any]) -> dict[str, Any]:
    found = {}
    for key, value in stored.items():
        if value is None or key == "id":
            continue
        new = value
        if key in FLOATS[kind] and type(value) is int and abs(value) < 1 << 1024:
            # The largest integers round up to infinity, which equals none of them.
            nearest = float(value) if abs(value) < (1 << 1024) - (1 << 970) else math.inf
            if math.isfinite(nearest) and Fraction(nearest) == value:
                new = nearest
        elif key in INTEGERS[kind] and type(value) is float and math.isfinite(value):
            whole = Fraction(value)
            negative_zero = whole == 0 and math.copysign(1, value) < 0
            if whole.denominator == 1 and abs(whole) < 1 << 63 and not negative_zero:
                new = whole.numerator
        elif kind == "memory" and type(value) is str and key in LISTS:
            new = parsed(value, list)
        elif kind == "memory" and type(value) is str and key == "context_additional_metadata":
            new = parsed(value, dict)
        found[key] = new
    return found


def days_from_epoch(year: int, month: int, day: int) -> int:
    before = year - 1
    leap_days = before // 4 - before // 100 + before // 400
    months = sum(calendar.monthrange(year, earlier)[1] for earlier in range(1, month))
    return before * 365 + leap_days + months + day - 1 - 719162


FIRST = -62135596800 * 1_000_000
END = (days_from_epoch(9999, 12, 31) + 1) * 86400 * 1_000_000


def clock(text: str, maximum: int) -> int:
    if len(text) != 2 or any(char not in DIGITS for char in text) or int(text) > maximum:
        raise ValueError
    return int(text)


def text_microseconds(text: str) -> int | None:
    """Microseconds since 1970, or None where the text is no instant."""
    try:
        if len(text) < 16 or text[4] + text[7] + text[13] != "--:" or text[10] not in "T ":
            return None
        if any(char not in DIGITS for char in text[:4]):
            return None
        year, month, day = int(text[:4]), clock(text[5:7], 12), clock(text[8:10], 31)
        if year < 1 or month < 1 or day < 1 or day > calendar.monthrange(year, month)[1]:
            return None
        seconds = clock(text[11:13], 23) * 3600 + clock(text[14:16], 59) * 60
        rest, fraction, offset = text[16:], 0, 0
        if rest.startswith(":"):
            seconds += clock(rest[1:3], 59)
            rest = rest[3:]
            if rest.startswith("."):
                digits = ""
                while len(digits) + 1 < len(rest) and rest[len(digits) + 1] in DIGITS:
                    digits += rest[len(digits) + 1]
                if not 1 <= len(digits) <= 6:
                    return None
                fraction = int((digits + "000000")[:6])
                rest = rest[1 + len(digits) :]
        if rest not in ("", "Z"):
            if len(rest) != 6 or rest[0] not in "+-" or rest[3] != ":":
                return None
            offset = (clock(rest[1:3], 23) * 3600 + clock(rest[4:6], 59) * 60) * (1 if rest[0] == "+" else -1)
    except ValueError:
        return None
    moment = (days_from_epoch(year, month, day) * 86400 + seconds - offset) * 1_000_000 + fraction
    return moment if FIRST <= moment < END else None


def instant(value: Any) -> int | None:
    if type(value) is str:
        return text_microseconds(value)
    if type(value) is float and math.isfinite(value) and value == math.floor(value) and abs(value) < 2.0**63:
        value = int(value)
    if type(value) is not int:
        return None
    moment: int = value if abs(value) >= 10**14 else value * 1000 if abs(value) >= 10**11 else value * 1_000_000
    return moment if FIRST <= moment < END else None


def instant_text(moment: int) -> str:
    seconds, microseconds = divmod(moment, 1_000_000)
    days, second = divmod(seconds, 86400)
    # A first guess that is never too late, then upwards.
    year = max(1, 1970 + days // 366 - 1) if days >= 0 else max(1, 1970 + days // 365 - 1)
    while year < 9999 and days_from_epoch(year + 1, 1, 1) <= days:
        year += 1
    month = max(month for month in range(1, 13) if days_from_epoch(year, month, 1) <= days)
    day = days - days_from_epoch(year, month, 1) + 1
    hours, minutes = divmod(second // 60, 60)
    return f"{year:04}-{month:02}-{day:02}T{hours:02}:{minutes:02}:{second % 60:02}.{microseconds:06}Z"


def double_bits(value: float) -> int:
    """The 64 bits of a double, computed rather than copied, so that nothing depends on the platform's layout."""
    if math.isnan(value):
        return 0x7FF8 << 48
    sign = (1 << 63) if math.copysign(1, value) < 0 else 0
    if math.isinf(value):
        return sign | (0x7FF << 52)
    mantissa, exponent = math.frexp(abs(value))
    if value == 0:
        return sign
    if exponent < -1021:
        return sign | int(math.ldexp(mantissa, exponent + 1074))
    return sign | ((exponent + 1022) << 52) | (int(math.ldexp(mantissa, 53)) - (1 << 52))


SHORT = {'"': '\\"', "\\": "\\\\", "\b": "\\b", "\t": "\\t", "\n": "\\n", "\f": "\\f", "\r": "\\r"}


def json_text(text: str) -> str:
    out = ['"']
    for char in text:
        if char in SHORT:
            out.append(SHORT[char])
        elif ord(char) < 0x20 or 0xD800 <= ord(char) < 0xE000:
            out.append(f"\\u{ord(char):04x}")
        else:
            out.append(char)
    return "".join(out) + '"'


def json_object(encoded: dict[str, str]) -> str:
    keys = sorted(encoded, key=lambda key: [ord(char) for char in key])
    return "{" + ",".join(f"{json_text(key)}:{encoded[key]}" for key in keys) + "}"


def json_value(value: Any) -> str:
    if value is None:
        return "null"
    if type(value) is bool:
        return "true" if value else "false"
    if type(value) is str:
        return json_text(value)
    if type(value) is int:
        return f"{value:d}"
    if type(value) is float:
        return f'{{"f":"{double_bits(value):016x}"}}'
    if type(value) is bytes:
        return '{"b":"' + "".join(f"{byte:02x}" for byte in value) + '"}'
    if type(value) is list:
        return "[" + ",".join(json_value(item) for item in value) + "]"
    return '{"m":' + json_object({key: json_value(item) for key, item in value.items()}) + "}"


def line(record: tuple[Any, ...]) -> str:
    kind, *names, stored = record
    encoded = {}
    for key, value in canonical_properties(kind, stored).items():
        moment = instant(value) if key in TIMES[kind] else None
        encoded[key] = json_value(value) if moment is None else f'{{"t":"{instant_text(moment)}"}}'
        if encoded[key] == ENCODED_DEFAULTS[kind].get(key):
            del encoded[key]
    if kind == "memory":
        name, labels = names
        names = [name, sorted(labels, key=lambda label: [ord(char) for char in label])]
    head = ",".join(json_value(item) for item in ["memmig-record-1", kind, *names])
    return f"[{head},{json_object(encoded)}]"


def digest(record: tuple[Any, ...]) -> str:
    return hashlib.sha256(line(record).encode("utf-8")).hexdigest()

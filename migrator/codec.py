"""Stored forms as text for the journal: exact for every value that a store can hold. Pure."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from migrator.backends.base import Raw
    from migrator.model import Value

_BYTES, _MAP = "$bytes", "$map"


def _escaped(value: Value) -> Value:
    if type(value) is bytes:
        return {_BYTES: value.hex()}
    if type(value) is list:
        return [_escaped(item) for item in value]
    if type(value) is dict:
        inner = {key: _escaped(item) for key, item in value.items()}
        return {_MAP: inner} if len(inner) == 1 and inner.keys() <= {_BYTES, _MAP} else inner
    return value


def _restored(value: Value) -> Value:
    if type(value) is list:
        return [_restored(item) for item in value]
    if type(value) is dict:
        if len(value) == 1 and _BYTES in value:
            return bytes.fromhex(value[_BYTES])
        if len(value) == 1 and _MAP in value:
            return {key: _restored(item) for key, item in value[_MAP].items()}
        return {key: _restored(item) for key, item in value.items()}
    return value


def dump_raw(raw: Raw) -> str:
    """Return a stored form as ASCII JSON: ``{"$bytes": hex}`` is bytes, ``NaN`` and ``Infinity`` are Python's."""
    return json.dumps(_escaped(raw), separators=(",", ":"))


def load_raw(text: str) -> Raw:
    """Return the stored form that :func:`dump_raw` wrote, equal to the last byte."""
    restored: Raw = _restored(json.loads(text))
    return restored

"""The stored form of a Bolt store: a graph store's, with native times, which the canonical form has as text. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from migrator.backends._bolt_values import time_text
from migrator.backends._cypher import CypherForm
from migrator.model import TIME_FIELDS

if TYPE_CHECKING:
    from migrator.model import Kind, Value


@dataclass(frozen=True, slots=True)
class BoltForm(CypherForm):
    """Between a Bolt store's form and the canonical one."""

    def carried(self, kind: Kind, name: str, value: Value) -> Value:
        """Return the ISO-8601 text of a native time, or the list of such texts; None for what is no time."""
        if type(value) is dict:
            return time_text(value, instant=name in TIME_FIELDS[kind])
        texts = [self.carried(kind, name, item) if self._native(item) else item for item in value]
        return None if None in texts else texts

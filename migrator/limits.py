"""How many records ``--delete`` may take: what ``--max-delete`` says. Pure."""

from __future__ import annotations

import re
from fractions import Fraction

from migrator.errors import UsageError

_FORM = re.compile(r"(?P<number>\d{1,18})|(?P<percent>\d{1,3}(\.\d{1,6})?) ?%", re.ASCII)
_DEFAULT_PERCENT = 10
#: The default never stops so few: a tenth of a small store is less than an evening's tidying.
FEW = 5
_WHOLE = 100


def most_deleted(limit: str | None, kept: int) -> int:
    """Return how many of ``kept`` records of a kind may be deleted; None: 10 %, at least 5.

    UsageError for a text that is neither a number nor a percentage up to 100 %.
    """
    if limit is None:
        return max(kept * _DEFAULT_PERCENT // _WHOLE, FEW)
    found = _FORM.fullmatch(limit.strip())
    if found is None or (found["percent"] and Fraction(found["percent"]) > _WHOLE):
        msg = f"max_delete is a number of records or a percentage, not {limit!r}"
        raise UsageError(msg, hint="for example --max-delete 50, or --max-delete 2.5%")
    if found["number"]:
        return int(found["number"])
    return int(Fraction(found["percent"]) * kept / _WHOLE)

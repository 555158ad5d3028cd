"""What the report's line of one kind of target says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests import figures
from tests.checker import compare, read

if TYPE_CHECKING:
    from tests.crash.worlds import World


@dataclass(slots=True)
class Tally:
    """Counts of what happened on one kind of target, and of what was wrong afterwards."""

    kind: str
    hit: int = 0  #: processes that were killed
    recovered: int = 0  #: of those, the ones after which the target was found as it should be
    double: int = 0  #: of those, the ones that were recovering from another kill
    lost: int = 0
    doubled: int = 0
    foreign: int = 0

    def look(self, world: World) -> None:
        """Count what is wrong with a target that is not that of an undisturbed run."""
        different = compare(read(world.source), read(world.checked_url))
        self.lost += sum(one.what in {"missing", "different", "corrupt"} for one in different)
        self.doubled += sum(one.what == "duplicate" for one in different)
        theirs = {one.id for one in different if one.what == "extra"}
        self.foreign += len(theirs ^ world.theirs)

    def report(self) -> None:
        """Add the counts to the engine's line, which is printed when all tests are done."""
        figures.count(
            self.kind.partition("-")[0].partition(" ")[0].partition("(")[0],
            {
                "fault points hit": self.hit,
                "recovered": self.recovered,
                "double faults": self.double,
                "lost": self.lost,
                "duplicated": self.doubled,
                "foreign changed": self.foreign,
            },
        )

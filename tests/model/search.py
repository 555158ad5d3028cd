"""Visits every world that a story allows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.model.protocol import Model
from tests.model.world import ViolationError

if TYPE_CHECKING:
    from tests.model.world import Story, World


@dataclass(slots=True)
class Explored:
    """What a search found."""

    worlds: int
    endings: int
    actions: set[str]


def explore(story: Story, limit: int = 2_000_000) -> Explored:
    """Visit every world that the story allows. Raises ViolationError with the way that led there."""
    model = Model(story)
    first = model.beginning()
    came: dict[World, tuple[World, str] | None] = {first: None}
    waiting = [first]
    endings, actions = 0, set()
    while waiting:
        world = waiting.pop()
        try:
            model.check(world)
            following = list(model.successors(world))
        except ViolationError as error:
            raise ViolationError(f"{error}\n" + "\n".join(_way(came, world))) from None
        if world.ending:
            endings += 1
        for text, then in following:
            actions.add(text.split(":")[0] if "lands" in text else text)
            if then not in came:
                came[then] = world, text
                waiting.append(then)
        if len(came) > limit:
            msg = f"more than {limit} worlds"
            raise AssertionError(msg)
    return Explored(len(came), endings, actions)


def _way(came: dict[World, tuple[World, str] | None], world: World) -> list[str]:
    way = []
    step = came[world]
    while step is not None:
        world, text = step
        way.append(text)
        step = came[world]
    return way[::-1]

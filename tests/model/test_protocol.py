"""Every order of events within a budget of faults keeps the promise; without one of the rules some order breaks it."""

from __future__ import annotations

import pytest

from tests import figures
from tests.model.search import explore
from tests.model.world import Story, ViolationError

#: (processes that die or requests that go unheard, servers that restart, strangers' writes)
BUDGETS = [(1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 0, 1), (0, 1, 1), (1, 1, 0)]
LONG = [(1, 1, 1), (2, 0, 0), (2, 0, 1)]

#: Rule that is taken out → the budget with which a trace without it loses, resurrects or overwrites a record.
RULES = {
    "guard": (1, 0, 0),
    "raise": (1, 1, 0),
    "void": (1, 1, 0),
    "batches.lost": (0, 1, 0),
    "prove": (0, 1, 0),
    "refused": (1, 0, 1),
    "left": (1, 0, 1),
    "restart-at-claim": (0, 1, 1),
    "bases": (1, 0, 0),
}
LONG_RULES = {"lost": (1, 1, 1), "raise-after-claim": (1, 1, 1)}


def story(budget: tuple[int, int, int], *broken: str) -> Story:
    deaths, restarts, strangers = budget
    return Story(deaths=deaths, restarts=restarts, strangers=strangers, broken=frozenset(broken))


def keeps_the_promise(budget: tuple[int, int, int], least: int) -> None:
    found = explore(story(budget))
    assert found.endings
    assert found.worlds > least, "the model has become too small to show anything"
    deaths, restarts, strangers = budget
    which = f"{deaths} deaths, {restarts} restarts, {strangers} foreign writes"
    figures.add(f"model, {which}: {found.worlds:,} worlds, {found.endings:,} endings, nothing lost or overwritten")


@pytest.mark.parametrize("budget", BUDGETS, ids=str)
def test_every_order_of_events(budget: tuple[int, int, int]) -> None:
    keeps_the_promise(budget, 500)


@pytest.mark.long
@pytest.mark.parametrize("budget", LONG, ids=str)
def test_every_order_of_events_with_a_larger_budget(budget: tuple[int, int, int]) -> None:
    keeps_the_promise(budget, 50_000)


@pytest.mark.parametrize(("rule", "budget"), RULES.items(), ids=list(RULES))
def test_without_one_of_the_rules_a_record_is_lost(rule: str, budget: tuple[int, int, int]) -> None:
    with pytest.raises(ViolationError):
        explore(story(budget, rule))


@pytest.mark.long
@pytest.mark.parametrize(("rule", "budget"), LONG_RULES.items(), ids=list(LONG_RULES))
def test_without_one_of_the_rules_a_record_is_lost_in_a_longer_story(rule: str, budget: tuple[int, int, int]) -> None:
    with pytest.raises(ViolationError):
        explore(story(budget, rule))

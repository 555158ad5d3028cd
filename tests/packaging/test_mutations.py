"""The bugs that ``make mutation`` seeds fit the code as it is, and the tests that must find them are there."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tools.mutation import MUTATIONS, PAGE, not_applicable

if TYPE_CHECKING:
    from tools.bugs import Mutation

CHECKOUT = Path(__file__).parents[2]


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.bug)
def test_a_bug_fits_the_code_and_its_suite_is_there(mutation: Mutation) -> None:
    assert not_applicable(mutation) == []
    file, *names = mutation.suite.split("::")
    text = (CHECKOUT / file).read_text("utf-8")
    assert all(f" {name.partition('[')[0]}(" in text or f"class {name}:" in text for name in names)


def test_the_page_has_every_bug() -> None:
    page = PAGE.read_text("utf-8")
    assert [mutation.bug for mutation in MUTATIONS if f"| {mutation.bug} |" not in page] == []

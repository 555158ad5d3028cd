"""A night whose target cannot say that what was written is durable: the next one reads it again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from migrator.backends.base import Durability
from migrator.backends.memory import MemoryBackend

if TYPE_CHECKING:
    import pytest

    from tests.sync.conftest import Nights


def test_a_denied_barrier_leaves_the_watermark_with_a_warning(nights: Nights, monkeypatch: pytest.MonkeyPatch) -> None:
    nights.memory("a")
    before = nights.run().watermark
    nights.wait(hours=1)
    nights.memory("b")
    denied = Durability(durable=False, evidence={"reason": "the server forbids it"})
    with monkeypatch.context() as patch:
        patch.setattr(MemoryBackend, "barrier", lambda _: denied)
        found = nights.run()
    assert nights.equal()
    assert found.watermark == nights.in_step.watermark == before
    assert any("maybe not durable" in warning for warning in found.warnings)
    quiet = nights.run()
    assert (quiet.memories["unchanged"], quiet.memories["updated"], quiet.durability) == (2, 0, "unverified")
    assert quiet.watermark == nights.in_step.watermark == before, "what it found is what could not be made durable"
    assert any("maybe not durable" in warning for warning in quiet.warnings)
    nights.memory("c")
    found = nights.run()
    assert found.durability == "durable"
    assert found.watermark not in {None, before}

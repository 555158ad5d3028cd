"""The resume table, row by row in its own words, and what no state whatever may lead to."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from migrator.backends.base import Marker
from migrator.resume import Action, Seen, next_action

if TYPE_CHECKING:
    from collections.abc import Callable

#: Actions after which the engine goes on in the belief that the target holds what the journal says.
TRUSTING = frozenset({Action.CONTINUE, Action.REPLAN, Action.RECOVER})
STOPS = frozenset({Action.STOP_ALIEN, Action.STOP_DIGEST, Action.STOP_REMOVED, Action.STOP_NEWER})

MARKER = Marker(journal="ours", run="this", epoch=4, batch=5, digest="d5", owner="me")

#: p = j = m = 5, held at epoch 4 by the server "A"; plans 1, 2, 3 and 5 wrote.
BASE = Seen(
    journal="ours",
    run="this",
    phase="forward",
    closed=False,
    held=True,
    released=False,
    epoch_held=4,
    identity_held="A",
    identity="A",
    planned=5,
    applied=5,
    plans={"d1": 1, "d2": 2, "d3": 3, "d5": 5},
    last_number=5,
    marker=MARKER,
)


def seen(marker: Marker | None = MARKER, /, **changes: object) -> Seen:
    return replace(BASE, marker=marker, **changes)  # type: ignore[arg-type]


def at(batch: int, digest: str | None = None, epoch: int = 4) -> Marker:
    own = f"d{batch}" if batch else ""
    return replace(MARKER, batch=batch, digest=own if digest is None else digest, epoch=epoch)


UNHELD: dict[str, object] = {
    "held": False,
    "epoch_held": 0,
    "identity_held": None,
    "planned": 0,
    "applied": 0,
    "plans": {},
}

#: What is seen, and the action in a forward run and in a rollback.
ROWS: dict[str, tuple[Seen, Action, Action]] = {
    "nothing was ever held: claim before the first writing batch": (
        seen(None, **UNHELD),
        Action.CLAIM,
        Action.CLAIM,
    ),
    "our claim landed without our hearing of it: raise it": (
        seen(at(0, epoch=1), **UNHELD),
        Action.CONTINUE,
        Action.CONTINUE,
    ),
    "p = j = m: go on, or undo": (seen(), Action.CONTINUE, Action.CONTINUE),
    "p = j = m = 0: go on": (seen(at(0), planned=0, applied=0, plans={}), Action.CONTINUE, Action.CONTINUE),
    "p = j = m, with decisions planned since that write nothing": (
        seen(last_number=9),
        Action.CONTINUE,
        Action.CONTINUE,
    ),
    "p > j, m = j: never landed": (
        seen(at(3), applied=3),
        Action.REPLAN,
        Action.REPLAN,
    ),
    "p > j, m = j = 0: the first never landed": (
        seen(at(0), applied=0),
        Action.REPLAN,
        Action.REPLAN,
    ),
    "m = p > j, digest of that plan: it landed": (
        seen(applied=3),
        Action.RECOVER,
        Action.RECOVER,
    ),
    "a digest of none of our plans": (seen(at(5, "theirs")), Action.STOP_DIGEST, Action.STOP_DIGEST),
    "a digest of another of our plans": (seen(at(5, "d3")), Action.STOP_DIGEST, Action.STOP_DIGEST),
    "m is a plan that was refused": (
        seen(at(5), planned=3, applied=3),
        Action.STOP_DIGEST,
        Action.STOP_DIGEST,
    ),
    "m < j: acknowledged batches are lost": (seen(at(3)), Action.LOST, Action.LOST),
    "m < j, down to the claim": (seen(at(0)), Action.LOST, Action.LOST),
    "identity changed, m < j": (seen(at(3), identity="B"), Action.LOST, Action.LOST),
    "identity changed, m = j: what was only decided may be lost": (
        seen(identity="B"),
        Action.LOST,
        Action.LOST,
    ),
    "identity changed, m = j < p": (seen(at(3), applied=3, identity="B"), Action.LOST, Action.LOST),
    "identity changed, m = p > j": (seen(applied=3, identity="B"), Action.LOST, Action.LOST),
    "identity changed, epoch below the held one: a loss, not a late claim": (
        seen(at(3, epoch=2), identity="B"),
        Action.LOST,
        Action.LOST,
    ),
    "identity changed, m is a plan that was lost before": (
        seen(at(5), planned=3, applied=3, identity="B"),
        Action.LOST,
        Action.LOST,
    ),
    "identity changed and the marker lost with everything": (
        seen(None, identity="B"),
        Action.LOST,
        Action.CLAIM,
    ),
    "identity changed before the first claim: what was decided may be lost": (
        seen(None, **{**UNHELD, "identity_held": "A", "identity": "B"}),
        Action.LOST,
        Action.LOST,
    ),
    "epoch below the held one, identity unchanged: a late claim": (
        seen(at(0, epoch=1)),
        Action.STOP_REMOVED,
        Action.LOST,
    ),
    "a late claim whose batch number would fit means nothing, too": (
        seen(at(5, epoch=1)),
        Action.STOP_REMOVED,
        Action.LOST,
    ),
    "marker gone, identity unchanged, run not finished": (
        seen(None),
        Action.STOP_REMOVED,
        Action.CLAIM,
    ),
    "marker gone after the phase's end: it was released": (
        seen(None, closed=True),
        Action.RELEASED,
        Action.RELEASED,
    ),
    "marker gone, and its release journalled": (
        seen(None, closed=True, released=True),
        Action.RELEASED,
        Action.RELEASED,
    ),
    "marker released, and opened again: claim": (
        seen(None, released=True),
        Action.CLAIM,
        Action.CLAIM,
    ),
    "m > p: the journal is older than the target": (
        seen(at(6, "d6")),
        Action.STOP_NEWER,
        Action.STOP_NEWER,
    ),
    "finished, marker still there": (
        seen(closed=True),
        Action.REMOVE,
        Action.REMOVE,
    ),
    "finished and restarted, marker still there": (
        seen(at(3), closed=True, identity="B"),
        Action.REMOVE,
        Action.REMOVE,
    ),
    "another journal's marker": (seen(replace(MARKER, journal="theirs")), Action.STOP_ALIEN, Action.STOP_ALIEN),
    "another run's marker": (seen(replace(MARKER, run="that")), Action.STOP_ALIEN, Action.STOP_ALIEN),
    "another run's marker after the end": (
        seen(replace(MARKER, run="that"), closed=True, released=True),
        Action.STOP_ALIEN,
        Action.STOP_ALIEN,
    ),
}


@pytest.mark.parametrize(("what", "forward", "rollback"), ROWS.values(), ids=ROWS)
def test_row(what: Seen, forward: Action, rollback: Action) -> None:
    assert next_action(replace(what, phase="forward")) is forward
    assert next_action(replace(what, phase="rollback")) is rollback


def test_every_action_stands_in_a_row() -> None:
    assert {action for _, *actions in ROWS.values() for action in actions} == set(Action)


@st.composite
def states(draw: st.DrawFn) -> Seen:
    """Anything that a journal and a target can say, probable or not."""
    last = draw(st.integers(0, 6))
    writing = draw(st.sets(st.integers(1, 6).filter(lambda number: number <= last))) if last else set()
    number = st.sampled_from([0, *sorted(writing)])
    applied = draw(number)
    held = draw(st.booleans())
    batch = draw(st.integers(0, 8))
    marker = Marker(
        journal=draw(st.sampled_from(["ours", "ours", "theirs"])),
        run=draw(st.sampled_from(["this", "this", "that"])),
        epoch=draw(st.integers(1, 6)),
        batch=batch,
        digest=draw(st.sampled_from([f"d{batch}" if batch else "", "d1", "theirs"])),
        owner="",
    )
    return Seen(
        journal="ours",
        run="this",
        phase=draw(st.sampled_from(["forward", "rollback"])),
        closed=draw(st.booleans()),
        held=held,
        released=held and draw(st.booleans()),
        epoch_held=draw(st.integers(1, 6)) if held else 0,
        identity_held=draw(st.sampled_from(["A", "A", None])) if not held else "A",
        identity=draw(st.sampled_from(["A", "B"])),
        planned=max(applied, draw(number)),
        applied=applied,
        plans={f"d{one}": one for one in writing},
        last_number=last,
        marker=draw(st.sampled_from([marker, marker, None])),
    )


def ours(state: Seen) -> Marker | None:
    marker = state.marker
    return marker if marker is not None and (marker.journal, marker.run) == (state.journal, state.run) else None


def restarted(state: Seen) -> bool:
    return state.identity_held is not None and state.identity != state.identity_held


#: "where this holds" → only these actions may follow.
LAWS: dict[str, tuple[Callable[[Seen], bool], frozenset[Action]]] = {
    "another's marker is never touched": (
        lambda state: state.marker is not None and ours(state) is None,
        frozenset({Action.STOP_ALIEN}),
    ),
    "nothing is believed of a server that restarted": (
        lambda state: restarted(state) and ours(state) is not None,
        frozenset(Action) - TRUSTING - {Action.CLAIM},
    ),
    "a marker below the held epoch proves nothing": (
        lambda state: ours(state) is not None and ours(state).epoch < state.epoch_held,  # type: ignore[union-attr]
        frozenset(Action) - TRUSTING,
    ),
    "a marker that was held and is gone is not claimed again by a forward run": (
        lambda state: state.marker is None and state.held and not state.released and state.phase == "forward",
        frozenset({Action.LOST, Action.RELEASED, Action.STOP_REMOVED}),
    ),
    "without a marker nothing is trusted, raised or removed": (
        lambda state: state.marker is None,
        frozenset({Action.CLAIM, Action.LOST, Action.RELEASED, Action.STOP_REMOVED}),
    ),
    "with a marker nothing is claimed or called released": (
        lambda state: state.marker is not None,
        frozenset(Action) - {Action.CLAIM, Action.RELEASED},
    ),
    "what is closed is only ever tidied up": (
        lambda state: state.closed and state.held,
        frozenset({Action.REMOVE, Action.RELEASED, Action.STOP_ALIEN}),
    ),
    "what is not closed is never tidied up": (
        lambda state: not state.closed,
        frozenset(Action) - {Action.REMOVE, Action.RELEASED},
    ),
    "a marker ahead of the journal stops an open run": (
        lambda state: (
            ours(state) is not None
            and not state.closed
            and ours(state).batch > state.last_number  # type: ignore[union-attr]
            and (restarted(state) or ours(state).epoch >= state.epoch_held)  # type: ignore[union-attr]
        ),
        frozenset({Action.STOP_NEWER}),
    ),
    "a digest of none of our plans stops an open run": (
        lambda state: (
            ours(state) is not None
            and not state.closed
            and ours(state).digest == "theirs"  # type: ignore[union-attr]
            and ours(state).batch > 0  # type: ignore[union-attr]
            and (restarted(state) or ours(state).epoch >= state.epoch_held)  # type: ignore[union-attr]
        ),
        frozenset({Action.STOP_DIGEST, Action.STOP_NEWER}),
    ),
}


@settings(max_examples=1_500, deadline=None)
@given(states())
def test_no_law_is_ever_broken(state: Seen) -> None:
    action = next_action(state)
    broken = [law for law, (holds, allowed) in LAWS.items() if holds(state) and action not in allowed]
    assert not broken


@settings(max_examples=500, deadline=None)
@given(states())
def test_an_action_means_what_it_says(state: Seen) -> None:
    action, marker = next_action(state), state.marker
    assert isinstance(action, Action)
    if action in TRUSTING:
        assert marker is not None
        assert not marker.batch or state.plans[marker.digest] == marker.batch
    if action is Action.CONTINUE:
        assert marker is not None
        assert marker.batch == state.applied == state.planned
    if action is Action.REPLAN:
        assert marker is not None
        assert marker.batch == state.applied < state.planned
    if action is Action.RECOVER:
        assert marker is not None
        assert marker.batch == state.planned > state.applied
    if action in STOPS:
        assert marker is not None or state.held

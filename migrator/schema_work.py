"""What a store's client expects beside records (tables, indexes, constraints): made by a run, and journalled as its.

Journal before statement: a rollback drops what stands in the journal as made by the run, and nothing else.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from journal import events
from migrator.backends.base import SchemaStep

if TYPE_CHECKING:
    from migrator.run import Run


def make_schema(run: Run, missing: list[SchemaStep]) -> None:
    """Plan, make, and journal what was made; what a process that died may have made before counts as ours."""
    pending = [SchemaStep(**step) for step in run.history.state(run.run_id).schema_pending]
    left = [step for step in pending if not step.after_load]
    # What was planned before keeps its statements: a request for it may still land.
    steps = list({step.name: step for step in [*left, *missing, *left]}.values())
    if not steps:
        return
    run.history.append(run.run_id, events.SchemaPlanned(steps=[asdict(step) for step in steps]))
    made = run.target.apply_schema([step for step in steps if not step.after_load])
    ours = {step.name: step for step in [*left, *made]}
    run.history.append(run.run_id, events.SchemaApplied(steps=[asdict(step) for step in ours.values()]))


def complete_schema(run: Run) -> None:
    """Make what was put off until the records are there, as it is cheaper to build then."""
    state = run.history.state(run.run_id)
    applied = {step["name"] for step in state.schema_applied}
    rest = [SchemaStep(**step) for step in state.schema_planned if step["name"] not in applied]
    make_schema(run, [replace(step, after_load=False) for step in rest])

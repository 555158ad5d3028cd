"""Runs that stand open: which one a resume takes up, what stands in a new one's way, what a run keeps."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import asdict, fields, replace
from typing import TYPE_CHECKING, Any

from migrator.errors import MemmigError, StoreUnreachable, UnfinishedRun, UsageError
from migrator.models import MigrationOptions
from migrator.stores import config_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from journal.events import RunOpened
    from journal.state import RunState
    from journal.store import Journal
    from migrator.models import BackendConfig
    from migrator.stores import Stores

_FREE_OPTIONS = {"batch_size", "dry_run", "verbose"}


def open_run(journal: Journal, stores: Stores, resume: bool | str) -> RunState | None:
    """Return the run to resume, or None for a new one; raise where an open run stands in the way."""
    open_runs = [state for state in journal.runs() if state.unfinished and state.opened is not None]
    if isinstance(resume, str):
        state = journal.state(journal.resolve(resume))
        if state.opened is None or state.opened.pair != stores.pair:
            msg = f"run {state.run_id} belongs to other stores"
            raise UsageError(msg, hint=f"`memmig resume {state.run_id}` takes its own")
        open_runs = [state] if state.unfinished else []
        if not open_runs:
            msg = f"run {state.run_id} is {state.status}: there is nothing to resume"
            raise UsageError(msg, hint="leave --resume away to start a new run")
    standing = [s for s in open_runs if s.opened is not None and s.opened.target_store == stores.target_store]
    for state in standing:
        if state.status == "rolling-back":
            msg = f"the rollback of run {state.run_id} is not finished"
            raise UnfinishedRun(msg, hint=f"finish it: `memmig rollback {state.run_id}`")
        if not resume or state.opened is None or state.opened.pair != stores.pair:
            msg = f"run {state.run_id} on this target is not finished"
            raise UnfinishedRun(msg, hint=f"`memmig resume {state.run_id}` or `memmig rollback {state.run_id}`")
    return standing[-1] if standing else None


def began_with(opened: RunOpened) -> MigrationOptions:
    """Return the options that the journal keeps of a run; those that this version does not know are left out."""
    known = {f.name for f in fields(MigrationOptions)}
    return MigrationOptions(**{key: value for key, value in opened.options.items() if key in known})


def kept_options(state: RunState, asked: MigrationOptions) -> MigrationOptions:
    """Return the options of the run's beginning; a different one that was asked for is refused."""
    assert state.opened is not None  # noqa: S101 - only opened runs are resumed
    kept = began_with(state.opened)
    plain = MigrationOptions()
    for name in sorted(asdict(plain).keys() - _FREE_OPTIONS):
        value = getattr(asked, name)
        if value != getattr(plain, name) and value != getattr(kept, name):
            msg = f"the run began with {name} = {getattr(kept, name)!r} and keeps that"
            raise UsageError(msg, hint="resume it without that option")
    return replace(kept, batch_size=asked.batch_size)


def kept_config(began: dict[str, Any], asked: BackendConfig) -> BackendConfig:
    """Return how the run reads or writes a store: as it began; a different layout that was asked for is refused."""
    kept = config_of(began)
    if asked.layout not in {None, kept.layout}:
        msg = f"the run began with the layout {kept.layout or 'of the file'} and keeps that"
        raise UsageError(msg, hint="resume it without --layout and --from-layout")
    names = ("layout", "all_labels", "label", "id_property")
    return replace(asked, **{name: getattr(kept, name) for name in names})


@contextmanager
def saying_how_to_go_on(state: RunState | None) -> Iterator[None]:
    """Have errors before a resume's first write say so; those of a new run say themselves that nothing was written."""
    try:
        yield
    except MemmigError as error:
        if state is not None:
            on = f"`memmig resume {state.run_id}` goes on, `memmig rollback {state.run_id}` takes it back"
            away = isinstance(error, StoreUnreachable) and error.hint
            error.hint = f"{error.hint}; then {on}" if away else f"nothing more was written; {on}"
        raise

"""``memmig demo``: the whole story on a sample store, in one folder."""

from __future__ import annotations

import tempfile
from contextlib import contextmanager
from hashlib import sha256
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from migrator import urls
from migrator.backends import registry
from migrator.cli import log
from migrator.cli.group import ALWAYS, STORES, Command
from migrator.cli.options import global_options, settings
from migrator.cli.output import counts_table, escape
from migrator.cli.runner import output_of
from migrator.errors import StoreRefused, UsageError, VerificationFailed
from migrator.models import BackendConfig, BackendType, MigrationOptions, MigrationResult

if TYPE_CHECKING:
    from collections.abc import Iterator

    from migrator.cli.output import Output

_SOURCE, _TARGET, _LITE, _JOURNAL = "memories-0.12.db", "memories-0.13.db", "graph.db", "journal.db"
#: What an earlier demo left: these, and what engines put beside them under these names.
_OURS = (_SOURCE, _TARGET, _LITE, _JOURNAL)
#: Stands in every folder that a demo began in: without it, a file of one of these names is somebody's own.
_SENTINEL = ".memmig-demo"
_SHOWN_STEPS = 8


@click.command(cls=Command, codes=(*ALWAYS, *STORES, 30))
@click.option(
    "--folder",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("memmig-demo"),
    metavar="DIR",
    help="Where everything happens. Default: ./memmig-demo.",
)
@click.option("--temporary", is_flag=True, help="Use a temporary folder, and remove it afterwards.")
@global_options
@click.pass_context
def demo(ctx: click.Context, /, folder: Path, temporary: bool) -> int:
    """See it work: a sample store is migrated, compared, looked at in the journal, and taken back.

    The sample has 300 memories in memorygraph's layout 0.12. It goes into layout 0.13, and into FalkorDBLite where that
    is installed. Nothing outside the folder is touched.
    """
    log.configure(settings(ctx))
    output = output_of(ctx)
    with _place(folder, temporary=temporary) as place:
        story = _Story(output, place)
        story.tell()
        if output.as_json:
            output.document(story.document())
        if not temporary:
            output.line()
            output.line(f"Everything is in {escape(str(place))}: look around, then delete it.")
            output.line("Your own: memmig migrate --to sqlite:///new.db --dry-run")
    return 0


@contextmanager
def _place(folder: Path, *, temporary: bool) -> Iterator[Path]:
    if temporary:
        with tempfile.TemporaryDirectory(prefix="memmig-demo-") as made:
            yield Path(made)
        return
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        sentinel = folder / _SENTINEL
        ours = (_SENTINEL, *_OURS) if sentinel.is_file() and not sentinel.is_symlink() else ()
        left = [path for path in folder.iterdir() if ours and path.is_file() and path.name.startswith(ours)]
        alien = sorted(path.name for path in folder.iterdir() if path not in left)
        if alien:
            message = f"the folder {folder} holds something that is not the demo's: {alien[0]}"
            raise UsageError(message, hint="give another one with --folder")
        # First the sentinel, so that a demo that is killed on the way leaves a folder that the next one may clear.
        sentinel.write_text("memmig demo made this folder and clears it when it is run again.\n", encoding="utf-8")
        for path in left:
            if path != sentinel:
                path.unlink()
    except OSError as error:
        message = f"the folder {folder} cannot be used: {error.strerror}"
        raise StoreRefused(message, hint="give another one with --folder, or use --temporary") from error
    yield folder.resolve()


class _Story:
    """The steps, told while they happen."""

    def __init__(self, output: Output, folder: Path) -> None:
        self._output = output
        self._folder = folder
        self._journal = folder / _JOURNAL
        self._results: dict[str, MigrationResult] = {}
        self._source = BackendConfig(backend=BackendType.SQLITE, path=folder / _SOURCE)
        self._target = BackendConfig(backend=BackendType.SQLITE, path=folder / _TARGET, layout="0.13")

    def tell(self) -> None:
        """Do everything. Raises VerificationFailed where something is not as it was promised."""
        sample = files("migrator").joinpath("data", "sample-0.12.db").read_bytes()
        (self._folder / _SOURCE).write_bytes(sample)
        before = self._snapshot()
        self._head("The sample", f"{urls.show({'backend': 'sqlite', 'path': _SOURCE})} is a store of memorygraph 0.12.")
        self._step("dry run", "A dry run writes nothing and shows what would happen", self._target, dry_run=True)
        self._expect(self._snapshot() == before, "the dry run changed a file")
        first = self._step("migrate", "Into layout 0.13: every record is journaled, written, compared", self._target)
        self._step("again", "The same once more: nothing to do", self._target)
        self._lite()
        self._show_journal(first.run_id)
        self._roll_back(first.run_id, before)

    def _lite(self) -> None:
        missing = registry.missing_driver(BackendType.FALKORDBLITE)
        if missing:
            self._head("FalkorDBLite", "is not installed here, so it is left out: pip install 'memmig[falkordblite]'")
            return
        lite = BackendConfig(backend=BackendType.FALKORDBLITE, path=self._folder / _LITE, graph=urls.DEFAULT_GRAPH)
        self._step("falkordblite", "Into FalkorDBLite, a graph store in a file", lite)

    def _step(self, name: str, title: str, target: BackendConfig, *, dry_run: bool = False) -> MigrationResult:
        from migrator.manager import run_migrate

        command = f"memmig migrate --from sqlite:///{_SOURCE} --to {target.backend}:///{Path(str(target.path)).name}"
        self._head(title, command + (" --dry-run" if dry_run else ""))
        options = MigrationOptions(dry_run=dry_run)
        result = run_migrate(self._source, target, options, journal_path=self._journal)
        self._results[name] = result
        for line in counts_table({"memories": dict(result.memories), "relationships": dict(result.relationships)}):
            self._output.line(f"  {line}", indent=4)
        if not dry_run:
            check = result.verification
            self._output.line(f"  {check.matched} compared and equal, {check.different + check.missing} not", indent=4)
            self._expect(check.status == "passed", f"verification {check.status}")
        return result

    def _show_journal(self, run_id: str) -> None:
        from journal.store import Journal

        self._head("The journal knows every step and every id", f"memmig journal events {run_id[:8]}")
        with Journal.open(self._journal, mode="read") as journal:
            types = [stored.event.type for stored in journal.events(run_id)]
            for name in types[:_SHOWN_STEPS]:
                self._output.line(f"  {name}")
            if len(types) > _SHOWN_STEPS:
                self._output.line(f"  … and {len(types) - _SHOWN_STEPS} more")
            entry = next(journal.entries(run_id))
        self._head("One of the ids", f"memmig journal find {escape(entry.entity_id)}")
        self._output.line(f"  {entry.action} {entry.kind}, digest {str(entry.after_digest)[:16]}…", indent=4)

    def _roll_back(self, run_id: str, before: dict[str, str]) -> None:
        from migrator.manager import run_rollback

        self._head("Taken back, exactly", f"memmig rollback {run_id[:8]}")
        result = run_rollback(run_id, journal_path=self._journal)
        self._results["rollback"] = result
        deleted = result.memories["deleted"], result.relationships["deleted"]
        self._output.line(f"  {deleted[0]} memories and {deleted[1]} relationships deleted", indent=4)
        after = {name: digest for name, digest in self._snapshot().items() if not name.startswith(_LITE)}
        self._expect(after == before, "the target is not as it was before")
        self._output.line(f"  {_TARGET} did not exist before: it is gone again", indent=4)
        self._output.line(f"  {_SOURCE} has the same SHA-256 as at the beginning", indent=4)

    def _snapshot(self) -> dict[str, str]:
        """Return the SHA-256 of every file but the journal's."""
        found = sorted(path for path in self._folder.iterdir() if path.is_file())
        return {p.name: sha256(p.read_bytes()).hexdigest() for p in found if not p.name.startswith(_JOURNAL)}

    def _head(self, title: str, text: str) -> None:
        self._output.line()
        self._output.line(f"== {title}")
        self._output.line(f"  {text}", indent=4)

    def _expect(self, holds: bool, otherwise: str) -> None:
        if not holds:
            message = f"the demo went wrong: {otherwise}"
            raise VerificationFailed(message, hint=f"look into {self._folder}, and report it")

    def document(self) -> dict[str, Any]:
        """Return what happened, for ``--json``."""
        steps = {name: result.as_json() for name, result in self._results.items()}
        return {"folder": str(self._folder), "steps": steps, "target_as_before": True}

"""Measures memmig on this machine and prints a table: ``python bench/run.py --small`` (1,000) or ``--full`` (100,000).

Every figure is of whole processes, start-up included, as a user waits for them; the median of three runs.
The journal's share is measured inside one more run, by a clock around the journal's own methods.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import inspect
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from bench import bolt  # noqa: E402 - the path must be set first
from tests.checker.graphserver import Graph, connect  # noqa: E402
from tests.checker.rawstore import read  # noqa: E402
from tests.engines import falkordb_server, live  # noqa: E402
from tests.large import make_large_012  # noqa: E402
from tests.nasty import neutral, write_012, write_graph  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence


@dataclass(frozen=True, slots=True)
class Measured:
    """One process with its children: seconds (wall clock, processor), peak of their resident MiB together, output."""

    seconds: float
    processor: float
    mebibytes: float
    document: dict[str, Any]


def _resident(pid: int) -> int:
    """Return the resident memory of a process and its children in KiB; 0 for one that has ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return 0
    own = next((int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS:")), 0)
    return own + sum(_resident(int(child)) for child in children)


def _process(words: Sequence[str | Path], folder: Path, more: Mapping[str, str] | None = None) -> Measured:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "HOME": str(folder)} | (more or {})
    with (folder / "out").open("w+b") as out:
        started = time.perf_counter()
        process = subprocess.Popen([sys.executable, *map(str, words)], cwd=folder, env=environment, stdout=out)
        peak = 0
        while True:
            done, status, usage = os.wait4(process.pid, os.WNOHANG)
            seconds = time.perf_counter() - started
            if done:
                break
            peak = max(peak, _resident(process.pid))
            # Short runs are not to be measured in steps of the sampling.
            time.sleep(min(0.05, max(0.001, seconds / 100)))
        peak = max(peak, usage.ru_maxrss)
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        text = out.read()
    if process.returncode != 0:
        message = f"{words} ended with {process.returncode}: {text.decode()[-2000:]}"
        raise SystemExit(message)
    return Measured(seconds, usage.ru_utime + usage.ru_stime, peak / 1024, json.loads(text))


def _migrate(source: str, target: str, folder: Path, *more: str) -> Measured:
    journal = Path(tempfile.mkdtemp(dir=folder)) / "journal.db"
    words: list[str | Path] = [
        "-m",
        "migrator",
        "migrate",
        "--from",
        source,
        "--to",
        target,
        "--journal",
        journal,
        "--json",
        "--quiet",
        *more,
    ]
    found = _process(words, folder)
    if found.document["verification"]["status"] != "passed":
        message = f"not verified: {found.document}"
        raise SystemExit(message)
    return found


def _line(name: str, value: str, note: str = "") -> None:
    print(f"| {name:<52} | {value:>16} | {note}")


def _report(name: str, count: int, found: Sequence[Measured]) -> None:
    """Print a job's figures beside the targets: 1 s for 1,000 of each kind; 15,000 records/s, 200 MiB for 100,000."""
    seconds = statistics.median(run.seconds for run in found)
    spread = ", ".join(f"{run.seconds:.2f}" for run in found)
    small = count <= 1_000
    wanted = "target: at most 1; " if small else ""
    _line(f"{name}: seconds", f"{seconds:.2f}", f"{wanted}runs: {spread}; processor: {found[0].processor:.2f}")
    _line(f"{name}: records/s", f"{2 * count / seconds:,.0f}", "" if small else "target: at least 15,000")
    peak = max(run.mebibytes for run in found)
    _line(f"{name}: peak RSS", f"{peak:.0f} MiB", "target: at most 200; all processes together")


def _sqlite(count: int, runs: int, folder: Path) -> None:
    source = folder / "source.db"
    make_large_012(source, count, count, seed=1)
    size = f"{count:,} + {count:,}"
    for layout in ("0.12", "0.13"):
        found = []
        for run in range(runs):
            target = folder / f"target-{layout}-{run}.db"
            found.append(_migrate(f"sqlite:///{source}", f"sqlite:///{target}", folder, "--layout", layout))
            if (layout, run) != ("0.13", 0):
                target.unlink()
        _report(f"SQLite 0.12 to {layout}, {size}", count, found)
    again = [_migrate(f"sqlite:///{source}", f"sqlite:///{folder}/target-0.13-0.db", folder) for _ in range(runs)]
    seconds = statistics.median(run.seconds for run in again)
    _line(f"the same again, nothing to write, {size}: seconds", f"{seconds:.2f}")
    words: list[str | Path] = [
        Path(__file__),
        "--journal-share",
        f"sqlite:///{source}",
        f"sqlite:///{folder}/shared.db",
    ]
    share = _process(words, folder).document
    shown = f"{share['journal']:.2f} s of {share['total']:.2f} s; most: {share['most']}"
    _line(
        f"the journal's share, {size}",
        f"{100 * share['journal'] / share['total']:.1f} %",
        f"target: at most 15; {shown}",
    )


def _falkordb(count: int, runs: int, folder: Path) -> None:
    if not live("falkordb"):
        _line("FalkorDB", "not live here")
        return
    source = folder / "graph-source.db"
    make_large_012(source, count, count, seed=2)
    records = neutral(read(f"sqlite:///{source}"))
    size = f"{count:,} + {count:,}"
    there, back, raw_there, raw_back = [], [], [], []
    with falkordb_server() as server:
        client = connect("127.0.0.1", server.port)
        for run in range(runs):
            started = time.perf_counter()
            write_graph(Graph(client, f"raw-{run}"), *records)
            raw_there.append(time.perf_counter() - started)
            url = f"falkordb://127.0.0.1:{server.port}/memmig-{run}"
            there.append(_migrate(f"sqlite:///{source}", url, folder).seconds)
            started = time.perf_counter()
            found = read(f"falkordb://127.0.0.1:{server.port}/raw-{run}")
            write_012(folder / f"raw-{run}.db", *neutral(found))
            raw_back.append(time.perf_counter() - started)
            back.append(_migrate(url, f"sqlite:///{folder}/back-{run}.db", folder, "--layout", "0.12").seconds)
        client.close()
    for name, ours, raw in (("SQLite to FalkorDB", there, raw_there), ("FalkorDB to SQLite", back, raw_back)):
        mine, plain = statistics.median(ours), statistics.median(raw)
        _line(f"{name}, {size}: records/s", f"{2 * count / mine:,.0f}", f"{mine:.2f} s")
        _line(f"{name}, {size}: ratio to a plain loop", f"{mine / plain:.2f}", f"plain loop {plain:.2f} s, unverified")


def _neo4j(count: int, runs: int, folder: Path) -> None:
    if not live("neo4j"):
        _line("Neo4j", "not live here")
        return

    def run(words: Sequence[str | Path], where: Path, secrets: Mapping[str, str]) -> dict[str, Any]:
        found = _process(words, where, secrets)
        return found.document | {"seconds of the process": found.seconds}

    bolt.measure(count, runs, folder, run, _line)


class _Clock:
    """Adds up the time inside wrapped calls; a call within a call counts once."""

    def __init__(self) -> None:
        self.depth = 0
        self.seconds = 0.0
        self.by_name: dict[str, float] = {}

    def enter(self) -> float:
        self.depth += 1
        return time.perf_counter()

    def leave(self, name: str, started: float) -> None:
        self.depth -= 1
        if self.depth == 0:
            spent = time.perf_counter() - started
            self.seconds += spent
            self.by_name[name] = self.by_name.get(name, 0.0) + spent

    def around(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def steps(found: Any) -> Any:  # noqa: ANN401 - whatever the journal yields
            while True:
                started = self.enter()
                try:
                    item = next(found, None)
                finally:
                    self.leave(name, started)
                if item is None:
                    return
                yield item

        @functools.wraps(function)
        def timed(*arguments: Any, **options: Any) -> Any:  # noqa: ANN401 - whatever the journal takes and gives
            started = self.enter()
            try:
                found = function(*arguments, **options)
            finally:
                self.leave(name, started)
            return steps(found) if inspect.isgenerator(found) else found

        return timed


def _journal_share(source: str, target: str) -> None:
    from journal.store import Journal
    from migrator import BackendConfig, MigrationManager, MigrationOptions

    clock = _Clock()
    for name, function in list(vars(Journal).items()):
        if inspect.isfunction(function) and (not name.startswith("_") or name == "__exit__"):
            setattr(Journal, name, clock.around(name, function))
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        manager = MigrationManager(Path(folder) / "journal.db")
        work = manager.migrate(BackendConfig.from_url(source), BackendConfig.from_url(target), MigrationOptions())
        asyncio.run(work)
    total = time.perf_counter() - started
    most = max(clock.by_name, key=lambda name: clock.by_name[name])
    print(json.dumps({"journal": clock.seconds, "total": total, "most": f"{most} {clock.by_name[most]:.2f} s"}))


def main() -> None:
    """Parse the arguments and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true", help="1,000 + 1,000 records, medians of three runs")
    parser.add_argument("--full", action="store_true", help="100,000 + 100,000 records; graphs with 20,000")
    parser.add_argument("--journal-share", nargs=2, metavar=("SOURCE", "TARGET"), help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.journal_share:
        _journal_share(*chosen.journal_share)
        return
    for count, graph, runs, wanted in ((1_000, 1_000, 3, chosen.small), (100_000, 20_000, 3, chosen.full)):
        if wanted or (count == 1_000 and not chosen.full):
            with tempfile.TemporaryDirectory(prefix="memmig-bench-") as folder:
                _sqlite(count, runs, Path(folder))
                _falkordb(graph, runs, Path(folder))
                _neo4j(count, runs, Path(folder))


if __name__ == "__main__":
    main()

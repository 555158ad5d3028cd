"""Measures the nights after a first run, SQLite to FalkorDB: ``python bench/night.py [records of each kind]``.

Every figure is of a whole process, as a user waits for it. A night without changes must leave the server's own count of
changes as it was; the first run and what 1 % changed are checked by memmig's verification.
"""

from __future__ import annotations

import json
import os
import resource
import sqlite3
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.checker.graphserver import connect  # noqa: E402 - the path must be set first
from tests.engines import falkordb_server  # noqa: E402
from tests.large import make_large_012  # noqa: E402

if TYPE_CHECKING:
    import redis

RECORDS = 100_000
RUNS = 3


def _memmig(folder: Path, *words: str | Path) -> tuple[float, float, dict[str, Any]]:
    """Return seconds on the clock and of the processor, and the result's document."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "HOME": str(folder)}
    command = [sys.executable, "-m", "migrator", "migrate", *map(str, words), "--json", "--quiet"]
    used, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, check=False)
    seconds, now = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        message = f"{words} ended with {done.returncode}: {done.stderr.decode()}"
        raise SystemExit(message)
    return seconds, now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime, json.loads(done.stdout)


def _changes(client: redis.Redis) -> tuple[Any, ...]:
    found: Any = client.info()
    return found["rdb_changes_since_last_save"], found["rdb_last_save_time"], found["rdb_saves"]


def change(source: Path, every: int) -> int:
    """Change every n-th memory and relationship as their client would, stamped now; return how many of each."""
    moment = datetime.now(UTC).isoformat()
    with closing(sqlite3.connect(source)) as connection, connection:
        memories = connection.execute(
            "UPDATE nodes SET properties = json_set(properties, '$.title', 'changed', '$.updated_at', ?)"
            " WHERE rowid % ? = 0",
            (moment, every),
        ).rowcount
        connection.execute(
            "UPDATE relationships SET properties = json_set(properties, '$.context', 'changed', '$.last_validated', ?)"
            " WHERE rowid % ? = 0",
            (moment, every),
        )
    return memories


def main() -> None:
    """Measure, and print a line per kind of night."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else RECORDS
    with tempfile.TemporaryDirectory(prefix="memmig-bench-") as place, falkordb_server() as server:
        folder, source = Path(place), Path(place) / "source.db"
        make_large_012(source, count, count, seed=5)
        pair = ("--from", f"sqlite:///{source}", "--to", f"falkordb://127.0.0.1:{server.port}/nights")
        pair = (*pair, "--journal", str(folder / "journal.db"))
        client = connect("127.0.0.1", server.port)
        seconds, used, _ = _memmig(folder, *pair)
        print(f"{'first run':<40} {seconds:6.2f} s, processor {used:.2f} s")
        for name, words, wanted in (
            ("no change, --since last", ("--since", "last"), 1),
            ("no change, full comparison", ("--full",), 8),
        ):
            for _ in range(RUNS):
                before = _changes(client)
                seconds, used, found = _memmig(folder, *pair, *words)
                written = "nothing written" if _changes(client) == before else "WRITTEN TO"
                read = found["memories"]["read"] + found["relationships"]["read"]
                told = f"target: at most {wanted} s; {read} read; {written}; {found['warnings']}"
                print(f"{name:<40} {seconds:6.2f} s, processor {used:.2f} s; {told}")
        for _ in range(RUNS):
            number = change(source, 100)
            seconds, used, found = _memmig(folder, *pair, "--since", "last")
            if found["memories"]["updated"] != number or found["relationships"]["updated"] != number:
                message = f"not what was changed: {found}"
                raise SystemExit(message)
            print(f"{'1 % changed, --since last':<40} {seconds:6.2f} s, processor {used:.2f} s; target: at most 3 s")
        client.close()


if __name__ == "__main__":
    main()

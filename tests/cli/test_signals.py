"""Ctrl-C and SIGTERM, sent for real."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from typing import IO, TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tests.cli.conftest import Memmig

POLLING = """
import time
from migrator.cli.signals import Stop
with Stop() as stop:
    print("ready", flush=True)
    while not stop(): time.sleep(0.01)
    print("asked", int(stop()), flush=True)
    {then}
print("left", flush=True)
"""


def until(stream: IO[str] | None, text: str) -> str:
    """Read lines up to the one that holds ``text``."""
    assert stream is not None
    for line in stream:
        if text in line:
            return line
    pytest.fail(f"{text!r} never came")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_asks_and_the_second_forces(number: signal.Signals, environment: Mapping[str, str]) -> None:
    for then, code in (("pass", 0), ("time.sleep(60)", -number)):
        with subprocess.Popen(
            [sys.executable, "-c", POLLING.format(then=then)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            until(process.stdout, "ready")
            process.send_signal(number)
            assert until(process.stdout, "asked").split()[1] == str(int(number))
            if code:
                process.send_signal(number)
            assert process.wait(timeout=30) == code
            assert process.stderr is not None
            assert "stopping after this batch" in process.stderr.read()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.usefixtures("source")
def test_an_interrupted_run_says_so_and_is_resumed(
    number: signal.Signals, code: int, tmp_path: Path, environment: Mapping[str, str], memmig: Memmig
) -> None:
    move = ["migrate", "--from", "sqlite:///source.db", "--to", "sqlite:///target.db", "--batch-size", "2"]
    with subprocess.Popen(
        [sys.executable, "-m", "migrator", *move, "--json"],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        until(process.stderr, "import: memories")
        process.send_signal(number)
        out, complaint = process.communicate(timeout=60)
    assert process.returncode == code
    found = json.loads(out)
    assert (found["status"], found["error"]["exit_code"]) == ("interrupted", code)
    assert found["error"]["name"] == "Interrupted"
    assert "memmig resume" in found["error"]["hint"]
    assert "Traceback" not in complaint

    stands = memmig(*move, "--json")
    assert (stands.returncode, json.loads(stands.stdout)["error"]["name"]) == (50, "UnfinishedRun")
    done = memmig("resume", "--json")
    resumed = json.loads(done.stdout)
    assert (done.returncode, resumed["run_id"], resumed["status"]) == (0, found["run_id"], "finished")
    assert (resumed["memories"]["read"], resumed["verification"]["matched"]) == (300, 664)

"""compose.yaml and ``make test-servers``: nothing listens beyond this machine, no password is known beforehand."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]
COMPOSE = (CHECKOUT / "compose.yaml").read_text("utf-8")
VARIABLE = "MEMMIG_SERVERS_PASSWORD"


def _blocks(section: str) -> dict[str, str]:
    """Return the entries of a top-level section with their text, anchors resolved one level deep."""
    found = re.search(rf"^{section}:\n((?:[ #].*\n|\n)*)", COMPOSE, re.MULTILINE)
    assert found, section
    blocks = dict(re.findall(r"^  ([\w-]+):\n?((?:    .*\n|\n)*)", found[1], re.MULTILINE))
    anchors = dict(re.findall(r"^    \w+: &(\w+)\n((?:      .*\n)*)", COMPOSE, re.MULTILINE))
    return {name: re.sub(r"\*(\w+)\n", lambda match: "\n" + anchors[match[1]], text) for name, text in blocks.items()}


SERVICES = _blocks("services")
KEPT = ("neo4j", "memgraph", "falkordb")


def test_the_services_are_the_three_servers_and_those_of_the_tests() -> None:
    assert list(SERVICES) == [*KEPT, "memgraph-test-1", "memgraph-test-2"]
    for name, text in SERVICES.items():
        assert ("profiles: [test]" in text) == (name not in KEPT)
        assert re.search(r"image: [\w/-]+:v?\d+\.\d+\S*$", text, re.MULTILINE), "an image without a version"


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_listens_on_this_machine_only_and_says_when_it_is_ready(name: str) -> None:
    text = SERVICES[name]
    ports = re.search(r"    ports:\n((?:      - .*\n)+)", text)
    assert ports
    for line in ports[1].splitlines():
        assert re.fullmatch(r'      - "127\.0\.0\.1:\d+:\d+"(?: #.*)?', line)
    assert re.search(r"    healthcheck:.*\n      test: \[.CMD-SHELL", text)
    assert "network_mode" not in text


def test_no_two_services_want_one_port() -> None:
    ports = re.findall(r'"127\.0\.0\.1:(\d+):', COMPOSE)
    assert len(ports) == len(set(ports))


@pytest.mark.parametrize("name", KEPT)
def test_a_service_keeps_its_data_and_has_no_password_of_its_own(name: str) -> None:
    text = SERVICES[name]
    assert re.search(rf"    volumes:\n      - {name}-data:/", text)
    assert f"{name}-data" in _blocks("volumes")
    assert f"${{{VARIABLE}:?" in text
    # Nothing that looks like a password but what the variable says.
    rest = re.sub(rf"\$\{{{VARIABLE}:\?[^}}]*\}}", "GIVEN", text)
    assert "${" not in rest
    for line in rest.splitlines():
        if re.search(r"PASS|AUTH", line) or "requirepass" in line:
            assert line.rstrip('"').endswith("GIVEN"), line


def test_memgraph_keeps_what_it_acknowledged() -> None:
    for name, text in SERVICES.items():
        if name.startswith("memgraph"):
            assert "--storage-wal-enabled=true" in text
            assert "--storage-properties-on-edges=true" in text
            assert re.search(r"--storage-snapshot-interval-sec=[1-9]", text)


@pytest.mark.skipif(
    shutil.which("docker") is None
    or subprocess.run(["docker", "compose", "version"], capture_output=True, check=False).returncode != 0,
    reason="docker compose is not here",
)
def test_compose_itself_reads_the_file_and_asks_for_the_password() -> None:
    environment = {key: value for key, value in os.environ.items() if key != VARIABLE}
    command = ["docker", "compose", "--profile", "test", "config", "--quiet"]
    refused = subprocess.run(command, cwd=CHECKOUT, env=environment, capture_output=True, text=True, check=False)
    assert refused.returncode != 0
    assert f"set {VARIABLE} to a password" in refused.stderr
    done = subprocess.run(command, cwd=CHECKOUT, env=environment | {VARIABLE: os.urandom(8).hex()}, check=False)
    assert done.returncode == 0


# --- tools/servers.sh -------------------------------------------------------------------------------------------------


def _servers(tools: Path, docker: str | None, *command: str) -> subprocess.CompletedProcess[str]:
    tools.mkdir()
    for tool in ("sh", "env", "cat"):
        (tools / tool).symlink_to(shutil.which(tool) or "")
    if docker is not None:
        (tools / "docker").write_text(f"#!/bin/sh\necho \"$*\" >>'{tools}/calls'\n{docker}\n", "utf-8")
        (tools / "docker").chmod(0o755)
    words = ["/bin/sh", "tools/servers.sh", *command]
    return subprocess.run(
        words, cwd=CHECKOUT, env={"PATH": str(tools)}, capture_output=True, text=True, check=False, timeout=60
    )


@pytest.mark.parametrize(
    ("docker", "reason"),
    [
        (None, "docker is not installed"),
        ('[ "$1" != compose ]', "docker has no compose plugin"),
        ('[ "$1" = compose ]', "no Docker daemon answers"),
    ],
)
def test_without_docker_there_is_one_line(tmp_path: Path, docker: str | None, reason: str) -> None:
    done = _servers(tmp_path / "tools", docker, "echo", "ran")
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"test-servers: {reason}; ")


@pytest.mark.parametrize(("command", "code"), [("env", 0), ("exit 7", 7)])
def test_the_command_gets_the_servers_and_they_are_stopped(tmp_path: Path, command: str, code: int) -> None:
    done = _servers(tmp_path / "tools", "exit 0", "sh", "-c", command)
    assert done.returncode == code
    if code == 0:
        assert "MEMMIG_TEST_MEMGRAPH_URI=bolt://127.0.0.1:17687" in done.stdout.splitlines()
        assert "MEMMIG_TEST_MEMGRAPH_SECOND_URI=bolt://127.0.0.1:17688" in done.stdout.splitlines()
        for uri in re.findall(r"127\.0\.0\.1:\d+", done.stdout):
            assert f'"{uri}:7687"' in COMPOSE
    calls = (tmp_path / "tools" / "calls").read_text().splitlines()
    assert [call.split()[3] for call in calls if "--profile" in call] == ["up", "rm"]
    for call in calls:
        if "--profile" in call:
            assert not {"neo4j", "memgraph", "falkordb"} & set(call.split()), "servers of the user's own"
            assert {"memgraph-test-1", "memgraph-test-2"} <= set(call.split())


def test_servers_that_do_not_start_are_stopped_and_said(tmp_path: Path) -> None:
    done = _servers(tmp_path / "tools", 'case "$*" in *" up "*) exit 1 ;; esac', "echo", "ran")
    assert (done.returncode, done.stdout) == (1, "")
    assert "test-servers: the servers did not start" in done.stderr
    calls = (tmp_path / "tools" / "calls").read_text().splitlines()
    assert calls[-1].split()[3] == "rm"

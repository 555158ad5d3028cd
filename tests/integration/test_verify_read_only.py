"""A store that can only be read is verified (0). What a run refuses as its target, its dry run refuses as well (21)."""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from migrator.backends import registry
from migrator.cli import main
from migrator.errors import StoreRefused
from migrator.models import BackendConfig
from tests import engines
from tests.running import Ran, listing, memmig
from tests.stores import STORE_012, STORE_013

if TYPE_CHECKING:
    from collections.abc import Iterator

NOBODY = 65534


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that another user may enter, with a source and a journal's folder."""
    with tempfile.TemporaryDirectory(prefix="memmig-test-") as name:
        folder = Path(name)
        shutil.copyfile(STORE_012, folder / "source.db")
        yield folder
        folder.chmod(0o700)


def only_readable(folder: Path) -> None:
    """Take every right to write from everything; root's tests become somebody who is bound by that."""
    for place in (*folder.rglob("*"), folder):
        if os.geteuid() == 0:
            os.chown(place, NOBODY, NOBODY)
        place.chmod(0o555 if place.is_dir() else 0o444)


def as_nobody(*words: str | Path) -> int:
    """Run a command without root's rights, and return its exit code."""
    child = os.fork()
    if child == 0:
        try:
            if os.geteuid() == 0:
                os.setgid(NOBODY)
                os.setuid(NOBODY)
            os._exit(main([*map(str, words), "--quiet"]))
        finally:
            os._exit(99)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def moved(folder: Path, target: str) -> tuple[str, Ran]:
    """Migrate the source there; return the run's id and how it ended."""
    words = ("migrate", "--from", f"sqlite:///{folder}/source.db", "--to", target, "--json")
    ran = memmig(*words, "--journal", folder / "state" / "journal.db", cwd=folder)
    return ran.document["run_id"], ran


def test_a_sqlite_file_in_a_folder_where_nothing_can_be_written(folder: Path) -> None:
    target, journal = f"sqlite:///{folder}/target.db", folder / "state" / "journal.db"
    run_id, ran = moved(folder, target)
    assert ran.code == 0, ran.err
    verify = (
        ("verify", run_id, "--journal", journal),
        ("verify", "--from", f"sqlite:///{folder}/source.db", "--to", target),
    )
    move = ("migrate", "--from", f"sqlite:///{folder}/source.db", "--to", target, "--journal", journal)
    # Imports everything while that is allowed.
    assert [main([*map(str, words), "--quiet"]) for words in (*verify, (*move, "--dry-run"))] == [0, 0, 0]
    only_readable(folder)
    before = listing(folder)
    assert [as_nobody(*words) for words in verify] == [0, 0]
    assert as_nobody(*move, "--dry-run") == 21
    assert as_nobody("rollback", run_id, "--dry-run", "--journal", journal) == 21
    assert listing(folder) == before


@pytest.fixture
def replica(falkordb_server: engines.FalkorServer) -> Iterator[engines.FalkorServer]:
    """A replica of the server that others write to."""
    options = ("--replicaof", "127.0.0.1", str(falkordb_server.port))
    with engines.falkordb_server("none", options=options) as server:
        yield server


def test_a_replica(folder: Path, falkordb_server: engines.FalkorServer, replica: engines.FalkorServer) -> None:
    shutil.copyfile(STORE_013, folder / "source.db")
    graph = folder.name
    _, ran = moved(folder, f"falkordb://127.0.0.1:{falkordb_server.port}/{graph}")
    assert ran.code == 0, ran.err
    with falkordb_server.client() as client:
        assert client.wait(1, 10_000) == 1, "the replica has it all"
    stores = ("--from", f"sqlite:///{folder}/source.db", "--to", f"falkordb://127.0.0.1:{replica.port}/{graph}")
    journal = ("--journal", folder / "state" / "other.db")
    assert memmig("verify", *stores, *journal, cwd=folder).code == 0
    for more in ("--dry-run", "--no-verify"):
        ran = memmig("migrate", *stores, more, *journal, cwd=folder)
        assert (ran.code, "replica" in ran.err) == (21, True), ran.err


@pytest.mark.skipif(not engines.live("falkordblite"), reason="FalkorDBLite is not live here")
def test_a_falkordblite_file_that_another_program_has_open(folder: Path) -> None:
    config = BackendConfig.from_url(f"falkordblite:///{folder}/target.db")
    assert moved(folder, f"falkordblite:///{folder}/target.db")[1].code == 0
    with closing(registry.open_backend(config, role="to")) as writer:
        writer.open("write")
        before = listing(folder)
        with closing(registry.open_backend(config, role="to")) as other:
            assert other.open("read").exists
            with pytest.raises(StoreRefused, match="another program"):
                other.open("dry")
        assert listing(folder) == before
    with closing(registry.open_backend(config, role="to")) as alone:
        before = listing(folder)
        assert alone.open("dry").exists
    assert listing(folder) == before


def test_a_target_with_an_id_that_stands_twice(folder: Path, falkordb_server: engines.FalkorServer) -> None:
    falkordb_server.query(folder.name, "UNWIND [1, 2] AS n CREATE (:Memory {id: 'twice', title: n})")
    target = f"falkordb://127.0.0.1:{falkordb_server.port}/{folder.name}"
    words = ("migrate", "--from", f"sqlite:///{folder}/source.db", "--to", target)
    for more in ("--dry-run", "--no-verify"):
        ran = memmig(*words, more, "--journal", folder / "state" / "journal.db", cwd=folder)
        assert (ran.code, "twice" in ran.err) == (21, True), ran.err

"""``make mutation``: seed one bug at a time into a copy of the tree; the suite that is named for it must turn red.

Writes docs/explanation/mutations.md. Ends with 1 where a bug's text no longer stands in the code exactly once, where a
named suite is red without any bug, or where a bug passes it. Words after the command choose the bugs that hold them;
then nothing is written.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tools.protocol_bugs import PROTOCOL_BUGS
from tools.store_bugs import STORE_BUGS

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from tools.bugs import Mutation

MUTATIONS = (*PROTOCOL_BUGS, *STORE_BUGS)
ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "explanation" / "mutations.md"
SECONDS = 600  #: after which a suite is ended
_FAILED = 1  #: pytest's exit code where tests failed; any other but 0 says that they could not be run

_HEAD = """\
# Bugs that the tests find

`make mutation` seeds these bugs one at a time into a copy of the tree, runs the suite that is named, and fails unless
it turns red. It writes this page; the seconds are those until the first test failed, the start of a server included.

| bug | suite | seconds |
|---|---|---|
"""


def not_applicable(mutation: Mutation, root: Path = ROOT) -> list[str]:
    """Return which texts of a bug do not stand exactly once in their file."""
    found = [(edit.file, (root / edit.file).read_text(encoding="utf-8").count(edit.old)) for edit in mutation.edits]
    return [f"{mutation.bug}: stands {count} times in {file}" for file, count in found if count != 1]


def _copy(to: Path) -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, text=True)  # noqa: S607 - whichever git the user has
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, to / name)


def _tests(tree: Path, suites: Collection[str], keyword: str) -> tuple[int, str]:
    """Run suites in a tree until the first failure; return pytest's exit code and the end of what it said."""
    # Compiled files would be taken for those of a text of the same size and second.
    environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "1"}
    only = ["-k", keyword] if keyword else []
    words = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *suites, *only]
    try:
        ran = subprocess.run(  # noqa: S603 - our own words
            words, cwd=tree, env=environment, capture_output=True, text=True, timeout=SECONDS * len(suites), check=False
        )
    except subprocess.TimeoutExpired:
        return -1, f"no end after {SECONDS} s"
    said = ran.stdout.strip().splitlines()[-1:] + ran.stderr.strip().splitlines()[-1:]
    if ran.returncode == 0 and " passed" not in ran.stdout:
        return -1, f"ran nothing: {' '.join(said)}"
    return ran.returncode, " ".join(said)


def _green(tree: Path, mutations: Sequence[Mutation]) -> list[str]:
    """Return what is red without any bug: it would prove nothing."""
    found = []
    for keyword in sorted({mutation.keyword for mutation in mutations}):
        suites = sorted({mutation.suite for mutation in mutations if mutation.keyword == keyword})
        code, said = _tests(tree, suites, keyword)
        if code:
            found.append(f"red without a bug: {' '.join(suites)} ({keyword}): {said}")
    return found


def _seed(tree: Path, mutation: Mutation) -> tuple[int, str, float]:
    originals = {edit.file: (tree / edit.file).read_text(encoding="utf-8") for edit in mutation.edits}
    for edit in mutation.edits:
        place = tree / edit.file
        place.write_text(place.read_text(encoding="utf-8").replace(edit.old, edit.new), encoding="utf-8")
    started = time.monotonic()
    code, said = _tests(tree, [mutation.suite], mutation.keyword)
    seconds = time.monotonic() - started
    for file, text in originals.items():
        (tree / file).write_text(text, encoding="utf-8")
    return code, said, seconds


def _row(mutation: Mutation, seconds: float) -> str:
    keyword = f" (`-k '{mutation.keyword}'`)" if mutation.keyword else ""
    return f"| {mutation.bug} | `{mutation.suite}`{keyword} | {seconds:.0f} |"


def main(words: Sequence[str]) -> int:
    """Seed every bug, or those that hold one of the words; return the exit code."""
    chosen = [one for one in MUTATIONS if not words or any(word in f"{one.bug} {one.suite}" for word in words)]
    wrong = [line for mutation in chosen for line in not_applicable(mutation)]
    rows = []
    if not wrong:
        with tempfile.TemporaryDirectory(prefix="memmig-mutation-") as folder:
            _copy(Path(folder))
            wrong += _green(Path(folder), chosen)
            for mutation in chosen:
                code, said, seconds = _seed(Path(folder), mutation)
                rows.append(_row(mutation, seconds))
                if code != _FAILED:
                    wrong.append(f"not found: {mutation.bug}: {mutation.suite}: {said}")
                print(f"{'red' if code == _FAILED else 'NOT RED':8} {seconds:6.1f} s  {mutation.bug}", flush=True)
    for line in wrong:
        print(line, file=sys.stderr)
    if not wrong and not words:
        PAGE.write_text(_HEAD + "\n".join(rows) + "\n", encoding="utf-8")
    print(f"{len(rows) - sum(line.startswith('not found') for line in wrong)} of {len(chosen)} bugs found")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""``python -m migrator`` is ``memmig``, and the only entrance that heeds the fault points of :mod:`migrator.faults`."""

from __future__ import annotations

import os
import sys

from migrator.cli import main


def heed_faults() -> None:
    """Install the fault points that the environment asks for, if it asks."""
    if {"MEMMIG_FAULT", "MEMMIG_FAULT_COUNT"} & os.environ.keys():
        # Not imported otherwise: it needs the journal, which `--help` does without.
        from migrator import faults

        faults.install(os.environ)


if __name__ == "__main__":
    sys.exit(main(prepare=heed_faults))

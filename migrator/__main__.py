"""``python -m migrator`` is ``memmig``, and the only entrance that heeds the fault points of :mod:`migrator.faults`."""

from __future__ import annotations

import os
import sys

from migrator.cli import main


def _heed_faults() -> None:
    if {"MEMMIG_FAULT", "MEMMIG_FAULT_COUNT"} & os.environ.keys():
        # Not imported otherwise: it needs the journal, which `--help` does without.
        from migrator import faults

        faults.install(os.environ)


if __name__ == "__main__":
    sys.exit(main(prepare=_heed_faults))

"""Where memmig keeps its own things when nobody says where."""

from __future__ import annotations

import os
from pathlib import Path


def default_journal() -> Path:
    """Return the journal's place: ``MEMMIG_JOURNAL``, or a file in the user's state folder. Makes nothing."""
    from platformdirs import user_state_path

    named = os.environ.get("MEMMIG_JOURNAL")
    return Path(named) if named else user_state_path("memmig") / "journal.db"

"""Where memmig keeps its own things when nobody says where."""

from __future__ import annotations

import os
from pathlib import Path


def default_journal() -> Path:
    """Return the journal's place: ``MEMMIG_JOURNAL``, or a file in the user's state folder. Makes nothing."""
    from platformdirs import user_state_path

    named = os.environ.get("MEMMIG_JOURNAL")
    return Path(named) if named else user_state_path("memmig") / "journal.db"


def default_config() -> Path:
    """Return the place of the user's own configuration file, whatever the working directory holds. Makes nothing."""
    named = os.environ.get("XDG_CONFIG_HOME", "")
    # The base directory specification leaves a relative one out of account.
    folder = Path(named) if named.startswith("/") else Path("~/.config").expanduser()
    return folder / "memmig" / "config.toml"

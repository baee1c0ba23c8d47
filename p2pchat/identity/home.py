"""The data directory of a login, which holds its profiles. It imports little: what a client waits for looks there."""

from __future__ import annotations

import os
from pathlib import Path

from p2pchat.errors import P2PChatError

HOME_VARIABLE = "P2PCHAT_HOME"


def home_directory() -> Path:
    """Return the data directory of this login; it may not exist yet. Raises P2PChatError if the login has no home."""
    moved = os.environ.get(HOME_VARIABLE)
    if moved:
        return Path(os.path.expanduser(moved)).absolute()
    from platformdirs import user_data_path

    try:
        return user_data_path("p2pchat", appauthor=False)
    except RuntimeError:
        raise P2PChatError(
            f"this login has no home directory: name a directory for its profiles in {HOME_VARIABLE}"
        ) from None

"""The fixtures of tests/terminal/."""

import sys

from tests.terminal.conftest import home, peer, terminal

if sys.platform == "win32":  # no pseudo-terminals
    collect_ignore_glob = ["test_*.py"]

__all__ = ["home", "peer", "terminal"]

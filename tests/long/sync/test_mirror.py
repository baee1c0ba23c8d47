"""Long tests of `tests/sync/test_mirror.py`."""

from __future__ import annotations

import subprocess
import sys


def test_importing_p2pchat_sync_loads_neither_asyncio_nor_a_peer() -> None:
    code = "import sys, p2pchat.sync; print({'sqlite3', 'asyncio', 'cryptography', 'p2pchat.peer'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=True)
    assert done.stdout.strip() == "set()"

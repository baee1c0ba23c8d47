"""Long tests of `tests/storage/test_memory.py`."""

from __future__ import annotations

import subprocess
import sys


def test_memory_storage_imports_no_database() -> None:
    check = "import sys, p2pchat.storage.memory; sys.exit('sqlite3' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check]).returncode == 0

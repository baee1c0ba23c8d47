"""Program that runs the database server of a test run: python -m tests.databases.server_process KIND RUN

Every worker holds a shared lock on a file while it uses the server. The keeper waits for an exclusive lock on it, and
gets that when the last worker has released its lock, ended, or was killed.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from tests.databases.servers import KINDS, memory_directory


def keep(kind: str, run: Path) -> None:
    if sys.platform == "win32":
        raise NotImplementedError
    import fcntl

    server = KINDS[kind](memory_directory())
    address = run / f"{kind}.json"
    try:
        server.make()
        server.start()
        address.write_text(json.dumps(str(server.directory)))
        os.write(1, b"ready\n")
        with open(run / f"{kind}.users", "ab") as users:
            fcntl.flock(users, fcntl.LOCK_EX)
            address.unlink(missing_ok=True)
            server.end()
    finally:
        server.end()


if __name__ == "__main__":
    keep(sys.argv[1], Path(sys.argv[2]))

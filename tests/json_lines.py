"""JSON lines of a file that a thread or another process may still be writing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def lines_of(path: Path) -> list[dict[str, Any]]:
    """Return the objects of all lines that are complete: a last one without its end is still being written."""
    return [json.loads(line) for line in path.read_bytes().split(b"\n")[:-1]]

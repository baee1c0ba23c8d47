"""Free space where the history is kept: the library accepts nothing below its limit."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from p2pchat import Settings
from p2pchat.apps.cli.commands.doctoring.finding import Finding, ok, warning, wrong

SOON = 4  # times the limit: tell before it is too late


def free_bytes(directory: Path) -> int:
    return shutil.disk_usage(directory).free


def disk(directory: Path, free_bytes: Callable[[Path], int] = free_bytes) -> Finding:
    """Look at the free space of an existing directory. Raises OSError when the system does not tell."""
    free, limit = free_bytes(directory), Settings().min_free_disk_bytes
    text = f"{size(free)} are free where {directory} is"
    if free < limit:
        return wrong("disk", f"{text}: below {size(limit)} nothing is accepted", "free some space on that disk")
    if free < SOON * limit:
        return warning("disk", f"{text}; below {size(limit)} nothing is accepted", "free some space on that disk")
    return ok("disk", text)


def size(count: int) -> str:
    """Return bytes as people read them."""
    for unit, bytes_ in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if count >= bytes_:
            return f"{count / bytes_:.1f} {unit}" if count < 10 * bytes_ else f"{count / bytes_:.0f} {unit}"
    return f"{count} bytes"

"""Resources used by a process of this user, read from outside; 0 if the system does not say (only Linux does)."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path

USER, SYSTEM = 11, 12  # fields of /proc/PID/stat after the name: proc(5) counts them as 14 and 15
FORGET_PEAK = "5"  # for /proc/PID/clear_refs, proc(5): resets VmHWM to the current memory


def cpu_of(pid: int | None) -> float:
    """Return the CPU seconds of all its threads, user and system, in steps of 10 ms."""
    if pid is None or sys.platform == "win32":
        return 0.0
    try:
        fields = Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[USER]) + int(fields[SYSTEM])) / float(os.sysconf("SC_CLK_TCK"))


def forget_peak(pid: int) -> None:
    """Reset the peak memory."""
    with suppress(OSError):
        Path(f"/proc/{pid}/clear_refs").write_text(FORGET_PEAK, "utf-8")


def peak_of(pid: int) -> int:
    """Return the peak memory since the reset, in KiB."""
    return _status(pid, "VmHWM")


def resident_of(pid: int) -> int:
    """Return its current memory, in KiB."""
    return _status(pid, "VmRSS")


def _status(pid: int, name: str) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text("utf-8").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith(name)), 0)


def bytes_in(directory: Path) -> int:
    """Return the bytes on the disk of all files below, as counted by the file system."""
    files = [path.stat() for path in directory.rglob("*") if path.is_file()]
    return sum(getattr(each, "st_blocks", 0) * 512 or each.st_size for each in files)

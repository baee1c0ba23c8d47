"""Directories for benchmark files: the kind of file system, and an error if it is in memory."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

IN_MEMORY = frozenset({"tmpfs", "ramfs", "devtmpfs"})


class NoDisk(Exception):
    """A durable work was requested on a file system in memory."""


def file_system(path: Path) -> str:
    """Return the type of the file system of a path, e.g. ext4; "unknown" if the system does not say."""
    if sys.platform == "darwin":
        return _ask_mount(path)
    try:
        mounts = Path("/proc/mounts").read_text("utf-8").splitlines()
    except OSError:
        return "unknown"
    found, kind = "", "unknown"
    for line in mounts:
        _, where, this_kind, *_ = line.split(" ")
        where = where.encode().decode("unicode_escape")
        if len(where) >= len(found) and path.resolve().is_relative_to(where):
            found, kind = where, this_kind
    return kind


def _ask_mount(path: Path) -> str:
    try:
        said = subprocess.run(["mount"], capture_output=True, encoding="utf-8", check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    found, kind = "", "unknown"
    for line in said.splitlines():  # /dev/disk1s1 on / (apfs, local, journaled)
        where, _, rest = line.partition(" on ")[2].partition(" (")
        if len(where) >= len(found) and path.resolve().is_relative_to(where):
            found, kind = where, rest.partition(",")[0].rstrip(")")
    return kind


def check_durable(path: Path) -> str:
    """Return the type of file system there. Raises NoDisk for one in memory."""
    kind = file_system(path)
    if kind in IN_MEMORY:
        raise NoDisk(
            f"{path} is on {kind}, which is memory, so nothing there is durable: name a directory on a disk with --dir"
        )
    return kind


@contextmanager
def workplace(above: Path | None) -> Iterator[Path]:
    """Create a directory on a disk below `above`, and remove it at the end.

    None means the system's directory for temporary files or, if that is in memory, the current directory.
    """
    places = [above] if above else [Path(tempfile.gettempdir()), Path.cwd()]
    for place in places[:-1]:
        if file_system(place) not in IN_MEMORY:
            places = [place]
    check_durable(places[-1])
    directory = Path(tempfile.mkdtemp(prefix="p2pchat-bench-", dir=places[-1]))
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def free_gib(path: Path) -> float:
    """Return the free space there, in GiB."""
    return shutil.disk_usage(path).free / 2**30


def cores() -> int:
    """Return the number of cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

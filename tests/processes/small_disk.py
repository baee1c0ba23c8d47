"""Disks of limited size: a mount namespace with an in-memory file system at one directory.

    disk = SmallDisk(directory, mib=8); disk.under("python", ...)    the words that run a command where it is mounted
    disk.grow(64); disk.run("ls", ...)

The namespace lives as long as the process that holds it, which ends with this one: nothing stays mounted, and no
process outside sees the mount. Without root rights it is inside a new user namespace, if the kernel allows that.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from tests.processes.machines import IS_ROOT, SYSTEM

TOOLS = ("unshare", "nsenter", "mount", "cat")


class NoMounts(Exception):
    """This system allows no mounts; the text says why."""


class SmallDisk:
    """A file system of a given size in MiB.

    Raises:
        NoMounts: This system allows no mounts.
    """

    def __init__(self, directory: Path, mib: float) -> None:
        missing = [tool for tool in TOOLS if shutil.which(tool) is None]
        if SYSTEM != "linux" or missing:
            raise NoMounts(f"{missing[0]} is not installed" if missing else "mount namespaces are Linux's")
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        user = [] if IS_ROOT else ["--user", "--map-root-user"]
        script = f'mount -t tmpfs -o size={_size(mib)},mode=700 none "$0" && echo ready && exec cat'
        self._process = subprocess.Popen(
            ["unshare", *user, "--mount", "sh", "-c", script, str(directory)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self._process.stdout is not None and self._process.stderr is not None
        if self._process.stdout.readline() != "ready\n":
            reason = self._process.stderr.read().strip()
            self.let_go()
            raise NoMounts(reason or "unshare failed")

    @property
    def namespace(self) -> str:
        """Return the file below /proc of its mount namespace."""
        return f"/proc/{self._process.pid}/ns/mnt"

    def under(self, *command: str) -> list[str]:
        """Return the words that run a command where this disk is mounted."""
        user = [] if IS_ROOT else ["--user", "--preserve-credentials"]
        return ["nsenter", "--target", str(self._process.pid), *user, "--mount", f"--wd={Path.cwd()}", "--", *command]

    def run(self, *command: str) -> str:
        """Run a command there to its end; return its output."""
        return subprocess.run(self.under(*command), capture_output=True, text=True, timeout=60, check=True).stdout

    def grow(self, mib: float) -> None:
        """Set its size."""
        self.run("mount", "-o", f"remount,size={_size(mib)}", str(self.directory))

    def close_to_writers(self) -> None:
        """Make it read-only, which is only possible while nothing is writing."""
        self.run("mount", "-o", "remount,ro", str(self.directory))

    def let_go(self) -> None:
        """End it, with everything on it."""
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            if stream is not None:
                stream.close()
        self._process.wait(timeout=60)


def _size(mib: float) -> str:
    return f"{round(mib * 1024)}k"

"""Startup costs: `import p2pchat` and `python -m p2pchat --version`, compared with an empty Python."""

from __future__ import annotations

import subprocess
import sys
import time

from benchmarks.results import Row, Setting, middle, shown
from benchmarks.workers import ROOT

TIMES = 9


def _took(*arguments: str, times: int) -> float:
    took = []
    for _ in range(times + 1):
        begun = time.perf_counter()
        subprocess.run([sys.executable, *arguments], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        took.append(time.perf_counter() - begun)
    return middle(took[1:])  # the first run may compile modules


def run(setting: Setting) -> list[Row]:
    """Measure all three as whole processes."""
    times = min(TIMES, setting.singles)
    empty = _took("-c", "pass", times=times)
    imported = _took("-c", "import p2pchat", times=times)
    peer = _took("-c", "from p2pchat import TCPPeer", times=times)
    version = _took("-m", "p2pchat", "--version", times=times)
    beside = f"an empty Python takes {shown(empty)} s"
    return [
        Row("python -m p2pchat --version", version, "s", "under 0.3 s", beside),
        Row("import p2pchat", imported - empty, "s", "under 0.15 s", beside, "over the empty one"),
        Row("from p2pchat import TCPPeer", peer - empty, "s", "", beside, "over the empty one"),
    ]

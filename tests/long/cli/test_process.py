"""Signals and limits of files that end or change the process in which they are tried."""

from __future__ import annotations

import subprocess
import sys

import pytest

# In a process of its own: a second signal may end it.
TWO_SIGNALS = """
import asyncio, signal, sys, types
from p2pchat.cli import process
process.time = types.SimpleNamespace(monotonic=iter(map(float, sys.argv[1:])).__next__)
async def main():
    shutdown = process.Shutdown()
    with shutdown.on_signals():
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)
        print(await shutdown.wait())
asyncio.run(main())
"""


@pytest.mark.skipif(sys.platform == "win32", reason="asyncio has SIGINT for itself there")
@pytest.mark.parametrize(
    ("second", "ended"), [(100.4, (0, "terminated\n")), (100.6, (130, ""))], ids=["in time", "too late"]
)
def test_a_second_signal_counts_as_the_first_for_a_moment(second: float, ended: tuple[int, str]) -> None:
    command = [sys.executable, "-c", TWO_SIGNALS, "100.0", str(second)]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)
    assert (done.returncode, done.stdout) == ended, done.stderr


# In a process of its own: a lowered hard limit cannot be raised again.
LIMITED = """
import resource, sys
from p2pchat.cli.process import allow_descriptors
resource.setrlimit(resource.RLIMIT_NOFILE, (int(sys.argv[1]), int(sys.argv[2])))
allow_descriptors(400)
print(*resource.getrlimit(resource.RLIMIT_NOFILE))
"""


@pytest.mark.parametrize(
    "soft, hard, then", [(128, 500, 400), (128, 300, 300), (450, 500, 450)], ids=["raised", "to the hard limit", "left"]
)
def test_the_soft_limit_of_files_is_raised_as_far_as_allowed(soft: int, hard: int, then: int) -> None:
    if sys.platform == "win32":
        pytest.skip("Windows has no such limit")
    command = [sys.executable, "-c", LIMITED, str(soft), str(hard)]
    out = subprocess.run(command, capture_output=True, encoding="utf-8", check=True).stdout
    assert out.split() == [str(then), str(hard)]

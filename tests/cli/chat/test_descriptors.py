"""A peer allows itself as many open files as a mesh needs, and never more than the system gives it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from p2pchat.cli.chat.startup import allow_descriptors

# In a process of its own: a hard limit that was lowered cannot be raised again.
LIMITED = """
import resource, sys
from p2pchat.cli.chat.startup import allow_descriptors
resource.setrlimit(resource.RLIMIT_NOFILE, (int(sys.argv[1]), int(sys.argv[2])))
allow_descriptors(400)
print(*resource.getrlimit(resource.RLIMIT_NOFILE))
"""


@pytest.mark.parametrize(
    "soft, hard, then", [(128, 500, 400), (128, 300, 300), (450, 500, 450)], ids=["raised", "to the hard limit", "left"]
)
def test_the_soft_limit_is_raised_as_far_as_it_goes(soft: int, hard: int, then: int) -> None:
    if sys.platform == "win32":
        pytest.skip("Windows has no such limit")
    command = [sys.executable, "-c", LIMITED, str(soft), str(hard)]
    out = subprocess.run(command, capture_output=True, encoding="utf-8", check=True).stdout
    assert out.split() == [str(then), str(hard)]


def test_on_windows_there_is_nothing_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setitem(sys.modules, "resource", None)  # it has no such module
    allow_descriptors()

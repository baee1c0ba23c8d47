"""The number of steps that something takes, in place of its time: calls of functions of p2pchat."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any


def count_steps(call: Callable[[], object]) -> int:
    """Return how many functions, comprehensions and generators of p2pchat a call enters."""
    count = 0

    def on_event(frame: FrameType, event: str, _: Any) -> None:
        nonlocal count
        count += event == "call" and frame.f_globals.get("__name__", "").startswith("p2pchat.")

    former, collects = sys.getprofile(), gc.isenabled()
    gc.disable()  # a collection would close generators of earlier tests, which enters them
    sys.setprofile(on_event)
    try:
        call()
    finally:
        sys.setprofile(former)
        if collects:
            gc.enable()
    return count

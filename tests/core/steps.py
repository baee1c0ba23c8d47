"""The number of steps that something takes, in place of its time: calls of functions of p2pchat, bytecodes, lines."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any


@contextmanager
def _uncollected() -> Iterator[None]:
    """Collect no garbage: that would close generators of earlier tests, which enters them."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


def count_steps(call: Callable[[], object]) -> int:
    """Return how many functions, comprehensions and generators of p2pchat a call enters."""
    count = 0

    def on_event(frame: FrameType, event: str, _: Any) -> None:
        nonlocal count
        count += event == "call" and frame.f_globals.get("__name__", "").startswith("p2pchat.")

    former = sys.getprofile()
    with _uncollected():
        sys.setprofile(on_event)
        try:
            call()
        finally:
            sys.setprofile(former)
    return count


def count_at(steps: Callable[[int], int], *sizes: int) -> list[int]:
    """Return what is counted at each size, after once in vain: what a call remembers costs the next nothing."""
    steps(sizes[0])
    return [steps(size) for size in sizes]


def cost_of(call: Callable[[], object]) -> tuple[int, set[str]]:
    """Return how many bytecodes of the core a call runs, and the modules there that it enters."""
    bytecodes, modules = 0, set[str]()

    def on_call(frame: FrameType, event: str, _: Any) -> Any:
        name = frame.f_globals.get("__name__", "")
        if not name.startswith("p2pchat.core."):
            return None
        modules.add(name)
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        return on_opcode

    def on_opcode(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal bytecodes
        bytecodes += event == "opcode"
        return on_opcode

    former = sys.gettrace()
    with _uncollected():
        sys.settrace(on_call)
        try:
            call()
        finally:
            sys.settrace(former)
    return bytecodes, modules


def count_lines(call: Callable[[], object]) -> int:
    """Return how many lines of p2pchat a call runs, those of each turn of a loop too."""
    count = 0

    def on_line(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal count
        if not frame.f_globals.get("__name__", "").startswith("p2pchat."):
            return None
        count += event == "line"
        return on_line

    former = sys.gettrace()
    sys.settrace(on_line)
    try:
        call()
    finally:
        sys.settrace(former)
    return count

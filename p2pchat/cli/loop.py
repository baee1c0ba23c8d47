"""Event loop of the commands: uvloop's or winloop's where installed (extra `fast`), else asyncio's own.

The library itself runs in the loop of its caller.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable
from importlib import import_module

VARIABLE = "P2PCHAT_LOOP"  # "asyncio" selects asyncio's own loop
FASTER = "winloop" if sys.platform == "win32" else "uvloop"


def make_runner() -> asyncio.Runner:
    """Return a runner with the fastest loop that is installed."""
    return asyncio.Runner(loop_factory=_factory())


def _factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    if os.environ.get(VARIABLE) == "asyncio":
        return None
    try:
        module = import_module(FASTER)
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = module.new_event_loop
    return factory

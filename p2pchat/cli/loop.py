"""Which event loop a program of ours runs in: uvloop's or winloop's where one is installed, else asyncio's own.

Both are in the extra `fast`. The library itself runs in whatever loop its caller has.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable
from importlib import import_module

VARIABLE = "P2PCHAT_LOOP"  # "asyncio" there passes over what is installed
FASTER = "winloop" if sys.platform == "win32" else "uvloop"


def make_runner() -> asyncio.Runner:
    """Return a runner for the quickest loop there is."""
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

"""Something that may take long, told on a terminal while it does."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Coroutine
from typing import Any, TypeVar

from p2pchat.safe_text import safe_line

T = TypeVar("T")
SAID_AFTER = 1.0  # seconds; and again so often
_CLEAR_LINE = "\r\x1b[K"


async def told_while(what: str, work: Coroutine[Any, Any, T]) -> T:
    """Await `work`; while it takes long say on stderr, if that is a terminal, what is done and for how long."""
    task = asyncio.ensure_future(work)
    seconds = 0.0
    try:
        while not task.done():
            await asyncio.wait([task], timeout=SAID_AFTER)
            seconds += SAID_AFTER
            if not task.done():
                _say(f"\r{safe_line(what)} ... {seconds:.0f} s")
        return await task
    finally:
        task.cancel()  # Ctrl-C: end what runs in a thread too
        await asyncio.gather(task, return_exceptions=True)
        if seconds > SAID_AFTER:
            _say(_CLEAR_LINE)


def _say(text: str) -> None:
    if sys.stderr is not None and sys.stderr.isatty():
        print(text, end="", file=sys.stderr, flush=True)

"""What is done whole or not at all: whoever gives up waiting for it does not stop it halfway.

A server cancels what it does for a client that is gone. What is on disk by then, or known to others, has to be in
memory too, or a restart would know other users and names than the peer that ran.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


async def whole(doing: Coroutine[Any, Any, T]) -> T:
    """Do it to its end, and return or raise what comes of it; cancelled, it goes on, and nobody hears how it went."""
    task = asyncio.ensure_future(doing)
    task.add_done_callback(_hear)
    await asyncio.wait([task])  # which cancels nothing
    return task.result()


def _hear(task: asyncio.Task[Any]) -> None:
    """What failed when nobody waits any more is no error of the loop's."""
    if not task.cancelled():
        task.exception()

"""The ways a program sends many texts with p2pchat; each returns a receipt that covers all of them."""

from __future__ import annotations

import asyncio
from typing import Any

AT_ONCE = 1_000  # texts of one send_many; two of them are out at a time
GATHERED = 2_000  # `send` at once, as the goal says


async def many(peer: Any, to: Any, texts: list[str], at_once: int = AT_ONCE) -> Any:
    """Two send_many out at a time."""
    queue = iter(range(0, len(texts), at_once))

    async def writer() -> tuple[int, Any]:
        newest: tuple[int, Any] = (-1, None)
        for first in queue:
            newest = first, await peer.send_many(to, texts[first : first + at_once])
        return newest

    return max(await asyncio.gather(writer(), writer()), key=lambda each: each[0])[1]


async def gather(peer: Any, to: Any, texts: list[str], at_once: int = GATHERED) -> Any:
    """So many tasks with one `send` each."""
    receipts: list[Any] = []
    for first in range(0, len(texts), at_once):
        receipts = await asyncio.gather(*(peer.send(to, said) for said in texts[first : first + at_once]))
    return receipts[-1]  # a mark says "everything up to here"


async def loop(peer: Any, to: Any, texts: list[str]) -> Any:
    """The plain loop everybody writes."""
    receipt = None
    for said in texts:
        receipt = await peer.send(to, said)
    return receipt


WAYS = {"many": many, "gather": gather, "loop": loop}

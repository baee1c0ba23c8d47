"""Ways to send many texts with p2pchat. Each returns a receipt that covers all of them."""

from __future__ import annotations

import asyncio
from typing import Any

AT_ONCE = 1_000  # texts in one send_many; two of them are under way at a time
GATHERED = 2_000  # `send` calls at once; from the goal


async def many(peer: Any, to: Any, texts: list[str], at_once: int = AT_ONCE) -> Any:
    """Send with two send_many under way at a time."""
    queue = iter(range(0, len(texts), at_once))

    async def writer() -> tuple[int, Any]:
        newest: tuple[int, Any] = (-1, None)
        for first in queue:
            newest = first, await peer.send_many(to, texts[first : first + at_once])
        return newest

    return max(await asyncio.gather(writer(), writer()), key=lambda each: each[0])[1]


async def gather(peer: Any, to: Any, texts: list[str], at_once: int = GATHERED) -> Any:
    """Send with one task and one `send` for each text."""
    receipts: list[Any] = []
    for first in range(0, len(texts), at_once):
        receipts = await asyncio.gather(*(peer.send(to, said) for said in texts[first : first + at_once]))
    return receipts[-1]  # its mark covers all earlier texts


async def loop(peer: Any, to: Any, texts: list[str], at_once: int = 1) -> Any:
    """Send in a plain loop, always one at once."""
    receipt = None
    for said in texts:
        receipt = await peer.send(to, said)
    return receipt


WAYS = {"many": many, "gather": gather, "loop": loop}

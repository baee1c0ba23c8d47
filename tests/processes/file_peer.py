"""A peer as a process of its own that sends a file or fetches one: `python -m tests.processes.file_peer ROLE ...`.

send DATA PORT FILE         writes a message with the file to the room, once for a profile, and stays
fetch DATA PORT ENDPOINT TRACE  fetches the file of the newest message in the room; prints the bytes that are here,
                            then "whole", and stays. All frames are in the file TRACE
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine
from typing import Any

from p2pchat import Message, TCPPeer


async def send(data: str, port: str, file: str) -> None:
    async with TCPPeer(int(port), data=data, name="ada") as peer:
        if not await peer.room.history():
            await peer.send(peer.room, "", files=[file])
        print("ready", flush=True)
        await asyncio.Event().wait()


async def fetch(data: str, port: str, endpoint: str, trace: str) -> None:
    async with TCPPeer(int(port), endpoint, data=data, name="bob", trace=trace) as peer:
        while not (posts := [post for post in await peer.room.history() if isinstance(post, Message)]):
            await asyncio.sleep(0.02)  # poll: the storage answers, and no event says it
        (attachment,) = posts[-1].attachments
        await attachment.fetch(lambda here, _: print(here, flush=True))
        print("whole", await attachment.is_here(), flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    roles: dict[str, Callable[..., Coroutine[Any, Any, None]]] = {"send": send, "fetch": fetch}
    asyncio.run(roles[sys.argv[1]](*sys.argv[2:]))

"""A peer as a process of its own that is killed with content on its disk that no message names: `... DATA KIND`.

deleted     it sends a file and deletes the message, and is killed once that is durable
unsent      it is killed after it kept the content of a message, before it wrote that
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys

from p2pchat import TCPPeer
from p2pchat.messaging.attachments import kept_files


def end() -> None:
    if sys.platform == "win32":
        os.kill(os.getpid(), signal.SIGTERM)  # which ends a process there at once
    else:
        os.kill(os.getpid(), signal.SIGKILL)


async def main(data: str, kind: str) -> None:
    async with TCPPeer(data=data, name="ada") as peer:
        await peer.send(peer.room, "stays", files=[("stays", b"stays")])
        if kind == "deleted":
            receipt = await peer.send(peer.room, "goes", files=[("goes", bytes(300_000)), ("too", b"stays")])
            await peer.delete(receipt.id)
            end()
        async with kept_files(peer._content, [("goes", bytes(300_000))]):
            end()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))

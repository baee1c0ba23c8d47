"""A bot that echoes every direct message, and misses none, even while it is down.

python examples/echo_bot.py 8088 localhost:8080
"""

import asyncio
import sys
from contextlib import suppress

from p2pchat import Message, TCPPeer


async def main(port: int, *endpoints: str) -> None:
    async with TCPPeer(port, *endpoints, name="echo") as peer:
        print(f"echo listens on {peer.endpoint}", flush=True)
        async for message in peer.events(Message):  # asking for the next event acknowledges this one
            if message.conversation.kind == "dm" and not (message.old or message.deleted or message.automatic):
                await peer.send(message.conversation, message.text, reply_to=message, automatic=True)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit("usage: python examples/echo_bot.py PORT [HOST:PORT ...]")
    with suppress(KeyboardInterrupt):
        asyncio.run(main(int(sys.argv[1]), *sys.argv[2:]))

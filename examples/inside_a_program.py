"""Chat inside another asyncio program: two workers share a loop with a peer and report to the room.

python examples/inside_a_program.py 8090 localhost:8080
"""

import asyncio
import sys
from contextlib import suppress

from p2pchat import Joined, Left, TCPPeer


async def work(name: str, peer: TCPPeer) -> None:
    for step in range(1, 4):
        await asyncio.sleep(0.01)  # the real work of the program
        await peer.broadcast(f"{name}: step {step} of 3")


async def watch(peer: TCPPeer) -> None:
    async for event in peer.events(Joined, Left):
        print(event.to_dict()["event"], event.user.label, flush=True)


async def main(port: int, *endpoints: str) -> None:
    async with TCPPeer(port, *endpoints, name="builder") as peer:
        watching = asyncio.create_task(watch(peer))
        await asyncio.gather(work("compile", peer), work("test", peer))
        watching.cancel()
        for message in await peer.history("room", limit=6):
            print(message.sender.label, message.text, flush=True)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit("usage: python examples/inside_a_program.py PORT [HOST:PORT ...]")
    with suppress(KeyboardInterrupt):
        asyncio.run(main(int(sys.argv[1]), *sys.argv[2:]))

"""A peer in its own process, with the library alone: `library_peer.py ROLE NAME DATA [HOST:PORT]`.

The role `write` writes batches of texts into the room at a given rate, from a line `go` on standard input until a line
`stop`; `read` counts what arrives. Both report events as lines of JSON: `port`, `online` (how many others are),
`written`, `read` (how many so far, and for readers whether each came once and in order), `done` (the writer: everything
is delivered to all). They end with their input.
"""

from __future__ import annotations

import asyncio
import json
import sys

from p2pchat import Joined, Left, Message, TCPPeer

BATCH = 100  # texts in one send_many
RATE = 1000  # texts a second: in 25 s they are 21 MiB, more than the writer may grow
TEXT = "{:08}" + "x" * 892


def say(**told: int | bool | str) -> None:
    print(json.dumps(told), flush=True)


async def who(peer: TCPPeer) -> None:
    """Report how many others are online, now and at each change, and who left."""
    events = peer.events(Joined, Left, consumer=None)
    say(online=online(peer), left="")
    async for event in events:
        say(online=online(peer), **({"left": event.user.name} if isinstance(event, Left) else {}))


def online(peer: TCPPeer) -> int:
    return sum(user.status == "online" and not user.is_me for user in peer.users())


async def lines() -> asyncio.StreamReader:
    """Return standard input."""
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    return reader


async def write(peer: TCPPeer, go: asyncio.Event, stop: asyncio.Event) -> None:
    await go.wait()
    stopped = asyncio.ensure_future(stop.wait())
    loop = asyncio.get_running_loop()
    written, began = 0, loop.time()
    while not stopped.done():
        receipts = await peer.send_many(peer.room, [TEXT.format(written + n) for n in range(BATCH)])
        written += BATCH
        await asyncio.wait([stopped], timeout=max(0.0, began + written / RATE - loop.time()))
    say(written=written)
    await receipts[-1].delivered()
    say(done=True)


async def read(peer: TCPPeer) -> None:
    count, whole = 0, True
    async for message in peer.events(Message, start="beginning"):
        whole = whole and message.text == TEXT.format(count)
        count += 1
        if count % BATCH == 0:
            say(read=count, whole=whole)


async def run(role: str, name: str, data: str, *endpoints: str) -> None:
    orders = {b"go\n": asyncio.Event(), b"stop\n": asyncio.Event()}
    async with TCPPeer(0, *endpoints, name=name, data=data) as peer:
        say(port=peer.port)
        work = write(peer, *orders.values()) if role == "write" else read(peer)
        tasks = [asyncio.create_task(who(peer)), asyncio.create_task(work)]
        async for line in await lines():
            orders[line].set()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


if __name__ == "__main__":
    asyncio.run(run(*sys.argv[1:]))

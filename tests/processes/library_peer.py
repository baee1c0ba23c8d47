"""A peer in its own process that uses only the library: `library_peer.py ROLE NAME DATA [HOST:PORT]`.

The role `write` writes batches of texts into the room at a given rate, from a line `go` on standard input until a line
`stop`; `read` counts the texts that arrive. Both print lines of JSON: `port`, `online` (the number of other users
online), `written`, `read` (the number of texts so far, and whether each came once and in order), `done` (from the
writer: everything is delivered to everyone). The process ends at the end of its input.
"""

from __future__ import annotations

import asyncio
import json
import sys

from p2pchat import Joined, Left, Message, Settings, TCPPeer

BATCH = 20  # texts in one send_many
RATE = 200  # texts a second: 1.7 MiB
TEXT = "{:08}" + "x" * 8992
SETTINGS = Settings(dead_after=300.0)  # a stopped peer stays linked, however slow the machine is


def report(**values: int | bool | str) -> None:
    print(json.dumps(values), flush=True)


async def report_presence(peer: TCPPeer) -> None:
    """Report the number of other users online, now and at each change, and the name of a user who left."""
    events = peer.events(Joined, Left, consumer=None)
    report(online=online(peer), left="")
    async for event in events:
        report(online=online(peer), **({"left": event.user.name} if isinstance(event, Left) else {}))


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
    report(written=written)
    await receipts[-1].delivered()
    report(done=True)


async def read(peer: TCPPeer) -> None:
    count, whole = 0, True
    async for message in peer.events(Message, start="beginning"):
        whole = whole and message.text == TEXT.format(count)
        count += 1
        if count % BATCH == 0:
            report(read=count, whole=whole)


async def run(role: str, name: str, data: str, *endpoints: str) -> None:
    orders = {b"go\n": asyncio.Event(), b"stop\n": asyncio.Event()}
    async with TCPPeer(0, *endpoints, name=name, data=data, settings=SETTINGS) as peer:
        report(port=peer.port)
        work = write(peer, *orders.values()) if role == "write" else read(peer)
        tasks = [asyncio.create_task(report_presence(peer)), asyncio.create_task(work)]
        async for line in await lines():
            orders[line].set()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


if __name__ == "__main__":
    asyncio.run(run(*sys.argv[1:]))

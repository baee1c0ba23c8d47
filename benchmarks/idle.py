"""Memory of idle links: the growth of the accepting process per link end."""

from __future__ import annotations

import asyncio
import gc

from benchmarks.frames import End, _contexts
from benchmarks.results import Row, Setting
from benchmarks.workers import Channel, Worker, resident_kib

BURST_BYTES = 78 * 1024  # about one page of catching up
BURSTS = 10
BURST_PINGS = BURST_BYTES // 14  # bytes of a ping


async def take(channel: Channel, directory: str, links: int) -> None:
    """Run as a worker: accept links; report their memory when new, and after traffic in both directions."""
    context, _ = _contexts(directory)
    ends: list[End] = []
    complete = asyncio.Event()

    async def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        end = End(reader, writer, context, server=True)
        await end.client.handshake(30)
        end.client.start()
        ends.append(end)
        if len(ends) >= links + 1:
            complete.set()

    async with await asyncio.start_server(accepted, "127.0.0.1", 0, backlog=512) as server:
        channel.send(port=server.sockets[0].getsockname()[1])
        await channel.receive()  # one link is up; modules it loaded are no cost of a link
        gc.collect()
        before = resident_kib()
        channel.send(go=True)
        await complete.wait()
        gc.collect()
        channel.send(fresh=(resident_kib() - before) / links)
        reported = asyncio.create_task(channel.receive())
        answering = [asyncio.create_task(_answer(end)) for end in ends]
        await asyncio.gather(reported, *answering)
        gc.collect()
        channel.send(used=(resident_kib() - before) / links)
        await channel.closed()


async def _answer(end: End) -> None:
    """Answer each burst with one frame, and the last with a burst."""
    from p2pchat.protocol import Ping, encode

    for number in range(1, BURSTS + 1):
        await end.wait(number)
        end.client.send(encode(Ping()) * (1 if number < BURSTS else BURST_PINGS))


async def give(channel: Channel, directory: str, port: int, links: int) -> None:
    """Run as a worker: dial one link, then the others, then send a burst on each in turn."""
    from p2pchat.client import STREAM_LIMIT_BYTES
    from p2pchat.protocol import Bye, encode

    context = _contexts(directory)[1]

    async def one() -> End:
        streams = await asyncio.open_connection("127.0.0.1", port, limit=STREAM_LIMIT_BYTES)
        end = End(*streams, context, server=False)
        await end.client.handshake(30)
        end.client.start()
        return end

    ends = [await one()]
    channel.send(first=True)
    await channel.receive()
    for _ in range(links):
        ends.append(await one())
    await channel.receive()
    burst = encode(Bye("left", "x" * BURST_BYTES))
    for number in range(1, BURSTS + 1):
        for end in ends:  # in turn, because bytes under way are not memory of an idle link
            end.client.send(burst)
            await end.wait(number if number < BURSTS else BURSTS - 1 + BURST_PINGS)
    channel.send(answered=True)
    await channel.closed()


def run(setting: Setting) -> list[Row]:
    """Measure a link end, new and used."""
    home = setting.directory
    common = {"directory": str(home), "links": setting.links}
    with Worker("idle.take", home=home, **common) as far:
        port = far.get()["port"]
        with Worker("idle.give", home=home, port=port, **common) as near:
            near.get()
            far.put({"first": True})
            far.get()
            near.put({"go": True})
            fresh = far.get()["fresh"]
            near.put({"burst": True})
            near.get()
            far.put({"answered": True})
            used = far.get()["used"]
    note = f"{setting.links} links, growth of the accepting process"
    return [
        Row("memory of an idle link end, fresh", fresh, "KiB", "32 KiB", note=note),
        Row("the same after traffic", used, "KiB", "96 KiB", note=f"{BURSTS} x {BURST_BYTES >> 10} KiB in, one out"),
    ]

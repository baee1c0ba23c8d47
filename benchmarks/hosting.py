"""A room message among gateways of 100 users and among gateways of 1,000, in one process and in turn.

Three gateways each, linked over TCP. Each user of a gateway is hosted and online; the writers are users of all three.
CPU counts, because both communities share the cores. The rows of receipts that one of them stored then say what 10,000
writers of one gateway take beside nine others of 1,000 users, and a node that loads as many says how much memory.
"""

from __future__ import annotations

import asyncio
import gc
import sqlite3
import time
import tracemalloc
from contextlib import AsyncExitStack, closing
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
WRITERS, OTHERS, GUESTS = 10_000, 9, 1_000  # the goal's: of one gateway, and the other gateways with their users


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
    stored = rows(Path(data, str(SIZES[-1]), "0", "history.db"))
    channel.send(took=[took[size] for size in SIZES], rows=stored, bytes=memory())
    await channel.closed()


async def community(stack: AsyncExitStack, data: Path, size: int) -> list[list[HostedUser]]:
    """Start gateways whose users all know each other."""
    from p2pchat import TCPPeer

    gates: list[TCPPeer] = []
    for number in range(GATEWAYS):
        asked = [gates[0].endpoint] if gates else []
        gates.append(await stack.enter_async_context(TCPPeer(0, *asked, data=data / str(number), name=f"gate{number}")))

    async def fill(number: int) -> list[HostedUser]:
        users = await asyncio.gather(*(gates[number].host(f"user{number}x{each}") for each in range(size)))
        for user in users:
            user.set_presence("online")
        return users

    users = list(await asyncio.gather(*map(fill, range(GATEWAYS))))
    for gate in gates:
        async with asyncio.timeout(WITHIN):
            while len(gate.here()) < GATEWAYS * size:
                await asyncio.sleep(0.1)
    return users


def rows(file: Path) -> float:
    """Return the rows of receipts of the goal's size, by those that a gateway stored."""
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as database:

        def count(what: str) -> int:
            return int(database.execute(f"select {what}").fetchone()[0])

        logs = count("count(distinct log) from heard") * (GATEWAYS - 1)
        marks = count("count(*) from heard")
    return WRITERS * OTHERS * marks / logs


def memory() -> int:
    """Return the bytes by which a node grows that loads the receipts of the goal's size."""
    from p2pchat.core.durable_changes import DeliveredMark, Stored
    from p2pchat.core.log import LogId
    from p2pchat.core.node import Node
    from p2pchat.core.node_context import HostedIdentity, NetworkCredentials
    from p2pchat.settings import Settings

    def name(kind: str, number: int) -> str:
        return (kind + f"{number:x}").rjust(64, "0")

    def load(writers: int) -> Node:
        logs = (LogId("0c" * 32, name("d", writer), f"{writer:016x}") for writer in range(writers))
        marks = [
            DeliveredMark(log, name("a", peer), 1 + int(log.run, 16) % 300) for log in logs for peer in range(OTHERS)
        ]
        own = HostedIdentity(name("e", 1), "gate", lambda data: bytes(64))
        return Node(
            settings=Settings(), peer=own.id, users=[own], draw=bytes,
            network=NetworkCredentials("0a" * 16, "0b" * 32), stored=Stored(delivered=marks),
        )  # fmt: skip

    load(1)
    tracemalloc.start()
    node = load(WRITERS)
    gc.collect()
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert node.replicator.receipts.delivered.position(LogId("0c" * 32, name("d", 1), f"{1:016x}"), name("a", 0)) == 2
    return held


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
        Row(
            f"rows of receipts of {WRITERS:,} writers, {OTHERS} other gateways of {GUESTS:,}", found["rows"], "",
            "at most 100,000",
        ),
        Row("memory of these", found["bytes"] / 2**20, "MiB", "at most 64 MiB"),
    ]  # fmt: skip

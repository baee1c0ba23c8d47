"""Peers in one mesh, all in one process, with TLS, keys and disk as usual.

CPU time is the important figure: that of all peers together, which other load on the machine does not change.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.growth.curves import Curve
from benchmarks.meshing import CALM_AFTER, meshed
from benchmarks.results import text
from benchmarks.workers import Channel, Worker, resident_kib, settle

STEPS = (2, 8, 32, 64, 128)
IDLE = 10.0  # seconds to watch an idle mesh: each link is pinged once, each peer compares once
ALONE, AFTER = 3, 1.5  # single broadcasts, and seconds until all their effects are over
TOGETHER = 500  # texts of one send_many


async def mesh(channel: Channel, data: str, peers: int, idle: float) -> None:
    """Run as a worker: form one mesh, let it idle, and send broadcasts."""
    async with meshed(str(Path(data, "first")), 2):
        await asyncio.sleep(0)  # the first peers load modules, which is no cost of a peer
    before, worked = resident_kib(), time.process_time()
    async with meshed(str(Path(data, "mesh")), peers) as (them, _, formed):
        found: dict[str, float] = {"formed": formed, "cpu": time.process_time() - worked}
        await (await them[-1].broadcast("here we are")).delivered()  # the first stored entry also prepares the store
        await asyncio.sleep(CALM_AFTER * min(1.0, idle / IDLE))
        settle()
        found["memory"] = (resident_kib() - before) / peers
        worked = time.process_time()
        await asyncio.sleep(idle)
        found["idle"] = (time.process_time() - worked) / idle
        found["alone"] = await _alone(them, found["idle"], AFTER * min(1.0, idle / IDLE))
        worked = time.process_time()
        await (await them[-1].send_many("room", [text(i) for i in range(TOGETHER)])).delivered()
        found["together"] = (time.process_time() - worked) / TOGETHER / (peers - 1)
        found["used"] = (resident_kib() - before) / peers
        channel.send(**found)


async def _alone(peers: list[Any], idle: float, after: float) -> float:
    """Return the CPU time of a single broadcast, per recipient."""
    worked, begun = time.process_time(), time.perf_counter()
    for number in range(ALONE):
        await (await peers[-1].broadcast(text(number))).delivered()
        await asyncio.sleep(after)
    rest = idle * (time.perf_counter() - begun)
    return max(0.0, time.process_time() - worked - rest) / ALONE / (len(peers) - 1)


def run(place: Path, steps: list[int], say: Callable[[str], None], quick: bool = False) -> list[Curve]:
    """Measure a mesh of each size."""
    formed, forming = Curve("forms, until everyone has joined", "s"), Curve("CPU time of that", "s")
    a_link = Curve("CPU time of a link that forms, both ends", "ms")
    memory, used = Curve("memory of a peer, idle", "MiB"), Curve("memory of a peer after broadcasts", "MiB")
    alone = Curve("a single broadcast: CPU per delivery", "us")
    together = Curve(f"one of {TOGETHER} together: CPU per delivery", "us")
    idle, idle_link = Curve("idle: CPU of all peers", "% core"), Curve("idle: CPU of 1,000 links", "% core")
    for peers in steps:
        say(f"{peers} peers")
        with Worker("growth.peers.mesh", home=place, data=str(place / str(peers)), peers=peers,
                    idle=0.5 if quick else IDLE) as forming_mesh:  # fmt: skip
            found = forming_mesh.get()
        links = peers * (peers - 1) / 2
        formed.add(peers, found["formed"])
        forming.add(peers, found["cpu"])
        a_link.add(peers, found["cpu"] / links * 1e3)
        memory.add(peers, found["memory"] / 1024)
        used.add(peers, found["used"] / 1024)
        idle.add(peers, found["idle"] * 100)
        idle_link.add(peers, found["idle"] * 100 / links * 1000)
        alone.add(peers, found["alone"] * 1e6)
        together.add(peers, found["together"] * 1e6)
    alone.note = "a delivery: stored by one more peer, acknowledged to the writer, and announced among all"
    return [formed, forming, a_link, memory, used, idle, idle_link, alone, together]

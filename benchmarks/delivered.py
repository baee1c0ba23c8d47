"""Latency from `send` to *delivered*, one message at a time, compared with two commits and a round trip.

Both are measured in the same run, in alternating slices, because a disk is not equally fast all the time.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from benchmarks.floor import Commits, RoundTrips
from benchmarks.results import Row, Setting, middle, percentile, shown, text
from benchmarks.workers import Channel, Worker, settle

SLICES = 5


async def write(channel: Channel, data: str, endpoint: str, directory: str, port: int, messages: int) -> None:
    """Run as a worker: measure all three in turn."""
    from p2pchat import TCPPeer

    commits, trips = Commits(Path(directory) / "commits.db"), RoundTrips(port)
    committed: list[float] = []
    tripped: list[float] = []
    accepted: list[float] = []
    delivered: list[float] = []
    worked = 0.0
    async with TCPPeer(0, endpoint, data=data, name="writer") as peer:
        reader = await peer.wait_user("reader", timeout=10)
        await (await peer.send(reader, "first")).delivered(timeout=10)
        settle()
        each = max(1, messages // SLICES)
        for _ in range(SLICES):
            committed += commits.measure(each // 2 + 1)
            tripped += trips.measure(each // 2 + 1)
            await asyncio.sleep(0.05)  # let the peer finish postponed work, which is not part of the next message
            worked -= time.process_time()
            for i in range(each):
                begun = time.perf_counter()
                receipt = await peer.send(reader, text(i))
                accepted.append(time.perf_counter() - begun)
                await receipt.delivered()
                delivered.append(time.perf_counter() - begun)
            worked += time.process_time()
    commits.close()
    trips.close()
    channel.send(cpu=worked, commit=committed, trip=tripped, accepted=accepted, delivered=delivered)
    await channel.closed()


def run(setting: Setting) -> list[Row]:
    """Measure, and add the ratio to the floor."""
    home = setting.directory / "delivered"
    home.mkdir()
    with (
        Worker("floor.serve_tls", home=home, directory=str(home)) as echo,
        Worker("durable.read", home=home, data=str(home / "reader")) as far,
    ):
        port, endpoint = echo.get()["port"], far.get()["endpoint"]
        common = {"directory": str(home), "data": str(home / "writer"), "messages": setting.singles}
        with Worker("delivered.write", home=home, endpoint=endpoint, port=port, **common) as near:
            far.put({"messages": 1})
            worked = -far.get()["cpu"]
            reported = near.get()
            far.put({"messages": 1 + len(reported["delivered"])})
            worked += far.get()["cpu"] + reported.pop("cpu")
            found = {name: [value * 1e6 for value in values] for name, values in reported.items()}
    commit, trip, took = middle(found["commit"]), middle(found["trip"]), middle(found["delivered"])
    floor = 2 * commit + trip
    cpu = 1e6 * worked / len(found["delivered"])
    words = f"{took / floor:.1f} x ({shown(commit)} + {shown(commit)} + {shown(trip)} us)"
    return [
        Row(
            "send to delivered, one at a time, median",
            took,
            "us",
            "under 1,000 us, 4 x the machine's own limit",
            words,
            f"CPU a message, both ends: {shown(cpu)} us",
            cpu,
        ),
        Row("the same, 99 of 100", percentile(found["delivered"], 0.99), "us"),
        Row(
            "send to accepted, median",
            middle(found["accepted"]),
            "us",
            "",
            f"{middle(found['accepted']) / commit:.1f} x a commit",
        ),
    ]

"""Catching up: a newcomer fetches a long history from a peer, in two processes; then that peer is restarted.

The same history is measured twice: written in batches, and written one message at a time. The clock starts when the
newcomer gets the endpoint and stops when the writer gets the acknowledgement of the last entry. Memory is the peak of
either process (VmHWM), and the newcomer's growth over the last four fifths.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

from benchmarks.results import Row, Setting, middle, shown
from benchmarks.stored import last_of
from benchmarks.workers import Channel, Worker, peak_kib, resident_kib, settle

STARTS = 3
POLL_EVERY = 0.05  # seconds between two readings of the memory


async def hold(channel: Channel, data: str, last: str) -> None:
    """Run as a worker: the peer with the history. Report when a newcomer holds entry `last`, and the memory used."""
    from p2pchat import TCPPeer

    async with TCPPeer(data=data) as peer:
        settle()
        before = resident_kib()
        channel.send(endpoint=peer.endpoint)
        begun = await channel.receive()
        worked = time.process_time()
        if begun is not None:
            await (await peer.receipt(last)).delivered(count=1, timeout=110)
            channel.send(ended=time.time(), before=before, peak=peak_kib(), cpu=time.process_time() - worked)
        await channel.closed()


async def fetch(channel: Channel, data: str) -> None:
    """Run as a worker: the newcomer. Dial when an endpoint comes; report its memory over time."""
    from p2pchat import TCPPeer

    async with TCPPeer(data=data, name="newcomer") as peer:
        settle()
        channel.send(ready=True)
        asked = await channel.receive()
        assert asked is not None
        watching = asyncio.create_task(_watch())
        worked, begun = time.process_time(), time.time()
        await peer.connect(asked["endpoint"])
        channel.send(begun=begun)
        asked = await channel.receive()
        assert asked is not None
        assert peer._driver is not None
        while peer._driver.node.replicator.ingest.order.next_place <= asked["entries"]:
            await asyncio.sleep(POLL_EVERY / 10)
        await peer._driver.settle()  # also stored here
        ended = time.time()
        worked = time.process_time() - worked
        watching.cancel()
        newest = (await peer.history(peer.room, limit=1))[0]
        channel.send(ended=ended, peak=peak_kib(), samples=SAMPLES, newest=newest.id, cpu=worked)
        await channel.closed()


SAMPLES: list[int] = []


async def _watch() -> None:
    while True:
        SAMPLES.append(resident_kib())
        await asyncio.sleep(POLL_EVERY)


async def start(channel: Channel, data: str) -> None:
    """Run as a worker: start a peer with everything stored. Report the time until ready, and for opening the store."""
    from p2pchat import TCPPeer

    begun = time.perf_counter()
    async with TCPPeer(data=data):
        ready = time.perf_counter() - begun
    from p2pchat.identity.profile import Profile
    from p2pchat.storage.dialects.sqlite_dialect import sqlite_url
    from p2pchat.storage.sql_storage import SqlStorage

    with Profile.open(data=data) as profile:
        begun = time.perf_counter()
        storage = SqlStorage(sqlite_url(profile.database))
        storage.load([profile.identity.peer_id])
        opened = time.perf_counter() - begun
        storage.close()
    channel.send(ready=ready, opened=opened)


# ---- the rows


def _fetched(setting: Setting, name: str, one_by_one: bool) -> list[Row]:
    home = setting.directory / name
    home.mkdir()
    data, entries = str(home / "writer"), setting.entries
    with Worker("stored.write", home=home, data=data, entries=entries, one_by_one=one_by_one) as writing:
        last = last_of(writing)
    seconds, held, got = fetched(home, data, last, entries)
    return _rows(setting, name, entries / seconds, held, got)


def fetched(home: Path, data: str, last: str, entries: int) -> tuple[float, dict[str, Any], dict[str, Any]]:
    """Let a newcomer fetch the `entries` of the profile at `data`, whose user's last entry is `last`.

    Returns:
        The seconds it took, and the reports of the holder and the newcomer.
    """
    with (
        Worker("catchup.hold", home=home, data=data, last=last) as holder,
        Worker("catchup.fetch", home=home, data=str(home / "newcomer")) as newcomer,
    ):
        endpoint = holder.get()["endpoint"]
        newcomer.get()
        holder.put({"begun": True})
        newcomer.put({"endpoint": endpoint})
        begun = newcomer.get()["begun"]
        held = holder.get()
        newcomer.put({"entries": entries})
        got = newcomer.get()
    if got["newest"] != last:
        raise RuntimeError("the newcomer's history does not end with the writer's last entry")
    return max(held["ended"], got["ended"]) - begun, held, got


def _rows(setting: Setting, name: str, rate: float, held: dict[str, Any], got: dict[str, Any]) -> list[Row]:
    samples = got["samples"]
    early = samples[len(samples) // 5] if samples else 0
    growth = (samples[-1] - early) / 1024 if samples else 0.0
    floor = setting.floor.get("rows")
    cpu = 1e6 * (held["cpu"] + got["cpu"]) / setting.entries
    beside = f"{rate / floor:.2f} x bare SQLite rows ({shown(floor)}/s)" if floor else ""
    what = f"a newcomer fetches {setting.entries:,} entries written {name.replace('-', ' ')}"
    return [
        Row(what, rate, "/s", "over 150,000/s", beside, f"CPU an entry, both ends: {shown(cpu)} us", cpu),
        Row(
            "memory of the newcomer, at most", got["peak"] / 1024, "MiB", "flat", note=f"{growth:+.1f} MiB from 1/5 on"
        ),
        Row(
            "memory of the holder, at most",
            held["peak"] / 1024,
            "MiB",
            "flat",
            note=f"{held['before'] / 1024:.0f} before",
        ),
    ]


def run(setting: Setting) -> list[Row]:
    """Measure both histories, then starts with the second one stored."""
    return [*_fetched(setting, "in-batches", False), *_fetched(setting, "one-by-one", True), *_starts(setting)]


def restarted(setting: Setting) -> list[Row]:
    """Create such a history, then measure only starts."""
    home = setting.directory / "one-by-one"
    home.mkdir()
    asked = {"data": str(home / "writer"), "entries": setting.entries, "one_by_one": True}
    with Worker("stored.write", home=home, **asked) as writing:
        last_of(writing)
    return _starts(setting)


def _starts(setting: Setting) -> list[Row]:
    home = setting.directory / "one-by-one"
    found = []
    for _ in range(min(STARTS, setting.rounds)):
        with Worker("catchup.start", home=home, data=str(home / "writer")) as starting:
            found.append(starting.get())
    ready, opened = (middle([each[name] for each in found]) for name in ("ready", "opened"))
    what = f"start with {setting.entries:,} entries stored, until ready"
    note = f"{STARTS} starts, imports of the first use included"
    return [Row(what, ready, "s", "0.5 s", note=note), Row("of that, opening the store", opened, "s", "0.1 s")]

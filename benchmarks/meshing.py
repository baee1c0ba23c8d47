"""Forming a mesh: many peers in one process, each given one address, with TLS, keys and disk as usual."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.results import Row, Setting
from benchmarks.workers import Channel, Worker, peak_kib

CALM_AFTER = 10.0  # seconds from the last join until every link is announced: 6.4 s with 128 peers

if TYPE_CHECKING:
    from p2pchat import Events, Joined, TCPPeer


async def form(channel: Channel, data: str, peers: int) -> None:
    """Run as a worker: form one mesh and report its costs."""
    from p2pchat import TCPPeer  # noqa: F401 - what loading takes is no part of it

    worked = time.process_time()
    async with meshed(data, peers) as (_, started, formed):
        channel.send(started=started, formed=formed, cpu=time.process_time() - worked, peak=peak_kib())


@asynccontextmanager
async def meshed(data: str, peers: int) -> AsyncIterator[tuple[list[TCPPeer], float, float]]:
    """Start all peers and wait until each has all others online; close them at the end.

    Yields:
        The peers, the seconds until the last start had returned, and the seconds until all had joined.
    """
    from p2pchat import Joined, TCPPeer

    begun = time.perf_counter()
    first = TCPPeer(data=Path(data, "0"), name="peer0")
    readers = [first.events(Joined)]
    await first.start()
    others = [TCPPeer(0, first.endpoint, data=Path(data, str(i)), name=f"peer{i}") for i in range(1, peers)]
    readers += [peer.events(Joined) for peer in others]
    await asyncio.gather(*(peer.start() for peer in others))
    started = time.perf_counter() - begun
    all_peers = [first, *others]
    await asyncio.gather(*(_all_online(each, reader, peers) for each, reader in zip(all_peers, readers, strict=True)))
    yield all_peers, started, time.perf_counter() - begun
    await asyncio.gather(*(peer.aclose() for peer in all_peers))


async def _all_online(peer: TCPPeer, news: Events[Joined], users: int) -> None:
    """Wait until so many users are online at this peer, itself among them."""
    met = {peer.me.id}
    while len(met) < users:
        met.add((await anext(news)).user.id)


def run(setting: Setting) -> list[Row]:
    """Measure one mesh."""
    home = setting.directory / "mesh"
    home.mkdir()
    with Worker("meshing.form", home=home, data=str(home), peers=setting.peers) as forming:
        found = forming.get()
    links = setting.peers * (setting.peers - 1) // 2
    note = f"{links} links; the last start returned after {found['started']:.1f} s; {found['peak'] / 1024:.0f} MiB"
    return [
        Row(f"a mesh of {setting.peers} peers forms, all in one process", found["formed"], "s", "under 3 s", "", note),
        Row("CPU time of that", found["cpu"], "s"),
    ]

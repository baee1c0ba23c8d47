"""Command `python -m tests.processes.cuts --minutes N --seed S`: cut a link after byte k, for every k.

One exchange through a proxy is recorded: the handshake, the comparison, entries written during it, some messages and
their acknowledgements. Then the exchange is repeated and cut after k bytes of one direction, while both sides write.
The peers link up again at once, and every message must arrive once. TLS encrypts the bytes but shows the ends of its
records, and every frame ends with a record.

Only bob dials, and he dials only the proxy, because ada's known address is NOWHERE. So each cut breaks the one link.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import shutil
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

from p2pchat.testing.process_mesh import ChildFailed
from tests.processes.fork_server import AVAILABLE, ForkServer
from tests.processes.peer_runs import PATIENCE, PeerRuns, check_nothing_lost_or_repeated, wait_for_everything
from tests.processes.peers import ROOT, Cluster
from tests.processes.proxy import Proxy

NOWHERE = "127.0.0.1:9"  # the discard service; nothing listens there, so connections are refused at once
WRITTEN = 6  # messages of each side around each cut
PAIRS = 4  # run at once, because each mostly waits for its redial
CUTS_OF_A_PAIR = 50  # about 10 s; then the time is checked, and a new pair starts
RECORD_HEADER_BYTES = 5  # type, version, u16be length (RFC 8446, 5.1)
ProcessNamespace = tuple[bool, int]  # (True for the direction back to the dialling side, number of bytes)


class Dialler(PeerRuns):
    """The side that dials, with its target."""

    to_ada = ""


@asynccontextmanager
async def behind_a_proxy(cluster: Cluster, proxy: Proxy) -> AsyncIterator[tuple[PeerRuns, Dialler]]:
    """Start two peers whose only connection is bob's through the proxy: to ada, or to the engine of the cluster."""
    to_ada = await proxy.listen()
    ada = PeerRuns(cluster, "ada", "bob", "--host", "127.0.0.2", "--advertise", to_ada)
    bob = Dialler(cluster, "bob", "ada", "--host", "127.0.0.3", "--advertise", NOWHERE)
    if cluster.engine:
        ada, bob = PeerRuns(cluster, "ada", "bob"), Dialler(cluster, "bob", "ada", "--engine", to_ada, "--no-listen")
    await ada.start()
    if cluster.engine:
        proxy.to("127.0.0.1", int(cluster.engine.rpartition(":")[2]))
        bob.to_ada = ada.now.endpoint
    else:
        proxy.to("127.0.0.2", ada.port)
        bob.to_ada = to_ada
    await bob.start(bob.to_ada)
    await ada.now.event("joined", user="bob")
    await bob.now.event("joined", user="ada")
    try:
        yield ada, bob
    finally:
        await proxy.close()


async def exchange_messages(ada: PeerRuns, bob: PeerRuns) -> None:
    """Let both write; wait until the last message of each is delivered. Earlier messages arrive before it."""
    last = {side: f"{side.name} {side.written + WRITTEN - 1}" for side in (ada, bob)}
    await asyncio.gather(ada.burst(WRITTEN), bob.burst(WRITTEN))
    for side, other in ((ada, bob), (bob, ada)):
        line = await side.now.event("sent", PATIENCE, text=last[side])
        await other.now.event("message", PATIENCE, id=line["id"])
        await side.now.event("delivered", PATIENCE, id=line["id"])


async def link_up_again(bob: Dialler) -> None:
    """Let bob dial at once; after some short links he would wait up to 30 s."""
    await bob.now.do(do="connect", endpoint=bob.to_ada)


async def cut_once(ada: PeerRuns, bob: Dialler, proxy: Proxy, place: ProcessNamespace | None) -> bool:
    """Cut, link up, write on both sides meanwhile, cut again at a place, and wait until everything has arrived.

    Returns:
        True if the link reached that place.
    """
    proxy.cut()
    proxy.left, proxy.ran_out = dict([place] if place else []), asyncio.Event()
    coming = asyncio.create_task(exchange_messages(ada, bob))
    await link_up_again(bob)
    cut = asyncio.create_task(proxy.ran_out.wait())
    await asyncio.wait([coming, cut], return_when=asyncio.FIRST_COMPLETED)
    if cut.done():
        await link_up_again(bob)
    cut.cancel()
    await coming
    return proxy.ran_out.is_set()


async def record(cluster: Cluster) -> dict[bool, bytes]:
    """Return the bytes of one exchange from its start, for each direction."""
    proxy = Proxy(records=True)
    async with behind_a_proxy(cluster, proxy) as (ada, bob):
        await exchange_messages(ada, bob)
        assert proxy.recorded is not None
        for way in proxy.recorded.values():
            way.clear()
        await cut_once(ada, bob, proxy, None)
        recorded = {back: bytes(way) for back, way in proxy.recorded.items()}
        await ada.now.leave()
        await bob.now.leave()
    return recorded


def every_place(recorded: dict[bool, bytes]) -> list[ProcessNamespace]:
    return [(back, k) for back, way in recorded.items() for k in range(1, len(way) + 1)]


def spread(recorded: dict[bool, bytes], count: int) -> list[ProcessNamespace]:
    """Return about `count` places, evenly spread, plus those before, at and after the ends of records.

    What goes through an engine begins with no record: then there are no ends.
    """
    all_over = every_place(recorded)[:: max(1, sum(map(len, recorded.values())) // count)]
    ends = [(back, end + off) for back, way in recorded.items() for end in record_ends(way) for off in (-1, 0, 1)]
    return sorted({*all_over, *ends})


def record_ends(way: bytes) -> Iterator[int]:
    """Yield the end of each TLS record. An incomplete record has none."""
    at = 0
    while at + RECORD_HEADER_BYTES <= len(way):
        at += RECORD_HEADER_BYTES + int.from_bytes(way[at + 3 : at + 5])
        if at <= len(way):
            yield at


async def cut_at(cluster: Cluster, places: Iterable[ProcessNamespace]) -> int:
    """Run one pair through all these cuts, and check the result; return how many cuts hit a link."""
    proxy, cuts = Proxy(), 0
    async with behind_a_proxy(cluster, proxy) as (ada, bob):
        for place in places:
            cuts += await cut_once(ada, bob, proxy, place)
        proxy.left = {}
        await wait_for_everything(ada, bob)
        await check_nothing_lost_or_repeated(cluster, ada, bob)
        assert [await ada.now.leave(), await bob.now.leave()] == [0, 0]
    return cuts


async def cut_everywhere(
    home: Path, logs: Path, fork_server: ForkServer | None, places: list[ProcessNamespace], engine: str = ""
) -> int:
    """Share the places among several pairs at once; return the number of cuts."""

    async def one(number: int) -> int:
        cluster = Cluster(home / f"pair-{number}", logs / f"pair-{number}", fork_server, engine)
        cluster.logs.mkdir(parents=True, exist_ok=True)
        for former in cluster.logs.iterdir():
            former.unlink()
        try:
            return await cut_at(cluster, places[number::PAIRS])
        finally:
            for child in cluster.children:
                await child.destroy()

    return sum(await asyncio.gather(*(one(number) for number in range(PAIRS))))


async def _main(words: argparse.Namespace) -> None:
    logs = ROOT / "logs" / "cuts" / str(words.seed)
    with tempfile.TemporaryDirectory(prefix="p2pchat-cuts-") as home:
        async with ForkServer() as fork_server:
            logs.mkdir(parents=True, exist_ok=True)
            recorded = await record(Cluster(Path(home) / "recorded", logs, fork_server))
            places = every_place(recorded)
            random.Random(words.seed).shuffle(places)
            done = cuts = 0
            until = time.monotonic() + words.minutes * 60
            while done < len(places) and time.monotonic() < until:
                now = places[done : done + PAIRS * CUTS_OF_A_PAIR]
                cuts += await cut_everywhere(Path(home) / str(done), logs, fork_server, now)
                done += len(now)
                print(f"seed {words.seed}: {done} of {len(places)} places, {cuts} links cut", flush=True)
            print(f"  {cuts} links cut after a byte of an exchange\n  {done} bytes of an exchange tried", flush=True)
    shutil.rmtree(logs)  # no cut failed: the logs are not needed


def main() -> int:
    """Run from the command line; return 1 if a message was lost or came twice."""
    parser = argparse.ArgumentParser(prog="python -m tests.processes.cuts", description=__doc__)
    parser.add_argument("--minutes", type=float, default=1.0, help="no more begin after this")
    parser.add_argument("--seed", default=str(random.randrange(10**6)), help="draws the order of the places")
    words = parser.parse_args()
    if not AVAILABLE:
        parser.error("this needs Linux")
    try:
        asyncio.run(_main(words))
    except (AssertionError, ChildFailed) as error:
        print(f"{error}\nagain: python -m tests.processes.cuts --seed {words.seed}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

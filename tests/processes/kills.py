"""Command `python -m tests.processes.kills --minutes N --seed S`: accidents of real processes, and one check of all.

Two to four peers write into the room and to one another while accidents happen. The number of a mesh is its kind:

    tcp       each peer has several lives, each with the accident that ends it: a failpoint (failpoints.py),
              SIGKILL at a drawn moment, a suspension, an orderly end. One peer listens elsewhere in each life
    proxied   and each is only reachable through a proxy that swallows or delays one direction, and then cuts
    link      the only link between two peers is cut after byte k of an exchange, again and again

Then every peer starts once more, every message must arrive, and event logs, histories and databases are checked
(peer_runs.py). The next mesh starts. A seed repeats the same plan; only the scheduling of the kernel differs. A failure
prints the command that repeats the mesh, and leaves its logs in logs/kills/.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import os
import random
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from p2pchat.testing.process_mesh import ChildFailed
from tests.processes.fork_server import AVAILABLE, ForkServer
from tests.processes.peer_runs import (
    KILLED,
    PATIENCE,
    PeerRuns,
    check_nothing_lost_or_repeated,
    know_each_other,
    see_each_other,
    wait_for_everything,
)
from tests.processes.peers import ROOT, Cluster
from tests.processes.proxy import Proxy

KINDS = ("tcp", "proxied", "link", "tcp")
NAMES = ("ada", "bob", "cyd", "dan")
LIVES = 8  # of each peer in a mesh; most end with a kill
AT_ONCE = 5  # meshes at once: while some wait for a redial, others work
BURSTS = (30, 30, 30, 300)  # messages in a life; a peer that was away while others wrote many has to catch up
ONE_BY_ONE = 60  # then so many, each with commits, frames and events of its own, in a life with a failpoint
LATEST = 60  # event lines of a life after which it is ended from outside
WITHIN = 2.0  # seconds for a life that has written everything to reach its failpoint, else it is killed
POINTS = {  # failpoint -> largest count: about how often a life reaches it
    "before-commit": 12, "after-commit": 12, "before-have": 8, "before-go": 1, "mid-record": 40, "mid-frame": 30,
    "statement": 150, "before-hand-over": 30, "after-hand-over": 30, "before-cursor": 12, "mid-line": 80,
    "closing": 10, "before-address-book": 1, "after-address-book": 1,
}  # fmt: skip
ENDS = ("kill", "freeze", "pause", "leave")  # from outside; a frozen one is killed, a paused one goes on for a while
HARMS = ("cut", "deaf", "dumb", "held back", "held onward")  # to the network of a proxied mesh
OFTEN = (*POINTS, *ENDS, "kill", "kill", "freeze", "before-go", "before-go")  # one of two linked peers sends `go`
CUTS = 100  # in a mesh of one link
WRITTEN = 6  # messages of each side around each cut
NOWHERE = "127.0.0.1:9"  # the discard service; nothing listens there, so connections are refused at once
RECORD_HEADER_BYTES = 5  # type, version, u16be length (RFC 8446, 5.1)
GOLDEN = (5**0.5 - 1) / 2  # its multiples, modulo 1, are spread evenly, however many there are
Place = tuple[bool, int]  # (True for the direction back to the dialling side, number of bytes)


@dataclass(frozen=True, slots=True)
class Life:
    """The plan of one life: its end, a failpoint or one of ENDS, when, and how much it writes."""

    end: str
    count: int  # of the failpoint, or of event lines
    still: float  # seconds of each suspension, and a fraction of them until any end from outside
    burst: int

    @property
    def points(self) -> list[str]:
        return [f"{self.end}:{self.count}"] if self.end in POINTS else []

    @property
    def dies(self) -> bool:
        """True if it ends by itself; for `closing` it has to be asked to stop."""
        return self.end in POINTS and self.end != "closing"


def plans(seed: str, mesh: int, peer: int) -> list[Life]:
    """Return the lives of a peer. All ends take turns over the peers and meshes of a seed."""
    chance = random.Random(f"{seed}/{mesh}/{peer}")
    ends = random.Random(seed).sample(OFTEN, len(OFTEN))
    first = (mesh * len(NAMES) + peer) * LIVES
    lives = []
    for end in (ends[(first + number) % len(ends)] for number in range(LIVES)):
        count = 1 + int(POINTS.get(end, LATEST) * chance.random() ** 2)  # the first times are the most different ones
        lives.append(Life(end, count, chance.uniform(0.05, 0.4), chance.choice(BURSTS)))
    return lives


@dataclass(slots=True)
class Tally:
    """Counts of what happened, over all meshes."""

    accidents: Counter[str] = field(default_factory=Counter)  # those that had an effect
    meshes: Counter[str] = field(default_factory=Counter)  # by kind
    kills: int = 0
    accepted: int = 0

    def lacks(self, kinds: Sequence[str]) -> set[str]:
        """Return the accidents of meshes of these kinds that did not happen so far."""
        wanted = {"link cut"} if "link" in kinds else set()
        wanted |= {*POINTS, *ENDS} if "tcp" in kinds else set()
        wanted |= {*HARMS} if "proxied" in kinds else set()
        return wanted - self.accidents.keys()

    def lines(self) -> str:
        """Return the counts, one a line, as tests/soak adds them up."""
        counts = {f"accidents: {kind}": count for kind, count in sorted(self.accidents.items())}
        counts |= {f"meshes judged: {kind}": count for kind, count in sorted(self.meshes.items())}
        counts |= {"processes killed": self.kills, "messages accepted": self.accepted}
        return "\n".join(f"  {count} {what}" for what, count in counts.items())

    def __str__(self) -> str:
        kinds = ", ".join(f"{kind} {count}" for kind, count in sorted(self.accidents.items()))
        return f"{self.kills} kills in {self.meshes.total()} meshes, {self.accepted} messages accepted; {kinds}"


class Mesh:
    """One mesh, from its first start to the check of its results."""

    def __init__(self, cluster: Cluster, seed: str, number: int, tally: Tally, over: Callable[[], bool]) -> None:
        self._cluster = cluster
        self._seed = seed
        self._number = number
        self._tally = tally
        self._over = over  # no more accidents then, and the check
        self._kind = KINDS[number % len(KINDS)]
        self._one_link = self._kind == "link"
        self._chance = random.Random(f"{seed}/{number}")
        self._names = NAMES[: 2 if self._one_link else self._chance.choice([2, 2, 3, 4])]
        self._proxies: dict[str, Proxy] = {}
        self._all_lived = asyncio.Event()

    async def live(self) -> None:
        """Let all accidents happen. Raises AssertionError or ChildFailed if a promise is broken or a peer hangs."""
        async with AsyncExitStack() as stack:
            sides = [await self._side(name, stack) for name in self._names]
            await self._meet(sides)
            await (self._cut_everywhere(*sides) if self._one_link else self._lives_and_harms(sides))
            await see_each_other(*sides)
            await wait_for_everything(*sides)
            await check_nothing_lost_or_repeated(self._cluster, *sides)
            self._tally.accepted += sum(len(side.accepted()) for side in sides)
            codes = [await side.now.leave() for side in sides]
            assert codes == [0] * len(sides)
        self._tally.meshes[self._kind] += 1

    async def _side(self, name: str, stack: AsyncExitStack) -> PeerRuns:
        """Make a peer with its own address, so that no outgoing connection ever has its port."""
        place = self._names.index(name)
        through = ""
        if self._kind != "tcp" and not (self._one_link and place):
            proxy = self._proxies[name] = Proxy(records=self._one_link)
            through = await proxy.listen()
            stack.push_async_callback(proxy.close)
        words = ["--host", f"127.{64 + os.getpid() % 128}.{self._number % 250}.{1 + place}"]
        words += ["--advertise", through or NOWHERE] if self._kind != "tcp" else []
        return PeerRuns(self._cluster, name, self._names[(place + 1) % len(self._names)], *words)

    async def _meet(self, sides: list[PeerRuns]) -> None:
        """Wait until all peers know each other's addresses, of which later starts are given none, and names.

        `joined` is reported when a link is up. The dialled peer learns the address of the dialler only after that, and
        may be killed before.
        """
        self._endpoint = ""
        for side in sides:
            proxy = self._proxies.get(side.name)
            await side.start(*filter(None, [self._endpoint]))
            port = side.now.listening["port"]
            if self._kind != "tcp" or side.name != self._names[-1]:  # else the others learn an address of each life
                side.port = port
            if proxy is not None:
                proxy.to(side.words[1], port)
            self._endpoint = self._endpoint or side.words[-1]
            if self._endpoint == side.words[1]:  # it advertises no other
                self._endpoint += f":{port}"
        await see_each_other(*sides)
        await know_each_other(*sides, addresses=not self._one_link)

    # ---- peers that die

    async def _lives_and_harms(self, sides: list[PeerRuns]) -> None:
        harming = asyncio.create_task(self._harm_the_network())
        try:
            async with asyncio.TaskGroup() as group:
                for place, side in enumerate(sides):
                    group.create_task(self._lives(side, plans(self._seed, self._number, place)))
        finally:
            self._all_lived.set()
            await harming

    async def _lives(self, side: PeerRuns, lives: list[Life]) -> None:
        await side.kill()
        for life in itertools.takewhile(lambda _: not self._over(), lives):
            await self._live_once(side, life)
        await side.start()

    async def _live_once(self, side: PeerRuns, life: Life) -> None:
        """Start a peer, let it write, and end it as planned."""
        try:
            await side.start(points=life.points)
        except ChildFailed:
            await self._died(side, life)
            return
        writing = asyncio.create_task(self._write(side, life))
        if life.dies:
            await writing
            with suppress(TimeoutError):
                await asyncio.wait_for(side.now.process.wait(), WITHIN)
                await self._died(side, life)
        else:
            await self._end(side, life, writing)
        if side.now.is_running:
            await side.kill()
        await writing

    async def _write(self, side: PeerRuns, life: Life) -> None:
        await side.burst(life.burst)
        with suppress(ChildFailed):  # it has ended
            for _ in range(ONE_BY_ONE * life.dies):
                await side.burst(1)
                await side.now.event("sent", text=f"{side.name} {side.written - 1}")

    async def _died(self, side: PeerRuns, life: Life) -> None:
        code = await side.now.ended()
        assert code == KILLED and life.points, f"{side.name} ended with {code}: {side.now.complaints}"
        self._tally.accidents[life.end] += 1

    async def _end(self, side: PeerRuns, life: Life, writing: asyncio.Task[None]) -> None:
        """End a life from outside, or let it go on after a pause."""
        if sys.platform == "win32":
            raise NotImplementedError  # for type checkers: AVAILABLE is False there
        if life.end == "closing":
            await writing
        else:
            with suppress(ChildFailed):  # on a busy machine fewer lines come
                await side.now.wait(lambda _: True, WITHIN, count=life.count)
            await asyncio.sleep(life.still / 10)  # the drawn moment
        if life.end in ("freeze", "pause"):
            side.now.process.send_signal(signal.SIGSTOP)
            await asyncio.sleep(life.still)  # the drawn duration of the suspension
        if life.end == "pause":
            side.now.process.send_signal(signal.SIGCONT)
            await writing
            await side.now.event("sent", text=f"{side.name} {side.written - 1}")
        if life.end in ("leave", "closing"):
            code = await side.now.leave()
            if code == KILLED:
                await self._died(side, life)
                return
            # 3: a recipient was offline. 4: the peer has not met a recipient yet, and has stored nothing about it.
            assert code in (0, 3, 4), f"{side.name} left with {code}: {side.now.complaints}"
            assert side.now.lines[-1]["event"] == "stopped"
        if life.end in ENDS:
            self._tally.accidents[life.end] += 1

    async def _harm_the_network(self) -> None:
        """Swallow or hold one direction of a proxy, then cut all its connections."""
        chance = random.Random(f"{self._seed}/{self._number}/network")
        for harm in itertools.cycle(chance.sample(HARMS, len(HARMS))) if self._proxies else ():
            proxy, before = chance.choice([*self._proxies.values()]), 0
            if harm in ("deaf", "dumb"):
                before = proxy.swallowed
                setattr(proxy, harm, True)
            elif harm != "cut":
                proxy.hold(back=harm == "held back")
            await self._still_lives(chance.uniform(0, 0.5))
            proxy.cut()
            if harm not in ("deaf", "dumb") or proxy.swallowed > before:
                self._tally.accidents[harm] += 1
            if not await self._still_lives(chance.uniform(0, 1.0)):
                return

    async def _still_lives(self, seconds: float) -> bool:
        """Wait for so long, or until all lives are over."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._all_lived.wait(), seconds)
        return not self._all_lived.is_set()

    # ---- links that break

    async def _cut_everywhere(self, ada: PeerRuns, bob: PeerRuns) -> None:
        """Record an exchange: handshake, comparison, entries, acknowledgements. Then repeat it, cut after k bytes."""
        [proxy] = self._proxies.values()
        assert proxy.recorded is not None
        await self._exchange(ada, bob)
        for way in proxy.recorded.values():
            way.clear()
        await self._cut_once(ada, bob, proxy, None)
        recorded = {back: bytes(way) for back, way in proxy.recorded.items()}
        for place in cut_places(recorded, self._chance, self._number * CUTS, CUTS):
            if self._over():
                break
            self._tally.accidents[f"{self._kind} cut"] += await self._cut_once(ada, bob, proxy, place)
        proxy.left = {}

    async def _cut_once(self, ada: PeerRuns, bob: PeerRuns, proxy: Proxy, place: Place | None) -> bool:
        """Cut, link up, write on both sides meanwhile, cut again at a place, and wait until everything has arrived.

        Returns:
            True if the link reached that place.
        """
        proxy.cut()
        proxy.left, proxy.ran_out = dict([place] if place else []), asyncio.Event()
        coming = asyncio.create_task(self._exchange(ada, bob))
        await self._link_up(bob)
        cut = asyncio.create_task(proxy.ran_out.wait())
        await asyncio.wait([coming, cut], return_when=asyncio.FIRST_COMPLETED)
        if cut.done():
            await self._link_up(bob)
        cut.cancel()
        await coming
        return proxy.ran_out.is_set()

    async def _link_up(self, bob: PeerRuns) -> None:
        """Let bob dial at once; after some short links he would wait up to 30 s."""
        await bob.now.do(do="connect", endpoint=self._endpoint)

    async def _exchange(self, ada: PeerRuns, bob: PeerRuns) -> None:
        """Let both write; wait until the last message of each is delivered. Earlier messages arrive before it."""
        last = {side: f"{side.name} {side.written + WRITTEN - 1}" for side in (ada, bob)}
        await asyncio.gather(ada.burst(WRITTEN), bob.burst(WRITTEN))
        for side, other in ((ada, bob), (bob, ada)):
            line = await side.now.event("sent", PATIENCE, text=last[side])
            await other.now.event("message", PATIENCE, id=line["id"])
            await side.now.event("delivered", PATIENCE, id=line["id"])


def cut_places(recorded: dict[bool, bytes], chance: random.Random, first: int, count: int) -> list[Place]:
    """Return so many places: half of them at the ends of TLS records or one byte beside, where frames end too.

    The others are spread evenly over all bytes, also together with those for another `first`.
    """
    ends = [(back, end + off) for back, way in recorded.items() for end in record_ends(way) for off in (-1, 0, 1)]
    every = [(back, k) for back, way in recorded.items() for k in range(1, len(way) + 1)]
    spread = [every[int(number * GOLDEN % 1 * len(every))] for number in range(first, first + count)]
    return [chance.choice(ends) if number % 2 else place for number, place in enumerate(spread)]


def record_ends(way: bytes) -> Iterator[int]:
    """Yield the end of each TLS record. An incomplete record has none."""
    at = 0
    while at + RECORD_HEADER_BYTES <= len(way):
        at += RECORD_HEADER_BYTES + int.from_bytes(way[at + 3 : at + 5])
        if at <= len(way):
            yield at


class MeshFailed(Exception):
    """One mesh broke a promise; the text says how to repeat it."""


async def run(
    seed: str,
    kinds: Sequence[str],
    tally: Tally,
    until: float,
    *,
    home: Path,
    mesh: int | None = None,
    all: bool = False,
) -> None:
    """Run meshes of these kinds, some at once, until the time runs out: then they are checked after fewer accidents.

    Args:
        mesh: The only one to run.
        until: The end of the time, monotonic.
        all: Go on after that until each accident has happened once.

    Raises:
        MeshFailed: The first that failed.
    """

    every = (number for number in itertools.count() if KINDS[number % len(KINDS)] in kinds)
    numbers = every if mesh is None else iter([mesh])

    def over() -> bool:
        return time.monotonic() >= until and not (all and tally.lacks(kinds))

    async with ForkServer() as fork_server:

        async def work() -> None:
            for number in itertools.takewhile(lambda _: not over(), numbers):
                await _run_one(seed, number, tally, home, fork_server, over)
                tally.kills = fork_server.killed

        async with asyncio.TaskGroup() as group:
            for _ in range(AT_ONCE):
                group.create_task(work())


async def _run_one(
    seed: str, number: int, tally: Tally, home: Path, fork_server: ForkServer, over: Callable[[], bool]
) -> None:
    logs = ROOT / "logs" / "kills" / f"{seed}-{number}"
    logs.mkdir(parents=True, exist_ok=True)
    for former in logs.glob("*.jsonl"):
        former.unlink()
    with tempfile.TemporaryDirectory(dir=home) as directory:
        cluster = Cluster(Path(directory), logs, fork_server)
        try:
            await Mesh(cluster, seed, number, tally, over).live()
        except (AssertionError, ChildFailed, pytest.fail.Exception, BaseExceptionGroup) as error:
            what = "".join(traceback.format_exception(error))
            again = f"python -m tests.processes.kills --seed {seed} --mesh {number}"
            raise MeshFailed(f"{what}\nlogs: {logs}\nagain: {again}") from error
        finally:
            for child in cluster.children:
                await child.destroy()
    for log in logs.iterdir():
        log.unlink()
    logs.rmdir()


async def _main(words: argparse.Namespace) -> None:
    tally, began = Tally(), time.monotonic()
    until = began + words.minutes * 60 if words.mesh is None else float("inf")

    async def report() -> None:
        while True:
            await asyncio.sleep(10)  # the interval of the report
            print(tally, flush=True)

    reporting = asyncio.create_task(report())
    try:
        with tempfile.TemporaryDirectory(prefix="p2pchat-kills-") as home:
            await run(words.seed, words.only or KINDS, tally, until, home=Path(home), mesh=words.mesh)
    finally:
        reporting.cancel()
        print(f"{tally.lines()}\nseed {words.seed}: {tally}; {time.monotonic() - began:.0f} s", flush=True)


def main() -> int:
    """Run from the command line; return 1 if a mesh failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.processes.kills", description=__doc__)
    parser.add_argument("--minutes", type=float, default=1.0, help="then meshes end")
    parser.add_argument("--seed", default=str(random.randrange(10**6)))
    parser.add_argument("--only", action="append", choices=sorted(set(KINDS)), help="meshes of this kind; repeatable")
    parser.add_argument("--mesh", type=int, help="this mesh alone, all of it")
    words = parser.parse_args()
    if not AVAILABLE:
        parser.error("this needs Linux")
    print(f"seed {words.seed}", flush=True)
    code = 0
    try:
        asyncio.run(_main(words))
    except* MeshFailed as failed:
        print(*failed.exceptions, sep="\n", file=sys.stderr)
        code = 1
    return code


if __name__ == "__main__":
    raise SystemExit(main())

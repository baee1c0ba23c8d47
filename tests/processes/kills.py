"""Command `python -m tests.processes.kills --minutes N --seed S`: kill real processes, check the results.

A mesh of two or three peers writes into the room and to one another. Each peer has several lives, drawn in advance:
with a failpoint or not, killed after a while, suspended and killed, suspended and resumed, or asked to stop. In every
third mesh, each peer is only reachable through a proxy that swallows or delays one direction, and then cuts. At the end
every peer starts once more, every message must arrive, and event logs, histories and databases are checked
(peer_runs.py). Then the next mesh starts. With --relay the peers listen on no socket, and are linked through one
nats-server; the proxies are then between a peer and that.

A seed repeats the same plan; only the scheduling of the kernel differs. A failure prints the command that repeats the
mesh, and leaves its logs in logs/kills/.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import random
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from p2pchat.testing.process_mesh import ChildFailed
from tests.nats import NatsServer, missing
from tests.processes.fork_server import AVAILABLE, ForkServer
from tests.processes.peer_runs import (
    KILLED,
    PATIENCE,
    PeerRuns,
    check_nothing_lost_or_repeated,
    know_each_other,
    wait_for_everything,
)
from tests.processes.peers import ROOT, Cluster
from tests.processes.proxy import Proxy

NAMES = ("ada", "bob", "cyd")
LIVES = 8  # of each peer in a mesh; most end with a kill
AT_ONCE = 3  # meshes at once: while some wait for a redial, others work
BURST = 30  # messages in a life
LATEST = 0.3  # seconds after its start by which a life is ended from outside
DIES_WITHIN = 2.0  # seconds for a life to reach its failpoint
POINTS = {  # point -> largest count: about how often a life reaches it
    "before-commit": 12, "after-commit": 12, "before-have": 8, "before-go": 2, "mid-record": 40, "mid-frame": 30,
    "statement": 150, "before-hand-over": 30, "after-hand-over": 30, "before-cursor": 12, "mid-line": 80,
    "closing": 10, "before-address-book": 3, "after-address-book": 3,
}  # fmt: skip
ARMED = 0.6  # of all lives
End = Literal["kill", "freeze", "pause", "leave"]
ENDS: tuple[End, ...] = ("kill", "kill", "kill", "freeze", "pause", "leave")


@dataclass(frozen=True, slots=True)
class LifePlan:
    """The plan of one life: a failpoint ("" is none), or an end from outside, seconds after its start."""

    point: str
    k: int
    moment: float
    end: End
    still: float  # seconds of its suspension; only if `end` suspends it

    @classmethod
    def draw(cls, chance: random.Random) -> LifePlan:
        point = chance.choice(sorted(POINTS)) if chance.random() < ARMED else ""
        k = chance.randint(1, POINTS[point]) if point else 0
        end = "leave" if point == "closing" else chance.choice(ENDS)
        return cls(point, k, chance.uniform(0, LATEST), end, chance.uniform(0.05, 0.4))

    @property
    def points(self) -> list[str]:
        return [f"{self.point}:{self.k}"] if self.point else []


@dataclass(slots=True)
class Tally:
    """Counts of what happened, over all meshes."""

    kills: Counter[str] = field(default_factory=Counter)  # by point, or by the way it was killed from outside
    meshes: int = 0
    cuts: int = 0
    accepted: int = 0
    wanted: int | None = None  # kills after which no further mesh starts, and
    wanted_points: int = 0  # different failpoints that killed

    @property
    def enough(self) -> bool:
        points = len(self.kills.keys() & POINTS.keys())
        return self.wanted is not None and self.kills.total() >= self.wanted and points >= self.wanted_points

    def lines(self) -> str:
        """Return the counts, one a line, as tests/soak adds them up."""
        counts = {f"kills, {kind}": count for kind, count in sorted(self.kills.items())}
        counts |= {"kills": self.kills.total(), "meshes of killed peers judged": self.meshes}
        counts |= {"links cut among them": self.cuts, "messages accepted among them": self.accepted}
        return "\n".join(f"  {count} {what}" for what, count in counts.items())

    def __str__(self) -> str:
        kinds = ", ".join(f"{kind} {count}" for kind, count in sorted(self.kills.items()))
        return (
            f"{self.kills.total()} kills in {self.meshes} meshes, {self.cuts} links cut, "
            f"{self.accepted} messages accepted; {kinds}"
        )


class Mesh:
    """One mesh, from its first start to the check of its results."""

    def __init__(self, cluster: Cluster, seed: str, number: int, tally: Tally) -> None:
        self._stage = cluster
        self._seed = f"{seed}/{number}"
        self._chance = random.Random(self._seed)
        self._names = NAMES[: self._chance.choice([2, 2, 3])]
        self._number = number
        self._tally = tally
        self._proxies: dict[str, Proxy] = {}
        self._all_lived = asyncio.Event()

    async def live(self) -> None:
        """Run all lives. Raises AssertionError or ChildFailed if a promise is broken or a peer does not restart."""
        async with AsyncExitStack() as stack:
            sides = [await self._side(name, stack) for name in self._names]
            await self._meet(sides)
            spoiling = asyncio.create_task(self._spoil())
            try:
                async with asyncio.TaskGroup() as group:
                    for side in sides:
                        group.create_task(self._lives(side))
            finally:
                self._all_lived.set()
                await spoiling
            await self._see_each_other(sides)
            await wait_for_everything(*sides)
            await check_nothing_lost_or_repeated(self._stage, *sides)
            self._tally.accepted += sum(len(side.accepted()) for side in sides)
            codes = [await side.now.leave() for side in sides]
            assert codes == [0] * len(sides)
        self._tally.meshes += 1

    async def _side(self, name: str, stack: AsyncExitStack) -> PeerRuns:
        """Start a peer with its own address, so that no outgoing connection ever has its port."""
        other = self._names[(self._names.index(name) + 1) % len(self._names)]
        proxy = Proxy() if self._number % 3 == 2 else None
        if proxy is not None:
            self._proxies[name] = proxy
            through = await proxy.listen()
            stack.push_async_callback(proxy.close)
        if self._stage.engine:
            if proxy is None:
                return PeerRuns(self._stage, name, other)
            proxy.to("127.0.0.1", int(self._stage.engine.rpartition(":")[2]))
            return PeerRuns(self._stage, name, other, "--engine", through, "--no-listen")
        host = f"127.{77 + self._number // 250 % 100}.{self._number % 250}.{1 + self._names.index(name)}"
        words = ["--host", host]
        if proxy is not None:
            words += ["--advertise", through]
        return PeerRuns(self._stage, name, other, *words)

    async def _meet(self, sides: list[PeerRuns]) -> None:
        """Wait until all peers know each other's addresses, of which later starts are given none, and names.

        `joined` is reported when a link is up. The dialled peer learns the address of the dialler only after that, and
        may be killed before.
        """
        endpoints: list[str] = []
        for side in sides:
            await side.start(*endpoints[:1])
            if self._stage.engine:
                endpoints.append(side.now.endpoint)
                continue
            endpoints.append(f"{side.words[1]}:{side.port}")
            if side.name in self._proxies:
                self._proxies[side.name].to(side.words[1], side.port)
                endpoints[-1] = side.words[3]
        await self._see_each_other(sides)
        await know_each_other(*sides)

    async def _see_each_other(self, sides: list[PeerRuns]) -> None:
        for side in sides:
            for other in sides:
                if other is not side:
                    await side.now.event("joined", PATIENCE, user=other.name)

    async def _lives(self, side: PeerRuns) -> None:
        chance = random.Random(f"{self._seed}/{side.name}")
        plans = [LifePlan.draw(chance) for _ in range(LIVES)]
        await self._end(side, plans[0])
        for plan in plans:
            await self._one_life(side, plan)
        await side.start()

    async def _one_life(self, side: PeerRuns, plan: LifePlan) -> None:
        try:
            await side.start(points=plan.points)
        except ChildFailed:
            code = await side.now.ended()
            assert code == KILLED and plan.point, f"{side.name} did not start: {side.now.complaints}"
            self._tally.kills[plan.point] += 1
            return
        writing = asyncio.create_task(side.burst(BURST))
        dead = asyncio.create_task(side.now.process.wait())
        await asyncio.wait([dead], timeout=DIES_WITHIN if plan.point and plan.end != "leave" else plan.moment)
        if dead.done():
            await side.now.ended()
            assert dead.result() == KILLED, f"{side.name} ended with {dead.result()}: {side.now.complaints}"
            self._tally.kills[plan.point] += 1
        else:
            await self._end(side, plan)
        await dead
        await writing

    async def _end(self, side: PeerRuns, plan: LifePlan) -> None:
        """End a life from outside."""
        if sys.platform == "win32":
            raise NotImplementedError  # for type checkers: AVAILABLE is False there
        process = side.now.process
        if plan.end in ("freeze", "pause"):
            process.send_signal(signal.SIGSTOP)
            await asyncio.sleep(plan.still)  # the drawn duration of the suspension
        if plan.end == "pause":
            process.send_signal(signal.SIGCONT)
            await asyncio.sleep(plan.still)  # and as long a run before the kill
        if plan.end != "leave":
            await side.kill()
            self._tally.kills["frozen" if plan.end == "freeze" else "killed"] += 1
            return
        code = await side.now.leave()
        if code == KILLED and plan.point:
            self._tally.kills[plan.point] += 1
            return
        # 3: a recipient was offline. 4: the peer has not met a recipient yet, and has stored nothing about that user.
        assert code in (0, 3, 4), f"{side.name} left with {code}: {side.now.complaints}"
        assert side.now.lines[-1]["event"] == "stopped"

    async def _spoil(self) -> None:
        """Disturb the network: swallow or hold one direction of one proxy; then cut all its connections."""
        chance = random.Random(f"{self._seed}/network")
        while self._proxies and not self._all_lived.is_set():
            proxy = self._proxies[chance.choice(self._names)]
            how, still = chance.choice(["deaf", "dumb", "held back", "held onward", "cut"]), chance.uniform(0, 0.5)
            if how in ("deaf", "dumb"):
                setattr(proxy, how, True)
            elif how != "cut":
                proxy.hold(back=how == "held back")
            with suppress(TimeoutError):
                await asyncio.wait_for(self._all_lived.wait(), still)
            proxy.cut()
            self._tally.cuts += 1
            with suppress(TimeoutError):
                await asyncio.wait_for(self._all_lived.wait(), chance.uniform(0, 1.0))


class MeshFailed(Exception):
    """One mesh broke a promise; the text says how to repeat it."""


async def run(
    seed: str, numbers: Iterator[int], tally: Tally, until: float = float("inf"), *, home: Path, engine: str = ""
) -> None:
    """Run meshes, some at once, until the numbers or the time run out or the tally is complete.

    Args:
        engine: The URL of the engine that links the peers; "" for sockets.

    Raises:
        MeshFailed: The first that failed.
    """
    async with ForkServer() as fork_server, asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(_one_after_the_other(seed, numbers, tally, until, home, fork_server, engine))


async def _one_after_the_other(
    seed: str, numbers: Iterator[int], tally: Tally, until: float, home: Path, fork_server: ForkServer, engine: str
) -> None:
    while not tally.enough and time.monotonic() < until:
        number = next(numbers, None)
        if number is None:
            return
        logs = ROOT / "logs" / "kills" / f"{seed}-{number}"
        logs.mkdir(parents=True, exist_ok=True)
        for former in logs.glob("*.jsonl"):
            former.unlink()
        with tempfile.TemporaryDirectory(dir=home) as directory:
            cluster = Cluster(Path(directory), logs, fork_server, engine)
            try:
                await Mesh(cluster, seed, number, tally).live()
            except (AssertionError, ChildFailed, ExceptionGroup) as error:
                again = f"python -m tests.processes.kills --seed {seed} --mesh {number}{' --relay' * bool(engine)}"
                what = "".join(traceback.format_exception(error))
                raise MeshFailed(f"{what}\nlogs: {logs}\nagain: {again}") from error
            finally:
                for child in cluster.children:
                    await child.destroy()
        for log in logs.iterdir():
            log.unlink()
        logs.rmdir()


async def _report(tally: Tally) -> None:
    while True:
        await asyncio.sleep(10)  # the interval of the report
        print(tally, flush=True)


async def _main(words: argparse.Namespace) -> None:
    tally = Tally(wanted=words.kills)
    until = time.monotonic() + words.minutes * 60
    numbers = iter([words.mesh]) if words.mesh is not None else itertools.count(words.first)
    reporting = asyncio.create_task(_report(tally))
    began = time.monotonic()
    server = NatsServer() if words.relay else None
    try:
        with tempfile.TemporaryDirectory(prefix="p2pchat-kills-") as home:
            engine = "" if server is None else server.url
            await run(words.seed, numbers, tally, until, home=Path(home), engine=engine)
    finally:
        reporting.cancel()
        if server is not None:
            server.kill()
        print(f"{tally.lines()}\nseed {words.seed}: {tally}; {time.monotonic() - began:.0f} s", flush=True)


def main() -> int:
    """Run from the command line; return 1 if a mesh failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.processes.kills", description=__doc__)
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--seed", default=str(random.randrange(10**6)))
    parser.add_argument("--kills", type=int, help="stop after so many")
    parser.add_argument("--first", type=int, default=0, help="the first mesh")
    parser.add_argument("--mesh", type=int, help="this mesh alone")
    parser.add_argument("--relay", action="store_true", help="link the peers through an engine")
    words = parser.parse_args()
    if not AVAILABLE:
        parser.error("this needs Linux")
    if words.relay and (why := missing()):
        parser.error(why)
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

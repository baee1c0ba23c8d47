"""Command `python -m tests.processes.engine_kills --kills N --seed S`: kill the engine while three peers write; or
`--minutes N`, part of `poe soak`.

The peers listen on no socket and are linked through one nats-server. In each round it is killed at a drawn moment of a
burst, and in every third round one of the peers too; both start again after a drawn pause. A round ends when all links
are back. At the end every message must have come once, as after all kills (peer_runs.py). Several such meshes run at
once, each with an engine of its own, since they mostly wait.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import random
import sys
import tempfile
import time
from pathlib import Path

from p2pchat.testing.process_mesh import Child, ChildFailed, Line
from tests.nats import NatsServer, missing
from tests.processes.fork_server import AVAILABLE, ForkServer
from tests.processes.peer_runs import PATIENCE, PeerRuns, check_nothing_lost_or_repeated, wait_for_everything
from tests.processes.peers import ROOT, Cluster

NAMES = ("ada", "bob", "cyd")
BURST = 150  # lines of each peer; a third of them go to the room
LATEST = 0.25  # seconds; kills come within this time after the start of a burst, about its duration
LONGEST_AWAY = 2.0  # seconds for which the engine is away
KILLS_OF_A_MESH = 10  # about a minute; then a mesh is checked, and a new one starts
AT_ONCE = 2
WANTED = 10.0  # seconds for all links to be back


async def relayed(cluster: Cluster) -> list[PeerRuns]:
    """Start three peers that are linked through the engine of the cluster only."""
    sides = [PeerRuns(cluster, name, NAMES[(number + 1) % 3]) for number, name in enumerate(NAMES)]
    await sides[0].start()
    assert sides[0].now.listening["port"] == 0
    for side in sides[1:]:
        await side.start(sides[0].now.endpoint)
    for side in sides:
        for other in sides:
            if other is not side:
                await side.now.event("joined", PATIENCE, user=other.name)
        await side.remembers(2)
    return sides


async def kill_the_engine(engine: NatsServer, sides: list[PeerRuns], chance: random.Random, *, peer: int) -> float:
    """Kill it while all write, and a peer too unless that is -1.

    Returns:
        The seconds from its answering again until all links were back.
    """
    writing = [asyncio.create_task(side.burst(BURST)) for side in sides]
    await asyncio.sleep(chance.uniform(0, LATEST))  # the drawn moment
    await asyncio.to_thread(engine.kill)
    lines = {side.name: len(side.now.lines) for side in sides}
    if peer >= 0:
        await sides[peer].kill()
    await asyncio.gather(*writing)
    await asyncio.sleep(chance.uniform(0, LONGEST_AWAY))  # the drawn duration
    await asyncio.to_thread(engine.start)
    began = time.monotonic()
    if peer >= 0:
        await sides[peer].start()
        lines[sides[peer].name] = 0
    await asyncio.gather(*(links_back(side.now, lines[side.name]) for side in sides))
    return time.monotonic() - began


async def links_back(child: Child, since: int) -> None:
    """Wait until a peer, after so many event lines, has met the engine again, and then both others."""
    states: dict[str, str] = {}
    numbers = itertools.count()

    def is_back(line: Line) -> bool:  # of each line once, in order
        if next(numbers) < since:
            return False
        if line["event"] == "link" and line["state"] in ("up", "down"):
            states[line["peer_id"]] = line["state"]
            if not line["peer_id"]:
                states.clear()  # all links before were lost with the former connection
                states["engine"] = "up"
        return states.get("engine") == "up" and [*states.values()].count("up") == len(NAMES)

    await child.wait(is_back, PATIENCE)


async def mesh_with_kills(cluster: Cluster, engine: NatsServer, seed: str, kills: int) -> list[float]:
    """Run one mesh through so many kills and check it; return the seconds that its links took each time."""
    chance = random.Random(seed)
    sides = await relayed(cluster)
    took = []
    for number in range(kills):
        peer = number // 3 % 3 if number % 3 == 2 else -1
        took.append(await kill_the_engine(engine, sides, chance, peer=peer))
    await wait_for_everything(*sides)
    await check_nothing_lost_or_repeated(cluster, *sides)
    for side in sides:
        for line in (line for life in side.lives for line in life.lines):
            assert line.get("code") != "two_processes", f"{side.name}: {line}"
            if line["event"] == "link" and line["state"] == "up" and line["peer_id"]:
                assert line["address"] in ("relay", ""), f"{side.name} has a direct link: {line}"
    assert [await side.now.leave() for side in sides] == [0, 0, 0]
    return took


def summary(took: list[float], accepted: int) -> str:
    """Return for people how long links took."""
    middle, last = sorted(took)[len(took) // 2], sorted(took)[max(0, len(took) * 99 // 100 - 1)]
    return (
        f"{len(took)} kills of the engine: links back after {middle:.1f} s (median), {last:.1f} s (99 of 100), "
        f"{max(took):.1f} s (all); within {WANTED:g} s: {sum(one <= WANTED for one in took)}; "
        f"{accepted:,} messages accepted, none lost, none twice"
    )


async def _main(words: argparse.Namespace) -> None:
    took: list[float] = []
    accepted = 0
    until = time.monotonic() + words.minutes * 60
    meshes = itertools.count() if words.minutes else range(-(-words.kills // KILLS_OF_A_MESH))
    numbers = itertools.takewhile(lambda _: not words.minutes or time.monotonic() < until, meshes)

    async def work(home: Path, fork_server: ForkServer) -> None:
        nonlocal accepted
        for number in numbers:
            logs = ROOT / "logs" / "engine-kills" / f"{words.seed}-{number}"
            logs.mkdir(parents=True, exist_ok=True)
            for former in logs.glob("*.jsonl"):
                former.unlink()
            engine = NatsServer()
            cluster = Cluster(home / str(number), logs, fork_server, engine.url)
            left = KILLS_OF_A_MESH if words.minutes else words.kills - number * KILLS_OF_A_MESH
            kills = min(KILLS_OF_A_MESH, left)
            try:
                took.extend(await mesh_with_kills(cluster, engine, f"{words.seed}/{number}", kills))
            finally:
                accepted += sum(line["event"] == "sent" for child in cluster.children for line in child.lines)
                for child in cluster.children:
                    await child.destroy()
                engine.kill()
            print(summary(took, accepted), flush=True)
            for log in logs.iterdir():
                log.unlink()
            logs.rmdir()

    with tempfile.TemporaryDirectory(prefix="p2pchat-engine-kills-") as home:
        async with ForkServer() as fork_server, asyncio.TaskGroup() as group:
            for _ in range(AT_ONCE):
                group.create_task(work(Path(home), fork_server))
    print(f"  {len(took)} kills of the engine\n  {accepted} messages accepted among them")
    print(f"seed {words.seed}: {summary(took, accepted)}")


def main() -> int:
    """Run from the command line; return 1 if a message was lost or came twice, or links did not come back."""
    parser = argparse.ArgumentParser(prog="python -m tests.processes.engine_kills", description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--minutes", type=float, default=0.0, help="instead: no more meshes begin after this")
    parser.add_argument("--seed", default=str(random.randrange(10**6)), help="draws the moments")
    words = parser.parse_args()
    if not AVAILABLE:
        parser.error("this needs Linux")
    if why := missing():
        parser.error(why)
    code = 0
    try:
        asyncio.run(_main(words))
    except* (AssertionError, ChildFailed) as failed:
        print(*failed.exceptions, sep="\n", file=sys.stderr)
        again = f"--minutes {words.minutes:g}" if words.minutes else f"--kills {words.kills}"
        print(f"again: python -m tests.processes.engine_kills {again} --seed {words.seed}")
        code = 1
    return code


if __name__ == "__main__":
    raise SystemExit(main())

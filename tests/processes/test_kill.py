"""Repeated SIGKILL of either side during a burst, at random moments: no accepted message is lost or duplicated.

P2PCHAT_TEST_KILLS is the number of kills of each side. P2PCHAT_TEST_SEED draws other moments; a failing run prints its
seed.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from p2pchat import TCPPeer
from p2pchat.testing.process_mesh import Line
from tests.amounts import KILLS
from tests.processes.peer_runs import (
    PATIENCE,
    PeerRuns,
    check_nothing_lost_or_repeated,
    know_each_other,
    wait_for_everything,
)
from tests.processes.peers import Cluster
from tests.processes.proxy import Proxy

pytestmark = [
    pytest.mark.sampled,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.relayed(always=False),
]
SEED = int(os.environ.get("P2PCHAT_TEST_SEED", "7"))
BURST = 300  # lines; a third of them go to the room
BACKLOG = 4_000  # lines; fetching and showing them takes longer than LATEST
READER = """
import asyncio, sys
from p2pchat import Message, TCPPeer

async def main(endpoint: str, data: str, work: str) -> None:
    async with TCPPeer(0, endpoint, name="bob", data=data) as bob:
        while work == "idle":
            await asyncio.sleep(1)
        async for message in bob.events(Message):
            print(message.text, flush=True)

asyncio.run(main(*sys.argv[1:]))
"""
LATEST = 0.25  # seconds; kills come within this time after the start of a burst, about its duration


@asynccontextmanager
async def pair(
    cluster: Cluster, *, through: tuple[Proxy, Proxy] | None = None
) -> AsyncIterator[tuple[PeerRuns, PeerRuns]]:
    """Start two linked peers; with proxies, each is only reachable, or reaches its engine, through its own."""
    if through is None:
        ada, bob = PeerRuns(cluster, "ada", "bob"), PeerRuns(cluster, "bob", "ada")
    elif cluster.engine:
        engines = [("--engine", await proxy.listen(), "--no-listen") for proxy in through]
        for proxy in through:
            proxy.to("127.0.0.1", int(cluster.engine.rpartition(":")[2]))
        ada, bob = PeerRuns(cluster, "ada", "bob", *engines[0]), PeerRuns(cluster, "bob", "ada", *engines[1])
    else:
        to_ada, to_bob = [await proxy.listen() for proxy in through]
        ada = PeerRuns(cluster, "ada", "bob", "--host", "127.0.0.2", "--advertise", to_ada)
        bob = PeerRuns(cluster, "bob", "ada", "--host", "127.0.0.3", "--advertise", to_bob)
    await ada.start()
    if through is None or cluster.engine:
        await bob.start(ada.now.endpoint)
    else:
        through[0].to("127.0.0.2", ada.port)
        await bob.start(to_ada)
        through[1].to("127.0.0.3", bob.port)
    await ada.now.event("joined", user="bob")
    await bob.now.event("joined", user="ada")
    await know_each_other(ada, bob)
    try:
        yield ada, bob
    finally:
        for proxy in through or ():
            await proxy.close()


@pytest.mark.relayed
@pytest.mark.timeout(240 + 10 * KILLS)
async def test_kills_of_each_side_in_the_middle_of_bursts(quick: Cluster) -> None:
    print(f"seed {SEED}, {KILLS} kills of each side")
    chance = random.Random(SEED)
    async with pair(quick) as (ada, bob):
        told = 0
        for _ in range(KILLS):
            drawn = [chance.randint(0, BURST - 1) for _ in range(2)]
            await asyncio.gather(*map(dies_while_writing, (ada, bob), drawn))
            told += sum(drawn)
        await wait_for_everything(ada, bob)
        await check_nothing_lost_or_repeated(quick, ada, bob)
        wrote = ada.written + bob.written
        accepted = len(ada.accepted()) + len(bob.accepted())
        print(f"{wrote} lines written, {accepted} told as accepted")
        assert accepted >= told
        assert [await ada.now.leave(), await bob.now.leave()] == [0, 0]


async def dies_while_writing(side: PeerRuns, accepted: int) -> None:
    """Write a burst, and kill the writer once `accepted` of its lines are reported as accepted."""
    life, first = side.now, side.written
    writing = asyncio.create_task(side.burst(BURST))

    def is_of_this_life(line: Line) -> bool:
        writer, _, number = line.get("text", "").partition(" ")
        return line["event"] == "sent" and writer == side.name and number.isdigit() and int(number) >= first

    await life.wait(is_of_this_life, PATIENCE, count=accepted)
    await side.kill()
    await writing
    await side.start()


@pytest.mark.long
@pytest.mark.timeout(240 + 10 * KILLS)
async def test_either_side_is_killed_while_one_catches_up(quick: Cluster) -> None:
    print(f"seed {SEED}")
    chance = random.Random(SEED)
    async with pair(quick) as (ada, bob):
        bob.now.kill()
        await bob.now.ended()
        backlog = {f"ada {number}": "room" for number in range(BACKLOG)}
        ada.typed |= backlog
        await ada.now.type(*backlog)
        await ada.now.event("sent", PATIENCE, text=f"ada {BACKLOG - 1}")
        await bob.start()
        for _ in range(max(3, KILLS // 2)):
            await killed_at(chance.choice([ada, bob]), chance.uniform(0, LATEST))
            await killed_at(bob, chance.uniform(0, LATEST))
        await wait_for_everything(ada, bob)
        await check_nothing_lost_or_repeated(quick, ada, bob)
        print("messages in each life of bob:", [life.count("message") for life in bob.lives])
        assert [await ada.now.leave(), await bob.now.leave()] == [0, 0]


async def killed_at(side: PeerRuns, moment: float) -> None:
    await asyncio.sleep(moment)  # the drawn moment of the kill
    await side.kill_and_start()


@pytest.mark.timeout(240 + 15 * KILLS)
async def test_four_peers_are_killed_stopped_and_restarted_while_all_write(quick: Cluster) -> None:
    print(f"seed {SEED}")
    chance = random.Random(SEED)
    names = ("ada", "bob", "cyd", "dan")
    sides = [PeerRuns(quick, name, names[(number + 1) % 4]) for number, name in enumerate(names)]
    await sides[0].start()
    for side in sides[1:]:
        await side.start(sides[0].now.endpoint)
    for side in sides:
        for name in names:
            if name != side.name:
                await side.now.event("joined", user=name)
    await know_each_other(*sides)
    for _ in range(max(1, KILLS // 3)):
        drawn = [(side, chance.uniform(0, 2 * LATEST), chance.random(), chance.uniform(0.1, 2.0)) for side in sides]
        await asyncio.gather(*(side.burst(BURST) for side in sides), *(disturb(*draw) for draw in drawn))
    await wait_for_everything(*sides)
    await check_nothing_lost_or_repeated(quick, *sides)
    assert [await side.now.leave() for side in sides] == [0] * 4


async def disturb(side: PeerRuns, moment: float, draw: float, how_long: float) -> None:
    """Kill one peer in two, suspend one in six, stop one in six, and leave one in six alone."""
    await asyncio.sleep(moment)  # the drawn moment
    if draw < 3 / 6:
        await side.kill_and_start()
    elif sys.platform != "win32" and draw < 4 / 6:
        side.now.process.send_signal(signal.SIGSTOP)
        await asyncio.sleep(how_long)  # the drawn duration
        side.now.process.send_signal(signal.SIGCONT)
    elif draw < 5 / 6:
        code = await side.now.leave()
        assert code in (0, 3)  # 3: a recipient was offline
        assert side.now.lines[-1]["event"] == "stopped"
        await side.start()


@pytest.mark.skipif(sys.platform != "linux", reason="the peers have addresses of their own in 127.0.0.0/8")
@pytest.mark.timeout(240 + 10 * KILLS)
async def test_swallowed_acknowledgements_followed_by_cut_links(quick: Cluster) -> None:
    print(f"seed {SEED}")
    chance = random.Random(SEED)
    proxies = Proxy(), Proxy()
    async with pair(quick, through=proxies) as (ada, bob):
        for number in range(max(2, KILLS // 2)):
            writer, reader = chance.choice([(ada, bob), (bob, ada)])
            await acknowledgements_lost(writer, reader, proxies, dialled=not quick.engine)
            if number % 2:
                await writer.kill_and_start()  # it never received the acknowledgements
            proxies[0].cut()
            proxies[1].cut()
            await writer.now.event("joined", PATIENCE, user=reader.name)
        assert proxies[0].swallowed + proxies[1].swallowed > 0
        await wait_for_everything(ada, bob)
        await check_nothing_lost_or_repeated(quick, ada, bob)
        assert [await ada.now.leave(), await bob.now.leave()] == [0, 0]


async def acknowledgements_lost(
    writer: PeerRuns, reader: PeerRuns, proxies: tuple[Proxy, Proxy], *, dialled: bool
) -> None:
    """Let the reader store a whole burst, and swallow its acknowledgements.

    Args:
        dialled: Each proxy is dialled by the other peer; else by its own peer, to reach the engine.
    """
    for to in ("room", reader.name):  # both conversations are compared: new texts are pushed
        well = f"all is well with {writer.name} at {writer.written}, {to}"
        await writer.say(to, well)
        before = await writer.now.event("sent", PATIENCE, text=well)
        await writer.now.event("delivered", PATIENCE, id=before["id"])
    for proxy, listening in zip(proxies, ("ada", "bob"), strict=True):
        proxy.deaf, proxy.dumb = listening == reader.name, listening == writer.name
        if not dialled:
            proxy.deaf, proxy.dumb = proxy.dumb, proxy.deaf
    first = writer.written
    await writer.burst(BURST)
    wanted = {f"{writer.name} {number}" for number in range(first, writer.written)}
    await reader.now.wait(lambda line: line["event"] == "message" and line["text"] in wanted, PATIENCE, count=BURST)
    sent = await writer.now.wait(lambda line: line["event"] == "sent" and line["text"] in wanted, count=BURST)
    ids = {line["id"] for line in sent}
    assert not any(line["event"] == "delivered" and line["id"] in ids for line in writer.now.lines)


async def test_a_program_killed_before_its_first_events_gets_what_was_delivered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("P2PCHAT_HOME", str(tmp_path))
    async with asyncio.timeout(3 * PATIENCE), TCPPeer(0, name="ada", temporary=True) as ada:

        async def run(work: str) -> asyncio.subprocess.Process:
            command = ["-c", READER, ada.endpoint, str(tmp_path / "bob"), work]
            process = await asyncio.create_subprocess_exec(sys.executable, *command, stdout=asyncio.subprocess.PIPE)
            await ada.wait_user("bob")
            return process

        bob = await run("idle")
        try:
            await (await ada.send("bob", "the first")).delivered()
            bob.kill()
            await bob.wait()
            bob = await run("read")
            assert bob.stdout is not None
            await ada.send("bob", "the second")
            assert [await bob.stdout.readline() for _ in range(2)] == [b"the first\n", b"the second\n"]
        finally:
            bob.kill()
            await bob.wait()

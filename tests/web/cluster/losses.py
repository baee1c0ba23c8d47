"""Command `python -m tests.web.cluster.losses KIND --sessions N --rate R`: take parts of a cluster away.

Kinds: `kill` and `stop` take one of three gateways away for a while, `engine` all nats-servers, `rolling` restarts all
three gateways one after the other, `grow` adds a fourth and retires the first, `move` kills one and starts it elsewhere
with a copy of its directory and the same database, which is on PostgreSQL for all three. Everybody talks all the time,
each message with a key. At the end everyone has to have all that was accepted, and the figures are returned.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import tempfile
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from time import monotonic

import httpx

from tests.databases.servers import private
from tests.deadlines import WAIT, within
from tests.web.cluster.crowd import Crowd
from tests.web.cluster.site import LOOK_EVERY, Gate, Site, site

SERVERS = 3  # of the engine
AWAY = {"engine": 60.0, "grow": 8.0}  # seconds for which a part is away; the others for 3
BEFORE, AFTER = 5, 5  # seconds of talk before and after a loss


async def play(kind: str, home: Path, sessions: int, rate: float, databases: Sequence[str] = ()) -> str:
    """Play one loss under load and check it; return the figures for people."""
    async with site(home, servers=SERVERS, databases=databases) as one:
        crowd = Crowd(one.front, await one.accounts([f"user{number}" for number in range(sessions)]))
        try:
            await crowd.come()
            crowd.talk(rate)
            await crowd.until_said(int(BEFORE * rate))
            began = monotonic()
            told = await _LOSSES[kind](one, crowd, AWAY.get(kind, 3.0))
            await crowd.until_said(int(AFTER * rate))
            await crowd.quiet()
            assert not crowd.written_twice() or kind in ("kill", "move"), crowd.written_twice()
            return f"{kind}: {told}; {figures(crowd, began)}"
        finally:
            await crowd.leave()


def figures(crowd: Crowd, since: float) -> str:
    """Return what came of the sessions and messages of a crowd."""
    gaps = crowd.gaps(since) or [0.0]
    return (
        f"{len(gaps)} sessions moved, without service for {gaps[len(gaps) // 2]:.2f} s (median), "
        f"{gaps[len(gaps) * 99 // 100]:.2f} s (99 of 100), {gaps[-1]:.2f} s (all); "
        f"{len(crowd.posts):,} messages, {len(crowd.missed())} missed, {len(crowd.written_twice())} written twice"
    )


async def _kill(one: Site, crowd: Crowd, away: float) -> str:
    gate = one.gates[0]
    gate.kill()
    return await _without(one, crowd, gate, away)


async def _stop(one: Site, crowd: Crowd, away: float) -> str:
    gate = one.gates[0]
    began = monotonic()
    assert await gate.stop() == 0
    took = monotonic() - began
    return f"ended in {took:.1f} s; " + await _without(one, crowd, gate, away)


async def _without(one: Site, crowd: Crowd, gate: Gate, away: float) -> str:
    await asyncio.sleep(away)  # the time without it
    await crowd.all_live()
    moved = Counter(client.gateway for client in crowd.clients.values())
    gate.start()
    await gate.until_up(2)
    return f"sessions at the others {sorted(moved.values())}"


async def _engine(one: Site, crowd: Crowd, away: float) -> str:
    for server in one.engines:
        server.kill()
    began = monotonic()
    async with httpx.AsyncClient(base_url=f"http://{one.front}", timeout=WAIT, trust_env=False) as http:
        async with within(WAIT, "sign-ups to be refused"):
            while (answer := await http.post("/accounts", json={"name": "late"})).status_code != 503:
                assert answer.status_code == 409, answer.text
        assert answer.json()["code"] == "cluster" and answer.headers["Retry-After"]
        told = len(crowd.posts)
        while monotonic() - began < away:
            await crowd.until_said(1)
        told = len(crowd.posts) - told
        assert await http.get("/healthz")
        for server in one.engines:
            await asyncio.to_thread(server.start)
        back_at = monotonic()
        async with within(WAIT, "sign-ups to be accepted"):
            while (answer := await http.post("/accounts", json={"name": "late"})).status_code != 201:
                assert answer.status_code in (409, 503), (
                    answer.text
                )  # 409: a claim that the engine may have is given up
                await asyncio.sleep(0.05)
    await asyncio.gather(*(gate.until_up(3) for gate in one.gates[:3]))
    return f"{told} messages meanwhile, sign-ups accepted {monotonic() - back_at:.1f} s after the engine's start"


async def _rolling(one: Site, crowd: Crowd, away: float) -> str:
    took = []
    for gate in one.gates[:3]:
        began = monotonic()
        assert await gate.stop() == 0
        gate.start()
        await gate.until_up(3)
        await crowd.all_live()
        took.append(f"{monotonic() - began:.1f}")
        await asyncio.sleep(away)  # until the next one
    return f"restarts took {', '.join(took)} s"


async def _grow(one: Site, crowd: Crowd, away: float) -> str:
    new, old = one.gates[3], one.gates[0]
    began = monotonic()
    new.start()
    await new.until_up(4)
    took = monotonic() - began
    await asyncio.sleep(away)  # both are there
    assert await old.stop() == 0
    await crowd.all_live()
    await asyncio.sleep(away)
    at = Counter(client.gateway for client in crowd.clients.values())
    return f"the new one joined in {took:.1f} s; at the end sessions {sorted(at.values())}"


async def _move(one: Site, crowd: Crowd, away: float) -> str:
    gate, elsewhere = one.gates[0], one.moved()
    shutil.copytree(gate.data, elsewhere.data, ignore=shutil.ignore_patterns("*.sock"))
    gate.kill()
    one.gates.append(elsewhere)  # so that it is ended with the others
    elsewhere.start()
    began = monotonic()
    await elsewhere.until_up(3)
    took = monotonic() - began
    await crowd.all_live()
    gate.start()  # the machine that was lost comes back
    async with within(WAIT, "the end of the one that comes back"):
        while gate.is_running:
            await asyncio.sleep(LOOK_EVERY)  # poll: another process
    assert "in use by another peer" in gate.log.read_text(), gate.log
    await asyncio.sleep(away)
    return f"it was in the cluster again after {took:.1f} s"


_LOSSES = {"kill": _kill, "stop": _stop, "engine": _engine, "rolling": _rolling, "grow": _grow, "move": _move}


def _main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.web.cluster.losses")
    parser.add_argument("kind", choices=_LOSSES)
    parser.add_argument("--sessions", type=int, default=600)
    parser.add_argument("--rate", type=float, default=50.0)
    words = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="p2pchat-losses-") as home, ExitStack() as stack:
        databases: list[str] = []
        if words.kind == "move":
            server = stack.enter_context(private("postgresql"))
            databases = [server.create(f"gate{number}") for number in range(3)]
        print(asyncio.run(play(words.kind, Path(home), words.sessions, words.rate, databases)), flush=True)


if __name__ == "__main__":
    _main()

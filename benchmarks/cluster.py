"""Three gateways as one, beside one gateway with as many users: the CPU time of a delivery.

A delivery is one message told to one session. The gateways and the nats-servers, which keep three copies of each
record, are processes as an operator has them. Both sites run at once and get the same messages in turn, so many a
second: to the room of all users, and from one user to another, each without and with an idempotency key. What a site
takes to be there is in its figures. Runs only if named.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

from benchmarks.others.servers import found, free_port, running
from benchmarks.results import Row, Setting, middle, shown
from benchmarks.workers import ROOT, Worker, WorkFailed

SERVERS = 3  # gateways, and nats-servers
PATIENCE = 120.0  # seconds for one thing
LOOK = 0.2  # seconds between two looks at other processes
AT_ONCE = 8  # accounts that are made at a time
WARMING = 20
SECONDS = 10.0  # of each round
# Messages a second: what two cores carry for 600 users beside the users themselves; to the room each is 599 deliveries.
ROOM_RATE, DIRECT_RATE = 15.0, 60.0
WINDOW = 30  # messages under way where there is no rate: ten for each gateway, as in `web`
EACH = 300  # messages in a round of that


@dataclass(frozen=True, slots=True)
class Work:
    """What is written in a round."""

    words: str
    rate: float
    window: int = 1  # messages under way, if there is no rate
    direct: bool = False
    keys: bool = False


WORKS = (
    Work("room, as fast as it goes", 0.0, WINDOW),
    Work("room", ROOM_RATE),
    Work("room, with keys", ROOM_RATE, keys=True),
    Work("direct", DIRECT_RATE, direct=True),
    Work("direct, with keys", DIRECT_RATE, direct=True, keys=True),
)


def cpu_of(pid: int) -> float:
    """Return the CPU seconds of a process; 0 if the system does not say."""
    if sys.platform == "win32":
        return 0.0
    try:
        fields = Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()
    except OSError:
        return 0.0
    ticks: int = os.sysconf("SC_CLK_TCK")
    return (int(fields[11]) + int(fields[12])) / ticks


@dataclass(slots=True)
class Site:
    """Gateways with their users; the CPU seconds of gateways and of the engine for each delivery, by work and round."""

    gateways: list[int]  # process ids, as the next
    engine: list[int]
    users: Worker
    each: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    p99: dict[str, list[float]] = field(default_factory=dict)

    def round(self, work: Work, *, messages: int = 0) -> None:
        """Let users write, and wait until all who should have the messages have them."""
        count = messages or int(SECONDS * work.rate) or EACH
        before = self._cpu()
        how = {"window": work.window, "rate": work.rate, "direct": work.direct, "keys": work.keys}
        self.users.put({"messages": count, **how})
        told = _worked(self.users.get())
        time.sleep(LOOK)  # what is done behind the last delivery
        after = self._cpu()
        if not messages:
            per = [(now - then) / told["deliveries"] for then, now in zip(before, after, strict=True)]
            self.each.setdefault(work.words, []).append((per[0], per[1]))
            self.p99.setdefault(work.words, []).append(told["p99"])

    def _cpu(self) -> tuple[float, float]:
        return sum(map(cpu_of, self.gateways)), sum(map(cpu_of, self.engine))


def _worked(said: dict[str, Any]) -> dict[str, Any]:
    if "failed" in said:
        raise WorkFailed(said["failed"])
    return said


def _engine(stack: ExitStack, home: Path) -> tuple[str, list[int]]:
    """Start the nats-servers; return their URLs and process ids."""
    ports, routes = [free_port() for _ in range(SERVERS)], [free_port() for _ in range(SERVERS)]
    others, pids = ",".join(f"nats://127.0.0.1:{port}" for port in routes), []
    for number, (port, route) in enumerate(zip(ports, routes, strict=True)):
        place = home / f"engine{number}"
        place.mkdir()
        command = [found("nats-server"), "-a", "127.0.0.1", "-p", str(port), "-js", "-sd", str(place)]
        command += ["-n", f"engine{number}", "--cluster_name", "engine", "--routes", others]
        command += ["--cluster", f"nats://127.0.0.1:{route}"]
        pids.append(stack.enter_context(running(command, port, place)))
    return ",".join(f"nats://127.0.0.1:{port}" for port in ports), pids


@contextmanager
def _gateway(home: Path, page: int, port: int, others: list[int], options: list[str]) -> Iterator[int]:
    """Run a gateway until the block ends; yield its process id."""
    command = [sys.executable, "-m", "p2pchat", "web", str(page), *map(str, others), "--port", str(port)]
    command += ["--name", home.name, "--data", str(home), *options]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("P2PCHAT_")}
    environment |= {"P2PCHAT_HOME": str(home.parent), "PYTHONPATH": str(ROOT)}
    with open(home.parent / f"{home.name}.log", "wb") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment)
    try:
        yield process.pid
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _metric(page: int, name: str) -> float:
    """Return what a gateway measures of itself; -1 as long as it does not answer."""
    try:
        with urlopen(Request(f"http://127.0.0.1:{page}/metrics"), timeout=5) as answer:
            lines = answer.read().decode().splitlines()
    except OSError:
        return -1.0
    return next((float(line.split(" ")[1]) for line in lines if line.startswith(f"{name} ")), -1.0)


def _until_measured(page: int, name: str, least: float) -> None:
    deadline = time.monotonic() + PATIENCE
    while _metric(page, name) < least:
        if time.monotonic() > deadline:
            raise WorkFailed(f"a gateway has less than {least:g} {name} after {PATIENCE:.0f} s")
        time.sleep(LOOK)


async def _tokens(homes: list[Path], users: int) -> list[str]:
    """Make accounts at all gateways in turn; return their tokens when each has a home and a standby."""
    from p2pchat.cli.control_client import ask_running_peer

    gate = asyncio.Semaphore(AT_ONCE)

    async def make(number: int) -> str:
        async with gate:
            rows = await ask_running_peer(homes[number % len(homes)], "web_token", name=f"user{number}")
            assert rows is not None
            return str(rows[0]["token"])

    async def hosted(home: Path) -> int:
        rows = await ask_running_peer(home, "web_users")
        return sum("elsewhere" not in row for row in rows or ())

    tokens = await asyncio.gather(*map(make, range(users)))
    async with asyncio.timeout(PATIENCE):
        while sum(await asyncio.gather(*map(hosted, homes))) < users * min(2, len(homes)):
            await asyncio.sleep(1)
    return tokens


def _site(stack: ExitStack, home: Path, gateways: int, users: int) -> Site:
    home.mkdir()
    options, engine = list[str](), list[int]()
    if gateways > 1:
        from p2pchat.web.cluster.cluster_key import make_key_file

        url, engine = _engine(stack, home)
        make_key_file(home / "cluster.key")
        options = ["--cluster", "team", "--cluster-key", str(home / "cluster.key"), "--engine", url]
    pages, ports = [free_port() for _ in range(gateways)], [free_port() for _ in range(gateways)]
    homes = [home / f"gate{number}" for number in range(gateways)]
    pids = [
        stack.enter_context(_gateway(place, page, port, [one for one in ports if one != port], options))
        for place, page, port in zip(homes, pages, ports, strict=True)
    ]
    for page in pages:
        if gateways > 1:
            _until_measured(page, "p2pchat_web_cluster_gateways", gateways)
        _until_measured(page, "p2pchat_peer_links", gateways - 1)
    tokens = home / "tokens.json"
    tokens.write_text(json.dumps(asyncio.run(_tokens(homes, users))), "utf-8")
    there = {"kind": "chat", "ports": pages, "users": users, "tokens": str(tokens)}
    crowd = stack.enter_context(Worker("webcrowd.crowd", home=home, **there))
    _worked(crowd.get())
    return Site(pids, engine, crowd)


def run(setting: Setting) -> list[Row]:
    """Measure all works at both sites, in turn."""
    if find_spec("nats") is None or not found("nats-server"):
        raise WorkFailed("an engine needs nats-py and nats-server: pip install -e '.[bench]'")
    if sys.platform != "linux":
        raise WorkFailed("the CPU time of other processes is read from /proc")
    with ExitStack() as stack:
        cluster = _site(stack, setting.directory / "cluster", SERVERS, setting.users)
        plain = _site(stack, setting.directory / "plain", 1, setting.users)
        for site in (cluster, plain):
            for work in WORKS:
                site.round(work, messages=WARMING)
        for _ in range(setting.rounds):
            for work in WORKS:
                for site in (cluster, plain):
                    site.round(work)
    return [_row(work, cluster, plain, setting.users) for work in WORKS]


def _row(work: Work, cluster: Site, plain: Site, users: int) -> Row:
    ours = [1e6 * (gateways + engine) for gateways, engine in cluster.each[work.words]]
    theirs = [1e6 * gateways for gateways, _ in plain.each[work.words]]
    engine = [100 * engine / (gateways + engine) for gateways, engine in cluster.each[work.words]]
    pace = f"{work.rate:g} messages a second" if work.rate else f"{work.window} under way"
    ratios = [there / here for here, there in zip(ours, theirs, strict=True)]
    return Row(
        f"{work.words}: a delivery at one gateway / in the cluster, CPU", middle(ratios), "x", "0.9; engine under 5 %",
        f"{shown(middle(theirs))} / {shown(middle(ours))} us, {shown(middle(engine))} % of it the engine's",
        f"{users:,} users, {pace}; rounds {', '.join(map(shown, ratios))}; "
        f"p99 {shown(1e3 * middle(plain.p99[work.words]))} / {shown(1e3 * middle(cluster.p99[work.words]))} ms",
    )  # fmt: skip

"""A whole cluster of processes: gateways, nats-servers, and haproxy before them, which keeps nobody at one gateway.

Everything is started, killed and stopped as an operator would. What a process prints is in a file of its name.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from shutil import which

import httpx

from p2pchat.cli.control_client import ask_running_peer
from p2pchat.web.cluster.cluster_key import make_key_file
from p2pchat.web.cluster.living_gateways import COPIES
from tests.deadlines import WAIT, within
from tests.nats import NatsServer
from tests.nats import missing as nats_missing
from tests.ports import free_ports

ROOT = Path(__file__).resolve().parents[3]
HAPROXY = which("haproxy", path=f"{os.environ.get('PATH', '')}:/usr/sbin") or ""
LOOK_EVERY = 0.05  # seconds between two looks at another process
ACCOUNTS_AT_ONCE = 8
MAX_GATEWAYS = 4

BALANCER = """\
global
    maxconn 4096
defaults
    mode tcp
    timeout connect 2s
    timeout check 5s
    timeout client 1h
    timeout server 1h
    option redispatch 1
    retries 3
frontend page
    bind {front}
    default_backend gateways
backend gateways
    balance leastconn
    option httpchk
    http-check send meth GET uri /readyz ver HTTP/1.1 hdr Host {front} hdr Connection close
    default-server check inter 1s fall 5 rise 1 on-marked-down shutdown-sessions
{servers}
"""


def missing() -> str:
    """Return why there can be no cluster here; "" if there can."""
    return nats_missing() or ("" if HAPROXY else "no haproxy: install it from the system's packages")


class Process:
    """A program of the cluster. Attributes: `log`, the file of what it prints; its `environment`.

    A gateway finds compiled modules when it starts again, as one that pip installed: compiling takes as long as the
    rest of its start.
    """

    def __init__(self, log: Path, *words: str, **variables: str) -> None:
        self.log = log
        self.environment = {
            **{name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"},
            "PYTHONPYCACHEPREFIX": str(log.parent / "compiled"), "PYTHONPATH": str(ROOT), "PYTHONUTF8": "1",
            **variables,
        }  # fmt: skip
        self._words = words
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._words, env=self.environment, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def kill(self) -> None:
        """As kill -9."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def pause(self) -> None:
        """Stop it as a machine that hangs does, until resume() (not on Windows, which has no haproxy either)."""
        if sys.platform != "win32":
            assert self._process is not None
            self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        if sys.platform != "win32":
            assert self._process is not None
            self._process.send_signal(signal.SIGCONT)

    async def stop(self) -> int:
        """Stop it in good order; return its exit code."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        async with within(WAIT, f"the end of {self.log.stem}"):
            return await asyncio.to_thread(self._process.wait)


class Gate(Process):
    """One gateway of the cluster. Attributes: the port of its `page`, and `data`, its directory."""

    def __init__(
        self, data: Path, name: str, host: str, page: str, port: str, others: Iterable[str], *words: str
    ) -> None:
        self.name, self.page, self.data = name, page, data
        self._base, self._headers = f"http://127.0.0.1:{page}", {"Host": host}
        command = [sys.executable, "-m", "p2pchat", "web", page, *others, "--port", port, "--name", name]
        super().__init__(Path(f"{data}.log"), *command, "--data", str(data), *words, P2PCHAT_HOME=str(data.parent))

    async def until_up(self, gateways: int) -> None:
        """Wait until it has the engine and knows so many living gateways."""
        wanted = {"p2pchat_web_cluster_up": 1.0, "p2pchat_web_cluster_gateways": gateways}
        async with (
            within(WAIT, f"{self.name} in the cluster ({self.log})"),
            self.caller() as http,
        ):
            while True:
                try:
                    found = measured((await http.get("/metrics")).text)
                    if all(found.get(name, -1.0) >= value for name, value in wanted.items()):
                        return
                except httpx.TransportError:
                    assert self.is_running, self.log.read_text()
                await asyncio.sleep(LOOK_EVERY)  # poll: another process

    def caller(self) -> httpx.AsyncClient:
        """Return a client of this gateway, past the balancer."""
        return httpx.AsyncClient(base_url=self._base, headers=self._headers, timeout=WAIT, trust_env=False)

    async def token(self, name: str) -> str:
        """Return a token for an account, as `p2pchat web token` does."""
        rows = await ask_running_peer(self.data, "web_token", name=name)
        assert rows is not None
        token: str = rows[0]["token"]
        return token

    async def accounts(self) -> list[str]:
        """Return the names of the accounts that it hosts, of those that `p2pchat web users` lists."""
        rows = await ask_running_peer(self.data, "web_users")
        assert rows is not None
        return [row["user"] for row in rows if "elsewhere" not in row]


def measured(text: str) -> dict[str, float]:
    """Return the metrics of a page by name, without those with labels."""
    lines = (line.split(" ") for line in text.splitlines() if line and not line.startswith("#") and "{" not in line)
    return {name: float(value) for name, value in lines}


class Site:
    """Gateways of one cluster behind one balancer.

    Attributes:
        gates: The gateways, running or not.
        engines: The servers of the engine.
        balancer: haproxy.
        front: Host and port of the balancer, which clients know.
    """

    def __init__(self, home: Path, servers: int, words: Sequence[str], databases: Sequence[str]) -> None:
        self.home = home
        self._words, self._databases = words, databases
        self.engines = _engines(home, servers)
        self._key = home / "cluster.key"
        make_key_file(self._key)
        ports = free_ports(2 * MAX_GATEWAYS + 1)
        self._pages, self._ports = ports[:MAX_GATEWAYS], ports[MAX_GATEWAYS:-1]
        self.front = f"localhost:{ports[-1]}"
        self.gates = [self._gate(number) for number in range(MAX_GATEWAYS)]
        servers_of = "\n".join(f"    server {gate.name} 127.0.0.1:{gate.page}" for gate in self.gates)
        config = home / "haproxy.cfg"
        config.write_text(BALANCER.format(front=self.front, servers=servers_of))
        self.balancer = Process(home / "haproxy.log", HAPROXY, "-db", "-f", str(config))

    def moved(self) -> Gate:
        """Return the first gateway at the place of the last: another directory and address, the same database."""
        return self._gate(MAX_GATEWAYS - 1, 0)

    def _gate(self, number: int, who: int | None = None) -> Gate:
        who = number if who is None else who
        engine = ",".join(server.url for server in self.engines)
        others = [port for place, port in enumerate(self._ports) if place != number]
        shared = ["--cluster", "team", "--cluster-key", str(self._key), "--engine", engine]
        database = ["--db", self._databases[who]] if who < len(self._databases) else []
        return Gate(
            self.home / f"gate{number}", f"gate{who}", self.front, self._pages[number], self._ports[number], others,
            *shared, "--origin", f"http://{self.front}", *database, *self._words,
        )  # fmt: skip

    async def start(self, gateways: int) -> None:
        """Start so many gateways and the balancer; return when all know each other."""
        for gate in self.gates[:gateways]:
            gate.start()
        await asyncio.gather(*(gate.until_up(gateways) for gate in self.gates[:gateways]))
        self.balancer.start()

    async def accounts(self, names: list[str]) -> dict[str, str]:
        """Make accounts at all gateways; return their tokens once each has a home and a standby."""
        running = [gate for gate in self.gates if gate.is_running]
        tokens: dict[str, str] = {}
        left = list(enumerate(names))

        async def make() -> None:
            while left:
                number, name = left.pop()
                tokens[name] = await running[number % len(running)].token(name)

        await asyncio.gather(*(make() for _ in range(ACCOUNTS_AT_ONCE)))
        async with within(WAIT + 0.1 * len(names), "every account at two gateways"):
            while True:
                hosted = await asyncio.gather(*(gate.accounts() for gate in running))
                hosts = Counter(name for names_here in hosted for name in names_here)
                if all(hosts[name] >= COPIES for name in names):
                    return tokens
                await asyncio.sleep(1)  # poll: other processes

    def close(self) -> None:
        for process in (self.balancer, *self.gates):
            process.kill()
        for server in self.engines:
            server.kill()


def _engines(home: Path, count: int) -> list[NatsServer]:
    routes, found = free_ports(count), []
    others = ",".join(f"nats://127.0.0.1:{port}" for port in routes)
    for number, port in enumerate(routes):
        words = ["-js", "-sd", str(home / f"engine{number}")]
        if count > 1:
            words += ["-n", f"engine{number}", "--cluster_name", "engine", "--routes", others]
            words += ["--cluster", f"nats://127.0.0.1:{port}"]
        found.append(NatsServer(*words))
    return found


@asynccontextmanager
async def site(
    home: Path, gateways: int = 3, servers: int = 1, words: Sequence[str] = (), databases: Sequence[str] = ()
) -> AsyncIterator[Site]:
    """A running cluster, whose gateways have more options in `words`.

    The first gateways have these databases, if there are any, and the others one in their directory.
    """
    one = Site(home, servers, words, databases)
    try:
        await one.start(gateways)
        yield one
    finally:
        one.close()

"""Gateways of one cluster in the process of a test, linked, with a real nats-server that can be killed and wiped."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI

from p2pchat import TCPPeer
from p2pchat.web import Gateway, WebSettings, create_app
from p2pchat.web.account_record import AccountRecord
from p2pchat.web.cluster.account_directory import AccountDirectory
from p2pchat.web.cluster.cluster import Cluster
from p2pchat.web.cluster.cluster_key import ClusterKey
from p2pchat.web.cluster.engine_store import StoreOptions
from p2pchat.web.cluster.living_gateways import ClusterTimes
from tests.deadlines import WAIT, until, within
from tests.nats import NatsServer, missing

SECRET = b"c" * 32
TIMES = ClusterTimes(beat_every=0.1, dead_after=2.0, settled_after=0.5, unhost_after=1.0)
NEVER = ClusterTimes(beat_every=0.1, dead_after=WAIT, settled_after=10 * WAIT)  # nobody is hosted without being asked
SILENT = ClusterTimes(beat_every=10 * WAIT, dead_after=WAIT, settled_after=10 * WAIT)  # after one beat at the start
STREAM = "KV_p2pchat-team-accounts"


class KeepingServer:
    """A nats-server with JetStream, whose disk can be copied and wiped."""

    def __init__(self, directory: Path) -> None:
        self.disk = directory / "engine"
        self.nats = NatsServer("-js", "-sd", str(self.disk))
        self.url = self.nats.url
        self.start, self.kill = self.nats.start, self.nats.kill

    def wipe(self) -> None:
        """Kill it, and start it with an empty disk."""
        self.kill()
        shutil.rmtree(self.disk)
        self.start()

    @asynccontextmanager
    async def operator(self) -> AsyncIterator[Any]:
        """The rights of its operator: everything that a client without restrictions can do."""
        from nats.aio.client import Client

        client = Client()
        await client.connect(servers=[self.url])
        try:
            yield client.jetstream()
        finally:
            await client.close()


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[KeepingServer]:
    if why := missing():
        pytest.skip(why)
    server = KeepingServer(tmp_path)
    yield server
    server.kill()


class Doors:
    """Gateways of one cluster, all linked."""

    def __init__(self, stack: AsyncExitStack, engine: KeepingServer, times: ClusterTimes, secret: bytes) -> None:
        self._stack, self._engine, self._times, self._secret = stack, engine, times, secret
        self.peers: list[TCPPeer] = []
        self.apps: list[FastAPI] = []

    async def open(self, data: Path | None = None, *, url: str = "", settings: WebSettings | None = None) -> Gateway:
        """Start one more gateway, and wait for the engine."""
        storage: dict[str, Any] = {"data": data} if data else {"db": "memory://"}
        peer = TCPPeer(0, *(other.port for other in self.peers), name=f"gate{len(self.peers)}", **storage)
        await self._stack.enter_async_context(peer)
        self.peers.append(peer)
        options = StoreOptions("team", (url or self._engine.url,), compared_every=0.1)
        app = create_app(peer, settings, Cluster(ClusterKey(self._secret, "team"), options, self._times))
        self.apps.append(app)
        gateway: Gateway = app.state.gateway
        self._stack.push_async_callback(gateway.aclose)
        await gateway.start()
        await up(gateway)
        return gateway


def cluster_of(gateway: Gateway) -> Cluster:
    assert gateway.cluster is not None
    return gateway.cluster


async def up(*gateways: Gateway) -> None:
    await until(lambda: all(cluster_of(one).store.is_up for one in gateways), "the engine")


async def away(*gateways: Gateway) -> None:
    await until(lambda: not any(cluster_of(one).store.is_up for one in gateways), "the loss of the engine")


@asynccontextmanager
async def doors_of(engine: KeepingServer, times: ClusterTimes = NEVER, secret: bytes = SECRET) -> AsyncIterator[Doors]:
    async with AsyncExitStack() as stack:
        yield Doors(stack, engine, times, secret)


async def known(gateway: Gateway, name: str, version: int = 0) -> AccountRecord:
    """Wait until a gateway knows a name, in this version or a later one."""
    directory = cluster_of(gateway).directory
    await until(lambda: (found := directory.find(name)) is not None and found.version >= version, f"{name} to be known")
    found = directory.find(name)
    assert found is not None
    return found


async def held(engine: KeepingServer) -> dict[str, AccountRecord]:
    """Return what the engine holds and its key opens, by name."""
    directory, found = AccountDirectory(ClusterKey(SECRET, "team")), dict[str, AccountRecord]()
    async with engine.operator() as js:
        try:
            info = await js.stream_info(STREAM, subjects_filter=">")
        except Exception:  # nats-py is imported where a server is
            return {}
        for subject in info.state.subjects or ():
            value = await js.get_last_msg(STREAM, subject)
            record = directory.on_entry(subject.rpartition(".")[2], value.data or b"", value.seq)
            if record is not None:
                found[record.name] = record
    return found


async def until_held(engine: KeepingServer, *records: AccountRecord) -> None:
    async with within(WAIT, "the engine to hold what the gateways know"):
        while not {one.name: one for one in records}.items() <= (await held(engine)).items():
            await asyncio.sleep(0.02)  # poll: a server holds it

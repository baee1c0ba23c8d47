"""Accounts of a cluster of gateways that fill what all its gateways keep, with a real nats-server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from p2pchat.web.accounts import Account
from p2pchat.web.cluster.cluster_key import ClusterKey
from p2pchat.web.cluster.engine_store import REQUESTS, StoreOptions
from p2pchat.web.cluster.membership import Cluster
from p2pchat.web.gateway import Gateway
from p2pchat.web.rate_limit import TooMany
from tests.nats import missing
from tests.web.cluster.test_membership import KeepingServer, cluster_of, doors_of, until


@pytest.fixture
def server(tmp_path: Path) -> Iterator[KeepingServer]:
    if why := missing():
        pytest.skip(why)
    running = KeepingServer(tmp_path)
    yield running
    running.kill()


async def renamed(gateway: Gateway, account: Account, name: str) -> bool:
    """Do what `nick` does; return False when it is refused as too often."""
    try:
        async with gateway.accounts.renaming(account, name):
            await account.user.rename(name)
    except TooMany:
        return False
    return True


async def test_an_account_that_changes_its_name_for_ever_leaves_few_names_behind(server: KeepingServer) -> None:
    """16 names a second, each kept for ever in the engine and in the memory of every gateway: 2 GB a day."""
    async with doors_of(server) as doors:
        gate = await doors.open()
        eve, _ = await gate.accounts.register("eve")
        changes = [await renamed(gate, eve, f"eve {number}") for number in range(40)]
        assert sum(changes) == gate.settings.names.burst == 8
        assert len(cluster_of(gate).directory) <= 1 + 8


async def test_requests_with_new_keys_take_a_bounded_part_of_the_engine(server: KeepingServer) -> None:
    """Each key is kept for a quarter of an hour, and the engine had no limit for all of them."""
    options = StoreOptions("team", (server.url,), max_requests=100)
    store = Cluster(ClusterKey(b"c" * 32, "team"), options).store
    store.start()
    try:
        await until(lambda: store.is_up, "the engine")
        for number in range(300):
            await store.write(REQUESTS, f"place{number}", b"x" * 200, 0)
        async with server.operator() as operator:
            info = await operator.stream_info(f"KV_p2pchat-team-{REQUESTS}")
        assert info.state.messages == 100
        numbers = [(await store.read(REQUESTS, f"place{number}"))[1] for number in (100, 299)]
        assert numbers == [0, 300]
    finally:
        await store.aclose()

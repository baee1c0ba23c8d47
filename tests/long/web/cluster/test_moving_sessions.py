"""Clients that move between gateways of a cluster: what a session took at one of them is not sent again at another."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from p2pchat.web import Gateway, WebSettings
from tests.deadlines import WAIT, within
from tests.web.chat_client import chatting, drop, opened
from tests.web.cluster.doors import KeepingServer, doors_of, known
from tests.web.conftest import Served, listening


class Doors(NamedTuple):
    """Two gateways of one cluster; zoe and bob have accounts."""

    one: Served
    two: Served

    async def write(self, *texts: str) -> list[str]:
        """Write to zoe as bob at the first gateway; return the ids once both have them."""
        bob = account(self.one, "bob")
        ids = [(await bob.send("zoe", text)).id for text in texts]
        async with within(WAIT, "the messages at both gateways"):
            for served in self:
                while [post.id for post in await account(served, "zoe").history("bob", limit=len(texts))] != ids:
                    await asyncio.sleep(0.01)  # poll: they come from another peer
        return ids

    async def known_as_taken(self, served: Served) -> None:
        """Wait until a gateway knows that everything of bob was taken."""
        zoe = account(served, "zoe")
        async with within(WAIT, "the marks of what was taken elsewhere"):
            while await zoe.without_read(await zoe.history("bob")):
                await asyncio.sleep(0.01)  # poll: another peer tells it


def account(served: Served, name: str):  # type: ignore[no-untyped-def]
    found = served.account(name)
    return found.user


async def waiting(served: Served) -> list[str]:
    """Return what waits for zoe at a gateway, which a client takes that leaves in good order."""
    async with chatting(served, "zoe", "?since=") as zoe:
        resumed = await zoe.next("resumed")
        found = [frame["content"] for frame in zoe.waiting("message")]
        assert len(found) == resumed["count"]
        return found


@asynccontextmanager
async def doors(engine: KeepingServer, *data: Path, settings: WebSettings | None = None) -> AsyncIterator[Doors]:
    async with doors_of(engine) as cluster, AsyncExitStack() as stack:
        gateways: list[Gateway] = [await cluster.open(path, settings=settings) for path in data or (None, None)]
        both = []
        for gateway, app in zip(gateways, cluster.apps, strict=True):
            both.append(Served(gateway.peer, app, await stack.enter_async_context(listening(app))))
        found = Doors(*both)
        await found.one.register("zoe")
        await found.one.register("bob")
        found.two.tokens.update(found.one.tokens)
        for name in ("zoe", "bob"):
            await known(gateways[1], name)
            assert await gateways[1].accounts.by_token(found.one.tokens[name]) is not None  # hosted there, too
        yield found


@pytest.fixture
async def both(engine: KeepingServer) -> AsyncIterator[Doors]:
    async with doors(engine) as found:
        yield found


async def test_what_a_session_took_at_one_gateway_is_not_sent_at_the_other(both: Doors) -> None:
    await both.write("one", "two")
    assert await waiting(both.two) == ["one", "two"]
    await both.known_as_taken(both.one)
    assert await waiting(both.one) == []
    await both.write("three")
    assert await waiting(both.one) == ["three"]
    await both.known_as_taken(both.two)
    assert await waiting(both.two) == []


async def test_what_came_live_counts_elsewhere_too(both: Doors) -> None:
    async with chatting(both.two, "zoe", "?since=") as zoe:
        await zoe.next("resumed")
        await both.write("live")
        assert (await zoe.message())["content"] == "live"
        await both.known_as_taken(both.one)
    assert await waiting(both.one) == []


async def test_what_no_session_proved_to_have_is_sent_again_elsewhere(both: Doors) -> None:
    await both.write("one")
    assert await waiting(both.one) == ["one"]
    await both.known_as_taken(both.two)
    zoe = await opened(both.one, "zoe", "?since=")
    await zoe.next("resumed")
    await drop(zoe)
    await both.write("two")
    assert await waiting(both.two) == ["two"]


async def test_a_gateway_that_hosts_a_user_anew_knows_what_was_taken(both: Doors) -> None:
    """As where a visitor was let go, and where a gateway takes a dead one's place."""
    there = both.two.account("zoe")
    await both.two.gateway.accounts.leave(there)
    zoe, bob = account(both.one, "zoe"), account(both.one, "bob")
    for text in ("one", "two"):
        await bob.send("zoe", text)
    assert await waiting(both.one) == ["one", "two"]
    async with within(WAIT, "the place at the first gateway"):
        while zoe._lifecycle.tracker.taken[zoe.key] < (await zoe.history("bob"))[-1].place:
            await asyncio.sleep(0.01)  # poll: a client's answer to a ping arrives
    assert await waiting(both.two) == []  # the first call waits until what is at the other gateway is there


async def test_marks_outlast_a_gateway_that_dies(engine: KeepingServer, tmp_path: Path) -> None:
    """What was taken at a gateway that is gone is known at the other one, on its disk."""
    async with doors(engine, tmp_path / "one", tmp_path / "two") as both:
        await both.write("one", "two")
        assert await waiting(both.one) == ["one", "two"]
        await both.known_as_taken(both.two)
        zoe = account(both.two, "zoe")
        disk = zoe._lifecycle.started_driver.disk
        async with within(WAIT, "the marks on disk"):
            while not any(mark.taken for mark in (await disk.read(lambda: disk.storage.load_users([zoe.key]))).reads):
                await asyncio.sleep(0.01)  # poll: a commit

"""A gateway that is started elsewhere: its database is on a server, and a copy of its directory has its keys.

All are real processes: the gateways, PostgreSQL, the clients' sockets.
"""

from __future__ import annotations

import asyncio
import shutil
import signal
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from itertools import count
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from tests.databases.fixtures import ServerOf
from tests.ports import free_ports
from tests.web.chat_client import Chatter, connect
from tests.web.processes import Program, p2pchat, running

EVERY = 0.02  # seconds between two messages
ACCEPTED = 100  # before the gateway is killed
pytestmark = pytest.mark.weekly
TAKEN = "another peer"  # uses the database, or has written into it


def gateway(url: str, data: Path, http: str) -> list[str]:
    """Return the command line of the gateway, with a listening port of its own."""
    return p2pchat("web", http, "--port", "0", "--trust-loopback", "--db", url, "--data", str(data))


def chat_of(http: str, user: str, since: str = "") -> AbstractAsyncContextManager[ClientConnection]:
    """Return the socket of a user."""
    query = f"&since={since}" if since else ""
    return connect(f"ws://localhost:{http}/chat?user={user}{query}", max_queue=None)


async def write_on(zoe: Chatter, accepted: list[str], enough: asyncio.Event) -> None:
    """Write a message every EVERY seconds and note which were accepted, until the gateway is gone."""

    async def note() -> None:
        while True:
            answer = await zoe.answer()
            assert answer["status"] == "ok", answer
            accepted.append(answer["id"])
            if len(accepted) == ACCEPTED:
                enough.set()

    noting = asyncio.create_task(note())
    try:
        for number in count():
            await zoe.say(f"message {number}")
            await asyncio.sleep(EVERY)  # the rate of the messages
    except ConnectionClosed:
        pass
    with pytest.raises(ConnectionClosed):
        await noting


async def received(yan: Chatter, ids: list[str]) -> None:
    """Note the messages that come, until the gateway is gone."""
    try:
        while True:
            ids.append((await yan.message())["id"])
    except ConnectionClosed:
        pass


async def ended_as_taken(program: Program) -> None:
    await program.until(TAKEN)
    assert await program.end() not in (0, None)


async def test_a_killed_gateway_goes_on_elsewhere_with_a_copy_of_its_directory(
    new_database: Callable[[str], str], tmp_path: Path
) -> None:
    url, data, copy = new_database("postgresql"), tmp_path / "web", tmp_path / "copy"
    http, elsewhere = free_ports(2)
    accepted: list[str] = []
    seen: list[str] = []
    async with running(*gateway(url, data, http), home=tmp_path) as first:
        await first.until("the page")
        shutil.copytree(data, copy, ignore=shutil.ignore_patterns("*.sock"))
        async with chat_of(http, "zoe") as zoe, chat_of(http, "yan") as yan:
            enough = asyncio.Event()
            writing = asyncio.create_task(write_on(Chatter(zoe), accepted, enough))
            reading = asyncio.create_task(received(Chatter(yan), seen))
            await enough.wait()
            first.kill()
            await asyncio.gather(writing, reading)
    async with running(*gateway(url, copy, elsewhere), home=tmp_path) as second:
        await second.until("the page")
        async with chat_of(elsewhere, "zoe") as zoe, chat_of(elsewhere, "yan", seen[-1]) as yan:
            last = await Chatter(zoe).accepted("the last one")
            reader = Chatter(yan)
            while seen[-1] != last:
                seen.append((await reader.message())["id"])
        assert len(seen) == len(set(seen))
        assert [id for id in seen if id in {*accepted, last}] == [*accepted, last]
        async with running(*gateway(url, data, http), home=tmp_path) as first:
            await ended_as_taken(first)
        async with chat_of(elsewhere, "zoe") as zoe:
            await Chatter(zoe).accepted("the second one goes on")


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="processes are suspended with SIGSTOP")
async def test_a_gateway_that_comes_back_from_a_pause_writes_nothing(
    server_of: ServerOf, new_database: Callable[[str], str], tmp_path: Path
) -> None:
    url, data, copy = new_database("postgresql"), tmp_path / "web", tmp_path / "copy"
    http, elsewhere = free_ports(2)
    async with running(*gateway(url, data, http), home=tmp_path) as first:
        await first.until("the page")
        shutil.copytree(data, copy, ignore=shutil.ignore_patterns("*.sock"))
        async with chat_of(http, "zoe") as zoe:
            paused = Chatter(zoe)
            await paused.accepted("before the pause")
            first.pause()
            try:
                name = urlsplit(url).path[1:]
                server_of("postgresql").admin(
                    f"select pg_terminate_backend(pid) from pg_stat_activity where datname = '{name}'"
                )
                async with (
                    running(*gateway(url, copy, elsewhere), home=tmp_path) as second,
                    httpx.AsyncClient(timeout=60, trust_env=False, verify=False) as http_client,
                ):
                    await second.until("the page")
                    async with chat_of(elsewhere, "yan") as yan:
                        await Chatter(yan).accepted("meanwhile")
                        await paused.say("to the one that was paused")
                        first.resume()
                        assert (await paused.answer())["code"] == "storage"
                        await first.until("in use by another peer")
                        health = await http_client.get(f"http://localhost:{http}/healthz")
                        assert health.status_code == 503  # so that it is restarted, and told why it cannot start
                    room = f"http://localhost:{elsewhere}/messages?conversation=room&as=yan"
                    texts = [message["content"] for message in (await http_client.get(room)).json()]
                    assert texts == ["before the pause", "meanwhile"]
            finally:
                first.resume()

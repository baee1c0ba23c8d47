"""A gateway that is started elsewhere: its database is on a server, and a copy of its directory has its keys.

All are real processes: the gateways, PostgreSQL, the clients' sockets.
"""

from __future__ import annotations

import shutil
import signal
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from websockets.asyncio.client import ClientConnection

from tests.databases.fixtures import ServerOf
from tests.ports import free_ports
from tests.web.chat_client import Chatter, connect
from tests.web.processes import p2pchat, running

pytestmark = pytest.mark.weekly


def gateway(url: str, data: Path, http: str) -> list[str]:
    """Return the command line of the gateway, with a listening port of its own."""
    return p2pchat("web", http, "--port", "0", "--trust-loopback", "--db", url, "--data", str(data))


def chat_of(http: str, user: str, since: str = "") -> AbstractAsyncContextManager[ClientConnection]:
    """Return the socket of a user."""
    query = f"&since={since}" if since else ""
    return connect(f"ws://localhost:{http}/chat?user={user}{query}", max_queue=None)


async def test_a_killed_gateway_goes_on_elsewhere_with_a_copy_of_its_directory(
    new_database: Callable[[str], str], tmp_path: Path
) -> None:
    url, data, copy = new_database("postgresql"), tmp_path / "web", tmp_path / "copy"
    http, elsewhere = free_ports(2)
    async with running(*gateway(url, data, http), home=tmp_path) as first:
        await first.until("the page")
        shutil.copytree(data, copy, ignore=shutil.ignore_patterns("*.sock"))
        async with chat_of(http, "zoe") as zoe, chat_of(http, "yan") as yan:
            writer, reader = Chatter(zoe), Chatter(yan)
            accepted = [await writer.accepted(f"message {number}") for number in range(100)]
            seen = [(await reader.message())["id"] for _ in range(50)]
            first.kill()
    async with running(*gateway(url, copy, elsewhere), home=tmp_path) as second:
        await second.until("the page")
        async with chat_of(elsewhere, "yan", seen[-1]) as yan:
            reader = Chatter(yan)
            while seen[-1] != accepted[-1]:
                seen.append((await reader.message())["id"])
        assert seen == accepted
        async with running(*gateway(url, data, http), home=tmp_path) as first:
            await first.until("another peer")  # uses the database, or has written into it
            assert await first.end() not in (0, None)


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

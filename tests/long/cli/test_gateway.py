"""Gateways of the login that founded the network, in processes of their own: whose accounts they have."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest_asyncio

from p2pchat.testing.process_mesh import Child
from tests.deadlines import WAIT
from tests.processes.commands import one_loop
from tests.processes.fork_server import ForkServer
from tests.processes.logins import Login, met
from tests.web.processes import p2pchat, running

pytestmark = one_loop


@pytest_asyncio.fixture(loop_scope="module")
async def logins(tmp_path: Path, fork_server: ForkServer | None) -> AsyncIterator[list[Login]]:
    logins = [Login(tmp_path / name, tmp_path / "logs", fork_server) for name in ("first", "second")]
    yield logins
    for login in logins:
        await login.destroy()


@asynccontextmanager
async def gateway(login: Login, founder: Child, *words: str) -> AsyncIterator[httpx.AsyncClient]:
    """Run a gateway in the home of a login; yield a client of it."""
    command = p2pchat("web", "0", founder.endpoint, "--port", "0", "--name", "gate", "--data", str(login.home / "gate"))
    async with running(*command, *words, home=login.home) as program:
        url = (await program.until("the page: ")).partition("the page: ")[2]
        await founder.event("joined", WAIT, user="gate")
        async with httpx.AsyncClient(base_url=url, timeout=WAIT, trust_env=False) as http:
            yield http


async def register(http: httpx.AsyncClient, name: str) -> None:
    answer = await http.post("/accounts", json={"name": name})
    assert answer.status_code == 201, answer.text
    http.headers["Authorization"] = f"Bearer {answer.json()['token']}"


async def test_an_admin_expels_an_account_of_a_gateway_of_the_founder(logins: list[Login]) -> None:
    first, second = logins
    ada = await first.peer("ada")
    bob = await second.peer("bob", invite=await first.invite(ada))
    await met(ada, bob)
    await first.decide("ada", "admin", "bob")
    async with gateway(first, ada, "--invites", "off") as http:
        await register(http, "zoe")
        assert (await http.post("/messages", json={"to": "room", "content": "hello"})).is_success
        await bob.event("message", WAIT, text="hello")
        assert await first.members("ada") == {"ada": "founder", "bob": "admin", "gate zoe": "member"}
        await second.decide("bob", "expel", "zoe", "--yes")
        async with asyncio.timeout(WAIT):
            while (answer := await http.get("/v1/users")).is_success:
                await asyncio.sleep(0.05)  # poll: a gateway tells no caller of REST that it is expelled
        assert (answer.status_code, answer.json()["code"]) == (403, "expelled")
    async with gateway(first, ada, "--invites", "off"):  # it stays what it is
        assert (await first.members("ada"))["gate"] == "member"


async def test_a_gateway_that_gives_invites_is_an_admin(logins: list[Login]) -> None:
    first, second = logins
    ada = await first.peer("ada")
    async with gateway(first, ada, "--invites", "all") as http:
        assert await first.members("ada") == {"ada": "founder", "gate": "admin"}
        await register(http, "zoe")
        answer = await http.post("/v1/do", json={"do": "invite"})
        code, _, there = answer.json()["rows"][0]["invite"].partition("@")
        invite = f"{code}@127.0.0.1:{there.rpartition(':')[2]}"  # the gateway's peer listens for this machine alone
        await met(ada, await second.peer("bob", invite=invite))

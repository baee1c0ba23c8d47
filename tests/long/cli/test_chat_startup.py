"""The next day: a start reaches those that the last one reached, or says whom it shuts out."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from tests.deadlines import WAIT
from tests.processes.commands import one_loop
from tests.processes.fork_server import ForkServer
from tests.processes.logins import Login, met, says
from tests.web.processes import p2pchat, running

pytestmark = one_loop


@pytest_asyncio.fixture(loop_scope="module")
async def logins(tmp_path: Path, fork_server: ForkServer | None) -> AsyncIterator[list[Login]]:
    logins = [Login(tmp_path / name, tmp_path / "logs", fork_server) for name in ("first", "second")]
    yield logins
    for login in logins:
        await login.destroy()


async def test_a_start_listens_where_the_last_one_did_or_says_whom_it_shuts_out(logins: list[Login]) -> None:
    first, second = logins
    ada = await first.peer("ada", "--host", "0.0.0.0")
    bob = await second.peer("bob", invite=await first.invite(ada))
    await met(ada, bob)
    await bob.send("who never wrote is not known by name after a restart")
    await bob.event("delivered", WAIT, user="ada")
    assert await ada.leave() == 0
    ada = await first.peer("ada")
    assert ada.listening["host"] == "0.0.0.0"
    assert len(await first.invites("ada")) == 1  # nobody asked for another one
    assert not any("p2pchat:" in line for line in ada.complaints)
    assert await ada.leave() == 0
    ada = await first.peer("ada", "--host", "127.0.0.1")
    assert ada.listening["host"] == "127.0.0.1"
    await says(ada, "-- only this computer can connect now; last time others could: --host 0.0.0.0")
    assert await ada.leave() == 0
    ada = await first.peer("ada")
    assert (ada.listening["host"], await ada.leave()) == ("127.0.0.1", 0)
    assert not any("only this computer" in line for line in ada.complaints)  # it was said, and meant


async def test_a_start_that_cannot_read_how_the_last_one_was_says_so_once(logins: list[Login]) -> None:
    login, *_ = logins
    ada = await login.peer("ada", "--host", "0.0.0.0")
    assert await ada.leave() == 0
    start = login.home / "ada" / "start.json"
    damaged = start.read_text("utf-8")[:-4]
    start.write_text(damaged, "utf-8")
    ada = await login.peer("ada")
    await says(ada, f"p2pchat: {start} cannot be read, and is kept as start.json.unreadable: ")
    assert any("--host 0.0.0.0" in line for line in ada.complaints)
    assert await ada.leave() == 0
    assert start.with_name("start.json.unreadable").read_text("utf-8") == damaged
    ada = await login.peer("ada")
    assert await ada.leave() == 0
    assert not any("cannot be read" in line for line in ada.complaints)


async def test_a_gateway_listens_where_it_did_last_time(tmp_path: Path) -> None:
    command = p2pchat("web", "0", "--port", "0", "--name", "gate", "--data", str(tmp_path / "gate"))
    for words in (["--host", "0.0.0.0"], []):
        async with running(*command, *words, home=tmp_path / "home") as program:
            await program.until("gate listens on 0.0.0.0:")

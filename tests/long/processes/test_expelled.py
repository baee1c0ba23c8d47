"""What somebody who was expelled, and whoever writes to them, is told wherever they ask."""

from __future__ import annotations

import json

from p2pchat.testing.process_mesh import Child
from tests.long.cli.agents import agent
from tests.processes.commands import one_loop
from tests.processes.logins import Login, met, says

pytestmark = one_loop
OUT = "ada expelled this peer from its network: a pardon lets it send what waits"


async def expelled(logins: list[Login], *words: str) -> tuple[Child, Child]:
    """Return ada, who founded the network, and bob, whom she has expelled."""
    first, second, _ = logins
    ada = await first.peer("ada", *words)
    bob = await second.peer("bob", *words, invite=await first.invite(ada))
    await met(ada, bob)
    await ada.send("hello")
    await bob.event("message", text="hello")
    await first.decide("ada", "expel", "bob", "--yes")
    await bob.event("member", change="expelled", by="ada")
    return ada, bob


async def notices(login: Login, *words: str, code: int) -> str:
    """Return what a command says on both streams."""
    ended, out, err = await login.talk(*words)
    assert ended == code, err.decode()
    return (out + err).decode()


async def test_the_expelled_one_reads_it_from_every_command(logins: list[Login]) -> None:
    _, second, _ = logins
    _, bob = await expelled(logins)
    data = ("--data", str(second.home / "bob"))
    down = await bob.event("link", state="down")
    assert "pardon" in down["reason"] and "new invite" not in down["reason"]
    for is_running in (True, False):
        if not is_running:
            assert await bob.leave() in (0, 3)
        said = await notices(second, "doctor", *data, code=1)
        assert "wrong    member     ada expelled this peer from its network" in said
        assert "role     expelled" in await notices(second, "network", *data, code=0)
        for to in ("room", "ada"):
            said = await notices(second, "send", to, "hi", "--timeout", "0.2", *data, code=3)
            assert OUT in said and "when someone joins" not in said and "as soon as possible" not in said


async def test_who_writes_to_the_expelled_one_reads_why_it_waits(logins: list[Login]) -> None:
    first, _, _ = logins
    ada, _ = await expelled(logins)
    why = "bob can get it after a pardon: expelled by ada"
    said = await notices(first, "send", "bob", "hi", "--timeout", "0.2", "--data", str(first.home / "ada"), code=3)
    assert why in said and "as soon as possible" not in said
    await ada.send("hi", to="bob")
    assert await ada.leave() == 3
    assert why in ada.complaints[-1]


async def test_an_agent_that_is_expelled_reads_it(logins: list[Login]) -> None:
    first, second, _ = logins
    ada = await first.peer("ada")
    async with agent(second.home, ada, "claude", "--invite", await first.invite(ada)) as claude:
        await claude.until_known("ada")
        await first.decide("ada", "expel", "claude", "--yes")
        await ada.event("left", user="claude", reason="expelled")
        for to in ("ada", "room"):
            sent = await claude.call("send", to=to, text="hi", wait=0.0)
            assert OUT in sent["next"] and "by itself later" not in sent["next"]


async def test_who_is_expelled_by_its_own_login_reads_that(logins: list[Login]) -> None:
    """A login signs for all its users, so no peer knows which of them decided."""
    first, _, _ = logins
    ada = await first.peer("ada")
    laptop = await first.peer("laptop", ada.endpoint)
    await met(ada, laptop)
    await first.decide("ada", "expel", "laptop", "--only", "--yes")
    await laptop.event("member", change="expelled")
    data = ("--data", str(first.home / "laptop"))
    why = "your login expelled this peer from its network"
    assert why in await notices(first, "send", "room", "hi", "--timeout", "0.2", *data, code=3)
    assert why in await notices(first, "doctor", *data, code=1)
    assert await laptop.leave() in (0, 3)
    await says(await first.peer("laptop", ada.endpoint), why)


async def test_a_stored_history_says_what_came_after_an_expulsion_and_hides_what_is_hidden(
    logins: list[Login],
) -> None:
    """Bob has not heard of it and goes on at cyd's, who has not either; ada hears it all from cyd later."""
    first, second, third = logins
    ada = await first.peer("ada")
    bob = await second.peer("bob", invite=await first.invite(ada))
    cyd = await third.peer("cyd", invite=await first.invite(ada))
    await met(ada, bob, cyd)
    await bob.send("before")
    await ada.event("message", text="before")
    await bob.leave()
    await cyd.leave()
    await first.decide("ada", "expel", "bob", "--yes")
    await ada.leave()
    cyd = await third.peer("cyd")
    bob = await second.peer("bob", cyd.endpoint)
    await met(bob, cyd)
    await bob.send("after")
    await cyd.event("message", text="after")
    await bob.leave()
    ada = await first.peer("ada", cyd.endpoint)
    await ada.event("message", text="after")
    await ada.leave()

    async def history(*words: str) -> str:
        return await notices(first, "history", *words, "--data", str(first.home / "ada"), code=0)

    lines = [json.loads(line) for line in (await history("--json")).splitlines()]
    assert [(line["text"], line.get("expelled", False)) for line in lines] == [("before", False), ("after", True)]
    assert "no member" in next(line for line in (await history()).splitlines() if "after" in line)
    ada = await first.peer("ada")
    await first.decide("ada", "expel", "bob", "--hide", "--yes")
    await ada.leave()
    assert "before" not in await history() and "after" not in await history()

"""send_once: one message of a program without a peer of its own, through the peer that runs beside it, or none."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from p2pchat import AmbiguousName, P2PChatError, SentReceipt, TCPPeer, TooLong, UnknownName, send_once
from p2pchat.commands.last_start import LastStart
from tests.cli.control.conftest import Serve
from tests.cli.control.conftest import home as home
from tests.cli.control.conftest import serve as serve
from tests.deadlines import until


async def once(to: str, text: str, **where: Any) -> SentReceipt:
    return await asyncio.to_thread(send_once, to, text, **where)


async def test_the_peer_that_runs_beside_the_program_sends_it(serve: Serve, home: Path) -> None:
    ada, _ = await serve("ada")
    bob, server = await serve("bob", ada.endpoint)
    await ada.wait_user("bob", timeout=60)
    receipt = await once("bob", "hi", data=home / "ada", timeout=60)
    assert receipt.is_delivered and (receipt.of, receipt.delivered_to, receipt.missing) == (1, ("bob",), ())
    assert [(post.id, post.text) for post in await bob.history("ada")] == [(receipt.id, "hi")]
    assert (await once("room", "all", data=home / "ada", timeout=60)).delivered_to == ("bob",)
    at_once = await asyncio.gather(*(once("bob", f"{number}", data=home / "ada", timeout=60) for number in range(10)))
    told = [await bob.message(each.id) for each in at_once]  # each is told of its own message
    assert [post.text for post in told] == [f"{number}" for number in range(10)]

    await bob.aclose()
    await until(lambda: ada.user("bob").status == "offline", "bob is away")
    kept = await once("bob", "when you are back", data=home / "ada", timeout=0)
    assert len(kept.causes) == 1 and kept.causes[0].startswith("bob will get it when back: away since ")

    await server.shut_down("gone")
    kept = await once("bob", "later", data=str(home / "ada"), timeout=0)
    assert (kept.status, kept.is_delivered, kept.missing) == ("accepted", False, ("bob",))


async def test_without_a_running_peer_it_runs_meanwhile_for_all_threads(home: Path) -> None:
    async with TCPPeer(0, name="bob", data=home / "bob") as bob:
        async with TCPPeer(0, bob.endpoint, name="ada", data=home / "ada") as ada:
            await (await ada.broadcast("we have met")).delivered(timeout=60)
        receipts = await asyncio.gather(
            *(once("bob", f"{number}", data=home / "ada", timeout=60) for number in range(3))
        )
        assert [receipt.status for receipt in receipts] == ["delivered"] * 3
        found = {post.id: post.text for post in await bob.history("ada")}
        assert [found[receipt.id] for receipt in receipts] == ["0", "1", "2"]
    assert not list((home / "ada").glob("control.*"))


async def test_without_a_profile_the_only_running_one_of_a_person_sends(serve: Serve, home: Path) -> None:
    ada, _ = await serve("8001")
    bot, _ = await serve("8003", ada.endpoint)
    assert ada.data is not None
    LastStart(terminal=True).save(ada.data)
    await ada.wait_user("8003", timeout=60)
    assert (await once("8003", "hi", timeout=60)).is_delivered
    assert [post.sender.name for post in await bot.history()] == ["8001"]
    bob, _ = await serve("8002", ada.endpoint)
    assert bob.data is not None
    LastStart(terminal=True).save(bob.data)
    with pytest.raises(P2PChatError, match=r'several peers run here \("8001": 8001, "8002": 8002\): choose one'):
        await once("8003", "hi")
    assert await bob.history() == []


async def test_errors_are_those_of_the_library(serve: Serve, home: Path) -> None:
    ada, _ = await serve("ada")
    ada._lifecycle.names_deadline = 0.0  # it refuses unknown names at once, as one that has run for a while
    async with TCPPeer(0, ada.endpoint, name="Bob"), TCPPeer(0, ada.endpoint, name="bob"):  # they look alike
        await until(lambda: len(ada.users()) == 3, "both users")
        await check_errors(home)


async def check_errors(home: Path) -> None:
    wrong: list[tuple[type[Exception], Callable[[], Any]]] = [
        (UnknownName, lambda: send_once("nobody", "hi", data=home / "ada")),
        (AmbiguousName, lambda: send_once("bob", "hi", data=home / "ada")),
        (TooLong, lambda: send_once("room", "x" * 40_000, data=home / "ada")),
        (ValueError, lambda: send_once("room", "", data=home / "ada")),
        (ValueError, lambda: send_once("room", "hi", data=home / "ada", timeout=-1)),
        (TypeError, lambda: send_once("room", "hi", data=home / "ada", port=8080)),
        (P2PChatError, lambda: send_once("room", "hi", data=home / "nobody's")),
    ]
    for error, call in wrong:
        with pytest.raises(error) as raised:
            await asyncio.to_thread(call)
        assert type(raised.value) is error

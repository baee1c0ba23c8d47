"""Names that are not known yet right after the start, which calls wait for, among real peers over pipes in memory."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from p2pchat import DeliveryTimeout, Message, PeerClosed, Settings, TCPPeer, UnknownName
from p2pchat.testing import mesh
from p2pchat.testing.meshes import QUICK
from tests.deadlines import WAIT, within

PATIENT = replace(QUICK, start_timeout=WAIT)

CALLS: dict[str, Callable[[TCPPeer], Awaitable[Any]]] = {
    "send": lambda peer: peer.send("bob", "hi"),
    "send_many": lambda peer: peer.send_many("bob", ["hi"]),
    "create_group": lambda peer: peer.create_group("ops", ["bob"]),
    "add_contact": lambda peer: peer.add_contact("bob"),
    "allow": lambda peer: peer.allow("bob"),
    "block": lambda peer: peer.block("bob"),
    "ignore": lambda peer: peer.ignore("bob"),
    "set_receipts": lambda peer: peer.set_receipts(False, "bob"),
    "whois": lambda peer: peer.whois("bob"),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
async def test_a_call_right_after_the_start_waits_for_a_name(call: Callable[[TCPPeer], Awaitable[Any]]) -> None:
    async with mesh("ada", settings=PATIENT) as net:
        cyd = await net.add("cyd")  # linked with ada, as is everybody who names one endpoint
        calling = asyncio.ensure_future(call(cyd))
        await cyd.round_trip()
        assert not calling.done()
        await net.add("bob")
        async with within(WAIT, "bob"):
            await calling
        assert cyd.user("bob") in cyd.users()


async def test_a_name_that_nobody_has_is_an_error_when_the_time_is_over() -> None:
    async with mesh("ada", settings=replace(QUICK, start_timeout=0.1)) as net:
        cyd = await net.add("cyd")
        with pytest.raises(UnknownName):
            await cyd.send("bob", "hi")
        assert cyd.name_timeout == 0.0


async def test_a_name_is_an_error_at_once_where_nobody_is_going_to_come() -> None:
    async with mesh(settings=PATIENT) as net:
        ada = await net.add("ada")
        async with within(WAIT / 2, "the error"):
            with pytest.raises(UnknownName):
                await ada.send("bob", "hi")
        await ada.connect("localhost:1", timeout=0.01)  # nobody is there, and it is dialled again
        assert ada.name_timeout > 0


async def test_the_error_of_a_wait_names_the_endpoint_that_does_not_answer() -> None:
    """The program of the README said that nobody is called bob, and not that nobody listens where it dials."""
    settings = Settings(start_timeout=0.2)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))  # and nobody listens
        where = f"localhost:{silent.getsockname()[1]}"
        async with (
            TCPPeer(0, temporary=True, name="ada") as ada,
            TCPPeer(0, where, temporary=True, name="shop", settings=settings) as shop,
        ):
            waits: list[tuple[type[Exception], Callable[[], Awaitable[Any]]]] = [
                (UnknownName, lambda: shop.send("bob", "hi")),
                (UnknownName, lambda: shop.block("bob")),
                (TimeoutError, lambda: shop.wait_user("bob", timeout=0.01)),
                (TimeoutError, lambda: shop.wait_for(Message, timeout=0.01)),
                (DeliveryTimeout, lambda: to_all.delivered(timeout=0.01)),
            ]
            to_all = await shop.broadcast("hi")
            for error, wait in waits:
                with pytest.raises(error, match=f"; {where} does not answer$"):
                    await wait()
            await shop.connect(ada.endpoint, timeout=WAIT)
            with pytest.raises(UnknownName, match=f"; {where} does not answer$"):  # the other one does
                await shop.send("bob", "hi")
            hosted = await shop.host("zoe")
            with pytest.raises(UnknownName) as told:
                await hosted.send("bob", "hi")
            assert where not in str(told.value)


async def test_a_peer_that_closes_does_not_wait_for_names() -> None:
    async with mesh("ada", settings=PATIENT) as net:
        cyd = await net.add("cyd")
        sending = asyncio.ensure_future(cyd.send("bob", "hi"))
        await cyd.round_trip()
        await cyd.aclose()
        with pytest.raises(PeerClosed):
            await sending

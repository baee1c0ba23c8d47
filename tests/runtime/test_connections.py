"""Connections at the moment they begin, and pauses of the garbage collector."""

from __future__ import annotations

import asyncio
import errno
import gc
import weakref
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from p2pchat.config import Settings
from p2pchat.core.inputs import DialFailed, Input, LinkAccepted, LinkDialled
from p2pchat.identity.keys import Identity
from p2pchat.identity.tls import client_context, server_context
from p2pchat.runtime.connections import (
    MANY_LINK_ENDS,
    MANY_OBJECTS,
    ConnectionManager,
    LinkEndCounter,
    TCPTransport,
    gc_paused,
)
from tests.link_ends import CLIENT, SERVER
from tests.step_loop import SteppedLoop, after_each_step, open_sockets


async def test_a_connection_at_the_moment_of_the_end_is_closed() -> None:
    connections = ConnectionManager(
        TCPTransport(), Settings(), server_context=server_context(Identity.generate()), client_context=client_context(),
        put=lambda input: None,
    )  # fmt: skip
    came: list[asyncio.StreamWriter] = []

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        came.append(writer)
        connections._on_accepted(reader, writer, "127.0.0.1")  # before its task has run a step everything ends
        await connections.cut_all()

    async with await asyncio.start_server(take, "127.0.0.1", 0) as server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname()[:2])
        try:
            await asyncio.wait_for(reader.read(), 10)
        except ConnectionResetError:
            pass
        assert came and came[0].transport.is_closing()
        writer.close()


class Connecting:
    """Two peers' connections: bob dials ada, by a name with two addresses."""

    def __init__(self) -> None:
        self.told: dict[str, list[Input]] = {"ada": [], "bob": []}
        self.news = asyncio.Event()
        self.ada, self.bob = (
            ConnectionManager(
                TCPTransport(), Settings(), server_context=SERVER, client_context=CLIENT, put=self._teller(told)
            )
            for told in self.told.values()
        )

    def _teller(self, told: list[Input]) -> Callable[[Input], None]:
        def tell(input: Input) -> None:
            told.append(input)
            self.news.set()

        return tell

    @property
    def is_up(self) -> bool:
        return any(isinstance(one, LinkAccepted) for one in self.told["ada"]) and any(
            isinstance(one, LinkDialled) for one in self.told["bob"]
        )

    async def until_up_or_failed(self) -> None:
        while not self.is_up and not any(isinstance(one, DialFailed) for one in self.told["bob"]):
            self.news.clear()
            await self.news.wait()


ENDS: dict[str, Callable[[Connecting], Coroutine[Any, Any, None]]] = {
    "the dialling one is cut off": lambda two: two.bob.cut_all(),
    "the dialling one closes": lambda two: two.bob.close_all(),
    "the accepting one is cut off": lambda two: two.ada.cut_all(),
    "the accepting one closes": lambda two: two.ada.close_all(),
}


@pytest.mark.parametrize("end", ENDS)
def test_whenever_a_side_ends_while_they_connect_nothing_is_left_open(end: str) -> None:
    """After each step: of the race, of connecting, of either side's TLS handshake, of handing the link over."""
    before = open_sockets()

    async def scenario(loop: SteppedLoop, step: int) -> bool:
        loop.names = {"ada": ["192.0.2.1", "127.0.0.1"]}
        loop.errors = {"192.0.2.1": OSError(errno.EHOSTUNREACH, "No route to host")}
        two = Connecting()
        _, port = await two.ada.listen("127.0.0.1", 0)
        connecting = asyncio.ensure_future(two.until_up_or_failed())
        ended: list[asyncio.Task[None]] = []

        def end_it() -> None:
            ended.append(loop.create_task(ENDS[end](two)))
            connecting.cancel()

        loop.interrupt(step, end_it)
        two.bob.dial(1, f"ada:{port}")
        await asyncio.wait([connecting])
        interrupted = connecting.cancelled()
        if ended:
            await asyncio.wait(ended)
            ended[0].result()
        await two.bob.cut_all()
        await two.ada.cut_all()
        await asyncio.sleep(0)
        assert open_sockets() == before, step
        return interrupted

    assert len(list(after_each_step(scenario))) > 20  # some of them within each handshake


# Pauses of the garbage collector during bulk allocation


def test_garbage_is_collected_again_afterwards_also_when_it_failed() -> None:
    seen: list[bool] = []

    def load() -> None:
        with gc_paused():
            seen.append(gc.isenabled())
            raise ValueError("torn")

    with pytest.raises(ValueError, match="torn"):
        load()
    assert [*seen, gc.isenabled()] == [False, True]


def test_new_objects_are_not_searched_at_once_and_are_collected_later() -> None:
    gc.unfreeze()  # what the test run has frozen

    class Made:
        def __init__(self) -> None:
            self.itself = self

    with gc_paused():
        one, *others = [Made() for _ in range(2 * MANY_OBJECTS)]
    assert any(each is one for each in gc.get_objects(generation=2))
    gone = weakref.ref(one)
    del one, others
    gc.collect()
    gc.freeze()  # as it was
    assert gone() is None


def test_frozen_objects_of_a_program_stay_frozen() -> None:
    gc.freeze()
    with gc_paused():
        made: list[list[int]] = [[] for _ in range(2 * MANY_OBJECTS)]
    assert made and gc.get_freeze_count()


def test_one_within_another_ends_with_the_outer_one() -> None:
    with gc_paused():
        with gc_paused():
            pass
        assert not gc.isenabled()
    assert gc.isenabled()


def test_a_disabled_collector_stays_disabled() -> None:
    gc.disable()
    try:
        with gc_paused():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()


class Kept:
    """A reference cycle, which only the collector frees."""

    def __init__(self) -> None:
        self.itself = self


def is_old(one: object) -> bool:
    return any(each is one for each in gc.get_objects(generation=2))


def test_all_objects_age_when_there_are_many_more_links_than_ever() -> None:
    gc.unfreeze()  # what the test run has frozen
    gc.disable()  # only what is counted as old becomes so
    try:
        link_ends = LinkEndCounter()
        kept = Kept()
        for _ in range(MANY_LINK_ENDS - 1):
            link_ends.add()
        assert not is_old(kept)
        link_ends.add()
        assert is_old(kept)
    finally:
        gc.enable()
        gc.freeze()  # as it was


def test_links_that_come_and_go_keep_nothing_from_being_looked_through() -> None:
    gc.unfreeze()
    gc.disable()
    try:
        link_ends = LinkEndCounter()
        for _ in range(MANY_LINK_ENDS):
            link_ends.add()
        kept = Kept()
        for _ in range(3 * MANY_LINK_ENDS):
            link_ends.remove()
            link_ends.add()
        assert not is_old(kept)
    finally:
        gc.enable()
        gc.freeze()

"""Dialling: the race of a name's addresses, which leaves no connection open whenever it ends."""

from __future__ import annotations

import asyncio
import errno
import socket
import struct
from collections.abc import Iterator
from contextlib import suppress

import pytest

from p2pchat.runtime import connection_manager
from p2pchat.runtime.connection_manager import dial
from tests.step_loop import SteppedLoop, after_each_step, run_stepped

HERE, ALSO_HERE = "127.0.0.1", "127.0.0.2"  # where the second is no address of the machine, dialling it fails
ABROAD = ["2001:db8::1", "2001:db8::2", "192.0.2.1", "192.0.2.2"]


@pytest.fixture
def door() -> Iterator[int]:
    """The port of a socket that accepts connections."""
    with socket.create_server(("0.0.0.0", 0), backlog=512) as listening:
        yield listening.getsockname()[1]


def no_way() -> OSError:
    return OSError(errno.EHOSTUNREACH, "No route to host")


def refused() -> OSError:
    return OSError(errno.ECONNREFUSED, "Connection refused")


async def reached(host: str, port: int) -> str:
    """Dial, close, and return the address."""
    _, writer = await dial(host, port, timeout=60)
    address: str = writer.get_extra_info("peername")[0]
    writer.transport.abort()
    return address


@pytest.mark.parametrize("host", [HERE, "one", "two", "refused-then-one"])
@pytest.mark.parametrize("slow", range(12))
def test_a_dial_that_is_cancelled_leaves_no_socket_open(
    host: str, slow: int, door: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cancel after each step: while connecting, when connected, when another attempt connects too."""
    monkeypatch.setattr(connection_manager, "CONNECT_STAGGER", 0)

    async def scenario(loop: SteppedLoop, step: int) -> bool:
        loop.names = {"one": [HERE], "two": [ALSO_HERE, HERE], "refused-then-one": [ABROAD[0], HERE]}
        loop.slow = {ALSO_HERE: slow, ABROAD[0]: slow}
        loop.errors = {ABROAD[0]: refused()}
        task = asyncio.ensure_future(dial(host, door, timeout=60))
        loop.interrupt(step, task.cancel)
        await asyncio.wait([task])
        await asyncio.sleep(0)  # a transport closes its socket in the next turn
        if not task.cancelled():
            assert len(loop.still_open) == 1
            task.result()[1].transport.abort()
            await asyncio.sleep(0)  # an aborted transport closes its socket in the next turn
        assert loop.still_open == []
        return task.cancelled()

    assert len(list(after_each_step(scenario))) >= 5


def test_a_connection_cut_while_others_are_cancelled_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forwarders do that: they accept a connection, and cut it if there is no server behind them. In loops other than
    asyncio's own, queries of such a socket fail."""
    monkeypatch.setattr(connection_manager, "CONNECT_STAGGER", 0)

    async def scenario(loop: SteppedLoop, step: int) -> bool:
        loop.names, loop.slow = {"two": [ALSO_HERE, HERE]}, {ALSO_HERE: 30}
        cut = False

        def cut_it() -> None:
            nonlocal cut
            cut = True
            with suppress(BlockingIOError):
                taken, _ = listening.accept()
                taken.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                taken.close()

        async def is_cut() -> bool:
            _, writer = await dial("two", listening.getsockname()[1], timeout=60)
            closing: bool = writer.transport.is_closing()
            writer.transport.abort()
            return closing

        with socket.create_server((HERE, 0)) as listening:
            listening.setblocking(False)
            task = asyncio.ensure_future(is_cut())
            loop.interrupt(step, cut_it)
            await asyncio.wait([task])
        assert isinstance(task.exception(), OSError) or not task.result()
        return cut

    assert len(list(after_each_step(scenario))) >= 5


def test_the_next_address_is_tried_as_soon_as_one_has_failed(door: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_manager, "CONNECT_STAGGER", 1000)

    async def scenario(loop: SteppedLoop) -> None:
        loop.names = {"ada": [ABROAD[0], ABROAD[2], HERE]}
        loop.errors = {ABROAD[0]: no_way(), ABROAD[2]: refused()}
        assert await reached("ada", door) == HERE

    run_stepped(scenario)


def test_the_next_address_is_tried_without_waiting_for_an_answer(door: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_manager, "CONNECT_STAGGER", 0.01)

    async def scenario(loop: SteppedLoop) -> None:
        loop.names, loop.slow = {"ada": [ABROAD[2], HERE]}, {ABROAD[2]: 1_000_000_000}
        assert await reached("ada", door) == HERE

    run_stepped(scenario)


@pytest.mark.parametrize("errors, told", [([no_way(), refused()], refused()), ([no_way(), OSError("odd")], no_way())])
def test_when_all_addresses_fail_the_most_telling_error_is_raised(errors: list[OSError], told: OSError) -> None:
    async def scenario(loop: SteppedLoop) -> None:
        loop.names, loop.errors = {"ada": ABROAD[:2]}, dict(zip(ABROAD, errors, strict=False))
        with pytest.raises(type(told)) as raised:
            await dial("ada", 1, timeout=60)
        assert raised.value.errno == told.errno

    run_stepped(scenario)


def test_both_families_are_tried_in_turn_and_each_address_once() -> None:
    async def scenario(loop: SteppedLoop) -> None:
        loop.names, loop.errors = {"ada": [*ABROAD, ABROAD[1]]}, {address: no_way() for address in ABROAD}
        with pytest.raises(OSError):
            await dial("ada", 1, timeout=60)
        assert [address for _, address in loop.dialled] == [ABROAD[0], ABROAD[2], ABROAD[1], ABROAD[3]]

    run_stepped(scenario)


def test_a_dial_without_an_answer_times_out() -> None:
    async def scenario(loop: SteppedLoop) -> None:
        loop.names, loop.slow = {"ada": [HERE, ALSO_HERE]}, dict.fromkeys([HERE, ALSO_HERE], 1_000_000_000)
        with pytest.raises(TimeoutError):
            await dial("ada", 1, timeout=0.05)
        assert loop.still_open == []

    run_stepped(scenario)

"""Connections at the moment they begin, the cost of strangers, and pauses of the garbage collector."""

from __future__ import annotations

import asyncio
import errno
import gc
import weakref
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

import pytest

from p2pchat import server as server_module
from p2pchat.client import Client, dial
from p2pchat.config import Settings
from p2pchat.core.inputs import DialFailed, Got, Input, LinkAccepted, LinkDialled
from p2pchat.identity.keys import Identity
from p2pchat.identity.tls import client_context, server_context
from p2pchat.protocol import Ping, Pong, encode
from p2pchat.runtime.connections import (
    MANY_LINK_ENDS,
    MANY_OBJECTS,
    ConnectionManager,
    LinkEndCounter,
    TCPTransport,
    gc_paused,
)
from p2pchat.runtime.strangers import SWEEP_ABOVE, StrangerLimiter, address_of
from tests.deadlines import WAIT, within
from tests.link_ends import CLIENT, SERVER, SETTINGS, Recorder, Streams, make_client
from tests.step_loop import SteppedLoop, after_each_step, open_sockets

HOME, ABROAD, ELSEWHERE = "127.0.0.1", "192.0.2.7", "198.51.100.7"


async def test_a_connection_at_the_moment_of_the_end_is_closed() -> None:
    connections = ConnectionManager(
        TCPTransport(), Settings(), server_context=server_context(Identity.generate()), client_context=client_context(),
        put=lambda input: None,
    )  # fmt: skip
    came: list[asyncio.StreamWriter] = []

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        came.append(writer)
        connections._on_connection(reader, writer)  # before its task has run a step everything ends
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
        self.inputs: dict[str, list[Input]] = {"ada": [], "bob": []}
        self.news = asyncio.Event()
        self.ada, self.bob = (
            ConnectionManager(
                TCPTransport(), Settings(), server_context=SERVER, client_context=CLIENT, put=self._recorder(inputs)
            )
            for inputs in self.inputs.values()
        )

    def _recorder(self, inputs: list[Input]) -> Callable[[Input], None]:
        def tell(input: Input) -> None:
            inputs.append(input)
            self.news.set()

        return tell

    @property
    def is_up(self) -> bool:
        return any(isinstance(one, LinkAccepted) for one in self.inputs["ada"]) and any(
            isinstance(one, LinkDialled) for one in self.inputs["bob"]
        )

    async def until_up_or_failed(self) -> None:
        while not self.is_up and not any(isinstance(one, DialFailed) for one in self.inputs["bob"]):
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
        await asyncio.sleep(0)  # closed transports close their sockets in the next turn
        assert open_sockets() == before, step
        return interrupted

    assert len(list(after_each_step(scenario))) > 20  # some of them within each handshake


# Strangers: by the clock they are given


def admitted(strangers: StrangerLimiter, address: str, count: int, now: float) -> int:
    return sum(strangers.admit(address, now) for _ in range(count))


def test_one_address_gets_eight_places() -> None:
    strangers = StrangerLimiter(SETTINGS)
    assert admitted(strangers, ABROAD, 20, now=0.0) == 8
    assert admitted(strangers, ELSEWHERE, 1, now=0.0) == 1
    strangers.release(ABROAD)
    assert admitted(strangers, ABROAD, 2, now=60.0) == 1


def test_loopback_gets_32_places() -> None:
    assert admitted(StrangerLimiter(SETTINGS), HOME, 100, now=0.0) == 32
    assert admitted(StrangerLimiter(SETTINGS), "::1", 100, now=0.0) == 32


def test_all_addresses_together_get_64_places() -> None:
    strangers = StrangerLimiter(SETTINGS)
    assert sum(admitted(strangers, f"192.0.2.{n}", 1, now=0.0) for n in range(100)) == strangers.count == 64
    strangers.release("192.0.2.0")
    assert strangers.admit(ABROAD, 1.0) and not strangers.admit(ELSEWHERE, 1.0)


@pytest.mark.parametrize("address, rate", [(ABROAD, 20), (HOME, 500)])
def test_new_connections_of_an_address_are_admitted_at_a_rate(address: str, rate: int) -> None:
    strangers = StrangerLimiter(SETTINGS)

    def visits(count: int, now: float) -> int:
        welcome = 0
        for _ in range(count):
            if strangers.admit(address, now):
                strangers.release(address)
                welcome += 1
        return welcome

    assert visits(2 * rate, now=0.0) == rate  # one second's worth at once
    assert visits(2 * rate, now=0.5) == rate // 2
    assert visits(2 * rate, now=100.0) == rate  # and never more


def test_idle_addresses_are_forgotten() -> None:
    strangers = StrangerLimiter(SETTINGS)
    for n in range(3 * SWEEP_ABOVE):
        address = f"10.{n >> 8}.{n & 255}.1"
        assert strangers.admit(address, now=n / 100)
        strangers.release(address)
        assert len(strangers._buckets) <= SWEEP_ABOVE
    assert strangers.count == 0 and not strangers._counts


@pytest.mark.parametrize(
    "host, address",
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::9", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::1", "::1"),
        ("", ""),
        ("pipe", "pipe"),
    ],
)
def test_an_ipv6_network_counts_as_one_address(host: str, address: str) -> None:
    assert address_of(host) == address


# Strangers on a real port


class CountedStrangers(StrangerLimiter):
    """Strangers, and how many there were at once."""

    most = 0

    def admit(self, address: str, now: float) -> bool:
        assert address == HOME
        admitted = super().admit(address, now)
        self.most = max(self.most, self.count)
        return admitted


class Host:
    """The connections of a peer that takes every link for a member's as soon as its TLS handshake is done."""

    def __init__(self, settings: Settings) -> None:
        self.connections = ConnectionManager(
            TCPTransport(), settings, server_context=SERVER, client_context=CLIENT, put=self.put
        )
        self.strangers = self.connections.strangers = CountedStrangers(settings)
        self.port = 0
        self.members: list[int] = []
        self.recorder = Recorder()
        self.arrivals: asyncio.Queue[None] = asyncio.Queue()

    def put(self, input: Input) -> None:
        if isinstance(input, LinkAccepted):
            self.members.append(input.link)
            self.connections.on_established(input.link)
            self.arrivals.put_nowait(None)
        elif isinstance(input, Got):
            self.recorder.on_frames(input.link, input.frames)  # type: ignore[arg-type]

    async def listen(self) -> None:
        _, self.port = await self.connections.listen(HOME, 0)


async def join(host: Host) -> tuple[Client, Recorder]:
    recorder = Recorder()
    client = make_client(await dial(HOME, host.port, timeout=5), recorder, server_side=False)
    await client.handshake(5)
    client.start()
    async with within(WAIT, "the host to start a member's link"):
        await host.arrivals.get()
    return client, recorder


async def talk(host: Host, client: Client, recorder: Recorder) -> None:
    """One ping from the member and one pong back."""
    before = len(host.recorder.frames), len(recorder.frames)
    client.send(encode(Ping()))
    await host.recorder.until(lambda: len(host.recorder.frames) > before[0])
    host.connections.send(host.members[0], encode(Pong()))
    await recorder.until(lambda: len(recorder.frames) > before[1])


async def hang_up(streams: Streams) -> bytes:
    """Read until the server has closed; return what it sent."""
    said = b""
    try:
        async with within(WAIT, "the server to close a stranger's connection"):
            while data := await streams[0].read(65536):
                said += data
    except ConnectionError:
        pass
    finally:
        streams[1].transport.abort()
    return said


WORDS = {
    "nothing": b"",
    "http": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "zeros": bytes(70_000),
    "noise": b"\xff\xfe" * 35_000,
    "a huge length": b"\x16\x03\x01\xff\xff" + bytes(70_000),
    "half a hello": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(60),
}


@pytest.mark.parametrize("words", WORDS.values(), ids=WORDS)
async def test_bytes_of_strangers_do_not_disturb_members(words: bytes) -> None:
    host = Host(replace(SETTINGS, handshake_timeout=0.2))
    await host.listen()
    client, recorder = await join(host)
    stranger = await dial(HOME, host.port, timeout=5)
    stranger[1].write(words)
    said = await hang_up(stranger)
    assert said == b"" or said[0] == 0x15  # at most an alert
    await talk(host, client, recorder)
    assert recorder.reason == "" and len(host.members) == 1 and host.strangers.count == 0
    client.abort()
    await host.connections.cut_all()


@pytest.mark.parametrize("windows", [False, True], ids=["elsewhere", "windows"])
async def test_a_thousand_strangers_cost_a_bounded_amount(windows: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "loses_listener_on_error", lambda loop: windows)
    host = Host(replace(SETTINGS, handshake_timeout=1.0))
    await host.listen()
    client, recorder = await join(host)

    async def knock() -> None:
        try:
            streams = await dial(HOME, host.port, timeout=5)
        except OSError:
            return  # reset before the dial had returned
        await hang_up(streams)

    everybody: list[asyncio.Task[None]] = []
    for _ in range(10):
        crowd = [asyncio.create_task(knock()) for _ in range(100)]
        await talk(host, client, recorder)
        await asyncio.wait(crowd, timeout=0.01)
        await talk(host, client, recorder)
        everybody += crowd
    await asyncio.gather(*everybody)
    assert host.strangers.most == SETTINGS.max_strangers_loopback  # never more than these had a Client
    assert host.strangers.refused >= 500  # all except those in places that became free after a second
    assert host.strangers.count == 0 and recorder.reason == ""
    client.abort()
    await host.connections.cut_all()


async def test_a_member_frees_its_place_as_a_stranger() -> None:
    host = Host(replace(SETTINGS, max_strangers_loopback=1))
    await host.listen()
    joined = [await join(host) for _ in range(3)]
    assert host.strangers.count == 0 and host.strangers.refused == 0
    for client, _ in joined:
        client.abort()
    await host.connections.cut_all()


async def test_a_place_is_given_back_once() -> None:
    host = Host(SETTINGS)
    await host.listen()
    client, _ = await join(host)
    for _ in range(2):
        host.connections.on_established(host.members[0])
        assert host.strangers.count == 0
    client.abort()
    await host.connections.close_all()
    assert host.strangers.count == 0


# Pauses of the garbage collector during bulk allocation


def test_garbage_collection_resumes_also_after_an_error() -> None:
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


def test_nested_pauses_end_with_the_outer_one() -> None:
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
    gc.disable()  # only counted objects become old
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

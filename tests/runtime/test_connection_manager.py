"""Connections at the moment they begin, the cost of strangers, and links that stand still."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

import pytest

from p2pchat import TCPPeer
from p2pchat.addresses import is_loopback
from p2pchat.client import Client
from p2pchat.core.effects import Dial, Resolve
from p2pchat.core.inputs import DialFailed, Got, Input, LinkAccepted, LinkDialled, Resolved
from p2pchat.core.mesh.dialer import CARRIED
from p2pchat.core.work_limits import MOST_LACKING, rates_of
from p2pchat.identity.identity import Identity
from p2pchat.identity.tls_pipe import client_context, server_context
from p2pchat.protocol import Ping, Pong, encode
from p2pchat.runtime.connection_manager import (
    ConnectionManager,
    TCPTransport,
    dial,
)
from p2pchat.runtime.stranger_limiter import (
    MAX_OF_CARRIER,
    Stranger,
    StrangerLimiter,
)
from p2pchat.settings import Settings
from tests.core.mesh.linked_peers import Key, Meeting, Post, record_of, told
from tests.deadlines import WAIT, until, within
from tests.link_ends import CLIENT, PING, SERVER, SETTINGS, Recorder, Streams, fill, linked, make_client
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
            await asyncio.wait_for(reader.read(), 60)
        except ConnectionResetError:
            pass
        assert came and came[0].transport.is_closing()
        writer.close()


async def test_a_name_that_no_name_can_be_is_told_as_one_that_is_not_found() -> None:
    came: asyncio.Queue[Input] = asyncio.Queue()
    connections = ConnectionManager(
        TCPTransport(), Settings(), server_context=SERVER, client_context=CLIENT, put=came.put_nowait
    )
    connections.dial(1, "a..b:80")
    async with within(WAIT, "the failure"):
        assert await came.get() == DialFailed(1, "no such name", "no_name")


async def test_a_told_name_of_this_machine_is_looked_up_and_never_dialled() -> None:
    """With the resolver of this system: whatever it takes for a name of loopback is refused."""
    came: asyncio.Queue[Input] = asyncio.Queue()
    connections = ConnectionManager(
        TCPTransport(), Settings(), server_context=SERVER, client_context=CLIENT, put=came.put_nowait
    )
    with socket.create_server(("127.0.0.1", 0)) as door:
        door.setblocking(False)
        connections.resolve(1, f"localhost:{door.getsockname()[1]}")
        async with within(WAIT, "the addresses of localhost"):
            resolved = await came.get()
        assert isinstance(resolved, Resolved) and ("127.0.0.1", "127.0.0.1") in resolved.hosts
        assert all(is_loopback(host) for host, _ in resolved.hosts)

        ada, teller = Post(Key("ada")), Post(Key("mallory"))
        link = Meeting(ada, teller).connect(teller, host="203.0.113.1")
        said = ada.got(link, told(record_of(Key("nobody"), "evil.example:22")))
        looked_up: list[int] = []
        for second in range(1, 60):
            assert not any(isinstance(each, Dial) for each in said)
            dials = [each.dial for each in said if isinstance(each, Resolve)]
            looked_up += dials
            said = [effect for dial in dials for effect in ada.handle(Resolved(dial, resolved.hosts))]
            said += ada.wake(float(second))
        assert looked_up
        with pytest.raises(BlockingIOError):
            door.accept()


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


def admitted(strangers: StrangerLimiter, host: str, count: int, now: float) -> int:
    return sum(strangers.admit(host, now, no_one) is not None for _ in range(count))


def no_one() -> None:
    raise AssertionError("closed for a newcomer")


def test_one_address_gets_eight_places() -> None:
    strangers = StrangerLimiter(SETTINGS)
    first = strangers.admit(ABROAD, 0.0, no_one)
    assert first is not None and admitted(strangers, ABROAD, 20, now=0.0) == 7
    assert admitted(strangers, ELSEWHERE, 1, now=0.0) == 1
    strangers.release(first)
    assert admitted(strangers, ABROAD, 2, now=0.9) == 1


def test_loopback_gets_32_places() -> None:
    strangers = StrangerLimiter(SETTINGS)
    assert admitted(strangers, HOME, 20, now=0.0) == 20
    assert admitted(strangers, "127.0.0.2", 100, now=0.0) == 12  # all of loopback is one machine
    assert admitted(StrangerLimiter(SETTINGS), "::1", 100, now=0.0) == 32


def test_all_addresses_together_get_64_places_and_16_are_for_known_and_near_ones() -> None:
    strangers = StrangerLimiter(SETTINGS)
    strangers.knows = lambda host: host == ELSEWHERE
    assert sum(admitted(strangers, f"192.0.{n}.1", 1, now=0.0) for n in range(100)) == strangers.count == 48
    assert admitted(strangers, ELSEWHERE, 9, now=0.5) == 8
    assert sum(admitted(strangers, f"192.168.1.{n}", 1, now=0.5) for n in range(100)) == 8
    assert strangers.count == 64
    assert admitted(strangers, ABROAD, 1, now=0.5) == 0


class Callers:
    """Strangers with names, and those that were closed for others."""

    def __init__(self) -> None:
        self.limiter = StrangerLimiter(SETTINGS)
        self.all: dict[str, Stranger] = {}
        self.closed: list[str] = []

    def call(self, name: str, host: str, now: float) -> bool:
        stranger = self.limiter.admit(host, now, lambda: self.closed.append(name))
        if stranger is not None:
            self.all[name] = stranger
        return stranger is not None

    def hold_all(self) -> None:
        """Eight addresses of one network take the places that are for anybody."""
        for number in range(48):
            assert self.call(f"evil {number}", f"203.0.113.{number % 8}", number / 100)


def test_a_newcomer_takes_the_place_of_who_was_silent_longest_in_the_fullest_network() -> None:
    callers = Callers()
    callers.hold_all()
    callers.all["evil 7"].heard_at = 1.0  # it said something
    assert callers.call("bob", ABROAD, 2.0)
    assert callers.closed == ["evil 15"]  # of the newest one's address
    assert callers.limiter.count == 48
    callers.limiter.release(callers.all["evil 15"])  # its connection ends a moment later
    assert callers.limiter.count == 48


@pytest.mark.parametrize("network", ["203.0.113.%d", "2001:db8:66:%x::1"])
def test_who_comes_again_before_a_second_has_passed_keeps_nobody_of_other_networks_out(network: str) -> None:
    """Before: eight addresses, or /64 networks, that connected again after 0.9 s each time kept all others out."""
    callers = Callers()
    elsewhere = 0
    for tick in range(100):
        now = tick / 10
        for name, one in list(callers.all.items()):
            if name.startswith("evil") and now - one.heard_at > 0.85:
                callers.limiter.release(one)
                del callers.all[name]
        for number in range(8):
            callers.call(f"evil {tick} {number}", network % number, now)
        if tick >= 20 and tick % 10 == 5:
            assert callers.call(f"newcomer {tick}", f"198.51.{tick}.1", now)
            elsewhere += 1
    assert elsewhere == 8 and all(name.startswith("evil") for name in callers.closed)


def test_a_silent_connection_from_each_address_of_a_network_keeps_nobody_of_it_out() -> None:
    """A hundred such addresses, without an invite, kept a newcomer of their /24 out for more than 100 s."""
    callers = Callers()
    assert callers.call("cyd", ABROAD, 0.0)
    for number in range(47):
        assert callers.call(f"evil {number}", f"203.0.113.{number}", 0.1 + number / 100)
    assert not callers.call("bob", "203.0.113.200", 0.9)  # nobody was silent for a second
    assert not callers.call("evil 99", "203.0.113.7", 1.2)  # that address would have more than any other
    assert callers.call("bob", "203.0.113.200", 1.2)
    assert callers.closed == ["evil 0"] and callers.limiter.count == 48  # and not cyd, of a lighter network
    callers.all["evil 1"].heard_at = 1.2  # it said something
    assert callers.call("dan", "203.0.113.201", 1.3)
    assert callers.closed == ["evil 0", "evil 2"]


def test_silent_connections_keep_nobody_of_their_own_address_out() -> None:
    """Behind one address are many people, and all who dial through an engine have one."""
    callers = Callers()
    for number in range(8):
        assert callers.call(f"evil {number}", ABROAD, number / 10)
    assert not callers.call("bob", ABROAD, 0.9)  # nobody was silent for a second
    callers.all["evil 0"].heard_at = 1.0  # it said something
    assert callers.call("bob", ABROAD, 1.2)
    assert callers.closed == ["evil 1"] and callers.limiter.count == 8


def test_who_holds_all_places_gets_none_of_those_of_newcomers() -> None:
    """Eight addresses come again and again for ten seconds, and so do forty honest ones from elsewhere."""
    callers = Callers()
    callers.hold_all()
    honest = [f"honest {number}" for number in range(20)]
    for number, name in enumerate(honest):
        assert callers.call(name, f"198.51.{number}.1", 3.0 + number / 10)
    for step in range(100):
        callers.call(f"again {step}", f"203.0.113.{step % 8}", 5.0 + step / 10)
    assert not any(name.startswith("honest") for name in callers.closed)
    assert {*honest} <= {name for name, one in callers.all.items() if one in callers.limiter._far}


def test_a_known_address_takes_a_place_of_the_others_when_its_own_are_taken() -> None:
    callers = Callers()
    callers.hold_all()
    for number in range(16):
        assert callers.call(f"near {number}", f"10.0.0.{number}", 2.0)
    assert callers.call("friend", "10.0.0.77", 2.0)
    assert len(callers.closed) == 1 and callers.closed[0].startswith("evil")


@pytest.mark.parametrize("address, rate", [(ABROAD, 20), (HOME, 500)])
def test_new_connections_of_an_address_are_admitted_at_a_rate(address: str, rate: int) -> None:
    strangers = StrangerLimiter(SETTINGS)

    def visits(count: int, now: float) -> int:
        welcome = 0
        for _ in range(count):
            if stranger := strangers.admit(address, now, no_one):
                strangers.release(stranger)
                welcome += 1
        return welcome

    assert visits(2 * rate, now=0.0) == rate  # one second's worth at once
    assert visits(2 * rate, now=0.5) == rate // 2
    assert visits(2 * rate, now=100.0) == rate  # and never more


def test_idle_addresses_are_forgotten() -> None:
    strangers = StrangerLimiter(SETTINGS)
    for n in range(3 * MOST_LACKING):
        address = f"10.{n >> 8}.{n & 255}.1"
        stranger = strangers.admit(address, n / 100, no_one)
        assert stranger is not None
        strangers.release(stranger)
        assert len(strangers._work._left) <= MOST_LACKING
    assert strangers.count == 0


# Strangers on a real port


class CountedStrangers(StrangerLimiter):
    """Strangers, and how many there were at once."""

    most = 0

    def host_of(self, host: str) -> str:
        """Return the address that a stranger counts for."""
        assert host == HOME
        return host

    def admit(self, host: str, now: float, close: Callable[[], None], through: int = 0) -> Stranger | None:
        admitted = super().admit(self.host_of(host), now, close, through)
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
    client = make_client(await dial(HOME, host.port, timeout=60), recorder, server_side=False)
    await client.handshake(60)
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


async def test_a_member_frees_its_place_as_a_stranger() -> None:
    host = Host(replace(SETTINGS, max_strangers_loopback=1))
    await host.listen()
    joined = [await join(host) for _ in range(3)]
    assert host.strangers.count == 0 and host.strangers.refused == 0
    for client, _ in joined:
        client.abort()
    await host.connections.cut_all()


async def test_a_silent_stranger_is_closed_for_a_newcomer_from_elsewhere() -> None:
    host = Host(replace(SETTINGS, max_strangers=2))
    await host.listen()
    far = iter(["203.0.113.1", "203.0.113.1", ABROAD, ABROAD])
    host.strangers.host_of = lambda host: next(far)  # type: ignore[method-assign]
    silent = [await dial(HOME, host.port, timeout=60) for _ in range(2)]
    await until(lambda: host.strangers.count == 2, "two silent strangers")
    for stranger in host.strangers._far:
        stranger.heard_at -= 1.0
    client, recorder = await join(host)
    assert await hang_up(silent[0]) == b""
    await talk(host, client, recorder)
    assert host.strangers.count == 1 and host.strangers.refused == 0
    client.abort()
    silent[1][1].transport.abort()
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


# Stuck links


class SkippingLoop(asyncio.SelectorEventLoop):
    """A loop whose clock can be advanced."""

    skipped = 0.0

    def time(self) -> float:
        return super().time() + self.skipped


def run_with_skipping(story: Callable[[SkippingLoop], Coroutine[Any, Any, None]]) -> None:
    with asyncio.Runner(loop_factory=SkippingLoop) as runner:
        loop = runner.get_loop()
        assert isinstance(loop, SkippingLoop)
        runner.run(story(loop))


async def skip(loop: SkippingLoop, seconds: float) -> None:
    """Let time pass, one second a turn, as timers would see it."""
    for _ in range(int(seconds)):
        loop.skipped += 1
        await asyncio.sleep(0)  # timers run in the first turn, their effects in the second
        await asyncio.sleep(0)


def test_a_far_end_that_reads_nothing_and_sends_nothing_is_slow() -> None:
    async def story(loop: SkippingLoop) -> None:
        async with linked() as link:
            link.ada.pause_reading()
            await fill(link.bob)
            await skip(loop, SETTINGS.stuck_after - 1)
            assert link.to_bob.reason == ""
            await skip(loop, SETTINGS.stuck_after / 4)
            assert link.to_bob.reason == "slow" and repr(link.bob) == "<Client 1 dialled slow>"

    run_with_skipping(story)


def test_a_far_end_that_reads_nothing_but_sends_is_not_slow() -> None:
    async def story(loop: SkippingLoop) -> None:
        async with linked() as link:
            link.ada.pause_reading()
            await fill(link.bob)
            for n in range(1, 6):
                link.ada.send(PING)
                await link.to_bob.until(lambda n=n: len(link.to_bob.frames) == n)  # type: ignore[misc]
                await skip(loop, SETTINGS.stuck_after * 0.7)
                assert link.to_bob.reason == ""

    run_with_skipping(story)


def test_a_far_end_that_reads_a_little_is_not_slow() -> None:
    async def story(loop: SkippingLoop) -> None:
        async with linked() as link:
            link.ada.raise_limit()
            link.ada.pause_reading()
            await fill(link.bob)
            for _ in range(4):
                had = link.to_bob.drained
                link.ada.resume_reading()
                await link.to_bob.until(lambda had=had: link.to_bob.drained > had)  # type: ignore[misc]
                link.ada.pause_reading()
                await fill(link.bob)
                await skip(loop, SETTINGS.stuck_after * 0.7)
                assert link.to_bob.reason == ""

    run_with_skipping(story)


def test_silence_while_reading_is_paused_is_not_slow() -> None:
    async def story(loop: SkippingLoop) -> None:
        async with linked() as link:
            link.ada.pause_reading()
            await fill(link.bob)
            link.bob.pause_reading()
            await skip(loop, SETTINGS.stuck_after * 3)
            assert link.to_bob.reason == ""
            link.bob.resume_reading()
            await skip(loop, SETTINGS.stuck_after * 1.5)
            assert link.to_bob.reason == "slow"

    run_with_skipping(story)


# Strangers


async def test_refused_strangers_are_counted() -> None:
    async with TCPPeer(0, name="ada", db="memory://", settings=Settings(max_strangers_loopback=1)) as ada:
        host, _, port = ada.endpoint.rpartition(":")
        assert "strangers_refused" not in ada.counted
        streams = [await asyncio.open_connection(host, int(port)) for _ in range(2)]
        await until(lambda: ada.counted.get("strangers_refused") == 1, "the refusal of the second one")
        for _, writer in streams:
            writer.transport.abort()


# Carried strangers


def test_strangers_of_one_carrier_have_few_places_and_leave_those_of_others() -> None:
    strangers = StrangerLimiter(SETTINGS)
    for link in (1, 2):
        carried = [strangers.admit(CARRIED, 0.0, lambda: None, through=link) for _ in range(MAX_OF_CARRIER + 10)]
        assert sum(one is not None for one in carried) == min(
            MAX_OF_CARRIER, int(rates_of(SETTINGS)["strangers"].at_once)
        )
    assert admitted(strangers, ABROAD, 1, now=0.0) == 1

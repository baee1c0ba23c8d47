"""The listening side: addresses, admission, and the cost of strangers."""

from __future__ import annotations

import asyncio
import errno
import socket
from contextlib import closing
from dataclasses import replace

import pytest

from p2pchat import server as server_module
from p2pchat.client import Client, dial
from p2pchat.config import Settings
from p2pchat.errors import HandshakeError, P2PChatError, PortInUse
from p2pchat.protocol import Ping, Pong, encode
from p2pchat.server import SWEEP_ABOVE, Server, StrangerLimiter, address_of, loses_listener_on_error
from tests.deadlines import WAIT, within
from tests.link_ends import SETTINGS, Streams, Told, door, make_client

HOME, ABROAD, ELSEWHERE = "127.0.0.1", "192.0.2.7", "198.51.100.7"


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
def test_an_address_is_what_one_party_controls(host: str, address: str) -> None:
    assert address_of(host) == address


# Listening


@pytest.fixture(params=[False, True], ids=["elsewhere", "windows"])
def system(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways to accept, wherever this runs."""
    monkeypatch.setattr(server_module, "loses_listener_on_error", lambda loop: request.param)


both_systems = pytest.mark.usefixtures("system")


@both_systems
async def test_a_port_in_use_raises_port_in_use() -> None:
    async with door() as entrance:
        with pytest.raises(PortInUse, match=f"port {entrance.server.port} .* in use") as refused:
            await Server(SETTINGS, lambda *_: None).listen("127.0.0.1", entrance.server.port)
        assert refused.value.port == entrance.server.port


async def test_an_address_of_another_machine_is_refused() -> None:
    for host in ("192.0.2.7", "no such host"):
        with pytest.raises(P2PChatError, match="is no address of this machine"):
            await Server(SETTINGS, lambda *_: None).listen(host, 0)


@pytest.mark.parametrize(
    "error, says",
    [
        (OSError(errno.EACCES, "Permission denied"), "choose one above 1023"),
        (OSError(errno.ENOBUFS, "No buffer space"), "cannot listen .*: No buffer space"),
        (OSError(errno.EADDRINUSE, "in use"), "is in use"),
    ],
)
async def test_errors_of_the_system_become_one_line(error: OSError, says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(asyncio, "start_server", refuse)
    with pytest.raises(P2PChatError, match=says):
        await Server(SETTINGS, lambda *_: None).listen("127.0.0.1", 80)


@both_systems
async def test_port_0_is_the_same_port_on_all_addresses_of_a_host() -> None:
    server = Server(SETTINGS, lambda reader, writer, host: writer.transport.abort())
    await server.listen("localhost", 0)
    families = {info[0] for info in socket.getaddrinfo("localhost", server.port, type=socket.SOCK_STREAM)}
    for host in ["127.0.0.1"] + ["::1"] * (socket.AF_INET6 in families):
        _, writer = await asyncio.open_connection(host, server.port)
        writer.transport.abort()
    await server.close()


async def test_the_loop_that_loses_its_listener_is_recognised(monkeypatch: pytest.MonkeyPatch) -> None:
    class Deaf(asyncio.SelectorEventLoop):
        pass

    monkeypatch.setattr(asyncio, "ProactorEventLoop", Deaf, raising=False)
    with closing(Deaf()) as deaf, closing(asyncio.SelectorEventLoop()) as other:
        assert loses_listener_on_error(deaf)
        assert not loses_listener_on_error(other)  # also on Windows


async def test_a_failed_accept_does_not_end_listening_on_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """asyncio's own loop would: a visitor that resets its connection could end listening."""
    loop = asyncio.get_running_loop()
    accept, failures = loop.sock_accept, [OSError(64, "The specified network name is no longer available")] * 3

    async def fail_first(sock: socket.socket) -> tuple[socket.socket, object]:
        if failures:
            raise failures.pop()
        return await accept(sock)

    monkeypatch.setattr(server_module, "loses_listener_on_error", lambda loop: True)
    monkeypatch.setattr(loop, "sock_accept", fail_first)
    async with door() as entrance:
        for streams in await entrance.connect():
            streams[1].transport.abort()
    assert not failures


@both_systems
async def test_closing_refuses_new_connections_and_keeps_open_ones() -> None:
    async with door() as entrance:
        dialled, accepted = await entrance.connect()
        await entrance.server.close()
        with pytest.raises(OSError):
            await dial("127.0.0.1", entrance.server.port, timeout=5)
        accepted[1].write(b"still here")
        assert await dialled[0].read(100) == b"still here"
        for streams in (dialled, accepted):
            streams[1].transport.abort()


# Strangers on a real port


class Host:
    """The owner of a server, which makes a Client of every admitted connection, as the runtime does."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.server = Server(settings, self.accepted)
        self.members: list[tuple[Client, Told]] = []
        self.refusals: list[BaseException] = []
        self.arrivals: asyncio.Queue[None] = asyncio.Queue()
        self.most = 0  # strangers at once
        self._tasks: set[asyncio.Task[None]] = set()

    def accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str) -> None:
        assert host == "127.0.0.1"
        self.most = max(self.most, self.server.strangers)
        task = asyncio.create_task(self.welcome((reader, writer)))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def welcome(self, streams: Streams) -> None:
        told = Told()
        client = make_client(streams, told, server_side=True, settings=self.settings)
        try:
            await client.handshake(self.settings.handshake_timeout)
        except (HandshakeError, OSError) as error:
            self.refusals.append(error)
            self.server.on_closed(streams[1])
            return
        self.server.on_established(streams[1])
        client.start()
        self.members.append((client, told))
        self.arrivals.put_nowait(None)

    async def close(self) -> None:
        await self.server.close()
        for client, _ in self.members:
            client.abort()
        while self._tasks:
            await asyncio.wait(self._tasks)


async def join(host: Host) -> tuple[Client, Told]:
    told = Told()
    streams = await dial("127.0.0.1", host.server.port, timeout=5)
    client = make_client(streams, told, server_side=False)
    await client.handshake(5)
    client.start()
    async with within(WAIT, "the server to start a member's link"):
        await host.arrivals.get()
    return client, told


async def talk(host: Host, client: Client, told: Told) -> None:
    """One ping from the member and one pong back."""
    member, member_told = host.members[0]
    before = len(member_told.frames), len(told.frames)
    client.send(encode(Ping()))
    await member_told.until(lambda: len(member_told.frames) > before[0])
    member.send(encode(Pong()))
    await told.until(lambda: len(told.frames) > before[1])


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
    await host.server.listen("127.0.0.1", 0)
    client, told = await join(host)
    stranger = await dial("127.0.0.1", host.server.port, timeout=5)
    stranger[1].write(words)
    said = await hang_up(stranger)
    assert said == b"" or said[0] == 0x15  # at most an alert
    await talk(host, client, told)
    assert told.reason == "" and len(host.refusals) == 1 and host.server.strangers == 0
    client.abort()
    await host.close()


async def test_a_connection_the_kernel_forgot_ends_with_the_handshake_timeout() -> None:
    """Linux answers with SYN cookies when a listening queue is full. It keeps nothing of such a connection: unless the
    dialler sends something it is never accepted, and believes it is connected. A dialler here sends its hello first.
    """
    with closing(socket.create_server(("127.0.0.1", 0), backlog=1)) as listener:  # nobody accepts
        ends = []
        for _ in range(8):
            try:
                streams = await dial("127.0.0.1", listener.getsockname()[1], timeout=0.2)
            except OSError:
                continue  # not every system answers
            ends.append(make_client(streams, Told(), server_side=False))
        async with within(WAIT, "the handshakes to give up"):
            results = await asyncio.gather(*(end.handshake(0.1) for end in ends), return_exceptions=True)
    assert results and all(isinstance(result, HandshakeError | OSError) for result in results)


@both_systems
async def test_a_thousand_strangers_cost_a_bounded_amount() -> None:
    host = Host(replace(SETTINGS, handshake_timeout=1.0))
    await host.server.listen("127.0.0.1", 0)
    client, told = await join(host)

    async def knock() -> None:
        try:
            streams = await dial("127.0.0.1", host.server.port, timeout=5)
        except OSError:
            return  # reset before the dial had returned
        await hang_up(streams)

    everybody: list[asyncio.Task[None]] = []
    for _ in range(10):
        crowd = [asyncio.create_task(knock()) for _ in range(100)]
        await talk(host, client, told)
        await asyncio.wait(crowd, timeout=0.01)
        await talk(host, client, told)
        everybody += crowd
    await asyncio.gather(*everybody)
    assert host.most == SETTINGS.max_strangers_loopback  # never more than these had a Client
    assert host.server.refused >= 500  # all but those who took a place that another had left after his second
    assert host.server.strangers == 0 and told.reason == ""
    client.abort()
    await host.close()


async def test_a_member_frees_its_place_as_a_stranger() -> None:
    host = Host(replace(SETTINGS, max_strangers_loopback=1))
    await host.server.listen("127.0.0.1", 0)
    joined = [await join(host) for _ in range(3)]
    assert host.server.strangers == 0 and host.server.refused == 0
    for client, _ in joined:
        client.abort()
    await host.close()


async def test_a_place_is_given_back_once() -> None:
    async with door() as entrance:
        dialled, accepted = await entrance.connect()
        assert entrance.server.strangers == 1
        for _ in range(2):
            entrance.server.on_established(accepted[1])
            entrance.server.on_closed(accepted[1])
            assert entrance.server.strangers == 0
        for streams in (dialled, accepted):
            streams[1].transport.abort()

"""Strangers of every kind on the port of a running peer: dropped within the limits, without effect on members.

test_server.py tests the limits, and the tests of the core that a hello is valid for one connection. These tests have
two real members, sockets and TLS, and check the members' logs, memory and chat.
"""

from __future__ import annotations

import asyncio
import random
import ssl
import time
from collections.abc import Awaitable, Callable
from itertools import count
from typing import Any

import pytest

from p2pchat.config import MIB, Settings
from p2pchat.core.mesh.handshake import ClientSide
from p2pchat.core.node_context_and_timers import NetworkCredentials
from p2pchat.identity.keys import Identity
from p2pchat.identity.tls import client_context, server_context
from p2pchat.protocol import LENGTH, AnyFrame, Bye, Frame, Go, Hello, Mark, Ping, Want, Welcome
from p2pchat.runtime.pending_handshakes import SILENT_AFTER
from p2pchat.testing.process_mesh import Child
from tests.conftest import Tell
from tests.processes.peers import Cluster
from tests.processes.strangers import Stranger, chat, memory, two_members

LIMIT = Settings().handshake_timeout
KNOCKS = 1000
GROWS_LESS_THAN = 32 * MIB
MARKER = "a-stranger-was-here"
EVE = Identity.from_seed(b"e" * 32)


# Attempts of strangers. Each returns when the member has closed the connection.

Trick = Callable[[int], Awaitable[None]]


def bytes_only(data: bytes) -> Trick:
    async def trick(port: int) -> None:
        stranger = await Stranger.connect(port)
        stranger.say(data)
        await stranger.over()
        stranger.gone()

    return trick


def inside_tls(*what: bytes | Frame) -> Trick:
    async def trick(port: int) -> None:
        stranger = await Stranger.connect(port, client_context())
        stranger.say(*what)
        await stranger.over()
        stranger.gone()

    return trick


async def old_tls(port: int) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises((ssl.SSLError, OSError)):
        await Stranger.connect(port, context)


def drop_by_drop(data: bytes) -> Trick:
    """Send a byte every half second, so that the connection is never silent for long."""

    async def trick(port: int) -> None:
        stranger = await Stranger.connect(port)

        async def drip() -> None:
            for byte in data:
                stranger.say(bytes([byte]))
                await asyncio.sleep(0.5)  # the pace is the attack

        dripping = asyncio.create_task(drip())
        await stranger.over()
        dripping.cancel()
        stranger.gone()

    return trick


async def late_tls(port: int) -> None:
    """Begin TLS after most of the time limit, and send nothing after it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        async with asyncio.timeout(0.6 * LIMIT):  # the delay is the attack
            await reader.read(1)
    except TimeoutError:
        await writer.start_tls(client_context())
    except ConnectionResetError:
        return  # one of the crowd has its place
    stranger = Stranger(reader, writer)
    await stranger.over()
    stranger.gone()


CLIENT_HELLO = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"  # the first bytes of one of 512
HTTP = f"GET /{MARKER} HTTP/1.1\r\nHost: {MARKER}\r\n\r\n".encode()
HEX = "ab" * 32

WRONG: dict[str, Trick] = {
    "http": bytes_only(HTTP),
    "random": bytes_only(random.Random(1).randbytes(100_000)),
    "zeros": bytes_only(bytes(100_000)),
    "a huge length": bytes_only(b"\xff\xff\xff\xff" + MARKER.encode()),
    "TLS 1.2": old_tls,
    "in TLS: a huge length": inside_tls(b"\xff\xff\xff\xff" + bytes(1000)),
    "in TLS: a length just too large": inside_tls(LENGTH.pack(Settings().max_early_frame_bytes + 1), b"{" * 5000),
    "in TLS: length 0": inside_tls(bytes(4)),
    "in TLS: http": inside_tls(HTTP),
    "in TLS: no JSON": inside_tls(LENGTH.pack(len(MARKER)) + MARKER.encode()),
    "in TLS: a ping before hello": inside_tls(Ping()),
    "in TLS: a go before hello": inside_tls(Go(run="ab" * 8, n=1), bytes(3)),
    "in TLS: a want before hello": inside_tls(Want(n=1, c=HEX, u=HEX, tips=[Mark("ab" * 8, 1, "ab" * 8)])),
    "in TLS: an unknown frame": inside_tls(LENGTH.pack(len(MARKER) + 8) + b'{"t":"' + MARKER.encode() + b'"}'),
    "in TLS: a hello that proves nothing": inside_tls(Hello(v=1, nonce=HEX, id=HEX, sig=HEX * 2, proof=HEX)),
    "in TLS: another version": inside_tls(Hello(v=2, nonce=HEX, id=HEX, sig=HEX * 2, proof=HEX)),
}
SILENT: dict[str, Trick] = {
    "nothing": bytes_only(b""),
    "half a client hello": bytes_only(CLIENT_HELLO),
    "a client hello in drops": drop_by_drop(CLIENT_HELLO + bytes(100)),
    "in TLS: nothing": inside_tls(),
    "in TLS: half a frame": inside_tls(LENGTH.pack(4000) + b'{"t":"hello"'),
    "TLS late, then nothing": late_tls,
}


async def test_strangers_of_every_kind_are_dropped_without_effect_on_members(cluster: Cluster, tell: Tell) -> None:
    ada, bob = await two_members(cluster)
    port, before = ada.listening["port"], memory(ada, "VmRSS")
    lines_before = len(ada.lines), len(bob.lines)

    began = time.monotonic()
    silent = {name: asyncio.create_task(timed(trick, port)) for name, trick in SILENT.items()}
    for name, trick in WRONG.items():
        took = await timed(trick, port)
        assert took < LIMIT, f"{name}: closed after {took:.1f} s, by the time limit"
        await chat(ada, bob, f"after {name}")

    alone_for = time.monotonic() - began
    crowd = asyncio.gather(*(knock(port) for _ in range(KNOCKS)))
    number = 0
    everybody: list[asyncio.Future[Any]] = [crowd, *silent.values()]
    while not all(one.done() for one in everybody):
        await chat(ada, bob, f"line {(number := number + 1)} in the crowd")
        await asyncio.wait(everybody, timeout=0.2)
    let_in = sum(await crowd)
    assert number > 1  # and the silent ones were there all the time
    took_all = {name: await task for name, task in silent.items()}
    latest = max(LIMIT, took_all["nothing"]) + LIMIT / 2
    for name, took in took_all.items():  # all began at once: who moves its time limit is later than who says nothing
        # Who was silent for a second may give its place to one of the crowd, and to nobody before.
        earliest = min(LIMIT * 0.99, max(alone_for, SILENT_AFTER * 0.99))
        assert earliest < took < latest, f"{name}: closed after {took:.1f} s"
    assert let_in < KNOCKS / 2  # the others were over a limit, and closed at once

    grown = memory(ada, "VmHWM") - before
    tell(f"strangers: {let_in} of {KNOCKS:,} knocks were waited for, the peer grew by {grown / MIB:.1f} MiB at most")
    assert grown < GROWS_LESS_THAN
    check_members_unaffected(ada, bob, lines_before)

    cyd = cluster.child("cyd", ada.endpoint)  # members still get in
    await cyd.start()
    await ada.event("joined", user="cyd")
    assert [await child.leave() for child in (cyd, bob, ada)] == [0, 0, 0]
    assert cluster.faults("ada", "bob", "cyd", complete=False) == []
    for name in ("ada", "bob", "cyd"):
        assert MARKER not in cluster.log(name).read_text("utf-8")


async def timed(trick: Trick, port: int) -> float:
    loop = asyncio.get_running_loop()
    began = loop.time()
    async with asyncio.timeout(6 * LIMIT):
        await trick(port)
    return loop.time() - began


AT_A_TIME = asyncio.Semaphore(200)  # a process may have only 1,024 or 256 open files


async def knock(port: int) -> bool:
    """Connect and send nothing; return True if the connection was not closed at once."""
    async with AT_A_TIME:
        try:
            return await timed(bytes_only(b""), port) > LIMIT * 0.99
        except OSError:
            return False  # reset before the connection was there


def check_members_unaffected(ada: Child, bob: Child, since: tuple[int, int]) -> None:
    """Check that the members reported only their own chat (a `read` may come later), and no error."""
    for child, before in zip((ada, bob), since, strict=True):
        events = {line["event"] for line in child.lines[before:]}
        assert events | {"read"} == {"sent", "message", "delivered", "read"}, f"{child.name}: {events}"
        assert not [line for line in child.complaints if not line.startswith("-- ")]


# Valid frames on the wrong connection


class ManInTheMiddle:
    """A man in the middle with his own certificate, who forwards frames between a member and a dialler."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.from_member: list[AnyFrame] = []
        self.from_guest: list[AnyFrame] = []
        self.met = asyncio.Event()

    async def listen(self) -> str:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, ssl=server_context(EVE))
        return f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        guest, member = Stranger(reader, writer), await Stranger.connect(self._port, client_context())
        await asyncio.gather(
            self._forward(member, guest, self.from_member), self._forward(guest, member, self.from_guest)
        )
        self.met.set()

    async def _forward(self, source: Stranger, sink: Stranger, tape: list[AnyFrame]) -> None:
        while (frame := await source.next()) is not None:
            tape.append(frame)
            assert isinstance(frame, Frame)
            sink.say(frame)
        sink.writer.close()

    def close(self) -> None:
        self._server.close()


async def test_a_live_hello_forwarded_with_another_certificate_is_refused(cluster: Cluster) -> None:
    ada, bob = await two_members(cluster)
    since = len(ada.lines), len(bob.lines)
    middle = ManInTheMiddle(ada.listening["port"])
    cyd = cluster.child("cyd", await middle.listen(), log=False)
    await cyd.start()
    async with asyncio.timeout(60):
        await middle.met.wait()
    middle.close()
    assert [type(frame) for frame in middle.from_guest][:1] == [Hello]
    assert [type(frame) for frame in middle.from_member] == [Hello, Bye]
    assert middle.from_member[1].code == "identity"  # type: ignore[union-attr]
    refused = await cyd.wait(lambda line: line["event"] == "link" and line["state"] != "up")
    assert refused[0]["state"] == "refused"
    assert not any(line["event"] == "joined" for line in cyd.lines)
    await chat(ada, bob, "after the man in the middle")
    check_members_unaffected(ada, bob, since)


async def test_a_hello_is_valid_once(cluster: Cluster) -> None:
    """Repeat a member's valid hello on a second connection, which has another nonce."""
    ada, bob = await two_members(cluster)
    since = len(ada.lines), len(bob.lines)
    port = ada.listening["port"]
    network = cluster.network

    first = await Stranger.connect(port, client_context())
    member = one_below(first.server)
    side = ClientSide(
        member.peer_id,
        member.sign,
        NetworkCredentials(network.id, network.key),
        server=first.server,
        pin="",
        nonce=b"n" * 32,
    )
    offer = await first.next()
    assert isinstance(offer, Hello)
    hello = side.on_frame(offer)
    assert hello is not None
    first.say(hello)
    assert isinstance(await first.next(), Welcome)
    first.gone()

    second = await Stranger.connect(port, client_context())
    assert isinstance(await second.next(), Hello)
    second.say(hello)
    [bye] = await second.all()
    assert isinstance(bye, Bye) and bye.code == "identity"
    second.gone()
    await chat(ada, bob, "after the replay")
    check_members_unaffected(ada, bob, since)


def one_below(peer: str) -> Identity:
    """Return an identity with a smaller id: the far end waits for its `go` before the link is up."""
    seeds = (number.to_bytes(32, "big") for number in count(1))  # endless, because the far end's id may be very small
    return next(one for one in map(Identity.from_seed, seeds) if one.peer_id < peer)

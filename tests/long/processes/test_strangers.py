"""Strangers of every kind on the port of a running peer: dropped within the limits, without effect on members.

tests/runtime/test_connection_manager.py tests the limits, tests/core/mesh/test_handshake.py and
tests/hostile/test_proofs.py that a hello is valid for one connection and one certificate. This test has two real
members, sockets and TLS, and checks the members' logs, memory and chat.
"""

from __future__ import annotations

import asyncio
import random
import ssl
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from p2pchat.identity.tls_pipe import client_context
from p2pchat.protocol import LENGTH, PROTOCOL_VERSION, Frame, Go, Hello, Mark, Ping, Want
from p2pchat.runtime.stranger_limiter import SILENT_AFTER
from p2pchat.settings import MIB, Settings
from p2pchat.testing.process_mesh import Child
from tests.conftest import Tell
from tests.processes.peers import Cluster
from tests.processes.strangers import Stranger, chat, memory, two_members

LIMIT = Settings().handshake_timeout
KNOCKS = 1000
GROWS_LESS_THAN = 32 * MIB
MARKER = "a-stranger-was-here"


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

UNPROVEN = Hello(v=PROTOCOL_VERSION, nonce=HEX, id=HEX, sig=HEX * 2, proof=HEX)
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
    "in TLS: a want before hello": inside_tls(Want(n=1, c=HEX, u=HEX, tips=[Mark("ab" * 8, 1, "ab" * 32)])),
    "in TLS: an unknown frame": inside_tls(LENGTH.pack(len(MARKER) + 8) + b'{"t":"' + MARKER.encode() + b'"}'),
    "in TLS: a hello that proves nothing": inside_tls(
        Hello(v=PROTOCOL_VERSION, nonce=HEX, id=HEX, sig=HEX * 2, proof=HEX)
    ),
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
        assert events | {"read", "seen"} == {"sent", "message", "delivered", "read", "seen"}, f"{child.name}: {events}"
        assert not [line for line in child.complaints if not line.startswith("-- ")]

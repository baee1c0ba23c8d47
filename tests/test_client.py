"""One link over real sockets: handshake, both directions, back-pressure, and every end."""

from __future__ import annotations

import asyncio
import errno
import random
import socket
import tracemalloc
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from p2pchat.errors import HandshakeError
from p2pchat.identity.tls_pipe import TlsPipe
from p2pchat.protocol import AnyFrame, Bye, Ping, Pong, TypingFrame, encode
from tests.link_ends import (
    ADA,
    CLIENT,
    PING,
    SETTINGS,
    Recorder,
    Relay,
    Streams,
    fill,
    frame_of,
    linked,
    listener,
    make_client,
)

PONG, LEFT = encode(Pong()), encode(Bye("left"))


# Frames both ways


async def test_the_dialling_side_learns_the_key_of_the_server() -> None:
    async with listener() as listening:
        dialled, accepted = await listening.connect()
        ada = make_client(accepted, Recorder(), server_side=True)
        bob = make_client(dialled, Recorder(), server_side=False)
        assert list(await asyncio.gather(ada.handshake(60), bob.handshake(60))) == ["", ADA.peer_id]
        assert [repr(ada), repr(bob)] == ["<Client 1 accepted up>", "<Client 1 dialled up>"]
        ada.abort()
        bob.abort()


async def test_frames_sent_together_arrive_in_order_and_in_one_read() -> None:
    async with linked() as link:
        link.bob.send(b"".join(encode(TypingFrame("c" * 64, "d" * 64, bool(n % 2))) for n in range(100)))
        await link.to_ada.until(lambda: len(link.to_ada.frames) == 100)
        assert len(link.to_ada.reads) == 1
        assert [f.on for f in link.to_ada.frames if isinstance(f, TypingFrame)] == [bool(n % 2) for n in range(100)]
        link.ada.send(PONG)
        await link.to_bob.until(lambda: link.to_bob.frames == [Pong()])


async def test_bytes_that_arrive_with_the_end_of_the_handshake_are_kept() -> None:
    async with listener() as listening:
        dialled, accepted = await listening.connect()
        to_bob = Recorder()
        ada, bob = (
            make_client(accepted, Recorder(), server_side=True),
            make_client(dialled, to_bob, server_side=False),
        )
        ada.send(PING)  # before there is anybody to encrypt it for
        await asyncio.gather(ada.handshake(60), bob.handshake(60))
        bob.start()
        await to_bob.until(lambda: to_bob.frames == [Ping()])
        ada.abort()
        bob.abort()


@pytest.mark.parametrize(
    "cuts", [lambda: 1, lambda: 1447, lambda: random.randint(1, 40_000)], ids=["1", "mss", "random"]
)
async def test_bytes_are_exact_both_ways_through_any_cutting(cuts: Callable[[], int]) -> None:
    sizes = [40, 41, 4095, 4096] * 4 if cuts() == 1 else [random.Random(n).randint(40, 200_000) for n in range(40)]
    frames = [frame_of(size, chr(97 + n % 26)) for n, size in enumerate(sizes)]
    async with linked(through=Relay(cuts)) as link:
        for end in (link.ada, link.bob):
            end.raise_limit()
            for frame in frames:
                end.send(frame)
        for recorder in (link.to_ada, link.to_bob):
            await recorder.until(lambda recorder=recorder: len(recorder.frames) == len(frames))  # type: ignore[misc]
            assert [encode(frame) for frame in recorder.frames if isinstance(frame, Bye)] == frames


async def test_half_a_frame_is_a_sign_of_life() -> None:
    async with linked() as link:
        link.bob.send(PING[:3])
        await link.to_ada.until(lambda: link.to_ada.reads == [[]])
        link.bob.send(PING[3:])
        await link.to_ada.until(lambda: link.to_ada.reads == [[], [Ping()]])


async def test_frames_before_a_bad_one_count_and_later_ones_do_not() -> None:
    async with linked() as link:
        link.bob.send(PING + b"\0\0\0\4ping" + PING)
        await link.to_ada.until(lambda: bool(link.to_ada.faults))
        link.bob.send(PING)
        await link.bob.close()
        await link.to_ada.until(lambda: bool(link.to_ada.reason))
        assert link.to_ada.frames == [Ping()] and [code for code, _ in link.to_ada.faults] == ["malformed"]


async def test_large_frames_are_accepted_after_go() -> None:
    most = SETTINGS.max_early_frame_bytes + 4
    async with linked() as link:
        link.bob.send(frame_of(most))
        await link.to_ada.until(lambda: len(link.to_ada.frames) == 1)
        link.ada.raise_limit()
        link.bob.send(frame_of(most + 1))
        await link.to_ada.until(lambda: len(link.to_ada.frames) == 2)
        link.ada.send(frame_of(most + 1))
        await link.to_bob.until(lambda: [code for code, _ in link.to_bob.faults] == ["limit"])


async def test_small_frames_are_sent_at_once() -> None:
    async with listener() as listening:
        dialled, accepted = await listening.connect()
        for streams, server_side in ((dialled, False), (accepted, True)):
            client = make_client(streams, Recorder(), server_side=server_side)
            sock = streams[1].get_extra_info("socket")
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            client.abort()


async def test_an_idle_link_keeps_nothing_of_its_last_burst() -> None:
    async with linked() as link:
        link.ada.raise_limit()
        link.bob.send(frame_of(500))
        await link.to_ada.until(lambda: len(link.to_ada.frames) == 1)
        link.to_ada.reads.clear()
        tracemalloc.start()
        try:
            before = tracemalloc.get_traced_memory()[0]
            link.bob.send(frame_of(200_000))
            await link.to_ada.until(lambda: len(link.to_ada.frames) == 1)
            link.to_ada.reads.clear()
            await asyncio.sleep(0)  # both ends are waiting again
            kept = tracemalloc.get_traced_memory()[0] - before
        finally:
            tracemalloc.stop()
        assert kept < 32 * 1024


async def test_links_that_share_a_read_buffer_keep_their_own_bytes() -> None:
    """Half a frame of one link waits for the rest while the other link's bytes come in."""
    async with linked() as one, linked() as other:
        for link in (one, other):
            link.ada.raise_limit()
        frames = [encode(Bye("left", letter * 100_000)) for letter in "ab"]
        for start in range(0, len(frames[0]), 30_000):
            for link, frame in zip((one, other), frames, strict=True):
                link.bob.send(frame[start : start + 30_000])
            reads = [len(link.to_ada.reads) for link in (one, other)]
            for link, had in zip((one, other), reads, strict=True):
                await link.to_ada.until(lambda link=link, had=had: len(link.to_ada.reads) > had)  # type: ignore[misc]
        assert one.to_ada.frames == [Bye("left", "a" * 100_000)]
        assert other.to_ada.frames == [Bye("left", "b" * 100_000)]


# Pressure


async def test_a_paused_link_stops_its_sender_and_loses_nothing() -> None:
    settings = replace(SETTINGS, buffer_limit_bytes=64 * 1024)
    async with linked(bob_settings=settings) as link:
        link.ada.raise_limit()
        link.ada.pause_reading()
        sent = 0
        while not link.bob.full:  # as much as the system takes, and then the limit
            link.bob.send(frame_of(100_000))
            sent += 1
            await asyncio.sleep(0)  # lets the transports send and receive
        assert link.to_bob.filled == 1 and link.to_bob.drained == 0 and not link.bob.has_room
        assert len(link.to_ada.reads) <= 1  # the one that was under way
        link.ada.resume_reading()
        await link.to_bob.until(lambda: link.to_bob.drained == 1)
        assert not link.bob.full and link.bob.has_room
        link.bob.send(PING)
        await link.to_ada.until(lambda: len(link.to_ada.frames) == sent + 1)
        assert link.to_ada.frames[-1] == Ping()


async def test_below_the_limit_a_link_is_never_full() -> None:
    async with linked() as link:
        link.ada.raise_limit()
        link.bob.send(frame_of(SETTINGS.max_frame_bytes))
        await link.to_ada.until(lambda: len(link.to_ada.frames) == 1)
        assert (link.to_bob.filled, link.to_bob.drained, link.bob.full) == (0, 0, False)


# The end


async def test_a_goodbye_arrives_whole_and_in_order() -> None:
    async with linked() as link:
        link.bob.send(PING)
        await link.bob.close(LEFT)
        await link.to_ada.until(lambda: bool(link.to_ada.reason))
        assert link.to_ada.frames == [Ping(), Bye("left")] and link.to_ada.reason == "closed"
        assert link.to_bob.reason == "local"
        link.bob.send(PING)  # no error
        await link.bob.close(LEFT)


async def test_a_goodbye_arrives_though_the_far_end_is_still_talking() -> None:
    """Closing a socket with unread bytes resets the connection, and the reset overtakes written bytes."""
    async with linked() as link:
        for end in (link.ada, link.bob):
            end.raise_limit()
            end.pause_reading()
        await fill(link.ada)
        closing = asyncio.create_task(link.bob.close(LEFT, drain_timeout=60))
        assert not (await asyncio.wait([closing], timeout=0.05))[0]  # it stays until ada has read it
        link.ada.resume_reading()
        await link.to_ada.until(lambda: bool(link.to_ada.reason))
        await closing
        assert link.to_ada.frames == [Bye("left")] and link.to_ada.reason == "closed"
        assert len(link.to_bob.reads) <= 1  # later frames of ada are dropped


async def test_closing_waits_no_longer_than_its_timeout() -> None:
    async with linked() as link:
        link.ada.pause_reading()
        await fill(link.bob)
        began = asyncio.get_running_loop().time()
        await link.bob.close(LEFT, drain_timeout=0.05)
        assert asyncio.get_running_loop().time() - began < 20 and link.to_bob.reason == "local"


async def test_an_aborted_link_is_lost_for_the_far_end() -> None:
    async with linked() as link:
        link.bob.abort()
        assert link.to_bob.reason == ""  # never from within the call
        await link.to_bob.until(lambda: link.to_bob.reason == "local")
        await link.to_ada.until(lambda: link.to_ada.reason == "lost")


async def test_an_end_without_close_notify_is_lost() -> None:
    between = Relay()
    async with linked(through=between) as link:
        link.bob.send(PING)
        await link.to_ada.until(lambda: link.to_ada.frames == [Ping()])
        between.cut()
        await link.to_ada.until(lambda: link.to_ada.reason == "lost")
        await link.to_bob.until(lambda: link.to_bob.reason == "lost")


class GivenUpOnWindows(OSError):
    winerror = 121  # "The semaphore timeout period has expired"


@pytest.mark.parametrize("error", [OSError(errno.ETIMEDOUT, "Connection timed out"), GivenUpOnWindows()])
async def test_a_connection_that_timed_out_in_the_system_is_a_timeout(error: OSError) -> None:
    async with linked() as link:
        link.bob.connection_lost(error)
        await link.to_bob.until(lambda: link.to_bob.reason == "timeout")


async def test_noise_in_the_stream_is_a_lost_link() -> None:
    async with listener() as listening:
        dialled, accepted = await listening.connect()
        to_ada = Recorder()
        ada, bob = (
            make_client(accepted, to_ada, server_side=True),
            make_client(dialled, Recorder(), server_side=False),
        )
        await asyncio.gather(ada.handshake(60), bob.handshake(60))
        ada.start()
        dialled[1].write(b"\x17\x03\x03\x00\x20" + bytes(32))
        await to_ada.until(lambda: to_ada.reason == "lost")
        bob.abort()


async def test_a_link_that_ended_before_start_calls_on_down() -> None:
    async with listener() as listening:
        dialled, accepted = await listening.connect()
        to_bob = Recorder()
        bob = make_client(dialled, to_bob, server_side=False)
        bob.abort()
        bob.start()
        await to_bob.until(lambda: to_bob.reason == "local")
        accepted[1].transport.abort()


async def test_a_link_ended_by_its_first_frame_calls_on_down_once() -> None:
    class Ending(Recorder):
        def on_frames(self, link: int, frames: list[AnyFrame]) -> None:
            super().on_frames(link, frames)
            ada.abort()

        def on_down(self, link: int, reason: str) -> None:
            reasons.append(reason)

    reasons: list[str] = []
    async with listener() as listening:
        dialled, accepted = await listening.connect()
        to_ada, to_bob = Ending(), Recorder()
        ada, bob = make_client(accepted, to_ada, server_side=True), make_client(dialled, to_bob, server_side=False)
        bob.send(PONG)  # it comes with the end of the handshake
        await asyncio.gather(ada.handshake(60), bob.handshake(60))
        bob.start()
        ada.start()
        await to_bob.until(lambda: to_bob.reason == "lost")
        assert (reasons, to_ada.frames) == (["local"], [Pong()])


# Handshakes that fail


async def meet(far_end: Callable[[Streams], Awaitable[object]], *, server_side: bool, timeout: float = 60) -> None:
    """Let one Client do its handshake with `far_end`; afterwards its connection must be closed."""
    async with listener() as listening:
        dialled, accepted = await listening.connect()
        ours, theirs = (accepted, dialled) if server_side else (dialled, accepted)
        recorder = Recorder()
        client = make_client(ours, recorder, server_side=server_side)
        other = asyncio.create_task(_run(far_end, theirs))
        try:
            await client.handshake(timeout)
        finally:
            assert ours[1].transport.is_closing()
            await other
            while not theirs[0].at_eof():
                try:
                    await theirs[0].read(65536)
                except ConnectionError:
                    break
            theirs[1].transport.abort()
            assert recorder.reason == "" and recorder.reads == []


async def _run(far_end: Callable[[Streams], Awaitable[object]], streams: Streams) -> None:
    await far_end(streams)


async def silence(streams: Streams) -> None:
    pass


async def hang_up(streams: Streams) -> None:
    streams[1].close()


async def speak_http(streams: Streams) -> None:
    streams[1].write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")


async def speak_noise(streams: Streams) -> None:
    streams[1].write(random.Random(7).randbytes(100_000))


async def speak_half_a_hello(streams: Streams) -> None:
    pipe = TlsPipe(CLIENT, server_side=False)
    pipe.begin()
    hello = pipe.outgoing()
    streams[1].write(hello[: len(hello) // 2])


@pytest.mark.parametrize("server_side", [True, False])
@pytest.mark.parametrize("far_end", [speak_http, speak_noise])
async def test_a_far_end_without_tls_is_dropped(
    far_end: Callable[[Streams], Awaitable[object]], server_side: bool
) -> None:
    with pytest.raises(HandshakeError):
        await meet(far_end, server_side=server_side)


@pytest.mark.parametrize("far_end, server_side", [(silence, True), (silence, False), (speak_half_a_hello, True)])
async def test_a_silent_far_end_is_dropped_in_time(
    far_end: Callable[[Streams], Awaitable[object]], server_side: bool
) -> None:
    with pytest.raises(TimeoutError):
        await meet(far_end, server_side=server_side, timeout=0.05)


@pytest.mark.parametrize("server_side", [True, False])
async def test_a_far_end_that_hangs_up_loses_the_connection(server_side: bool) -> None:
    with pytest.raises(ConnectionError):
        await meet(hang_up, server_side=server_side)


# A man in the middle


async def test_a_relay_sees_nothing_it_can_use() -> None:
    between = Relay()
    secret = "the words between ada and bob"
    async with linked(through=between) as link:
        link.bob.send(encode(Bye("left", secret)))
        await link.to_ada.until(lambda: link.to_ada.frames == [Bye("left", secret)])
        assert secret.encode() not in between.tape and b"left" not in between.tape
        tape = bytes(between.tape)

    async def play_the_tape(streams: Streams) -> None:
        streams[1].write(tape)

    with pytest.raises((HandshakeError, ConnectionError)):
        await meet(play_the_tape, server_side=True)

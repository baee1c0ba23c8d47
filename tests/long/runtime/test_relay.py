"""Links through an engine: a real nats-server, peers that listen on no socket, and an engine that does harm."""

from __future__ import annotations

import asyncio
import base64
import errno
import json
import os
import re
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from p2pchat import Link, P2PChatError, TCPPeer
from p2pchat.core.mesh.addressbook import is_relayed, relay_endpoint, relay_peer
from p2pchat.core.names import base32
from p2pchat.core.token_bucket import TokenBucket
from p2pchat.identity.identity import Identity, load_identity
from p2pchat.identity.own_addresses import own_endpoints
from p2pchat.nats_client import (
    MAX_HEADER_BYTES,
    MAX_LINE_BYTES,
    MAX_MESSAGE_BYTES,
    MIN_PAYLOAD_BYTES,
    NKEY_PURPOSE,
    EngineOptions,
    _checked_base32,
    nkey_seed,
    own_nkey,
    parse_servers,
)
from p2pchat.peer_metrics import HealthCheck, peer_metrics
from p2pchat.runtime.connection_manager import TCPTransport
from p2pchat.runtime.relay import (
    JOINED_BYTES,
    MAX_ANSWERS,
    WINDOW_BYTES,
    RelayTransport,
    dial_proof,
    open_piece,
    pair_key,
)
from p2pchat.runtime.stranger_limiter import RELAYED_A_SECOND, RELAYED_PLACES, SILENT_AFTER
from p2pchat.server import Server
from p2pchat.settings import Settings
from tests.commands.session_output import Shown, open_session
from tests.deadlines import WAIT, until, within
from tests.nats import HostileEngine, NatsServer, missing, resized
from tests.nats import Message as Carried

KEY = bytes(range(32))  # of the network


async def read_to_the_end(reader: asyncio.StreamReader) -> None:
    """Read until the stream has an end or an error. A longer read misses an error right behind the bytes it has."""
    while await reader.read(1):
        pass


class End:
    """One client of the engine: a RelayTransport, and the connections that it accepts."""

    def __init__(self, url: str, identity: Identity | None = None, credentials: Path | None = None) -> None:
        self.identity = identity or Identity.generate()
        self.accepted: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()
        self.states: list[tuple[str, str]] = []
        self.transport = RelayTransport(
            self.identity.peer_id,
            EngineOptions(parse_servers(url), credentials),
            self.identity.derive(NKEY_PURPOSE),
            self.identity.agree,
            KEY,
            TCPTransport(),
            listens=False,
            ping_after=Settings().ping_after,
            on_state=lambda server, reason: self.states.append((server, reason)),
        )

    @property
    def host(self) -> str:
        return relay_endpoint(self.identity.peer_id).rpartition(":")[0]

    async def __aenter__(self) -> End:
        server = Server(lambda reader, writer: self.accepted.put_nowait((reader, writer)))
        assert await self.transport.listen(server, "127.0.0.1", 0) == ("127.0.0.1", 0)
        self.transport.engine.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.transport.aclose()

    async def up(self) -> End:
        await until(lambda: bool(self.transport.engine.server), "the engine")
        return self


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[tuple[End, End, Any, Any]]:
    """Two ends, and the streams (reader, writer) of a pipe between them, the caller's first."""
    async with End(url) as one, End(url) as two:
        await one.up()
        await two.up()
        async with within(WAIT, "a pipe"):
            here = await one.transport.dial(two.host, 1, timeout=WAIT)
            there = await two.accepted.get()
        yield one, two, here, there
        for streams in (here, there):
            streams[1].transport.abort()


async def test_bytes_go_both_ways_in_order_and_an_end_follows_the_last_one(engine: NatsServer) -> None:
    async with connected(engine.url) as (_, _, here, there), within(WAIT, "the bytes"):
        data = os.urandom(5 * WINDOW_BYTES + 7)
        here[1].write(data)
        there[1].write(b"and back")
        assert await here[0].readexactly(8) == b"and back"
        here[1].write_eof()
        assert await there[0].read() == data
        there[1].close()
        assert await here[0].read() == b""


async def test_a_reader_that_stops_stops_the_writer_after_one_window(engine: NatsServer) -> None:
    async with connected(engine.url) as (_, _, here, there), within(WAIT, "the bytes"):
        there[1].transport.pause_reading()
        here[1].write(bytes(3 * WINDOW_BYTES))
        assert here[1].transport.get_write_buffer_size() == 2 * WINDOW_BYTES
        there[1].write(b"marker")  # after it nothing of `here` is under way that the window would allow
        assert await here[0].readexactly(6) == b"marker"
        assert here[1].transport.get_write_buffer_size() == 2 * WINDOW_BYTES
        there[1].transport.resume_reading()
        assert len(await there[0].readexactly(3 * WINDOW_BYTES)) == 3 * WINDOW_BYTES


async def test_a_window_of_small_pieces_takes_little_more_than_its_bytes(engine: NatsServer) -> None:
    """Before: each piece was an object, so a link that is not read took up to 30 MiB."""
    pieces, data = 20_000, os.urandom(40_000)
    async with connected(engine.url) as (_, _, here, there), within(WAIT, "the bytes"):
        there[1].transport.pause_reading()
        for at in range(0, 2 * pieces, 2):
            here[1].write(data[at : at + 2])
            if at % 1000 == 0:
                await asyncio.sleep(0)  # the engine's connection takes them
        there[1].write(b"marker")
        assert await here[0].readexactly(6) == b"marker"
        await until(lambda: there[1].transport._unread_bytes == len(data), "all pieces")
        assert len(there[1].transport._unread) <= 1 + len(data) // JOINED_BYTES
        there[1].transport.resume_reading()
        assert await there[0].readexactly(len(data)) == data


async def test_nobody_there_is_refused_at_once_and_a_peer_that_ended_is_noticed(engine: NatsServer) -> None:
    async with connected(engine.url) as (one, two, here, there), within(WAIT, "refusals"):
        with pytest.raises(ConnectionRefusedError):
            await one.transport.dial(relay_endpoint("ab" * 32).rpartition(":")[0], 1, timeout=10 * WAIT)
        two.transport.engine._client._transport.close()  # type: ignore[union-attr]  # as a crash: no word to anybody
        await until(lambda: any(reason for _, reason in two.states), "the loss")
        with pytest.raises(ConnectionError):
            await there[0].readexactly(1)
        here[1].write(b"x")  # either nobody is there, or a client without this pipe
        with pytest.raises(ConnectionError):
            await here[0].readexactly(1)


async def test_the_engine_that_goes_breaks_pipes_and_comes_back(engine: NatsServer) -> None:
    async with connected(engine.url) as (one, two, here, _), within(WAIT, "the engine"):
        engine.kill()
        with pytest.raises(ConnectionError):
            await here[0].readexactly(1)
        with pytest.raises(OSError) as refused:
            await one.transport.dial(two.host, 1, timeout=WAIT)
        assert refused.value.errno == errno.ENETUNREACH
        engine.start()
        await one.up()
        await two.up()
        again = await one.transport.dial(two.host, 1, timeout=WAIT)
        accepted = await two.accepted.get()
        again[1].close()
        assert await accepted[0].read() == b""
        accepted[1].close()
        assert [reason == "" for _, reason in one.states][:: len(one.states) - 1] == [True, True]


async def test_several_servers_one_of_which_is_there(engine: NatsServer) -> None:
    async with End(f"nats://127.0.0.1:1,{engine.url}") as one:
        await one.up()
        assert one.transport.engine.server == engine.url


async def test_who_comes_back_ends_its_former_pipe_before_a_new_one_says_anything(engine: NatsServer) -> None:
    async with connected(engine.url) as (one, two, here, there), within(WAIT, "the new pipe"):
        here[1].write(b"x")
        assert await there[0].readexactly(1) == b"x"
        there[1].write(b"y")
        assert await here[0].readexactly(1) == b"y"
        two.transport.engine._client._transport.close()  # type: ignore[union-attr]  # as a broken line: no word of it
        await until(lambda: any(reason for _, reason in two.states), "the loss")
        await two.up()
        _, writer = await two.transport.dial(one.host, 1, timeout=WAIT)
        writer.write(b"hello")
        reader, accepted = await one.accepted.get()
        assert await reader.readexactly(5) == b"hello"
        assert [*one.transport._pipes] == [accepted.transport.own]  # type: ignore[attr-defined]
        assert isinstance(here[0].exception(), ConnectionError)
        writer.transport.abort()


async def test_two_processes_with_one_key_do_not_take_each_other_s_pieces(engine: NatsServer) -> None:
    async with connected(engine.url) as (one, two, here, _), End(engine.url, one.identity) as copy:
        await copy.up()
        async with within(WAIT, "both pipes"):
            also = await copy.transport.dial(two.host, 1, timeout=WAIT)
            accepted = await two.accepted.get()
            for number in range(3):
                for reader, writer in (here, also):
                    writer.write(b"%d" % number)
                    await writer.drain()
                    assert not reader.at_eof()
            again = await two.transport.dial(one.host, 1, timeout=WAIT)  # the challenge of one of them is answered
            again[1].write(b"z")
            await until(lambda: one.accepted.qsize() + copy.accepted.qsize() == 1, "one answer")
            answer = (one if one.accepted.qsize() else copy).accepted.get_nowait()
            assert await answer[0].readexactly(1) == b"z"
            assert len(two.transport._pipes) == 3
            ignored = [dict(end.transport.counted) for end in (two, one, copy)]
            assert ignored[0] == {"relay_stray": 1} and sorted(map(len, ignored[1:])) == [0, 1]
            assert {"relay_stale": 1} in ignored
        for _, writer in (also, accepted, again, answer):
            writer.transport.abort()


# ---- an engine that does harm

Harm = Callable[[list[Carried]], Callable[[Carried], list[Carried]]]


def _is_data(message: Carried) -> bool:
    return message[1][:1] == b"D"


def missing_piece(met: list[Carried]) -> Callable[[Carried], list[Carried]]:
    """Withhold the second piece."""
    return lambda message: met.append(message) or ([] if len(met) == 2 else [message])  # type: ignore[func-returns-value]


def repeated_piece(met: list[Carried]) -> Callable[[Carried], list[Carried]]:
    return lambda message: [message, message]


def swapped_pieces(met: list[Carried]) -> Callable[[Carried], list[Carried]]:
    def alter(message: Carried) -> list[Carried]:
        met.append(message)
        return {1: [], 2: [met[-1], met[0]]}.get(len(met), [message])

    return alter


def injected_piece(met: list[Carried]) -> Callable[[Carried], list[Carried]]:
    """Put a piece of its own before the real one, with the right number."""
    return lambda message: [resized(message[0], message[1][:9] + b"injected"), message]


def oversized_piece(met: list[Carried]) -> Callable[[Carried], list[Carried]]:
    """Send on its own what no window allows."""
    return lambda message: [resized(message[0], message[1][:9] + bytes(WINDOW_BYTES + 1))]


def short_piece(met: list[Carried]) -> Callable[[Carried], list[Carried]]:
    return lambda message: [resized(message[0], b"D123")]


def unknown_kind(met: list[Carried]) -> Callable[[Carried], list[Carried]]:
    return lambda message: [resized(message[0], b"?" + message[1][1:])]


@pytest.mark.parametrize(
    ("harm", "fault"),
    [
        (missing_piece, "missing"),
        (repeated_piece, "repeated"),
        (swapped_pieces, "missing"),
        (injected_piece, "repeated"),
        (oversized_piece, "window"),
        (short_piece, "malformed"),
        (unknown_kind, "malformed"),
    ],
)
async def test_harm_to_pieces_breaks_the_pipe_with_its_name(engine: NatsServer, harm: Harm, fault: str) -> None:
    async with HostileEngine(engine) as hostile, connected(hostile.url) as (_, two, here, there):
        alter = harm([])
        hostile.alter = lambda message: alter(message) if _is_data(message) else [message]
        async with within(WAIT, "the fault"):
            for _ in range(3):
                here[1].write(b"piece")
                await asyncio.sleep(0)  # a piece of its own
            with pytest.raises(ConnectionError, match=fault):
                await read_to_the_end(there[0])
            with pytest.raises(ConnectionError):  # the other end is told
                await here[0].readexactly(1)
        assert two.transport.counted[f"relay_{fault}"] == 1


async def test_what_other_clients_publish_opens_nothing_and_breaks_nothing(engine: NatsServer) -> None:
    import nats

    async with connected(engine.url) as (one, two, here, there):
        client = await nats.connect(engine.url)
        at = f"p2pchat.at.{base32(two.identity.peer_id).lower()}"
        pipe = there[1].transport.own
        for reply in ("", "$SYS.REQ", at, "p2pchat.pipe.x.y", "p2pchat.at." + "a" * 52):
            await client.publish(at, b"O2", reply=reply)  # an answer would go where its sender says
        for data in (b"", b"O", b"O9", b"D", bytes(1000)):
            await client.publish(at, data, reply=f"p2pchat.pipe.{'a' * 52}.{'0' * 16}.{'0' * 32}")
        for kind in (b"D", b"T", b"E", b"B", b"?"):
            await client.publish(pipe, kind + bytes(9), reply=f"p2pchat.pipe.{'a' * 52}.{'0' * 16}.{'0' * 32}")
            await client.publish(f"{pipe[:-1]}x", kind + bytes(9), reply=at)
        await client.flush()
        here[1].write(b"alive")
        async with within(WAIT, "a piece after all that"):
            assert await there[0].readexactly(5) == b"alive"
        counted = two.transport.counted  # of both subscriptions, each with a task of its own
        await until(lambda: counted["relay_malformed"] == 10, "the last open")
        await until(lambda: counted["relay_stray"] >= 5, "the pieces of no pipe")
        assert two.accepted.empty()
        assert len(two.transport._pipes) == 1 and len(one.transport._pipes) == 1
        await client.close()


NO_MESSAGES = {
    "reply-no-utf8": b"PUB %s p2pchat.\xff 2\r\nO2\r\n",
    "status-no-utf8": b"HPUB %s 12 12\r\nNATS/1.0 \xff\xff\xff\r\n",
    "description-no-utf8": b"HPUB %s 18 18\r\nNATS/1.0 503 \xff\r\n\r\n\r\n",
    "short-headers": b"HPUB %s 4 6\r\nNATSO2\r\n",
    "headers-without-a-line": b"HPUB %s 8 8\r\nNATS/1.0\r\n",
    "vertical-tab": b"PUB %s p2pchat.\vx 2\r\nO2\r\n",
    "form-feed": b"PUB %s p2pchat.\f5 2\r\nO2\r\n",
    "long-line": b"PUB %s " + b"r" * 3900 + b"\vx 2\r\nO2\r\nPUB p2pchat.x 9000\r\n" + bytes(9000) + b"\r\n",
}


@pytest.mark.parametrize("raw", NO_MESSAGES.values(), ids=NO_MESSAGES)
async def test_a_message_that_nats_py_cannot_read_ends_alone(engine: NatsServer, raw: bytes) -> None:
    """Before: after one of these a peer heard nothing more from its engine, or was disconnected."""
    async with connected(engine.url) as (one, two, here, there), within(WAIT, "what is published after it"):
        reader, writer = await asyncio.open_connection("127.0.0.1", engine.port)
        writer.write(b'CONNECT {"verbose":false,"headers":true}\r\n')
        for subject in (f"p2pchat.at.{base32(two.identity.peer_id).lower()}", there[1].transport.own):
            writer.write(raw % subject.encode())
        writer.write(b"PING\r\n")
        assert await reader.readline() and await reader.readline() == b"PONG\r\n"  # INFO, and no error
        here[1].write(b"alive")
        assert await there[0].readexactly(5) == b"alive"
        again = await one.transport.dial(two.host, 1, timeout=WAIT)
        assert two.states == [(engine.url, "")]
        for _, ended in (again, await two.accepted.get()):
            ended.transport.abort()
        writer.close()


@asynccontextmanager
async def false_server(
    say: Callable[[dict[str, int]], bytes], max_payload: int = 1 << 20
) -> AsyncIterator[tuple[str, list[int]]]:
    """A server that says this once a peer has subscribed, by subject; yields its URL, and how often peers came."""
    visits: list[int] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        visits.append(1)
        subscribed: dict[str, int] = {}
        pings = 0
        writer.write(b'INFO {"max_payload":%d,"headers":true}\r\n' % max_payload)
        with suppress(ConnectionResetError):
            while line := await reader.readline():
                if line == b"PING\r\n":
                    pings += 1
                    writer.write(b"PONG\r\n")
                elif line.startswith(b"SUB "):
                    subscribed[line.split()[1].decode()] = int(line.split()[-1])
                if pings == len(subscribed) == 2:
                    pings += 1
                    writer.write(say(subscribed))
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield f"nats://127.0.0.1:{server.sockets[0].getsockname()[1]}", visits


TOO_MUCH = "it sends more at once than any nats-server: is the URL right?"


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (b"INFO " + b"x" * (MAX_LINE_BYTES + 1), TOO_MUCH),
        (b"MSG x 1 %d\r\n" % (MAX_MESSAGE_BYTES + 1), TOO_MUCH),
        (b"INFO {\r\n", "the connection was lost"),  # nats-py no longer reads
    ],
    ids=["line", "message", "no JSON"],
)
async def test_an_engine_that_says_what_no_server_does_is_lost(said: bytes, reason: str) -> None:
    """Before: a message was kept whatever its size, and 6 MiB of one line took 2.4 s of CPU."""
    async with false_server(lambda _: said) as (url, visits), End(url) as end:
        await until(lambda: len(visits) >= 2, "the next connection")
        assert end.states[:2] == [(url, ""), (url, reason)]


async def test_an_end_whose_connection_has_just_ended_closes_in_good_order(engine: NatsServer) -> None:
    async with End(engine.url) as end:
        await end.up()
        client = end.transport.engine._client
        assert client is not None
        await client.close()


@pytest.mark.parametrize("max_payload", [-1, 10, MIN_PAYLOAD_BYTES - 1, MIN_PAYLOAD_BYTES])
async def test_an_engine_that_takes_only_small_messages_is_refused(max_payload: int) -> None:
    """Before: it took 10 bytes, so a peer published a message for each byte that it had for another one."""
    async with false_server(lambda _: b"", max_payload) as (url, _), End(url) as end:
        await until(lambda: bool(end.states), "the first attempt")
        too_small = f"its max_payload is too small: {MIN_PAYLOAD_BYTES} bytes are needed"
        assert end.states[0] == (url, "" if max_payload == MIN_PAYLOAD_BYTES else too_small)


async def test_large_headers_and_names_of_servers_are_passed_over() -> None:
    """Before: 1 MiB of headers, which anybody may publish, took 0.12 s, and 4 MiB of names of servers 5 s."""

    def say(subscribed: dict[str, int]) -> bytes:
        [(at, number)] = [(at, number) for at, number in subscribed.items() if ".at." in at]
        headers = b"NATS/1.0\r\n" + b"a:b\r\n" * (MAX_HEADER_BYTES // 5) + b"\r\n"
        named = json.dumps({"connect_urls": [f"{one}.example:1" for one in range(100)]}).encode()
        message = b"%d\r\n%s\r\n" % (len(headers), headers)
        return (
            b"INFO %s\r\n" % named
            + b"HMSG %s %d %d %s" % (at.encode(), number, len(headers), message)
            + b"MSG %s %d 0\r\n\r\n" % (at.encode(), number)
        )

    async with false_server(say) as (url, visits), End(url) as end:
        counted = end.transport.counted
        await until(lambda: counted["relay_malformed"], "the message behind them")
        assert counted == {"relay_malformed": 1} and len(visits) == 1
        client = end.transport.engine._client
        assert client is not None and len(client._server_pool) == 1


async def test_pieces_of_no_pipe_are_not_all_answered_where_the_engine_takes_nothing(engine: NatsServer) -> None:
    """Before: answers to 174,000 of them waited in 60 MiB."""
    async with End(engine.url) as end:
        await end.up()
        relay = end.transport
        reply = f"p2pchat.pipe.{base32(Identity.generate().peer_id).lower()}.{'0' * 16}.{'1' * 32}"
        for _ in range(MAX_ANSWERS + 5):  # in one turn of the loop
            relay._on_message(f"{relay._own_pipes}.{'2' * 32}", reply, b"D", False)
        assert relay.engine.waiting == MAX_ANSWERS
        assert relay.counted == {"relay_stray": MAX_ANSWERS + 5, "relay_unanswered": 5}


class Dials:
    """A client of the engine that hears everything there, and dials a peer under any id.

    Attributes:
        answers: What came back for each dial, the newest last.
    """

    def __init__(self, client: Any, to: TCPPeer) -> None:
        self._client = client
        self.to, self.key = _id_of(to), _key_of(to)
        self.at = f"p2pchat.at.{base32(self.to).lower()}"
        self.answers: dict[str, list[bytes]] = {}

    async def open(self, peer: str, *, key: bytes | None = None) -> str:
        """Send the first piece of a dial under this id; return the subject of the pipe."""
        reply = f"p2pchat.pipe.{base32(peer).lower()}.{'0' * 16}.{len(self.answers):032x}"
        self.answers[reply] = []
        await self.publish(open_piece(self.key if key is None else key, self.to, reply), reply)
        return reply

    async def challenge(self, reply: str) -> bytes:
        """Wait for the challenge of a dial."""
        await until(lambda: self.answers[reply], "a challenge")
        assert self.answers[reply][0][:1] == b"C"
        return self.answers[reply][0][1:]

    async def dial(self, identity: Identity, claimed: str = "") -> str:
        """Dial with this key, perhaps under the id of another one; return the subject of the pipe."""
        reply = await self.open(claimed or identity.peer_id)
        challenge = await self.challenge(reply)
        proof = dial_proof(pair_key(self.key, identity.agree(self.to)), self.to, challenge, reply)
        await self.publish(b"P" + challenge + proof, reply)
        return reply

    async def publish(self, piece: bytes, reply: str) -> None:
        await self._client.publish(self.at, piece, reply=reply)


@asynccontextmanager
async def dials(engine: NatsServer, to: TCPPeer) -> AsyncIterator[Dials]:
    import nats

    client = await nats.connect(engine.url)
    made = Dials(client, to)

    async def take(message: Any) -> None:
        if message.subject in made.answers:
            made.answers[message.subject].append(message.data)

    await client.subscribe("p2pchat.pipe.>", cb=take)
    try:
        async with within(2 * WAIT, "the dials"):
            yield made
    finally:
        await client.close()


def _relay_of(peer: TCPPeer) -> RelayTransport:
    assert peer._lifecycle.relay is not None
    return peer._lifecycle.relay


def _key_of(peer: TCPPeer) -> bytes:
    network = peer._lifecycle.require_resources().network
    return bytes.fromhex(network.key)


def test_the_pieces_of_a_dial_are_these() -> None:
    """The known answer of docs/relay.md."""
    ada, bob = Identity.from_seed(bytes(range(32))), Identity.from_seed(bytes(range(1, 33)))
    reply = f"p2pchat.pipe.{base32(bob.peer_id).lower()}.{'0' * 16}.{'1' * 32}"
    pair = pair_key(KEY, bob.agree(ada.peer_id))
    assert pair == pair_key(KEY, ada.agree(bob.peer_id))
    proof = dial_proof(pair, ada.peer_id, bytes(16), reply)
    shown = (Path(__file__).parents[3] / "docs" / "relay.md").read_text(encoding="utf-8")
    for value in (open_piece(KEY, ada.peer_id, reply)[2:], pair, proof):
        assert value.hex() in shown


async def test_many_ids_that_nobody_knows_share_few_places(engine: NatsServer, tmp_path: Path) -> None:
    async with TCPPeer(name="ada", data=tmp_path / "ada", engine=engine.url, listen=False) as ada:
        relay, most = _relay_of(ada), RELAYED_PLACES[False]
        async with dials(engine, ada) as made:
            begun = time.monotonic()
            replies = [await made.dial(Identity.generate()) for _ in range(most + 30)]

            def handled() -> int:
                gave_way = sum(pieces[-1:] == [b"B"] for pieces in made.answers.values())
                return len(relay._pipes) + relay.counted["relay_refused"] + gave_way

            await until(lambda: handled() >= most + 30, "all dials")
            if time.monotonic() - begun < SILENT_AFTER:  # then none of them gave way
                assert {pipe.far for pipe in relay._pipes.values()} == {*replies[:most]}
            assert len(relay._pipes) == most
            assert all(made.answers[reply][-1] != b"B" for reply in replies[-30:])  # they may ask again


async def test_one_id_takes_one_place(engine: NatsServer, tmp_path: Path) -> None:
    async with TCPPeer(name="ada", data=tmp_path / "ada", engine=engine.url, listen=False) as ada:
        relay, eve = _relay_of(ada), Identity.generate()
        async with dials(engine, ada) as made:
            first, second = await made.dial(eve), await made.dial(eve)
            await until(lambda: b"B" in made.answers[first] and b"O2" in made.answers[second], "the second dial")
            assert [pipe.far for pipe in relay._pipes.values()] == [second]


@pytest.mark.parametrize("forged", ["none", "another network's", "another pipe's", "another peer's"])
async def test_who_lacks_the_network_s_key_takes_no_place(engine: NatsServer, tmp_path: Path, forged: str) -> None:
    """Any client of the engine held the places of all who dial through it."""
    async with TCPPeer(name="ada", data=tmp_path / "ada", engine=engine.url, listen=False) as ada:
        key = _key_of(ada)
        found = await _answers(
            engine,
            ada,
            lambda reply: {
                "none": b"O2",
                "another network's": open_piece(KEY, _id_of(ada), reply),
                "another pipe's": open_piece(key, _id_of(ada), reply[:-1] + "f"),
                "another peer's": open_piece(key, "ab" * 32, reply),
            }[forged],
        )
        assert found.count(b"B") == 100
        relay = _relay_of(ada)
        assert not relay._pipes and not relay._pair_keys
        assert relay.counted["relay_unproven"] == 100


async def test_who_lacks_the_key_of_an_id_takes_no_place_of_it(engine: NatsServer, tmp_path: Path) -> None:
    async with TCPPeer(name="ada", data=tmp_path / "ada", engine=engine.url, listen=False) as ada:
        relay, bob = _relay_of(ada), Identity.generate()
        relay.is_known = lambda peer: peer == bob.peer_id
        async with dials(engine, ada) as made:
            tries = [await made.dial(Identity.generate(), claimed=bob.peer_id) for _ in range(20)]
            await until(lambda: all(made.answers[reply][-1] == b"B" for reply in tries), "the refusals")
            assert relay.counted["relay_unproven"] == 20 and not relay._pipes
            reply = await made.dial(bob)
            await until(lambda: b"O2" in made.answers[reply], "the contact")
            no_key = "01" + 31 * "00"  # anybody agrees with it
            reply = await made.open(no_key)
            await made.publish(b"P" + await made.challenge(reply) + bytes(32), reply)
            await until(lambda: relay.counted["relay_unchecked"] == 1, "the id that is no key")
            assert len(relay._pipes) == 1


async def test_claims_to_be_others_use_up_the_checks_of_unknown_ids_alone(engine: NatsServer, tmp_path: Path) -> None:
    async with TCPPeer(name="ada", data=tmp_path / "ada", engine=engine.url, listen=False) as ada:
        relay, bob, eve = _relay_of(ada), Identity.generate(), Identity.generate()
        relay.is_known = lambda peer: peer == bob.peer_id
        relay._checks = TokenBucket(1e-9, 3, asyncio.get_running_loop().time())
        async with dials(engine, ada) as made:
            for _ in range(5):
                await made.dial(eve, claimed=bob.peer_id)
                await made.dial(eve, claimed=Identity.generate().peer_id)
            await until(lambda: relay.counted["relay_unproven"] == 8, "the checked ones")
            await until(lambda: relay.counted["relay_unchecked"] == 2, "the others")
            reply = await made.dial(bob)
            await until(lambda: b"O2" in made.answers[reply], "the contact")


async def test_a_recorded_dial_opens_nothing_again_nor_later_nor_elsewhere(
    engine: NatsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with (
        TCPPeer(name="ada", data=tmp_path / "ada", engine=engine.url, listen=False) as ada,
        TCPPeer(name="cyd", data=tmp_path / "cyd", engine=engine.url, listen=False) as cyd,
        dials(engine, ada) as made,
    ):
        bob, relay, other = Identity.generate(), _relay_of(ada), _relay_of(cyd)
        reply = await made.open(bob.peer_id)
        challenge = await made.challenge(reply)
        piece = b"P" + challenge + dial_proof(pair_key(made.key, bob.agree(made.to)), made.to, challenge, reply)
        for _ in range(3):
            await made.publish(piece, reply)
        await until(lambda: relay.counted["relay_stray"] == 2, "the repetitions")
        assert len(relay._pipes) == 1
        made.at = f"p2pchat.at.{base32(_id_of(cyd)).lower()}"
        await made.publish(piece, reply)
        await until(lambda: other.counted["relay_stale"] == 1, "the other peer's answer")
        made.at = f"p2pchat.at.{base32(made.to).lower()}"
        late = await made.open(bob.peer_id)
        challenge = await made.challenge(late)
        monkeypatch.setattr("p2pchat.runtime.relay.CHALLENGE_SECONDS", 0.01)
        period = relay._period()
        await until(lambda: relay._period() > period + 1, "two periods")
        await made.publish(
            b"P" + challenge + dial_proof(pair_key(made.key, bob.agree(made.to)), made.to, challenge, late), late
        )
        await until(lambda: relay.counted["relay_stale"] == 1, "the late one")
        assert len(relay._pipes) == 1 and not other._pipes


async def test_an_open_of_an_earlier_version_is_refused_at_once(engine: NatsServer, tmp_path: Path) -> None:
    async with TCPPeer(name="ada", data=tmp_path / "ada", engine=engine.url, listen=False) as ada:
        assert await _answers(engine, ada, lambda reply: b"O1" + bytes(32)) == [b"B"] * 100
        assert not _relay_of(ada)._pipes


async def test_a_dial_that_finds_no_place_asks_again(engine: NatsServer, tmp_path: Path) -> None:
    async with (
        TCPPeer(name="ada", data=tmp_path / "ada", engine=engine.url, listen=False) as ada,
        End(engine.url) as bob,
    ):
        await bob.up()
        now = asyncio.get_running_loop().time()
        checks = _relay_of(ada)._checks = TokenBucket(1.0, 1.0, now)
        assert checks.take(now)
        bob.transport._network_key = _key_of(ada)
        _, writer = await bob.transport.dial(ada.endpoint.rpartition(":")[0], 1, timeout=WAIT)
        writer.transport.abort()
        assert _relay_of(ada).counted["relay_unchecked"] >= 1


async def test_a_contact_that_dials_all_the_time_has_a_few_dials_handled(engine: NatsServer, tmp_path: Path) -> None:
    """For each of them a connection was made, and its former pipes were asked whether they are alive."""

    def most(begun: float) -> float:
        return RELAYED_A_SECOND * (1 + time.monotonic() - begun)

    async with TCPPeer(name="ada", data=tmp_path / "ada", engine=engine.url, listen=False) as ada:
        relay, bob = _relay_of(ada), Identity.generate()
        relay.is_known = lambda peer: True
        async with dials(engine, ada) as made:
            begun = time.monotonic()
            for _ in range(100):
                await made.dial(bob)
            await until(lambda: relay.counted["relay_refused"] >= 100 - most(begun), "all dials")
            assert ada._driver.connections.strangers.refused <= most(begun)


async def test_answers_wait_for_a_slow_engine_in_bounded_number(engine: NatsServer, tmp_path: Path) -> None:
    async with TCPPeer(name="ada", data=tmp_path / "ada", engine=engine.url, listen=False) as ada:
        relay, ids = _relay_of(ada), [Identity.generate().peer_id for _ in range(3)]
        for number in range(1000):  # without a turn of the loop, in which the engine would take some
            for id, key in zip(ids, (_key_of(ada), KEY, b""), strict=True):
                reply = f"p2pchat.pipe.{base32(id).lower()}.{'0' * 16}.{number:032x}"
                relay._on_message(relay._at, reply, open_piece(key, _id_of(ada), reply) if key else b"O1", False)
        assert relay.engine.waiting == MAX_ANSWERS
        assert relay.counted["relay_unanswered"] == 3000 - MAX_ANSWERS
        await until(lambda: not relay.engine.waiting, "the engine to take them")


async def test_dials_that_come_faster_than_they_are_handled_do_not_wait_in_line(
    engine: NatsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Before: behind a flood a contact's proof was handled when its challenge was too old."""
    monkeypatch.setattr("p2pchat.runtime.relay.MAX_UNREAD_DIALS", 10)
    caplog.set_level("INFO", "p2pchat.engine")
    async with TCPPeer(name="ada", data=tmp_path / "ada", engine=engine.url, listen=False) as ada:
        async with dials(engine, ada) as made:
            for _ in range(1000):
                await made.open(Identity.generate().peer_id, key=KEY)
            reply = ""
            while not made.answers.get(reply):  # it may be dropped, too
                reply = await made.open(Identity.generate().peer_id)
                await asyncio.sleep(0.1)  # poll: as a dialler does
            assert made.answers[reply][0][:1] == b"C"
            assert 10 <= _relay_of(ada).counted["relay_unproven"] < 1000
            assert ada.counted["relay_dropped"] > 0 and "slow consumer" not in caplog.text
            assert ada.engine == engine.url


async def test_a_dialler_answers_one_challenge_for_each_open(engine: NatsServer) -> None:
    """Whoever hears its subject could have it compute without end."""
    import nats

    client = await nats.connect(engine.url)
    target, opens, proofs = Identity.generate(), asyncio.Queue[Any](), list[bytes]()

    async def take(message: Any) -> None:
        if message.data[:1] == b"O":
            opens.put_nowait(message)
        else:
            proofs.append(message.data)

    await client.subscribe(f"p2pchat.at.{base32(target.peer_id).lower()}", cb=take)
    await client.flush()
    async with End(engine.url) as bob, within(WAIT, "the dial"):
        await bob.up()
        dialling = asyncio.create_task(
            bob.transport.dial(relay_endpoint(target.peer_id).rpartition(":")[0], 1, timeout=WAIT)
        )
        reply = (await opens.get()).reply
        for number in range(100):
            await client.publish(reply, b"C" + number.to_bytes(16, "big"))
        await until(lambda: bob.transport.counted["relay_stray"] == 99, "the challenges")
        again = await opens.get()
        assert again.reply == reply
        assert len(proofs) == 1
        dialling.cancel()
        await asyncio.wait([dialling])
    await client.close()


def _id_of(peer: TCPPeer) -> str:
    return relay_peer(peer.endpoint.rpartition(":")[0])


async def _answers(engine: NatsServer, to: TCPPeer, piece: Callable[[str], bytes]) -> list[bytes]:
    """Dial a peer a hundred times at once with such pieces; return what it answered."""
    import nats

    answers: asyncio.Queue[bytes] = asyncio.Queue()

    async def take(message: Any) -> None:
        answers.put_nowait(message.data)

    client = await nats.connect(engine.url)
    own = f"p2pchat.pipe.{'a' * 52}.{'0' * 16}"
    await client.subscribe(f"{own}.*", cb=take)
    at = f"p2pchat.at.{base32(_id_of(to)).lower()}"
    for number in range(100):
        reply = f"{own}.{number:031x}0"
        await client.publish(at, piece(reply), reply=reply)
    try:
        async with within(WAIT, "an answer to each"):
            return [await answers.get() for _ in range(100)]
    finally:
        await client.close()


# ---- credentials


async def test_the_identity_signs_nothing_that_an_engine_chose() -> None:
    """The nonce is a log's head, as the identity signs them: the answer is a signature of another key."""
    nonce = "p2pchat/head/1\0" + "x" * 48
    connect: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        info = {"server_id": "x", "version": "2.11.0", "max_payload": 1 << 20, "headers": True, "nonce": nonce}
        writer.write(b"INFO " + json.dumps(info).encode() + b"\r\n")
        line = await reader.readline()
        connect.set_result(json.loads(line.removeprefix(b"CONNECT ")))
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        async with End(f"127.0.0.1:{server.sockets[0].getsockname()[1]}") as one, within(WAIT, "the answer"):
            answer = await connect
    signature = base64.b64decode(answer["sig"] + "==")
    derived = base64.b32decode(answer["nkey"] + "=" * (-len(answer["nkey"]) % 8))[1:33]
    Ed25519PublicKey.from_public_bytes(derived).verify(signature, nonce.encode())
    with pytest.raises(InvalidSignature):
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(one.identity.peer_id)).verify(signature, nonce.encode())
    assert answer["nkey"] == own_nkey(one.identity.derive(NKEY_PURPOSE)) and derived.hex() != one.identity.peer_id


class NKey:
    """An operator's, an account's or a user's key (O, A, U), and the tokens it signs, as NATS writes them."""

    def __init__(self, kind: str) -> None:
        prefix = {"O": 14, "A": 0, "U": 20}[kind] << 3
        self._key = Ed25519PrivateKey.generate()
        secret, public = self._key.private_bytes_raw(), self._key.public_key().public_bytes_raw()
        self.seed = _checked_base32(bytes([(18 << 3) | prefix >> 5, (prefix & 31) << 3]) + secret)
        self.public = _checked_base32(bytes([prefix]) + public)
        assert self.public[0] == kind

    def token(self, subject: NKey, claims: dict[str, Any]) -> str:
        def part(data: bytes) -> str:
            return base64.urlsafe_b64encode(data).decode().rstrip("=")

        said = {"jti": "x", "iat": 1, "iss": self.public, "sub": subject.public, "name": "test", "nats": claims}
        head = {"typ": "JWT", "alg": "ed25519-nkey"}
        text = f"{part(json.dumps(head).encode())}.{part(json.dumps(said).encode())}"
        return f"{text}.{part(self._key.sign(text.encode()))}"


def own_authority(directory: Path, address: str) -> None:
    """Write an authority's certificate (ca.pem), and what a server at this address needs (cert.pem, key.pem)."""
    authority, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    now = datetime.now(UTC)

    def certificate(name: str, public: ec.EllipticCurvePublicKey, *, ca: bool) -> bytes:
        builder = x509.CertificateBuilder(
            issuer_name=x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "authority")]),
            subject_name=x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]),
            public_key=public,
            serial_number=x509.random_serial_number(),
            not_valid_before=now - timedelta(days=1),
            not_valid_after=now + timedelta(days=1),
        )
        builder = builder.add_extension(x509.BasicConstraints(ca, None), critical=True)
        if not ca:
            names = x509.SubjectAlternativeName([x509.IPAddress(ip_address(address))])
            builder = builder.add_extension(names, critical=False)
        return builder.sign(authority, hashes.SHA256()).public_bytes(Encoding.PEM)

    (directory / "ca.pem").write_bytes(certificate("authority", authority.public_key(), ca=True))
    (directory / "cert.pem").write_bytes(certificate("engine", key.public_key(), ca=False))
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (directory / "key.pem").write_bytes(pem)


@pytest.fixture
def configured(tmp_path: Path) -> Iterator[Callable[[str], NatsServer]]:
    """Return a function that starts a nats-server with this configuration."""
    if why := missing():
        pytest.skip(why)
    servers = []

    def start(configuration: str) -> NatsServer:
        (tmp_path / "nats.conf").write_text(configuration)
        servers.append(NatsServer("-c", str(tmp_path / "nats.conf")))
        return servers[-1]

    yield start
    for server in servers:
        server.kill()


async def refusal(url: str, credentials: Path | None = None) -> str:
    """Return why an engine does not take a client."""
    async with End(url, credentials=credentials) as one:
        await until(lambda: bool(one.states), "the refusal")
        assert not one.transport.engine.server
        return one.states[0][1]


async def test_an_engine_that_admits_listed_keys_only(configured: Callable[[str], NatsServer], tmp_path: Path) -> None:
    admitted, other = Identity.generate(), Identity.generate()
    server = configured(f"authorization {{ users = [ {{ nkey: {own_nkey(admitted.derive(NKEY_PURPOSE))} }} ] }}")
    seed = tmp_path / "seed"
    seed.write_text(nkey_seed(admitted.derive(NKEY_PURPOSE)) + "\n")
    async with End(server.url, admitted) as one, End(server.url, other) as two:
        await one.up()
        await until(lambda: bool(two.states), "the refusal")
        assert two.states[0][1].startswith("it does not admit this peer")
        assert own_nkey(other.derive(NKEY_PURPOSE)) in two.states[0][1]
    async with End(server.url, other, credentials=seed) as three:
        await three.up()


async def test_a_password_in_the_url_signs_in_and_is_not_shown(configured: Callable[[str], NatsServer]) -> None:
    server = configured("authorization { user: chat, password: s3cret }")
    url = f"nats://chat:s3cret@127.0.0.1:{server.port}"
    async with End(url) as one:
        await one.up()
        assert one.transport.engine.server == f"nats://127.0.0.1:{server.port}"
        assert "s3cret" not in repr(one.transport.engine._options) + str(one.states)
    assert "does not admit" in await refusal(url.replace("s3cret", "wrong"))
    assert "does not admit" in await refusal(server.url)


async def test_a_creds_file_of_the_operator_signs_in(configured: Callable[[str], NatsServer], tmp_path: Path) -> None:
    """The files of `nsc`: an operator's token names an account, the account's one a user, all signed with nkeys."""
    operator, account, user = (NKey(kind) for kind in "OAU")
    token = operator.token(operator, {"type": "operator", "version": 2})
    unlimited = dict.fromkeys(("subs", "data", "payload", "imports", "exports", "conn", "leaf"), -1)
    limits = {**unlimited, "wildcards": True}
    trusted = operator.token(account, {"type": "account", "version": 2, "limits": limits})
    server = configured(f"operator: {token}\nresolver: MEMORY\nresolver_preload: {{ {account.public}: {trusted} }}\n")
    creds = tmp_path / "chat.creds"
    creds.write_text(
        f"-----BEGIN NATS USER JWT-----\n{account.token(user, {'type': 'user', 'version': 2, **unlimited})}\n"
        "------END NATS USER JWT------\n\n"
        f"-----BEGIN USER NKEY SEED-----\n{user.seed}\n------END USER NKEY SEED------\n"
    )
    async with End(server.url, credentials=creds) as one:
        await one.up()
    assert "does not admit" in await refusal(server.url)
    assert "chat.creds" in await refusal(server.url, tmp_path / "no" / "chat.creds")


async def test_a_tls_server_is_checked_against_the_authorities(
    configured: Callable[[str], NatsServer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own_authority(tmp_path, "127.0.0.1")
    server = configured(f"tls {{ cert_file: {tmp_path / 'cert.pem'}, key_file: {tmp_path / 'key.pem'} }}")
    url = server.url.replace("nats:", "tls:")
    assert "certificate" in await refusal(url)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    async with End(url) as one, End(url) as two:
        await one.up()
        await two.up()
        async with within(WAIT, "a pipe"):
            ends = await one.transport.dial(two.host, 1, timeout=WAIT), await two.accepted.get()
        for _, writer in ends:
            writer.transport.abort()


async def test_a_tls_url_signs_in_at_no_server_without_tls(engine: NatsServer) -> None:
    async with HostileEngine(engine) as between:
        assert "offers no TLS" in await refusal(between.url.replace("nats://", "tls://chat:s3cret@"))
        assert not any(b"s3cret" in seen for seen in between.seen)


def test_nkeys_are_those_of_the_nkeys_package() -> None:
    nkeys = pytest.importorskip("nkeys")
    secret = bytes(range(32))
    pair = nkeys.from_seed(bytearray(nkey_seed(secret).encode()))
    assert pair.public_key.decode() == own_nkey(secret)


@pytest.mark.parametrize("url", ["", "http://x", "nats://", "nats://x:y", "nats://x:70000", "nats://x/path", " , "])
def test_what_is_no_engine_is_refused(url: str) -> None:
    with pytest.raises(ValueError):
        parse_servers(url)


def test_engines_are_written_in_one_way() -> None:
    assert parse_servers("chat.example") == ("nats://chat.example:4222",)
    assert parse_servers("tls://a:1, nats://u:p@[::1]") == ("tls://a:1", "nats://u:p@[::1]:4222")
    assert parse_servers(["a", "b:7"]) == ("nats://a:4222", "nats://b:7")
    with pytest.raises(ValueError, match="credentials"):
        TCPPeer(engine_credentials="x")


def test_a_relayed_endpoint_names_its_peer() -> None:
    peer = Identity.generate().peer_id
    host = relay_endpoint(peer).rpartition(":")[0]
    assert relay_peer(host) == relay_peer(host.upper()) == peer
    assert is_relayed(f"{host}:1")
    for other in ("relay", "x.relay", f"{host}.example", host[1:], f"x{host}", host[:-7] + "9.relay", "127.0.0.1"):
        assert relay_peer(other) == ""


async def test_without_an_engine_a_relayed_endpoint_says_what_is_missing() -> None:
    with pytest.raises(P2PChatError, match="--engine"):
        await TCPTransport().dial(relay_endpoint("ab" * 32).rpartition(":")[0], 1, timeout=WAIT)


# ---- whole peers


async def test_peers_that_listen_on_no_socket_chat(engine: NatsServer, tmp_path: Path) -> None:
    """Direct messages, a group, receipts, presence, and catch-up of one who was away."""
    async with AsyncExitStack() as stack:

        async def start(name: str, *endpoints: str) -> TCPPeer:
            peer = TCPPeer(0, *endpoints, name=name, data=tmp_path / name, engine=engine.url, listen=False)
            return await stack.enter_async_context(peer)

        ada = await start("ada")
        own = relay_endpoint(load_identity(tmp_path / "ada/identity.pem").peer_id)
        assert (ada.endpoint, ada.engine) == (own, engine.url)
        bob, cyd = await start("bob", ada.endpoint), await start("cyd", ada.endpoint)
        await until(lambda: all(len(peer.links()) == 2 for peer in (ada, bob, cyd)), "all links")
        assert ada.endpoint in await ada.make_invite()
        async with within(WAIT, "deliveries"):
            receipt = await ada.send("bob", "psst")
            await receipt.delivered()
            group = await bob.create_group("ops", ["ada", "cyd"])
            await (await bob.send(group, "to the group")).delivered()
            assert [message.text for message in await cyd.history(group)] == ["to the group"]
            await cyd.aclose()
            await until(lambda: "cyd" not in [user.name for user in ada.here()], "cyd's departure")
            await ada.broadcast("said while cyd is away")
            cyd = await start("cyd")  # the address book has the relayed endpoints
            while [message.text for message in await cyd.history(cyd.room)] != ["said while cyd is away"]:
                await asyncio.sleep(0.01)  # poll: the history is read, and its storage answers
            await (await cyd.send("ada", "back")).delivered()


def engine_up(peer: TCPPeer) -> list[float]:
    """Return the values of the engine's metric."""
    families = [one for one in peer_metrics(peer, HealthCheck(peer)) if one.name == "p2pchat_engine_up"]
    return [sample.value for family in families for sample in family.samples]


async def shown_by_who(peer: TCPPeer, directory: Path) -> str:
    """Return the last line of /who."""
    shown = Shown(directory / "out")
    await open_session(peer, shown, as_json=False).execute([b"/who"])
    shown.raw.close()
    return shown.text.splitlines()[-1]


async def test_the_engine_is_away_at_the_start_and_said_to_be(tmp_path: Path, engine: NatsServer) -> None:
    engine.kill()
    async with TCPPeer(name="ada", data=tmp_path / "ada", engine=engine.url) as ada:
        assert ada.engine == ""
        await ada.broadcast("accepted all the same")
        assert (await shown_by_who(ada, tmp_path), engine_up(ada)) == ("-- engine: away, links through it wait", [0.0])
        engine.start()
        await until(lambda: ada.engine == engine.url, "the engine")
        assert (await shown_by_who(ada, tmp_path), engine_up(ada)) == (f"-- engine: {engine.url}", [1.0])
    async with TCPPeer(name="ada", db="memory://") as ada:
        assert not (await shown_by_who(ada, tmp_path)).startswith("-- engine") and engine_up(ada) == []


async def test_a_relayed_endpoint_is_dialled_when_the_engine_has_answered(engine: NatsServer, tmp_path: Path) -> None:
    settings = Settings(start_timeout=0.0)  # as the chat has it
    async with TCPPeer(name="ada", data=tmp_path / "ada", engine=engine.url, listen=False) as ada:
        endpoint = ada.endpoint
        bob = TCPPeer(
            0, endpoint, name="bob", data=tmp_path / "bob", engine=engine.url, listen=False, settings=settings
        )
        links = bob.events(Link)
        async with bob, within(WAIT, "the link"):
            seen = [await anext(links) for _ in range(2)]
        assert [(link.endpoint, link.state) for link in seen] == [(engine.url, "up"), (endpoint, "up")]
    engine.kill()
    again = TCPPeer(0, endpoint, name="bob", data=tmp_path / "bob", engine=engine.url, listen=False, settings=settings)
    links = again.events(Link)
    async with again, within(WAIT, "the failure"):
        seen = [await anext(links) for _ in range(2)]
    assert [(link.endpoint, link.state, link.code) for link in seen] == [
        (engine.url, "trying", "engine"),
        (endpoint, "trying", "engine"),
    ]


async def test_a_direct_link_takes_the_place_of_a_relayed_one(engine: NatsServer, tmp_path: Path) -> None:
    async with TCPPeer(name="ada", data=tmp_path / "ada", engine=engine.url) as ada:
        relayed = next(iter(ada._lifecycle.relay_endpoints))
        async with TCPPeer(0, relayed, name="bob", data=tmp_path / "bob", engine=engine.url, listen=False) as bob:

            def host_at(peer: TCPPeer) -> list[str]:
                node = peer._lifecycle.running_node
                return [] if node is None else [link.host for link in node.links.by_peer.values()]

            await until(lambda: host_at(bob) == host_at(ada) == ["relay"], "a relayed link")
            await bob.connect(f"127.0.0.1:{ada.port}")
            await until(lambda: host_at(bob) == host_at(ada) == ["127.0.0.1"], "a direct link")
            async with within(WAIT, "a delivery"):
                await (await bob.send("ada", "directly")).delivered()
            assert "link_copy" not in ada.counted


@pytest.mark.skipif(not own_endpoints("0.0.0.0", 1), reason="this machine has no address but loopback")
async def test_peers_that_listen_on_all_addresses_find_a_direct_way(engine: NatsServer, tmp_path: Path) -> None:
    """Over an engine nobody sees where the other dials from, so each tells the addresses of its machine."""
    async with TCPPeer(name="ada", data=tmp_path / "ada", engine=engine.url, host="0.0.0.0") as ada:
        relayed = next(iter(ada._lifecycle.relay_endpoints))
        async with TCPPeer(0, relayed, name="bob", data=tmp_path / "bob", engine=engine.url, host="0.0.0.0") as bob:

            def hosts(peer: TCPPeer) -> list[str]:
                node = peer._lifecycle.running_node
                return [] if node is None else [link.host for link in node.links.by_peer.values()]

            await until(lambda: bool(hosts(ada)) and "relay" not in (*hosts(ada), *hosts(bob)), "a direct link")


async def test_the_recorder_on_the_engine_finds_nothing(engine: NatsServer, tmp_path: Path) -> None:
    async with HostileEngine(engine) as recorder:
        async with TCPPeer(name="adalbert", data=tmp_path / "ada", engine=recorder.url, listen=False) as ada:
            end = ada.endpoint
            async with TCPPeer(
                0, end, name="bobbiline", data=tmp_path / "bob", engine=recorder.url, listen=False
            ) as bob:
                await until(lambda: bool(ada.links()), "the link")
                words = [f"word{number:04}secret" for number in range(1000)]
                async with within(WAIT, "deliveries"):
                    receipts = await bob.send_many("adalbert", [f"{word} and more" for word in words])
                    await receipts[-1].delivered()
                network = ada._lifecycle.require_resources().network
    everything = b"\n".join(recorder.seen) + b"\n".join(recorder.heads)
    assert len(everything) > 100_000
    for secret in (*words, "adalbert", "bobbiline", network.id, network.key):
        assert secret.encode() not in everything
        if re.fullmatch("[0-9a-f]+", secret):
            assert bytes.fromhex(secret) not in everything

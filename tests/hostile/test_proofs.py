"""False claims of identity and membership, over real TLS: each link ends with its code and reveals nothing.

tests/long/processes/test_strangers.py tests a forwarded and a replayed hello and floods of half-open connections on
real processes; tests/test_client.py tests TLS 1.2.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from secrets import token_bytes, token_hex

import msgspec
import pytest

from p2pchat import Link, TCPPeer
from p2pchat.core.members.admission import prove_invite
from p2pchat.core.members.statement import make_guest, make_statement
from p2pchat.core.mesh.handshake import ClientSide, ServerSide, proof, transcript
from p2pchat.core.node_context import Invitation
from p2pchat.core.node_context import NetworkCredentials as CoreNetwork
from p2pchat.identity.invite_text import encode_invite, make_invitation
from p2pchat.identity.network import Network, load_network
from p2pchat.identity.tls_pipe import server_context
from p2pchat.protocol import (
    PROTOCOL_VERSION,
    AnyFrame,
    Bye,
    Decoder,
    Digest,
    Go,
    Hello,
    Membership,
    Peers,
    Ping,
    Show,
    Welcome,
    encode,
)
from tests.hostile.attacker import Attacker, invented_identity
from tests.hostile.conftest import QUICK, Honest, Meet

EVE = invented_identity("eve")
Change = Callable[[Attacker, Hello, Hello], Hello]


def signed_under_another_tag(eve: Attacker, offer: Hello, hello: Hello) -> Hello:
    t = transcript(PROTOCOL_VERSION, eve.server, eve.id, offer.nonce, hello.nonce)
    return msgspec.structs.replace(hello, sig=eve.identity.sign(b"p2pchat/head/1\0" + t).hex())


def made_for_another_server(eve: Attacker, offer: Hello, hello: Hello) -> Hello:
    t = transcript(PROTOCOL_VERSION, invented_identity("bob").peer_id, eve.id, offer.nonce, hello.nonce)
    return msgspec.structs.replace(hello, sig=eve.identity.sign(t).hex())


def made_for_another_nonce(eve: Attacker, offer: Hello, hello: Hello) -> Hello:
    t = transcript(PROTOCOL_VERSION, eve.server, eve.id, token_hex(32), hello.nonce)
    return msgspec.structs.replace(hello, sig=eve.identity.sign(t).hex())


def the_servers_proof(eve: Attacker, offer: Hello, hello: Hello) -> Hello:
    """Make a proof with the right key and the tag of the other side, as in a reflection attack."""
    assert eve.network.key is not None
    t = transcript(PROTOCOL_VERSION, eve.server, eve.id, offer.nonce, hello.nonce)
    return msgspec.structs.replace(hello, proof=proof(eve.network.key, "server", t))


FALSE: dict[str, tuple[str, Change]] = {
    "another's id": (
        "identity",
        lambda eve, offer, hello: msgspec.structs.replace(hello, id=invented_identity("dan").peer_id),
    ),
    "the server's own id": ("self", lambda eve, offer, hello: msgspec.structs.replace(hello, id=eve.server)),
    "no signature of ours": ("identity", lambda eve, offer, hello: msgspec.structs.replace(hello, sig="00" * 64)),
    "a signature under another tag": ("identity", signed_under_another_tag),
    "a hello for another server": ("identity", made_for_another_server),
    "a hello for another nonce": ("identity", made_for_another_nonce),
    "no proof": ("network", lambda eve, offer, hello: msgspec.structs.replace(hello, proof=None)),
    "a wrong proof": ("network", lambda eve, offer, hello: msgspec.structs.replace(hello, proof="0c" * 32)),
    "the server's proof": ("network", the_servers_proof),
    "another version": ("version", lambda eve, offer, hello: msgspec.structs.replace(hello, v=2)),
}


async def claim(honest: Honest, change: Change) -> Attacker:
    """Send a changed hello; return the attacker when the connection has ended."""
    eve = Attacker("eve", honest.network)
    honest.attackers.append(eve)
    server = await eve.connect(honest.ada.port)
    side = ClientSide(
        eve.id, eve.identity.sign, CoreNetwork(eve.network.id, eve.network.key), server=server, pin="",
        nonce=token_bytes(32),
    )  # fmt: skip
    offer = await eve.next(Hello)
    hello = side.on_frame(offer)
    assert hello is not None
    eve.say(change(eve, offer, hello))
    return eve


async def test_a_false_hello_ends_with_its_code_and_learns_nothing(meet: Meet) -> None:
    honest = await meet()
    before = len(honest.ada.users())
    for what, (code, change) in FALSE.items():
        eve = await claim(honest, change)
        assert await honest.while_chatting(eve.wait_closed()) == code, what
        assert [type(frame) for frame in eve.frames] == [Hello, Bye], what
        assert honest.network.id not in repr(eve.frames)
    assert len(honest.ada.users()) == before
    assert {honest.ada.directory.user(EVE.peer_id).name} == {""}


def made_itself_a_member(eve: Attacker) -> Membership:
    """Show an addition that nobody but the newcomer signed."""
    said = make_statement(eve.network.id, eve.id, eve.identity.sign, "add", 1, {"who": [eve.id]})
    return Membership(eve.network.founder, s=((said.text, said.signature.hex()),))


def in_the_founders_name(eve: Attacker) -> Membership:
    said = make_statement(eve.network.id, eve.network.founder, eve.identity.sign, "add", 1, {"who": [eve.id]})
    return Membership(eve.network.founder, s=((said.text, said.signature.hex()),))


def of_another_user(eve: Attacker) -> Membership:
    return Membership(eve.network.founder, eve.network.guest(invented_identity("dan").peer_id))


def of_a_network_of_its_own(eve: Attacker) -> Membership:
    own = Network.found(b"e" * 32)
    return Membership(own.founder, own.guest(eve.id))


def signed_by_itself(eve: Attacker) -> Membership:
    certificate = make_guest(eve.network.id, eve.network.founder, eve.identity.sign, eve.id)
    return Membership(eve.network.founder, certificate)


def an_invite_of_its_own(eve: Attacker) -> Membership:
    made = Invitation(eve.server, "00" * 4, 64, 1 << 39, b"e" * 16)
    t = eve.transcript
    return Membership(eve.network.founder, make_guest(eve.network.id, eve.id, eve.identity.sign, eve.id),
                      invite=prove_invite(made, t, eve.id))  # fmt: skip


OUTSIDERS: dict[Callable[[Attacker], Membership], str] = {
    lambda eve: Membership(): "member",
    made_itself_a_member: "member",
    in_the_founders_name: "member",
    of_another_user: "member",
    of_a_network_of_its_own: "member",
    signed_by_itself: "member",
    an_invite_of_its_own: "invite",
}


async def test_who_knows_the_key_and_is_no_member_is_not_admitted(meet: Meet) -> None:
    """Whoever was expelled knows the key of the network for ever."""
    honest = await meet()
    for shown, code in OUTSIDERS.items():
        eve = Attacker("eve", honest.network)
        honest.attackers.append(eve)
        await eve.introduce_itself(honest.ada.port)
        eve.say(Show(shown(eve)))
        assert await honest.while_chatting(eve.wait_closed()) == code, shown.__name__
        assert [type(frame) for frame in eve.frames] == [Hello, Welcome, Bye], shown.__name__
    assert {honest.ada.directory.user(EVE.peer_id).name} == {""}


async def test_nothing_goes_on_a_link_before_it_is_admitted(meet: Meet) -> None:
    honest = await meet()
    for frame in (Go("ab" * 8, 1), Peers(), Ping(), Digest(sum="0" * 64)):
        eve = Attacker("eve", honest.network)
        honest.attackers.append(eve)
        await eve.introduce_itself(honest.ada.port)
        eve.say(frame)
        assert await eve.wait_closed() == "order", frame
        assert [type(frame) for frame in eve.frames] == [Hello, Welcome, Bye], frame


# Attacks by the listening side


@asynccontextmanager
async def listening(
    answer: Callable[[asyncio.StreamWriter, list[AnyFrame]], None],
) -> AsyncIterator[tuple[int, list[AnyFrame]]]:
    """Listen as eve, with TLS and eve's key; yield the port and the received frames."""
    said: list[AnyFrame] = []
    writers: list[asyncio.StreamWriter] = []

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        decoder = Decoder(max_frame_bytes=65536)
        answer(writer, [])
        try:
            while data := await reader.read(65536):
                frames = decoder.feed(data)
                said.extend(frames)
                answer(writer, frames)
        except (OSError, ssl.SSLError):
            pass
        writer.close()

    server = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=server_context(EVE))
    try:
        yield server.sockets[0].getsockname()[1], said
    finally:
        server.close()
        for writer in writers:
            writer.transport.abort()


async def refused(peer: TCPPeer, *endpoints: str) -> str:
    """Start a peer and return the code with which its first dial of an endpoint ended."""
    async with peer.events(Link, consumer=None) as links:
        async with asyncio.timeout(60):
            await peer.start()
            async for link in links:
                if link.state != "up":
                    return link.code
    return ""


@pytest.mark.parametrize("kind", ["reflected", "wrong", "stripped"])
async def test_a_server_without_the_key_is_refused_and_learns_nothing(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("P2PCHAT_HOME", str(tmp_path))
    over = asyncio.Event()

    def answer(writer: asyncio.StreamWriter, frames: list[AnyFrame]) -> None:
        if not frames:
            writer.write(encode(Hello(v=[PROTOCOL_VERSION], nonce="ab" * 32)))
        for frame in frames:
            if isinstance(frame, Bye):
                over.set()
            if isinstance(frame, Hello):
                given = {"reflected": frame.proof, "wrong": "0c" * 32, "stripped": None}[kind]
                writer.write(encode(Welcome(proof=given)) + encode(Go("ab" * 8, 1)) + encode(Peers(linked=["0f" * 32])))

    async with listening(answer) as (port, said):
        async with TCPPeer(0, f"127.0.0.1:{port}", name="cyd", db="memory://", settings=QUICK) as cyd:
            async with asyncio.timeout(60):
                await over.wait()
            assert [type(frame) for frame in said][:2] == [Hello, Bye]
            assert said[1].code == "network"  # type: ignore[union-attr]
            assert cyd.links() == [] and "0f" * 32 not in repr([*cyd._driver.node.links.book])
            network = load_network(tmp_path / "network")
            assert network is not None and network.id not in repr(said)


async def test_a_server_with_another_key_than_the_pin_gets_no_frame(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An invite names ada; eve answers at its address, and even knows the network's key."""
    monkeypatch.setenv("P2PCHAT_HOME", str(tmp_path))
    network = Network.found(b"f" * 32)

    def answer(writer: asyncio.StreamWriter, frames: list[AnyFrame]) -> None:
        if not frames:
            writer.write(
                encode(ServerSide(EVE.peer_id, CoreNetwork(network.id, network.key), token_bytes(32)).opening())
            )

    async with listening(answer) as (port, said):
        ada = invented_identity("ada")
        invite = encode_invite(network, make_invitation(network, ada), [f"127.0.0.1:{port}"])
        cyd = TCPPeer(0, name="cyd", invite=invite, db="memory://", settings=QUICK)
        try:
            assert await refused(cyd)
            assert said == [] and cyd.links() == []
        finally:
            await cyd.aclose()

"""Probes of everything that can be at an endpoint, on loopback."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from p2pchat import P2PChatError, Settings, TCPPeer, probe
from p2pchat.errors import HandshakeError
from p2pchat.identity.identity import Identity
from p2pchat.identity.tls_pipe import TlsPipe, server_context
from p2pchat.protocol import PROTOCOL_VERSION, Bye, Hello, Ping, encode
from tests.deadlines import WAIT
from tests.messaging.conftest import home as home

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
NONCE = "00" * 32


@asynccontextmanager
async def listening(talk: Talk, context: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    """A program that is no peer: it accepts connections and runs `talk`."""
    talks: list[asyncio.Task[None]] = []

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        talks.append(asyncio.ensure_future(to_its_end(talk(reader, writer), writer)))

    server = await asyncio.start_server(take, "127.0.0.1", 0, ssl=context)
    try:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        await asyncio.gather(*talks)


async def to_its_end(talk: Awaitable[None], writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        await talk
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()


async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while await reader.read(4096):
        pass


async def speak_http(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(4096)
    writer.write(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")


async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()


def over_tls(*words: bytes) -> Talk:
    """A server with a certificate as peers have, which then sends these bytes."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tls = TlsPipe(server_context(Identity.from_seed(b"s" * 32)), server_side=True)
        for word in words:
            tls.send(word)
        with suppress(HandshakeError):
            while data := await reader.read(65536):
                tls.receive(data)
                writer.write(tls.outgoing())

    return talk


async def test_a_peer_of_the_same_network_is_reached_without_events(tmp_path: Path) -> None:
    async with TCPPeer(0, name="ada", temporary=True) as ada, ada.events(consumer=None) as told:
        there = await probe(ada.endpoint)
        assert (there.verdict, there.address, there.peer_id) == ("reached", "127.0.0.1", ada.me.id)
        assert there.seconds > 0
        async with TCPPeer(0, ada.endpoint, name="bob", temporary=True):
            first = [await anext(told), await anext(told)]
        assert ada.counted.get("handshake_order", 0) == 0
    assert {event.to_dict().get("endpoint", "") for event in first} == {""}
    assert all("bob" in str(event.to_dict()) or event.to_dict()["event"] == "link" for event in first)
    assert len({event.to_dict().get("peer_id") for event in first} - {None}) == 1  # only that of bob


async def test_a_probe_of_the_own_peer_is_recognised_and_keeps_its_links(tmp_path: Path) -> None:
    async with TCPPeer(0, name="ada", data=tmp_path / "ada") as ada:
        async with TCPPeer(0, ada.endpoint, name="bob", data=tmp_path / "bob") as bob:
            assert (await probe(ada.endpoint, data=tmp_path / "ada")).verdict == "self"
            assert (await probe(ada.endpoint, data=tmp_path / "bob")).verdict == "reached"
            assert len(ada.links()) == len(bob.links()) == 1


async def test_probes_of_other_networks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with TCPPeer(0, name="eve", temporary=True, network="lab") as eve:
        assert (await probe(eve.endpoint)).verdict == "other_network"
        async with TCPPeer(0, name="ada", data=tmp_path / "ada") as ada:
            async with TCPPeer(0, name="bob", data=tmp_path / "bob", network="lab"):
                assert (await probe(eve.endpoint, data=tmp_path / "bob")).verdict == "reached"
                there = await probe(ada.endpoint, data=tmp_path / "bob")
        monkeypatch.setenv("P2PCHAT_HOME", str(tmp_path / "nothing yet"))
        assert (await probe(eve.endpoint)).verdict == "other_network"  # without a network of its own
    assert (there.verdict, there.peer_id) == ("other_network", ada.me.id)
    assert there.text == "a p2pchat peer of another network answers"
    assert not (tmp_path / "nothing yet").exists()


async def test_a_peer_without_room_for_links_is_busy(tmp_path: Path) -> None:
    async with TCPPeer(0, name="ada", temporary=True, settings=Settings(max_links=0)) as ada:
        assert (await probe(ada.endpoint)).verdict == "busy"


async def test_probes_of_closed_ports_and_unknown_hosts() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        there = await probe(free.getsockname()[1])
    assert (there.verdict, there.address, there.seconds) == ("refused", "", 0.0)
    there = await probe("no-such-host.invalid:8080")
    assert there.verdict == "no_such_host" and "no-such-host.invalid" in there.text


@pytest.mark.parametrize(
    ("talk", "verdict"),
    [
        (speak_http, "other_program"),
        (hang_up, "cut"),
        (over_tls(b"220 mail.example ESMTP\r\n"), "other_program"),
        (over_tls(encode(Hello(v=[2, 5], nonce=NONCE))), "other_version"),
        (over_tls(encode(Bye("version"))), "other_version"),
        (over_tls(encode(Bye("new\x1b[2Jword", "see"))), "turned_away"),
        (over_tls(encode(Hello(v=PROTOCOL_VERSION, nonce=NONCE))), "other_program"),
        (over_tls(encode(Ping())), "turned_away"),
    ],
    ids=[
        "http",
        "hangs-up",
        "smtp",
        "newer",
        "bye-version",
        "bye-unknown",
        "malformed",
        "out-of-turn",
    ],
)
async def test_probes_of_other_programs(talk: Talk, verdict: str) -> None:
    async with listening(talk) as endpoint:
        there = await probe(endpoint, timeout=WAIT)
    assert there.verdict == verdict
    assert there.text.isprintable() and there.address == "127.0.0.1"


async def test_a_probe_of_a_tls_server_with_another_kind_of_key(tmp_path: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(rsa_certificate(tmp_path))
    async with listening(say_nothing, context) as endpoint:
        there = await probe(endpoint)
    assert (there.verdict, there.peer_id) == ("other_program", "")


def rsa_certificate(directory: Path) -> Path:
    from datetime import UTC, datetime, timedelta

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import rsa
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    key = rsa.generate_private_key(65537, 2048)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "web")])
    builder = x509.CertificateBuilder(issuer_name=name, subject_name=name, public_key=key.public_key())
    builder = builder.serial_number(1).not_valid_before(datetime.now(UTC) - timedelta(days=1))
    certificate = builder.not_valid_after(datetime.now(UTC) + timedelta(days=1)).sign(key, hashes.SHA256())
    path = directory / "web.pem"
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path.write_bytes(pem + certificate.public_bytes(Encoding.PEM))
    return path


async def test_invalid_endpoints_and_unreadable_files_raise(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="HOST:PORT"):
        await probe("somewhere")
    (tmp_path / "network").write_text("nonsense")
    (tmp_path / "network").chmod(0o600)
    with pytest.raises(P2PChatError, match="damaged"):
        await probe(1, data=tmp_path)

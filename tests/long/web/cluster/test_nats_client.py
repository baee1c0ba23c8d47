"""Connections to nats-servers: signing in, TLS, and what no nats-server says."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from p2pchat.web.cluster.engine_store import EngineStore, StoreOptions
from p2pchat.web.cluster.nats_client import (
    MAX_HEADER_BYTES,
    MAX_LINE_BYTES,
    MAX_MESSAGE_BYTES,
    Connection,
    close,
    parse_servers,
    reason_of,
    shown,
    sign_in_with,
)
from tests.deadlines import WAIT, until, within
from tests.nats import NatsServer, missing
from tests.web.cluster.doors import KeepingServer

NEEDED = 1000  # bytes of a message
SUBJECT = "p2pchat.x"


@asynccontextmanager
async def connected(url: str, credentials: Path | None = None) -> AsyncIterator[tuple[Connection, list[bytes]]]:
    """A connection, and the messages that come to SUBJECT."""
    connection, heard = Connection(url, reason_of, NEEDED), list[bytes]()

    async def hear(message: Any) -> None:
        heard.append(message.data)

    try:
        async with within(WAIT, "the connection"):
            try:
                await connection.open(sign_in_with(credentials) if credentials else {}, 60)
            except Exception as error:
                raise ConnectionError(reason_of(connection.cause(error))) from None
            await connection.client.subscribe(SUBJECT, cb=hear)
        yield connection, heard
    finally:
        await close(connection.client)


async def refusal(url: str, credentials: Path | None = None) -> str:
    """Return why a server does not take a client."""
    with pytest.raises(Exception) as refused:
        async with connected(url, credentials):
            pass
    return str(refused.value)


async def test_several_servers_one_of_which_is_there(engine: KeepingServer) -> None:
    store, up = EngineStore(StoreOptions("team", parse_servers(f"nats://127.0.0.1:1,{engine.url}"))), asyncio.Event()
    store.on_up = up.set
    store.start()
    try:
        async with within(WAIT, "the one that is there"):
            await up.wait()
    finally:
        await store.aclose()


# ---- what is no message


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
async def test_a_message_that_nats_py_cannot_read_ends_alone(engine: KeepingServer, raw: bytes) -> None:
    """Before: after one of these nothing more was heard from the server, or it was disconnected."""
    async with connected(engine.url) as (connection, heard), within(WAIT, "what is published after it"):
        await connection.client.publish(SUBJECT, b"here")  # behind the subscription
        await until(lambda: heard == [b"here"], "the subscription")
        reader, writer = await asyncio.open_connection("127.0.0.1", engine.nats.port)
        writer.write(b'CONNECT {"verbose":false,"headers":true}\r\n' + raw % SUBJECT.encode())
        writer.write(b"PUB %s 5\r\nalive\r\nPING\r\n" % SUBJECT.encode())
        assert await reader.readline() and await reader.readline() == b"PONG\r\n"  # INFO, and no error
        await until(lambda: heard[-1:] == [b"alive"], "the message after it")
        assert not connection.is_lost
        writer.close()


# ---- what is no server


@asynccontextmanager
async def false_server(said: bytes) -> AsyncIterator[str]:
    """A server that says this once a client has subscribed; yields its URL."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b'INFO {"max_payload":1048576,"headers":true}\r\n')
        with suppress(ConnectionResetError):
            while line := await reader.readline():
                writer.write({b"PING": b"PONG\r\n", b"SUB": said}.get(line.split()[0], b""))
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield f"nats://127.0.0.1:{server.sockets[0].getsockname()[1]}"


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
    async with false_server(said) as url, connected(url) as (connection, _):
        await until(lambda: connection.is_lost, "the end of the connection")
        assert connection.reason == reason


async def test_large_headers_and_names_of_servers_are_passed_over() -> None:
    """Before: 1 MiB of headers, which anybody may publish, took 0.12 s, and 4 MiB of names of servers 5 s."""
    headers = b"NATS/1.0\r\n" + b"a:b\r\n" * (MAX_HEADER_BYTES // 5) + b"\r\n"
    named = json.dumps({"connect_urls": [f"{one}.example:1" for one in range(100)]}).encode()
    head, size = SUBJECT.encode(), len(headers)
    said = b"INFO %s\r\nHMSG %s 1 %d %d\r\n%s\r\nMSG %s 1 2\r\nO2\r\n" % (named, head, size, size, headers, head)
    async with false_server(said) as url, connected(url) as (connection, heard):
        await until(lambda: heard, "the message behind them")
        assert heard == [b"O2"] and not connection.is_lost
        assert len(connection.client._server_pool) == 1


# ---- signing in


def as_nats_writes(data: bytes) -> str:
    """Return a key as NATS writes it: base32, with its CRC-16."""
    crc = 0
    for byte in data:
        crc ^= byte << 8
        for _ in range(8):
            crc = (crc << 1 ^ 0x1021 if crc & 0x8000 else crc << 1) & 0xFFFF
    return base64.b32encode(data + crc.to_bytes(2, "little")).decode().rstrip("=")


class NKey:
    """An operator's, an account's or a user's key (O, A, U), and the tokens it signs, as NATS writes them."""

    def __init__(self, kind: str) -> None:
        prefix = {"O": 14, "A": 0, "U": 20}[kind] << 3
        self._key = Ed25519PrivateKey.generate()
        secret, public = self._key.private_bytes_raw(), self._key.public_key().public_bytes_raw()
        self.seed = as_nats_writes(bytes([(18 << 3) | prefix >> 5, (prefix & 31) << 3]) + secret)
        self.public = as_nats_writes(bytes([prefix]) + public)
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


async def test_an_engine_that_admits_listed_keys_only(configured: Callable[[str], NatsServer], tmp_path: Path) -> None:
    keys = {name: NKey("U") for name in ("admitted", "other")}
    for name, key in keys.items():
        (tmp_path / name).write_text(f"{key.seed}\n")
    server = configured(f"authorization {{ users = [ {{ nkey: {keys['admitted'].public} }} ] }}")
    async with connected(server.url, tmp_path / "admitted"):
        pass
    for refused in (tmp_path / "other", None):
        assert "authorization" in (await refusal(server.url, refused)).lower()


async def test_a_password_in_the_url_signs_in_and_is_not_shown(configured: Callable[[str], NatsServer]) -> None:
    server = configured("authorization { user: chat, password: s3cret }")
    url = f"nats://chat:s3cret@127.0.0.1:{server.port}"
    async with connected(url):
        pass
    assert shown(url) == server.url and "s3cret" not in repr(StoreOptions("team", (url,)))
    for other in (url.replace("s3cret", "wrong"), server.url):
        assert "authorization" in (await refusal(other)).lower()


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
    async with connected(server.url, creds):
        pass
    assert "authorization" in (await refusal(server.url)).lower()
    assert "chat.creds" in await refusal(server.url, tmp_path / "no" / "chat.creds")


async def test_a_tls_server_is_checked_against_the_authorities(
    configured: Callable[[str], NatsServer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own_authority(tmp_path, "127.0.0.1")
    server = configured(f"tls {{ cert_file: {tmp_path / 'cert.pem'}, key_file: {tmp_path / 'key.pem'} }}")
    url = server.url.replace("nats:", "tls:")
    assert "certificate" in await refusal(url)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    async with connected(url) as (connection, heard):
        await connection.client.publish(SUBJECT, b"alive")
        await until(lambda: heard == [b"alive"], "a message")


# ---- URLs


@pytest.mark.parametrize("url", ["", "http://x", "nats://", "nats://x:y", "nats://x:70000", "nats://x/path", " , "])
def test_what_is_no_engine_is_refused(url: str) -> None:
    with pytest.raises(ValueError):
        parse_servers(url)


def test_engines_are_written_in_one_way() -> None:
    assert parse_servers("chat.example") == ("nats://chat.example:4222",)
    assert parse_servers("tls://a:1, nats://u:p@[::1]") == ("tls://a:1", "nats://u:p@[::1]:4222")
    assert parse_servers(["a", "b:7"]) == ("nats://a:4222", "nats://b:7")

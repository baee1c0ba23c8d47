"""TLS between two keys: the peer's key, refusals, and bytes in pieces of any size."""

from __future__ import annotations

import errno
import os
import random
import ssl
import stat
import tempfile
from pathlib import Path
from typing import NoReturn

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pchat.errors import HandshakeError
from p2pchat.identity.identity import Identity
from p2pchat.identity.tls_pipe import FEED_BYTES, READ_BYTES, TlsPipe, client_context, peer_key, server_context

ADA, EVE = Identity.from_seed(b"a" * 32), Identity.from_seed(b"e" * 32)
SERVER, CLIENT = server_context(ADA), client_context()


def pair(server: ssl.SSLContext = SERVER, client: ssl.SSLContext = CLIENT) -> tuple[TlsPipe, TlsPipe]:
    return TlsPipe(client, server_side=False), TlsPipe(server, server_side=True)


def shake_hands(client: TlsPipe, server: TlsPipe) -> bytes:
    """Do the handshake; return what the server could read during it."""
    client.begin()
    heard = b""
    while not (client.handshaken and server.handshaken):
        heard += server.receive(client.outgoing())
        client.receive(server.outgoing())
    return heard


def test_the_client_learns_the_servers_key_and_the_server_nothing() -> None:
    client, server = pair()
    shake_hands(client, server)
    assert peer_key(client.certificate()) == ADA.peer_id and server.certificate() == b""


def test_a_certificate_tells_a_stranger_the_key_and_nothing_else() -> None:
    """It is a function of the key alone: it does not say when the peer began, nor that it began again."""
    from p2pchat.identity.tls_pipe import make_certificate

    assert make_certificate(ADA) == make_certificate(ADA) != make_certificate(EVE)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.binary(min_size=1, max_size=40_000), min_size=1, max_size=5), st.integers(1, 20_000))
def test_bytes_arrive_as_sent_in_pieces_of_any_size(texts: list[bytes], cut: int) -> None:
    client, server = pair()
    shake_hands(client, server)
    for sender, receiver in ((client, server), (server, client)):
        for text in texts:
            sender.send(text)
        wire = sender.outgoing()
        heard = b"".join(receiver.receive(wire[n : n + cut]) for n in range(0, len(wire), cut))
        assert heard == b"".join(texts) and receiver.outgoing() == b""


@pytest.mark.parametrize("size", [0, 1, FEED_BYTES, READ_BYTES - 1, READ_BYTES, READ_BYTES + 1, 3 * READ_BYTES])
def test_more_than_the_shared_buffer_in_one_read_is_whole_too(size: int) -> None:
    client, server = pair()
    shake_hands(client, server)
    text = random.Random(size).randbytes(size)
    client.send(text)
    assert server.receive(client.outgoing()) == text


def test_plaintext_sent_before_the_end_of_the_handshake_goes_out_with_it() -> None:
    client, server = pair()
    client.send(b"client's ")
    client.send(b"first words")
    assert client.outgoing() == b""
    server.send(b"server's")
    assert shake_hands(client, server) == b"client's first words"


def test_the_handshake_survives_one_byte_at_a_time() -> None:
    client, server = pair()
    client.begin()
    heard = b""
    while not (client.handshaken and server.handshaken):
        for byte in client.outgoing():
            server.receive(bytes([byte]))
        for byte in server.outgoing():
            heard += client.receive(bytes([byte]))
    assert heard == b""


def test_a_close_notify_ends_reading_only_and_differs_from_an_end() -> None:
    client, server = pair()
    shake_hands(client, server)
    client.send(b"last words")
    client.close()
    wire = client.outgoing()
    assert server.receive(wire[:-1]) == b"last words" and not server.closed_by_peer
    assert server.receive(wire[-1:] + b"anything at all") == b"" and server.closed_by_peer
    server.send(b"and mine")
    server.close()
    assert client.receive(server.outgoing()) == b"and mine" and client.closed_by_peer
    with pytest.raises(ConnectionError):
        client.send(b"too late")


def test_closing_before_the_handshake_says_nothing() -> None:
    client, _ = pair()
    client.close()
    assert client.outgoing() == b""


@pytest.mark.parametrize("position", [0, 3, 30, -1])
def test_a_changed_byte_ends_the_stream(position: int) -> None:
    client, server = pair()
    shake_hands(client, server)
    client.send(b"words" * 20)
    wire = bytearray(client.outgoing())
    wire[position] ^= 1
    wire += bytes(20_000)  # when it was the length that grew, it waits for more
    with pytest.raises(ConnectionError):
        server.receive(bytes(wire))
    with pytest.raises(ConnectionError):
        server.send(b"x")


def test_records_replayed_or_out_of_order_end_the_stream() -> None:
    client, server = pair()
    shake_hands(client, server)
    client.send(b"pay bob")
    wire = client.outgoing()
    assert server.receive(wire) == b"pay bob"
    with pytest.raises(ConnectionError):
        server.receive(wire)


def test_records_of_another_connection_say_nothing_here() -> None:
    """A recorded connection is noise on the next one."""
    client, server = pair()
    shake_hands(client, server)
    client.send(b"sign me in")
    taped = client.outgoing()
    other_client, other_server = pair()
    shake_hands(other_client, other_server)
    with pytest.raises(ConnectionError):
        other_server.receive(taped)


def test_a_man_in_the_middle_can_only_be_himself() -> None:
    """Passing ADA's certificate on needs ADA's key; with his own key the client sees whose it is."""
    client, eve = pair(server=server_context(EVE))
    shake_hands(client, eve)
    assert peer_key(client.certificate()) == EVE.peer_id != ADA.peer_id

    with pytest.raises(ssl.SSLError):
        context_with(ADA, key=EVE)


def context_with(certificate: Identity, key: Identity) -> ssl.SSLContext:
    from p2pchat.identity.tls_pipe import make_certificate

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.TemporaryDirectory() as private:
        Path(private, "pem").write_bytes(make_certificate(certificate) + key.to_pem())
        context.load_cert_chain(Path(private, "pem"))
    return context


def old_context(server_side: bool) -> ssl.SSLContext:
    """TLS 1.2 at most, with a certificate that could be used with it."""
    context = server_context(ADA) if server_side else client_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    return context


def test_tls_1_2_is_refused_by_both_sides() -> None:
    client, server = pair(client=old_context(server_side=False))
    client.begin()
    with pytest.raises(HandshakeError, match=r"version|protocol"):
        server.receive(client.outgoing())
    with pytest.raises(HandshakeError):  # told by an alert
        client.receive(server.outgoing())

    client, server = pair(server=old_context(server_side=True))
    client.begin()
    with pytest.raises(HandshakeError):
        server.receive(client.outgoing())


@pytest.mark.parametrize(
    "words",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        bytes(600),
        b"\xff" * 600,
        b"\x16\x03\x01\xff\xff",
    ],
)
def test_bytes_that_are_not_tls_are_refused(words: bytes) -> None:
    _, server = pair()
    with pytest.raises(HandshakeError):
        server.receive(words + bytes(70_000))


@settings(max_examples=50, deadline=None)
@given(st.binary(max_size=600))
def test_noise_is_refused_or_waited_for_and_nothing_else(noise: bytes) -> None:
    for side in pair():
        try:
            assert side.receive(noise) == b"" and not side.handshaken
        except HandshakeError:
            pass


def test_there_are_no_tickets_to_come_back_with() -> None:
    client, server = pair()
    shake_hands(client, server)
    assert server.outgoing() == b""  # a ticket would be sent right after the handshake
    assert SERVER.num_tickets == 0


def test_only_ed25519_certificates_have_a_peer_key() -> None:
    from datetime import UTC, datetime, timedelta

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, ADA.peer_id)])
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1)
    now = datetime.now(UTC)
    builder = builder.not_valid_before(now - timedelta(1)).not_valid_after(now + timedelta(1))
    der = builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)
    neutral = Ed25519PublicKey.from_public_bytes(b"\1" + bytes(31))  # anyone can sign for it, in TLS as elsewhere
    builder = x509.CertificateBuilder(name, name, neutral, 1)
    builder = builder.not_valid_before(now - timedelta(1)).not_valid_after(now + timedelta(1))
    small = builder.sign(ADA.private_key, None).public_bytes(serialization.Encoding.DER)
    for certificate in (small, der, der[:-5], b"", b"noise"):
        with pytest.raises(HandshakeError):
            peer_key(certificate)


@pytest.mark.skipif(not os.path.isdir("/dev/fd"), reason="a pipe has no name here")
def test_the_key_is_on_no_disk(tmp_path: Path) -> None:
    open_files = os.listdir("/dev/fd")
    context = server_context(ADA, tmp_path / "missing")  # where no file can be written
    client, server = pair(server=context)
    shake_hands(client, server)
    assert peer_key(client.certificate()) == ADA.peer_id and server.handshaken
    assert os.listdir("/dev/fd") == open_files


@pytest.mark.skipif(os.name != "posix", reason="file modes are POSIX")
def test_the_key_file_for_the_ssl_module_is_private_and_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no pipe can be had, as on Windows."""
    seen: list[tuple[int, int]] = []
    load = ssl.SSLContext.load_cert_chain

    def look(self: ssl.SSLContext, certfile: Path) -> None:
        seen.append((stat.S_IMODE(certfile.stat().st_mode), stat.S_IMODE(certfile.parent.stat().st_mode)))
        load(self, certfile)

    def no_pipe() -> NoReturn:
        raise OSError(errno.EMFILE, "no pipe")

    monkeypatch.setattr(os, "pipe", no_pipe)
    monkeypatch.setattr(ssl.SSLContext, "load_cert_chain", look)
    server_context(ADA, tmp_path)
    assert seen == [(0o600, 0o700)] and list(tmp_path.iterdir()) == []

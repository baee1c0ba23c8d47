"""TLS 1.3 between two keys, without certificate authorities, over any stream of bytes.

The server's certificate is self-signed with its identity key. The client takes the raw public key out of it as the
server's peer id, and trusts nothing else in it; OpenSSL has checked that the far end owns that key. The client proves
itself later, inside TLS (core/mesh/handshake.py): the standard library cannot ask for certificates of unknown clients.

TlsPipe turns ciphertext into plaintext and back between two ssl.MemoryBIOs. It does no I/O; client.py moves the bytes.
A memory BIO never shrinks, so it gets at most one record at once, in both directions. Measured: 20 KiB for an idle
link, where asyncio's own TLS keeps 280, and 67 after traffic. With 4 KiB in and records of 8 KiB out it would be 38,
and reading would take two thirds more time.
"""

from __future__ import annotations

import os
import ssl
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from p2pchat.errors import HandshakeError
from p2pchat.identity.identity import Identity
from p2pchat.protocol import PeerId, is_key

FEED_BYTES = 16 * 1024
RECORD_BYTES = 16 * 1024  # the most that TLS allows
READ_BYTES = 256 * 1024  # most that is read in one go, ciphertext or plaintext
# Any day before p2pchat, for far ends with a slow clock whose TLS library checks it. The same for every certificate.
_BEGIN = datetime(2020, 1, 1, tzinfo=UTC)
# RFC 5280, 4.1.2.5: the date for certificates without a well-defined end. It is not checked: the key is the identity.
_NO_END = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)


class ThreadBuffer(threading.local):
    """One buffer for each thread, used by all its links: bytes read into it are taken out before anything else happens.

    Threads need their own, because OpenSSL lets others run while it writes into a buffer.
    """

    def __init__(self) -> None:
        self.view: memoryview = memoryview(bytearray(READ_BYTES))


_plaintext = ThreadBuffer()


def make_certificate(identity: Identity) -> bytes:
    """Return the self-signed certificate (PEM) of the identity key: the same at each start, so it tells of none."""
    from cryptography import x509  # 40 ms, for listening and dialling peers only
    from cryptography.hazmat.primitives.serialization import Encoding

    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "p2pchat")])
    builder = x509.CertificateBuilder(issuer_name=name, subject_name=name)
    serial_number = int(identity.peer_id[:30], 16) + 1  # below 20 bytes, and above 0 (RFC 5280, 4.1.2.2)
    builder = builder.public_key(identity.private_key.public_key()).serial_number(serial_number)
    builder = builder.not_valid_before(_BEGIN).not_valid_after(_NO_END)
    return builder.sign(identity.private_key, algorithm=None).public_bytes(Encoding.PEM)


def peer_key(certificate: bytes) -> PeerId:
    """Return the Ed25519 public key (hex32) in a DER certificate.

    Raises:
        HandshakeError: Not a certificate, not an Ed25519 key, or one with which anybody can sign.
    """
    from cryptography import x509
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        key = x509.load_der_x509_certificate(certificate).public_key()
    except (ValueError, UnsupportedAlgorithm):
        raise HandshakeError("the far end's certificate cannot be read", "identity") from None
    if not isinstance(key, Ed25519PublicKey):
        raise HandshakeError("the far end's key is not Ed25519", "identity")
    if not is_key(id := key.public_bytes_raw().hex()):
        raise HandshakeError("the far end's key is one with which anybody can sign", "identity")
    return id


def server_context(identity: Identity, directory: Path | None = None) -> ssl.SSLContext:
    """Return the TLS context of the listening side: TLS 1.3 only, this identity, no session tickets.

    The ssl module reads keys from files only. A pipe is one where the system has /dev/fd, so that a peer starts on a
    full disk; elsewhere the key is in a 0600 file for a moment.

    Args:
        directory: A private directory for that file; None for the system's temporary directory.
    Raises:
        OSError: The file cannot be written.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _only_tls13(context)
    context.num_tickets = 0  # with a ticket a link could skip the certificate
    certificate, key = make_certificate(identity), identity.to_pem()
    try:
        with _pipe_of(certificate) as first, _pipe_of(key) as second:
            context.load_cert_chain(first, second)
        return context
    except OSError:  # ssl.SSLError too
        pass
    with tempfile.TemporaryDirectory(prefix=".tls-", dir=directory) as private:  # 0700
        path = Path(private, "pem")
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(fd, "wb") as file:
            file.write(certificate + key)
        context.load_cert_chain(path)
    return context


@contextmanager
def _pipe_of(content: bytes) -> Iterator[str]:
    """Yield a path at which these bytes, fewer than a pipe holds, can be read once, where there is /dev/fd."""
    reading, writing = os.pipe()
    try:
        with open(writing, "wb") as file:
            file.write(content)
        yield f"/dev/fd/{reading}"
    finally:
        os.close(reading)


def client_context() -> ssl.SSLContext:
    """Return the TLS context of the dialling side: TLS 1.3 only, any certificate. peer_key() returns its key."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    _only_tls13(context)
    return context


def _only_tls13(context: ssl.SSLContext) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.maximum_version = ssl.TLSVersion.TLSv1_3


class TlsPipe:
    """One end of a TLS connection, without I/O: bytes in, bytes out.

    After every call, also one that raised, outgoing() may have ciphertext for the far end. Plaintext sent before the
    end of the handshake is kept and goes out with it.
    """

    __slots__ = ("_early", "_in", "_object", "_out", "_ready", "closed", "closed_by_peer", "handshaken")

    def __init__(self, context: ssl.SSLContext, *, server_side: bool) -> None:
        self._in = ssl.MemoryBIO()
        self._out = ssl.MemoryBIO()
        self._object = context.wrap_bio(self._in, self._out, server_side=server_side)
        self._early = b""  # plaintext sent before the handshake ended
        self._ready = b""  # ciphertext not taken yet
        self.handshaken: bool = False
        self.closed: bool = False  # we sent close_notify
        self.closed_by_peer: bool = False  # the far end did

    def begin(self) -> None:
        """Start the handshake. The client's first bytes are in outgoing() then."""
        self._do_handshake()

    def receive(self, ciphertext: bytes | memoryview) -> bytes:
        """Take bytes from the far end; return the plaintext in them, b"" while no record is complete.

        Raises:
            HandshakeError: Not TLS 1.3, or not TLS at all.
            ConnectionError: The stream is damaged, after the handshake.
        """
        view = memoryview(ciphertext)
        full: list[bytes] = []  # full buffers before the one in use
        used = 0  # of the shared buffer
        for start in range(0, len(view), FEED_BYTES):
            if self.closed_by_peer:
                break  # nothing that follows a close_notify counts (RFC 8446, 6.1)
            self._in.write(view[start : start + FEED_BYTES])
            if self.handshaken or self._do_handshake():
                used = self._decrypt(used, full)
        last = bytes(_plaintext.view[:used])
        return b"".join([*full, last]) if full else last

    def _decrypt(self, used: int, full: list[bytes]) -> int:
        """Decrypt into the shared buffer from `used` on; return how much of it is used then."""
        plain = _plaintext.view
        try:
            while True:
                if used == READ_BYTES:
                    full.append(bytes(plain))
                    used = 0
                count = self._object.read(READ_BYTES - used, plain[used:])
                if not count:
                    self.closed_by_peer = True
                    return used
                used += count  # type: ignore[operator]  # with a buffer, read() returns a count
                if not self._in.pending and not self._object.pending():
                    return used  # asking for more would raise an exception, which costs more than a small read
        except ssl.SSLWantReadError:
            return used
        except ssl.SSLZeroReturnError:
            self.closed_by_peer = True
            return used
        except ssl.SSLError as error:
            raise ConnectionAbortedError(f"the TLS stream is damaged: {_reason(error)}") from None

    def _do_handshake(self) -> bool:
        try:
            self._object.do_handshake()
        except ssl.SSLWantReadError:
            return False
        except ssl.SSLError as error:
            raise HandshakeError(
                f"that is no p2pchat peer: no TLS 1.3 with it ({_reason(error)})", "identity"
            ) from None
        self.handshaken = True
        early, self._early = self._early, b""
        self.send(early)
        return True

    def send(self, plaintext: bytes) -> None:
        """Encrypt `plaintext` into outgoing().

        Raises:
            ConnectionError: close() was called, or the stream was damaged before.
        """
        if not self.handshaken or not plaintext:
            self._early += plaintext
            return
        try:
            if len(plaintext) > RECORD_BYTES:
                self._write_records(plaintext)
            else:
                self._object.write(plaintext)
        except ssl.SSLError as error:
            raise ConnectionAbortedError(f"the TLS stream cannot be written: {_reason(error)}") from None

    def _write_records(self, plaintext: bytes) -> None:
        """Write record by record, and take each: the buffer keeps the memory of what was ever in it."""
        records, view = [self._ready], memoryview(plaintext)
        for start in range(0, len(view), RECORD_BYTES):
            self._object.write(view[start : start + RECORD_BYTES])
            records.append(self._out.read())
        self._ready = b"".join(records)

    def outgoing(self) -> bytes:
        """Take the ciphertext for the far end; b"" when there is none."""
        if not self._ready:
            return self._out.read() if self._out.pending else b""
        ready, self._ready = self._ready, b""
        return ready + self._out.read()

    def close(self) -> None:
        """Put a close_notify into outgoing(): nothing more will be written. Reading goes on."""
        if self.closed or not self.handshaken:
            return
        self.closed = True
        try:
            self._object.unwrap()
        except ssl.SSLError:
            pass  # it waits for the far end's close_notify, or the stream is damaged; ours is written anyway

    def certificate(self) -> bytes:
        """Return the far end's certificate (DER); b"" for none, as dialling sides have."""
        return self._object.getpeercert(binary_form=True) or b""


def _reason(error: ssl.SSLError) -> str:
    """Return OpenSSL's reason, such as "unsupported protocol". It never contains remote text."""
    return (error.reason or "protocol error").replace("_", " ").lower()

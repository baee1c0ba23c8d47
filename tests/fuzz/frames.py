"""Frames: bytes from a stranger, cut anywhere, in the decoder; and the handshake."""

from __future__ import annotations

import hmac
import json
from functools import cache
from typing import Literal

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from p2pchat.core.mesh.handshake import ClientSide, ServerSide, transcript
from p2pchat.core.node_context import NetworkCredentials
from p2pchat.errors import FrameError, HandshakeError
from p2pchat.protocol import (
    LENGTH,
    MAX_FRAME_BYTES,
    MAX_INT,
    MAX_PIECE_FRAME_BYTES,
    PIECE_BYTES,
    PROTOCOL_VERSION,
    AnyFrame,
    Decoder,
    Frame,
    Go,
    GuestCertificate,
    Hello,
    Membership,
    Piece,
    Unknown,
    Welcome,
    encode,
    encode_piece,
)
from p2pchat.settings import Settings
from tests.core.mesh.linked_peers import Key
from tests.fuzz.choices import Supply
from tests.fuzz.target import Target, hold
from tests.vectors.files import vectors

SMALL = Settings(
    max_frame_bytes=2048, max_early_frame_bytes=512, max_batch_entries=4,
    max_batch_bytes=400, page_items=3, page_marks=4, max_tips=3, max_older=2, max_endpoint_bytes=24,
)  # fmt: skip
CODES = {"malformed", "limit"}
WORDS = [
    *(f'"t":"{kind}"'.encode() for kind in (
        "hello", "welcome", "show", "admit", "statements",
        "go", "ping", "pong", "bye", "peers", "here", "digest", "have", "want", "entries", "read",
        "typing", "file", "file_end", "pull", "lacks", "holds")),
    *(f'"{field}":'.encode() for field in (
        "v", "nonce", "id", "sig", "proof", "net", "run", "n", "code", "text", "port", "at", "linked", "gone", "users",
        "more", "sum", "sums", "span", "names", "marks", "ask", "end", "full", "c", "u", "tips", "older", "r", "first",
        "prev", "e", "head", "fork", "on", "show", "founder", "guest", "s", "invite", "maker", "uses",
        "have", "room", "dm", "group", "talk", "cert", "from", "until", "status", "since")),
    b"null", b"true", b"false", b"1.0", b"1e999", b"-0", b"9007199254740991", b"9007199254740992", b"NaN", b"Infinity",
    b"\\ud800", b"\\udc00\\ud800", b"\\u0000", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"[" * 17,
    b'{"":' * 17, b"]" * 17, b"}" * 17,
    b"\x00\x00\x00\x00", b"\xff\xff\xff\xff", b"\x00\x04\x00\x01", b"00" * 8, b"00" * 32, b"0" * 128, b"\n",
    b"\x80\x00\x00\x07", b"\x80\x00\x00\x08", b"\x80\x04\x00\x08", b"\x80\x04\x00\x09",  # lengths of frames of bytes
]  # fmt: skip


def vector_frames() -> list[bytes]:
    """Return the frames of the test vectors, including those that must be refused."""
    given = [vector["given"] for vector in vectors("frames").values()]
    return [data for one in given if "bytes" in one and len(data := bytes.fromhex(one["bytes"])) < 4000]


# ---- the decoder


def decoded(
    data: bytes, cuts: bytes, limits: Settings, most: int | None, takes_pieces: bool
) -> tuple[list[AnyFrame], FrameError | None]:
    """Return the frames of bytes that arrive in pieces of these sizes, repeatedly; b"" means in one piece."""
    decoder = Decoder(limits, max_frame_bytes=most)
    decoder.takes_pieces = takes_pieces
    frames: list[AnyFrame] = []
    at = turn = 0
    while at < len(data):
        size = 1 + cuts[turn % len(cuts)] % 61 if cuts else len(data)
        frames += decoder.feed(memoryview(data)[at : at + size])
        if decoder.fault is None:
            most_bytes = MAX_PIECE_FRAME_BYTES if decoder.takes_pieces else decoder.max_frame_bytes
            hold(len(decoder._rest) < 4 + most_bytes, "more is kept than a frame may have")
        at, turn = at + size, turn + 1
    hold(not (decoder.fault and decoder.feed(b'\0\0\0\x0c{"t":"ping"}')), "something is read after a fault")
    return frames, decoder.fault


def decode_bytes(data: bytes) -> None:
    """Decode bytes.

    The first byte chooses the limits, lines without lengths or raw bytes, and whether frames of bytes are read from the
    first frame on; then come the cuts.
    """
    supply = Supply(data)
    way, cuts = supply.take(1) or b"\0", supply.take(3)
    limits, most = (SMALL, Settings())[way[0] & 1], (None, MAX_FRAME_BYTES)[way[0] >> 1 & 1]
    stream = supply.rest()
    if way[0] & 4:
        stream = b"".join(LENGTH.pack(len(line)) + line for line in stream.split(b"\n"))
    takes_pieces = bool(way[0] & 8)
    whole, fault = decoded(stream, b"", limits, most, takes_pieces)
    pieces, other = decoded(stream, cuts or b"\0", limits, most, takes_pieces)
    hold(whole == pieces, "what comes out depends on how the bytes were cut")
    hold(str(fault) == str(other), "the fault depends on how the bytes were cut")
    if fault is not None:
        hold(fault.code in CODES, f"a fault with the code {fault.code}")
        hold(str(fault).isascii() and len(str(fault)) < 400 and "\n" not in str(fault), "a fault that is no short line")
    for frame in whole:
        stands(frame)


def stands(frame: AnyFrame) -> None:
    """Check that a decoded frame can be encoded, and is decoded to the same again."""
    repr(frame)
    if isinstance(frame, Unknown):
        return
    again = encode_piece(frame) if isinstance(frame, Piece) else encode(frame)
    decoder = Decoder(max_frame_bytes=MAX_FRAME_BYTES)
    decoder.takes_pieces = True
    hold(decoder.feed(again) == [frame] and decoder.fault is None, "a frame that is another one when written and read")
    if isinstance(frame, Piece):
        hold(len(frame.data) <= PIECE_BYTES, "more bytes than a piece has")
        return
    said = json.loads(again[4:])
    hold(said["t"] == type(frame).__struct_config__.tag, "a frame of another type")
    hold(within(said), "an integer that not every reader holds")


def within(said: object) -> bool:
    """Return True if all integers are in the range of every JSON reader."""
    if isinstance(said, dict):
        return all(map(within, said.values()))
    if isinstance(said, list):
        return all(map(within, said))
    return not isinstance(said, int) or -MAX_INT <= said <= MAX_INT


def decode_seeds() -> list[bytes]:
    frames = vector_frames()
    whole = [b"\x03\x05\x11\x40" + frame for frame in frames]
    lines = [b"\x07\x07\x03\x09" + b"\n".join(frame[4:] for frame in frames[at : at + 2]) for at in range(len(frames))]
    given = [
        encode_piece(Piece(n, index, bytes(size))) for n, index, size in ((1, 0, 40), (2**32 - 1, 7, 0), (9, 3, 700))
    ]
    after_go = [b"\x02\x05\x11\x40" + encode(Go("ab" * 8, 1)) + piece for piece in given]
    taken = [b"\x0a\x05\x11\x40" + piece + frame for piece, frame in zip(given, frames, strict=False)]
    return [*whole, *lines, *after_go, *taken, b"\x02\x01\x01\x01" + b"".join(frames[:6])]


# ---- the handshake

ADA, BOB = Key("ada"), Key("bob")
NONCE = bytes(range(32))
NETWORK = NetworkCredentials("0a" * 16, "0b" * 32)
OFFERS: tuple[list[int] | int, ...] = ([PROTOCOL_VERSION], [1], [1, PROTOCOL_VERSION], PROTOCOL_VERSION)
CHOSEN: tuple[list[int] | int, ...] = (PROTOCOL_VERSION, PROTOCOL_VERSION, PROTOCOL_VERSION, 1, [PROTOCOL_VERSION])


def shake_hands(data: bytes) -> None:
    """Send a frame of valid and invalid pieces to either side of the handshake: no stranger is admitted."""
    supply = Supply(data)
    (as_server if supply.yes() else as_client)(supply)


def as_server(supply: Supply) -> None:
    server = ServerSide(ADA.id, NETWORK, NONCE)
    hold(not server.peer, "a peer before it said anything")
    for _ in range(3):
        frame = some_hello(supply, server.opening())
        if frame is None:
            continue
        try:
            server.on_frame(frame)
        except HandshakeError:
            continue
        hold(isinstance(frame, Hello) and server.peer == frame.id, "somebody else was let in")
        assert isinstance(frame, Hello)
        hold(proves_itself(frame, server.opening().nonce), "somebody was let in who proved nothing")


def proves_itself(frame: Hello, nonce: str) -> bool:
    """Return True if a client's hello is valid, by the rules of docs/protocol.md."""
    t = b"p2pchat/link/1\0\0\4" + bytes.fromhex(ADA.id + str(frame.id) + nonce + frame.nonce)
    try:
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(str(frame.id))).verify(bytes.fromhex(str(frame.sig)), t)
    except (InvalidSignature, ValueError):
        return False
    proof = hmac.digest(bytes.fromhex(NETWORK.key), b"p2pchat/invite/1 client\0" + t, "sha256").hex()
    return frame.v == PROTOCOL_VERSION and frame.proof == proof


def as_client(supply: Supply) -> None:
    client = ClientSide(BOB.id, BOB.sign, NETWORK, server=ADA.id, pin=supply.pick(("", ADA.id)), nonce=NONCE)
    nonce = ""
    for _ in range(4):
        frame = some_hello(supply, None) if supply.yes() else some_welcome(supply, nonce)
        if frame is None:
            continue
        try:
            client.on_frame(frame)
        except HandshakeError:
            continue
        if isinstance(frame, Hello):
            nonce = frame.nonce
            hold(not client.peer, "a server was taken for proven by its hello")
        elif isinstance(frame, Welcome):
            t = transcript(PROTOCOL_VERSION, ADA.id, BOB.id, nonce, NONCE.hex())
            hold(frame.proof == mac(NETWORK.key, "server", t), "a server that proved nothing")
            hold(client.peer == ADA.id, "not the peer that was dialled")


def mac(key: str, side: Literal["client", "server"], t: bytes) -> str:
    return hmac.digest(bytes.fromhex(key), f"p2pchat/invite/1 {side}\0".encode() + t, "sha256").hex()


def some_hello(supply: Supply, opening: Hello | None) -> AnyFrame | None:
    """Return a hello, mostly valid; None for bytes that are not a frame."""
    if supply.yes(8):
        return frame_of_bytes(supply.take(200))
    nonce = opening.nonce if opening is not None and not supply.yes(8) else bent(supply, NONCE.hex())
    if opening is None and not supply.yes(4):
        return checked(Hello(v=supply.pick(OFFERS), nonce=nonce))
    own = bent(supply, "11" * 32)
    t = transcript(supply.pick((PROTOCOL_VERSION, PROTOCOL_VERSION, PROTOCOL_VERSION, 1)), ADA.id, BOB.id, nonce, own)
    k = supply.pick(("0b" * 32, "0b" * 32, "0c" * 32))
    return checked(Hello(
        v=supply.pick(CHOSEN), nonce=own, id=supply.pick((BOB.id, BOB.id, BOB.id, ADA.id, "00" * 32)),
        sig=bent(supply, BOB.sign(t).hex()),
        proof=supply.pick((bent(supply, mac(k, "client", t)), mac(k, "server", t), None)),
    ))  # fmt: skip


def some_welcome(supply: Supply, nonce: str) -> AnyFrame | None:
    t = transcript(PROTOCOL_VERSION, ADA.id, BOB.id, nonce or "00" * 32, NONCE.hex())
    side: Literal["client", "server"] = supply.pick(("server", "server", "client"))
    proof = bent(supply, mac(supply.pick(("0b" * 32, "0c" * 32)), side, t))
    show = supply.pick((None, Membership(), Membership(ADA.id, GuestCertificate(BOB.id, bent(supply, "ab" * 64)))))
    return checked(Welcome(supply.pick((proof, None)), show))


def bent(supply: Supply, digits: str) -> str:
    """Return hex digits, sometimes with one changed."""
    if not supply.yes(6):
        return digits
    at = supply.below(len(digits))
    return digits[:at] + "0123456789abcdef"[supply.below(16)] + digits[at + 1 :]


def checked(frame: Frame) -> AnyFrame | None:
    return frame_of_bytes(encode(frame)[4:])


def frame_of_bytes(payload: bytes) -> AnyFrame | None:
    """Return the frame that the decoder makes of a stranger's bytes, None if they are not a frame."""
    return next(iter(Decoder().feed(LENGTH.pack(len(payload)) + payload)), None)


def handshake_seeds() -> list[bytes]:
    return [
        bytes(64),
        bytes([0, 1]) * 60,
        *(bytes([n] * 90) for n in (1, 3, 7, 0xFF)),
        *(f[4:] for f in vector_frames()[:4]),
    ]


@cache
def targets() -> tuple[Target, ...]:
    return (
        Target("frames", "bytes into frames", decode_bytes, decode_seeds, WORDS, 8192, 400),
        Target("handshake", "who is let in, both ends", shake_hands, handshake_seeds, WORDS, 512, 150),
    )

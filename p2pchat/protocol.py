"""Frames of the wire protocol: typed records, their encoding, and a decoder that checks lengths and limits.

A frame on the wire is four bytes of length, big-endian, and one JSON object in UTF-8 whose "t" names its type.
docs/protocol.md specifies the same for any language. This module knows shapes and sizes only. What a frame means is
decided in core/. Ids are lower-case hex, here and everywhere inside; storage keeps bytes, and people see base32.

The Decoder is strict and still fast. msgspec reads a frame straight into its record, and accepts only a frame that has
exactly the known fields with exactly their types. Such a frame cannot be too deep, hold too large an integer or hide
bad UTF-8, because every byte of it was read as something known. Any other frame (a field of a later version, a repeated
key, an unknown type, or nonsense) is read again, slowly and by the rules, in `_read_by_rules`. So the usual frame does
not pay for the rules.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from struct import Struct as Packed
from typing import Annotated, Any, NamedTuple, get_args

import msgspec
from msgspec import Meta, Struct

from p2pchat.errors import FrameError
from p2pchat.settings import Settings

PROTOCOL_VERSION = 4
FILE_VERSION = 4
MAX_INT = 2**53 - 1  # every JSON reader can hold it exactly
MAX_DEPTH = 16  # nested containers, the frame included; the deepest known frame has 5
# A peer of this version must accept this much after `go`, and sends no more. The limits of a Decoder are its Settings
# (settings.py): max_frame_bytes, which is the same, and before `go` max_early_frame_bytes.
MAX_FRAME_BYTES = 256 * 1024
MAX_STATUS_CHARACTERS = 512  # of the text beside a status
MAX_REACTION_CHARACTERS = 8  # as people count
LENGTH = Packed(">I")
PIECE_BYTES = 256 * 1024  # of content; docs/protocol-attachments.md
# The highest bit of a length says that bytes follow and no JSON: in JSON, as base64, a piece takes a third more bytes
# and 1.6 ms to encode and decode, six times the hash of it. An older decoder would take it for a frame above its limit.
RAW_FLAG = 1 << 31
PIECE_HEAD = Packed(">II")  # the number of the pull, and the index of the piece
MAX_PIECE_FRAME_BYTES = PIECE_HEAD.size + PIECE_BYTES
FILES = "files"  # in `can` of `peers`: pulls are answered, and pieces are understood
CARRY = "carry"  # in `can` of `peers`: links of others are carried
MAX_CARRIED_BYTES = 16 * 1024  # in one `carried`
MAX_FEATURES = 256  # in `can`
MAX_RECORDS = 64  # in one frame
MAX_RECORD_BYTES = 1536  # of the text of one: 64 of them fit a frame whatever JSON escapes, and 8 endpoints with more
MAX_ENDPOINTS = 8  # in one record
MAX_ENDPOINT_CHARACTERS = 100
RECORDS_CACHED = 1024
MAX_SHOWN = 4  # statements that a connection begins with: two are enough
MAX_USES = 64  # of one invite

Hex4 = Annotated[str, Meta(pattern=r"\A[0-9a-f]{8}\Z")]
Hex8 = Annotated[str, Meta(pattern=r"\A[0-9a-f]{16}\Z")]  # \Z, because $ lets a newline pass
Hex16 = Annotated[str, Meta(pattern=r"\A[0-9a-f]{32}\Z")]
Hex24 = Annotated[str, Meta(pattern=r"\A[0-9a-f]{48}\Z")]
Hex32 = Annotated[str, Meta(pattern=r"\A[0-9a-f]{64}\Z")]
Hex64 = Annotated[str, Meta(pattern=r"\A[0-9a-f]{128}\Z")]
# A key of Ed25519: y, little-endian, with the sign of x on top. Refused are a y of p or more (ed..ff ff..ff 7f), and
# the points of small order, for which anyone can sign: y is 0, 1, -1 or one of two others.
# Source: docs/protocol-entries.md, "Signatures".
_NO_KEY = (
    "0[01]0{60}[08]0|(?:e[c-f]|f[0-9a-f])f{60}[7f]f"
    "|26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc[08]5"
    "|c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03[7f]a"
)
_KEY = rf"\A(?!(?:{_NO_KEY})\Z)[0-9a-f]{{64}}\Z"
Key32 = Annotated[str, Meta(pattern=_KEY)]
# The same for `entries`, the one frame that comes by the million. The type checks the length only; the Decoder checks
# all digits at once (0.25 us a frame; five patterns take 1.8).
Long8 = Annotated[str, Meta(min_length=16, max_length=16)]
Long32 = Annotated[str, Meta(min_length=64, max_length=64)]
Long64 = Annotated[str, Meta(min_length=128, max_length=128)]
Seq = Annotated[int, Meta(ge=1, le=MAX_INT)]
Count = Annotated[int, Meta(ge=0, le=MAX_INT)]

UserId = str  # hex32: an Ed25519 public key
PeerId = str  # hex32: an Ed25519 public key
ConversationId = str  # hex32
RunId = str  # hex8

REF_USER_BYTES = 16  # of a user id, in references: who looks for a second key that begins so, finds none

_find_key = re.compile(_KEY).match


def is_key(id: str) -> bool:
    """Return whether a hex32 may be the public key of a user or a peer. False for points of small order too."""
    return _find_key(id) is not None


def user_start(user: UserId) -> str:
    """Return the beginning of a user id by which references name the user, in hex."""
    return user[: 2 * REF_USER_BYTES]


def split_ref(log: str) -> tuple[str, RunId]:
    """Return the beginning of the user's id and the run, of a log as references name it."""
    return user_start(log), log[2 * REF_USER_BYTES :]


_encoder = msgspec.json.Encoder()


class Mark(NamedTuple):
    """Everything in one run's log up to entry `seq`; `chain` is the chain there."""

    run: Hex8
    seq: Seq
    chain: Hex32


Marks = dict[Hex32, dict[Hex32, list[Mark]]]  # conversation -> user -> tips
MissingParts = dict[Hex32, dict[Hex32, list[tuple[Hex8, Seq, Count]]]]  # conversation -> user -> run, first, last
ReadMarks = dict[Hex32, dict[Hex32, list[tuple[Hex24, Seq, Hex32]]]]  # conversation -> reader -> last entries read


class Naming(Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """The meaning of a conversation id. Exactly one field is set; the Decoder drops a Naming of an unknown kind."""

    room: bool = False
    dm: tuple[Hex32, Hex32] | None = None  # two users, sorted
    group: tuple[Hex32, Hex32, Hex8] | None = None  # group, owner, the owner's run
    talk: Hex32 | None = None  # group


class Cert(Struct, frozen=True, rename={"from_ms": "from", "until_ms": "until"}, forbid_unknown_fields=True):
    """A user's certificate that a peer hosts it."""

    from_ms: Count
    until_ms: Count
    sig: Hex64


class GuestCertificate(Struct, frozen=True, array_like=True, gc=False):
    """A member's certificate that it answers for a user."""

    member: Key32
    sig: Hex64


class RecordFacts(Struct, frozen=True, gc=False):
    """The content of a record, as far as this version knows it. See PeerRecord."""

    id: Key32
    at: Count
    e: Annotated[tuple[Annotated[str, Meta(max_length=MAX_ENDPOINT_CHARACTERS)], ...], Meta(max_length=MAX_ENDPOINTS)]
    guest: GuestCertificate | None = None


_read_facts = lru_cache(RECORDS_CACHED)(msgspec.json.Decoder(RecordFacts).decode)  # each is looked into several times


class PeerRecord(Struct, frozen=True, array_like=True, gc=False):
    """Endpoints of a peer: a text that its own key signed, which is kept and passed on as it came.

    A later version may say more in it. The Decoder drops a record that cannot be read. Source: docs/protocol.md,
    "Addresses".
    """

    text: str
    sig: Hex64

    @property
    def is_readable(self) -> bool:
        try:
            return _read_facts(self.text) is not None
        except (msgspec.MsgspecError, UnicodeError, RecursionError):
            return False

    @property
    def id(self) -> PeerId:
        return _read_facts(self.text).id

    @property
    def at(self) -> int:
        """When it was made, UTC microseconds."""
        return _read_facts(self.text).at

    @property
    def e(self) -> tuple[str, ...]:
        """The endpoints of the peer."""
        return _read_facts(self.text).e

    @property
    def guest(self) -> GuestCertificate | None:
        """The certificate of the member that answers for the peer; None for a member."""
        return _read_facts(self.text).guest

    @property
    def size(self) -> int:
        """The bytes that it takes in a frame."""
        return len(_encoder.encode(self))

    def __repr__(self) -> str:
        return f"PeerRecord({len(self.text)} characters)"


class InviteProof(Struct, frozen=True, forbid_unknown_fields=True):
    """Proof that the sender has an invite, for this connection: who made it, its id, its terms, and a code over them.

    `until` is in UTC seconds. Source: docs/protocol.md, "Invites".
    """

    maker: Key32
    id: Hex4
    uses: Annotated[int, Meta(ge=1, le=MAX_USES)]
    until: Count
    proof: Hex32


class Membership(Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """What one end of a connection shows of its membership.

    Attributes:
        founder: The key that founded the network.
        guest: The certificate of the member that answers for the sender; None for a member.
        s: Statements by which that member is one.
        invite: What a newcomer joins with.
    """

    founder: Key32 | None = None
    guest: GuestCertificate | None = None
    s: Annotated[tuple[tuple[str, Hex64], ...], Meta(max_length=MAX_SHOWN)] = ()
    invite: InviteProof | None = None


class Hosted(Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """One hosted user, in `here`. `cert` is absent when the user's key is the peer's own.

    Names are checked elsewhere. The lengths here, in code points, only keep 10,000 users from filling the memory.
    """

    id: Key32
    name: Annotated[str, Meta(max_length=128)]
    status: Annotated[str, Meta(max_length=32)]
    text: Annotated[str, Meta(max_length=MAX_STATUS_CHARACTERS)] | None = None
    since: Count | None = None  # UTC microseconds
    cert: Cert | None = None

    def __repr__(self) -> str:
        return f"Hosted(id={self.id!r}, name={self.name!a}, status={self.status!a}, certified={self.cert is not None})"


class Frame(Struct, tag_field="t", omit_defaults=True, forbid_unknown_fields=True, gc=False):
    """Base of all frames. A frame holds strings, numbers and lists of them, never another frame, so it needs no GC."""


class Hello(Frame, tag="hello"):
    """First frame of either side. The server's offers versions, the client's proves its identity."""

    v: Annotated[list[Seq], Meta(min_length=1)] | Seq
    nonce: Hex32
    id: Key32 | None = None
    sig: Hex64 | None = None
    proof: Hex32 | None = None


class Welcome(Frame, tag="welcome"):
    """The server accepts the client's proof, gives its own, and shows its membership."""

    proof: Hex32 | None = None
    show: Membership | None = None


class Show(Frame, tag="show"):
    """The client admits the server, and shows its membership."""

    show: Membership


class Admit(Frame, tag="admit"):
    """The server admits the client.

    With `peers` the server has no place for it, and these have perhaps; its `bye` comes next.
    """

    peers: list[PeerRecord] = []


class Go(Frame, tag="go"):
    """The decider's choice of this link: its run, and a counter that rises with each link."""

    run: Hex8
    n: Seq


class Ping(Frame, tag="ping"):
    """Asks for one pong."""


class Pong(Frame, tag="pong"):
    """Answers one ping."""


class Bye(Frame, tag="bye"):
    """The last frame of its sender."""

    code: str
    text: str | None = None


class Peers(Frame, tag="peers"):
    """The peers that the sender is linked with, and records of them and of itself. Of `linked`, others carry the links
    with those in `carried`.
    """

    records: list[PeerRecord] = []
    linked: list[Long32] = []
    carried: list[Long32] = []
    gone: list[Long32] = []
    can: list[str] = []  # features of the sender: complete in the first frame on a link, and absent in later ones
    seen: str = ""  # in that frame: where the sender sees the other end


class Circuit(Frame, tag="circuit", rename={"origin": "from"}):
    """Begins a circuit at a peer that carries it (`to`) and at the one that it leads to (`from`), or ends one.

    Attributes:
        id: Chosen by who begins it on this link, rising: even by the smaller peer id, odd by the larger.
        end: Why it ends: closed, lost, unknown (no direct link leads there), busy, limit.
    """

    id: Count
    to: Hex32 | None = None
    origin: Hex32 | None = None
    end: str | None = None


class Carried(Frame, tag="carried"):
    """Bytes on a circuit, and how many its sender takes in all: 16,384 before it says so."""

    id: Count
    d: bytes = b""
    room: Count = 0

    def __repr__(self) -> str:
        return f"Carried(id={self.id}, {len(self.d)} bytes, room={self.room})"


class Punch(Frame, tag="punch"):
    """Asks the other end of a carried link to dial too, and answers that, with where a carrier sees the sender (`at`).
    Without it: "no" as an answer, and else "now".
    """

    at: str = ""


class Here(Frame, tag="here"):
    """Users hosted by the sender. Each replaces what was sent about that user before."""

    users: list[Hosted]
    gone: list[Hex32] = []
    more: bool = False


class Statements(Frame, tag="statements"):
    """Statements about members: the sum of all that the sender keeps, or some of them.

    With `sum` comes the key of the founder. With `ask`, answer a sum that differs with the own one.
    """

    founder: Key32 | None = None
    sum: Hex32 | None = None
    ask: bool = False
    s: list[tuple[str, Hex64]] = []


class Digest(Frame, tag="digest"):
    """The sum of everything shared, or one for each conversation in `span`. With `ask`, answer an equal one too."""

    sum: Hex32 | None = None
    sums: dict[Hex32, Hex32] | None = None
    span: tuple[Hex32, Hex32] | None = None
    ask: bool = False
    names: list[Naming] = []


class Have(Frame, tag="have"):
    """Marks: all tips of each (conversation, user) named. It is also the acknowledgement."""

    marks: Marks
    span: tuple[Hex32, Hex32] | None = None
    ask: bool = False
    end: Count | None = None
    full: dict[Hex32, list[Hex32]] = {}
    lacks: MissingParts = {}
    names: list[Naming] = []


class Want(Frame, tag="want"):
    """Request for everything one user wrote in one conversation after these tips."""

    n: Count
    c: Hex32
    u: Hex32
    tips: list[Mark]
    older: list[Mark] = []
    names: list[Naming] = []


class Stub(Struct, gc=False, frozen=True, omit_defaults=True):
    """A stand-in for a text that is gone: its hash."""

    hash: Hex32


class Entries(Frame, tag="entries"):
    """A batch of one log: entries first, first+1, ... after the chain `prev`, signed at the last one by `head`.

    An entry is a clock and a text, or its stub. The first of a log, and evidence of a fork, come with the header of
    the log, `h`.
    """

    c: Long32
    u: Long32
    r: Long8
    first: Seq
    prev: Long32
    e: Annotated[list[tuple[Seq, str | Stub]], Meta(min_length=1)]
    head: Long64
    h: str = ""
    n: Count | None = None
    fork: bool = False
    names: list[Naming] = []

    def __repr__(self) -> str:
        size = sum(len(text.encode()) for _, text in self.e if isinstance(text, str))
        flags = f", n={self.n}" * (self.n is not None) + ", fork=True" * self.fork
        return (
            f"Entries(c={self.c!r}, u={self.u!r}, r={self.r!r}, first={self.first}, "
            f"e=<{len(self.e)} entries, {size} bytes>{flags})"
        )


class ReadFrame(Frame, tag="read"):
    """Read marks and taken marks: of each reader, the last entry of each log, named as in core/log.Ref, and the chain
    there.

    `add` is what they change in the sum of the sender's marks; `all` begins that sum anew.
    """

    marks: ReadMarks
    taken: ReadMarks = {}
    all: bool = False
    add: Hex32 | None = None
    ask: bool = False
    sum: Hex32 | None = None
    names: list[Naming] = []


class TypingFrame(Frame, tag="typing"):
    """A user started or stopped typing. Never stored."""

    c: Hex32
    u: Hex32
    on: bool
    names: list[Naming] = []


class Pull(Frame, tag="pull"):
    """Request for pieces first, first+1 ... of content that entry `seq` names; count 0: for its list of leaves."""

    n: Annotated[int, Meta(ge=0, lt=1 << 32)]
    c: Hex32
    u: Hex32
    r: Hex8
    seq: Seq
    root: Hex32
    first: Annotated[int, Meta(ge=0, lt=1 << 32)]
    count: Annotated[int, Meta(ge=0, lt=1 << 32)]


class Lacks(Frame, tag="lacks"):
    """Ends a pull before its last piece. `has` are the pieces that its sender holds: [first, count], upwards."""

    n: Annotated[int, Meta(ge=0, lt=1 << 32)]
    has: list[tuple[Count, Seq]] = []


class Piece(Frame, tag="piece"):
    """A frame of bytes, never JSON: a piece of content, or a part of its list of leaves, for the pull of this number.

    encode_piece() makes its bytes.
    """

    n: int
    index: int
    data: bytes

    def __repr__(self) -> str:
        return f"Piece(n={self.n}, index={self.index}, {len(self.data)} bytes)"


class Holds(Frame, tag="holds"):
    """Which content is here, whole and verified. Each is named by its root.

    Attributes:
        ask: What its sender wants to know of the other end.
        has, lacks: Of what the other end asked about, what is here now, and what is not or goes in a moment.
    """

    ask: list[Hex32] = []
    has: list[Hex32] = []
    lacks: list[Hex32] = []


class File(Frame, tag="file"):
    """First frame of an export file. `room` identifies the network. A file of another version is not read.

    On a link this frame means nothing.
    """

    v: Seq
    room: Hex32


class FileEnd(Frame, tag="file_end"):
    """Last frame of an export file, with the number of its entries."""

    entries: Count


class Unknown(Struct):
    """A frame of a type this version does not know. It is counted and ignored, and never encoded."""

    t: str

    def __repr__(self) -> str:
        return f"Unknown({self.t[:40]!a})"  # a remote value


KnownFrame = (
    Hello | Welcome | Show | Admit | Go | Ping | Pong | Bye | Peers | Here | Statements | Digest | Have | Want | Entries
    | ReadFrame | TypingFrame | Pull | Lacks | Holds | Circuit | Carried | Punch | File | FileEnd
)  # fmt: skip
AnyFrame = KnownFrame | Piece | Unknown


def encode(frame: Frame) -> bytes:
    """Return the wire form of a frame: its length, then its JSON, with keys in the order of the fields.

    Raises:
        FrameError: Above 256 KiB ("limit"): the caller should have split it into pages.
        UnicodeEncodeError: A string holds a lone surrogate.
    """
    payload = _encoder.encode(frame)
    if len(payload) > MAX_FRAME_BYTES:
        raise _over(f"{frame.__struct_config__.tag}: the frame to send", len(payload), MAX_FRAME_BYTES)
    return LENGTH.pack(len(payload)) + payload


def encode_piece(piece: Piece) -> bytes:
    """Return the wire form of a frame of bytes."""
    size = PIECE_HEAD.size + len(piece.data)
    return b"".join((LENGTH.pack(RAW_FLAG | size), PIECE_HEAD.pack(piece.n, piece.index), piece.data))


class Decoder:
    """Incremental decoder of the bytes of one link, in pieces of any size.

    Attributes:
        max_frame_bytes: The limit for the next frame. It starts at the small limit for strangers. The owner of the link
            raises it when it sends `go`. A received `go` raises it here, because what follows may be in the same read.
            (A `go` out of turn ends the link at its owner, so it gains a stranger nothing.)
        takes_pieces: Frames of bytes are decoded; from the `go` on, as max_frame_bytes.
        on_read: Called with bytes that begin with whole frames, the number of those that feed() returns, and the fault
            of the one after them, if it has one. None: not called.
        fault: The error in the bytes, or None. Nothing after it is decoded: the link must be closed.
    """

    def __init__(self, settings: Settings | None = None, *, max_frame_bytes: int | None = None) -> None:
        """Take limits from `settings`. `max_frame_bytes` is for streams that begin after `go`."""
        self._settings = settings or Settings()
        self.max_frame_bytes: int = max_frame_bytes or self._settings.max_early_frame_bytes
        self.takes_pieces: bool = False
        self.on_read: Callable[[memoryview, int, FrameError | None], None] | None = None
        self.fault: FrameError | None = None
        self._rest = bytearray()  # the start of an incomplete frame
        self._need = 0  # bytes that `_rest` must have before its frame can be complete

    def __repr__(self) -> str:
        return f"Decoder(waiting={len(self._rest)}, max_frame_bytes={self.max_frame_bytes}, fault={self.fault!r})"

    def feed(self, data: bytes | bytearray | memoryview) -> list[AnyFrame]:
        """Return the frames that are complete now, in order; [] when there is none.

        Never raises because of the bytes. When a frame is bad, the frames before it are returned, `fault` says what is
        wrong ("limit" or "malformed"), and all later calls return []. `data` may be reused after the call.
        """
        if self.fault is not None:
            return []
        if self._rest:
            self._rest += data
            if len(self._rest) < self._need:
                return []
            data, self._rest = self._rest, bytearray()
        frames: list[AnyFrame] = []
        try:
            taken = self._read(memoryview(data), frames)
        except FrameError as fault:
            fault.__context__ = None  # its traceback keeps `data` alive
            self.fault = fault.with_traceback(None)
        except Exception as error:  # a defect. All state that it may have torn is that of this decoder
            self.fault = FrameError(f"not decoded, by a defect of p2pchat ({type(error).__name__}): report it")
        else:
            self._rest += memoryview(data)[taken:]
        if self.on_read is not None:
            self.on_read(memoryview(data), len(frames), self.fault)
        return frames

    def _read(self, view: memoryview, frames: list[AnyFrame]) -> int:
        """Append every complete frame to `frames`; return the number of bytes they took. This is the hot loop."""
        start, end = 4, len(view)
        unpack, find_check, append = LENGTH.unpack_from, _CHECKS.get, frames.append
        while start <= end:
            size = unpack(view, start - 4)[0]
            if not 0 < size <= self.max_frame_bytes:
                size = self._piece_size(size)
                stop = start + size
                if stop > end:
                    self._need = 4 + size
                    return start - 4
                n, index = PIECE_HEAD.unpack_from(view, start)
                append(Piece(n, index, bytes(view[start + PIECE_HEAD.size : stop])))
                start = stop + 4
                continue
            stop = start + size
            if stop > end:
                self._need = 4 + size
                return start - 4
            payload = view[start:stop]
            frame: AnyFrame
            try:
                frame = _read_known(payload)
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
                frame = _read_by_rules(payload)
            check = find_check(type(frame))
            if check is not None:
                check(self, frame, size)
            append(frame)
            start = stop + 4
        self._need = 4
        return start - 4

    def _piece_size(self, length: int) -> int:
        """Return the size of a frame of bytes; raises FrameError for another length that is not that of a frame."""
        size = length & ~RAW_FLAG
        if size == length or not self.takes_pieces or not PIECE_HEAD.size <= size <= MAX_PIECE_FRAME_BYTES:
            raise self._bad_length(length)
        return size

    def _bad_length(self, size: int) -> FrameError:
        if size == 0:
            return FrameError("a frame of length 0", "malformed", limit_bytes=self.max_frame_bytes)
        return _over("a frame", size, self.max_frame_bytes)

    # Rules that types cannot express: one method for each type of frame. Each raises FrameError.

    def _check_hello(self, frame: Hello, size: int) -> None:
        if frame.v == PROTOCOL_VERSION and (frame.id is None or frame.sig is None):
            raise FrameError("hello: a client's has id and sig")

    def _check_go(self, frame: Go, size: int) -> None:
        self.max_frame_bytes = max(self.max_frame_bytes, self._settings.max_frame_bytes)
        self.takes_pieces = True

    def _check_peers(self, frame: Peers, size: int) -> None:
        _at_most(self._settings.page_items, "peers", "linked", frame.linked)
        _at_most(self._settings.page_items, "peers", "gone", frame.gone)
        _at_most(self._settings.page_items, "peers", "carried", frame.carried)
        _at_most(MAX_FEATURES, "peers", "can", frame.can)
        if "".join([*frame.linked, *frame.carried, *frame.gone]).encode().translate(None, _DIGITS):
            raise FrameError("peers: ids are lower-case hex")
        if frame.records:
            frame.records = self._check_records("peers", frame.records)

    def _check_admit(self, frame: Admit, size: int) -> None:
        frame.peers = self._check_records("admit", frame.peers)

    def _check_records(self, kind: str, records: list[PeerRecord]) -> list[PeerRecord]:
        """Check records, and return those that can be read: no link ends for what a third peer signed."""
        _at_most(MAX_RECORDS, kind, "records", records)
        for record in records:
            if 4 * len(record.text) > MAX_RECORD_BYTES and len(record.text.encode()) > MAX_RECORD_BYTES:
                raise _over(f"{kind}: a record", len(record.text.encode()), MAX_RECORD_BYTES)
        return [record for record in records if record.is_readable]

    def _check_here(self, frame: Here, size: int) -> None:
        _at_most(self._settings.page_items, "here", "users", frame.users)
        _at_most(self._settings.page_items, "here", "gone", frame.gone)

    def _check_digest(self, frame: Digest, size: int) -> None:
        if (frame.sum is None) == (frame.sums is None) or (frame.sums is None) != (frame.span is None):
            raise FrameError("digest: either sum, or sums and span")
        _at_most(self._settings.page_marks, "digest", "sums", frame.sums or ())
        _in_order("digest", frame.span)
        self._check_names("digest", frame)

    def _check_have(self, frame: Have, size: int) -> None:
        """Check marks. An item is one (conversation, user); its tips have a limit of their own."""
        if frame.span is not None and len(frame.marks) != 1:
            raise FrameError("have: a span wants exactly one conversation")
        if sum(map(len, frame.marks.values())) > self._settings.page_marks:
            raise _too_many("have", "marks", self._settings.page_marks)
        for users in frame.marks.values():
            for tips in users.values():
                _at_most(self._settings.max_tips, "have", "tips", tips)
        if frame.full and sum(map(len, frame.full.values())) > self._settings.page_marks:
            raise _too_many("have", "full", self._settings.page_marks)
        if sum(len(parts) for users in frame.lacks.values() for parts in users.values()) > self._settings.page_marks:
            raise _too_many("have", "lacks", self._settings.page_marks)
        _in_order("have", frame.span)
        if frame.names:
            self._check_names("have", frame)

    def _check_want(self, frame: Want, size: int) -> None:
        _at_most(self._settings.max_tips, "want", "tips", frame.tips)
        _at_most(self._settings.max_older, "want", "older", frame.older)
        self._check_names("want", frame)

    def _check_entries(self, frame: Entries, size: int) -> None:
        digits = f"{frame.c}{frame.u}{frame.r}{frame.prev}{frame.head}"
        if digits.encode().translate(None, _DIGITS):
            raise FrameError("entries: ids, prev and head are lower-case hex")
        e = frame.e
        if len(e) > self._settings.max_batch_entries:
            raise _too_many("entries", "e", self._settings.max_batch_entries)
        if frame.first + len(e) - 1 > MAX_INT:
            raise FrameError("entries: a number above 2^53 - 1")
        if (frame.first == 1 or frame.fork) != bool(frame.h):
            raise FrameError("entries: the first of a log and evidence, and no others, come with its header")
        if size > self._settings.max_batch_bytes:  # JSON makes no string shorter, so a small frame has a small batch
            self._check_batch_bytes(e)
        if frame.names:
            self._check_names("entries", frame)

    def _check_batch_bytes(self, e: list[tuple[int, str | Stub]]) -> None:
        texts = [text for _, text in e if isinstance(text, str)]
        size = sum(len(text) if text.isascii() else len(text.encode()) for text in texts)
        if size > self._settings.max_batch_bytes:
            raise _over("entries: a batch", size, self._settings.max_batch_bytes)

    def _check_read(self, frame: ReadFrame, size: int) -> None:
        every = [*frame.marks.values(), *frame.taken.values()]
        if sum(max(1, len(marks)) for readers in every for marks in readers.values()) > self._settings.page_items:
            raise _too_many("read", "marks", self._settings.page_items)
        self._check_names("read", frame)

    def _check_lacks(self, frame: Lacks, size: int) -> None:
        _at_most(self._settings.page_items, "lacks", "has", frame.has)

    def _check_circuit(self, frame: Circuit, size: int) -> None:
        if sum(said is not None for said in (frame.to, frame.origin, frame.end)) != 1:
            raise FrameError("circuit: one of to, from and end")

    def _check_carried(self, frame: Carried, size: int) -> None:
        if len(frame.d) > MAX_CARRIED_BYTES:
            raise _over("carried: d", len(frame.d), MAX_CARRIED_BYTES)

    def _check_holds(self, frame: Holds, size: int) -> None:
        for field, roots in (("ask", frame.ask), ("has", frame.has), ("lacks", frame.lacks)):
            _at_most(self._settings.page_items, "holds", field, roots)

    def _check_typing(self, frame: TypingFrame, size: int) -> None:
        self._check_names("typing", frame)

    def _check_names(self, kind: str, frame: Digest | Have | Want | Entries | ReadFrame | TypingFrame) -> None:
        """Check names, and drop unknown kinds. Two per conversation are enough: a talk comes with its group."""
        _at_most(2 * self._settings.page_marks, kind, "names", frame.names)
        frame.names = [naming for naming in frame.names if _is_known(naming)]


_CHECKS: dict[type, Callable[[Decoder, Any, int], None]] = {
    Hello: Decoder._check_hello,
    Admit: Decoder._check_admit,
    Go: Decoder._check_go,
    Peers: Decoder._check_peers,
    Here: Decoder._check_here,
    Digest: Decoder._check_digest,
    Have: Decoder._check_have,
    Want: Decoder._check_want,
    Entries: Decoder._check_entries,
    ReadFrame: Decoder._check_read,
    TypingFrame: Decoder._check_typing,
    Lacks: Decoder._check_lacks,
    Holds: Decoder._check_holds,
    Circuit: Decoder._check_circuit,
    Carried: Decoder._check_carried,
}
_DIGITS = b"0123456789abcdef"


def _over(what: str, size: int, limit: int) -> FrameError:
    return FrameError(
        f"{what} has {size} bytes, the limit is {limit}", "limit", limit_bytes=limit, announced_bytes=size
    )


def _too_many(kind: str, field: str, most: int) -> FrameError:
    return FrameError(f"{kind}: more than {most} items in {field}", "limit")


def _at_most(most: int, kind: str, field: str, items: Sequence[object] | Mapping[str, object]) -> None:
    if len(items) > most:
        raise _too_many(kind, field, most)


def _in_order(kind: str, span: tuple[str, str] | None) -> None:
    if span is not None and span[0] > span[1]:
        raise FrameError(f"{kind}: a span goes upwards")


def _is_known(naming: Naming) -> bool:
    """Return whether this version knows the kind of a Naming. More than one kind is a fault."""
    said = naming.room + sum(part is not None for part in (naming.dm, naming.group, naming.talk))
    if said > 1:
        raise FrameError("names: one kind each")
    if naming.dm is not None and naming.dm[0] > naming.dm[1]:
        raise FrameError("names: the users of a dm are sorted")
    return said == 1


# The slow path: decoding by the rules.

JSON_FRAMES: tuple[type[Frame], ...] = get_args(KnownFrame)
_KINDS: dict[str, type[Frame]] = {str(kind.__struct_config__.tag): kind for kind in JSON_FRAMES}
_INSIDE: dict[str, type[Struct]] = {  # nested records
    "users": Hosted, "cert": Cert, "names": Naming, "show": Membership, "invite": InviteProof,
}  # fmt: skip
_read_known: Callable[[memoryview], KnownFrame] = msgspec.json.Decoder(KnownFrame).decode
_read_any: Callable[[memoryview], object] = msgspec.json.Decoder().decode


def _read_by_rules(payload: memoryview) -> AnyFrame:
    """Decode a frame by the rules of docs/protocol.md, "Frames": unknown fields and repeated keys included."""
    try:
        said = _read_any(payload)
        check_values(said)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise FrameError(f"not JSON as agreed: {_short(error)}") from None
    kind = said.get("t") if isinstance(said, dict) else None
    if not isinstance(said, dict) or not isinstance(kind, str):
        raise FrameError('not a JSON object with a string "t"')
    if kind not in _KINDS:
        return Unknown(kind)
    try:
        frame: AnyFrame = msgspec.convert(_known_part(said, _KINDS[kind], keep="t"), KnownFrame)
        return frame
    except msgspec.ValidationError as error:
        raise FrameError(f"{kind}: {_short(error)}") from None


def _known_part(said: dict[str, Any], kind: type[Struct], keep: str = "") -> dict[str, Any]:
    """Return `said` without the fields unknown to `kind` and to the records inside it."""
    kept = {key: said[key] for key in (*kind.__struct_encode_fields__, keep) if key in said}
    for key in kept.keys() & _INSIDE.keys():
        inside = kept[key]
        if isinstance(inside, dict):
            kept[key] = _known_part(inside, _INSIDE[key])
        elif isinstance(inside, list):
            kept[key] = [_known_part(one, _INSIDE[key]) if isinstance(one, dict) else one for one in inside]
    return kept


def check_values(said: object) -> None:
    """Raise FrameError for a value that is too deep or too large, in known fields and others."""
    level = [said]
    for depth in range(1, MAX_DEPTH + 2):
        inner: list[object] = []
        for value in level:
            if type(value) is int:
                if not -MAX_INT <= value <= MAX_INT:
                    raise FrameError("an integer of 2^53 or more")
            elif isinstance(value, (dict, list)):
                if depth > MAX_DEPTH:
                    raise FrameError(f"deeper than {MAX_DEPTH}")
                inner += value.values() if isinstance(value, dict) else value
        if not inner:
            return
        level = inner


def _short(error: Exception) -> str:
    """Return an error as one line that is safe to show: it may quote a remote value."""
    return ascii(str(error).replace(_NO_KEY, "..."))[1:-1][:200]

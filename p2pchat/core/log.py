"""Entries, logs and batches: their bytes, headers, hash chains, signed heads and clock.

A log is what one user wrote in one conversation during one run, numbered 1, 2, 3 ... Its header says whose log it is
and what it builds on. Its chain is a running hash over the header and the exact bytes of its entries. A head is the
author's signature over (log, seq, chain), so it proves the header and every entry up to seq. An entry is a clock and a
text, sent and stored as its author made it. Everybody keeps the same entries, whatever is in their texts: a text that
cannot be read is an entry of no kind (`UNREADABLE`). This file knows bytes and shapes only; sync/ decides who may write
what, and when.

Source: docs/protocol.md, "Entries".
"""

from __future__ import annotations

import base64
import re
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from hashlib import blake2b
from itertools import accumulate
from operator import attrgetter, itemgetter
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from msgspec import UNSET, Meta, Struct, UnsetType

from p2pchat.errors import FrameError, LogError
from p2pchat.kinds import HIDDEN_KINDS, KINDS, MESSAGE_KINDS, TEXT_KINDS
from p2pchat.kinds.kind import POINTS
from p2pchat.protocol import (
    MAX_DEPTH,
    MAX_INT,
    ConversationId,
    Entries,
    GuestCertificate,
    Hex8,
    Hex24,
    Hex32,
    Mark,
    RunId,
    Seq,
    Stub,
    UserId,
    is_key,
    user_start,
)
from p2pchat.settings import Settings

HEAD_TAG = b"p2pchat/head/1\0"
LOG_TAG = b"p2pchat/log/2\0"
TEXT_TAG = b"p2pchat/text/1\0"
MARK_TAG = b"p2pchat/mark/1\0"
SUM_MODULUS = 1 << 256
NO_SUM = "0" * 64  # of nothing
MARK = struct.Struct(">8sQ32s")  # run, seq and chain, as they are kept in memory and in databases
ID_CONVERSATION_BYTES = 16  # of a conversation id, in message ids
CLOCK_AHEAD = 300_000_000  # microseconds: stamps further ahead of local time do not advance the clock

Micros = Annotated[int, Meta(ge=0, le=MAX_INT)]  # UTC microseconds
MAX_FILES = 10
"""Most files of one message."""
MAX_FILE_BYTES = 16 * 1024**3  # its list of leaves then has 2 MiB, which a receiver holds in memory
"""Most bytes of one file."""
MAX_FILE_NAME = 4096  # longer than any file system takes, and ten of them may still fill an entry
"""Most characters in the name of a file."""
MAX_MEDIA_TYPE = 255  # code points: twice the longest that RFC 6838 allows for each half
MAX_HOPS = 255
"""Most hops that a message can say."""
HOP_LIMIT = 8  # as many as a question and its answers need, with a few programs in between; a guess
"""Hops of a message that no program answers by itself, nor one that says more."""
MAX_AFTER = 2
"""Most entries that one follows by name."""
MAX_TEXT_BYTES = Settings.max_text_bytes
"""Most bytes of a text that is written here, in UTF-8."""
MAX_BATCH_BYTES = Settings().max_batch_bytes
"""Most bytes of the texts of one batch."""
MAX_ENTRY_BYTES = 64 * 1024
"""Most bytes of an entry, a text in JSON."""
MAX_BEFORE = 8
"""Most logs that one builds on by name."""
UNREADABLE = "unreadable"
"""The kind of an entry whose text cannot be read: none that a version knows, so it is an unsupported message."""
GONE = "gone"
"""The kind of an entry whose text is gone: nothing is shown of it."""
RawEntry = tuple[int, str | Stub]  # a clock and a text: an entry as its author made it, or with a stub for its text
WriterKey = tuple[ConversationId, UserId]  # the conversation and the writer: the unit of wants


class LogId(NamedTuple):
    """The id of a log: (conversation, user, run), all lower-case hex."""

    conversation: ConversationId
    user: UserId
    run: RunId

    @property
    def key(self) -> WriterKey:
        """The conversation and the writer."""
        return self.conversation, self.user


class Ref(NamedTuple):
    """A reference to an entry of the same conversation: first 16 bytes of the user id with the run, and seq."""

    log: Hex24
    seq: Seq


class FileRef(Struct, gc=False, frozen=True):
    """One attachment as its message names it: `name` and `type` are the writer's word, `root` proves the content."""

    name: Annotated[str, Meta(max_length=MAX_FILE_NAME)]
    size: Annotated[int, Meta(ge=0, le=MAX_FILE_BYTES)]
    type: Annotated[str, Meta(max_length=MAX_MEDIA_TYPE)]
    root: Hex32

    def __repr__(self) -> str:
        return f"FileRef({self.size} bytes, {self.root[:8]})"  # without the name


FileRefs = Annotated[tuple[FileRef, ...], Meta(max_length=MAX_FILES)]
OFFERS = [kind.choices for kind in KINDS.values() if kind.choices]
Choice = Annotated[str, Meta(min_length=1, max_length=POINTS * max(one.longest for one in OFFERS))]
Choices = Annotated[tuple[Choice, ...], Meta(max_length=max(one.most for one in OFFERS))]
Hops = Annotated[int, Meta(ge=0, le=MAX_HOPS)]
WriteKey = Annotated[str, Meta(pattern=r"\A([0-9a-f]{16})?\Z")]


class Entry(Struct, gc=False, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """One immutable action of a user. Times are UTC microseconds. `b` is a string, an object or absent, by kind.

    `c` is the clock, which stands beside the text and never in it. `t` is when the writer's program claims it was
    written. It is shown, and used for nothing else. `files` are its attachments: () also for a value of another form,
    which has no effect (docs/protocol-attachments.md). `auto` marks what a program wrote by itself, which no program
    answers by itself. `choices` are answers that its reader may press, `hops` the answers of programs that led to it:
    () and 0 also for values of another form. `key` is by what its writer's program knows it again (written_keys.py),
    "" for none.
    """

    k: str
    at: Micros
    c: int = 0
    re: Ref | None = None
    after: Annotated[tuple[Ref, ...], Meta(max_length=MAX_AFTER)] = ()
    if TYPE_CHECKING:
        b: Any = None
    else:
        b: str | None = None  # what the quick decoder takes; any other body is read by _decode_odd
    t: Micros | None = None
    files: FileRefs = ()
    auto: bool = False
    choices: Choices = ()
    hops: Hops = 0
    key: WriteKey = ""

    @property
    def is_message(self) -> bool:
        """True if it is shown as a message: of an unknown kind with a text in `b`, too."""
        return self.k in MESSAGE_KINDS or (self.k not in HIDDEN_KINDS and type(self.b) is str)

    def __repr__(self) -> str:
        return f"Entry({self.k}, c={self.c})"  # without the text


class Header(Struct, gc=False, frozen=True, forbid_unknown_fields=True):
    """The beginning of a log: whose it is, and what it builds on. `by` is the member that answers for its writer.

    Its author makes the text once, and the chain begins with it. Everybody can make the same text from these values.
    """

    u: Hex32
    c: Hex32
    r: Hex8
    before: Annotated[tuple[Mark, ...], Meta(max_length=MAX_BEFORE)]
    by: GuestCertificate | UnsetType = UNSET


files_of: attrgetter[Any] = attrgetter("files")
kind_of: attrgetter[str] = attrgetter("k")
clock_of: itemgetter[int] = itemgetter(0)
text_of: itemgetter[int] = itemgetter(1)


class Batch(Struct, gc=False):
    """Consecutive entries of one log, ending at a head: the unit of verify, commit, serve and mark.

    Attributes:
        raws: The entries as their author made them.
        entries: The same decoded, or None where they were not needed.
        prev: The chain before the first entry.
        chain: The chain after the last entry.
        head: The signature over that chain.
        size: The bytes of the texts of its entries.
        header: The text of the log's header, in a batch with the first entry and in evidence of a fork; "" in others.
        last: The number of its last entry.
    """

    log: LogId
    first: int
    raws: list[RawEntry]
    entries: list[Entry] | None
    prev: bytes
    chain: bytes
    head: bytes
    size: int
    header: str = ""
    last: int = 0

    def __post_init__(self) -> None:
        self.last = self.first + len(self.raws) - 1

    @property
    def is_signed(self) -> bool:
        """True if its author signed it."""
        return verify(self.log.user, self.head, head_message(self.log, self.last, self.chain))

    def __repr__(self) -> str:
        return f"Batch({self.log.user[:8]}/{self.log.run[:8]} {self.first}..{self.last})"


def batch_of(frame: Entries) -> Batch:
    """Return the batch that a frame carries, its entries not decoded."""
    prev, log = bytes.fromhex(frame.prev), LogId(frame.c, frame.u, frame.r)
    chain, head = extend_chain(prev, frame.e), bytes.fromhex(frame.head)
    return Batch(log, frame.first, frame.e, None, prev, chain, head, size_bytes(frame.e), frame.h)


def before_of(frame: Entries) -> tuple[Mark, ...]:
    """Return the marks that the log begun by this frame builds on; () for a frame that begins none."""
    return before_in(frame.h) if frame.first == 1 else ()


def before_in(header: str) -> tuple[Mark, ...]:
    """Return the marks in a header."""
    return _decode_header(header).before


def certificate_of(header: str) -> GuestCertificate | None:
    """Return the certificate of the member that answers for the writer of a log; None in a member's own log."""
    return _decode_header(header).by or None


def member_of(header: str) -> UserId:
    """Return the member that a header names, "" for none."""
    certificate = certificate_of(header) if header else None
    return "" if certificate is None else certificate.member


def answering_member(frame: Entries) -> UserId:
    """Return the member that answers for the writer of a log by its first frame, "" if its header cannot be read."""
    try:
        return member_of(frame.h) or frame.u
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return ""


def encode_header(log: LogId, before: tuple[Mark, ...], by: GuestCertificate | None) -> str:
    """Return the text of a log's header."""
    return _encode(Header(log.user, log.conversation, log.run, before, by or UNSET)).decode()


def check_header(frame: Entries) -> None:
    """Raise LogError unless a frame has the header of its log, with which the chain before the first entry begins.

    The sender made up anything else: nobody takes or passes on such a log.
    """
    try:
        header = _decode_header(frame.h)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        raise LogError("a log without a header", code="malformed") from None
    if encode_header(LogId(frame.c, frame.u, frame.r), header.before, header.by or None) != frame.h:
        raise LogError("a header of another log or in another form", code="malformed")
    if frame.first == 1 and first_chain(frame.h).hex() != frame.prev:
        raise LogError("a chain that does not begin with the header", expected_seq=1, got_seq=1)


def frame_of(batch: Batch, *, n: int | None = None, fork: bool = False) -> Entries:
    """Return the frame that carries a batch. `n` is the want it answers; `fork` marks evidence."""
    prev, head = batch.prev.hex(), batch.head.hex()
    return Entries(*batch.log, batch.first, prev, batch.raws, head, batch.header, n, fork)


def parted(batch: Batch) -> Iterator[Batch]:
    """Yield a batch; if its texts do not fit in one, once from each entry on whose text did not, up to its head.

    Stubs stand for what does not fit. Between two heads is that much only if texts came late.
    """
    raws, at, prev = batch.raws, 0, batch.prev
    sizes = [0 if is_gone(raw) else size_bytes([raw]) for raw in raws] if batch.size > MAX_BATCH_BYTES else []
    if sum(sizes) <= MAX_BATCH_BYTES:
        yield batch
        return
    stubs = [(c, stub_of(text) if isinstance(text, str) else text) for c, text in raws]
    while at < len(raws):
        end = at + max(1, sum(size <= MAX_BATCH_BYTES for size in accumulate(sizes[at:])))
        part, header = raws[at:end] + stubs[end:], "" if at else batch.header
        yield Batch(batch.log, batch.first + at, part, None, prev, batch.chain, batch.head, size_bytes(part), header)
        prev, at = extend_chain(prev, stubs[at:end]), end


_HASH = blake2b(digest_size=32)  # copied for each entry: creating one of that size takes a third longer
_TEXT_HASH = blake2b(TEXT_TAG, digest_size=32)
_KEYS = ("k", "at", "re", "after", "t")  # with one form each; another body than a text is of one by its kind
# One without an end reaches to the end, and the JSON decoder refuses it: otherwise each quote in it would be tried.
_STRING = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"?', re.DOTALL)
_encode = msgspec.json.Encoder().encode
_decode_known: Callable[[str], Entry] = msgspec.json.Decoder(Entry).decode
_decode_object = msgspec.json.Decoder(dict[str, Any]).decode
_decode_header: Callable[[str], Header] = msgspec.json.Decoder(Header).decode
_replace = msgspec.structs.replace
_set = msgspec.structs.force_setattr


def encode_entry(entry: Entry) -> RawEntry:
    """Return a new entry as it is sent: its clock, and its JSON text without it. Only its author does this, once."""
    return entry.c, _encode(_replace(entry, c=0)).decode()


def decode_entry(raw: RawEntry) -> Entry:
    """Return an entry; one of the kind UNREADABLE, written at its clock, if its text is none.

    A usual entry needs no further check: it has known keys with values of their types, and a string without escapes, or
    nothing, as its body. A key `c` in the text is one of those that nobody knows. Raises LogError for what
    is no clock and text: the disk is damaged.
    """
    c, text = raw
    if type(c) is not int or not isinstance(text, str | Stub):
        raise LogError("what is stored is no entry", code="malformed")
    try:
        return _decode_usual([raw])[0]
    except (msgspec.MsgspecError, ValueError, RecursionError):
        assert isinstance(text, str)
        return _decode_odd(text, c)


def decode_entries(raws: Sequence[RawEntry]) -> list[Entry]:
    """Return the entries of many texts, as decode_entry, a quarter sooner."""
    try:
        return _decode_usual(raws)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return list(map(decode_entry, raws))


def _decode_usual(raws: Sequence[RawEntry]) -> list[Entry]:
    entries = []
    for c, text in raws:
        if isinstance(text, Stub):
            entries.append(Entry(GONE, c, c))
            continue
        entry = _decode_known(text)
        if type(entry.b) is not str or "\\" in text:
            entry = _with_body_checked(entry, c)
        _set(entry, "c", c)
        entries.append(entry)
    return entries


def attachments_of(entry: Entry) -> tuple[FileRef, ...]:
    """Return the attachments of a message; () for an entry of another kind, and if content is named in two sizes."""
    sizes = {file.root: file.size for file in entry.files}
    if entry.k not in MESSAGE_KINDS or any(sizes[file.root] != file.size for file in entry.files):
        return ()
    return entry.files


def choices_of(entry: Entry) -> tuple[str, ...]:
    """Return the choices of a message; () for an entry of a kind without, and if they are of another form."""
    return () if not entry.choices or choices_fault(entry.k, entry.choices) else entry.choices


def choices_fault(kind: str, choices: Sequence[str]) -> str:
    """Return what is wrong with the choices of an entry of this kind, as a sentence; "" for none and valid ones."""
    if not choices:
        return ""
    offers = KINDS[kind].choices if kind in KINDS else None
    return f"only a text or a poll has choices, no {kind}" if offers is None else offers.fault(choices)


class Marks(NamedTuple):
    """Marks of an entry beside its text: attachments, choices, and what a program says of itself (`Entry`)."""

    files: tuple[FileRef, ...] = ()
    auto: bool = False
    choices: tuple[str, ...] = ()
    hops: int = 0
    key: str = ""

    def fault(self, kind: str) -> str:
        """Return what is wrong with these choices and hops in an entry of this kind, as a sentence; "" for nothing."""
        hops = "" if 0 <= self.hops <= MAX_HOPS else f"hops are 0 to {MAX_HOPS}, not {self.hops}"
        return choices_fault(kind, self.choices) or hops

    def put_on(self, entry: Entry) -> Entry:
        """Return an entry with these marks."""
        return _replace(entry, **self._asdict())


def _with_body_checked(entry: Entry, c: int) -> Entry:
    """Return an entry, or one that cannot be read if it lacks the text of its kind, or no program could be given it."""
    is_odd = "\0" in entry.b if type(entry.b) is str else entry.k in TEXT_KINDS
    return _unreadable(c) if is_odd else entry


def _unreadable(c: int) -> Entry:
    return Entry(UNREADABLE, c, c, b="")


def _decode_odd(text: str, c: int) -> Entry:
    """Read an entry with unknown keys, or with values of any form where another form has no effect."""
    try:
        _check_depth(text)
        said = _decode_object(text)
        entry = msgspec.convert({key: said[key] for key in _KEYS if key in said}, Entry)
    except (msgspec.MsgspecError, FrameError, ValueError, RecursionError):
        return _unreadable(c)
    _set(entry, "c", c)
    _set(entry, "b", said.get("b"))
    files, choices = _as(FileRefs, said.get("files"), ()), _as(Choices, said.get("choices"), ())
    hops, automatic, key = _as(Hops, said.get("hops"), 0), said.get("auto") is True, _as(WriteKey, said.get("key"), "")
    return _with_body_checked(Marks(files, automatic, choices, hops, key).put_on(entry), c)


def _as(type: Any, said: object, otherwise: Any) -> Any:
    """Return a value of this type; `otherwise` for one of another form."""
    try:
        return msgspec.convert(said, type)
    except msgspec.ValidationError:
        return otherwise


def _check_depth(raw: str) -> None:
    """Raise FrameError for a text that nests too deep, also in a value that a repeated key replaces.

    How deep decoders read differs: without this check groups would differ between peers, and a database could not show
    its views.
    """
    if raw.count("[") + raw.count("{") <= MAX_DEPTH:
        return
    depth = 0
    for bracket in _STRING.sub("", raw):
        depth += 1 if bracket in "[{" else -1 if bracket in "]}" else 0
        if depth > MAX_DEPTH:
            raise FrameError(f"deeper than {MAX_DEPTH}")


def size_bytes(raws: Sequence[RawEntry]) -> int:
    """Return the size of the texts of these entries in bytes of UTF-8; of one that is gone, that of its stub."""
    try:
        joined = "".join(map(text_of, raws))
    except TypeError:
        joined = "".join([text if isinstance(text, str) else text.hash for _, text in raws])
    return len(joined) if joined.isascii() else len(joined.encode())


def is_one_batch(entries: int, size: int, settings: Settings) -> bool:
    """Return whether one batch may hold so many entries of so many bytes."""
    return entries <= settings.max_batch_entries and size <= settings.max_batch_bytes


def log_bytes(log: LogId) -> bytes:
    """Return the 72 bytes that name a log inside hashes and signatures."""
    return bytes.fromhex(log.conversation + log.user + log.run)


def first_chain(header: str) -> bytes:
    """Return chain_0 of the log with this header."""
    return blake2b(LOG_TAG + header.encode(), digest_size=32).digest()


def extend_chain(chain: bytes, raws: Iterable[RawEntry]) -> bytes:
    """Return the chain after these entries."""
    new, new_text = _HASH.copy, _TEXT_HASH.copy
    for c, text in raws:
        if type(text) is str:  # as text_proof, a third sooner
            text_hash = new_text()
            text_hash.update(text.encode())
            proof = text_hash.digest()
        else:
            proof = text_proof(text)
        hash = new()
        hash.update(chain + c.to_bytes(8, "big") + proof)
        chain = hash.digest()
    return chain


def has_stubs(raws: Iterable[RawEntry]) -> bool:
    """Return whether only a stub is left of the text of one of these entries."""
    return Stub in set(map(type, map(text_of, raws)))


def is_gone(raw: RawEntry) -> bool:
    """Return whether only a stub is left of the text of an entry."""
    return type(raw[1]) is not str


def stub_of(text: str) -> Stub:
    """Return what stands for a text that goes."""
    return Stub(text_proof(text).hex())


def text_proof(text: str | Stub) -> bytes:
    """Return what stands for a text in the chain: its hash."""
    if isinstance(text, Stub):
        return bytes.fromhex(text.hash)
    hash = _TEXT_HASH.copy()
    hash.update(text.encode())
    return hash.digest()


def head_message(log: LogId, seq: int, chain: bytes) -> bytes:
    """Return the bytes an author signs to prove its log up to seq."""
    return HEAD_TAG + log_bytes(log) + seq.to_bytes(8, "big") + chain


def verify(user: UserId, signature: bytes, message: bytes) -> bool:
    """Return whether `signature` counts as the user's over `message`. Every signature is checked here.

    The library refuses S >= L, verifies without the cofactor and compares R as bytes (signatures.json proves it).
    Source: docs/protocol-entries.md, "Signatures".
    """
    try:
        _public_key(user).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return is_key(signature[:32].hex())


@lru_cache(maxsize=1024)
def _public_key(user: UserId) -> Ed25519PublicKey:
    if not is_key(user):
        raise ValueError("no key, or one with which anybody can sign")
    return Ed25519PublicKey.from_public_bytes(bytes.fromhex(user))


def forget_keys() -> None:
    """Forget the keys of users, which a library keeps all over its memory. Each is read again in 30 us."""
    _public_key.cache_clear()


def contradict(one: Batch, other: Batch) -> bool:
    """Return whether two batches of one log give one seq two chains. The chain before the first entry counts too."""
    seq = min(one.last, other.last)  # chains that differ once never meet again
    if seq < max(one.first, other.first) - 1:
        return False
    chains = [extend_chain(batch.prev, batch.raws[: seq - batch.first + 1]) for batch in (one, other)]
    return chains[0] != chains[1]


def mark_hash(log: LogId, seq: int, chain: bytes) -> bytes:
    """Return what stands for one tip in a sum."""
    return blake2b(MARK_TAG + log_bytes(log) + seq.to_bytes(8, "big") + chain, digest_size=32).digest()


def hash_of(tag: bytes, hashes: Iterable[bytes]) -> Hex32:
    """Return the sum of a set: the hash of its hashes in order. Nobody finds two sets that have the same one."""
    data = b"".join(hashes)
    return blake2b(tag + data, digest_size=32).hexdigest() if data else NO_SUM


def marks_to_bytes(marks: Iterable[tuple[RunId, int, str]]) -> bytes:
    """Return marks as they are kept."""
    return b"".join([MARK.pack(bytes.fromhex(run), seq, bytes.fromhex(chain)) for run, seq, chain in marks])


def marks_of_bytes(data: bytes) -> tuple[Mark, ...]:
    """Return marks that are kept. Raises struct.error if they are none."""
    return tuple([Mark(run.hex(), seq, chain.hex()) for run, seq, chain in MARK.iter_unpack(data)])


def ref_key(user: UserId, run: RunId) -> Hex24:
    """Return the key by which references name a log in its conversation: 16 bytes of the user id, then the run."""
    return user_start(user) + run


def message_id(log: LogId, seq: int) -> str:
    """Return the id of an entry: 64 characters, a dot, its number. It is the same on every peer."""
    return referred_id(log.conversation, Ref(ref_key(log.user, log.run), seq))


def referred_id(conversation: ConversationId, ref: Ref) -> str:
    """Return the message id that a reference inside a conversation stands for."""
    name = bytes.fromhex(conversation[: 2 * ID_CONVERSATION_BYTES] + ref.log)
    return f"{base64.b32encode(name).decode()}.{ref.seq}"


def bits_of(seqs: Iterable[int]) -> int:
    """Return these entries of a log as a number, bit n for entry n: any set of them is short so, and quickly found."""
    bits = bytearray()
    for seq in seqs:
        if seq >> 3 >= len(bits):
            bits.extend(bytes(1 + (seq >> 3)))
        bits[seq >> 3] |= 1 << (seq & 7)
    return int.from_bytes(bits, "little")


def bits_between(first: int, last: int) -> int:
    """Return entries first..last of a log, as bits_of; 0 for none."""
    return (1 << max(first, last + 1)) - (1 << first)


# ---- clock
#
# c = max(now, own previous + 1, newest other here + 1), in UTC microseconds. Entries are sorted by it. Stamps more than
# five minutes ahead of the local time are ignored, so that one wrong clock does not advance all others. It is a hybrid
# logical clock without the second counter (Kulkarni et al., "Logical Physical Clocks", 2014).


def next_c(now_us: int, own_last: int, newest_other: int) -> int:
    """Return the clock of the next entry. own_last and newest_other are 0 when there is none."""
    return max(now_us, own_last + 1, newest_other + 1)


def is_plausible(c: int, now_us: int) -> bool:
    """Return whether a stamp is close enough to the local time to advance the clock."""
    return c <= now_us + CLOCK_AHEAD

"""Entries: the parser of one entry, the checks of a batch, and export files."""

from __future__ import annotations

import json
from functools import cache
from itertools import pairwise

from p2pchat.core.edits import relation_of
from p2pchat.core.groups.group_fact import ADD, CREATE, LEAVE, REMOVE, fact_body, group_id, read_fact
from p2pchat.core.groups.group_replica import GroupReplica
from p2pchat.core.log import (
    MAX_AFTER,
    UNREADABLE,
    Entry,
    LogId,
    RawEntry,
    Ref,
    decode_entry,
    encode_entry,
    extend_chain,
)
from p2pchat.core.sync.import_file import ExportReader
from p2pchat.core.sync.log_validation import decode_checked
from p2pchat.errors import ImportRefused, LogError
from p2pchat.kinds import KINDS, TEXT_KINDS
from p2pchat.protocol import (
    FILE_VERSION,
    LENGTH,
    MAX_FRAME_BYTES,
    Decoder,
    Entries,
    File,
    FileEnd,
    Frame,
    Mark,
    Naming,
    Statements,
    encode,
)
from tests.core.scripted_nodes import ALL, IDS, ROOM, START, Author, dm
from tests.fuzz.choices import Supply
from tests.fuzz.frames import WORDS as FRAME_WORDS
from tests.fuzz.frames import vector_frames
from tests.fuzz.target import Target, hold
from tests.vectors.files import vectors

WORDS = [
    *(f'"{key}":'.encode() for key in ("k", "at", "c", "re", "after", "before", "b")),
    *(f'"{kind}"'.encode() for kind in (*KINDS, "later")),
    b'["' + b"00" * 24 + b'",1]', b'["' + b"00" * 8 + b'",1,"' + b"11" * 32 + b'"]', b"null", b"true", b"1.0", b"1e400",
    b'"k":"leave"', b'"n":1,', b'"said":[]', b'"who":{"' + b"11" * 32 + b'":["' + b"00" * 16 + b'"]}',
    b'"cuts":[["' + b"00" * 8 + b'",1,"' + b"22" * 32 + b'"]]', b'"name":"', b'"salt":"',
    b"9007199254740991", b"9007199254740992", b"-1", b"\\u0000", b"\\ud800", b"\\ud83d\\ude00", b"[" * 17, b"{}",
    "\U0001f600".encode(), b"\xed\xa0\x80", b"\n", b'{"name":"ada"}', b"\\", b'"',
]  # fmt: skip


def one_entry(data: bytes) -> None:
    """Read lines as entries of one log: one that can be read has the values that any JSON reader finds."""
    raws: list[RawEntry] = list(enumerate(data.decode("utf-8", "replace").split("\n"), START))
    for raw in raws:
        entry = decode_entry(raw)
        hold(entry.c == raw[0], "another clock than stands beside it")
        if entry.k == UNREADABLE:
            hold(
                entry == Entry(UNREADABLE, entry.c, entry.c, b="") or '"unreadable"' in str(raw[1]),
                "something that nobody said",
            )
        else:
            says_the_same(raw, entry)
        means_something(raw, 1, entry)
    in_order(raws)


def means_something(raw: RawEntry, seq: int, entry: Entry) -> None:
    """Apply an entry to a group and to a message: no exception is raised."""
    log = LogId("00" * 32, "11" * 32, "22" * 8)
    fact = read_fact(log, bytes(32), (), entry)
    if fact is not None:
        hold(not fact.name or fact.name.isprintable(), "a fact that may not be")
        group = GroupReplica(group_id(ROOM, log.user, raw), ROOM)
        if (first := group.read(log, raw, bytes(32), ())) is not None:
            group.add(first)
        hold((group.state is None) == (fact.kind != CREATE), "a group that nobody made, or that is none")
    change = relation_of(log, seq, entry)
    hold(
        change is None or change.aspect != "text" or change.re.log[:32] == log.user[:32],
        "an edit of what another wrote",
    )


def says_the_same(raw: RawEntry, entry: Entry) -> None:
    hold(len(repr(entry)) < 60 + len(entry.k), "a repr that shows what somebody wrote")
    said = json.loads(str(raw[1]))
    hold(isinstance(said, dict), "an entry that is no object")
    hold((said["k"], said["at"]) == (entry.k, entry.at), "another entry than stands there")
    hold(said.get("b") == entry.b, "another body than stands there")
    hold(decode_entry(encode_entry(entry)) == entry, "an entry that is another one when written and read")
    str(raw[1]).encode()  # it is hashed and stored
    hold(len(entry.after) <= MAX_AFTER, "too many in `after`")
    if entry.k in TEXT_KINDS:
        hold(isinstance(entry.b, str) and "\0" not in entry.b, "a text that is none")


def in_order(raws: list[RawEntry]) -> None:
    """Check what is taken of a batch, and whose fault the rest is."""
    try:
        entries, _ = decode_checked(raws, 1, 0, 1 << 20)
    except LogError as error:
        hold(error.code == "malformed", f"a fault with the code {error.code}")
        controls = {chr(code) for code in range(32)} - set("\t\n\r")
        hold(any(controls & set(str(text)) for _, text in raws), "a batch that nobody made up is not taken")
        return
    clocks = [0, *(entry.c for entry in entries)]
    hold(all(one < other for one, other in pairwise(clocks)), "a clock that does not rise")


def entry_seeds() -> list[bytes]:
    logs = [text for log in vectors("logs").values() for _, text in log["given"]["entries"]]
    lines = [encode_entry(Entry("text", START + n, START + n, b="hi" * n)) for n in range(3)]
    made, cuts = fact_body(CREATE, ["11" * 32], name="ops", salt="00" * 16), [Mark("22" * 8, 1, "44" * 32)]
    named = Ref("11" * 24, 1)
    lines += [
        encode_entry(Entry("group", 9, 9, b=made)),
        encode_entry(Entry("group", 10, 10, b=fact_body(REMOVE, ["33" * 32], cuts=cuts, said=cuts))),
        encode_entry(Entry("group", 11, 11, b=fact_body(ADD, {"33" * 32: ["00" * 16]}))),
        encode_entry(Entry("group", 11, 11, b=fact_body(LEAVE, cuts=cuts))),
        *(encode_entry(Entry(kind, 12, 12, named, b=body)) for kind, body in (("edit", "x"), ("delete", None))),
        encode_entry(Entry("reaction", 13, 13, named, b="😀")),
    ]  # fmt: skip
    return [
        *(raw.encode() for raw in logs),
        *(str(line).encode() for _, line in lines),
        "\n".join(str(line) for _, line in lines).encode(),
        "\n".join(logs[:3]).encode(),
    ]


# ---- files


@cache
def pieces() -> list[Frame]:
    """Return frames as in an export file of ada's network."""
    ada, bob, said = Author("ada", "a1"), Author("bob", "b1"), Author("bob", "b2", dm("ada", "bob"))
    return [
        File(FILE_VERSION, ROOM), File(FILE_VERSION + 1, ROOM), File(FILE_VERSION, "00" * 32),
        ada.say("one", "two"), bob.say("three"), said.say("four"), ada.say("five"), FileEnd(5), FileEnd(9),
        Entries(ROOM, IDS["eve"], "ee" * 8, 1, ALL[0], [(1, "{}")], "00" * 64, "{}"),
        Statements(founder=IDS["ada"], s=[("{}", "00" * 64)]),
    ]  # fmt: skip


def unpack(data: bytes) -> None:
    """Import a file, with changed and irrelevant frames; then the same bytes in other pieces."""
    supply = Supply(data)
    cuts, stream = supply.take(2), bytearray()
    while supply.left and len(stream) < 8_000:
        kind = supply.below(len(pieces()) + 2)
        if kind < len(pieces()):
            stream += encode(pieces()[kind])
        elif kind == len(pieces()):
            payload = supply.take(supply.below(64))
            stream += LENGTH.pack(len(payload)) + payload
        else:
            stream += supply.take(supply.below(8))
        if supply.yes(6) and stream:
            stream[supply.below(len(stream))] ^= 1 << supply.below(8)
    one, other = unpacked(bytes(stream), b""), unpacked(bytes(stream), cuts or b"\3\1")
    hold(one == other, "what is read of a file depends on how it was read")


def unpacked(stream: bytes, cuts: bytes) -> tuple[object, ...]:
    unpacking = ExportReader(ROOM)
    frames: list[Entries | Statements] = []
    at = turn = 0
    try:
        while at < len(stream):
            size = 1 + cuts[turn % len(cuts)] * 7 if cuts and turn < 300 else len(stream)
            unpacking.feed(stream[at : at + size])
            hold(len(unpacking._rest) < 4 + MAX_FRAME_BYTES, "more is kept than a frame may have")
            at, turn = at + size, turn + 1
        unpacking.finish()
    except ImportRefused as error:
        return (str(error),)
    while unpacking.waiting:
        before = unpacking.waiting
        frames += unpacking.take(3)
        hold(unpacking.waiting < before, "frames that are never given")
    for frame in (one for one in frames if isinstance(one, Entries)):
        hold(len(frame.names) <= 1, "names that nobody asked for")
        if frame.c == ROOM:
            hold(frame.names in ([], [Naming(room=True)]), "the room under another name")
        extend_chain(bytes.fromhex(frame.prev), frame.e)
        hold(Decoder(max_frame_bytes=MAX_FRAME_BYTES).feed(encode(frame)) == [frame], "a frame that no link would take")
    return (unpacking.entries, unpacking.unreadable, unpacking.ended, unpacking.problem, frames)


def file_seeds() -> list[bytes]:
    whole = bytes((7, 6, 5, 4, 3, 0))  # read from the end: numbers of unchanged frames
    return [b"\1\2" + bytes((0, number)) * 8 for number in range(13)] + [
        b"\x03\x00" + bytes(5 * number % 13 for number in range(40)),
        b"\0\0" + whole,
        *vector_frames()[:3],
    ]


@cache
def targets() -> tuple[Target, ...]:
    return (
        Target("entries", "entries of a log", one_entry, entry_seeds, WORDS, 4096, 400),
        Target("files", "files that carry statements and entries", unpack, file_seeds, FRAME_WORDS, 512, 150),
    )

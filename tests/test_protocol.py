"""Encoding and decoding of frames: every limit from both sides, and hostile input."""

from __future__ import annotations

import json
import re
from contextlib import nullcontext
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pchat.errors import FrameError
from p2pchat.protocol import (
    _CHECKS,
    JSON_FRAMES,
    LENGTH,
    MAX_FRAME_BYTES,
    MAX_INT,
    MAX_SHOWN,
    Admit,
    AnyFrame,
    Bye,
    Cert,
    Decoder,
    Digest,
    Entries,
    File,
    FileEnd,
    Frame,
    Go,
    GuestCertificate,
    Have,
    Hello,
    Here,
    Hosted,
    InviteProof,
    Mark,
    Marks,
    Membership,
    Naming,
    PeerRecord,
    Peers,
    Ping,
    Pong,
    ReadFrame,
    RecordFacts,
    Show,
    Statements,
    Stub,
    TypingFrame,
    Unknown,
    Want,
    Welcome,
    _read_by_rules,
    encode,
    is_key,
)
from p2pchat.settings import Settings
from tests.vectors.files import vectors

FRAMES: dict[str, bytes] = {
    name: bytes.fromhex(vector["given"]["bytes"])
    for name, vector in vectors("frames").items()
    if "written" in vector["result"]
}

ADA = vectors("hashes")["user ada"]["result"]["id"]
ROOM = vectors("hashes")["room"]["result"]["hash"]
RUN = vectors("logs")["room_ada_1"]["given"]["run"]
HEAD = vectors("logs")["room_ada_1"]["result"]["entries"][0]["head"]
MARK = Mark(RUN, 1, "00" * 32)
ANY_SPAN = ("0" * 64, "f" * 64)


def read(data: bytes, limits: Settings | None = None, early: bool = False) -> tuple[list[AnyFrame], FrameError | None]:
    """Decode the bytes at once; return the frames, and the fault or None."""
    decoder = Decoder(limits, max_frame_bytes=None if early else MAX_FRAME_BYTES)
    return decoder.feed(data), decoder.fault


def framed(text: str | bytes) -> bytes:
    data = text.encode() if isinstance(text, str) else text
    return LENGTH.pack(len(data)) + data


def code(frame: Frame, limits: Settings | None = None) -> str | None:
    """Return the code of the fault when the frame's bytes are decoded; None when it arrives unchanged."""
    frames, fault = read(encode(frame), limits)
    assert (frames == [frame]) == (fault is None)
    return fault.code if fault else None


def entries(*texts: str, first: int = 1) -> Entries:
    numbered: list[tuple[int, str | Stub]] = list(enumerate(texts, 1))
    return Entries(ROOM, ADA, RUN, first, "00" * 32, numbered, HEAD, "{}" if first == 1 else "")


def ids(count: int) -> list[str]:
    return [f"{number:064x}" for number in range(256, 256 + count)]  # below are no keys, 0 for one


# The test vectors; tests/vectors/test_vectors.py reads all of them


REFUSED = {
    name: one for name, one in vectors("frames").items() if "refused" in one["result"] and "bytes" in one["given"]
}


@pytest.mark.parametrize("vector", REFUSED.values(), ids=REFUSED)
def test_refused_with_its_code_and_nothing_read(vector: dict[str, Any]) -> None:
    decoder = Decoder(max_frame_bytes=vector["given"]["limit"])
    assert decoder.feed(bytes.fromhex(vector["given"]["bytes"])) == []
    assert decoder.fault is not None
    assert decoder.fault.code == vector["result"]["refused"]
    assert str(decoder.fault).isascii()
    assert len(str(decoder.fault)) < 300


# The frame itself


def test_a_frame_may_have_as_many_bytes_as_the_limit_says() -> None:
    empty = len(encode(Bye("left", ""))) - 4
    for limit in (4096, MAX_FRAME_BYTES):
        fits, too_long = Bye("left", "x" * (limit - empty)), framed(json.dumps({"t": "ping", "x": "x" * limit}))
        assert Decoder(max_frame_bytes=limit).feed(encode(fits)) == [fits]
        decoder = Decoder(max_frame_bytes=limit)
        assert decoder.feed(too_long) == []
        assert decoder.fault is not None
        assert (decoder.fault.code, decoder.fault.limit_bytes) == ("limit", limit)
        assert decoder.fault.announced_bytes == len(too_long) - 4


def test_a_length_is_judged_before_its_payload_has_come() -> None:
    decoder = Decoder()
    assert [decoder.feed(byte) for byte in (b"\0", b"\0", b"\x10")] == [[], [], []]
    assert decoder.fault is None
    decoder.feed(b"\x01")
    assert decoder.fault is not None
    assert decoder.fault.announced_bytes == 4097


def test_encode_refuses_frames_that_peers_would_refuse() -> None:
    with pytest.raises(FrameError) as caught:
        encode(Bye("left", "x" * MAX_FRAME_BYTES))
    assert caught.value.limit_bytes == MAX_FRAME_BYTES


def test_frames_before_a_bad_one_are_returned_and_nothing_after_it() -> None:
    decoder = Decoder()
    assert decoder.feed(encode(Ping()) + framed("{}") + encode(Pong())) == [Ping()]
    fault = decoder.fault
    assert decoder.feed(encode(Pong())) == []
    assert decoder.fault is fault is not None


def test_a_defect_of_a_check_is_a_fault_of_the_bytes_and_nothing_is_decoded_after_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(_CHECKS, Want, lambda *_: {"": 0}["a text that somebody wrote"])
    decoder = Decoder(max_frame_bytes=MAX_FRAME_BYTES)
    buffer = bytearray(encode(Ping()) + encode(Want(1, "c0" * 32, "b0" * 32, [])) + encode(Pong()))
    assert decoder.feed(buffer) == [Ping()]
    buffer.clear()  # raises BufferError while anybody looks at it
    assert decoder.feed(encode(Pong())) == []
    text = "not decoded, by a defect of p2pchat (KeyError): report it"
    assert (str(decoder.fault), decoder.fault and decoder.fault.code) == (text, "malformed")


def test_a_go_lifts_the_limit_for_the_rest_of_its_read() -> None:
    big = Peers(linked=ids(100))
    assert len(encode(big)) > 4096
    assert read(encode(Go(RUN, 1)) + encode(big), early=True) == ([Go(RUN, 1), big], None)
    frames, fault = read(encode(Ping()) + encode(big), early=True)
    assert frames == [Ping()]
    assert fault is not None


def test_a_fault_drops_all_read_bytes() -> None:
    for bad in ("{}", "nonsense", '{"t":"go"}'):
        buffer = bytearray(framed(bad))
        decoder = Decoder()
        decoder.feed(buffer)
        assert decoder.fault is not None
        buffer.clear()  # raises BufferError while anybody looks at it


def test_frames_do_not_depend_on_the_buffer_they_were_read_from() -> None:
    buffer = bytearray(encode(entries("{}")) + encode(Ping())[:9])
    decoder = Decoder()
    (frame,) = decoder.feed(memoryview(buffer))
    buffer[:] = bytes(len(buffer))
    assert frame == entries("{}")
    assert decoder.feed(encode(Ping())[9:]) == [Ping()]


def test_reprs_show_no_text_that_someone_wrote() -> None:
    secret = "nobody else should read this"
    shown = repr([entries(secret), Here([Hosted(ADA, "ada", "online", text=secret)])])
    assert secret not in shown
    assert "1 entries, 28 bytes" in shown
    assert repr(Unknown("\u202e" + "x" * 1000)) == "Unknown('\\u202e" + "x" * 39 + "')"


# Limits of single frames, each from both sides


def test_an_entries_frame_holds_96_kib_of_entries_counted_in_utf8() -> None:
    half = 48 * 1024
    assert code(entries("x" * half, "x" * half)) is None
    assert code(entries("x" * half, "x" * half, "x")) == "limit"
    assert code(entries("é" * (half // 2), "\n" * half)) is None  # é: 2 bytes; a line break: 1 byte, 2 on the wire
    assert code(entries("é" * (half // 2), "\n" * half, "x")) == "limit"


def test_the_first_of_a_log_and_no_others_come_with_its_header() -> None:
    first, later = entries("x"), entries("x", first=2)
    assert [code(first), code(later)] == [None, None]
    first.h, later.h = later.h, first.h
    assert [code(first), code(later)] == ["malformed", "malformed"]


@pytest.mark.parametrize("field", ["c", "u", "r", "prev", "head"])
@pytest.mark.parametrize("digit", ["A", "g", " ", "é", "\n", "\0"])
def test_entries_take_lower_case_hex_only(field: str, digit: str) -> None:
    frame = entries("{}")
    setattr(frame, field, getattr(frame, field)[:-1] + digit)
    assert code(frame) == "malformed"


def test_here_and_peers_hold_256_items() -> None:
    users = [Hosted(user, "ada", "online") for user in ids(257)]
    for over, expected in ((0, None), (1, "limit")):
        some = ids(256 + over)
        assert code(Here(users[: 256 + over])) == expected
        assert code(Here([], gone=some)) == expected
        assert code(Peers(linked=some)) == expected
        assert code(Peers(gone=some)) == expected
        assert code(Peers([record("a:1")] * (64 + over))) == expected
        assert code(Peers([record(size=1536 + over)])) == expected
        assert code(Admit([record(size=1536 + over)])) == expected
        assert code(ReadFrame({ROOM: {user: [] for user in some}})) == expected
        assert code(ReadFrame({ROOM: {ADA: [("0" * 48, seq + 1, "0" * 64) for seq in range(256 + over)]}})) == expected
        taken = {ROOM: {ADA: [("0" * 48, seq + 1, "0" * 64) for seq in range(255 + over)]}}
        assert code(ReadFrame({ROOM: {ADA: [("0" * 48, 1, "0" * 64)]}}, taken)) == expected


def test_digest_and_have_hold_1000_items() -> None:
    for over, expected in ((0, None), (1, "limit")):
        some = ids(1000 + over)
        assert code(Digest(sums=dict.fromkeys(some, ADA), span=ANY_SPAN)) == expected
        assert code(Have({ROOM: {user: [MARK] for user in some}})) == expected
        assert code(Have({c: {ADA: []} for c in some})) == expected
        assert code(Have({}, full={ROOM: some})) == expected


@pytest.mark.parametrize("count, fits", [(500, True), (1000, False)])
def test_a_page_with_a_name_for_each_item_fits_a_frame_up_to_500(count: int, fits: bool) -> None:
    largest_mark = Mark("f" * 16, MAX_INT, "f" * 64)
    names = [Naming(group=(c, ADA, RUN)) for c in ids(count)]
    digest = Digest(sums=dict.fromkeys(ids(count), ADA), span=ANY_SPAN, names=names)
    have = Have({c: {ADA: [largest_mark]} for c in ids(count)}, names=names)
    for frame in (digest, have):
        with nullcontext() if fits else pytest.raises(FrameError):
            assert code(frame) is None


def test_a_user_has_64_tips() -> None:
    for over, expected in ((0, None), (1, "limit")):
        tips = [Mark(RUN, seq, "00" * 32) for seq in range(1, 65 + over)]
        assert code(Have({ROOM: {ADA: tips}})) == expected
        assert code(Want(1, ROOM, ADA, tips)) == expected
        assert code(Want(1, ROOM, ADA, [], older=tips[: 24 + over])) == expected


@pytest.mark.parametrize(
    ("text", "is_read"),
    [
        (json.dumps({"id": ADA, "at": 1, "e": ["a:1"] * 8, "later": [1.5, {"x": None}]}), True),
        (json.dumps({"id": ADA, "at": 1, "e": ["x" * 100]}), True),
        (json.dumps({"id": ADA, "at": 1, "e": ["x" * 101]}), False),
        (json.dumps({"id": ADA, "at": 1, "e": ["a:1"] * 9}), False),
        (json.dumps({"id": "01" + "0" * 62, "at": 1, "e": []}), False),
        (json.dumps({"id": ADA, "at": -1, "e": []}), False),
        ("[" * 1500, False),
        ("", False),
    ],
)
def test_a_record_that_cannot_be_read_is_dropped_and_no_link_ends(text: str, is_read: bool) -> None:
    """Who passes it on did not write it."""
    told = PeerRecord(text, "00" * 64)
    frames, fault = read(encode(Peers([told, record("a:1")])))
    assert (frames, fault) == ([Peers([told] * is_read + [record("a:1")])], None)


def record(*endpoints: str, size: int = 0) -> PeerRecord:
    return PeerRecord(json.dumps({"id": ADA, "at": 1, "e": endpoints}).ljust(size), "00" * 64)


def test_names_and_statuses_are_short() -> None:
    assert code(Here([Hosted(ADA, "n" * 128, "s" * 32, text="t" * 512)])) is None
    assert code(Here([Hosted(ADA, "n" * 129, "online")])) == "malformed"
    assert code(Here([Hosted(ADA, "ada", "s" * 33)])) == "malformed"
    assert code(Here([Hosted(ADA, "ada", "online", text="t" * 513)])) == "malformed"


def test_names_are_two_for_each_item_at_most() -> None:
    small = Settings(page_marks=3)
    assert code(Have({}, names=[Naming(talk=c) for c in ids(6)]), small) is None
    assert code(Have({}, names=[Naming(talk=c) for c in ids(7)]), small) == "limit"


def test_limits_come_from_settings() -> None:
    small = Settings(page_items=3, page_marks=2, max_batch_entries=4, max_tips=1)
    assert [code(frame, small) for frame in (entries(*["{}"] * 4), entries(*["{}"] * 5))] == [None, "limit"]
    assert [code(Here([], gone=ids(count)), small) for count in (3, 4)] == [None, "limit"]
    assert [code(Have({ROOM: {user: [] for user in ids(count)}}), small) for count in (2, 3)] == [None, "limit"]
    assert [code(Want(1, ROOM, ADA, [MARK] * count), small) for count in (1, 2)] == [None, "limit"]


# Whatever comes: properties

HEX32 = st.binary(min_size=32, max_size=32).map(bytes.hex)
KEY = HEX32.filter(is_key)
HEX8 = st.binary(min_size=8, max_size=8).map(bytes.hex)
HEX24 = st.binary(min_size=24, max_size=24).map(bytes.hex)
HEX64 = st.binary(min_size=64, max_size=64).map(bytes.hex)
SEQ = st.integers(1, MAX_INT)
COUNT = st.integers(0, MAX_INT)
TEXT = st.text(max_size=20)
REFS = st.lists(st.tuples(HEX24, st.integers(1, MAX_INT), HEX32), max_size=3)
READ_MARKS = st.dictionaries(HEX32, st.dictionaries(HEX32, REFS, max_size=3), max_size=3)
MARKS: st.SearchStrategy[Marks] = st.dictionaries(
    HEX32, st.dictionaries(HEX32, st.lists(st.builds(Mark, HEX8, SEQ, HEX32), max_size=3), max_size=3), max_size=3
)
SPAN = st.tuples(HEX32, HEX32).map(lambda pair: (min(pair), max(pair)))
NAMES = st.lists(
    st.one_of(
        st.just(Naming(room=True)),
        st.builds(Naming, dm=SPAN),
        st.builds(Naming, group=st.tuples(HEX32, HEX32, HEX8)),
        st.builds(Naming, talk=HEX32),
    ),
    max_size=2,
)
GUESTS = st.none() | st.builds(GuestCertificate, KEY, HEX64)
FACTS = st.builds(RecordFacts, KEY, COUNT, st.lists(TEXT, max_size=3).map(tuple), GUESTS)
RECORDS = st.builds(PeerRecord, FACTS.map(lambda facts: msgspec.json.encode(facts).decode()), HEX64)
HOSTED = st.builds(
    Hosted, KEY, TEXT, TEXT, text=st.none() | TEXT, since=st.none() | COUNT,
    cert=st.none() | st.builds(Cert, COUNT, COUNT, HEX64),
)  # fmt: skip
MEMBERSHIPS = st.builds(
    Membership, founder=st.none() | KEY, guest=st.none() | st.builds(GuestCertificate, KEY, HEX64),
    s=st.lists(st.tuples(TEXT, HEX64), max_size=MAX_SHOWN).map(tuple),
    invite=st.none() | st.builds(InviteProof, KEY, HEX8.map(lambda half: half[:8]), st.integers(1, 64), COUNT, HEX32),
)  # fmt: skip


def _with_header(frame: Entries) -> Entries:
    frame.h = "{}" if frame.first == 1 or frame.fork else ""
    return frame


KNOWN_FRAMES: st.SearchStrategy[Frame] = st.one_of(
    st.builds(Hello, st.lists(SEQ, min_size=1, max_size=3), HEX32),
    st.builds(Hello, SEQ, HEX32, id=KEY, sig=HEX64, proof=st.none() | HEX32),
    st.builds(Welcome, proof=st.none() | HEX32, show=st.none() | MEMBERSHIPS),
    st.builds(Show, MEMBERSHIPS),
    st.builds(Admit, st.lists(RECORDS, max_size=3)),
    st.builds(
        Statements, founder=st.none() | KEY, sum=st.none() | HEX32, ask=st.booleans(),
        s=st.lists(st.tuples(TEXT, HEX64), max_size=3),
    ),
    st.builds(Go, HEX8, SEQ),
    st.just(Ping()),
    st.just(Pong()),
    st.builds(Bye, TEXT, st.none() | TEXT),
    st.builds(
        Peers, st.lists(RECORDS, max_size=3), st.lists(HEX32, max_size=3), st.lists(HEX32)
    ),
    st.builds(Here, st.lists(HOSTED, max_size=3), st.lists(HEX32), st.booleans()),
    st.builds(Digest, sum=HEX32, ask=st.booleans(), names=NAMES),
    st.builds(Digest, sums=st.dictionaries(HEX32, HEX32), span=SPAN, names=NAMES),
    st.builds(Have, MARKS, ask=st.booleans(), end=st.none() | COUNT, names=NAMES),
    st.builds(Want, COUNT, HEX32, HEX32, st.lists(st.builds(Mark, HEX8, SEQ, HEX32), max_size=3), names=NAMES),
    st.builds(
        Entries, HEX32, HEX32, HEX8, st.integers(1, 2**52), HEX32, st.lists(st.tuples(SEQ, TEXT), min_size=1), HEX64,
        n=st.none() | COUNT, fork=st.booleans(), names=NAMES,
    ).map(_with_header),
    st.builds(ReadFrame, READ_MARKS, ask=st.booleans(), sum=st.none() | HEX32, names=NAMES),
    st.builds(ReadFrame, READ_MARKS, READ_MARKS, names=NAMES),
    st.builds(TypingFrame, HEX32, HEX32, st.booleans(), names=NAMES),
    st.builds(File, SEQ, HEX32),
    st.builds(FileEnd, COUNT),
)  # fmt: skip

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=8,
)
FIELDS = st.sampled_from(sorted({field for kind in JSON_FRAMES for field in kind.__struct_encode_fields__}))
TYPES = st.sampled_from([str(kind.__struct_config__.tag) for kind in JSON_FRAMES])
ALMOST = st.builds(lambda t, fields: framed(json.dumps({"t": t} | fields)), TYPES, st.dictionaries(FIELDS, VALUES))
SPOILED = st.builds(
    lambda data, at, byte: data[: at % len(data)] + byte + data[at % len(data) + 1 :],
    st.sampled_from(list(FRAMES.values())), st.integers(0, 2000), st.binary(max_size=3),
)  # fmt: skip
BYTES = st.lists(
    st.one_of(st.binary(max_size=60), SPOILED, ALMOST, st.sampled_from(list(FRAMES.values()))), min_size=1, max_size=6
).map(b"".join)


def in_pieces(data: bytes, cuts: list[int], decoder: Decoder) -> list[AnyFrame]:
    """Feed the bytes cut at these places (modulo the length)."""
    edges = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [frame for a, b in pairwise(edges) for frame in decoder.feed(data[a:b])]


CUTS = st.lists(st.integers(0, 5000), max_size=12)


@given(st.lists(KNOWN_FRAMES, max_size=6), CUTS)
@settings(deadline=None)
def test_frames_survive_the_wire_in_any_pieces(frames: list[Frame], cuts: list[int]) -> None:
    decoder = Decoder(max_frame_bytes=MAX_FRAME_BYTES)
    assert in_pieces(b"".join(map(encode, frames)), cuts, decoder) == frames
    assert decoder.fault is None


@given(BYTES, CUTS)
@settings(deadline=None, max_examples=200)
def test_any_bytes_in_any_pieces_give_frames_and_at_most_a_fault(data: bytes, cuts: list[int]) -> None:
    decoder, whole = Decoder(), Decoder()
    frames = in_pieces(data, cuts, decoder)
    assert frames == whole.feed(data)
    assert (decoder.fault and (decoder.fault.code, str(decoder.fault))) == (
        whole.fault and (whole.fault.code, str(whole.fault))
    )
    assert decoder.fault is None or decoder.fault.code in ("malformed", "limit")


@given(KNOWN_FRAMES)
@settings(deadline=None)
def test_the_quick_way_and_the_way_by_the_letter_agree(frame: Frame) -> None:
    assert _read_by_rules(memoryview(encode(frame))[4:]) == frame


@given(KNOWN_FRAMES, st.dictionaries(TEXT.map("later".__add__), VALUES, min_size=1, max_size=3))
@settings(deadline=None)
def test_fields_of_a_later_version_change_nothing_unless_they_break_the_rules(
    frame: Frame, more: dict[str, Any]
) -> None:
    said = framed(json.dumps(json.loads(encode(frame)[4:]) | more))
    frames, fault = read(said)
    assert (frames == [frame]) == (fault is None) == (largest(more) <= MAX_INT)


def largest(value: object) -> int:
    """Return the largest integer in a JSON value, by size; 0 when there is none."""
    if isinstance(value, dict):
        return max(map(largest, value.values()), default=0)
    if isinstance(value, list):
        return max(map(largest, value), default=0)
    return abs(value) if type(value) is int else 0


# docs/protocol.md


@pytest.mark.parametrize("kind", JSON_FRAMES, ids=lambda kind: kind.__name__)
def test_the_document_has_a_row_with_every_field(kind: type[Frame]) -> None:
    document = (Path(__file__).parents[1] / "docs" / "protocol.md").read_text("utf-8")
    section = document.partition("\n## Frames\n")[2].partition("\n## ")[0]
    (row,) = [
        line
        for line in section.splitlines()
        if line.startswith("- `") and f"`{kind.__struct_config__.tag}`" in line.partition("`: ")[0] + "`"
    ]
    fields = [name for name in kind.__struct_encode_fields__ if name != "names"]
    assert [name for name in fields if f"`{name}`" not in row and f"`{name}?`" not in row] == []


def test_sources_in_the_code_are_sections_of_the_pages() -> None:
    root = Path(__file__).parents[1]
    wrong = []
    for path in sorted((root / "p2pchat").rglob("*.py")):
        for page, names in re.findall(r'docs/(protocol[\w-]*\.md), ((?:"[^"]+"(?: and )?)+)', path.read_text("utf-8")):
            headers = re.findall(r"^#+ (.*)$", (root / "docs" / page).read_text("utf-8"), re.MULTILINE)
            wrong += [f"{path.name}: {name}" for name in re.findall('"([^"]+)"', names) if name not in headers]
    assert wrong == []

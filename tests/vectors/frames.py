"""Vectors of frames and files."""

from __future__ import annotations

import base64
import json
from typing import Any

from tests.vectors.handshakes import ADMIT, CERT, SERVER_HELLO, WELCOME, client_hello, shown, transcript
from tests.vectors.material import (
    ADA,
    BOB,
    CYD,
    DM,
    FIRST_ID,
    FOUNDER,
    GROUP,
    GUEST,
    LAST_ID,
    LOGS,
    NAMINGS,
    ROOM,
    RUNS,
    T0,
    TALK,
    TIPS,
    K,
    Row,
    blake,
    compact,
    entries_frame,
    framed,
    row,
    sum_of,
    tip,
    u64,
)
from tests.vectors.members import guest_of, invite_proof, record_of, said
from tests.vectors.proofs import no_keys

# Frames

_HELLO = client_hello(K, transcript("ada", "bob"))
_BOB_MARK, _ADA_MARK, _OLD_MARK = (tip(LOGS[name]) for name in ("room_bob_1", "room_ada_2", "room_ada_1"))
_READ = [ADA[:32] + RUNS["ada2"].hex(), 2, "ab" * 32]
_SUM = "5a" * 32  # its sender's


def _conversation_sum(name: str) -> str:
    return sum_of([LOGS[one] for one in TIPS[name]])


# name -> why, frame: as p2pchat writes them, with keys in the order of its fields
def _pull(**asked: int) -> dict[str, Any]:
    log = LOGS["room_ada_1"]
    return {"t": "pull", "n": asked["n"], "c": log["conversation"], "u": log["user"], "r": log["run"], "seq": 2,
            "root": "ab" * 32, "first": asked["first"], "count": asked["count"]}  # fmt: skip


_RECORD = record_of("bob", "192.0.2.7:8080", "[2001:db8::7]:8080", guest=guest_of("member", "bob"))
SENT: dict[str, tuple[str, dict[str, Any]]] = {
    "hello_server": ("The first frame of a listener.", SERVER_HELLO),
    "hello_client": ("A client's answer, with its proof of K.", _HELLO),
    "welcome": ("The server's proof of K, and the certificate of the member that answers for it.", WELCOME),
    "show": ("The certificate of the client, and the statement that added its member.", shown()),
    "show_invite": ("A newcomer shows its invite.", shown(s=None, invite=invite_proof(transcript("ada", "bob")))),
    "show_nothing": ("Nothing is shown in a named network.", {"t": "show", "show": {}}),
    "admit": ("The server admits the client.", ADMIT),
    "admit_busy": (
        "The server has no place for the client, and tells where there may be one.",
        {**ADMIT, "peers": [_RECORD]},
    ),
    "go": ("The decider's choice of this link.", {"t": "go", "run": RUNS["ada2"].hex(), "n": 1}),
    "ping": ("It asks for one pong.", {"t": "ping"}),
    "pong": ("It answers one ping.", {"t": "pong"}),
    "bye_left": ("The peer stops.", {"t": "bye", "code": "left"}),
    "bye_limit": (
        "A fault, with a sentence.",
        {"t": "bye", "code": "limit", "text": "a frame has 300000 bytes, the limit is 262144"},
    ),
    "peers_first": (
        "The first on a link tells everything.",
        {"t": "peers", "records": [_RECORD, record_of("cyd", "192.0.2.9:8082")], "linked": [CYD]},
    ),
    "peers_change": ("A later one tells what is gone.", {"t": "peers", "gone": [CYD]}),
    "statements_sum": (
        "Who founded the network, and the sum of all statements of the sender.",
        {"t": "statements", "founder": ADA, "sum": "0a" * 32, "ask": True},
    ),
    "statements_said": (
        "A statement, with its signature.",
        {"t": "statements", "s": [[compact({"at": T0, "by": ADA, "k": "add", "who": [BOB]}), "ab" * 64]]},
    ),
    "here_own": ("The peer's own user.", {"t": "here", "users": [{"id": ADA, "name": "ada", "status": "online"}]}),
    "here_gateway": (
        "A hosted user has a certificate.",
        {
            "t": "here",
            "users": [
                {"id": ADA, "name": "ada", "status": "idle", "text": "à table", "since": T0},
                {"id": GUEST, "name": "guest", "status": "online", "cert": CERT},
            ],
            "gone": [CYD],
            "more": True,
        },
    ),
    "digest_sum": ("The sum of everything shared.", {"t": "digest", "sum": _SUM, "names": [NAMINGS["dm"]]}),
    "digest_ask": ("The sum again, which is to be answered.", {"t": "digest", "sum": _SUM, "ask": True}),
    "digest_sums": (
        "A sum for each conversation in the span.",
        {
            "t": "digest",
            "sums": {ROOM.hex(): _conversation_sum("room"), DM.hex(): _conversation_sum("dm")},
            "span": [FIRST_ID, LAST_ID],
            "names": [NAMINGS["talk"], NAMINGS["dm"]],
        },
    ),
    "have_ack": ("An acknowledgement.", {"t": "have", "marks": {ROOM.hex(): {BOB: [_BOB_MARK]}}}),
    "have_page": (
        "A page of marks; nothing is held of bob.",
        {
            "t": "have",
            "marks": {ROOM.hex(): {ADA: [_ADA_MARK], BOB: []}},
            "span": [FIRST_ID, LAST_ID],
            "ask": True,
        },
    ),
    "have_end": ("The end of a want.", {"t": "have", "marks": {ROOM.hex(): {ADA: [_ADA_MARK]}}, "end": 7}),
    "have_full": ("No more of cyd is stored.", {"t": "have", "marks": {}, "full": {ROOM.hex(): [CYD]}}),
    "want_all": (
        "Everything that ada wrote in the room.",
        {"t": "want", "n": 7, "c": ROOM.hex(), "u": ADA, "tips": []},
    ),
    "want_from": (
        "What ada wrote after this tip.",
        {"t": "want", "n": 8, "c": ROOM.hex(), "u": ADA, "tips": [_ADA_MARK], "older": [_ADA_MARK, _OLD_MARK]},
    ),
    "want_group": (
        "The owner's log of a group, which is named first.",
        {
            "t": "want",
            "n": 9,
            "c": GROUP.hex(),
            "u": ADA,
            "tips": [],
            "names": [NAMINGS["group"], NAMINGS["talk"]],
        },
    ),
    "entries_whole_log": ("A whole log answers want 7.", entries_frame(LOGS["room_ada_1"], 1, 3, n=7)),
    "entries_tail": ("New entries come unasked.", entries_frame(LOGS["room_bob_1"], 3, 4)),
    "entries_named": (
        "The first frame about a conversation names it.",
        entries_frame(LOGS["dm_ada_2"], 1, 1, names=[NAMINGS["dm"]]),
    ),
    "entries_by_hand": ("The text of an entry is passed on verbatim.", entries_frame(LOGS["room_cyd_1"], 1, 1)),
    "entries_fork": ("One half of the evidence of a fork.", entries_frame(LOGS["room_ada_1"], 2, 2, fork=True)),
    "read": ("Bob has read ada's log up to entry 2.", {"t": "read", "marks": {ROOM.hex(): {BOB: [_READ]}}}),
    "read_page": (
        "The first page of all marks, and what they add to the sum.",
        {"t": "read", "marks": {ROOM.hex(): {BOB: [_READ]}}, "all": True, "add": _SUM},
    ),
    "read_ask": ("It asks for all marks.", {"t": "read", "marks": {}, "ask": True}),
    "read_sum": ("The sum over all marks.", {"t": "read", "marks": {}, "sum": _SUM}),
    "read_taken": (
        "A program of bob has taken ada's log up to entry 2.",
        {"t": "read", "marks": {}, "taken": {ROOM.hex(): {BOB: [_READ]}}},
    ),
    "typing_on": ("Bob types.", {"t": "typing", "c": TALK.hex(), "u": BOB, "on": True}),
    "typing_off": ("Bob stopped.", {"t": "typing", "c": TALK.hex(), "u": BOB, "on": False}),
    "peers_can": (
        "It answers pulls, understands pieces, answers which content is there, and says where it sees the other end.",
        {"t": "peers", "can": ["files", "later"], "seen": "198.51.100.7:40001"},
    ),
    "pull": (
        "Four pieces of content that entry 2 of ada's log names.",
        _pull(n=1, first=4, count=4),
    ),
    "pull_leaves": ("The list of leaves.", _pull(n=2, first=0, count=0)),
    "lacks": ("Only pieces 0 to 3 and 6 are there.", {"t": "lacks", "n": 1, "has": [[0, 4], [6, 1]]}),
    "lacks_all": ("Nothing is there, or nothing is given.", {"t": "lacks", "n": 1}),
    "holds_ask": ("It asks about two contents.", {"t": "holds", "ask": ["ab" * 32, "cd" * 32]}),
    "circuit_to": ("Asks to be linked with cyd.", {"t": "circuit", "id": 2, "to": CYD}),
    "circuit_from": ("Bob asks for it.", {"t": "circuit", "id": 3, "from": BOB}),
    "circuit_end": ("It ends with the carrier's other link.", {"t": "circuit", "id": 3, "end": "lost"}),
    "carried": ("Five bytes, and room for more.", {"t": "carried", "id": 3, "d": "aGVsbG8=", "room": 278528}),
    "punch": ("It asks to be dialled, and says where its carrier sees it.", {"t": "punch", "at": "198.51.100.7:40001"}),
    "punch_now": ("Dial now.", {"t": "punch"}),
    "holds": ("One of them is there, whole and verified.", {"t": "holds", "has": ["ab" * 32], "lacks": ["cd" * 32]}),
    "file": ("The first frame of a file.", {"t": "file", "v": 4, "room": ROOM.hex()}),
    "file_end": ("The last frame of a file.", {"t": "file_end", "entries": 4}),
}
FRAMES = {name: frame for name, (_, frame) in SENT.items()}
EARLY = ("hello", "welcome", "show", "admit", "go", "bye")
EARLY_LIMIT, LIMIT = 4096, 2**18


def frames() -> list[Row]:
    return [*_sent(), *_taken(), *_refused()]


def _given(payload: str | bytes, limit: int = LIMIT) -> dict[str, Any]:
    return {"bytes": framed(payload).hex(), "limit": limit}


def _read(frame: dict[str, Any], text: str) -> dict[str, Any]:
    return {"frame": frame} | ({"written": True} if text == compact(frame) else {})


def _sent() -> list[Row]:
    made = []
    for name, (why, value) in SENT.items():
        limit = EARLY_LIMIT if value["t"] in EARLY else LIMIT
        made.append(row(name, why, _given(compact(value), limit), _read(value, compact(value))))
    return made


def _taken() -> list[Row]:
    typing, want, here, digest = (FRAMES[name] for name in ("typing_on", "want_all", "here_own", "digest_sum"))
    unknown = compact(typing | {"later": {"t": ["x", 1.5, None, 2**53 - 1]}})
    later_users, later_names = compact(here)[:-3] + ',"later":[0]}]}', compact(digest)[:-2] + ',{"later":[0]}]}'
    later_show = compact(FRAMES["show_invite"])[:-3] + ',"later":[0]},"later":[0]}}'
    nulls = compact(digest)[:-1] + ',"ask":false,"span":null}'
    rows = [
        (
            "other order of keys, blanks",
            "Neither means anything.",
            typing,
            json.dumps(dict(reversed(typing.items())), indent=1),
        ),
        ("unknown field", "It is ignored.", typing, unknown),
        ("sixteen deep", "This is the limit.", {"t": "ping"}, '{"t":"ping","x":' + "[" * 15 + "]" * 15 + "}"),
        ("repeated key", "The last one counts.", want, compact(want)[:-1] + ',"n":8,"n":7}'),
        ("repeated key, the first of another type", "The last one counts.", want, '{"n":"x",' + compact(want)[1:]),
        ("repeated t", "The last one counts.", {"t": "pong"}, '{"t":"ping","t":"pong"}'),
        ("a key spelled with an escape", "It is the same key.", {"t": "ping"}, '{"\\u0074":"\\u0070ing"}'),
        ("unknown field inside", "It is ignored in nested objects too.", here, later_users),
        ("unknown field in what is shown", "It is ignored there too.", FRAMES["show_invite"], later_show),
        ("naming of an unknown kind", "It belongs to a later version and is skipped.", digest, later_names),
        ("false and null where a field may be absent", "p2pchat reads both as absent.", digest, nulls),
        ("blanks behind the object", "JSON allows them.", {"t": "ping"}, '{"t":"ping"} \r\n\t'),
        ("the largest integer", "2^53 - 1 is an integer.", want | {"n": 2**53 - 1}, compact(want | {"n": 2**53 - 1})),
    ]
    ignored = "After the handshake frames of an unknown type are ignored."
    return [
        *(row(name, why, _given(text), _read(frame, text)) for name, why, frame, text in rows),
        row("unknown type", ignored, _given('{"t":"later","x":1}'), {"ignored": "later"}),
        row("unknown type with a field of ours", ignored, _given('{"t":"later","port":"x"}'), {"ignored": "later"}),
    ]


def _refused() -> list[Row]:
    def without(name: str, key: str) -> str:
        return compact({k: v for k, v in FRAMES[name].items() if k != key})

    def having(name: str, **fields: object) -> str:
        return compact(FRAMES[name] | fields)

    def showing(**fields: object) -> str:
        return compact(shown(**fields))

    guest = FRAMES["here_gateway"]["users"][1]
    room = ROOM.hex()
    long_name = {"id": ADA, "name": "x" * 129, "status": "online"}
    malformed: dict[str, list[tuple[str, str | bytes]]] = {
        "A frame is one JSON object whose t is a string.": [
            ("no JSON", "ping"),
            ("an array", "[]"),
            ("two values", '{"t":"ping"}{}'),
            ("no t", "{}"),
            ("t is a number", '{"t":1}'),
        ],
        "UTF-8 is strict: no surrogates, no byte order mark.": [
            ("a byte order mark", b"\xef\xbb\xbf" + b'{"t":"ping"}'),
            ("no UTF-8", b'{"t":"bye","code":"\xff"}'),
            ("no UTF-8 in an unknown field", b'{"t":"ping","x":"\xff"}'),
            ("a surrogate in UTF-8", b'{"t":"ping","x":"\xed\xa0\x80"}'),
        ],
        "JSON is strict: no lone surrogates in escapes, no raw control characters, no NaN, no Infinity.": [
            ("a lone surrogate", '{"t":"ping","x":"\\ud800"}'),
            ("surrogates in the wrong order", '{"t":"bye","code":"\\ude00\\ud83d"}'),
            ("a control character", '{"t":"bye","code":"a\nb"}'),
            ("NaN", '{"t":"ping","x":NaN}'),
            ("infinity", '{"t":"ping","x":-Infinity}'),
            ("a number that overflows", '{"t":"ping","x":1e999}'),
        ],
        "Integers lie between -(2^53 - 1) and 2^53 - 1, in unknown fields too.": [
            ("2^53", having("want_all", n=2**53)),
            ("2^53 in an unknown field", '{"t":"ping","x":[-9007199254740992]}'),
            ("2^53 inside a user", compact(FRAMES["here_own"])[:-3] + ',"later":9007199254740992}]}'),
            ("2^53 inside a naming", compact(FRAMES["digest_sum"])[:-3] + ',"later":9007199254740992}]}'),
            (
                "2^53 inside a certificate",
                having("here_gateway", users=[guest | {"cert": guest["cert"] | {"later": 2**53}}]),
            ),
        ],
        "Objects and arrays nest at most 16 deep, the frame itself counted.": [
            ("seventeen deep", '{"t":"ping","x":' + "[" * 16 + "]" * 16 + "}"),
            ("a very deep one", '{"t":"ping","x":' + "[" * 2000 + "]" * 2000 + "}"),
        ],
        "Types are exact: 1.0 and true are no integers, 1 is no boolean.": [
            ("1.0 for an integer", having("want_all", n=1.0)),
            ("true for an integer", having("want_all", n=True)),
            ("1 for true", having("typing_on", on=1)),
        ],
        "Required fields are there, binary values are lower-case hex of their length, numbers have their range.": [
            ("a field missing", without("typing_on", "u")),
            ("null for a required field", having("typing_on", u=None)),
            ("upper-case hex", having("typing_on", u=BOB.upper())),
            ("hex with a line break", having("typing_on", u=BOB + "\n")),
            ("hex too short", having("entries_tail", prev="00")),
            ("upper-case hex in entries", having("entries_tail", prev="AB" * 32)),
            ("an entry that is an object", having("entries_tail", e=[{}])),
            ("no entry", having("entries_tail", e=[])),
            ("entry 0", having("entries_tail", first=0)),
            ("an entry number that overflows", having("entries_tail", first=2**53 - 1, e=[[1, "{}"], [2, "{}"]])),
            ("an entry without a clock", having("entries_tail", e=["{}"])),
            ("a clock of 0", having("entries_tail", e=[[0, "{}"]])),
            ("a clock that is no integer", having("entries_tail", e=[[1.0, "{}"]])),
            ("an entry of three parts", having("entries_tail", e=[[1, "{}", 1]])),
            ("evidence without a header", without("entries_fork", "h")),
            ("entry 1 without a header", without("entries_by_hand", "h")),
            ("a later entry with a header", having("entries_tail", h="{}")),
            ("a mark of four parts", having("have_ack", marks={room: {room: [["00" * 8, 1, "00" * 32, 1]]}})),
            ("a mark of entry 0", having("have_ack", marks={room: {room: [["00" * 8, 0, "00" * 32]]}})),
            ("a record without a signature", having("peers_first", records=[_RECORD[:1]])),
            ("a name of 129 characters", having("here_own", users=[long_name])),
            ("a show without show", '{"t":"show"}'),
            ("a certificate of a guest without a signature", showing(guest=[FOUNDER])),
            ("a certificate of a guest by no key", showing(guest=["01" + "0" * 62, "ab" * 64])),
            ("a statement without a signature", showing(s=[["{}"]])),
            ("an invite without uses", showing(invite=invite_proof(bytes(145), uses=0))),
            ("an invite with 65 uses", showing(invite=invite_proof(bytes(145)) | {"uses": 65})),
            ("five statements are shown", showing(s=[said("founder", "add", who=[BOB])] * 5)),
        ],
        "A digest has either sum, or sums and span; a span goes upwards; a have with a span has one conversation.": [
            ("neither sum nor sums", '{"t":"digest"}'),
            ("sum and sums", having("digest_sums", sum="00" * 32)),
            ("sums without span", without("digest_sums", "span")),
            ("a sum with a span", having("digest_sum", span=[FIRST_ID, LAST_ID])),
            ("a span downwards", having("digest_sums", span=[LAST_ID, FIRST_ID])),
            ("a span over two conversations", having("have_page", marks={room: {}, "00" * 32: {}})),
        ],
        "A circuit leads to a peer, comes from one, or ends.": [
            ("a circuit of nothing", without("circuit_to", "to")),
            ("a circuit to and from", having("circuit_to", **{"from": BOB})),
            ("bytes that are no base64", having("carried", d="a")),
        ],
        "An item of names has one kind, and the users of a dm are sorted.": [
            ("a naming of two kinds", having("digest_sum", names=[NAMINGS["dm"] | {"talk": room}])),
            ("a dm with its users not sorted", having("digest_sum", names=[{"dm": NAMINGS["dm"]["dm"][::-1]}])),
        ],
        "The id of a client or a hosted user is a key: not of small order, y below p.": [
            ("a hosted user of small order", having("here_gateway", users=[guest | {"id": no_keys()["1 T"].hex()}])),
            *((f"a hello of the key {name}", having("hello_client", id=id.hex())) for name, id in no_keys().items()),
        ],
        "A client's hello has id and sig, a server's at least one version.": [
            ("a client's hello without sig", without("hello_client", "sig")),
            ("a server's hello without versions", having("hello_server", v=[])),
        ],
    }
    rows = [
        row(name, why, _given(text), {"refused": "malformed"})
        for why, texts in malformed.items()
        for name, text in texts
    ]
    in_time = "The length is checked before the payload is read."
    heads = [
        ("length 0", "malformed", LIMIT, "00000000"),
        ("a length of 4 KiB and 1 before go", "limit", EARLY_LIMIT, "00001001"),
        ("a length of 256 KiB and 1", "limit", LIMIT, "00040001"),
        ("HTTP", "limit", EARLY_LIMIT, b"GET / HTTP/1.1\r\n\r\n".hex()),
    ]
    rows += [
        row(name, in_time, {"bytes": data, "limit": limit}, {"refused": code}) for name, code, limit, data in heads
    ]
    mark, many = _BOB_MARK, [CYD] * 257
    limits = {
        "a record of 1,537 bytes": having("peers_first", records=[[" " * 1537, _RECORD[1]]]),
        "65 records": having("peers_first", records=[_RECORD] * 65),
        "257 peers gone": having("peers_change", gone=many),
        "65 tips": having("have_ack", marks={room: {BOB: [mark] * 65}}),
        "25 older marks": having("want_from", older=[mark] * 25),
        "16,385 bytes on a circuit": having("carried", d=base64.b64encode(bytes(16_385)).decode()),
        "257 contents asked about": having("holds_ask", ask=many),
        "257 entries": having("entries_tail", e=[[number, "{}"] for number in range(1, 258)]),
    }
    why = "A sender keeps the limits of the document."
    rows += [row(name, why, _given(text), {"refused": "limit"}) for name, text in limits.items()]
    given = {"text": having("entries_tail", e=[[1, "~"], [2, "~"], [3, "x"]]), "repeat": ["x", 49152], "limit": LIMIT}
    return [*rows, row("a batch of 96 KiB and 1", why, given, {"refused": "limit"})]


# Files

_HELLO_ROOT = blake(b"p2pchat/content/1\0" + u64(5) + blake(b"p2pchat/piece/1\0hello")).hex()


def files() -> list[Row]:
    log = LOGS["room_ada_1"]
    whole = entries_frame(log, 1, len(log["entries"]))
    begin, end, dm = FRAMES["file"], FRAMES["file_end"], FRAMES["entries_named"]
    later, added = {"t": "later"}, said("founder", "add", who=[BOB])
    members = {"t": "statements", "founder": FOUNDER, "s": [added]}

    def file(name: str, why: str, parts: list[Any], result: dict[str, Any]) -> Row:
        data = b"".join(part if isinstance(part, bytes) else framed(compact(part)) for part in parts)
        return row(name, why, {"room": ROOM.hex(), "bytes": data.hex()}, result)

    good, refused = {"statements": 0, "frames": 2, "entries": 4, "whole": True}, {"refused": True}
    bad_length = b"\0\0\0\0"
    return [
        file(
            "whole", "A log of the room, and the first entry of a direct conversation.", [begin, whole, dm, end], good
        ),
        file(
            "statements",
            "They stand before all entries, and file_end does not count them.",
            [begin, members, whole, dm, end],
            good | {"statements": 1},
        ),
        file(
            "content behind the end",
            "A reader that takes no content stops at file_end.",
            [
                begin,
                whole,
                dm,
                end,
                {"t": "content", "root": _HELLO_ROOT, "size": 5},
                b"hello",
                {"t": "content_end", "count": 1},
            ],
            good,
        ),
        file("cut off", "Without file_end it was cut off.", [begin, whole, dm], good | {"whole": False}),
        file(
            "a wrong number",
            "file_end counts all entries.",
            [begin, whole, dm, end | {"entries": 5}],
            good | {"whole": False},
        ),
        file("an unknown frame", "It is ignored.", [begin, later, whole, dm, end], good),
        file("a malformed frame", "It is skipped, and the next is read.", [begin, framed("x"), whole, dm, end], good),
        file(
            "a length of 0",
            "Nothing behind it is read.",
            [begin, whole, bad_length, dm, end],
            good | {"frames": 1, "entries": 3, "whole": False},
        ),
        file("no file frame", "The first frame marks the file.", [whole, dm, end], refused),
        file("empty", "There is no first frame.", [], refused),
        file("a later version", "A larger v is refused.", [begin | {"v": 5}, whole, dm, end], refused),
        file("an older version", "A smaller v is refused.", [begin | {"v": 3}, whole, dm, end], refused),
        file(
            "another room",
            "A file of another network is refused.",
            [begin | {"room": "00" * 32}, whole, dm, end],
            refused,
        ),
    ]
